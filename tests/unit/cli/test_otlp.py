"""`--otlp`: `kobs run` sends while the program runs, from outside of it; `kobs recover` what was
left."""

import os
import re
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kobs.session import Session
from tests.otlp_receivers import HttpReceiver, Receiver, Reply

from .conftest import Kobs

TREE = """
    import os, signal, subprocess, sys, threading
    from kobs import span_operation

    child = "from kobs import span_operation\\nwith span_operation('child'): pass"
    with span_operation("outer"):
        subprocess.run([sys.executable, "-c", child], check=True)
    print(threading.active_count(), "requests" in sys.modules)
    if sys.argv[1:]:
        sys.stdin.readline()
    with span_operation("unfinished"):
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def http_receiver() -> Iterator[HttpReceiver]:
    made = HttpReceiver()
    yield made
    made.close()


@pytest.fixture
def receiver(http_receiver: HttpReceiver) -> HttpReceiver:
    http_receiver.forget()
    return http_receiver


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(TREE))
    return path


def run(tmp_path: Path, *arguments: object, **options: Any) -> "subprocess.Popen[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    env |= {"XDG_STATE_HOME": str(tmp_path / "state"), **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "kobs", "run", *map(str, arguments)], env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
    )  # fmt: skip


def names(receiver: Receiver) -> Counter[str]:
    return Counter(span.name for span in receiver.spans)


def test_a_tree_is_exported_while_it_runs_and_the_rest_at_its_end(
    receiver: HttpReceiver, tmp_path: Path, program: Path
) -> None:
    options = ["-o", "session", "--only", "process", "--otlp", receiver.url]
    process = run(tmp_path, *options, program, "wait")
    while "outer" not in names(receiver):
        receiver.wait_for(len(receiver.got) + 1)
    assert process.poll() is None, "it runs still"
    out, err = process.communicate("\n", timeout=60)
    assert process.returncode == -9
    assert out == "1 False\n", "no thread and no client in the program"
    assert names(receiver) == Counter(outer=1, child=1, unfinished=1)
    spans = {span.name: span for span in receiver.spans}
    assert spans["child"].trace_id == spans["outer"].trace_id
    assert spans["child"].parent_span_id == spans["outer"].span_id
    assert spans["unfinished"].status.code == 2
    assert {"kobs.process_created", "kobs.process_terminated"} <= {
        record.event_name for record in receiver.log_records
    }
    (told,) = re.findall(
        rf"^kobs: sent 3 spans, {len(receiver.log_records)} log records and (\d+) data points$",
        err, re.MULTILINE,
    )  # fmt: skip
    (created,) = [metric for metric in receiver.metrics if metric.name == "kobs.process.created"]
    assert [point.as_int for point in created.sum.data_points] == [1]
    points = [getattr(m, m.WhichOneof("data")).data_points for m in receiver.metrics]
    assert int(told) == sum(map(len, points))
    pids = {
        pair.value.int_value
        for got in receiver.got
        if got.signal == "traces"
        for group in got.message.resource_spans
        for pair in group.resource.attributes
        if pair.key == "process.pid"
    }
    assert len(pids) == 2


EXPORTING = """
    from kobs import collector, span_operation
    from kobs.export.otlp import ExportReport, OtlpExporter
    from kobs.export.otlp_metrics import OtlpMetricsExporter

    exporter, metrics = OtlpExporter(), OtlpMetricsExporter()
    exporter.start(interval_s=0.01)
    metrics.start()
    with span_operation("load"):
        collector.global_collector().resource_cleanup(1, "files", 3)
    assert exporter.flush() and exporter.export_pending() == ExportReport()
    with span_operation("late"):
        pass
    print(exporter.shutdown() == ExportReport(), metrics.shutdown().points)
"""


def test_a_program_that_exports_itself_leaves_it_to_kobs_run(
    receiver: HttpReceiver, tmp_path: Path, program: Path
) -> None:
    program.write_text(textwrap.dedent(EXPORTING))
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    process = run(tmp_path, "-o", "session", "--only", "process", "--otlp", program, env=env)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "True 0\n"), err
    assert names(receiver) == Counter(load=1, late=1)
    assert len(receiver.log_records) == 1
    assert len([got for got in receiver.got if got.signal == "metrics"]) == 1
    assert not Session.open(tmp_path / "session").is_exported


def test_what_the_receiver_did_not_take_is_told_and_recovered(
    receiver: HttpReceiver, tmp_path: Path, program: Path, command: Kobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    receiver.always = Reply(503)
    env = {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.1", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    process = run(tmp_path, "-q", "-o", "session", "--only", "process", "--otlp", program, env=env)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -9
    (told,) = [line for line in err.splitlines() if line.startswith("kobs: sent")]
    assert "sent 0 spans, 0 log records and 0 data points; " in told
    assert f"`kobs recover {tmp_path / 'session'} --otlp`" in told

    receiver.forget()
    said = command("recover", tmp_path / "session", "--otlp", receiver.url, "--json")
    assert said.code == 0
    assert said.json["otlp"]["spans"] == 3
    assert said.json["otlp"]["failed"] == 0
    assert said.json["otlp"]["points"] > 0
    assert names(receiver) == Counter(outer=1, child=1, unfinished=1)
    unfinished = next(span for span in receiver.spans if span.name == "unfinished")
    assert unfinished.status.message == "the process ended before the span did"

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    said = command("recover", tmp_path / "session", "--otlp", "--plain")
    assert said.lines[-1].startswith("sent 0 spans, 0 log records and ")
    said = command("export", tmp_path / "session", "--to", "otlp", "--json")
    assert (said.json["spans"], said.json["logs"]) == (0, 0)
    said = command("export", tmp_path / "session", "--to", "otlp", "--again", "--json")
    assert said.json["spans"] == 3


def test_recover_says_what_was_not_taken(
    command: Kobs, killed_session: Session, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.always = Reply(404)
    said = command("recover", killed_session.path, "--otlp", receiver.url, "--plain")
    assert said.code == 1
    assert "were not taken" in said.lines[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--otlp=localhost:4318", "program.py"], "expected a URL such as http://localhost:4318"),
        (["--otlp", "ftp://localhost", "program.py"], "expected a URL"),
    ],
)
def test_a_bad_url_is_refused(
    tmp_path: Path, program: Path, arguments: list[str], said: str
) -> None:
    process = run(tmp_path, *arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said in err
    assert not (tmp_path / "state").exists(), "nothing was begun"


def test_a_bad_variable_is_refused_before_anything_is_begun(tmp_path: Path, program: Path) -> None:
    process = run(tmp_path, "--otlp", program, env={"OTEL_EXPORTER_OTLP_PROTOCOL": "pigeon"})
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=pigeon" in err
    assert not (tmp_path / "state").exists()


def test_again_is_for_otlp(command: Kobs, killed_session: Session) -> None:
    said = command("export", killed_session.path, "--to", "jsonl", "--again")
    assert said.code != 0
    assert "--again has no meaning" in said.err
    assert said.out == ""
