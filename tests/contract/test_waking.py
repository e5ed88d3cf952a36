"""Who waits for events is woken by the next one, in whatever thread or process it happens."""

import os
import subprocess
import sys
import threading

import pytest

from kobs._core import doorbell as doorbells
from kobs.session import Session


@pytest.fixture(autouse=True)
def _no_look_meanwhile(monkeypatch):
    """A sleep ends by being woken or, long after the test failed, by its timeout."""
    monkeypatch.setattr(doorbells, "MOST_S", 60.0)


@pytest.mark.parametrize("kind", ["overwrite", "discard", "segmented"])
@pytest.mark.parametrize("lane", [0, 1])
def test_an_event_of_another_thread(make, writer, tmp_path, kind, lane):
    more = {
        "overwrite": {},
        "discard": {"overflow": "discard"},
        "segmented": {"path": tmp_path / "00001-1.kobs", "keep": 1 << 20},
    }[kind]
    ring = make(64, **more)
    write = writer(ring)
    for number in range(40):
        write(number, lane=lane)
    rung = ring.doorbell.arm()
    thread = threading.Thread(target=write, args=(1,), kwargs={"lane": lane})
    thread.start()
    ring.doorbell.wait(rung, 60)
    thread.join()
    assert ring.doorbell.words.tolist() == [0, 1]


def test_an_event_between_arming_and_waiting(make, writer):
    ring = make()
    rung = ring.doorbell.arm()
    writer(ring)(1)
    ring.doorbell.wait(rung, 60)


def test_many_who_wait_are_all_woken_and_cost_one_call(make, writer):
    ring = make()
    ready, gone = threading.Barrier(5), []

    def wait():
        rung = ring.doorbell.arm()
        ready.wait()
        ring.doorbell.wait(rung, 60)
        gone.append(1)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    ready.wait()
    write = writer(ring)
    for number in range(100):
        write(number)
    for thread in threads:
        thread.join()
    assert len(gone) == 4
    assert ring.doorbell.words.tolist() == [0, 1]  # nobody waits again: nobody is called again


def test_where_nobody_waits_nothing_is_rung(make, writer):
    ring = make()
    write = writer(ring)
    for number in range(100):
        write(number)
    assert ring.doorbell.words.tolist() == [0, 0]


def test_rings_without_a_session_have_a_doorbell_each(make, writer, tmp_path):
    one, other = make(), make(path=tmp_path / "00001-1.kobs")
    one.doorbell.arm()
    other.doorbell.arm()
    writer(one)(1)
    assert (one.doorbell.words[0], other.doorbell.words[0]) == (0, 1)


def test_an_event_of_another_process_of_the_session(core, make, tmp_path):
    session = Session.create("test", [], root=tmp_path)
    ring = make(path=session.recording_path(1, os.getpid()))
    rung = ring.doorbell.arm()
    program = (
        "from kobs._core import select\n"
        f"ring = select({core.name!r}).create(slots=64, path={session.recording_path(2, 1)!r},\n"
        "    overflow='overwrite', recording=2, session='', trace_high=0, parent_event=0,\n"
        "    sampling_rate=100.0)\n"
        "assert ring.publisher('')(0, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as child:
        ring.doorbell.wait(rung, 60)
        assert ring.doorbell.words.tolist() == [0, 1]
    assert child.returncode == 0


def test_a_sleep_ends_with_its_timeout(make):
    doorbell = make().doorbell
    doorbell.wait(doorbell.arm(), 0.01)
    doorbell.wait(doorbell.arm(), 0)
    assert doorbell.words.tolist() == [1, 0]
