"""Nothing that a program can ask of a class changes when the class is observed: at the edges.

As test_transparency.py, of classes with special methods and of every state of what is stepped
through. What wrapt's own suite expects of its function wrappers is asked in the two together:

- names, docstrings, signatures, argument specifications, members, by names that are not interned
  too (`attributes`, and there "signature", "name", ...); `isinstance` of a function
- instance, class and static methods, decorated under and over, called through the class and through
  the instance (there `static_and_class_methods`); nested classes (there `functools_descriptors`)
- binding twice, and again after None (`binding`)
- inheritance, abstract classes, `super` (`abstract_methods`, there `inheritance`)
- caches (`functools_over_methods`), marks of coroutines (`coroutine_functions_made_so_later`)
- weak references, cycles (there `references`; test_observed_safety.py), copies and pickles, which
  wrapt refuses (there `copies`, `pickles`)
- errors that come through (`exceptions_come_through_as_they_are`)

Not asked, as there is nothing of the kind here: operators of proxied objects, guards that switch a
decorator off, adapters that give another signature, wrappers that were not initialised.
"""

import contextlib
import gc
import itertools
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kobs import Collector, SyscallEnter, SyscallExit
from kobs.observe import Emission, Rule, Vocabulary, observe, register_vocabulary, unobserve

from .test_transparency import load_file, normal

HERE = Path(__file__).parent
SUBJECTS = HERE / "transparency_edges.py"
probes = load_file(HERE / "transparency_edge_probes.py", "kobs_transparency_edge_probes")

TIMED = Emission(SyscallExit)
BEGIN = Emission(SyscallEnter, when="call")
EVERYTHING = (
    "*", "__call__", "__len__", "__del__", "__enter__", "__exit__", "__aenter__", "__aexit__",
    "__init__", "__new__", "__getattr__", "__setattr__", "__set_name__", "__get__", "__iter__",
    "__eq__", "__bool__", "__repr__", "__contains__", "__add__", "__radd__", "__lt__", "__format__",
    "__getitem__", "__post_init__", "__aiter__", "__anext__", "__await__", "__index__",
    "__init_subclass__", "__class_getitem__", "__instancecheck__", "__prepare__", "_missing_",
)  # fmt: skip

RECORDED: dict[str, tuple[Rule, bool]] = {
    "off": (Rule(EVERYTHING, (TIMED,)), False),
    "timed": (Rule(EVERYTHING, (TIMED,)), True),
    "scope": (Rule(EVERYTHING, (BEGIN, TIMED), scope=True), True),
}

_copies = itertools.count()


@pytest.fixture(params=("python", pytest.param("c", marks=pytest.mark.c_core)), scope="module")
def core(request: pytest.FixtureRequest) -> Iterator[str]:
    """What is observed and recorded in a test is so by this core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOBS_CORE", request.param)
        yield request.param


@contextlib.contextmanager
def copy_of_the_subjects() -> Iterator[Any]:
    name = f"kobs_edges_{next(_copies):08d}"
    module = load_file(SUBJECTS, name)
    yield module
    for cls in module.OBSERVED:
        unobserve(cls)
    del sys.modules[name]


@pytest.fixture(params=RECORDED, scope="module")
def pair(request: pytest.FixtureRequest, core: str) -> Iterator[tuple[Any, Any]]:
    """(bare copy, observed copy)"""
    rule, on = RECORDED[request.param]
    register_vocabulary(Vocabulary("edges", (rule,)))
    with contextlib.ExitStack() as stack:
        gc.freeze()  # collections of what the probes leave need not go through all the rest
        stack.callback(gc.unfreeze)
        bare, observed = (stack.enter_context(copy_of_the_subjects()) for _ in range(2))
        collector = stack.enter_context(Collector(size=1024)) if on else None
        for cls in observed.OBSERVED:
            observe(cls, "edges", in_place=True, collector=collector)
        yield bare, observed
        assert collector is None or collector.losses().errors == 0


@pytest.mark.parametrize("name", probes.PROBES)
def test_the_answer_is_the_same(name: str, core: str, pair: tuple[Any, Any]) -> None:
    if core == "python" and name in probes.OF_C_ONLY:
        pytest.skip("a generated function is around the original's coroutine or generator")
    ask, (bare, observed) = probes.PROBES[name], pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # `throw` with three arguments
        assert normal(ask(observed), observed) == normal(ask(bare), bare)
