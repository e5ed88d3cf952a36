"""A ring in a file: private, allocated up front, no descriptor left open, harmless if it fails."""

import os
import resource
import subprocess
import sys
import textwrap
import warnings

import pytest

from kobs._core import layout


def test_the_file_is_private_whole_and_allocated(make, tmp_path):
    ring = make(64, path=tmp_path / "a.kobs")
    found = os.stat(ring.path)
    assert found.st_mode & 0o777 == 0o600
    assert found.st_size == layout.plan(layout.Header(), 64)
    assert found.st_blocks * 512 >= found.st_size, "a sparse file is a SIGBUS on a full disk"
    assert os.listdir(tmp_path) == ["a.kobs"]


def test_no_descriptor_stays_open(make, core, tmp_path, writer):
    before = len(os.listdir("/proc/self/fd"))
    ring = make(64, path=tmp_path / "a.kobs", keep=1 << 30)
    write = writer(ring)
    for number in range(300):
        write(number)
    attached = core.attach(ring.path)
    assert len(attached.reader().read()) == 300
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_header_says_who_and_when(make, core, tmp_path):
    ring = make(64, path=tmp_path / "a.kobs")
    attached = core.attach(ring.path)
    assert (attached.recording, attached.pid, attached.ppid) == (7, os.getpid(), os.getppid())
    assert (attached.session, attached.trace_high) == ("5e" * 16, 0x1234)
    assert (attached.parent_event, attached.sampling_rate) == (99, 100.0)
    assert attached.core == core.name
    assert attached.segment == 0
    assert attached.command
    assert attached.damage == []
    assert not attached.closed
    assert attached.alive
    before = attached.refreshed_monotonic_ns
    ring.refresh_clocks()
    assert attached.refreshed_monotonic_ns > before
    drift = (attached.refreshed_wall_ns - attached.started_wall_ns) - (
        attached.refreshed_monotonic_ns - attached.started_monotonic_ns
    )
    assert abs(drift) < 1e9
    ring.close()
    assert attached.closed
    assert not attached.alive


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("missing/a.kobs", "No such file or directory"),
        ("exists.kobs", "it exists already"),
        ("file/a.kobs", "Not a directory"),
    ],
)
def test_without_a_file_the_ring_is_in_memory(make, writer, numbers, tmp_path, where, why):
    (tmp_path / "exists.kobs").write_bytes(b"mine")
    (tmp_path / "file").touch()
    with pytest.warns(RuntimeWarning, match=f"no recording at .*{where}: {why}"):
        ring = make(64, path=tmp_path / where)
    assert ring.path is None
    assert (tmp_path / "exists.kobs").read_bytes() == b"mine"
    reader = ring.reader()
    writer(ring)(5)
    assert numbers(reader.read()) == [5]


def test_where_there_is_no_space_the_ring_is_in_memory_and_no_file_is_left(make, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.warns(RuntimeWarning, match="no recording at .*: File too large"):
            ring = make(64, path=tmp_path / "a.kobs")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ring.path is None
    assert os.listdir(tmp_path) == []


def test_a_forked_child_that_closes_its_copy_does_not_close_the_parents(make, core, tmp_path):
    ring = make(64, path=tmp_path / "a.kobs")
    pid = os.fork()
    if pid == 0:
        ring.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert not core.attach(ring.path).closed


def test_a_writer_that_leaves_is_gone_in_order_and_its_threads_publish_on(core, tmp_path):
    code = f"""
        import os, threading, time
        from kobs._core import select
        ring = select({core.name!r}).create(slots=64, path={str(tmp_path / "a.kobs")!r},
            overflow="overwrite", recording=1, session="", trace_high=0, parent_event=0,
            sampling_rate=100.0)
        publish = ring.publisher("Q")
        left, done = threading.Event(), threading.Event()
        def other():
            left.wait()
            for number in range(200):
                publish(0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, number)
            done.set()
            time.sleep(60)
        threading.Thread(target=other, daemon=True).start()
        ring.leave()
        left.set()
        done.wait()
        print("left", flush=True)
        input()
        os._exit(0)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "left\n"
        attached = core.attach(str(tmp_path / "a.kobs"))
        assert (attached.closed, attached.alive) == (True, True)
        process.stdin.write("\n")
    assert process.returncode == 0
    assert (attached.closed, attached.alive) == (True, False)
    settled = core.attach(str(tmp_path / "a.kobs"))
    assert settled.produced() == 200
    assert len(settled.reader().read()) == 64
    assert settled.losses().overwritten == 136


def test_a_forked_child_that_leaves_does_not_close_the_parents(make, core, tmp_path):
    ring = make(64, path=tmp_path / "a.kobs")
    pid = os.fork()
    if pid == 0:
        ring.leave()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert not core.attach(ring.path).closed


def test_memory_goes_with_the_ring(core, tmp_path):
    code = f"""
        import gc
        from kobs._core import select
        core = select({core.name!r})
        def resident():
            for line in open("/proc/self/status"):
                if line.startswith("VmSize"):
                    return int(line.split()[1])
        def one(path=None):
            ring = core.create(slots=65536, path=path, overflow="overwrite", recording=1,
                session="", trace_high=0, parent_event=0, sampling_rate=100.0)
            ring.publisher("Q")(0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1)
            ring.reader(oldest=True).read()
            ring.close()
        one()
        before = resident()
        for number in range(20):
            one()
            one({str(tmp_path)!r} + f"/{{number}}.kobs")
            gc.collect()
        assert resident() - before < 40_000, resident() - before
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code)], check=True)


def test_a_default_ring_fits_in_14_mb():
    assert layout.plan(layout.Header(), layout.DEFAULT_SLOTS) < 14_000_000


def test_creating_a_ring_warns_of_nothing_else(make, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(64, path=tmp_path / "a.kobs")
