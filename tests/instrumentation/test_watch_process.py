"""The process watch, in this process."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kobs
from kobs import ProcessCreated
from kobs.muted import muted
from kobs_instrumentation.watch import process as watch
from kobs_instrumentation.watch._watch import errors_go_to


@pytest.fixture
def collector() -> Iterator[kobs.Collector]:
    with kobs.Collector(size=1024) as made:
        undos = [errors_go_to(lambda: made), watch.install(lambda: made)]
        yield made
        for undo in undos:
            undo()


TO_FORK_EXEC = {
    "words": (123, [b"exe"], None, [b"env"]),
    "a word": ([123], [b"exe"], None, [b"env"]),
    "candidates": ([b"arg"], 123, None, [b"env"]),
    "folder": ([b"arg"], [b"exe"], 123, [b"env"]),
    "environment": ([b"arg"], [b"exe"], None, 123),
}


@pytest.mark.parametrize("given", list(TO_FORK_EXEC))
def test_a_call_that_is_refused_is_refused_in_the_same_words(
    collector: kobs.Collector, given: str
) -> None:
    from _posixsubprocess import fork_exec

    words, candidates, folder, environment = TO_FORK_EXEC[given]
    descriptors = (-1, -1, -1, -1, 1, 2, 3, 4)
    arguments = (
        words, candidates, True, (), folder, environment, *descriptors,
        True, True, 0, None, None, None, -1, None, False,
    )  # fmt: skip

    def refusal() -> str:
        with pytest.raises(TypeError) as raised:
            fork_exec(*arguments)
        return str(raised.value)

    watched = refusal()
    assert collector.losses().errors == 0
    assert not [event for event in collector.snapshot() if event.type is ProcessCreated]
    with muted():
        assert watched == refusal()
    assert "exactly" not in watched  # the number of arguments is right


@pytest.mark.parametrize("how", [{}, {"executable": "ls\0"}], ids=["word", "executable"])
def test_a_null_in_a_name_is_refused_as_without(
    collector: kobs.Collector, how: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="embedded null"):
        subprocess.run(["ls" if how else "/no\0ne"], **how)  # type: ignore[call-overload]
    assert collector.losses().errors == 0


class Word:
    """A path that counts how often it is asked."""

    def __init__(self, word: str) -> None:
        self.word, self.asked = word, 0

    def __fspath__(self) -> str:
        self.asked += 1
        return self.word


@pytest.mark.parametrize("how", [{"pass_fds": (0,)}, {"close_fds": False}],
                         ids=["fork_exec", "posix_spawn"])  # fmt: skip
def test_a_word_of_a_kind_of_its_own_is_asked_as_often_as_without(
    collector: kobs.Collector, how: dict[str, Any]
) -> None:
    def asked() -> int:
        word = Word("import sys; sys.exit(3)")
        command = [sys.executable, "-S", "-c", word]
        assert subprocess.run(command, **how).returncode == 3  # type: ignore[call-overload]
        return word.asked

    watched = asked()
    with muted():
        assert watched == asked()
    assert [event for event in collector.snapshot() if event.type is ProcessCreated]
    assert collector.losses().errors == 0


def test_a_program_of_a_kind_of_its_own_is_asked_as_often_as_without(
    collector: kobs.Collector,
) -> None:
    def asked() -> list[int]:
        words = [Word("/no/program") for _ in range(4)]
        calls: tuple[Callable[[], object], ...] = (
            lambda: os.posix_spawn(words[0], ["x", words[1]], {}),  # type: ignore[list-item]
            lambda: os.execv(words[2], ["x", words[3]]),  # type: ignore[list-item]
        )
        for call in calls:
            with pytest.raises(FileNotFoundError):
                call()
        return [word.asked for word in words]

    watched = asked()
    with muted():
        assert watched == asked()
    assert collector.losses().errors == 0
