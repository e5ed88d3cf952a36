"""Encoded telemetry to an OTLP receiver, over HTTP or gRPC.

    transport = Transport("traces")            # by OTEL_EXPORTER_OTLP_*
    outcome = transport.send(request_bytes)    # one try
    if outcome.verdict == "away":
        ...                                    # keep the bytes; the next try in outcome.wait_s
    transport.close()

What is retried, and when, is by https://opentelemetry.io/docs/specs/otlp/. Nothing here keeps what
is to be sent: whoever sends does, until the verdict is another than `away`.
"""

import gzip
import random
import time
import zlib
from collections.abc import Callable
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol

from kobs import __version__
from kobs.errors import ConfigError, MissingExtraError
from kobs.export.otlp_settings import Signal, TransportSettings

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 16.0
"""Waits double from the first to the longest while the receiver is away."""
_JITTER = 0.2
_PIECE, _MOST_PIECES = 1 << 16, 16
"""How much of a response is read."""
_USER_AGENT = f"kobs-otlp/{__version__}"
_MESSAGES = {"traces": "trace", "logs": "logs", "metrics": "metrics"}


class Outcome(NamedTuple):
    """What became of a try."""

    verdict: Literal["taken", "refused", "away"]
    """`taken`: the receiver has it. `refused`: it will never take it. `away`: try again later."""
    reason: str = ""
    """Why it was not taken, or what the receiver has to say about what it took."""
    rejected: int = 0
    """Of what was taken: spans, log records or data points that the receiver refused."""
    wait_s: float = 0.0
    """Away: seconds until the next try, as the receiver said, else by exponential backoff."""


class Answer(NamedTuple):
    """What a protocol made of a try."""

    verdict: Literal["taken", "refused", "away"]
    reason: str = ""
    body: bytes = b""
    """Taken: the response, encoded."""
    wait_s: float | None = None
    """How long the receiver wants to be left alone."""


class Wire(Protocol):
    """A connection by one protocol."""

    def post(self, body: bytes, timeout_s: float) -> Answer:
        """One try."""

    def close(self) -> None:
        """End the connection."""

    def forget(self) -> None:
        """In a forked child: the connection is the parent's."""


class Transport:
    """Sends encoded requests of one signal (`ExportTraceServiceRequest`, ...) to its receiver.

    `endpoint`: a base URL, in place of `OTEL_EXPORTER_OTLP_ENDPOINT`. Not for several threads at
    once. Raises `ConfigError` naming a variable with a bad value, `MissingExtraError` where what
    the protocol needs is not installed.
    """

    def __init__(self, signal: Signal, *, endpoint: str | None = None) -> None:
        try:
            self.settings = TransportSettings.from_environment(signal, endpoint)
            self._wire = _WIRES[self.settings.protocol](signal, self.settings)
        except ImportError as error:
            raise MissingExtraError(
                f"export to OTLP needs a package that is missing ({error}); "
                "install it with: pip install 'kobs[otlp]'"
            ) from error
        self.signal = signal
        self._failures = 0
        self.not_before = 0.0
        """Away: when the next try is due, by `time.monotonic()`; 0 for at once."""
        self.told_to_wait = False
        """It was the receiver that said so."""

    def send(self, body: bytes, timeout_s: float | None = None) -> Outcome:
        """One try, of at most `timeout_s` seconds (and at most what the settings say)."""
        most = self.settings.timeout_s
        answer = self._wire.post(body, most if timeout_s is None else min(timeout_s, most))
        if answer.verdict == "away":
            self.told_to_wait = answer.wait_s is not None
            wait_s = answer.wait_s if answer.wait_s is not None else _backoff(self._failures)
            self._failures += 1
            self.not_before = time.monotonic() + wait_s
            return Outcome("away", answer.reason, wait_s=wait_s)
        self._failures = 0
        self.not_before = 0.0
        if answer.verdict == "taken" and answer.body:
            return self._partial(answer.body)
        return Outcome(answer.verdict, answer.reason)

    def close(self) -> None:
        """End the connection. Twice is once."""
        self._wire.close()

    def forget(self) -> None:
        """In a forked child: begin anew, and leave the parent's connection alone."""
        self._wire.forget()
        self._failures = 0
        self.not_before = 0.0

    def _partial(self, body: bytes) -> Outcome:
        """What the receiver took, less what its response says it did not."""
        from google.protobuf.message import DecodeError

        try:
            partial = _response_class(self.signal).FromString(body).partial_success
        except DecodeError:  # a receiver that answers in another way has taken it all the same
            return Outcome("taken")
        rejected = next((value for _, value in partial.ListFields() if isinstance(value, int)), 0)
        return Outcome("taken", partial.error_message, max(0, rejected))


def _backoff(failures: int) -> float:
    wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures, 16))
    return wait * random.uniform(1 - _JITTER, 1 + _JITTER)


def _response_class(signal: Signal) -> Any:
    from importlib import import_module

    name = _MESSAGES[signal]
    module = import_module(f"opentelemetry.proto.collector.{signal_package(signal)}_service_pb2")
    return getattr(module, f"Export{name.capitalize()}ServiceResponse")


def signal_package(signal: Signal) -> str:
    """Where `opentelemetry-proto` has a signal's service: `trace.v1.trace`."""
    name = _MESSAGES[signal]
    return f"{name}.v1.{name}"


# -- HTTP ------------------------------------------------------------------------------------

_RETRYABLE = (429, 502, 503, 504)


class _Http:
    """Over HTTP/1.1, by `requests`, which also knows proxies; one connection is kept alive."""

    def __init__(self, signal: Signal, settings: TransportSettings) -> None:
        import requests

        self._requests = requests
        self._settings = settings
        self._headers = {
            "User-Agent": _USER_AGENT,
            **settings.headers,
            "Content-Type": "application/x-protobuf",
        }
        if settings.compression != "none":
            self._headers["Content-Encoding"] = settings.compression
        self._compress = _COMPRESS[settings.compression]
        self._session: Any = None

    def post(self, body: bytes, timeout_s: float) -> Answer:
        errors = self._requests.exceptions
        kept_alive = self._session is not None
        try:
            try:
                return self._post(body, timeout_s)
            except errors.ConnectionError:
                # The receiver may have closed the connection in the meantime.
                if not kept_alive:
                    raise
                self.close()
                return self._post(body, timeout_s)
        except (errors.ConnectionError, errors.Timeout, errors.ChunkedEncodingError) as error:
            self.close()
            return Answer("away", f"{self._settings.endpoint}: {_cause(error)}")
        except errors.RequestException as error:
            return Answer("refused", f"{self._settings.endpoint}: {_cause(error)}")

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def forget(self) -> None:
        self.close()  # closes this process's descriptors alone: nothing is said to the receiver

    def _post(self, body: bytes, timeout_s: float) -> Answer:
        if self._session is None:
            self._session = self._made()
        response = self._session.post(
            self._settings.endpoint,
            data=self._compress(body),
            headers=self._headers,
            timeout=timeout_s,
            allow_redirects=False,
            stream=True,
            # Of the session it would come after REQUESTS_CA_BUNDLE.
            verify=self._settings.certificate or None,
        )
        with response:
            content = b"".join(islice(response.iter_content(_PIECE), _MOST_PIECES))
            encoded = "protobuf" in response.headers.get("Content-Type", "")
            status = response.status_code
            if status in (200, 202):
                return Answer("taken", body=content if encoded else b"")
            reason = f"{self._settings.endpoint}: HTTP {status} {response.reason}"
            told = _status_message(content) if encoded else ""
            if status in _RETRYABLE:
                wait_s = _retry_after(response.headers.get("Retry-After"))
                return Answer("away", reason + told, wait_s=wait_s)
            return Answer("refused", reason + told)

    def _made(self) -> Any:
        session = self._requests.Session()
        settings = self._settings
        if settings.client_certificate:
            session.cert = (
                (settings.client_certificate, settings.client_key)
                if settings.client_key
                else settings.client_certificate
            )
        return session


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda body: body,
    "gzip": lambda body: gzip.compress(body, compresslevel=6, mtime=0),
    "deflate": zlib.compress,
}


def _cause(error: BaseException) -> str:
    """The innermost reason, which is the readable one: requests and urllib3 wrap it twice."""
    inner = error
    while (below := inner.__cause__ or inner.__context__) is not None:
        inner = below
    return f"{type(inner).__name__}: {inner}" if str(inner) else type(inner).__name__


def _retry_after(value: str | None) -> float | None:
    """Seconds, of a number or a date (RFC 9110, 10.2.3)."""
    from email.utils import parsedate_to_datetime

    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _status_message(body: bytes) -> str:
    """What a receiver says in `google.rpc.Status` about what it did not take."""
    from google.protobuf.message import DecodeError
    from google.rpc.status_pb2 import Status

    try:
        message = Status.FromString(body).message
    except DecodeError:
        return ""
    return f": {message}" if message else ""


# -- gRPC ------------------------------------------------------------------------------------

_RETRYABLE_CODES = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
_THROTTLED = "RESOURCE_EXHAUSTED"
"""Retried only where the receiver says when."""


class _Grpc:
    """Over gRPC, by `grpcio`, as one call of raw bytes."""

    def __init__(self, signal: Signal, settings: TransportSettings) -> None:
        import grpc

        self._grpc = grpc
        self._settings = settings
        self._method = (
            f"/opentelemetry.proto.collector.{_MESSAGES[signal]}.v1."
            f"{_MESSAGES[signal].capitalize()}Service/Export"
        )
        self._metadata = tuple((key.lower(), value) for key, value in settings.headers.items())
        self._credentials = self._read_credentials() if settings.secure else None
        self._channel: Any = None
        self._call: Any = None

    def post(self, body: bytes, timeout_s: float) -> Answer:
        if self._channel is None:
            self._channel = self._connect()
            self._call = self._channel.unary_unary(self._method)
        try:
            return Answer(
                "taken", body=self._call(body, timeout=timeout_s, metadata=self._metadata)
            )
        except self._grpc.RpcError as error:
            return self._failed(error)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = self._call = None

    def forget(self) -> None:
        self._channel = self._call = None

    def _failed(self, error: Any) -> Answer:
        code = error.code().name
        reason = f"{self._settings.endpoint}: {code}: {error.details()}"
        wait_s = _retry_info(error.trailing_metadata() or ())
        if code not in _RETRYABLE_CODES and (code != _THROTTLED or wait_s is None):
            return Answer("refused", reason)
        if code == "UNAVAILABLE":
            self.close()  # a new channel connects at once, where this one would wait by its own
        return Answer("away", reason, wait_s=wait_s)

    def _connect(self) -> Any:
        grpc, settings = self._grpc, self._settings
        compression = (
            grpc.Compression.Gzip
            if settings.compression == "gzip"
            else grpc.Compression.NoCompression
        )
        options = [("grpc.primary_user_agent", _USER_AGENT), ("grpc.use_local_subchannel_pool", 1)]
        if self._credentials is None:
            return grpc.insecure_channel(settings.endpoint, options, compression)
        return grpc.secure_channel(settings.endpoint, self._credentials, options, compression)

    def _read_credentials(self) -> Any:
        settings = self._settings
        key, certificate = settings.client_key, settings.client_certificate
        if bool(key) != bool(certificate):
            raise ConfigError(
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and ..._CLIENT_KEY: gRPC needs both or none"
            )
        roots, key_bytes, chain = (
            _content(path) for path in (settings.certificate, key, certificate)
        )
        return self._grpc.ssl_channel_credentials(roots, key_bytes, chain)


def _content(path: str) -> bytes | None:
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()


def _retry_info(metadata: Any) -> float | None:
    """Seconds, of the `google.rpc.RetryInfo` in the status that came with the error."""
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    for key, value in metadata:
        if key != "grpc-status-details-bin":
            continue
        try:
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
        except DecodeError:
            return None
    return None


_WIRES: dict[str, Callable[[Signal, TransportSettings], Wire]] = {
    "http/protobuf": _Http, "grpc": _Grpc,
}  # fmt: skip
