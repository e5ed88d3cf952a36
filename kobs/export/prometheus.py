"""Metrics for Prometheus, through `prometheus_client`.

    with serve(port=9464) as server:       # on loopback, unless told otherwise
        ...                                # scrape server.url

    REGISTRY.register(KobsCollector())     # or beside the program's own metrics

    with open_recording(path) as recording, open("metrics.prom", "wb") as file:
        export_prometheus(recording, file)

Names and units are made of OpenTelemetry's by the rules of its specification, "Prometheus and
OpenMetrics compatibility": `kobs.syscall.duration` in `s` is `kobs_syscall_duration_seconds`.
Exemplars are told to whoever asks for OpenMetrics, as Prometheus does where it stores them.
"""

import os
import re
import threading
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf
from socket import AF_INET6
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, BinaryIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from kobs._analysis.histogram import HistogramSnapshot
from kobs._analysis.series import Attributes
from kobs.collector import Collector
from kobs.errors import ConfigError, MissingExtraError
from kobs.export.metric_points import Metric, Metrics, Point, PointExemplar
from kobs.export.metric_source import MetricSource, recorded_metrics
from kobs.export.otlp_send import quietly

try:
    from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
    from prometheus_client.core import Metric as Family
    from prometheus_client.registry import Collector as RegistryCollector
    from prometheus_client.samples import Exemplar, Timestamp
except ImportError as error:
    raise MissingExtraError(
        f"metrics for Prometheus need prometheus_client ({error}); "
        "install it with: pip install 'kobs[prometheus]'"
    ) from error

if TYPE_CHECKING:
    from kobs.recording import Recording

READ_EVERY_S = 1.0
"""How often a server reads the ring between scrapes: it holds only so much."""

_UNITS = {"s": "seconds", "By": "bytes", "By/s": "bytes_per_second", "1": "ratio"}
_BAD = re.compile(r"[^a-zA-Z0-9_]+")
_KINDS = {
    "sum": "counter", "total": "counter", "updown": "gauge", "gauge": "gauge",
    "histogram": "histogram",
}  # fmt: skip


class KobsCollector(RegistryCollector):
    """A collector of `prometheus_client` with the metrics of a kobs collector.

    Each scrape reads what is new in the ring. Where more than the ring holds happens between two
    scrapes, call `read` in the meantime; `kobs_event_lost_total` tells of what went by.
    `collector` None: the process-wide one. Raises `ConfigError` without a collector.
    """

    def __init__(self, collector: Collector | None = None) -> None:
        self._source = MetricSource(collector)

    def collect(self) -> Iterator[Family]:
        """The metrics now, as families of `prometheus_client`."""
        yield from _families([((), self._source.collect())])

    def describe(self) -> Iterable[Family]:
        """Nothing: which metrics there are shows when something happens."""
        return []

    def read(self) -> None:
        """Count what is new in the ring."""
        self._source.read()

    def close(self) -> None:
        """Count no more."""
        self._source.close()


class Server:
    """A scrape endpoint. Made by `serve`; close it, or use it in a `with` block."""

    def __init__(self, source: KobsCollector, httpd: WSGIServer) -> None:
        self._source = source
        self._httpd = httpd
        self._stop = threading.Event()
        self.addr = str(httpd.server_address[0])
        self.port = int(httpd.server_address[1])
        host = f"[{self.addr}]" if ":" in self.addr else self.addr
        self.url = f"http://{host}:{self.port}/metrics"
        self._threads = [
            threading.Thread(target=self._serve, name="kobs-prometheus", daemon=True),
            threading.Thread(target=self._read, name="kobs-prometheus-read", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        _live.add(self)

    def close(self) -> None:
        """Listen no more. Twice is once."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._httpd.shutdown()
        for thread in self._threads:
            thread.join()
        self._httpd.server_close()
        self._source.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        with quietly():
            self._httpd.serve_forever(0.1)

    def _read(self) -> None:
        while not self._stop.wait(READ_EVERY_S):
            self._source.read()

    def _after_fork(self) -> None:
        """In a forked child: the socket is the parent's to answer."""
        self._stop.set()
        self._httpd.socket.close()


def serve(
    port: int = 0,
    addr: str = "127.0.0.1",
    *,
    collector: Collector | None = None,
    registry: CollectorRegistry | None = None,
) -> Server:
    """Answer scrapes at `http://addr:port/metrics` from a thread, until `close`.

    `port` 0: a free one, see `Server.port`. `addr` is loopback: another one shows the metrics to
    whoever reaches it. `registry`: one with metrics of the program's own, to be shown too.

    Raises `ConfigError` for a bad port or without a collector, `OSError` where it cannot listen.
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ConfigError(f"port={port!r}: expected an int from 0 (a free one) to 65535")
    source = KobsCollector(collector)
    own = CollectorRegistry()
    own.register(source)
    if registry is not None:
        own.register(_Of(registry))
    try:
        kind = _Server6 if ":" in addr else _Server4
        httpd = make_server(addr, port, make_wsgi_app(own), kind, _Handler)
    except OSError:
        source.close()
        raise
    return Server(source, httpd)


def export_prometheus(recording: "Recording", file: BinaryIO) -> int:
    """Write the metrics of a recording or session in Prometheus' text format; how many series
    there are. Those of each process have its `process_pid` and the number of its `recording`."""
    found: list[tuple[Attributes, Metrics]] = [
        ((("process.pid", attached.pid), ("kobs.recording", attached.recording)), metrics)
        for attached, metrics in recorded_metrics(recording)
    ]
    registry = CollectorRegistry()
    registry.register(_Given(list(_families(found))))
    file.write(generate_latest(registry))
    return sum(len(metric.points) for _, metrics in found for metric in metrics.metrics)


# -- below: how ------------------------------------------------------------------------------


class _Of(RegistryCollector):
    """What another registry has."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Any]:
        return self._registry.collect()

    def describe(self) -> Iterable[Any]:
        return []


class _Given(RegistryCollector):
    """Families that are there already."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


class _Handler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, *_: object) -> None:
        """Nothing: the program's output is its own."""


class _Server4(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with quietly():
            super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that goes away is no error of the program's."""

    def server_bind(self) -> None:
        """Without asking by what name this host is known, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = map(str, self.server_address[:2])  # type: ignore[assignment]
        self.setup_environ()


class _Server6(_Server4):
    address_family = AF_INET6


_live: weakref.WeakSet[Server] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for server in list(_live):
        server._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _families(found: Sequence[tuple[Attributes, Metrics]]) -> Iterator[Family]:
    """The metrics of some processes, each with attributes of its own, as one family a name. Where
    names that differ elsewhere become the same, what came first has the name."""
    families: dict[str, Family] = {}
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for about, metrics in found:
        for metric in metrics.metrics:
            name, kind = _name(metric), _KINDS[metric.kind]
            family = families.get(name)
            if family is None:
                unit = _UNITS.get(metric.unit, "")
                family = families[name] = Family(name, metric.description, kind, unit)
            if family.type != kind:
                continue
            for point in metric.points:
                labels = _labels(about + point.attributes)
                key = name, tuple(sorted(labels.items()))
                if key not in seen:
                    seen.add(key)
                    _add(family, labels, point)
    return iter(families.values())


def _name(metric: Metric) -> str:
    """The family's name: with the unit behind it, and no `_total`, which the sample has."""
    name = _BAD.sub("_", metric.name).strip("_")
    if not name or name[0].isdigit():
        name = f"_{name}"
    if _KINDS[metric.kind] == "counter":
        name = name.removesuffix("_total")
    unit = _UNITS.get(metric.unit, "")
    return name if not unit or name.endswith(f"_{unit}") else f"{name}_{unit}"


def _labels(attributes: Attributes) -> dict[str, str]:
    """Attributes as labels; `kobs.` is in the metric's name already."""
    labels = {}
    for key, value in attributes:
        label = _BAD.sub("_", key.removeprefix("kobs.")).strip("_")
        if not label or label[0].isdigit() or label == "le":
            label = f"_{label}"
        labels[label] = str(value).lower() if isinstance(value, bool) else str(value)
    return labels


def _add(family: Family, labels: dict[str, str], point: Point) -> None:
    """A series' samples."""
    value = point.value
    if not isinstance(value, HistogramSnapshot):
        family.add_sample(
            f"{family.name}_total" if family.type == "counter" else family.name, labels, value
        )
        return
    bounds = (*value.bounds, inf)
    exemplars = _by_bound(point.exemplars, value.bounds)
    for at, number in enumerate(accumulate(value.by_bound)):
        le = {**labels, "le": repr(bounds[at]).replace("inf", "+Inf")}
        family.add_sample(f"{family.name}_bucket", le, number, exemplar=exemplars.get(at))
    family.add_sample(f"{family.name}_count", labels, value.count)
    family.add_sample(f"{family.name}_sum", labels, value.total)


def _by_bound(exemplars: Iterable[PointExemplar], bounds: tuple[float, ...]) -> dict[int, Exemplar]:
    """The newest exemplar of each bucket."""
    return {
        bisect_left(bounds, exemplar.value): Exemplar(
            {"trace_id": f"{exemplar.trace_id:032x}", "span_id": f"{exemplar.span_id:016x}"},
            exemplar.value,
            Timestamp(*divmod(exemplar.time_ns, 10**9)),
        )
        for exemplar in sorted(exemplars, key=lambda exemplar: exemplar.time_ns)
    }
