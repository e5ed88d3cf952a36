"""A stage for a class of the example kernel: what it does there is recorded."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import kobs
from kobs import Event
from kobs.observe import vocabulary

Instance = TypeVar("Instance")


class Stage:
    """A collector of its own, and a folder."""

    def __init__(self, folder: Path) -> None:
        self.collector = kobs.Collector()
        self.folder = folder

    def watch(self, instance: Instance) -> Instance:
        """Record what this instance does."""
        kobs.with_collector(instance, self.collector)
        return instance

    def all(self, kind: type) -> list[Event]:
        """The events of a type, in the order in which they happened."""
        return [event for event in self.collector.snapshot() if event.type is kind]

    def one(self, kind: type) -> Event:
        """The one event of a type; there must be exactly one."""
        (event,) = self.all(kind)
        return event


def declared(subsystem: str) -> set[type]:
    """The payload types that a vocabulary knows."""
    return {em.type for rule in vocabulary(subsystem).rules for em in rule.emissions}


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """A stage on which nothing may happen that the module's vocabulary does not declare."""
    made = Stage(tmp_path)
    yield made
    types = {event.type for event in made.collector.snapshot()}
    subject = request.function.__name__[5:].partition("__")[0]
    errors = made.collector.losses().errors
    made.collector.close()
    for left in Path("/dev/shm").glob(f"kobs-test-{os.getpid()}-*"):
        left.unlink()  # of a test that failed half-way
    assert errors == 0
    assert types <= declared(request.module.SUBSYSTEM)
    assert subject in {kind.__name__ for kind in types}


@pytest.fixture
def unproven(request: pytest.FixtureRequest) -> set[str]:
    """The events of the module's vocabulary that no `test_<Event>__…` of the module is about."""
    proven = {name[5:].partition("__")[0] for name in vars(request.module) if "__" in name[5:]}
    declared_names: Any = {kind.__name__ for kind in declared(request.module.SUBSYSTEM)}
    return declared_names - proven
