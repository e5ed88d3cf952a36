"""`kobs.records.NamedTuple` is `typing.NamedTuple` in all that a user of a tuple can see."""

import copy
import pickle
import subprocess
import sys
import typing
from typing import Any

import pytest

from kobs import records


class Ours(records.NamedTuple):
    """A point."""

    x: int
    y: int = 2
    name: str = ""

    @property
    def far(self) -> bool:
        """A method of it."""
        return self.x > 10


class Theirs(typing.NamedTuple):
    """A point."""

    x: int
    y: int = 2
    name: str = ""

    @property
    def far(self) -> bool:
        """A method of it."""
        return self.x > 10


class Further(Ours):
    """A subclass."""

    __slots__ = ()


class Late(records.NamedTuple):
    """One that only one test makes."""

    x: int
    y: int = 0


def made(kind: Any, how: str) -> Any:
    """A tuple, or the error that making it is, after more of them than are made uncompiled."""
    try:
        return eval(how, {"T": kind})
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("times", [1, 100])
def test_is_made_as_typings_is(times: int) -> None:
    for how in (
        "T(1)", "T(1, 3)", "T(1, name='n')", "T(y=5, x=4)", "T(1, 2, 'n')", "T()", "T(1, 2, 3, 4)",
        "T(1, x=2)", "T(1, z=2)", "T(y=2)", "T._make([1, 2, 'z'])", "T._make([1])",
        "T(11).far", "T(1)._replace(y=9)", "T(1)._replace(z=9)", "T(1)._asdict()",
        "T._fields", "T._field_defaults", "T.__match_args__", "T.__doc__", "T.__bases__",
        "T.__annotations__", "type(T)", "T.x.__doc__", "hash(T(1))", "T(1) == (1, 2, '')",
        "hasattr(T(1), '__dict__')", "T(1).y",
    ):  # fmt: skip
        for _ in range(times):
            ours, theirs = made(Ours, how), made(Theirs, how)
        assert repr(ours) == repr(theirs).replace("Theirs", "Ours"), how


def test_can_be_copied_and_pickled() -> None:
    point = Ours(1, name="here")
    for copied in (copy.copy(point), copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert type(copied) is Ours
        assert copied == point


def test_a_subclass_makes_its_own() -> None:
    found = [Further(1) for _ in range(100)]
    assert {type(each) for each in found} == {Further}
    assert type(Ours(1)) is Ours
    assert repr(Further(1, name="n")) == "Further(x=1, y=2, name='n')"


def test_who_has_the_first_constructor_still_makes_it_after_it_was_replaced() -> None:
    first = Late.__new__
    assert [Late(each) for each in range(100)][-1] == (99, 0)
    assert Late.__new__ is not first
    assert [first(Late, each) for each in range(100)][-1] == (99, 0)


def test_it_is_made_when_modules_are_emptied() -> None:
    program = """
from kobs import records
class Last(records.NamedTuple):
    x: int
    y: int = 2
for name in set(vars(records)) - {"__builtins__"}:  # as the interpreter does at its end
    setattr(records, name, None)
print(Last(1), [Last(x=each, y=3) for each in range(50)][-1])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "Last(x=1, y=2) Last(x=49, y=3)\n", done.stderr


def test_a_field_without_a_default_behind_one_that_has_one_is_refused() -> None:
    with pytest.raises(TypeError, match="default"):

        class Wrong(records.NamedTuple):
            a: int = 1
            b: int  # type: ignore[misc]
