"""`kobs export`: files for other tools, whole or not at all."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema
from prometheus_client.parser import text_string_to_metric_families

from kobs.collector import Collector
from kobs.errors import MissingExtraError
from kobs.session import Session
from tests.otlp_receivers import HttpReceiver, Reply

from .conftest import Kobs, _exit

Process = Callable[..., subprocess.CompletedProcess[str]]


class TestPerfetto:
    def test_writes_a_trace_and_says_so(
        self, command: Kobs, session: Session, tmp_path: Path
    ) -> None:
        out = tmp_path / "trace.pftrace"
        said = command("export", session.path, "--to", "perfetto", "-o", out)
        assert said.code == 0
        assert said.out.startswith("wrote 23 events, 12 slices, 8 instants")
        assert "ui.perfetto.dev" in said.out
        trace = schema.Trace()
        trace.ParseFromString(out.read_bytes())
        assert len(trace.packet) > 23

    def test_has_a_name_of_its_own_without_o(
        self, command: Kobs, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert command("export", "--to", "perfetto").code == 0
        assert (tmp_path / f"{Path(session.path).name}.pftrace").exists()

    def test_to_stdout(self, session: Session) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "kobs", "export", session.path, "--to", "perfetto", "-o", "-"],
            capture_output=True,
            check=True,
        )
        schema.Trace().ParseFromString(done.stdout)
        assert done.stderr == b""


class TestJsonLines:
    def test_go_to_stdout(self, command: Kobs, session: Session) -> None:
        said = command("export", session.path, "--to", "jsonl")
        assert (said.code, said.err) == (0, "")
        assert len([json.loads(line) for line in said.lines]) == 23

    def test_go_to_a_file(self, command: Kobs, session: Session, tmp_path: Path) -> None:
        out = tmp_path / "events.jsonl"
        said = command("export", session.path, "--to", "jsonl", "-o", out)
        assert said.out == f"wrote 23 events to {out}\n"
        assert len(out.read_text().splitlines()) == 23

    def test_what_was_written_can_be_told_as_json(
        self, command: Kobs, session: Session, tmp_path: Path
    ) -> None:
        out = tmp_path / "events.jsonl"
        said = command("export", session.path, "--to", "jsonl", "-o", out, "--json")
        assert said.json == {
            "to": "jsonl", "events": 23, "path": str(out), "lost": 0, "damage": [],
        }  # fmt: skip

    def test_what_the_recording_lost_is_said_on_stderr(self, command: Kobs, tmp_path: Path) -> None:
        with Collector(path=tmp_path / "a.kobs", size=16) as collector:
            for _ in range(100):
                collector.emit(_exit("read", 1.0))
        said = command("export", tmp_path / "a.kobs", "--to", "jsonl")
        assert len(said.lines) == 16
        assert said.err.startswith("kobs: 84 events of this recording were lost")


class TestFailure:
    @pytest.mark.parametrize("to", ["jsonl", "perfetto"])
    def test_a_full_disk_leaves_no_file(
        self, command_process: Process, session: Session, tmp_path: Path, to: str
    ) -> None:
        out = tmp_path / "out"
        limited = ["-o", out, "--to", to]
        done = command_process("export", session.path, *limited, preexec_fn=_no_room)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert str(out) in done.stderr
        assert done.stdout == ""
        assert [name for name in os.listdir(tmp_path) if "out" in name] == []

    def test_a_folder_that_is_missing(self, command: Kobs, session: Session) -> None:
        said = command("export", session.path, "--to", "jsonl", "-o", "/nowhere/out")
        assert said.code == 1
        assert said.err == "kobs: /nowhere/out: no such file or directory\n"

    def test_a_folder_instead_of_a_file(
        self, command: Kobs, session: Session, tmp_path: Path
    ) -> None:
        said = command("export", session.path, "--to", "perfetto", "-o", tmp_path)
        assert said.code == 1
        assert "is a directory" in said.err


class TestOtlp:
    def test_a_missing_extra_is_named(
        self, command: Kobs, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import kobs.export.otlp

        def missing(recording: object, **options: object) -> None:
            raise MissingExtraError("OTLP needs an exporter: pip install 'kobs[otlp]'")

        monkeypatch.setattr(kobs.export.otlp, "export_recording", missing)
        said = command("export", session.path, "--to", "otlp")
        assert (said.code, said.out) == (1, "")
        assert "pip install 'kobs[otlp]'" in said.err

    def test_what_the_receiver_took_is_told(
        self, command: Kobs, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receiver = HttpReceiver()
        try:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
            said = command("export", session.path, "--to", "otlp")
        finally:
            receiver.close()
        assert said.code == 0
        assert {got.signal for got in receiver.got} == {"traces", "logs", "metrics"}
        spans, logs = len(receiver.spans), len(receiver.log_records)
        assert (spans, logs > 0) == (3, True)
        (points,) = re.findall(rf"^sent {spans} spans, {logs} log records and (\d+) data", said.out)
        assert int(points) > 10

    def test_what_it_did_not_take_is_a_failure(
        self, command: Kobs, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receiver = HttpReceiver()
        receiver.always = Reply(400)
        try:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
            said = command("export", session.path, "--to", "otlp", "--json")
        finally:
            receiver.close()
        assert said.code == 1
        assert said.json["points"] == said.json["spans"] == 0
        assert f"the receiver did not take {said.json['failed']} items" in said.err


class TestPrometheus:
    def test_is_text_on_stdout(self, command: Kobs, session: Session) -> None:
        said = command("export", session.path, "--to", "prometheus")
        assert said.code == 0
        families = {family.name: family for family in text_string_to_metric_families(said.out)}
        (calls,) = families["kobs_syscall_calls"].samples
        assert calls.value == 6
        assert calls.labels["process_pid"] == str(os.getpid())

    def test_goes_to_a_file(self, command: Kobs, session: Session, tmp_path: Path) -> None:
        out = tmp_path / "shop.prom"
        said = command("export", session.path, "--to", "prometheus", "-o", out)
        (series,) = re.findall(rf"^wrote (\d+) series to {re.escape(str(out))}$", said.out)
        assert int(series) > 10
        assert "kobs_syscall_calls_total{" in out.read_text()


def test_formats_of_plugins(command: Kobs, session: Session, tmp_path: Path) -> None:
    from kobs import hooks

    class Plugin:
        @staticmethod
        @hooks.hook
        def kobs_exporters() -> object:
            def write(recording: object, path: str, options: object) -> None:
                Path(path).write_text("by the plug-in")

            return {"paper": write}

    hooks.register(Plugin)
    try:
        said = command("export", session.path, "--to", "paper", "-o", tmp_path / "p")
    finally:
        hooks.unregister(Plugin)
    assert said.code == 0
    assert (tmp_path / "p").read_text() == "by the plug-in"


def _no_room() -> None:
    """Files cannot grow past a few bytes, which fails like a full disk does."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
