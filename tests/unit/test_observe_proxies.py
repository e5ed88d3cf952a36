"""`observe(instance)`: a proxy of one object whose class stays as it is."""

import asyncio
import copy
import pickle
import queue
from collections.abc import Iterator
from types import MethodType
from typing import Any

import pytest

from kobs import Collector, QueueDepth, SyscallExit, emits, observe, unobserve, with_collector
from kobs.errors import ObserveError
from kobs.observe import Emission, Rule, Vocabulary, arg, len_of, register_vocabulary


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector(size=256) as made:
        yield made


@pytest.fixture(autouse=True)
def _vocabularies() -> None:
    register_vocabulary(
        Vocabulary(
            "calls",
            (Rule(("*", "__call__", "__len__", "__enter__"), (Emission(SyscallExit),)),),
            classes=("Calling*",),
        )
    )


def names(collector: Collector) -> list[str]:
    return [event.payload.name for event in collector.snapshot()]


class Thing:
    def __init__(self, tag: str = "t") -> None:
        self.tag = tag

    def method(self, a: int, b: int = 2) -> tuple[int, int]:
        """Doc."""
        return a, b

    def me(self) -> "Thing":
        return self

    @staticmethod
    def static() -> int:
        return 3

    @classmethod
    def klass(cls) -> type:
        return cls

    async def later(self) -> int:
        return 4

    def rows(self) -> Iterator[int]:
        yield 1

    @property
    def prop(self) -> str:
        return self.tag

    def __call__(self) -> int:
        return 5

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))

    def __enter__(self) -> "Thing":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.tag == self.tag

    def __hash__(self) -> int:
        return hash(self.tag)


class Unlike:
    def work(self) -> int:
        return 1


def test_observed_methods_emit_and_the_class_does_not(collector: Collector) -> None:
    thing = Thing()
    proxy = observe(thing, "calls", collector=collector)
    assert proxy.method(1) == (1, 2)
    assert proxy.static() == 3
    assert proxy.klass() is Thing
    assert asyncio.run(proxy.later()) == 4
    assert list(proxy.rows()) == [1]
    assert names(collector) == ["method", "static", "klass", "later", "rows"]
    thing.method(1)
    Thing().method(1)
    assert len(collector.snapshot()) == 5


def test_it_is_what_it_stands_for(collector: Collector) -> None:
    thing = Thing()
    proxy = observe(thing, "calls", collector=collector)
    assert isinstance(proxy, Thing)
    assert proxy.__class__ is Thing
    assert proxy == thing
    assert thing == proxy
    assert hash(proxy) == hash(thing)
    assert repr(proxy.method).startswith("<bound method Thing.method of")
    assert isinstance(proxy.method, MethodType)
    assert proxy.method.__self__ is thing
    assert proxy.method.__doc__ == "Doc."
    assert proxy.method == proxy.method
    proxy.tag = "new"
    assert (thing.tag, proxy.prop) == ("new", "new")
    assert proxy.me() is thing
    assert [list(proxy), callable(proxy), proxy(), len(proxy)] == [[1, 2], True, 5, 6]
    with proxy as entered:
        assert entered is proxy
    assert names(collector)[-3:] == ["__call__", "__len__", "__enter__"]
    assert not callable(observe(Unlike(), "calls"))
    assert not hasattr(observe(Unlike(), "calls"), "__iter__")


def test_a_pickle_is_that_of_the_object(collector: Collector) -> None:
    thing = Thing("kept")
    proxy = observe(thing, "calls", collector=collector)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.dumps(proxy, protocol) == pickle.dumps(thing, protocol)
        assert type(pickle.loads(pickle.dumps(proxy, protocol))) is Thing
        assert pickle.loads(pickle.dumps(proxy.method, protocol))(1) == (1, 2)


def test_a_copy_is_observed_too(collector: Collector) -> None:
    proxy = observe(Thing("kept"), "calls", collector=collector)
    for made in (copy.copy(proxy), copy.deepcopy(proxy)):
        made.tag = "other"
        assert proxy.tag == "kept"
        made.method(1)
        unobserve(made)
    proxy.method(1)
    assert names(collector) == ["method", "method", "method"]


def test_what_the_object_has_of_its_own_is_left_alone(collector: Collector) -> None:
    thing = Thing()
    thing.method = lambda a: "own"  # type: ignore[assignment, misc, method-assign, return-value]
    proxy = observe(thing, "calls", collector=collector)
    assert proxy.method(1) == "own"  # type: ignore[comparison-overlap]
    assert names(collector) == []


def test_objects_of_types_in_c(collector: Collector) -> None:
    register_vocabulary(
        Vocabulary(
            "c queue",
            (
                Rule(
                    ("put",),
                    (Emission(QueueDepth, fields={"queue_id": "q", "depth": len_of(arg(0))}),),
                ),
            ),
        )
    )
    bare: Any = queue.SimpleQueue()
    proxy = observe(bare, "c queue", collector=collector)
    proxy.put("abc")
    assert bare.get() == "abc"
    assert collector.snapshot()[0].payload == QueueDepth("q", 3)


def test_its_collector(collector: Collector) -> None:
    with Collector(size=64) as other:
        proxy = observe(Thing(), "calls", collector=collector)
        with_collector(proxy, other)
        proxy.method(1)
        assert names(other) == ["method"]
        with_collector(proxy, None)
        proxy.method(1)
        assert names(collector) == ["method"]
        assert observe(proxy, "calls") is proxy


def test_it_is_undone_by_giving_the_object(collector: Collector) -> None:
    thing = Thing()
    proxy = observe(thing, "calls", collector=collector)
    method = proxy.method
    assert unobserve(proxy) is thing
    assert unobserve(proxy) is thing
    assert proxy.method(1) == method(1) == (1, 2)
    assert names(collector) == []


def test_the_subsystem_is_found_by_the_name_of_the_class(collector: Collector) -> None:
    class CallingCenter:
        def work(self) -> int:
            return 1

    class Named(CallingCenter): ...

    for cls in (CallingCenter, Named):
        observe(cls(), collector=collector).work()
    assert names(collector) == ["work", "work"]


def test_what_emits_says_is_enough(collector: Collector) -> None:
    class Quiet:
        @emits(SyscallExit)
        def work(self) -> int:
            return 1

    observe(Quiet(), collector=collector).work()
    assert names(collector) == ["work"]


def test_an_object_that_says_nothing() -> None:
    with pytest.raises(ObserveError, match="nothing to observe in Unlike"):
        observe(Unlike())


class Cached:
    """A method that is no plain function is wrapped by wrapt."""

    def __init_subclass__(cls) -> None:
        import functools

        cls.cached = functools.lru_cache(cls.cached)  # type: ignore[method-assign, assignment]

    def cached(self, x: int) -> int:
        return x


class Subject(Cached):
    def cached(self, x: int, y: int = 2) -> list[int]:  # type: ignore[override]
        return [x, y]


def test_wrapt_wrappers_pickle_and_copy(collector: Collector) -> None:
    observe(Subject, "calls", in_place=True, collector=collector)
    try:
        subject = Subject()
        assert subject.cached(1) is subject.cached(1)
        assert Subject.cached.cache_info().hits == 1  # type: ignore[attr-defined]
        assert names(collector) == ["cached", "cached"]
        assert pickle.loads(pickle.dumps(Subject.cached))(subject, 3) == [3, 2]
        assert pickle.loads(pickle.dumps(vars(Subject)["cached"]))(subject, 3) == [3, 2]
        assert pickle.loads(pickle.dumps(subject.cached))(4) == [4, 2]
        assert copy.copy(vars(Subject)["cached"]) is vars(Subject)["cached"]
        assert copy.deepcopy(vars(Subject)["cached"]) is vars(Subject)["cached"]
        assert copy.deepcopy(subject.cached)(5) == [5, 2]
        assert copy.copy(subject.cached)(5) == [5, 2]
    finally:
        unobserve(Subject)
