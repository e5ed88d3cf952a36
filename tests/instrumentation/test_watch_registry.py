"""Switching everything on and off in a process that runs already, and the instrumentors."""

import json
import os
import queue
import subprocess
import sys
from pathlib import Path

import pytest

import kobs
from kobs import FileOpened, MessageSent, ProcessCreated
from kobs.errors import UnknownSubsystemError
from kobs.session import Session
from kobs_instrumentation import propagate, registry
from kobs_instrumentation.process import ProcessInstrumentor
from kobs_instrumentation.queue import QueueInstrumentor
from kobs_instrumentation.scheduler import SchedulerInstrumentor
from kobs_instrumentation.vfs import VfsInstrumentor

INSTRUMENTORS = {
    "process": ProcessInstrumentor,
    "queue": QueueInstrumentor,
    "scheduler": SchedulerInstrumentor,
    "vfs": VfsInstrumentor,
}


def use_everything() -> None:
    open(os.devnull).close()
    queue.Queue().put(1)
    subprocess.run([sys.executable, "-c", "open('/dev/zero')"], check=True)


def seen(collector: kobs.Collector) -> set[str]:
    return {event.type_name for event in collector.snapshot()}


def test_enable_and_disable() -> None:
    with kobs.Collector(size=256) as collector:
        registry.enable(collector)
        assert registry.enabled()
        use_everything()
        registry.disable(collector)
        assert not registry.enabled()
        found = seen(collector)
        assert {"FileOpened", "MessageSent", "ProcessCreated", "ProcessTerminated"} <= found
        collector.reset()
        use_everything()
        assert collector.snapshot() == []
        registry.disable(collector)


@pytest.mark.parametrize(
    ("only", "exclude", "expected"),
    [
        (["vfs"], None, {"FileOpened"}),
        (None, ["vfs", "process", "scheduler", "syscall"], {"MessageSent"}),
        (["vfs", "queue"], ["vfs"], {"MessageSent"}),
    ],
)
def test_only_what_is_chosen_is_told(
    only: list[str] | None, exclude: list[str] | None, expected: set[str]
) -> None:
    with kobs.Collector(size=256) as collector:
        registry.enable(collector, only=only, exclude=exclude)
        use_everything()
        registry.disable(collector)
        assert seen(collector) == expected


def test_an_unknown_subsystem_is_refused_with_those_there_are() -> None:
    with (
        kobs.Collector(size=16) as collector,
        pytest.raises(UnknownSubsystemError, match=r"'nets'.*process, vfs, queue, scheduler"),
    ):
        registry.enable(collector, only=["nets"])
    assert not registry.enabled()


def test_children_record_into_the_collector_s_session(tmp_path: Path) -> None:
    session = Session.create("test", ["test"], root=tmp_path)
    with kobs.Collector(session=session) as collector:
        registry.enable(collector, only=["vfs"])
        use_everything()
        registry.disable(collector)
        use_everything()
    with kobs.open_recording(session) as recording:
        assert len(recording.processes) == 2
        ours, child = [e for e in recording.events() if isinstance(e.payload, FileOpened)]
        assert (ours.payload.path, child.payload.path) == (os.devnull, "/dev/zero")
        assert ours.pid == os.getpid() != child.pid


def test_children_of_a_collector_without_a_session_are_left_as_they_are() -> None:
    with kobs.Collector(size=64) as collector:
        registry.enable(collector)
        code = (
            "import os, sys; print([k for k in os.environ if 'KOBS' in k], 'kobs' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        registry.disable(collector)
    assert done.stdout == "[] False\n"


def test_two_collectors_the_inner_one_gets_the_events() -> None:
    with kobs.Collector(size=64) as outer, kobs.Collector(size=64) as inner:
        registry.enable(outer)
        registry.enable(inner)
        open(os.devnull).close()
        registry.disable(inner)
        open("/dev/zero").close()
        registry.disable()
        assert [e.payload.path for e in inner.snapshot()] == [os.devnull]
        assert [e.payload.path for e in outer.snapshot()] == ["/dev/zero"]


@pytest.mark.parametrize("name", INSTRUMENTORS)
def test_an_instrumentor_is_symmetric_and_idempotent(name: str) -> None:
    before = open, os.fork, queue.Queue.put, os.unlink
    instrumentor = INSTRUMENTORS[name]()
    instrumentor.instrument()
    instrumentor.instrument()
    instrumentor.uninstrument()
    instrumentor.uninstrument()
    assert (open, os.fork, queue.Queue.put, os.unlink) == before
    assert open is before[0]
    assert queue.Queue.put is before[2]


def test_an_instrumentor_sends_to_the_collector_given_or_the_global_one() -> None:
    with kobs.Collector(size=64) as given, kobs.Collector(size=64) as shared:
        VfsInstrumentor().instrument(collector=given)
        QueueInstrumentor().instrument()
        queue.Queue().put(1)
        kobs.init_collector(shared)
        try:
            open(os.devnull).close()
            queue.Queue().put(1)
        finally:
            VfsInstrumentor().uninstrument()
            QueueInstrumentor().uninstrument()
            kobs.collector.clear_collector()
        assert [type(e.payload) for e in given.snapshot()] == [FileOpened]
        assert [type(e.payload) for e in shared.snapshot()] == [MessageSent]
        assert ProcessCreated.__name__ not in seen(shared)


def test_a_child_s_options_are_the_run_s() -> None:
    children = propagate.Children("/session", json.dumps({"only": ["vfs"]}), 5)
    propagate.children_record(children)
    try:
        env: dict[bytes, bytes] = {b"PYTHONPATH": b"/mine"}
        propagate.add_to_child(env, 7)
        assert env[b"KOBS_SESSION"] == b"/session"
        assert env[b"PYTHONPATH"].endswith(b"/inject:/mine")
        again = dict(env)
        propagate.add_to_child(again, 7)
        assert again == env
        propagate.hide(env)
        assert env == {b"PYTHONPATH": b"/mine"}
    finally:
        propagate.children_do_not_record(children)
    assert propagate.watching_children() is None
