"""A real Prometheus scrapes a program that kobs records, and answers what happened in it."""

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kobs import open_recording
from kobs.collector import Collector
from kobs.export.prometheus import export_prometheus
from kobs.levels import SyscallResult
from kobs.payloads import SyscallExit

from .conftest import INSTALLED

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
BIN = INSTALLED / "prometheus" / "usr" / "bin"
_PATIENCE_S = 60.0

CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: kiosk
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """Debian's Prometheus as a process of its own, on loopback, with a data folder of its own."""

    def __init__(self, folder: Path, target: int) -> None:
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(port=target))
        self._process = subprocess.Popen(
            [
                str(BIN / "prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
                "--enable-feature=exemplar-storage",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.url = ""
        line, lines = "", []
        try:
            while "Server is ready" not in line:
                line = self._said.get(timeout=_PATIENCE_S)
                lines.append(line)
                assert line, f"Prometheus ended at once: {''.join(lines)}"
                found = re.search(r'msg="Listening on" address=(\S+)', line)
                self.url = f"http://{found[1]}" if found else self.url
            assert self.url, f"Prometheus does not say where it listens: {''.join(lines)}"
        except BaseException:
            self.close()
            raise

    def ask(self, path: str, **query: str) -> Any:
        """What the HTTP API answers."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=_PATIENCE_S) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, expression: str) -> float:
        """The value of an expression that has one series, as soon as it has."""
        until = time.monotonic() + _PATIENCE_S
        while not (found := self.ask("query", query=expression)["result"]):
            assert time.monotonic() < until, f"no {expression}: {self.ask('targets')}"
            time.sleep(0.05)  # there is nothing to wait for: it scrapes when it does
        (series,) = found
        return float(series["value"][1])

    def close(self) -> None:
        """Stop the process."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        self._thread.join(20)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.put(line)
        self._said.put("")


@pytest.fixture(scope="module")
def installed() -> None:
    """There is a Prometheus."""
    if not (BIN / "prometheus").exists():
        pytest.skip("no Prometheus: `make e2e` unpacks Debian's where there is apt")


@pytest.fixture(scope="module")
def kiosk() -> Iterator[dict[str, Any]]:
    """The program, and what it says of itself."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "programs" / "kiosk.py")],
        env={name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.fixture(scope="module")
def prometheus(
    installed: None, kiosk: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    made = Prometheus(tmp_path_factory.mktemp("prometheus"), kiosk["port"])
    try:
        yield made
    finally:
        made.close()


def test_it_has_the_programs_numbers(prometheus: Prometheus) -> None:
    assert prometheus.value("kobs_syscall_calls_total") == 202
    assert prometheus.value("kobs_syscall_errors_total") == 1
    assert prometheus.value('up{job="kiosk"}') == 1
    assert prometheus.value("kobs_memory_utilization_ratio") == 0.25
    assert prometheus.value("kobs_memory_available_bytes") == 512 * 1024 * 1024
    assert prometheus.value("sum(kobs_event_lost_total)") == 0


def test_it_has_what_was_left_out(prometheus: Prometheus) -> None:
    assert prometheus.value('kobs_event_left_out_total{category="syscall",cause="filtered"}') == 200
    assert prometheus.value('kobs_event_happened_total{category="syscall"}') == 402


def test_it_takes_quantiles_of_the_histogram(prometheus: Prometheus) -> None:
    name = "kobs_syscall_duration_seconds"
    assert prometheus.value(f'{name}_count{{syscall="read"}}') == 201
    median = prometheus.value(f'histogram_quantile(0.5, {name}_bucket{{syscall="read"}})')
    assert 2.5e-5 < median < 5e-5  # all but a few lie in that bucket: from 20 to 40 us
    slowest = prometheus.value(f"histogram_quantile(1, sum by (le) ({name}_bucket))")
    assert 0.5 < slowest <= 1.0
    total = prometheus.value(f'{name}_sum{{syscall="fsync"}}')
    assert total == pytest.approx(0.75)


def test_its_exemplars_point_to_the_trace(prometheus: Prometheus, kiosk: dict[str, Any]) -> None:
    assert prometheus.value('kobs_syscall_duration_seconds_count{syscall="fsync"}') == 1
    now = time.time()
    found = prometheus.ask(
        "query_exemplars", query="kobs_syscall_duration_seconds_bucket",
        start=str(now - 600), end=str(now + 600),
    )  # fmt: skip
    (series,) = found
    assert series["seriesLabels"]["syscall"] == "fsync"
    labels = series["exemplars"][0]["labels"]
    assert labels == {"trace_id": kiosk["trace_id"], "span_id": kiosk["span_id"]}
    assert float(series["exemplars"][0]["value"]) == 0.75


def test_its_linter_has_nothing_to_say_of_names(
    installed: None, kiosk: dict[str, Any], tmp_path: Path
) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{kiosk['port']}/metrics", timeout=30) as answer:
        scraped = answer.read()
    assert b"kobs_syscall_calls_total" in scraped
    assert lint(scraped) == ""
    path = tmp_path / "a.kobs"
    with Collector(size=64, path=path) as collector:
        collector.emit(SyscallExit("read", 3.0, SyscallResult.SUCCESS))
    with open_recording(path) as recording, open(tmp_path / "metrics.prom", "wb") as file:
        export_prometheus(recording, file)
    assert lint((tmp_path / "metrics.prom").read_bytes()) == ""


def lint(text: bytes) -> str:
    """What `promtool check metrics` has to say, which parses the text as Prometheus does."""
    done = subprocess.run(
        [str(BIN / "promtool"), "check", "metrics"],
        input=text, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr  # 3: it has something to say
    return (done.stdout + done.stderr).decode()
