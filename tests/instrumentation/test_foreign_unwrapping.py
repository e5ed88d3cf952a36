"""Other packages that wrap what kobs wraps, and take it back in an order of their own."""

import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import unwrap
from wrapt import wrap_function_wrapper

import kobs
from kobs import MessageSent
from kobs.session import Session
from kobs_instrumentation import registry
from kobs_instrumentation.watch import queue as watch_of_queues
from kobs_instrumentation.watch._patch import Patcher


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[kobs.Collector]:
    session = Session.create("foreign", ["foreign"], root=tmp_path)
    started, thread_class = threading.Thread.start, vars(threading.Thread).copy()
    with kobs.Collector(session=session, size=1024) as collector:
        yield collector
        registry.disable(collector)
    assert threading.Thread.start is started
    assert {k: v for k, v in vars(threading.Thread).items() if thread_class.get(k) is not v} == {}


def reasons(collector: kobs.Collector) -> list[str]:
    assert collector.session is not None
    return [entry["reason"] for entry in collector.session.unobserved()]


class Wrapped:
    """`threading.Thread.start` as OpenTelemetry's instrumentation of threads has it."""

    def __init__(self) -> None:
        self.calls = 0
        wrap_function_wrapper(threading.Thread, "start", self._start)

    def _start(self, call: Callable[..., Any], thread: Any, args: Any, kwargs: Any) -> Any:
        self.calls += 1
        return call(*args, **kwargs)

    def unwrap(self) -> None:
        unwrap(threading.Thread, "start")


def chain_of_a_thread() -> int:
    """Which chain a new thread runs in, that is started in chain 77."""
    seen: list[int] = []

    def look() -> None:
        found = kobs.current_span()
        seen.append(found.causality_id)

    with kobs.causal_context(77):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    return seen[0]


class Test_wrapt_around_ours:
    def test_taken_off_first(self, collector: kobs.Collector) -> None:
        registry.enable(collector, only=["scheduler"])
        theirs = Wrapped()
        assert (chain_of_a_thread(), theirs.calls) == (77, 1)
        assert registry.taken_away() == {}
        theirs.unwrap()
        assert (chain_of_a_thread(), theirs.calls) == (77, 1)
        registry.disable(collector)
        assert reasons(collector) == []

    def test_taken_off_last(self, collector: kobs.Collector) -> None:
        """What is left of ours below theirs is inert, and goes with the next undo."""
        registry.enable(collector, only=["scheduler"])
        theirs = Wrapped()
        registry.disable(collector)
        assert (chain_of_a_thread(), theirs.calls) == (0, 1)
        theirs.unwrap()
        assert (chain_of_a_thread(), theirs.calls) == (0, 1)
        registry.enable(collector, only=["scheduler"])
        assert chain_of_a_thread() == 77
        registry.disable(collector)
        assert chain_of_a_thread() == 0
        assert reasons(collector) == []

    def test_it_was_there_before_ours_and_stays(self, collector: kobs.Collector) -> None:
        theirs = Wrapped()
        before = vars(threading.Thread)["start"]
        registry.enable(collector, only=["scheduler"])
        seen = (chain_of_a_thread(), theirs.calls)
        registry.disable(collector)
        assert vars(threading.Thread)["start"] is before
        theirs.unwrap()
        assert seen[1] == 1
        assert chain_of_a_thread() == 0


class Test_ours_taken_away:
    def _strip(self, how: str, original: Any) -> None:
        if how == "the original put back":
            Queue.put = original  # type: ignore[method-assign]
        elif how == "all wrappers taken off":
            function: Any = vars(Queue)["put"]
            while hasattr(function, "__wrapped__"):
                function = function.__wrapped__
            Queue.put = function  # type: ignore[method-assign]
        else:
            Queue.put = lambda self, item: original(self, item)  # type: ignore[assignment, method-assign, misc]

    @pytest.mark.parametrize(
        "how", ["the original put back", "all wrappers taken off", "another put in its place"]
    )
    def test_it_is_noticed_told_and_inert(
        self, collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        original = vars(Queue)["put"]
        monkeypatch.setattr(Queue, "put", original)  # whatever becomes of it
        notes: list[str] = []
        patcher = Patcher("ours", notes.append)
        calls: list[int] = []
        patcher.method(Queue, "put", lambda args, kwargs: calls.append(1))
        ours = vars(Queue)["put"]
        Queue().put(1)
        assert patcher.taken_away() == []
        self._strip(how, original)
        Queue().put(2)
        assert calls == [1]
        assert patcher.taken_away() == ["queue.Queue.put"]
        theirs = vars(Queue)["put"]
        patcher.undo()
        (note,) = notes
        assert note.startswith("ours: queue.Queue.put was not seen to the end: another took away")
        assert vars(Queue)["put"] is theirs
        ours(queue.Queue(), 3)
        assert calls == [1]

    def test_a_watch_says_so_in_the_session_and_is_no_evidence_of_absence(
        self, collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = vars(Queue)["put"]
        monkeypatch.setattr(Queue, "put", original)
        registry.enable(collector, only=["queue", "vfs"])
        assert {"MessageSent", "FileOpened"} <= registry.said()
        Queue().put(1)
        Queue.put = original  # type: ignore[method-assign]
        Queue().put(2)
        assert registry.taken_away() == {"queue": ["queue.Queue.put"]}
        assert watch_of_queues._watch.taken_away() == ["queue.Queue.put"]
        assert "MessageSent" not in registry.said()
        assert "FileOpened" in registry.said()
        registry.disable(collector)
        assert len([e for e in collector.snapshot() if isinstance(e.payload, MessageSent)]) == 1
        (reason,) = [text for text in reasons(collector) if text.startswith("queue: ")]
        assert "queue.Queue.put was not seen to the end" in reason
        assert registry.taken_away() == {}


def test_a_program_that_takes_it_away_is_reported(runner: Any) -> None:
    ran = runner.script("""
        import queue, threading
        put = queue.Queue.put.__wrapped__
        queue.Queue.put = put
        queue.Queue().put(1)
        """)
    with kobs.open_recording(ran.session) as recording:
        (entry,) = recording.unobserved
    assert "queue: queue.Queue.put was not seen to the end" in entry["reason"]
    shown = runner.bare(sys.executable, "-m", "kobs", "report", str(ran.session))
    assert "was not seen to the end" in " ".join(shown.out.split())
