"""The shared memory watch."""

import os
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import ShareableList, SharedMemory

import pytest

import kobs
from kobs import (
    MemoryAllocated,
    MemoryFreed,
    ResourceLeaked,
    ShmCreated,
    ShmDestroyed,
    ShmRead,
    ShmWritten,
    handover,
)
from kobs.causality import CausalGraph
from kobs.context import Cause, cause
from kobs_instrumentation.watch import shm as watch
from tests.instrumentation.conftest import Ran, Runner


@pytest.fixture
def collector() -> Iterator[kobs.Collector]:
    token = cause.set(None)
    with kobs.Collector(size=4096) as made:
        undo = watch.install(lambda: made)
        yield made
        undo()
        assert made.losses().errors == 0
    cause.reset(token)


def told(collector: kobs.Collector) -> list[kobs.PayloadType]:
    return [event.payload for event in collector.snapshot()]


def of(collector: kobs.Collector, *types: type) -> list[kobs.Event]:
    return [event for event in collector.snapshot() if isinstance(event.payload, types)]


@pytest.mark.says("create, attach, destroy")
def test_a_segment_s_life(collector: kobs.Collector) -> None:
    made = SharedMemory(create=True, size=100)
    name, size = made.name, made.size
    made.close()
    made.close()
    made.unlink()
    assert told(collector) == [
        ShmCreated(name, size),
        MemoryAllocated(size, name),
        MemoryFreed(size, name),
        ShmDestroyed(name),
    ]
    assert len(handover.store_of(collector)) == 0, "nobody can map it any more"


@pytest.mark.says("create, attach, destroy")
def test_who_maps_it_is_linked_to_who_made_it(collector: kobs.Collector) -> None:
    cause.set(Cause(11, 0))
    made = SharedMemory(create=True, size=100)
    cause.set(Cause(22, 0))
    mapped = SharedMemory(name=made.name)
    assert cause.get() == Cause(22, 0)
    mapped.close()
    made.close()
    made.unlink()
    created, mapping = of(collector, ShmCreated)[0], of(collector, MemoryAllocated)[1]
    assert mapping.causality_id == 22
    edges = [
        (edge.source.payload, edge.target.payload, edge.kind)
        for edge in CausalGraph(collector.snapshot()).edges
        if edge.kind == "link"
    ]
    assert edges == [(created.payload, mapping.payload, "link")]


def test_where_nothing_else_is_the_cause_the_maker_s_chain_goes_on(
    collector: kobs.Collector,
) -> None:
    made = SharedMemory(create=True, size=10)
    assert cause.get() is None
    mapped = SharedMemory(name=made.name)
    mapping = of(collector, MemoryAllocated)[1]
    (created,) = of(collector, ShmCreated)
    assert cause.get() == Cause(created.causality_id, mapping.id)
    assert mapping.causality_id == created.causality_id != 0
    mapped.close()
    made.close()
    made.unlink()


def test_one_that_cannot_be_made_or_mapped_tells_nothing(collector: kobs.Collector) -> None:
    made = SharedMemory(create=True, size=10)
    collector.reset()
    with pytest.raises(FileExistsError):
        SharedMemory(name=made.name, create=True, size=10)
    with pytest.raises(FileNotFoundError):
        SharedMemory(name="no-such-segment")
    with pytest.raises(ValueError, match="positive"):
        SharedMemory(create=True)
    assert told(collector) == []
    made.close()
    made.unlink()


def test_a_segment_from_before_the_watch() -> None:
    made = SharedMemory(create=True, size=10)
    with kobs.Collector(size=16) as collector:
        undo = watch.install(lambda: collector)
        made.close()
        made.unlink()
        undo()
        assert told(collector) == [MemoryFreed(made.size, made.name), ShmDestroyed(made.name)]


class Mine(SharedMemory):
    """A subclass that calls what it inherits."""

    def __init__(self, size: int) -> None:
        super().__init__(None, True, size)


def test_a_subclass_is_told_once(collector: kobs.Collector) -> None:
    made = Mine(10)
    made.close()
    made.unlink()
    assert [type(payload) for payload in told(collector)] == [
        ShmCreated, MemoryAllocated, MemoryFreed, ShmDestroyed,
    ]  # fmt: skip


class TestLists:
    @pytest.fixture
    def items(self, collector: kobs.Collector) -> Iterator[ShareableList]:
        made = ShareableList([1, "text", b"bytes", 2.5, None])
        collector.reset()
        yield made
        made.shm.close()
        made.shm.unlink()

    def test_items_are_what_they_were(self, items: ShareableList) -> None:
        items[0] = 7
        assert list(items) == [7, "text", b"bytes", 2.5, None]
        assert items.index("text") == 1
        with pytest.raises(IndexError):
            items[9]

    @pytest.mark.says("reads and writes")
    def test_those_that_follow_closely_are_told_together(
        self, collector: kobs.Collector, items: ShareableList
    ) -> None:
        name = items.shm.name
        for _ in range(3):
            items[0] = 7
        assert items[1] == "text"
        assert items[2] == b"bytes"
        assert told(collector) == [ShmWritten(name, 8), ShmRead(name, 4)]
        watch._reads.end_all()
        watch._writes.end_all()
        assert told(collector)[2:] == [ShmRead(name, 5), ShmWritten(name, 16)]

    def test_another_chain_is_told_at_once(
        self, collector: kobs.Collector, items: ShareableList
    ) -> None:
        for chain in (11, 11, 22):
            cause.set(Cause(chain, 0))
            items[0] = chain
        written = of(collector, ShmWritten)
        assert [(e.causality_id, e.payload.size) for e in written] == [(11, 8), (22, 16)]

    def test_a_read_continues_the_chain_of_the_last_write(
        self, collector: kobs.Collector, items: ShareableList
    ) -> None:
        cause.set(Cause(11, 0))
        items[0] = 5
        cause.set(Cause(22, 0))
        assert items[0] == 5
        (written,), (read,) = of(collector, ShmWritten), of(collector, ShmRead)
        assert written.link == read.link != 0
        assert cause.get() == Cause(11, read.id)

    def test_a_read_of_what_another_chain_wrote_since_is_told_at_once(
        self, collector: kobs.Collector, items: ShareableList
    ) -> None:
        for chain in (11, 22):
            token = cause.set(Cause(chain, 0))
            items[0] = chain
            cause.reset(token)
            assert items[0] == chain
            assert items[0] == chain
            assert cause.get().causality_id == chain
        assert [e.causality_id for e in of(collector, ShmRead)] == [11, 22]

    def test_a_write_outside_of_any_chain_begins_one(
        self, collector: kobs.Collector, items: ShareableList
    ) -> None:
        items[0] = 5
        (written,) = of(collector, ShmWritten)
        assert written.causality_id != 0
        assert cause.get() is None

    def test_in_an_observed_call_there_is_one_event(
        self, collector: kobs.Collector, items: ShareableList
    ) -> None:
        @kobs.observe("shm", collector=collector)
        class ShmManager:
            def write(self, name: str, data: bytes) -> None:
                for index in (0, 1):
                    items[index] = data

            def create(self, name: str, size: int) -> SharedMemory:
                return SharedMemory(name, True, size)

            def destroy(self, segment: SharedMemory) -> None:
                segment.unlink()

        ShmManager().write(items.shm.name, b"abc")
        made = ShmManager().create(f"kobs-test-{os.getpid()}", 10)
        made.close()
        made.unlink()
        assert [type(payload) for payload in told(collector)] == [
            ShmWritten, ShmCreated, MemoryAllocated, MemoryFreed, ShmDestroyed,
        ]  # fmt: skip


# -- in programs ------------------------------------------------------------------------------

LEAKS = """
    from multiprocessing import shared_memory, resource_tracker
    def make(unlink):
        made = shared_memory.SharedMemory(create=True, size=64)
        made.close()
        if unlink:
            made.unlink()
        else:
            resource_tracker.unregister(made._name, "shared_memory")  # or it tidies up and warns
        return made.name
    make(True)
    print(make(False))
"""


def remove(*names: str) -> None:
    for name in names:
        os.unlink(f"/dev/shm/{name}")


@pytest.mark.says("shared memory never unlinked")
def test_a_segment_that_nobody_unlinks_is_a_leak_of_who_made_it(runner: Runner) -> None:
    ran = runner.script(LEAKS)
    name = ran.out.strip()
    remove(name)
    (leaked,) = ran.events(ResourceLeaked)
    created = next(e for e in ran.events(ShmCreated) if e.payload.name == name)
    assert leaked.payload == ResourceLeaked(f"shared memory {name} made at program.py:4", 1)
    assert leaked.parent == created.id
    assert leaked.severity == kobs.Severity.WARN


def test_one_that_another_process_unlinks_is_none(runner: Runner) -> None:
    ran = runner.script(
        """
        import sys, subprocess
        from multiprocessing import shared_memory, resource_tracker
        code = '''if True:
            from multiprocessing import shared_memory, resource_tracker
            for _ in range(2):
                made = shared_memory.SharedMemory(create=True, size=64)
                resource_tracker.unregister(made._name, "shared_memory")
                print(made.name)
        '''
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        ours, theirs = done.stdout.split()
        mapped = shared_memory.SharedMemory(name=ours)
        mapped.close()
        mapped.unlink()
        print(theirs)
        """
    )
    name = ran.out.strip()
    remove(name)
    (leaked,) = ran.events(ResourceLeaked)
    assert leaked.payload.resource.startswith(f"shared memory {name} made at <string>:4")
    created = next(e for e in ran.events(ShmCreated) if e.payload.name == name)
    assert leaked.parent == created.id
    assert leaked.pid != created.pid


FORKED = """
    import os
    from multiprocessing import get_context, shared_memory

    def work(name):
        mapped = shared_memory.SharedMemory(name=name)
        mapped.buf[0] = 7
        mapped.close()

    if __name__ == "__main__":
        made = shared_memory.SharedMemory(create=True, size=64)
        child = get_context({method!r}).Process(target=work, args=(made.name,))
        child.start()
        child.join()
        print(made.buf[0])
        made.close()
        made.unlink()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_cause_crosses_processes_by_the_segment_s_name(
    both: Callable[..., tuple[Ran, Ran]], method: str
) -> None:
    bare, recorded = both(FORKED.replace("{method!r}", repr(method)))
    assert (recorded.out, recorded.err) == (bare.out, bare.err) == ("7\n", "")
    assert recorded.events(ResourceLeaked) == []
    (created,) = recorded.events(ShmCreated)
    mapping = next(e for e in recorded.events(MemoryAllocated) if e.pid != created.pid)
    graph = CausalGraph(recorded.events())
    links = [e.source.payload for e in graph.edges if e.kind == "link" and e.target == mapping]
    assert links == [created.payload]
    assert len(recorded.events(ShmCreated, ShmDestroyed)) == 2
