"""Each event of the vocabulary `shm`, each field held against what really happened."""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from minikernel import (
    ProcessManager,
    ShmManager,
)

from kobs import (
    ResourceLeaked,
    ShmCreated,
    ShmDestroyed,
    ShmRead,
    ShmWritten,
)

SUBSYSTEM = "shm"


def segment(word: str) -> str:
    return f"kobs-test-{os.getpid()}-{threading.get_native_id()}-{word}"


def test_ShmCreated__the_segment_that_is_there_now(stage: Any) -> None:
    memory = stage.watch(ShmManager())
    memory.create(segment("a"), 12_345)
    assert Path("/dev/shm", segment("a")).stat().st_size == 12_345
    with pytest.raises(FileExistsError):
        memory.create(segment("a"), 1)  # and no event
    memory.destroy(segment("a"))
    assert stage.one(ShmCreated).payload == ShmCreated(segment("a"), 12_345)


def test_ShmWritten__what_was_copied_into_it(stage: Any) -> None:
    memory = stage.watch(ShmManager())
    memory.create(segment("b"), 64)
    memory.write(segment("b"), b"words", offset=10)
    assert Path("/dev/shm", segment("b")).read_bytes()[10:15] == b"words"
    memory.destroy(segment("b"))
    assert stage.one(ShmWritten).payload == ShmWritten(segment("b"), 5)


def test_ShmRead__what_was_copied_out_of_it(stage: Any) -> None:
    writer, reader = stage.watch(ShmManager()), stage.watch(ShmManager())
    writer.create(segment("c"), 64)
    writer.write(segment("c"), b"old")
    writer.write(segment("c"), b"new")
    assert [reader.read(segment("c"), 3), reader.read(segment("c"), 2)] == [b"new", b"ne"]
    reader.close()
    writer.destroy(segment("c"))
    first, second = stage.all(ShmRead)
    assert first.payload == ShmRead(segment("c"), 3)
    assert second.payload == ShmRead(segment("c"), 2)
    # Both read what the second write left there.
    assert first.link == second.link == stage.all(ShmWritten)[1].link != 0


def test_ShmDestroyed__the_segment_that_is_gone(stage: Any) -> None:
    memory = stage.watch(ShmManager())
    memory.create(segment("d"), 1)
    memory.destroy(segment("d"))
    assert not Path("/dev/shm", segment("d")).exists()
    assert stage.one(ShmDestroyed).payload == ShmDestroyed(segment("d"))


def test_ResourceLeaked__segments_that_a_killed_process_left(stage: Any) -> None:
    memory = stage.watch(ShmManager())
    leave = (
        "import os, signal\n"
        "from minikernel.shm import ShmManager\n"
        f"for n in range(2): ShmManager().create(f'{segment('e')}-{{n}}', 16)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    examples = str(Path(__file__).parents[3] / "examples")
    with ProcessManager() as processes:
        pid = processes.spawn("messy", [sys.executable, "-c", leave], cwd=examples)
        assert processes.wait(pid, timeout=30) == -signal.SIGKILL
    leaked = memory.leaks(segment("e"))
    assert leaked == [f"{segment('e')}-0", f"{segment('e')}-1"]
    for name in leaked:
        memory.destroy(name)
    assert memory.leaks(segment("e")) == []  # and no event
    assert stage.one(ResourceLeaked).payload == ResourceLeaked("shared memory", 2)


def test_every_event_of_the_vocabulary_has_a_test_of_its_own(unproven: set[str]) -> None:
    assert unproven == set()
