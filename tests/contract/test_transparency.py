"""Nothing that a program can ask of a class changes when the class is observed.

Every probe is asked of a bare copy of a module and of an observed one; the answers must be equal.
The table is crossed with the ways to wrap (generated functions, the C core's callables) and with
what is recorded: nothing, an event at the return, a timed one, a scope.
"""

import contextlib
import importlib.util
import itertools
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kobs import Collector, MessageSent, QueueDepth, SyscallEnter, SyscallExit
from kobs.observe import Emission, Rule, Vocabulary, observe, register_vocabulary, unobserve

HERE = Path(__file__).parent
SUBJECTS = HERE / "transparency_subjects.py"


def load_file(path: Path, name: str) -> Any:
    """The module of a file beside this one, found by its name from now on (for pickles)."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


probes = load_file(HERE / "transparency_probes.py", "kobs_transparency_probes")

AT_RETURN = Emission(QueueDepth, fields={"queue_id": "probe", "depth": 1})
TIMED = Emission(SyscallExit)
BEGIN = Emission(SyscallEnter, when="call")
EVERYTHING = ("*", "__call__", "__len__", "__eq__", "__hash__", "__getitem__", "__enter__",
              "__exit__", "__init__")  # fmt: skip

RECORDED: dict[str, tuple[Rule, bool]] = {
    "off": (Rule(EVERYTHING, (TIMED,)), False),
    "event at the return": (Rule(EVERYTHING, (AT_RETURN,)), True),
    "timed": (Rule(EVERYTHING, (TIMED,)), True),
    "scope": (Rule(EVERYTHING, (BEGIN, TIMED), scope=True), True),
    "before, at the return and at an error": (
        Rule(
            EVERYTHING,
            (
                Emission(QueueDepth, fields={"queue_id": "q", "depth": 1}, when="call"),
                AT_RETURN,
                Emission(MessageSent, fields={"queue_id": "q"}, when="raise"),
            ),
        ),
        True,
    ),
}


def observe_in_place(module: Any, kind: str, collector: Collector | None) -> None:
    for cls in module.OBSERVED:
        observe(cls, kind, in_place=True, collector=collector)


CORES = ("python", "c")
"""Each has a way to wrap: generated functions, and callables in C."""

OF_WRAPT = {"defaults", "argument names", "argument counts"}
WRAPT_IN_C = importlib.util.find_spec("wrapt._wrappers") is not None
"""Without, what is no function (an `lru_cache`) is looked at through Python code of wrapt's, whose
frames are in the traceback of an AttributeError."""

_copies = itertools.count()


@contextlib.contextmanager
def copies() -> Iterator[Callable[[], Any]]:
    """Loads copies of the module of subjects; each can be found by its name, for pickles."""
    names: list[str] = []

    def load() -> Any:
        names.append(f"kobs_subjects_{next(_copies):08d}")
        return load_file(SUBJECTS, names[-1])

    yield load
    for name in names:
        for cls in sys.modules[name].OBSERVED:
            unobserve(cls)
        del sys.modules[name]


@contextlib.contextmanager
def recording(what: str) -> Iterator[tuple[str, Collector | None]]:
    """(subsystem whose vocabulary knows every method, collector or None)."""
    rule, on = RECORDED[what]
    register_vocabulary(Vocabulary(f"probe {what}", (rule,)))
    collector = Collector(size=1024) if on else None
    yield f"probe {what}", collector
    if collector is not None:
        assert collector.losses().errors == 0
        collector.close()


@pytest.fixture
def load() -> Iterator[Callable[[], Any]]:
    with copies() as load:
        yield load


@pytest.fixture(params=CORES, scope="module", autouse=True)
def core(request: pytest.FixtureRequest) -> Iterator[str]:
    """What is observed and recorded in a test is so by this core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOBS_CORE", request.param)
        yield request.param


@pytest.fixture(params=RECORDED)
def recorded(request: pytest.FixtureRequest, core: str) -> Iterator[tuple[str, Collector | None]]:
    with recording(request.param) as recorded:
        yield recorded


@pytest.fixture(params=RECORDED, scope="module")
def what(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pair(what: str, core: str) -> Iterator[tuple[Any, Any]]:
    """(bare copy, observed copy)"""
    with copies() as load, recording(what) as (kind, collector):
        bare, observed = load(), load()
        observe_in_place(observed, kind, collector)
        yield bare, observed


@pytest.fixture(scope="module")
def undone_pair(core: str) -> Iterator[tuple[Any, Any]]:
    """(bare copy, one that was observed and is not any more)"""
    with copies() as load, recording("timed") as (kind, collector):
        bare, undone = load(), load()
        observe_in_place(undone, kind, collector)
        for cls in undone.OBSERVED:
            unobserve(cls)
        yield bare, undone


@pytest.mark.parametrize("name", probes.PROBES)
def test_the_answer_is_the_same(name: str, pair: tuple[Any, Any]) -> None:
    if name in OF_WRAPT and not WRAPT_IN_C:
        pytest.skip("wrapt is without its C part")
    ask, (bare, observed) = probes.PROBES[name], pair
    assert normal(ask(observed), observed) == normal(ask(bare), bare)


@pytest.mark.parametrize("name", probes.PROBES)
def test_the_answer_is_the_same_after_it_was_undone(
    name: str, undone_pair: tuple[Any, Any]
) -> None:
    ask, (bare, undone) = probes.PROBES[name], undone_pair
    assert normal(ask(undone), undone) == normal(ask(bare), bare)


def test_inherited_methods_answer_the_same(
    load: Callable[[], Any], recorded: tuple[str, Collector | None]
) -> None:
    bare, observed = load(), load()
    kind, collector = recorded
    observe(observed.Heir, kind, in_place=True, collector=collector)
    assert {"only_base", "who", "create"} <= set(vars(observed.Heir))
    for name in ("inheritance", "static_and_class_methods", "abstract_classes", "pickles"):
        ask = probes.PROBES[name]
        assert normal(ask(observed), observed) == normal(ask(bare), bare)
    for cls in (observed.Heir, observed.Joined):
        assert str(probes.inspect.signature(cls.only_base)) == "(self, a=1)"
        assert cls.only_base.__name__ == "only_base"
        heir = pickle.loads(pickle.dumps(cls("kept")))
        assert heir.only_base(2) == getattr(bare, cls.__name__)("kept").only_base(2)
    unobserve(observed.Heir)
    assert not {"only_base", "who", "create"} & set(vars(observed.Heir))


def test_every_method_of_the_subjects_is_observed(load: Callable[[], Any], core: str) -> None:
    """Else the suite would compare bare classes with bare ones."""
    generated = []
    register_vocabulary(Vocabulary("probe all", (Rule(EVERYTHING, (TIMED,)),)))
    bare, observed = load(), load()
    observe_in_place(observed, "probe all", None)
    for cls in observed.OBSERVED:
        before, now = vars(getattr(bare, cls.__name__)), vars(cls)
        for name, value in before.items():
            private = name.startswith("_") and name not in EVERYTHING
            if isinstance(value, types.FunctionType | staticmethod | classmethod) and not private:
                function = getattr(now[name], "__func__", now[name])
                assert hasattr(function, "__wrapped__"), f"{cls.__name__}.{name}"
                generated.append(type(function) is types.FunctionType)
    assert set(generated) == {core == "python"}


def test_a_traceback_has_no_more_frames(
    load: Callable[[], Any], recorded: tuple[str, Collector | None], core: str
) -> None:
    """With the Python core one more for each call."""
    module = load()
    observe_in_place(module, *recorded)
    steps = module.Steps()

    def thrown(generator: Any) -> None:
        next(generator)
        generator.throw(KeyError("thrown"))

    async def thrown_later() -> None:
        generator = steps.each_catches()
        await anext(generator)
        await generator.athrow(KeyError("thrown"))

    async def failing_later() -> None:
        async for _ in steps.each_fails():
            pass

    async def cancelled() -> None:
        import asyncio

        task = asyncio.ensure_future(steps.wait(asyncio.sleep(30)))
        await asyncio.sleep(0)
        task.cancel()
        await task

    import asyncio

    for fails in (
        module.Plain().fail,
        lambda: list(steps.raising()),
        lambda: thrown(steps.catching()),
        lambda: asyncio.run(steps.fail()),
        lambda: asyncio.run(failing_later()),
        lambda: asyncio.run(thrown_later()),
        lambda: asyncio.run(cancelled()),
    ):
        try:
            fails()
        except BaseException as raised:
            error = raised
        assert probes.added_frames(error) <= (core == "python")
        del error


def normal(answer: object, module: Any) -> object:
    """The answer with the module's own name taken out."""
    if isinstance(answer, str):
        return answer.replace(module.__name__, "subjects")
    if isinstance(answer, dict):
        return {normal(k, module): normal(v, module) for k, v in answer.items()}
    if isinstance(answer, list | tuple):
        return [normal(each, module) for each in answer]
    return answer
