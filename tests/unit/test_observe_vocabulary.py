"""Vocabularies: which method makes which event."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kobs
from kobs import (
    Collector,
    ContextSwitch,
    ProcessCreated,
    ProcessPreempted,
    QueueDepth,
    SchedulerLatency,
    arg,
    emits,
    observe,
)
from kobs.errors import ObserveError, UnknownSubsystemError
from kobs.observe import (
    Emission,
    Rule,
    Vocabulary,
    register_vocabulary,
    subsystems,
    this,
    vocabulary,
)


def rule(name: str, *methods: str) -> Rule:
    return Rule(methods, (Emission(QueueDepth, fields={"queue_id": name, "depth": 1}),))


WORDS = Vocabulary(
    "words",
    (rule("any", "*"), rule("create", "create*", "spawn*"), rule("one", "create_one")),
    classes=("*WordManager",),
)


@pytest.fixture(autouse=True)
def _registered() -> None:
    register_vocabulary(WORDS)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector(size=256) as made:
        yield made


def told(collector: Collector) -> list[object]:
    return [event.payload.queue_id for event in collector.snapshot()]


def test_the_most_specific_pattern_wins(collector: Collector) -> None:
    @observe("words", collector=collector)
    class Manager:
        def create_one(self) -> None: ...
        def create_two(self) -> None: ...
        def spawn(self) -> None: ...
        def other(self) -> None: ...
        def _private(self) -> None: ...
        def __len__(self) -> int:
            return 0

    manager = Manager()
    manager.create_one()
    manager.create_two()
    manager.spawn()
    manager.other()
    manager._private()
    len(manager)
    assert told(collector) == ["one", "create", "create", "any"]


def test_a_method_of_another_name_can_mean_the_same(collector: Collector) -> None:
    @observe("words", collector=collector, methods={"launch": "create", "_begin": "spawn",
                                                    "noise": None})  # fmt: skip
    class Manager:
        def launch(self) -> None: ...
        def _begin(self) -> None: ...
        def noise(self) -> None: ...

    manager = Manager()
    manager.launch()
    manager._begin()
    manager.noise()
    assert told(collector) == ["create", "create"]


def test_a_class_of_names_that_the_vocabulary_does_not_know(collector: Collector) -> None:
    @observe("scheduler", methods={"took": "dispatch"}, collector=collector)
    class Carousel:
        left_us = 250

        @emits(ContextSwitch, from_pid=arg("off"), to_pid=arg("on"), reason="turn")
        def turn(self, off: int, on: int) -> None: ...

        @emits(ProcessPreempted, quantum_remaining_us=this("left_us"), pid=arg("rider"))
        def switch_off(self, rider: int) -> None: ...

        def took(self, task: int) -> float:
            return 12.5

        def ride(self) -> None: ...

    carousel = Carousel()
    carousel.turn(1, 2)
    carousel.switch_off(2)
    carousel.took(2)
    carousel.ride()
    assert [event.payload for event in collector.snapshot()] == [
        ContextSwitch(1, 2, "turn"),
        ProcessPreempted(250),
        SchedulerLatency(12.5),
    ]


def test_emits_on_a_method_goes_before_the_vocabulary(collector: Collector) -> None:
    @observe("words", collector=collector)
    class Manager:
        @emits(QueueDepth, queue_id="mine", depth=0)
        def create_one(self) -> None: ...

    Manager().create_one()
    assert told(collector) == ["mine"]


def test_inherited_methods_are_observed_for_the_class_alone(collector: Collector) -> None:
    class Base:
        def create(self, name: str = "n") -> str:
            return name

    @observe("words", collector=collector)
    class Derived(Base): ...

    class Further(Derived):
        def create(self, name: str = "f") -> str:
            return super().create(name) + "!"

    Base().create()
    assert told(collector) == []
    assert Derived().create("a") == "a"
    assert Further().create() == "f!"
    assert told(collector) == ["create", "create"]


def test_arguments_of_inherited_methods(collector: Collector) -> None:
    class Base:
        def create(
            self, name: str, size: int = 3, *more: int, key: int = 4, **rest: int
        ) -> None: ...

    fields = {"queue_id": arg("name"), "depth": arg("size")}
    register_vocabulary(
        Vocabulary(
            "inherited",
            (
                Rule(
                    ("create",),
                    (
                        Emission(QueueDepth, fields=fields),
                        Emission(QueueDepth, fields={"queue_id": "key", "depth": arg("key")}),
                        Emission(
                            QueueDepth,
                            fields={
                                "queue_id": "rest",
                                "depth": lambda c: len(c.arguments["more"]),
                            },
                        ),
                    ),
                ),
            ),
        )
    )

    @observe("inherited", collector=collector)
    class Derived(Base): ...

    Derived().create("a")
    Derived().create("b", 5, 6, 7, key=8)
    Derived().create(size=9, name="c")
    got = [(e.payload.queue_id, e.payload.depth) for e in collector.snapshot()]
    assert got == [
        ("a", 3), ("key", 4), ("rest", 0), ("b", 5), ("key", 8), ("rest", 2),
        ("c", 9), ("key", 4), ("rest", 0),
    ]  # fmt: skip


def test_methods_of_a_type_in_c(collector: Collector) -> None:
    @observe("words", collector=collector, methods={"append": "create", "extend": None})
    class Many(list):  # type: ignore[type-arg]
        pass

    many = Many()
    many.append(1)
    many.extend([2])
    assert many == [1, 2]
    assert told(collector) == ["create"]


def test_an_unknown_subsystem_names_those_there_are() -> None:
    with pytest.raises(
        UnknownSubsystemError, match=r"unknown subsystem 'wrds'; known are: .*words"
    ):
        observe("wrds")


def test_the_ten_subsystems_are_known() -> None:
    ten = {"memory", "permission", "pipe", "process", "queue", "sandbox", "scheduler", "shm",
           "syscall", "vfs"}  # fmt: skip
    assert ten <= set(subsystems())
    assert isinstance(vocabulary("process"), Vocabulary)


def test_meanings_that_the_vocabulary_does_not_have() -> None:
    class Manager:
        def launch(self) -> None: ...

    register_vocabulary(Vocabulary("few", (rule("x", "create*"),)))
    with pytest.raises(
        ObserveError, match=r"the vocabulary has no 'begin'; its names are: create\*"
    ):
        observe("few", methods={"launch": "begin"})(Manager)
    with pytest.raises(ObserveError, match="Manager has no method 'lunch'"):
        observe("few", methods={"lunch": "create"})(Manager)
    with pytest.raises(ObserveError, match="none without a subsystem"):
        observe(methods={"launch": "create"})(Manager)


def test_a_rule_that_does_not_fit_a_method_says_so() -> None:
    register_vocabulary(
        Vocabulary(
            "strict", (Rule(("make",), (Emission(ProcessCreated, fields={"name": arg("n")}),)),)
        )
    )

    class Manager:
        def make(self, name: str) -> None: ...

    with pytest.raises(ObserveError, match=r"ProcessCreated.name = arg\('n'\) on Manager.make\("):
        observe("strict")(Manager)


def test_a_vocabulary_that_is_none() -> None:
    with pytest.raises(ObserveError, match=r"expected a kobs\.observe\.Vocabulary"):
        register_vocabulary("process")  # type: ignore[arg-type]


class TestEmissions:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"fields": {"x": 1}}, "no field 'x'"),
            ({"header": {"tid": 1}}, "'tid' is no header field"),
            ({"when": "never"}, "when='never'"),
            ({"sends": arg(0), "receives": arg(0)}, "not both"),
            ({"receives": arg(0), "when": "call"}, 'receives=... needs when="return"'),
            ({"sends": arg(0), "when": "exit"}, "sends=... needs when"),
        ],
    )
    def test_refused(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ObserveError, match=said):
            Emission(QueueDepth, **options)

    def test_a_scope_needs_a_begin_and_an_end(self) -> None:
        register_vocabulary(
            Vocabulary(
                "half",
                (
                    Rule(
                        ("*",),
                        (Emission(QueueDepth, fields={"queue_id": "q", "depth": 1}),),
                        scope=True,
                    ),
                ),
            )
        )

        class Thing:
            def work(self) -> None: ...

        with pytest.raises(
            ObserveError, match=r"the scope on Thing.work\(self\) needs an emission"
        ):
            observe("half")(Thing)


def test_a_vocabulary_that_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[kobs.vocabularies]\nbroken = no_such_module:V\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    class SomeWordManager:
        def create(self) -> None: ...

    assert "broken" in subsystems()
    with pytest.raises(UnknownSubsystemError, match=r"'broken' \(no_such_module:V\) cannot be"):
        observe("broken")
    assert isinstance(observe(SomeWordManager()), SomeWordManager)


def test_the_package_and_the_decorator_have_one_name() -> None:
    """`import kobs.observe` sets the package over the function of the same name."""
    import subprocess
    import sys

    program = """
import sys
import kobs, kobs.observe
from kobs import observe
from kobs.observe import unobserve

@kobs.observe
class A:
    @kobs.emits(kobs.SyscallExit)
    def work(self): ...

@observe()
class B(A): ...

assert hasattr(A.work, "__wrapped__")
unobserve(A)
heavy = {"wrapt", "pluggy", "inspect", "asyncio", "dataclasses"} & set(sys.modules)
assert not heavy, heavy
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert callable(kobs.observe)
