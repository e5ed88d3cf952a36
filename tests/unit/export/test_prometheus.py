"""Metrics for Prometheus: names, what is scraped, and where it can be scraped from."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from kobs.collector import Collector
from kobs.errors import ConfigError
from kobs.export.prometheus import KobsCollector, Server, export_prometheus, serve
from kobs.levels import SyscallResult
from kobs.payloads import MemoryPressure, MetricUpdate, PipeRead, SyscallExit
from kobs.recording import open_recording
from kobs.session import Session
from kobs.tracing import span_operation


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector(size=1024) as made:
        yield made


@pytest.fixture
def server(collector: Collector) -> Iterator[Server]:
    with serve(collector=collector) as made:
        yield made


def read(collector: Collector, duration_us: float = 10.0, name: str = "read") -> None:
    collector.emit(SyscallExit(name, duration_us, SyscallResult.SUCCESS))


def scraped(url: str, *, exemplars: bool = False) -> dict[str, Any]:
    """The families by name, read by prometheus_client's own parser."""
    accept = "application/openmetrics-text; version=1.0.0" if exemplars else "text/plain"
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read().decode()
    parse = openmetrics.text_string_to_metric_families if exemplars else (
        text_string_to_metric_families
    )  # fmt: skip
    return {family.name: family for family in parse(text)}


def sample(families: dict[str, Any], name: str, **labels: str) -> float:
    (found,) = [
        sample
        for family in families.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return float(found.value)


class TestNames:
    def test_have_base_units_and_suffixes(self, collector: Collector, server: Server) -> None:
        read(collector, 3_000.0)
        collector.emit(MemoryPressure(25, 1))
        collector.emit(PipeRead("p", 4096))
        found = scraped(server.url)
        assert sample(found, "kobs_syscall_calls_total") == 1
        assert sample(found, "kobs_syscall_duration_seconds_sum", syscall="read") == 0.003
        assert sample(found, "kobs_memory_utilization_ratio") == 0.25
        assert sample(found, "kobs_memory_available_bytes") == 1 << 20
        assert sample(found, "kobs_pipe_read_bytes_total") == 4096
        kinds = {name: family.type for name, family in found.items()}
        assert kinds["kobs_syscall_calls"] == "counter"
        assert kinds["kobs_memory_available_bytes"] == "gauge"
        assert kinds["kobs_syscall_duration_seconds"] == "histogram"
        assert all(family.documentation for family in found.values())

    @pytest.mark.parametrize(
        ("given", "name"),
        [
            ("shop.orders", "shop_orders"),
            ("99 luft/ballons", "_99_luft_ballons"),
            ("été", "t"),
            ("--", "_"),
        ],
    )
    def test_of_the_programs_own_are_made_fit(
        self, collector: Collector, server: Server, given: str, name: str
    ) -> None:
        collector.emit(MetricUpdate(given, 4.0, {"le": "1", "2nd": True, "a.b": 'x"\n\\'}))
        found = scraped(server.url)
        assert sample(found, name, _le="1", _2nd="true", a_b='x"\n\\') == 4.0

    def test_that_become_the_same_break_no_scrape(
        self, collector: Collector, server: Server
    ) -> None:
        collector.emit(MetricUpdate("a.b", 1.0))
        collector.emit(MetricUpdate("a_b", 2.0))
        collector.emit(MetricUpdate("kobs.syscall.calls", 3.0))
        read(collector)
        found = scraped(server.url, exemplars=True)
        assert sample(found, "a_b") == 1.0
        assert sample(found, "kobs_syscall_calls_total") == 1


class TestScrapes:
    def test_are_of_everything_so_far(self, collector: Collector, server: Server) -> None:
        read(collector)
        assert sample(scraped(server.url), "kobs_syscall_calls_total") == 1
        read(collector)
        assert sample(scraped(server.url), "kobs_syscall_calls_total") == 2

    def test_have_buckets_that_add_up(self, collector: Collector, server: Server) -> None:
        for duration_us in (0.5, 10.0, 10.1, 400.0, 3e7):
            read(collector, duration_us)
        found = scraped(server.url)
        name = "kobs_syscall_duration_seconds_bucket"
        assert sample(found, name, le="1e-06") == 1
        assert sample(found, name, le="1e-05") == 2
        assert sample(found, name, le="2.5e-05") == 3
        assert sample(found, name, le="10.0") == 4
        assert sample(found, name, le="+Inf") == 5
        assert sample(found, "kobs_syscall_duration_seconds_count") == 5

    def test_have_exemplars_in_openmetrics(self, collector: Collector, server: Server) -> None:
        with span_operation("load", collector=collector) as span:
            read(collector, 300.0)
        families = scraped(server.url, exemplars=True)
        found = [
            each for each in families["kobs_syscall_duration_seconds"].samples if each.exemplar
        ]
        (bucket,) = found
        assert bucket.labels["le"] == "0.0005"
        assert bucket.exemplar.labels == {"trace_id": span.trace_id, "span_id": span.span_id}
        assert bucket.exemplar.value == 3e-4
        began = collector.counts_from.wall_ns / 1e9
        assert began <= float(bucket.exemplar.timestamp) <= began + 60

    def test_at_once_count_everything_once(self, collector: Collector, server: Server) -> None:
        for _ in range(500):
            read(collector)
        found: list[float] = []

        def scrape() -> None:
            found.append(sample(scraped(server.url), "kobs_syscall_calls_total"))

        threads = [threading.Thread(target=scrape) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [500] * 6

    def test_show_metrics_of_the_programs_own_registry_too(self, collector: Collector) -> None:
        registry = CollectorRegistry()
        Counter("orders", "Orders", registry=registry).inc(3)
        with serve(collector=collector, registry=registry) as server:
            found = scraped(server.url)
        assert sample(found, "orders_total") == 3
        assert "kobs_event_lost" in found

    def test_of_a_registry_that_it_is_registered_in(self, collector: Collector) -> None:
        registry = CollectorRegistry()
        own = KobsCollector(collector)
        registry.register(own)
        for _ in range(2):
            for _ in range(900):
                read(collector)
            own.read()
        text = generate_latest(registry).decode()
        assert "kobs_syscall_calls_total 1800.0" in text
        assert 'kobs_event_lost_total{cause="unread"} 0.0' in text
        own.close()


class TestServer:
    def test_is_on_loopback_and_a_free_port(self, server: Server) -> None:
        assert server.addr == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.port}/metrics"

    def test_leaves_nothing_behind(self, collector: Collector) -> None:
        server = serve(collector=collector)
        server.close()
        server.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((server.addr, server.port), 5)
        with serve(server.port, collector=collector) as again:
            assert again.port == server.port
        names = {thread.name for thread in threading.enumerate()}
        assert not names & {"kobs-prometheus", "kobs-prometheus-read"}

    def test_refuses_a_port_that_is_taken(self, collector: Collector, server: Server) -> None:
        with pytest.raises(OSError, match="in use"):
            serve(server.port, collector=collector)

    @pytest.mark.parametrize("port", [-1, 65536, True, "9464"])
    def test_refuses_what_is_no_port(self, collector: Collector, port: Any) -> None:
        with pytest.raises(ConfigError, match="port="):
            serve(port, collector=collector)

    def test_is_the_parents_alone_after_a_fork(self, collector: Collector) -> None:
        server = serve(collector=collector)
        ready, done = os.pipe(), os.pipe()
        pid = os.fork()
        if not pid:
            try:
                signal.alarm(30)
                os.write(ready[1], b"x")
                os.read(done[0], 1)
            finally:
                os._exit(0)
        os.read(ready[0], 1)
        try:
            read(collector)
            assert sample(scraped(server.url), "kobs_syscall_calls_total") == 1
            server.close()
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((server.addr, server.port), 5)
        finally:
            os.write(done[1], b"x")
            os.waitpid(pid, 0)
            for end in (*ready, *done):
                os.close(end)


class TestRecordings:
    def test_are_written_by_process(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        session = Session.create("shop", ["python", "shop.py"])
        for number in (2, 3):
            with Collector(session=session, size=64) as collector:
                for _ in range(number):
                    read(collector)
                if number == 2:
                    pid = os.fork()
                    if not pid:
                        read(collector)
                        os._exit(0)
                    os.waitpid(pid, 0)
        out = io.BytesIO()
        with open_recording(session.path) as recording:
            series = export_prometheus(recording, out)
        families = {
            family.name: family
            for family in text_string_to_metric_families(out.getvalue().decode())
        }
        calls = families["kobs_syscall_calls"].samples
        own, child = str(os.getpid()), str(pid)
        assert [(each.labels["process_pid"], each.value) for each in calls] == [
            (own, 2), (child, 1), (own, 3),
        ]  # fmt: skip
        assert series > 10


def test_without_prometheus_client_the_extra_is_named() -> None:
    code = "import sys; sys.modules['prometheus_client'] = None\nimport kobs.export.prometheus"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "MissingExtraError" in done.stderr
    assert "pip install 'kobs[prometheus]'" in done.stderr
