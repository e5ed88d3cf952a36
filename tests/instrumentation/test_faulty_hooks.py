"""An instrumentor whose internals raise: the program goes on as it is, and the error is told."""

import contextlib
import gc
import json
import os
import re
import sys
import weakref
from pathlib import Path

import pytest

import kobs
from kobs.session import Session
from kobs_instrumentation import registry
from kobs_instrumentation.watch import _patch, syscall

PROGRAM = Path(__file__).with_name("faulty_hooks.py")

UNREACHED = {"scheduler.run failed"}
"""A work item keeps every exception for whoever asks for its result."""

if os.geteuid():
    UNREACHED |= {f"permission.{name} after" for name in ("chroot", "setgroups", "initgroups")}
    UNREACHED |= {"syscall.chroot after"}

UNCOUNTED = {
    # in another process, into its own recording
    "process._exit before",
    "process._bootstrap before",
    # the recording was closed for the new program; what broke is what would have gone on with it
    "process.execv failed",
    "process.execve failed",
    # done in a forked child
    "permission.chroot after",
    "permission.initgroups after",
    "permission.setsid failed",
    "syscall.chroot after",
    "syscall.setsid after",
}


@pytest.mark.parametrize("name", registry.SUBSYSTEMS)
def test_every_hook_of_a_watch_may_raise(runner, name: str) -> None:
    ran = runner.bare(sys.executable, str(PROGRAM), name)
    assert ran.code == 0, ran.err
    found = json.loads(ran.out.splitlines()[-1])
    assert found["differences"] == []
    assert found["broken"]
    assert set(found["silent"]) <= UNREACHED
    assert set(found["uncounted"]) <= UNCOUNTED
    reasons = [entry["reason"] for entry in Session.open(found["session"]).unobserved()]
    told = [re.search(r", in (.+?): (?:Broken|\w+Error):", text) for text in reasons]
    assert set(found["broken"]) == {match[1] for match in told if match}


@pytest.mark.parametrize("only_failures", [False, True], ids=["all", "failures"])
@pytest.mark.parametrize("kind", ["none", "kept", "before", "after", "failed"])
def test_an_error_in_a_hook_or_a_call_keeps_no_argument_alive(
    monkeypatch: pytest.MonkeyPatch, kind: str, only_failures: bool
) -> None:
    class Item:
        error: Exception

    class Box:
        def put(self, item: Item) -> None:
            try:
                raise LookupError
            except LookupError as error:
                if kind in ("none", "failed"):
                    raise
                item.error = error
                del item

    def broken(*_: object) -> None:
        raise ValueError

    told: list[str] = []
    monkeypatch.setattr(_patch, "on_error", lambda where, _: told.append(where))
    patcher = _patch.Patcher("test")
    hooks = {"before": lambda args, _: args, "after": _patch.nothing, "failed": _patch.nothing}
    if kind in hooks:
        hooks[kind] = broken
    before, after, failed = hooks.values()
    patcher.method(Box, "put", None if only_failures else before, after, failed)
    gc.disable()
    try:
        item = Item()
        gone = weakref.ref(item)
        with contextlib.suppress(LookupError):
            Box().put(item)
        del item
        assert gone() is None
    finally:
        gc.enable()
        patcher.undo()
    broken_ones = ("failed",) if only_failures else ("before", "after", "failed")
    assert told == (["test.put"] if kind in broken_ones else [])


def test_a_system_call_that_cannot_be_told_of_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Wrong:
        SUCCESS = ERROR = object()

    monkeypatch.setattr(syscall, "SyscallResult", Wrong)
    monkeypatch.setattr("kobs_instrumentation.watch._watch._told", set())
    session = Session.create("faults", ["faults"], root=tmp_path)
    with kobs.Collector(session=session, size=256) as collector:
        registry.enable(collector, only=["syscall"])
        try:
            assert os.stat("/").st_ino == os.lstat("/").st_ino
            with pytest.raises(FileNotFoundError, match="/none"):
                os.stat("/none")
        finally:
            registry.disable(collector)
        assert collector.losses().errors >= 3
    reasons = [entry["reason"] for entry in session.unobserved()]
    assert [text for text in reasons if "error inside kobs, in syscall.stat:" in text]
