"""`kobs doctor`: what this installation can do."""

import os
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from kobs._core import hooking, select
from kobs.cli import doctor

from .conftest import Kobs


class TestHealthy:
    def test_is_exit_code_0_with_facts(self, command: Kobs, tmp_path: Path) -> None:
        said = command("doctor")
        assert said.code == 0
        assert any(line.startswith(f"core          {select().name} (") for line in said.lines)
        assert "for an event of four fields, measured here just now" in said.out
        assert str(tmp_path / "state" / "kobs") in said.out

    def test_json_has_the_promised_keys(self, command: Kobs) -> None:
        found = command("doctor", "--json").json
        for key in ("version", "python", "platform", "core", "cost", "sessions", "extras",
                    "entry_points", "unseen", "environment", "problems", "warnings"):  # fmt: skip
            assert key in found
            assert key in (doctor.__doc__ or "")
        assert found["cost"]["ns_per_event"] > 0
        assert found["core"]["available"]["python"] is True
        assert found["extras"]["cli"]["rich"]

    @pytest.mark.parametrize(
        ("disabled", "on", "known", "said"),
        [
            (0, True, None, ""),
            (1, True, True, "free-threaded Python, and the interpreter lock is on"),
            (1, False, False, "free-threaded Python, without the interpreter lock"),
        ],
    )
    def test_a_free_threaded_python_is_named_with_its_lock(
        self, command: Kobs, monkeypatch: pytest.MonkeyPatch,
        disabled: int, on: bool, known: bool | None, said: str,
    ) -> None:  # fmt: skip
        of_others = sysconfig.get_config_var
        monkeypatch.setattr(
            sysconfig, "get_config_var",
            lambda name: disabled if name == "Py_GIL_DISABLED" else of_others(name),
        )  # fmt: skip
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: on, raising=False)
        assert command("doctor", "--json", "--no-cost").json["gil"] is known
        lines = [
            line for line in command("doctor", "--no-cost").lines if line.startswith("threads ")
        ]
        assert [line.startswith(f"threads       {said}") for line in lines] == [True] * bool(said)

    def test_what_a_watch_cannot_see_is_named(
        self, command: Kobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert any(line.startswith("not seen      vfs") for line in command("doctor").lines)
        unseen = command("doctor", "--json", "--no-cost").json["unseen"]
        assert any("file objects" in what for what in unseen["vfs"])
        monkeypatch.setattr(hooking, "native", None)
        without = command("doctor", "--json", "--no-cost").json["unseen"]
        assert any("methods of sockets" in what for what in without["syscall"])
        assert "queue.SimpleQueue" in without["queue"]
        if select().name == "c":
            assert not any("methods of sockets" in what for what in unseen["syscall"])

    def test_cost_can_be_left_out(self, command: Kobs) -> None:
        assert command("doctor", "--json", "--no-cost").json["cost"] is None

    def test_measures_in_memory_whatever_session_is_set(
        self, command: Kobs, monkeypatch: pytest.MonkeyPatch, quiet_session: object
    ) -> None:
        path = quiet_session.path  # type: ignore[attr-defined]
        before = sorted(os.listdir(path))
        monkeypatch.setenv("KOBS_SESSION", path)
        said = command("doctor")
        assert said.code == 0
        assert "KOBS_SESSION is set" in said.out
        assert sorted(os.listdir(path)) == before


class TestMissing:
    def test_an_extra_is_named_with_what_installs_it(
        self, command: Kobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from importlib import metadata

        real = metadata.version

        def version(name: str) -> str:
            if name == "rich":
                raise PackageNotFoundError(name)
            return real(name)

        monkeypatch.setattr(metadata, "version", version)
        said = command("doctor", "--no-cost")
        assert said.code == 0
        assert "kobs[cli]     missing: pip install 'kobs[cli]'" in said.out


class TestProblems:
    def test_a_core_that_is_not_there(self, command: Kobs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KOBS_CORE", "fortran")
        said = command("doctor", "--no-cost")
        assert said.code == 1
        assert said.lines[0].startswith("PROBLEM  KOBS_CORE='fortran'")

    def test_a_variable_with_a_bad_value(
        self, command: Kobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KERNEL_SAMPLING_RATE", "lots")
        said = command("doctor")
        assert said.code == 1
        assert "KERNEL_SAMPLING_RATE=lots" in said.lines[0]

    def test_sampling_is_a_warning(self, command: Kobs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KERNEL_SAMPLING_RATE", "10")
        said = command("doctor", "--no-cost")
        assert said.code == 0
        assert "KERNEL_SAMPLING_RATE=10: not every chain is recorded" in said.out

    def test_sessions_that_others_may_read_are_a_warning(
        self, command: Kobs, tmp_path: Path
    ) -> None:
        (tmp_path / "state" / "kobs").mkdir(parents=True)
        os.chmod(tmp_path / "state" / "kobs", 0o755)
        assert "chmod 700" in command("doctor", "--no-cost").out
