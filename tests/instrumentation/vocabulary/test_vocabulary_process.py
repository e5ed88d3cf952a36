"""Each event of the vocabulary `process`, each field held against what really happened."""

import os
import signal
from typing import Any

from minikernel import (
    ProcessManager,
)
from minikernel.process import read_state

from kobs import (
    ProcessCreated,
    ProcessStateChanged,
    ProcessTerminated,
    ResourceLeaked,
    ResourceReclaimed,
)

SUBSYSTEM = "process"


def test_ProcessCreated__the_child_with_its_name_and_niceness(stage: Any) -> None:
    with stage.watch(ProcessManager()) as manager:
        pid = manager.spawn("sleeper", ["sleep", "60"], priority=4)
        assert os.getpriority(os.PRIO_PROCESS, pid) == 4 + os.getpriority(os.PRIO_PROCESS, 0)
        event = stage.one(ProcessCreated)
    assert event.payload == ProcessCreated(name="sleeper", priority=4)
    assert event.pid == pid != os.getpid()


def test_ProcessTerminated__every_way_to_end(stage: Any) -> None:
    with stage.watch(ProcessManager()) as manager:
        three = manager.spawn("three", ["sh", "-c", "exit 3"])
        asked = manager.spawn("asked", ["sleep", "60"])
        made = manager.spawn("made", ["sleep", "60"])
        codes = manager.wait(three), manager.terminate(asked), manager.kill(made)
    assert codes == (3, -signal.SIGTERM, -signal.SIGKILL)
    assert [(event.pid, event.payload.exit_code) for event in stage.all(ProcessTerminated)] == [
        (three, 3),
        (asked, -signal.SIGTERM),
        (made, -signal.SIGKILL),
    ]


def test_ProcessStateChanged__the_states_that_the_system_has(stage: Any) -> None:
    with stage.watch(ProcessManager()) as manager:
        pid = manager.spawn("sleeper", ["sleep", "60"])
        manager.suspend(pid)
        assert read_state(pid) == "stopped"
        manager.resume(pid)
        os.kill(pid, signal.SIGKILL)
        manager.await_exit(pid)
        manager.poll_state(pid)
        manager.poll_state(pid)  # nothing changed since
        events = stage.all(ProcessStateChanged)
    assert [event.pid for event in events] == [pid] * 3
    stopped, resumed, ended = (event.payload for event in events)
    assert stopped.from_state != stopped.to_state == "stopped" == resumed.from_state
    assert resumed.to_state == ended.from_state
    assert ended.to_state == "zombie"


def test_ResourceReclaimed__the_zombies_that_were_reaped(stage: Any) -> None:
    with stage.watch(ProcessManager()) as manager:
        pids = [manager.spawn("forgotten", ["true"]) for _ in range(3)]
        for pid in pids:
            manager.await_exit(pid)
        assert manager.cleanup() == 3
        assert manager.cleanup() == 0  # and no event
    assert [read_state(pid) for pid in pids] == ["dead"] * 3
    assert stage.one(ResourceReclaimed).payload == ResourceReclaimed("process", 3)


def test_ResourceLeaked__the_zombies_that_are_there(stage: Any) -> None:
    with stage.watch(ProcessManager()) as manager:
        assert manager.find_zombies() == []  # and no event
        pids = [manager.spawn("forgotten", ["true"]) for _ in range(2)]
        for pid in pids:
            manager.await_exit(pid)
        assert manager.find_zombies() == pids
    assert stage.one(ResourceLeaked).payload == ResourceLeaked("zombie", 2)


def test_every_event_of_the_vocabulary_has_a_test_of_its_own(unproven: set[str]) -> None:
    assert unproven == set()
