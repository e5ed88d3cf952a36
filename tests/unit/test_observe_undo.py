"""Patching and unpatching: in any order, twice, and with others in between."""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kobs import Collector, QueueDepth, SyscallExit, emits, observe, returned, unobserve
from kobs.errors import ObserveError
from kobs.observe import Emission, Rule, Vocabulary, register_vocabulary


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector(size=256) as made:
        yield made


@pytest.fixture(autouse=True)
def _vocabularies() -> None:
    depth = Emission(QueueDepth, fields={"queue_id": "q", "depth": 1})
    register_vocabulary(Vocabulary("calls", (Rule(("*",), (Emission(SyscallExit),)),)))
    register_vocabulary(Vocabulary("depths", (Rule(("*",), (depth,)),)))


def a_class() -> type[Any]:
    class Foreign:
        value = 1

        def method(self) -> int:
            return 1

        @staticmethod
        def static() -> int:
            return 2

        @classmethod
        def klass(cls) -> int:
            return 3

        @property
        @emits(QueueDepth, queue_id="p", depth=returned())
        def depth(self) -> int:
            return 4

        @functools.lru_cache  # noqa: B019
        def cached(self) -> int:
            return 5

        async def later(self) -> int:
            return 6

        @functools.cached_property
        def once(self) -> int:
            return 7

    return Foreign


def test_every_attribute_is_the_original_object_again(collector: Collector) -> None:
    cls = a_class()
    before = dict(vars(cls))
    observe(cls, "calls", in_place=True, collector=collector)
    changed = {name for name, value in vars(cls).items() if before.get(name) is not value}
    assert changed == {"method", "static", "klass", "depth", "cached", "later"}
    assert unobserve(cls) is cls
    assert list(vars(cls)) == list(before)
    assert all(vars(cls)[name] is value for name, value in before.items())
    assert unobserve(cls) is cls
    assert cls().method() == 1
    assert collector.snapshot() == []


def test_observing_twice_records_once(collector: Collector) -> None:
    cls = a_class()
    before = dict(vars(cls))
    observe(cls, "calls", in_place=True, collector=collector)
    wrapper = vars(cls)["method"]
    observe(cls, "calls", in_place=True)
    assert vars(cls)["method"] is wrapper
    cls().method()
    assert len(collector.snapshot()) == 1
    unobserve(cls)
    assert dict(vars(cls)) == before


def test_two_subsystems_on_one_class(collector: Collector) -> None:
    cls = a_class()
    before = dict(vars(cls))
    observe(cls, "calls", in_place=True, collector=collector)
    observe(cls, "depths", in_place=True)
    cls().method()
    assert [e.type_name for e in collector.snapshot()] == ["SyscallExit", "QueueDepth"]
    assert cls.method.__wrapped__ is before["method"]
    unobserve(cls)
    assert dict(vars(cls)) == before


def test_classes_of_a_hierarchy_in_any_order(collector: Collector) -> None:
    for order in ((0, 1), (1, 0)):
        base = a_class()
        derived = type("Derived", (base,), {"own": lambda self: 8})
        classes = base, derived
        before = [dict(vars(cls)) for cls in classes]
        observe(base, "calls", in_place=True, collector=collector)
        observe(derived, "calls", in_place=True, collector=collector)
        derived().method()
        for index in order:
            unobserve(classes[index])
        assert [dict(vars(cls)) for cls in classes] == before
        derived().method()
    assert len(collector.snapshot()) == 2


def test_the_derived_class_first(collector: Collector) -> None:
    base = a_class()
    derived = type("Derived", (base,), {})
    before = [dict(vars(cls)) for cls in (base, derived)]
    observe(derived, "calls", in_place=True, collector=collector)
    base().method()
    assert collector.snapshot() == []
    derived().method()
    assert len(collector.snapshot()) == 1
    unobserve(derived)
    assert [dict(vars(cls)) for cls in (base, derived)] == before


def test_a_wrapper_that_somebody_patched_over_stays_and_is_inert(collector: Collector) -> None:
    cls = a_class()
    original = vars(cls)["method"]
    observe(cls, "calls", in_place=True, collector=collector)
    ours = vars(cls)["method"]

    def theirs(self: Any) -> Any:
        return ours(self) + 10

    cls.method = theirs
    assert cls().method() == 11
    assert len(collector.snapshot()) == 1
    unobserve(cls)
    assert vars(cls)["method"] is theirs
    assert cls().method() == 11
    assert len(collector.snapshot()) == 1
    cls.method = ours  # they undo theirs, after us
    assert cls().method() == 1
    assert len(collector.snapshot()) == 1
    unobserve(cls)
    assert vars(cls)["method"] is original


def test_observing_what_somebody_else_wrapped(collector: Collector) -> None:
    import wrapt

    @wrapt.decorator
    def double(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        assert instance is not None
        return 2 * wrapped(*args, **kwargs)

    class Thing:
        @double
        def method(self, a: int) -> int:
            return a

    before = vars(Thing)["method"]
    observe(Thing, "calls", in_place=True, collector=collector)
    assert Thing().method(2) == Thing.method(Thing(), 2) == 4
    assert [e.payload.name for e in collector.snapshot()] == ["method", "method"]
    unobserve(Thing)
    assert vars(Thing)["method"] is before


def test_a_copy_of_the_class_that_a_decorator_made(collector: Collector) -> None:
    import dataclasses

    @dataclasses.dataclass(slots=True)
    @observe("calls", collector=collector)
    class Data:
        x: int

        def double(self) -> int:
            return 2 * self.x

    assert Data(2).double() == 4
    assert [e.payload.name for e in collector.snapshot()] == ["double"]
    unobserve(Data)
    assert not hasattr(Data.double, "__wrapped__")
    Data(2).double()
    assert len(collector.snapshot()) == 1


def test_a_plain_function_gives_back_the_original(collector: Collector) -> None:
    @emits(SyscallExit)
    def work() -> int:
        return 1

    observed = observe(work, collector=collector)
    assert unobserve(observed) is work
    assert observed() == 1
    assert collector.snapshot() == []
    assert unobserve(work) is work


class TestRefused:
    def test_a_class_of_somebody_else_without_saying_so(self) -> None:
        with pytest.raises(ObserveError, match="in_place=True"):
            observe(a_class(), "calls")

    def test_a_type_that_cannot_be_changed(self) -> None:
        with pytest.raises(ObserveError, match=r"deque cannot be changed .*observe one object"):
            observe(deque, "calls", in_place=True)

    def test_a_class_without_anything_to_observe(self) -> None:
        class Empty:
            x = 1

        with pytest.raises(ObserveError, match="nothing to observe in Empty: no method carries"):
            observe(Empty)
        with pytest.raises(ObserveError, match="no method has a name of the vocabulary of 'calls'"):
            observe(Empty, "calls", in_place=True)

    def test_two_subsystems_in_one_call(self) -> None:
        with pytest.raises(ObserveError, match="expected a class or object first"):
            observe("calls", "depths")  # type: ignore[call-overload]

    @pytest.mark.parametrize(
        "descriptor", [functools.partialmethod, functools.singledispatchmethod]
    )
    def test_emits_on_what_cannot_be_wrapped(self, descriptor: Callable[..., Any]) -> None:
        def work(self: object, x: object = None) -> None: ...

        with pytest.raises(ObserveError, match="directly over the def"):
            emits(SyscallExit)(descriptor(work))
