"""The example kernel under `kobs run`, and its tests under `pytest --kobs`, as the demo does it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kobs
from kobs._analysis.graph import CausalGraph
from kobs.observe import vocabulary
from kobs.recording import Recording
from tools.vocabularies import names

EXAMPLES = Path(__file__).parents[2] / "examples"


def command(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "TMPDIR": str(folder)}
    for name in [name for name in environment if name.startswith(("KOBS_", "PYTEST_"))]:
        del environment[name]
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    folder = tmp_path_factory.mktemp("recorded")
    session = folder / "session"
    done = command("kobs", "run", "--session", str(session), "-m", "minikernel", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "the sum is 500500" in done.stdout
    opened = kobs.open_recording(session)
    yield opened
    opened.close()


class TestRecorded:
    def test_every_event_of_every_vocabulary_is_there(self, recording: Recording) -> None:
        recorded = {event.type_name for event in recording.snapshot()}
        declared = {
            emission.name
            for subsystem in names()
            for rule in vocabulary(subsystem).rules
            for emission in rule.emissions
        }
        assert declared <= recorded

    def test_nothing_went_wrong_inside(self, recording: Recording) -> None:
        assert recording.losses().errors == 0

    def test_what_happened_once_is_told_once_in_the_kernels_words(
        self, recording: Recording
    ) -> None:
        events = recording.snapshot()
        for kind in (kobs.ProcessCreated, kobs.ProcessTerminated):
            pids = [event.pid for event in events if event.type is kind]
            assert len(pids) == len(set(pids)) == 14
        names = [e.payload.name for e in events if e.type is kobs.ProcessCreated]
        assert names[:5] == ["good", "bad", "sleeper", "forgotten", "neglected"]
        for kind in (kobs.MessageSent, kobs.MessageReceived):
            queues = [event.payload.queue_id for event in events if event.type is kind]
            assert (queues.count("orders"), queues.count("answers")) == (201, 2)
            assert len(queues) == 203
        timeouts = [event.payload for event in events if event.type is kobs.IpcTimeout]
        assert timeouts == [kobs.IpcTimeout("orders", 20.0)]

    def test_the_program_opened_no_package_s_metadata(self, recording: Recording) -> None:
        opened = [e.payload.path for e in recording.events() if e.type is kobs.FileOpened]
        assert not [path for path in opened if path.endswith("entry_points.txt")]

    def test_a_chain_crosses_processes_memory_and_a_queue(self, recording: Recording) -> None:
        events = recording.snapshot()
        graph = CausalGraph(events)
        (received, *_) = (
            event
            for event in events
            if event.type is kobs.MessageReceived and event.payload.queue_id == "answers"
        )
        causes = graph.ancestors(received)
        types = [event.type for event in causes]
        for kind in (kobs.ProcessCreated, kobs.ShmWritten, kobs.ShmRead, kobs.MessageSent):
            assert kind in types
        assert len({event.id >> 44 for event in causes}) == 3  # recordings: two children and us


class TestExamplesUnderPytest:
    def test_they_pass(self, tmp_path: Path) -> None:
        done = command(
            "pytest", "-p", "no:cacheprovider", "--kobs", "test_minikernel.py", folder=tmp_path
        )
        assert done.returncode == 0, done.stdout
        assert " 0 lost, 0 inconclusive" in done.stdout

    def test_the_failing_one_names_the_nearest_miss(self, tmp_path: Path) -> None:
        done = command(
            "pytest", "-p", "no:cacheprovider", "--kobs", "failing_example.py", folder=tmp_path
        )
        assert done.returncode == 1, done.stdout
        assert "step 3 of 3 not found: MessageReceived.like(size=3)" in done.stdout
        assert "size = 2, expected 3" in done.stdout

    def test_the_failing_one_is_not_collected_by_itself(self, tmp_path: Path) -> None:
        done = command("pytest", "-p", "no:cacheprovider", "--collect-only", "-q", folder=tmp_path)
        assert "failing_example" not in done.stdout
