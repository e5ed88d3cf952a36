"""The memory watch: collections, levels, and that nobody sees it watch."""

import contextlib
import gc
import mmap
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import pytest

import kobs
from kobs import GcPaused, MemoryAllocated, MemoryFreed, MemoryPressure, MetricUpdate, Severity
from kobs._core import select
from kobs.context import Cause, cause
from kobs.muted import muted
from kobs_instrumentation.watch import memory
from kobs_instrumentation.watch._limits import Limits, Usage
from tests.instrumentation.conftest import Ran, Runner

MB = 1 << 20
native = pytest.mark.skipif(select().name != "c", reason="the Python core is seen")


@pytest.fixture
def collector() -> Iterator[kobs.Collector]:
    gc.collect()
    gc.disable()  # no collection but those that a test asks for
    with kobs.Collector(size=256) as made:
        undo = memory.install(lambda: made)
        yield made
        undo()
        assert made.losses().errors == 0
    gc.enable()


def of(collector: kobs.Collector, *types: type) -> list[kobs.Event]:
    return [event for event in collector.snapshot() if isinstance(event.payload, types)]


class TestCollections:
    @pytest.mark.says("GC pauses")
    def test_each_that_is_asked_for_is_told(self, collector: kobs.Collector) -> None:
        collected = [gc.collect(generation) for generation in (0, 1, 2)]
        told = [event.payload for event in of(collector, GcPaused)]
        assert [payload.generation for payload in told] == [0, 1, 2]
        assert [payload.collected for payload in told] == collected
        assert all(0 < payload.duration_us < 10e6 for payload in told)

    def test_its_result_and_errors_are_the_collector_s_own(self, collector: kobs.Collector) -> None:
        cycle: list[Any] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1
        with pytest.raises(ValueError, match="invalid generation"):
            gc.collect(7)
        assert memory._collections.asked == []

    def test_short_ones_of_the_young_are_counted(
        self, collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory._collections.tell_short()  # those of whoever watched before
        collector.reset()
        memory._collections.ended(0, 20.0, 1)
        memory._collections.ended(1, 30.0, 1)
        memory._collections.ended(0, 2000.0, 3)
        assert [event.payload for event in of(collector, GcPaused)] == [GcPaused(0, 2000.0, 3)]
        memory._levels.look(0)
        (counted,) = (e.payload for e in of(collector, MetricUpdate) if "gc" in e.payload.name)
        assert (counted.name, counted.value) == ("gc.short_pauses_us", 50.0)
        assert counted.labels == {"collections": 2}

    @pytest.mark.says("GC pauses")
    def test_automatic_ones_are_seen(self, collector: kobs.Collector) -> None:
        before = memory._collections.short
        gc.enable()
        kept = [[number] for number in range(5000)]
        gc.disable()
        assert len(kept) == 5000
        assert memory._collections.short + len(of(collector, GcPaused)) > before

    def test_inside_of_kobs_they_are_told_later(self, collector: kobs.Collector) -> None:
        with muted():
            gc.collect()
        assert of(collector, GcPaused) == []
        gc.collect(1)
        assert [event.payload.generation for event in of(collector, GcPaused)] == [2, 1]

    def test_those_left_are_told_at_the_end(self) -> None:
        with kobs.Collector(size=64) as collector:
            undo = memory.install(lambda: collector)
            with muted():
                gc.collect()
            undo()
            assert [event.payload.generation for event in of(collector, GcPaused)] == [2]

    def test_who_runs_meanwhile_did_not_cause_them(self, collector: kobs.Collector) -> None:
        token = cause.set(Cause(11, 5))
        try:
            gc.collect()
        finally:
            cause.reset(token)
        (event,) = of(collector, GcPaused)
        assert (event.causality_id, event.parent) == (0, 0)

    def test_in_an_observed_call_there_is_one_event(self, collector: kobs.Collector) -> None:
        @kobs.observe("memory", collector=collector)
        class MemoryManager:
            def collect(self, generation: int = 2) -> int:
                return gc.collect(generation)

        MemoryManager().collect(1)
        assert [event.payload.generation for event in of(collector, GcPaused)] == [1]


class TestUnseen:
    @native
    def test_the_list_of_callbacks_is_the_program_s(self) -> None:
        before = list(gc.callbacks)  # Hypothesis has one, once it was used
        with kobs.Collector(size=16) as collector:
            undo = memory.install(lambda: collector)
            watched = list(gc.callbacks)
            undo()
        assert watched == before == gc.callbacks

    def test_the_program_s_callbacks_are_called_as_ever(self, collector: kobs.Collector) -> None:
        called: list[Any] = []

        def callback(phase: str, info: dict[str, int]) -> None:
            called.append((phase, dict(info)))

        gc.callbacks.append(callback)
        try:
            gc.collect(1)
        finally:
            gc.callbacks.remove(callback)
        assert [phase for phase, _ in called] == ["start", "stop"]
        assert called[0][1] == {"generation": 1, "collected": 0, "uncollectable": 0}
        assert called[1][1].keys() == called[0][1].keys()

    def test_an_error_in_one_is_told_as_ever(
        self, collector: kobs.Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.object))

        def callback(phase: str, info: dict[str, int]) -> None:
            raise RuntimeError(phase)

        gc.callbacks.append(callback)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(callback)
        assert told == [callback, callback]
        assert len(of(collector, GcPaused)) == 1

    @native
    def test_references_are_the_same(self) -> None:
        callbacks = gc.callbacks
        before = sys.getrefcount(callbacks)
        undo = memory.install(lambda: None)
        during = sys.getrefcount(callbacks)
        undo()
        after = sys.getrefcount(callbacks)
        assert (before, during, after) == (before,) * 3

    def test_an_error_of_ours_is_none_of_the_program_s(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", told.append)

        broken: list[bool] = []

        def get() -> None:
            if broken:
                raise RuntimeError("inside kobs")

        undo = memory.install(get)
        broken.append(True)
        gc.collect()
        broken.clear()
        undo()
        assert told == []

    def test_no_thread_and_no_descriptor(self, both: Callable[..., tuple[Ran, Ran]]) -> None:
        bare, recorded = both(
            """
            import gc, os, threading, time
            def state():
                return threading.active_count(), len(os.listdir("/proc/self/task")), \\
                    sorted(os.listdir("/proc/self/fd"))
            before = state()
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                gc.collect()
                time.sleep(0.001)  # or it is a flood, of which some are told
            gc.collect()
            print(state() == before, before[:2], gc.callbacks, len(before[2]))
            """
        )
        assert recorded.out == bare.out
        assert recorded.err == bare.err
        assert recorded.events(GcPaused)
        resident = [e for e in recorded.events(MetricUpdate) if e.payload.name == "memory.resident"]
        assert resident[0].payload.value > MB


class TestLevels:
    @pytest.fixture
    def usage(self, monkeypatch: pytest.MonkeyPatch) -> list[Usage]:
        now = [Usage("cgroup", 10 * MB, 100 * MB)]
        monkeypatch.setattr(Limits, "usage", lambda self: now[0])
        return now

    @pytest.mark.says("pressure over 75 % and 90 %")
    def test_pressure_is_told_as_it_comes_and_goes(
        self, collector: kobs.Collector, usage: list[Usage]
    ) -> None:
        for used in (10, 74, 76, 80, 91, 95, 80, 20, 10):
            usage[0] = Usage("cgroup", used * MB, 100 * MB)
            memory._levels.look(0)
        told = [(e.severity, e.payload) for e in of(collector, MemoryPressure)]
        assert told == [
            (Severity.WARN, MemoryPressure(76, 24)),
            (Severity.ERROR, MemoryPressure(91, 9)),
            (Severity.WARN, MemoryPressure(80, 20)),
            (Severity.INFO, MemoryPressure(20, 80)),
        ]

    @pytest.mark.says("pressure from PSI")
    def test_stalls_are_pressure_too(
        self, collector: kobs.Collector, usage: list[Usage], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Limits, "stalled", lambda self: 80.0)
        memory._levels.look(0)
        (event,) = of(collector, MemoryPressure)
        assert (event.severity, event.payload.usage_pct) == (Severity.WARN, 10)
        assert ("memory.stalled", 80.0) in [
            (e.payload.name, e.payload.value) for e in of(collector, MetricUpdate)
        ]

    def test_a_figure_that_is_sampled_out_is_told_at_the_next_look(self) -> None:
        with kobs.Collector(size=64, sampling=0) as made:
            undo = memory.install(lambda: made)
            memory._levels.look(0)
            assert of(made, MetricUpdate) == []
            made.sampler.rate = 100.0
            for _ in range(2):
                memory._levels.look(0)
            undo()
            told = [e.payload.name for e in of(made, MetricUpdate)]
        assert told.count("memory.resident") == 1

    def test_a_collection_is_an_occasion_to_look(
        self, collector: kobs.Collector, usage: list[Usage]
    ) -> None:
        usage[0] = Usage("cgroup", 80 * MB, 100 * MB)
        gc.collect()
        assert of(collector, MemoryPressure) == []  # it is not time yet
        memory._levels.due_ns = 0
        gc.collect()
        assert len(of(collector, MemoryPressure)) == 1

    def test_what_tracemalloc_counts_where_the_program_has_it_on(
        self, collector: kobs.Collector
    ) -> None:
        memory._levels.look(0)
        tracemalloc.start()
        try:
            block = bytearray(3 * MB)
            memory._levels.look(0)
            del block
            memory._levels.look(0)
        finally:
            tracemalloc.stop()
        memory._levels.look(0)
        (more,) = of(collector, MemoryAllocated)
        (less,) = of(collector, MemoryFreed)
        assert more.payload.region_id == less.payload.region_id == "tracemalloc"
        for event in (more, less):
            assert event.payload.size == pytest.approx(3 * MB, rel=0.1)

    def test_it_is_never_switched_on(self, collector: kobs.Collector) -> None:
        memory._levels.look(0)
        assert not tracemalloc.is_tracing()


@native
class TestMappings:
    @pytest.mark.says("allocations and frees")
    def test_what_is_mapped_resized_and_closed(self, collector: kobs.Collector) -> None:
        with mmap.mmap(-1, 4096) as one:
            one[0] = 1
        two = mmap.mmap(-1, 4096)
        two.resize(8192)
        two.close()
        two.close()
        first, second = (f"mmap-{number}" for number in last(2))
        assert [event.payload for event in of(collector, MemoryAllocated, MemoryFreed)] == [
            MemoryAllocated(4096, first), MemoryFreed(4096, first),
            MemoryAllocated(4096, second), MemoryFreed(4096, second),
            MemoryAllocated(8192, second), MemoryFreed(8192, second),
        ]  # fmt: skip

    def test_one_that_is_forgotten_is_freed_when_it_goes(self, collector: kobs.Collector) -> None:
        mapping = mmap.mmap(-1, 4096)
        del mapping
        assert [type(e.payload) for e in of(collector, MemoryAllocated, MemoryFreed)] == [
            MemoryAllocated, MemoryFreed,
        ]  # fmt: skip

    def test_subclasses_from_before_and_after(self) -> None:
        class Early(mmap.mmap):
            pass

        with kobs.Collector(size=64) as collector:
            undo = memory.install(lambda: collector)

            class Late(mmap.mmap):
                def __new__(cls, size: int) -> "Late":
                    return super().__new__(cls, -1, size)

            made = [Early(-1, 4096), Late(4096), mmap.mmap.__new__(Early, -1, 4096)]
            undo()
            assert len(of(collector, MemoryAllocated)) == 3
            made += [Early(-1, 4096), Late(4096), mmap.mmap.__new__(Late, -1, 4096)]
            made.clear()
            assert of(collector, MemoryFreed) == []
            again = memory.install(lambda: collector)
            Early(-1, 4096).close()
            again()
            assert len(of(collector, MemoryAllocated)) == 4

    def test_an_export_keeps_it_open(self, collector: kobs.Collector) -> None:
        mapping = mmap.mmap(-1, 4096)
        view = memoryview(mapping)
        with pytest.raises(BufferError):
            mapping.close()
        assert of(collector, MemoryFreed) == []
        view.release()
        mapping.close()
        assert len(of(collector, MemoryFreed)) == 1

    def test_shared_memory_s_are_told_by_its_watch(self, collector: kobs.Collector) -> None:
        made = SharedMemory(create=True, size=10)
        made.close()
        made.unlink()
        assert of(collector, MemoryAllocated, MemoryFreed) == []

    def test_what_kobs_maps_is_not_told(self, collector: kobs.Collector) -> None:
        kobs.Collector(size=64).close()
        assert of(collector, MemoryAllocated, MemoryFreed) == []


def last(count: int) -> range:
    """The numbers of the mappings that were made last."""
    now = memory._mapped._count
    return range(now - count + 1, now + 1)


@pytest.mark.says("pressure over 75 % and 90 %", "pressure of a real process")
def test_a_process_that_uses_up_its_address_space(runner: Runner) -> None:
    ran = runner.script(
        """
        import gc, resource
        from kobs_instrumentation.watch import memory
        mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        limit = 4 * mapped + (400 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        for share in (0.5, 0.82, 0.95, 0.5):
            block = None
            block = bytearray(int(limit * share) - mapped)
            memory._levels.due_ns = 0  # a second has gone by
            gc.collect()
        """
    )
    pressure = ran.events(MemoryPressure)
    told = [(event.severity, event.payload.usage_pct) for event in pressure]
    assert [severity for severity, _ in told] == [Severity.WARN, Severity.ERROR, Severity.INFO]
    assert 75 <= told[0][1] < 90 <= told[1][1]
    assert pressure[1].payload.available_mb < pressure[0].payload.available_mb


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Path]:
    """A real cgroup that may use 256 MiB."""
    limits = Limits()
    of_us = limits._groups[0].used if limits._groups else ""
    folder = Path(of_us).parent / f"kobs-{os.getpid()}-{tmp_path.name}"
    limit = folder / Path(limits._groups[0].limits[0]).name if of_us else folder
    try:
        folder.mkdir()
        limit.write_text(str(256 << 20))
    except OSError as error:
        if folder.is_dir() and of_us:
            folder.rmdir()
        pytest.skip(f"no cgroup with a limit of memory can be made here: {error}")
    yield folder
    for _ in range(100):  # who ended is in it for a moment
        with contextlib.suppress(OSError):
            return folder.rmdir()
        time.sleep(0.05)
    raise AssertionError(f"{folder} could not be removed")


@pytest.mark.says("pressure over 75 % and 90 %", "pressure of a real process")
def test_a_process_that_uses_up_the_memory_of_its_cgroup(runner: Runner, limited: Path) -> None:
    program = runner.write("""
        import gc
        from kobs_instrumentation.watch import memory
        for share in (0.5, 0.82, 0.94, 0.5):
            block = None
            usage = memory._levels.limits.usage()
            block = b"x" * (int(usage.limit * share) - usage.used)
            memory._levels.due_ns = 0  # a second has gone by
            gc.collect()
    """)
    session = runner.folder / "session"
    enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    command = (sys.executable, "-m", "kobs", "run", "-q", "-o", str(session), str(program))
    ran = runner.bare("sh", "-c", enter, str(limited), *command)
    assert ran.code == 0, ran.err
    pressure = ran._replace(session=session).events(MemoryPressure)
    told = [(event.severity, event.payload.usage_pct) for event in pressure]
    assert [severity for severity, _ in told] == [Severity.WARN, Severity.ERROR, Severity.INFO]
    assert 75 <= told[0][1] < 90 <= told[1][1]
    assert pressure[1].payload.available_mb < pressure[0].payload.available_mb <= 64


def test_threads_that_collect_at_once(collector: kobs.Collector) -> None:
    def collect() -> None:
        for _ in range(50):
            gc.collect(0)

    threads = [threading.Thread(target=collect) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory._collections.asked == []
    # One that comes while another is under way does nothing.
    assert 1 <= len(of(collector, GcPaused)) <= 200


def test_the_python_core_takes_its_callback_back() -> None:
    code = """if True:
        import gc, kobs
        from kobs_instrumentation.watch import memory
        mine = lambda phase, info: None
        gc.callbacks.append(mine)
        with kobs.Collector(size=64) as collector:
            undo = memory.install(lambda: collector)
            assert len(gc.callbacks) == 2, gc.callbacks
            gc.collect()
            undo()
            undo()
            assert gc.callbacks == [mine], gc.callbacks
            assert [e.payload.generation for e in collector.snapshot()
                    if type(e.payload) is kobs.GcPaused] == [2]
    """
    subprocess.run([sys.executable, "-c", code], check=True, env={"KOBS_CORE": "python"})
