"""Watches of other packages: found by entry point and hook, chosen by name, harmless."""

import json
import sys
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

import kobs
from kobs import hooks
from kobs.errors import UnknownSubsystemError
from kobs_instrumentation import others, registry
from kobs_instrumentation.subsystems import WATCHED

from .conftest import Ran, Runner

SHELF = Path(__file__).parents[2] / "examples" / "kobs-shelf"

PROGRAM = """
    import shelve, subprocess, sys
    with shelve.open("things") as shelf:
        shelf["one"] = 1
        print(shelf["one"], "two" in shelf)
        try:
            shelf["two"]
        except KeyError as error:
            print(error)
        del shelf["one"]
    if len(sys.argv) < 2:
        subprocess.run([sys.executable, "program.py", "child"], check=True)
    """


def install(folder: Path, name: str, points: Mapping[str, Mapping[str, str]]) -> Path:
    """What pip leaves behind of a package beside its code: a folder for the path."""
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    text = ""
    for group, named in points.items():
        text += f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in named.items())
    (info / "entry_points.txt").write_text(text)
    return folder


@pytest.fixture
def shelf(tmp_path: Path) -> dict[str, str]:
    """An environment in which the example is installed."""
    project = tomllib.loads((SHELF / "pyproject.toml").read_text())["project"]
    folder = install(tmp_path / "installed", project["name"], project["entry-points"])
    return {"PYTHONPATH": f"{folder}:{SHELF}"}


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """An environment with a package whose watches go wrong, each in a way of its own."""
    folder = tmp_path / "installed"
    points = {
        "kobs.watches": {"missing": "no_such_module", "bad": "bad_watch", "late": "late_watch"}
    }
    install(folder, "broken", points)
    (folder / "bad_watch.py").write_text(
        textwrap.dedent("""
            import queue
            from kobs_instrumentation.watch import Watch

            def patch(patcher):
                patcher.method(queue.Queue, "qsize", print)
                raise RuntimeError("on purpose")

            install = Watch("bad", patch).install
            """)
    )
    (folder / "late_watch.py").write_text(
        textwrap.dedent("""
            import queue
            from kobs_instrumentation.watch import Watch

            def before(args, kwargs):
                raise RuntimeError("in a hook")

            install = Watch("late", lambda p: p.method(queue.Queue, "empty", before)).install
            """)
    )
    return {"PYTHONPATH": str(folder)}


def used(ran: Ran) -> list[tuple[str, str]]:
    return [
        (e.payload.operation, e.payload.key) for e in ran.events() if e.type_name == "ShelfUsed"
    ]


def doctor(runner: Runner, env: Mapping[str, str]) -> dict[str, object]:
    command = (sys.executable, "-m", "kobs", "doctor", "--json", "--no-cost")
    found: dict[str, object] = json.loads(runner.bare(*command, env=env).out)
    return found


class TestExample:
    def test_the_program_and_its_children_are_watched(
        self, runner: Runner, shelf: dict[str, str]
    ) -> None:
        script = str(runner.write(PROGRAM))
        bare = runner.bare(sys.executable, script)
        ran = runner.kobs(script, env=shelf)
        assert (ran.code, ran.out, ran.err) == (0, bare.out, "")
        assert used(ran) == [("write", "one"), ("read", "one"), ("delete", "one")] * 2
        assert len({e.pid for e in ran.events() if e.type_name == "ShelfUsed"}) == 2

    @pytest.mark.parametrize(
        ("options", "types"),
        [
            (("--only", "shelf"), {"ShelfUsed"}),
            (("--except", "shelf,vfs,syscall,process,queue,scheduler"), set()),
        ],
    )
    def test_it_is_chosen_by_name(
        self, runner: Runner, shelf: dict[str, str], options: tuple[str, str], types: set[str]
    ) -> None:
        ran = runner.kobs(*options, str(runner.write(PROGRAM)), "alone", env=shelf)
        assert ran.code == 0, ran.err
        assert {e.type_name for e in ran.events()} & {"ShelfUsed", "FileOpened"} == types

    def test_an_unknown_name_says_it_too(self, runner: Runner, shelf: dict[str, str]) -> None:
        ran = runner.kobs("--only", "shelve", str(runner.write(PROGRAM)), env=shelf)
        assert ran.code == 2
        assert "no subsystem 'shelve'" in ran.err
        assert "there are process, vfs," in ran.err
        assert ran.err.rstrip().endswith(", shelf")

    def test_doctor_knows_it(self, runner: Runner, shelf: dict[str, str]) -> None:
        found = doctor(runner, shelf)["watches"]["shelf"]  # type: ignore[index]
        assert found == {
            "watched": True, "problem": "", "package": "kobs_shelf.watch", "says": ["ShelfUsed"],
            "unseen": ["what other programs change in a shelf's file"],
        }  # fmt: skip

    def test_its_vocabulary_is_there(self, runner: Runner, shelf: dict[str, str]) -> None:
        script = runner.write("""
            from kobs import observe

            @observe("shelf")
            class Store:
                def get(self, key): return key
                def put(self, key, value): pass

            Store().put("a", Store().get("b"))
            """)
        assert used(runner.kobs(str(script), env=shelf)) == [("read", "b"), ("write", "a")]

    def test_its_instrumentor_is_symmetric(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(SHELF))
        import shelve

        from kobs_shelf.instrumentor import ShelfInstrumentor

        before = shelve.Shelf.__getitem__
        with kobs.Collector(size=64) as collector:
            ShelfInstrumentor().instrument(collector=collector)
            shelve.Shelf({})["x"] = 1
            ShelfInstrumentor().uninstrument()
            shelve.Shelf({})["y"] = 1
            assert [e.payload.key for e in collector.snapshot()] == ["x"]
        assert shelve.Shelf.__getitem__ is before


class TestBroken:
    PROGRAM = """
        import queue
        q = queue.Queue()
        q.put(1)
        print(q.qsize(), q.empty(), queue.Queue.qsize.__qualname__, q.get())
        """

    def test_the_program_is_untouched_and_the_errors_are_told(
        self, runner: Runner, broken: dict[str, str]
    ) -> None:
        script = str(runner.write(self.PROGRAM))
        bare = runner.bare(sys.executable, script)
        ran = runner.kobs(script, env=broken)
        assert (ran.code, ran.out, ran.err) == (0, bare.out, "")
        assert {"MessageSent", "MessageReceived"} <= {e.type_name for e in ran.events()}
        with kobs.open_recording(ran.session) as recording:
            assert recording.losses().errors == 3
            reasons = " ".join(str(one["reason"]) for one in recording.unobserved)
        assert "installing the watch of missing: ModuleNotFoundError" in reasons
        assert "installing the watch of bad: RuntimeError: on purpose" in reasons
        assert "late.empty: RuntimeError: in a hook" in reasons

    def test_doctor_says_which_and_why(self, runner: Runner, broken: dict[str, str]) -> None:
        found = doctor(runner, broken)
        watches: dict[str, dict[str, object]] = found["watches"]  # type: ignore[assignment]
        assert watches["bad"]["watched"] is False
        assert watches["bad"]["problem"] == "RuntimeError: on purpose"
        assert watches["late"]["watched"] is True
        warnings = " ".join(map(str, found["warnings"]))  # type: ignore[call-overload]
        assert "kobs run --except bad leaves it out" in warnings

    def test_one_that_is_left_out_is_not_even_loaded(
        self, runner: Runner, broken: dict[str, str]
    ) -> None:
        options = ("--except", "missing,bad,late")
        ran = runner.kobs(*options, str(runner.write(self.PROGRAM)), env=broken)
        with kobs.open_recording(ran.session) as recording:
            assert (recording.losses().errors, list(recording.unobserved)) == (0, [])


class _Plugin:
    """A plug-in with the hook."""

    def __init__(self, watch: object) -> None:
        self.watch = watch

    @hooks.hook
    def kobs_watches(self) -> dict[str, object]:
        return {"given": self.watch, "vfs": None}


class _Counted:
    """The least that a watch is."""

    SAYS = ("MetricUpdate",)
    on = 0

    def install(self, get_collector: object, *, events: bool = True) -> object:
        self.on += 1

        def undo() -> None:
            self.on -= 1

        return undo


class TestHook:
    def test_a_plug_in_s_watch_is_a_subsystem(self) -> None:
        watch = _Counted()
        plugin = _Plugin(watch)
        hooks.register(plugin)
        try:
            assert "given" in registry.choose(None, None)
            assert registry.survey()["given"].says == ("MetricUpdate",)
            with kobs.Collector(size=64) as collector:
                registry.enable(collector, only=["given"])
                assert (watch.on, registry.said()) == (1, {"MetricUpdate"})
                registry.disable(collector)
                assert watch.on == 0
        finally:
            hooks.unregister(plugin)
        with pytest.raises(UnknownSubsystemError):
            registry.choose(["given"], None)

    def test_of_an_installed_plug_in_in_a_recorded_program(
        self, runner: Runner, tmp_path: Path
    ) -> None:
        folder = install(tmp_path / "installed", "plug", {"kobs": {"plug": "plug"}})
        (folder / "plug.py").write_text(
            textwrap.dedent("""
                from kobs.hooks import hook

                @hook
                def kobs_watches():
                    from kobs_shelf import watch
                    return {"shelves": watch}
                """)
        )
        env = {"PYTHONPATH": f"{folder}:{SHELF}"}
        ran = runner.kobs("--only", "shelves", str(runner.write(PROGRAM)), env=env)
        assert (ran.code, ran.err) == (0, "")
        assert used(ran) == [("write", "one"), ("read", "one"), ("delete", "one")] * 2

    def test_a_name_of_kobs_s_own_stays_kobs_s(self) -> None:
        plugin = _Plugin(_Counted())
        hooks.register(plugin)
        try:
            assert "vfs" not in others.find(WATCHED)
        finally:
            hooks.unregister(plugin)

    def test_a_hook_that_raises_is_told_and_costs_no_other(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Raises:
            @hooks.hook
            def kobs_watches(self) -> dict[str, object]:
                raise RuntimeError("on purpose")

        plugin = Raises()
        hooks.register(plugin)
        try:
            assert registry.choose(None, None) == WATCHED
        finally:
            hooks.unregister(plugin)
        assert "watches of plug-ins are left out: RuntimeError: on purpose" in caplog.text
