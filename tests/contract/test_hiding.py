"""What is hidden and sampled out by category: the same with either core, counted and told."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kobs
from kobs import (
    Category,
    Collector,
    FileChanged,
    FileOpened,
    FileSlow,
    MessageSent,
    OperationSlow,
    Severity,
    SyscallEnter,
    SyscallExit,
    SyscallResult,
    observe,
)
from kobs._core.contract import Core
from kobs.context import Cause, cause
from kobs.errors import ClosedError, ConfigError
from kobs.hiding import parse

Made = Callable[..., Collector]


@pytest.fixture
def collector(core: Core, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Makes collectors on the core under test."""
    monkeypatch.setattr("kobs.collector.select", lambda: core)
    made: list[Collector] = []

    def make(**options: Any) -> Collector:
        made.append(Collector(**{"size": 256, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def names(collector: Collector) -> list[str]:
    return [
        f"{e.type_name}:{e.name or getattr(e.payload, 'path', '')}" for e in collector.snapshot()
    ]


def filtered(collector: Collector) -> dict[str, int]:
    numbers = collector.ring.left_out().filtered
    assert sum(numbers) == collector.losses().filtered
    return {Category(at).name: n for at, n in enumerate(numbers) if n}


class TestHiding:
    def test_a_name_of_a_category_by_pattern(self, collector: Made) -> None:
        made = collector(hide=["syscall:re*"])
        for name in ("read", "write", "recv", "fread"):
            made.emit(SyscallExit(name, 1.0, SyscallResult.SUCCESS))
        assert names(made) == ["SyscallExit:write", "SyscallExit:fread"]
        assert filtered(made) == {"SYSCALL": 2}

    def test_every_way_to_emit(self, collector: Made) -> None:
        made = collector(hide=["syscall:read"])
        emit = made.emitter(SyscallExit)
        ids = [
            made.syscall_exit(1, "read", 1.0, True),
            emit("read", 1.0, SyscallResult.SUCCESS),
            emit("read", 1.0, SyscallResult.SUCCESS, pid=5),
            emit("read", 1.0, SyscallResult.SUCCESS, parent=5, severity=Severity.ERROR),
            made.emit(SyscallExit("read", 1.0, SyscallResult.SUCCESS)),
            made.emit_begin(SyscallEnter("read", 0)).event,
        ]
        assert ids == [0] * 6
        assert made.emit_begin(SyscallEnter("read", 0)).entry == -1
        assert (made.snapshot(), made.open_events()) == ([], [])
        assert filtered(made) == {"SYSCALL": 7}

    def test_paths_are_what_events_of_files_are_hidden_by(self, collector: Made) -> None:
        made = collector(hide=["file:/tmp/*"])
        for path in ("/tmp/a", "/tmp/a/b", "/var/tmp/a", "/tmp"):
            made.emit(FileOpened(path, "r", 1.0))
        made.emit(FileSlow("open", "/tmp/slow", 60.0, 50.0))
        assert names(made) == ["FileOpened:/var/tmp/a", "FileOpened:/tmp"]
        assert filtered(made) == {"FILESYSTEM": 3}

    def test_a_type_alone_hides_it_whole(self, collector: Made) -> None:
        made = collector(hide=["FileChanged"])
        made.emit(FileChanged("/a", "written"))
        made.emit(FileOpened("/a", "w", 1.0))
        assert names(made) == ["FileOpened:/a"]
        assert filtered(made) == {"FILESYSTEM": 1}

    def test_a_queue_by_its_number(self, collector: Made) -> None:
        made = collector(hide=["ipc:100?"])
        for label in ("jobs", 1001, 99):
            made.emit(MessageSent(label, 1))  # type: ignore[arg-type]
        assert names(made) == ["MessageSent:jobs", "MessageSent:99"]

    def test_the_category_that_is_given_is_the_one_counted(self, collector: Made) -> None:
        made = collector(hide=["syscall:read"])
        made.emit(SyscallExit("read", 1.0, SyscallResult.SUCCESS), category=Category.IPC)
        assert filtered(made) == {"IPC": 1}

    def test_observed_methods_too(self, collector: Made) -> None:
        made = collector(hide=["syscall:sys_read", "syscall:read"])

        class Executor:
            def sys_read(self) -> int:
                return 1

            def sys_write(self) -> int:
                return 2

        one = observe("syscall", collector=made)(Executor)()
        assert (one.sys_read(), one.sys_write()) == (1, 2)
        assert names(made) == ["SyscallEnter:write", "SyscallExit:write"]
        assert filtered(made) == {"SYSCALL": 2}

    def test_hidden_first_then_sampled(self, collector: Made) -> None:
        made = collector(hide=["syscall:read"], sampling=0)
        made.syscall_exit(1, "read", 1.0, True)
        made.syscall_exit(1, "write", 1.0, True)
        losses = made.losses()
        assert (losses.filtered, losses.sampled_out) == (1, 1)

    def test_a_closed_collector_refuses_what_it_would_hide(self, collector: Made) -> None:
        made = collector(hide=["syscall:read"])
        emit = made.emitter(SyscallExit)
        made.close()
        with pytest.raises(ClosedError):
            emit("read", 1.0, SyscallResult.SUCCESS)

    def test_a_forked_child_counts_its_own(self, collector: Made, tmp_path: Path) -> None:
        made = collector(hide=["syscall:read"])
        made.syscall_exit(1, "read", 1.0, True)
        child = os.fork()
        if child == 0:
            made.syscall_exit(1, "read", 1.0, True)
            made.syscall_exit(1, "read", 1.0, True)
            os._exit(made.losses().filtered)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        assert filtered(made) == {"SYSCALL": 1}

    def test_a_recording_tells(self, collector: Made, tmp_path: Path) -> None:
        made = collector(hide=["syscall"], sampling=0, path=tmp_path / "one.kobs")
        made.syscall_exit(1, "read", 1.0, True)
        made.emit(MessageSent("jobs", 1))
        made.emit(MessageSent("jobs", 1))
        made.close()
        with kobs.open_recording(tmp_path / "one.kobs") as recording:
            left_out = recording.left_out()
            assert left_out.filtered[Category.SYSCALL] == sum(left_out.filtered) == 1
            assert left_out.sampled_out[Category.IPC] == sum(left_out.sampled_out) == 2

    def test_from_the_environment(self, collector: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KOBS_HIDE", "syscall:read; file:/tmp/a,b *")
        made = collector()
        made.syscall_exit(1, "read", 1.0, True)
        made.emit(FileOpened("/tmp/a,b c", "r", 1.0))
        assert filtered(made) == {"SYSCALL": 1, "FILESYSTEM": 1}


class TestRates:
    def test_by_category_and_what_was_left_out_of_each(self, collector: Made) -> None:
        made = collector(category_rates={Category.IPC: 0}, sampling=100)
        made.emit(MessageSent("jobs", 1))
        made.syscall_exit(1, "read", 1.0, True)
        made.emit(MessageSent("jobs", 1), severity=Severity.WARN)
        assert names(made) == ["SyscallExit:read", "MessageSent:jobs"]
        assert made.ring.left_out().sampled_out[Category.IPC] == made.losses().sampled_out == 1

    def test_from_the_environment(self, collector: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KERNEL_CATEGORY_RATES", "ipc=0, syscall = 12.5")
        assert collector().sampler.category_rates == {Category.IPC: 0, Category.SYSCALL: 12.5}
        assert collector(category_rates={}).sampler.category_rates == {}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("ipc", "KERNEL_CATEGORY_RATES=ipc: expected CATEGORY=PERCENT, for instance ipc=10"),
            (
                "ips=1",
                "KERNEL_CATEGORY_RATES=ips=1: there is no category 'ips'; there are proc",
            ),
            ("ipc=101", "KERNEL_CATEGORY_RATES: ipc=101: expected a number from 0 to 100"),
            ("ipc=", "KERNEL_CATEGORY_RATES: ipc=: expected a number from 0 to 100"),
        ],
    )
    def test_bad_ones_are_refused(
        self, monkeypatch: pytest.MonkeyPatch, text: str, said: str
    ) -> None:
        monkeypatch.setenv("KERNEL_CATEGORY_RATES", text)
        with pytest.raises(ConfigError) as caught:
            Collector(size=16)
        assert str(caught.value).startswith(said)

    def test_a_category_that_there_is_not(self) -> None:
        with pytest.raises(ConfigError, match=r"category_rates\['ipc'\]: expected one of Category"):
            Collector(size=16, category_rates={"ipc": 1})  # type: ignore[dict-item]


class TestWords:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("syscal:read", "there is no 'syscal': WHAT is a category (file, filesystem, ipc,"),
            ("FileOpend:/tmp/*", "or an event type (FileOpened,"),
            ("", "there is no ''"),
            (":x", "there is no ''"),
            ("file:", "the pattern behind the colon is empty; give one, for instance file:/tmp/*"),
        ],
    )
    def test_bad_rules_say_what_there_is(self, text: str, said: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse([text], "--hide")
        assert str(caught.value).startswith(f"--hide={text!r}: ")
        assert said in str(caught.value)

    def test_a_category_is_known_in_any_case(self) -> None:
        assert parse("Syscall:a:b;FILE") == parse(["syscall:a:b", "filesystem:*"])


class TestChains:
    """What was decided of the ambient chain says nothing of another."""

    @pytest.mark.parametrize("sampled", [True, False])
    def test_an_event_of_another_chain_is_decided_by_its_own(
        self, collector: Made, sampled: bool
    ) -> None:
        made = collector(sampling=50, size=4096)
        chains = [chain for chain in range(1, 200) if made.gate.sampled(chain, Category.IPC)]
        assert 50 < len(chains) < 150
        before = cause.set(Cause(1 << 40, 0, 0, sampled))
        try:
            for chain in range(1, 200):
                made.emit(MessageSent("jobs", 1), causality_id=chain)
                made.emit(OperationSlow("job", 1.0, 1.0), causality_id=chain)
            made.emit(MessageSent("ambient", 1))
        finally:
            cause.reset(before)
        sent = [e for e in made.snapshot() if e.type_name == "MessageSent"]
        assert [e.causality_id for e in sent] == chains + [1 << 40] * sampled
        slow = [e for e in made.snapshot() if e.type_name == "OperationSlow"]
        assert [e.causality_id for e in slow if not e.partial] == chains
        assert len(slow) == 199
