"""What the limits of a process are, read from folders that look like `/proc` and `/sys`."""

import os
import sys
from pathlib import Path

import pytest

from kobs_instrumentation.watch._limits import Limits, Usage, read

MB = 1 << 20


class Machine:
    """A `/proc` and `/sys` of our own making."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/self/statm", "25600 2560 100 1 0 500 0\n")
        self.write("proc/meminfo", f"MemTotal: {1024 * 1024} kB\nMemFree: 5 kB\n")

    def write(self, path: str, text: object) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(text))

    def group(self, path: str, used: object, limit: object, cache: int = 0, **more: object) -> None:
        folder = f"sys/fs/cgroup/{path}".rstrip("/")
        self.write(f"{folder}/memory.current", used)
        self.write(f"{folder}/memory.max", limit)
        self.write(f"{folder}/memory.stat", f"anon 5\nactive_file 9\ninactive_file {cache}\n")
        for name, value in more.items():
            self.write(f"{folder}/memory.{name}", value)

    def old_group(self, path: str, used: int, limit: int, cache: int = 0) -> None:
        folder = f"sys/fs/cgroup/memory/{path}".rstrip("/")
        self.write(f"{folder}/memory.usage_in_bytes", used)
        self.write(f"{folder}/memory.limit_in_bytes", limit)
        self.write(f"{folder}/memory.stat", f"inactive_file 1\ntotal_inactive_file {cache}\n")

    def limits(self) -> Limits:
        return Limits(str(self.root))

    def usage(self) -> Usage:
        usage = self.limits().usage()
        assert usage is not None
        return usage


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.says("pressure from a cgroup's limit")
def test_a_cgroup_s_limit_without_the_cache_that_would_be_dropped(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/app\n")
    machine.group("app", 90 * MB, 100 * MB, cache=10 * MB)
    usage = machine.usage()
    assert usage == Usage("cgroup", 80 * MB, 100 * MB)
    assert usage.percent == pytest.approx(80)
    assert usage.available_mb == 20


def test_the_nearest_limit_of_the_groups_above_counts(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/slice/app\n")
    machine.group("slice/app", 50 * MB, 200 * MB)
    machine.group("slice", 90 * MB, 100 * MB)
    machine.group("", 95 * MB, "max")
    assert machine.usage() == Usage("cgroup", 90 * MB, 100 * MB)


def test_high_is_a_limit_too(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/app\n")
    machine.group("app", 50 * MB, "max", high=60 * MB)
    assert machine.usage() == Usage("cgroup", 50 * MB, 60 * MB)


def test_version_one(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/app\n0::/\n")
    machine.old_group("app", 90 * MB, 100 * MB, cache=5 * MB)
    machine.old_group("", 900 * MB, 9223372036854771712)
    assert machine.usage() == Usage("cgroup", 85 * MB, 100 * MB)


def test_in_a_container_the_path_may_be_the_host_s(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/docker/0123456789\n")
    machine.group("", 30 * MB, 100 * MB)
    assert machine.usage() == Usage("cgroup", 30 * MB, 100 * MB)


def test_a_limit_that_changes_is_seen(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/app\n")
    machine.group("app", 50 * MB, 100 * MB)
    limits = machine.limits()
    machine.group("app", 60 * MB, 80 * MB)
    assert limits.usage() == Usage("cgroup", 60 * MB, 80 * MB)


def test_without_any_limit_it_is_this_process_beside_the_machine(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/\n")
    assert machine.usage() == Usage("total", 2560 * os.sysconf("SC_PAGE_SIZE"), 1024 * MB)


def test_where_nothing_is_known_nothing_is_said(tmp_path: Path) -> None:
    limits = Limits(str(tmp_path))
    assert limits.usage() is None
    assert limits.resident() == (0, 0)
    assert limits.stalled() == 0.0


@pytest.mark.parametrize(
    ("path", "expected"),
    [("sys/fs/cgroup/app/memory.pressure", 12.5), ("proc/pressure/memory", 3.0)],
)
@pytest.mark.says("pressure from PSI")
def test_stalls_are_the_group_s_else_the_machine_s(
    machine: Machine, path: str, expected: float
) -> None:
    machine.write("proc/self/cgroup", "0::/app\n")
    machine.group("app", 1, "max")
    machine.write(
        path, f"some avg10={expected} avg60=0.00 avg300=0.00 total=5\nfull avg10=1.00 total=1\n"
    )
    assert machine.limits().stalled() == expected


def test_the_address_space_may_be_the_nearest(tmp_path: Path) -> None:
    import subprocess

    code = """if True:
        import resource
        from kobs_instrumentation.watch._limits import Limits
        mapped, _ = Limits().resident()
        resource.setrlimit(resource.RLIMIT_AS, (mapped * 5 // 4, resource.RLIM_INFINITY))
        usage = Limits().usage()
        print(usage.source, 70 < usage.percent < 90)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "address space True\n"


def test_reading_is_not_noticed(tmp_path: Path) -> None:
    """No audit event, and no descriptor that stays."""
    file = tmp_path / "file"
    file.write_text("text")
    told: list[str] = []
    on = [True]
    sys.addaudithook(lambda event, _: told.append(event) if on else None)
    before = os.listdir("/proc/self/fd")
    told.clear()
    try:
        assert read(str(file)) == b"text"
        assert read(str(tmp_path / "missing")) == b""
        assert told == []
    finally:
        on.clear()
    assert os.listdir("/proc/self/fd") == before
