"""Under a flood, adaptive sampling keeps whole chains and all that warns, and says what it left
out. Everything is counted, nothing is timed."""

import sys
from collections import defaultdict

import pytest

import kobs
from kobs import Category, IpcTimeout, MessageReceived, MessageSent, OperationSlow, SyscallExit

from .conftest import Runner


@pytest.fixture(autouse=True)
def _adaptive(runner: Runner) -> None:
    runner.adaptive = True


READS = 1_000_000
MESSAGES = 20_000
WARNINGS = 500


def test_a_million_small_reads(runner: Runner) -> None:
    """What is recorded and what is told to be left out make a million."""
    ran = runner.script(f"""
        import os
        descriptor = os.open("/dev/zero", os.O_RDONLY)
        for _ in range({READS}):
            os.read(descriptor, 1)
        for _ in range({WARNINGS}):
            try: os.read(descriptor + 1000, 1)
            except OSError: pass
        """)
    calls = [e for e in ran.events(SyscallExit) if e.payload.name == "read"]
    failed = [e for e in calls if e.payload.errno]
    with kobs.open_recording(ran.session) as recording:
        left_out = recording.left_out()
        losses = recording.losses()
    # Where the machine is slow, a look at the memory is taken meanwhile.
    flooded = Category.SYSCALL, Category.MEMORY, Category.PERFORMANCE
    assert sum(left_out.sampled_out) == sum(left_out.sampled_out[each] for each in flooded)
    assert losses.sampled_out - left_out.sampled_out[Category.SYSCALL] <= 10
    assert len(calls) - len(failed) <= READS / 10
    told = len(calls) - len(failed) + losses.sampled_out
    # Failed ones beyond the first of a second are no warnings, and are sampled as any other.
    assert READS <= told + len(failed) - WARNINGS <= READS + 1000  # and the interpreter's own calls
    assert len([e for e in failed if e.severity >= kobs.Severity.WARN]) >= 100
    report = runner.bare(sys.executable, "-m", "kobs", "report", str(ran.session))
    assert f"sampled out: {left_out.sampled_out[Category.SYSCALL]:,} syscall" in report.out


QUEUE = f"""
    import os, queue, sys, threading
    import kobs
    from kobs import OperationSlow

    collector = kobs.global_collector()
    collector.update_overhead(float(sys.argv[1]))
    requests, replies = queue.Queue(), queue.Queue()

    def work():
        while (number := requests.get()) is not None:
            if number % {MESSAGES // WARNINGS} == 0:
                collector.emit(OperationSlow(f"job {{number}}", 1.0, 1.0))
            replies.put(number)

    thread = threading.Thread(target=work)
    thread.start()
    for number in range({MESSAGES}):
        requests.put(number)
        assert replies.get() == number
        kobs.context.cause.set(None)  # the next message begins a chain
    requests.put(None)
    thread.join()
    try: replies.get(timeout=0.001)
    except queue.Empty: pass
    print(collector.sampling_rate() < 100)
    """


def test_a_queue_at_full_speed(runner: Runner) -> None:
    """Of a chain all is recorded or nothing, but what warns is recorded of all."""
    script = str(runner.write(QUEUE))
    ran = runner.kobs("--only", "queue", script, "30")
    assert (ran.code, ran.out) == (0, "True\n"), ran.err
    chains: dict[int, list[kobs.Event]] = defaultdict(list)
    messages = (MessageSent, MessageReceived)
    for event in ran.events(*messages):
        chains[event.causality_id].append(event)
    kept = [chain for chain in chains.values() if len(chain) == 4]
    assert 0 < len(kept) < MESSAGES
    rest = [chain for chain in chains.values() if len(chain) != 4]
    assert all(len(chain) == 2 for chain in rest)  # the end of the work: sent and received
    assert len(rest) <= 1
    for chain in kept:
        kinds = sorted(type(event.payload).__name__ for event in chain)
        assert kinds == ["MessageReceived"] * 2 + ["MessageSent"] * 2
        assert len({event.link for event in chain}) == 2

    slow = ran.events(OperationSlow)
    assert len(slow) == WARNINGS
    assert {event.partial for event in slow} == {True, False}
    assert all(event.partial == (event.causality_id not in chains) for event in slow)
    assert len(ran.events(IpcTimeout)) == 1

    with kobs.open_recording(ran.session) as recording:
        left_out = recording.left_out()
        assert recording.losses().sampled_out == sum(left_out.sampled_out)
    recorded = sum(map(len, chains.values()))
    assert recorded + left_out.sampled_out[Category.IPC] == 4 * MESSAGES + 2
    report = runner.bare(sys.executable, "-m", "kobs", "report", str(ran.session))
    assert f"sampled out: {left_out.sampled_out[Category.IPC]:,} ipc" in report.out


def test_it_adapts_by_itself(runner: Runner) -> None:
    """A program that spends some percent of its time on events has its rate lowered, and chains
    stay whole."""
    ran = runner.script("""
        import kobs
        from kobs import ContextSwitch, OperationSlow

        collector = kobs.global_collector()
        switch, chain = collector.emitter(ContextSwitch), 0
        after = 0
        while after < 2000:
            chain += 1
            for _ in range(10):
                switch(1, 2, "flood", causality_id=chain)
            sum(range(1500))
            after += collector.sampling_rate() < 100
        collector.emit(OperationSlow("end", 1.0, 1.0), causality_id=chain)
        print(chain)
        """)
    chains: dict[int, int] = defaultdict(int)
    for event in ran.events(kobs.ContextSwitch):
        if event.payload.reason == "flood":
            chains[event.causality_id] += 1
    number = int(ran.out)
    assert number > 2000
    assert set(chains.values()) == {10}
    with kobs.open_recording(ran.session) as recording:
        left_out = recording.left_out().sampled_out[Category.SCHEDULER]
        overwritten = recording.losses().overwritten
    assert left_out > 0
    assert 10 * len(chains) + left_out >= 10 * number - overwritten
    assert len(ran.events(OperationSlow)) == 1
