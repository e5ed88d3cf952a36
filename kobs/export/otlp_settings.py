"""Where OTLP goes and how, by OpenTelemetry's own variables.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/ says what they mean: for each there is
one of the signal (`OTEL_EXPORTER_OTLP_TRACES_HEADERS`) that goes before the common one
(`OTEL_EXPORTER_OTLP_HEADERS`). An empty variable is one that is not set.
"""

import math
import os
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from kobs.errors import ConfigError

Signal = Literal["traces", "logs", "metrics"]

PROTOCOLS = ("http/protobuf", "grpc")
COMPRESSIONS = ("none", "gzip", "deflate")

_DEFAULT_ENDPOINTS = {"http/protobuf": "http://localhost:4318", "grpc": "http://localhost:4317"}
_MILLISECONDS = 100.0


class TransportSettings(NamedTuple):
    """How one signal is sent."""

    protocol: str
    """`http/protobuf` or `grpc`."""
    endpoint: str
    """With HTTP the whole URL; with gRPC what grpcio takes as a target."""
    secure: bool
    """With gRPC: over TLS. (With HTTP the URL says it.)"""
    headers: dict[str, str]
    timeout_s: float
    compression: str
    """`none`, `gzip` or `deflate` (HTTP alone)."""
    certificate: str
    """File of the authorities that the receiver's certificate is checked by; empty: the usual."""
    client_certificate: str
    client_key: str

    @classmethod
    def from_environment(cls, signal: Signal, endpoint: str | None = None) -> "TransportSettings":
        """Read the environment. `endpoint` is a base URL and goes before the variables. Raises
        `ConfigError` naming a variable with a bad value."""
        protocol, name = _read(signal, "PROTOCOL")
        protocol = protocol or PROTOCOLS[0]
        if protocol not in PROTOCOLS:
            raise ConfigError(f"{name}={protocol}: expected {' or '.join(PROTOCOLS)}")
        compression, name = _read(signal, "COMPRESSION")
        compression = compression.strip().lower() or "none"
        allowed = COMPRESSIONS[:2] if protocol == "grpc" else COMPRESSIONS
        if compression not in allowed:
            raise ConfigError(f"{name}={compression}: expected {' or '.join(allowed)}")
        target, secure = _endpoint(signal, protocol, endpoint)
        return cls(
            protocol, target, secure, _headers(signal), _timeout(signal), compression,
            _file(signal, "CERTIFICATE"), _file(signal, "CLIENT_CERTIFICATE"),
            _file(signal, "CLIENT_KEY"),
        )  # fmt: skip


def disabled() -> bool:
    """`OTEL_SDK_DISABLED=true`: nothing is sent."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _read(signal: str, what: str) -> tuple[str, str]:
    """(value, the variable it is from)."""
    own, common = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}", f"OTEL_EXPORTER_OTLP_{what}"
    value = os.environ.get(own)
    return (value, own) if value else (os.environ.get(common, ""), common)


def _endpoint(signal: str, protocol: str, given: str | None) -> tuple[str, bool]:
    """(URL or target, over TLS)."""
    url, name = (given, "endpoint") if given else _read(signal, "ENDPOINT")
    whole = name.endswith(f"{signal.upper()}_ENDPOINT")
    url = url.strip() or _DEFAULT_ENDPOINTS[protocol]
    parts = urlsplit(url)
    if protocol == "grpc":
        return _target(signal, url, name)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"{name}={url}: expected a URL such as {_DEFAULT_ENDPOINTS[protocol]}")
    if not whole:
        url = parts._replace(path=f"{parts.path.rstrip('/')}/v1/{signal}").geturl()
    elif not parts.path:
        url = parts._replace(path="/").geturl()
    return url, parts.scheme == "https"


def _target(signal: str, url: str, name: str) -> tuple[str, bool]:
    """What grpcio connects to. Where no `http:` or `https:` says whether over TLS, `INSECURE`
    does."""
    insecure, of = _read(signal, "INSECURE")
    if insecure.strip().lower() not in ("", "true", "false"):
        raise ConfigError(f"{of}={insecure}: expected true or false")
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        if not parts.netloc:
            raise ConfigError(f"{name}={url}: expected a URL such as {_DEFAULT_ENDPOINTS['grpc']}")
        return parts.netloc, parts.scheme == "https"
    return url, insecure.strip().lower() != "true"


def _headers(signal: str) -> dict[str, str]:
    from opentelemetry.util.re import parse_env_headers

    value, _ = _read(signal, "HEADERS")
    return dict(parse_env_headers(value, liberal=True))


def _timeout(signal: str) -> float:
    """Seconds. The specification says milliseconds, OpenTelemetry's exporters in Python take
    seconds: below 100 it is seconds, from 100 up milliseconds."""
    value, name = _read(signal, "TIMEOUT")
    try:
        number = float(value or 10)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ConfigError(
            f"{name}={value}: expected a time above 0, in milliseconds (from 100 up) or seconds"
        )
    return number if number < _MILLISECONDS else number / 1000


def _file(signal: str, what: str) -> str:
    path, name = _read(signal, what)
    if path and not os.path.isfile(path):
        raise ConfigError(f"{name}={path}: there is no such file")
    return path
