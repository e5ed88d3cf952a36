"""Spans and events over the wire to receivers that this project did not write."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from kobs import open_recording
from kobs.export.otlp import ExportReport, export_recording
from tests.end_to_end.receivers import Receiver

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent


def environment(receiver: Receiver, protocol: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc if protocol == "grpc" else receiver.http,
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }


def one(items: list[dict[str, Any]], key: str, value: str) -> dict[str, Any]:
    (found,) = [item for item in items if item[key] == value]
    return found


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_program_is_read_back_as_it_ran(receiver: Receiver, protocol: str) -> None:
    before_ns = time.time_ns()
    done = subprocess.run(
        [sys.executable, str(HERE / "programs" / "shop.py")],
        env={**os.environ, **environment(receiver, protocol)},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    after_ns = time.time_ns()
    expected = json.loads(done.stdout)
    assert expected["report"] == {
        "spans": 5, "logs": 2, "failed": 0, "lost": 0, "unsampled": 0, "pending": 0,
    }, done.stderr  # fmt: skip
    receiver.wait_for(spans=5, logs=2)

    # Every span, by its id: name, trace, parent, kind, status, duration, resource.
    assert {span["span_id"] for span in receiver.spans} == set(expected["spans"])
    for span in receiver.spans:
        known = expected["spans"][span["span_id"]]
        got = {key: span[key] for key in ("name", "trace_id", "parent", "kind", "status")}
        assert got == {key: known[key] for key in got}
        assert span["end_ns"] - span["start_ns"] == known["took_ns"]
        assert before_ns <= span["start_ns"] <= span["end_ns"] <= after_ns
        assert span["resource"]["service.name"] == "shop"
        assert span["resource"]["deployment.environment.name"] == "test"
        assert span["scope"] == "kobs"

    # The one that failed.
    charges = sorted(
        (span for span in receiver.spans if span["name"] == "charge"),
        key=lambda span: int(span["attributes"]["order"]),
    )
    good, bad = charges
    assert (good["status"], bad["status"]) == ("unset", "error")
    assert bad["reason"] == expected["failed"] == "order 2: nothing left"
    assert bad["attributes"]["error.type"] == "LookupError"
    (exception,) = bad["events"]
    assert exception["name"] == "exception"
    assert exception["attributes"]["exception.type"] == "LookupError"
    assert "take_order" in exception["attributes"]["exception.stacktrace"]

    # Attributes, with their types, the long one too.
    attributes = good["attributes"]
    assert int(attributes["order"]) == 1
    assert attributes["total"] == 12.5
    assert attributes["vip"] is True
    assert attributes["items"] == ["a", "b"]
    assert attributes["note"] == "für dich " * 100

    # Conventions of the kinds of span; the link of the message.
    call = one(receiver.spans, "name", "shop.Orders/Take")
    assert call["attributes"]["rpc.system.name"] == "grpc"
    assert int(one(receiver.spans, "name", "read")["attributes"]["process.pid"]) == 4242
    deliver = one(receiver.spans, "name", "deliver")
    assert deliver["links"] == [(call["trace_id"], call["span_id"])]
    assert deliver["trace_id"] != call["trace_id"]

    # What it logged, with the types of its fields.
    said = one(receiver.logs, "scope", "shop.orders")
    assert said["body"] == "order 2 failed"
    assert (said["severity"], said["severity_text"]) == (17, "ERROR")
    assert (said["trace_id"], said["span_id"]) == (expected["trace_id"], expected["span_id"])
    assert said["event_name"] == ""
    assert int(said["attributes"]["left"]) == 0
    assert said["attributes"]["items"] == ["a"]
    assert said["attributes"]["vip"] is False
    assert said["attributes"]["code.function.name"] == "run"
    assert said["attributes"]["exception.type"] == "LookupError"
    assert said["attributes"]["exception.message"] == expected["failed"]

    # The event, joined to its span.
    log = one(receiver.logs, "scope", "kobs")
    assert log["event_name"] == ("kobs.resource_exhausted" if receiver.knows_event_names else "")
    assert log["attributes"]["kobs.type"] == "ResourceExhausted"
    assert (log["trace_id"], log["span_id"]) == (expected["trace_id"], expected["span_id"])
    assert (log["severity"], log["severity_text"]) == (17, "ERROR")
    assert log["body"] == "ResourceExhausted(resource='stock', limit=1)"
    assert log["attributes"]["kobs.resource"] == "stock"
    assert log["attributes"]["kobs.event.id"] == expected["exhausted"]
    assert int(log["attributes"]["kobs.limit"]) == 1
    assert int(log["attributes"]["process.pid"]) == 4242
    assert call["start_ns"] <= log["time_ns"] <= call["end_ns"]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_trace_that_crosses_a_thread_a_queue_a_process_and_a_call(
    receiver: Receiver, protocol: str, tmp_path: Path
) -> None:
    """The program does not export: `kobs run --otlp` does, for it and its child."""
    found = environment(receiver, protocol)
    endpoint = found.pop("OTEL_EXPORTER_OTLP_ENDPOINT")
    command = ["run", "--only", "process,queue,scheduler,grpc", "--otlp", endpoint]
    done = subprocess.run(
        [sys.executable, "-m", "kobs", *command, str(HERE / "programs" / "crossing.py")],
        env={**os.environ, **found, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    ids = json.loads(done.stdout)
    assert "kobs: sent 8 spans" in done.stderr
    receiver.wait_for(spans=8, logs=0)
    calls = {span["kind"]: span for span in receiver.spans if span["name"] == "shop.Orders/Take"}
    spans = {span["name"]: span for span in receiver.spans if span not in calls.values()}
    assert {name: span["span_id"] for name, span in spans.items()} == {
        name: ids[name]
        for name in ("request", "ship", "deliver", "in the child", "batch", "handle")
    }
    for name in ("request", "ship", "deliver", "in the child", "handle"):
        assert spans[name]["trace_id"] == ids["trace"]
    assert spans["request"]["parent"] == ""
    for name in ("ship", "deliver", "in the child"):
        assert spans[name]["parent"] == ids["request"]

    # The call, of which each side is a span.
    assert {kind: span["trace_id"] for kind, span in calls.items()} == {
        "client": ids["trace"], "server": ids["trace"],
    }  # fmt: skip
    assert calls["client"]["parent"] == ids["request"]
    assert calls["server"]["parent"] == calls["client"]["span_id"]
    assert spans["handle"]["parent"] == calls["server"]["span_id"]

    # It was there before the request: it has a trace of its own, and a link.
    assert spans["batch"]["trace_id"] == ids["batch's trace"] != ids["trace"]
    assert spans["batch"]["parent"] == ""
    assert spans["batch"]["links"] == [(ids["trace"], ids["request"])]

    # Two processes of one service.
    pids = {span["resource"]["process.pid"] for span in receiver.spans}
    assert len(pids) == 2
    assert (
        spans["in the child"]["resource"]["process.pid"]
        == spans["handle"]["resource"]["process.pid"]
    )
    assert spans["in the child"]["resource"]["process.pid"] not in {
        spans[name]["resource"]["process.pid"] for name in ("request", "ship", "deliver", "batch")
    }
    assert {span["resource"]["service.name"] for span in receiver.spans} == {"shop"}


KILLED = """
    import sys
    from kobs import Collector, init_collector, span_operation

    init_collector(Collector(size=256, path=sys.argv[1]))
    with span_operation("outer") as outer, span_operation("inner") as inner:
        print(outer.span_id, inner.span_id, flush=True)
        sys.stdin.read()
"""


def test_a_killed_programs_open_spans_are_read_back(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "killed.kobs"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    outs = process.stdout
    assert outs is not None
    outer_id, inner_id = outs.readline().split()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)

    for name, value in environment(receiver, "http/protobuf").items():
        monkeypatch.setenv(name, value)
    with open_recording(path) as recording:
        assert export_recording(recording) == ExportReport(spans=2)
    receiver.wait_for(spans=2, logs=0)
    outer, inner = one(receiver.spans, "name", "outer"), one(receiver.spans, "name", "inner")
    assert (outer["span_id"], inner["span_id"]) == (outer_id, inner_id)
    assert inner["parent"] == outer_id
    for span in (outer, inner):
        assert span["status"] == "error"
        assert span["attributes"]["kobs.unfinished"] is True
        assert span["start_ns"] <= span["end_ns"]


def test_a_receiver_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    from kobs import Collector, span_operation

    with Collector(size=64, path=tmp_path / "a.kobs") as collector:
        with span_operation("load", collector=collector):
            pass
        with open_recording(tmp_path / "a.kobs") as recording:
            assert export_recording(recording, logs=False) == ExportReport(failed=1)
