"""The pipe watch."""

import fcntl
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import Pipe as ConnectionPair

import pytest

import kobs
from kobs import MessageReceived, MessageSent, MetricUpdate, PipeRead, PipeWritten
from kobs._core import select
from kobs.causality import CausalGraph
from kobs.context import Cause, cause
from kobs_instrumentation.watch import _pipes, pipe as watch, queue
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


@pytest.fixture
def ends(collector: kobs.Collector) -> Iterator[tuple[int, int]]:
    made = os.pipe()
    yield made
    for end in made:
        try:
            os.close(end)
        except OSError:
            pass


def of(collector: kobs.Collector, *types: type) -> list[kobs.Event]:
    return [event for event in collector.snapshot() if isinstance(event.payload, types)]


def links(collector: kobs.Collector) -> list[int | None]:
    """For each read the number of the write that its bytes are from."""
    sent = [event.link for event in of(collector, PipeWritten)]
    return [sent.index(event.link) if event.link else None for event in of(collector, PipeRead)]


@pytest.mark.says("reads and writes of pipes")
def test_what_is_read_and_written_is_told(collector: kobs.Collector, ends: tuple[int, int]) -> None:
    reader, writer = ends
    assert os.write(writer, b"hello") == 5
    assert os.read(reader, 100) == b"hello"
    os.close(writer)
    assert os.read(reader, 100) == b""
    written, read, end = of(collector, PipeWritten, PipeRead)
    label = f"pipe-{os.fstat(reader).st_ino}"
    assert written.payload == PipeWritten(label, 5)
    assert (read.payload, end.payload) == (PipeRead(label, 5), PipeRead(label, 0))
    assert (written.link, end.link) == (read.link, 0)


def test_a_read_continues_the_writer_s_chain(
    collector: kobs.Collector, ends: tuple[int, int]
) -> None:
    reader, writer = ends
    for chain in (11, 22):
        cause.set(Cause(chain, 0))
        os.write(writer, b"x" * 4)
    chains = []
    for _ in range(2):
        os.read(reader, 4)
        chains.append(cause.get().causality_id)
    assert chains == [11, 22]
    assert [e.causality_id for e in of(collector, PipeRead)] == [11, 22]


@pytest.mark.parametrize(
    ("written", "read", "expected"),
    [
        ([3, 3], [3, 3], [0, 1]),
        ([6], [2, 2, 2], [0, 0, 0]),
        ([2, 2, 2], [6], [0]),
        ([2, 4], [3, 3], [0, 1]),
        ([1, 1, 4], [3, 3], [0, 2]),
        ([5, 0, 5], [4, 4, 2], [0, 0, 2]),
    ],
)
def test_bytes_are_matched_by_their_offset(
    collector: kobs.Collector,
    ends: tuple[int, int],
    written: list[int],
    read: list[int],
    expected: list[int],
) -> None:
    reader, writer = ends
    for size in written:
        os.write(writer, bytes(size))
    for size in read:
        os.read(reader, size)
    assert links(collector) == expected


def test_a_write_of_which_only_a_part_went_in(
    collector: kobs.Collector, ends: tuple[int, int]
) -> None:
    reader, writer = ends
    os.set_blocking(writer, False)
    size = os.write(writer, bytes(1 << 20))
    assert size < 1 << 20
    with pytest.raises(BlockingIOError):
        os.write(writer, b"full")
    assert len(os.read(reader, size)) == size
    assert os.write(writer, b"next") == 4
    assert os.read(reader, 4) == b"next"
    assert links(collector) == [0, 1]
    assert [e.payload.size for e in of(collector, PipeWritten)] == [size, 4]


def test_vectors(collector: kobs.Collector, ends: tuple[int, int]) -> None:
    reader, writer = ends
    assert os.writev(writer, [b"ab", bytearray(b"cd"), memoryview(b"ef")]) == 6
    one, two = bytearray(4), bytearray(4)
    assert os.readv(reader, [one, two]) == 6
    assert (bytes(one), bytes(two)) == (b"abcd", b"ef\0\0")
    assert [e.payload.size for e in of(collector, PipeWritten, PipeRead)] == [6, 6]
    assert links(collector) == [0]


def test_a_thread_that_waits_for_it(collector: kobs.Collector, ends: tuple[int, int]) -> None:
    reader, writer = ends
    found: list[int] = []

    def wait() -> None:
        os.read(reader, 10)
        found.append(cause.get().causality_id)

    thread = threading.Thread(target=wait)
    thread.start()
    cause.set(Cause(11, 0))
    os.write(writer, b"go")
    thread.join()
    assert found == [11]


def test_several_writers_at_once_are_not_guessed_at(
    collector: kobs.Collector, ends: tuple[int, int]
) -> None:
    reader, writer = ends
    size = os.write(writer, bytes(65_536))
    threads = [threading.Thread(target=os.write, args=(writer, b"abcd")) for _ in range(2)]
    for thread in threads:
        thread.start()
    while _pipes.pipes[writer].in_write < 2:
        pass
    assert len(os.read(reader, size)) == size
    for thread in threads:
        thread.join()
    os.read(reader, 4)
    assert links(collector) == [None, None]


@pytest.mark.parametrize("how", ["dup", "dup2"])
def test_copies_are_the_same_pipe(
    collector: kobs.Collector, ends: tuple[int, int], how: str
) -> None:
    reader, writer = ends
    other = os.dup(writer) if how == "dup" else os.dup2(writer, os.open(os.devnull, os.O_RDONLY))
    os.close(writer)
    os.write(other, b"ab")
    os.close(other)
    assert os.read(reader, 2) == b"ab"
    assert links(collector) == [0]


def test_a_number_that_is_something_else_by_now_is_no_pipe(collector: kobs.Collector) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    open(reader, "rb").close()  # the file object's closing is not seen
    file = os.open(os.devnull, os.O_RDWR)
    try:
        assert file in (reader, writer)
        os.write(file, b"ab")
        os.read(file, 1)
    finally:
        os.close(file)
    assert of(collector, PipeRead, PipeWritten) == []


def test_other_descriptors_are_not_told(collector: kobs.Collector) -> None:
    file = os.open(os.devnull, os.O_RDWR)
    os.write(file, b"ab")
    os.read(file, 1)
    os.close(file)
    assert collector.snapshot() == []


def test_errors_are_the_program_s(collector: kobs.Collector, ends: tuple[int, int]) -> None:
    reader, writer = ends
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(reader, b"ab")
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"ab")
    with pytest.raises(TypeError):
        os.write(writer)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        os.write(writer, "text")  # type: ignore[arg-type]
    assert of(collector, PipeRead, PipeWritten) == []


@pytest.mark.parametrize("lowest", [3, 300])
def test_a_pipe_from_before_the_watch_is_told_and_not_linked(lowest: int) -> None:
    first = os.pipe()
    reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, lowest) for end in first)
    for end in first:
        os.close(end)
    os.write(writer, b"before")
    with kobs.Collector(size=64) as collector:
        undo = watch.install(lambda: collector)
        os.write(writer, b"after")
        os.read(reader, 6)
        os.read(reader, 5)
        undo()
        assert [e.payload.size for e in of(collector, PipeWritten, PipeRead)] == [5, 6, 5]
        assert links(collector) == [None, None]
    os.close(reader)
    os.close(writer)
    assert _pipes.pipes == {}


@pytest.mark.says("pipe throughput")
def test_throughput(collector: kobs.Collector, ends: tuple[int, int]) -> None:
    reader, writer = ends
    for _ in range(3):
        os.write(writer, bytes(1000))
        os.read(reader, 1000)
    os.close(reader)
    assert of(collector, MetricUpdate) == []
    os.close(writer)
    rates = [event.payload for event in of(collector, MetricUpdate)]
    assert [(p.name, p.labels["direction"]) for p in rates] == [
        ("pipe.throughput", "read"), ("pipe.throughput", "written"),
    ]  # fmt: skip
    assert all(p.value > 1000 for p in rates)
    assert {event.causality_id for event in of(collector, MetricUpdate)} == {0}


def test_in_an_observed_call_there_is_one_event_by_its_name(collector: kobs.Collector) -> None:
    @kobs.observe("pipe", collector=collector)
    class PipeManager:
        def __init__(self) -> None:
            self.ends = os.pipe()

        def write(self, pipe_id: str, data: bytes) -> int:
            return os.write(self.ends[1], data)

        def read(self, pipe_id: str, size: int) -> bytes:
            return os.read(self.ends[0], size)

    manager = PipeManager()
    manager.write("mine", b"abc")
    assert manager.read("mine", 10) == b"abc"
    assert [event.payload for event in of(collector, PipeWritten, PipeRead)] == [
        PipeWritten("mine", 3), PipeRead("mine", 3),
    ]  # fmt: skip
    assert links(collector) == [0]
    for end in manager.ends:
        os.close(end)


class TestConnections:
    def test_they_are_told_once_as_messages(self, collector: kobs.Collector) -> None:
        undo = queue.install(lambda: collector)
        for duplex in (True, False):
            one, two = ConnectionPair(duplex)
            two.send_bytes(b"abc")
            assert one.recv_bytes() == b"abc"
            one.close()
            two.close()
        undo()
        assert [type(e.payload) for e in collector.snapshot()] == [MessageSent, MessageReceived] * 2

    def test_where_nobody_tells_of_messages_they_are_pipes(self, collector: kobs.Collector) -> None:
        for duplex in (True, False):
            one, two = ConnectionPair(duplex)
            two.send_bytes(b"abc")
            assert one.recv_bytes() == b"abc"
            one.close()
            two.close()
        events = [event.payload for event in of(collector, PipeWritten, PipeRead)]
        assert [(type(p), p.size) for p in events] == [(PipeWritten, 3), (PipeRead, 3)] * 2


def test_what_subprocess_makes_for_itself_is_left_out(collector: kobs.Collector) -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)
    assert collector.snapshot() == []


def test_communicate_is_seen(collector: kobs.Collector) -> None:
    done = subprocess.run(["cat"], input=b"x" * 200_000, capture_output=True, check=True)
    assert done.stdout == b"x" * 200_000
    totals = {
        kind: sum(event.payload.size for event in of(collector, kind))
        for kind in (PipeWritten, PipeRead)
    }
    assert totals == {PipeWritten: 200_000, PipeRead: 200_000}


needs_c = pytest.mark.skipif(select().name != "c", reason="file objects are C types")


@needs_c
def test_file_objects_are_seen(collector: kobs.Collector, ends: tuple[int, int]) -> None:
    reader, writer = ends
    with open(writer, "wb") as out:
        out.write(b"one")
        out.flush()
        out.write(b"two!")
    with open(reader, "rb", buffering=0) as raw:
        buffer = bytearray(2)
        assert raw.read(1) == b"o"
        assert raw.readinto(buffer) == 2
        assert raw.readall() == b"two!"
        assert raw.read() == b""
    written = [event.payload.size for event in of(collector, PipeWritten)]
    read = [event.payload.size for event in of(collector, PipeRead)]
    assert (written, read) == ([3, 4], [1, 2, 4, 0])
    assert links(collector) == [0, 0, 1, None]
    assert _pipes.pipes.keys().isdisjoint(ends)


@needs_c
def test_a_file_object_that_would_block(collector: kobs.Collector, ends: tuple[int, int]) -> None:
    reader, writer = ends
    for end in ends:
        os.set_blocking(end, False)
    with open(reader, "rb", buffering=0) as out, open(writer, "wb", buffering=0) as into:
        assert out.read(1) is None
        assert out.readinto(bytearray(1)) is None
        size = into.write(bytes(1 << 20))
        assert into.write(b"full") is None
        assert len(out.read(size)) == size
    assert links(collector) == [0]


# -- in programs ------------------------------------------------------------------------------

FORK = """
    import os
    reader, writer = os.pipe()
    os.write(writer, b"before")
    pid = os.fork()
    if pid == 0:
        os.read(reader, 6)
        os.read(reader, 5)
        os._exit(0)
    os.write(writer, b"after")
    os.waitpid(pid, 0)
"""


def test_cause_crosses_a_fork_by_the_bytes_offset(runner: Runner) -> None:
    ran = runner.script(FORK)
    graph = CausalGraph(ran.events())
    crossing = [
        (edge.source.payload.size, edge.target.payload.size, edge.source.pid != edge.target.pid)
        for edge in graph.edges
        if edge.kind == "link" and isinstance(edge.target.payload, PipeRead)
    ]
    assert crossing == [(6, 6, True), (5, 5, True)]


@needs_c
def test_cause_crosses_to_a_child_by_its_input(runner: Runner) -> None:
    ran = runner.script(
        """
        import subprocess, sys
        code = "import sys; [print(len(line)) for line in sys.stdin]"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)
        child.stdin.write("one line\\n")
        child.stdin.flush()
        child.communicate("another\\n")
        """
    )
    assert ran.out == "9\n8\n"
    graph = CausalGraph(ran.events())
    crossing = [
        edge.source.pid != edge.target.pid
        for edge in graph.edges
        if edge.kind == "link" and isinstance(edge.target.payload, PipeRead)
    ]
    assert crossing in ([True], [True, True])  # the child may read both at once


def test_two_readers_are_not_guessed_at(runner: Runner) -> None:
    ran = runner.script(
        """
        import os
        reader, writer = os.pipe()
        done, go = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(reader, 2)
            os.write(done[1], b"!")
            os.read(go[0], 1)
            os.read(reader, 2)
            os._exit(0)
        os.write(writer, b"1.")
        os.read(done[0], 1)
        os.write(writer, b"2.")
        os.read(reader, 2)
        os.write(writer, b"3.")
        os.write(go[1], b"!")
        os.waitpid(pid, 0)
        """
    )
    events = ran.events(PipeRead, PipeWritten)
    label = events[0].payload.pipe_id
    mine = [event for event in events if event.payload.pipe_id == label]
    writes = [event.link for event in mine if isinstance(event.payload, PipeWritten)]
    reads = [event.link for event in mine if isinstance(event.payload, PipeRead)]
    assert len(writes) == len(reads) == 3
    assert reads == [writes[0], 0, 0]


def test_a_program_sees_nothing_of_it(both: Callable[..., tuple[Ran, Ran]]) -> None:
    bare, recorded = both(
        """
        import os, subprocess, sys, io, multiprocessing
        print(os.read, os.write.__name__, os.pipe.__module__, type(os.close))
        ends = os.pipe()
        print(ends, os.get_inheritable(ends[0]), sorted(os.listdir("/proc/self/fd")))
        child = subprocess.Popen([sys.executable, "-c", "print(input())"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(child.communicate(b"hello"), child.returncode)
        one, two = multiprocessing.Pipe()
        one.send([1, 2]); print(two.recv())
        try:
            os.read(ends[1], 1)
        except OSError as error:
            import traceback
            print(traceback.format_exc())
        """
    )
    assert recorded.out == bare.out
    assert recorded.err == bare.err


@needs_c
def test_a_file_object_is_asked_nothing(collector: kobs.Collector, ends: tuple[int, int]) -> None:
    asked = []

    class Curious(io.FileIO):
        def fileno(self) -> int:
            asked.append("fileno")
            return super().fileno()

        @property
        def closefd(self) -> bool:
            asked.append("closefd")
            return False

    with Curious(ends[1], "wb") as file:
        file.write(b"four")
    assert os.read(ends[0], 9) == b"four"
    assert asked == []
    sizes = [e.payload.size for e in collector.snapshot() if isinstance(e.payload, PipeWritten)]
    assert sizes == [4]
