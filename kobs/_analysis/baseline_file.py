"""Baseline files: what tests did, as text for people, for `git diff` and for merges.

    kobs-baseline 1
    recorded core=c watches=default

    test confirmed tests/test_mailer.py::test_sent
      1 MessageSent(queue_id='Queue-<n>')
      1 MessageSent > MessageReceived(queue_id='Queue-<n>')
      ~ MessageSent > MessageReceived > FileOpened(...)
      12.4u SpanEnded(name='parse')

A test is a block, a fact a line that depends on no other line, all of it sorted: two branches
that change different facts merge. TOML and JSON have neither (a comma, a bracket, an escape a line)
and no writer that keeps comments.
"""

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

from kobs._analysis.baseline_entry import CANDIDATE, CONFIRMED, Entry, Seen, first_entry
from kobs._analysis.shapes import in_order
from kobs.errors import BaselineError

VERSION = 1
_HEAD = "kobs-baseline"
_FACT = re.compile(r"(?P<number>[0-9]+|[0-9.]+(?:e[+-]?[0-9]+)?u|~u?) +(?P<about>\S.*)")
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


class Made(NamedTuple):
    """How the runs of a file were recorded: others see other events."""

    core: str
    watches: str

    def __str__(self) -> str:
        return f"core={self.core} watches={self.watches}"


class Baseline(NamedTuple):
    """The content of a file."""

    made: Made
    entries: Mapping[str, Entry]
    """By test."""
    comments: tuple[str, ...] = ()
    """Lines before the first test."""


def read(path: str | os.PathLike[str]) -> Baseline:
    """The baseline in a file. Raises `BaselineError` naming the file, and the line that is not
    understood."""
    path = os.fspath(path)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except FileNotFoundError:
        raise BaselineError(f"{path}: no such baseline") from None
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read: {error.strerror}") from None
    return loads(text, path)


def is_missing(path: str) -> bool:
    """There is no such file."""
    return not os.path.lexists(path)


def is_baseline(path: str) -> bool:
    """The file begins as a baseline does."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_HEAD) + 1).split() == [_HEAD.encode()]
    except OSError:
        return False


def update(path: str, made: Made, seen: Mapping[str, Seen]) -> Baseline:
    """Take into a file what tests did; other tests stay as they are. Others may do the same at
    the same time. Returns what the file held before.

    Raises `BaselineError` where the file is not understood, was recorded otherwise, or cannot be
    written.
    """
    path = os.path.realpath(path)
    with _locked(path):
        before = read(path) if os.path.exists(path) else Baseline(made, {})
        require_made(path, before, made)
        entries = dict(before.entries)
        for test, now in seen.items():
            known = entries.get(test)
            entries[test] = first_entry(now) if known is None else known.updated(now)
        if entries != before.entries:
            _replace(path, dumps(before._replace(entries=entries)))
    return before


def require_made(path: str, baseline: Baseline, made: Made) -> None:
    """Raise `BaselineError` for a file whose runs were recorded otherwise."""
    if baseline.made != made:
        raise BaselineError(
            f"{path}: recorded with {baseline.made}, this run has {made}, and sees other events: "
            "run as it was recorded, or keep a file for each"
        )


# -- text -------------------------------------------------------------------------------------


def dumps(baseline: Baseline) -> str:
    """The text of a file."""
    lines = [f"{_HEAD} {VERSION}", f"recorded {baseline.made}", *baseline.comments]
    for test in sorted(baseline.entries):
        entry = baseline.entries[test]
        lines += ["", f"test {entry.state} {_written(test)}"]
        lines += [f"  {comment}" for comment in entry.comments]
        facts = {**entry.counts, **dict.fromkeys(entry.varies, "~")}
        lines += [f"  {facts[shape]} {shape}" for shape in sorted(facts, key=in_order)]
        times = {operation: f"{value:.3g}u" for operation, value in entry.durations.items()}
        times |= dict.fromkeys(entry.varying_durations, "~u")
        lines += [f"  {times[operation]} {operation}" for operation in sorted(times)]
    return "\n".join(lines) + "\n"


def loads(text: str, name: str = "<text>") -> Baseline:
    """The baseline in a text. Raises `BaselineError` with `name` and the number of the line."""
    return _Reader(name).read(text.split("\n"))


class _Block:
    """A test whose lines are being read."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.counts: dict[str, int] = {}
        self.varies: set[str] = set()
        self.durations: dict[str, float] = {}
        self.varying: set[str] = set()
        self.comments: list[str] = []
        self.at: dict[tuple[bool, str], int] = {}
        """The line of each fact: of a duration or not, and what it is about."""

    def entry(self) -> Entry:
        return Entry(
            self.state, self.counts, frozenset(self.varies), self.durations,
            frozenset(self.varying), tuple(self.comments),
        )  # fmt: skip


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._line = 0

    def read(self, lines: list[str]) -> Baseline:
        numbered = [(number, line.rstrip()) for number, line in enumerate(lines, 1)]
        self._line, head = numbered[0]
        if head.split() != [_HEAD, str(VERSION)]:
            if head.startswith(_HEAD):
                raise self._refuse(f"format {head[len(_HEAD) :].strip()!r}; this kobs reads "
                                   f"format {VERSION}: use the kobs that wrote it")  # fmt: skip
            raise self._refuse(f"no baseline: expected `{_HEAD} {VERSION}`, found {head[:40]!r}")
        made: Made | None = None
        comments: list[str] = []
        blocks: dict[str, _Block] = {}
        starts: dict[str, int] = {}
        block: _Block | None = None
        for self._line, line in numbered[1:]:
            text = line.strip()
            if not text:
                continue
            if line.startswith(_CONFLICT):
                raise self._refuse("a merge conflict: choose a side; or keep neither block of "
                                   "the test, and update twice")  # fmt: skip
            if text.startswith("#"):
                (comments if block is None else block.comments).append(text)
            elif made is None:
                made = self._made(text)
            elif not line[0].isspace():
                test, block = self._test(text)
                if test in starts:
                    raise self._refuse(f"{test} is there already, in line {starts[test]}: keep one")
                starts[test], blocks[test] = self._line, block
            elif block is None:
                raise self._refuse(f"a fact that belongs to no test: {text[:40]!r}")
            else:
                self._fact(block, text)
        if made is None:
            raise self._refuse("expected `recorded core=... watches=...`, found the end")
        entries = {test: found.entry() for test, found in blocks.items()}
        return Baseline(made, entries, tuple(comments))

    def _made(self, text: str) -> Made:
        match = re.fullmatch(r"recorded core=(\S+) watches=(\S+)", text)
        if match is None:
            raise self._refuse(f"expected `recorded core=... watches=...`, found {text[:40]!r}")
        return Made(match[1], match[2])

    def _test(self, text: str) -> tuple[str, _Block]:
        word, _, rest = text.partition(" ")
        state, _, test = rest.strip().partition(" ")
        test = test.strip()
        if word != "test" or state not in (CANDIDATE, CONFIRMED) or not test:
            raise self._refuse(
                f"expected `test {CONFIRMED} NAME` or `test {CANDIDATE} NAME`, found {text[:60]!r}"
            )
        if test.startswith('"'):
            try:
                test = json.loads(test)
            except ValueError as error:
                raise self._refuse(f"a test's name in quotes is JSON: {error}") from None
        return test, _Block(state)

    def _fact(self, block: _Block, text: str) -> None:
        match = _FACT.fullmatch(text)
        if match is None:
            raise self._refuse(
                f"expected a number, `~`, a duration (`12.4u`) or `~u`, and what it is about; "
                f"found {text[:60]!r}"
            )
        number, about = match["number"], match["about"]
        key = number.endswith("u"), about
        if key in block.at:
            raise self._refuse(f"{about[:60]} is there already, in line {block.at[key]}: keep one")
        block.at[key] = self._line
        if number == "~":
            block.varies.add(about)
        elif number == "~u":
            block.varying.add(about)
        elif number.endswith("u"):
            try:
                block.durations[about] = float(number[:-1])
            except ValueError:
                raise self._refuse(f"expected a duration like `12.4u`, found {number!r}") from None
        else:
            block.counts[about] = int(number)

    def _refuse(self, message: str) -> BaselineError:
        return BaselineError(f"{self._name}, line {self._line}: {message}")


def _written(test: str) -> str:
    """A test's name on one line; in JSON's quotes where it would not come back as it is."""
    plain = test.isprintable() and test == test.strip() and not test.startswith('"')
    return test if plain else json.dumps(test)


# -- files ------------------------------------------------------------------------------------


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Nobody else updates a file of the same folder meanwhile; no file is left behind for it."""
    folder = os.path.dirname(path)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BaselineError(f"{path}: cannot be written: {folder}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: str, text: str) -> None:
    """Write a file whole or not at all, with the mode that it had."""
    new = f"{path}.{os.urandom(4).hex()}"
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        if os.path.exists(path):
            os.chmod(new, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(new, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(new)
        raise BaselineError(f"{path}: cannot be written: {error.strerror}") from None
