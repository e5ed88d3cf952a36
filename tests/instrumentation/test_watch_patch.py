"""Patches: unseen, taken back in any order, and never in the program's way."""

import builtins
import gc
import importlib
import io
import os
import queue
import random
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from types import ModuleType

import pytest

import kobs
from kobs_instrumentation import registry
from kobs_instrumentation.watch import _patch
from kobs_instrumentation.watch._patch import Patcher

WATCHES = [
    importlib.import_module(f"kobs_instrumentation.watch.{name}") for name in registry.SUBSYSTEMS
]


def patched() -> dict[str, object]:
    """Everything that the watches patch, as it is now."""
    import asyncio
    import asyncio.sslproto
    import concurrent.futures.process as process_pool
    import concurrent.futures.thread as thread_pool
    import multiprocessing.connection as connection
    import multiprocessing.pool as pool
    import multiprocessing.popen_fork as popen_fork
    import multiprocessing.queues as queues
    import multiprocessing.reduction as reduction
    import multiprocessing.shared_memory as shared_memory
    import resource
    import socket
    import ssl

    owners = [
        os, io, builtins, sys.modules["_io"], sys.modules["posix"], subprocess, queue.Queue,
        subprocess.Popen, threading.Thread, asyncio.Queue, asyncio.Handle, asyncio.BaseEventLoop,
        thread_pool._WorkItem, process_pool._WorkItem, process_pool._CallItem, queues.Queue,
        queues.JoinableQueue, queues.SimpleQueue, connection, connection.Connection,
        reduction.ForkingPickler, pool.ApplyResult, pool.IMapIterator, popen_fork.Popen,
        shared_memory.SharedMemory, shared_memory.ShareableList, gc,
        sys.modules["_frozen_importlib"], sys.modules["_posixsubprocess"],
        socket, socket.socket, sys.modules["_socket"], ssl.SSLSocket, resource,
        asyncio.sslproto.SSLProtocol,
    ]  # fmt: skip
    return {
        f"{owner.__name__}.{name}": value
        for owner in owners
        for name, value in vars(owner).items()
        if callable(value) or isinstance(value, classmethod)
    }


def same(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """The names whose objects differ."""
    return [
        name
        for name in one.keys() | other.keys()
        if one.get(name) is not other.get(name)
        # asked for anew each time
        and not name.endswith(("__subclasshook__", "__init_subclass__"))
    ]


@pytest.fixture
def originals() -> Iterator[dict[str, object]]:
    before = patched()
    yield before
    assert same(before, patched()) == []


ORDERS = [
    list(range(len(WATCHES))),
    *(random.Random(seed).sample(range(len(WATCHES)), len(WATCHES)) for seed in range(20)),
]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_undo_in_any_order_gives_every_original_back(
    originals: dict[str, object], order: list[int]
) -> None:
    undos = [watch.install(lambda: None) for watch in WATCHES]
    assert same(originals, patched()) != []
    for index in order:
        undos[index]()
        undos[index]()
    assert same(originals, patched()) == []


@pytest.mark.parametrize("watch", WATCHES, ids=lambda watch: watch.__name__)
def test_a_watch_installed_twice_stays_until_the_second_undo(
    originals: dict[str, object], watch: ModuleType
) -> None:
    first, second = watch.install(lambda: None), watch.install(lambda: None)
    once = patched()
    first()
    assert same(once, patched()) == []
    second()
    assert same(originals, patched()) == []


def test_the_collector_installed_last_gets_the_events(originals: dict[str, object]) -> None:
    vfs = WATCHES[registry.SUBSYSTEMS.index("vfs")]
    with kobs.Collector(size=16) as one, kobs.Collector(size=16) as two:
        undo_one, undo_two = vfs.install(lambda: one), vfs.install(lambda: two)
        open(os.devnull).close()
        undo_two()
        open("/dev/zero").close()
        undo_one()
        assert [e.payload.path for e in two.snapshot()] == [os.devnull]
        assert [e.payload.path for e in one.snapshot()] == ["/dev/zero"]


class Victim:
    """Something to patch."""

    def method(self, value: int) -> int:
        """Doubles."""
        return value * 2

    def fails(self) -> None:
        """Raises."""
        raise ValueError("its own")


def _noting(seen: list[str], word: str):
    return lambda args, kwargs: seen.append(word)


def test_two_patches_of_one_function_come_off_in_any_order() -> None:
    original = Victim.method
    for first_off in (0, 1):
        seen: list[str] = []
        patchers = [Patcher("one"), Patcher("two")]
        for number, patcher in enumerate(patchers):
            patcher.method(Victim, "method", _noting(seen, str(number)))
        assert Victim().method(2) == 4
        assert seen == ["1", "0"]
        patchers[first_off].undo()
        seen.clear()
        assert Victim().method(2) == 4
        assert seen == [str(1 - first_off)]
        patchers[1 - first_off].undo()
        assert Victim.method is original


def test_a_stand_in_that_someone_patched_over_is_inert_after_undo() -> None:
    original = Victim.method
    seen: list[int] = []
    patcher = Patcher("ours")
    patcher.method(Victim, "method", lambda args, kwargs: seen.append(args[1]))
    below = Victim.method

    def theirs(self: Victim, value: int) -> int:
        return below(self, value) + 1

    Victim.method = theirs  # type: ignore[method-assign]
    try:
        patcher.undo()
        assert Victim().method(2) == 5
        assert seen == []
        assert Victim.method is theirs
    finally:
        Victim.method = original  # type: ignore[method-assign]


def test_an_error_in_a_hook_is_told_once_counted_and_never_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(_patch, "on_error", lambda where, error: told.append(f"{where}: {error}"))

    def broken(*_: object) -> None:
        raise RuntimeError("kobs is broken")

    patcher = Patcher("watch")
    patcher.method(Victim, "method", lambda a, k: True, broken)
    patcher.method(Victim, "fails", broken)
    try:
        assert Victim().method(2) == 4
        with pytest.raises(ValueError, match="its own"):
            Victim().fails()
    finally:
        patcher.undo()
    assert told == ["watch.method: kobs is broken", "watch.fails: kobs is broken"]


def test_an_error_while_taking_back_keeps_no_patch_in_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(_patch, "on_error", lambda where, error: told.append(where))

    class Owner:
        def method(self) -> None: ...

    original = vars(Owner)["method"]
    patcher = Patcher("test")
    patcher.method(Owner, "method", lambda args, kwargs: None)
    taken_back = []
    patcher.on_undo(lambda: taken_back.append(1))
    patcher.on_undo(lambda: 1 / 0)
    assert vars(Owner)["method"] is not original
    patcher.undo()
    assert vars(Owner)["method"] is original
    assert taken_back == [1]
    assert told == ["test: taking back"]


def test_no_frame_of_kobs_is_in_a_traceback() -> None:
    patcher = Patcher("watch")
    patcher.method(Victim, "fails", lambda a, k: True)
    with pytest.raises(ValueError, match="its own") as caught:
        Victim().fails()
    patcher.undo()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names == ["test_no_frame_of_kobs_is_in_a_traceback", "fails"]
    assert caught.value.__context__ is None


def test_what_kobs_does_inside_a_hook_is_not_seen() -> None:
    seen: list[int] = []

    def before(args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        seen.append(1)
        Victim().method(1)

    patcher = Patcher("watch")
    patcher.method(Victim, "method", before)
    Victim().method(1)
    patcher.undo()
    assert seen == [1]


def test_a_module_is_patched_when_it_is_imported(tmp_path, monkeypatch) -> None:
    (tmp_path / "imported_later.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    finders, find = list(sys.meta_path), sys.modules["_frozen_importlib"]._find_and_load
    came: list[str] = []
    patcher = Patcher("watch")
    patcher.when_imported("imported_later", lambda module: came.append(module.__name__))
    patcher.when_imported("queue", lambda module: came.append(module.__name__))
    assert came == ["queue"]
    assert sys.meta_path == finders
    ours = sys.modules["_frozen_importlib"]._find_and_load
    assert ours is not find
    # A debugger that leaves importlib out leaves this out too.
    assert ours.__globals__ is find.__globals__
    importlib.import_module("imported_later")
    assert came == ["queue", "imported_later"]
    patcher.undo()
    assert sys.modules["_frozen_importlib"]._find_and_load is find
    sys.modules.pop("imported_later")
