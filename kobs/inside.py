"""What a watch sees inside an observed call: one thing that happened is one event.

A watch of the standard library and a vocabulary may tell of the same thing: `ProcessManager.spawn`
starts a child through `subprocess`. Then the watch tells it in the words of the innermost
observed call that is to say an event of that type (`call_saying`), and the call does not say it
again. What only the call's result can say in full is held until the call returns (`Held`).

Nothing of this costs a call that has no watch inside: a watch that has something to tell looks at
the stack for the wrappers that are running. That also keeps threads and tasks apart, and leaves
nothing in the program's context. What is noted of a running call is in `notes`, by the identity
of its frame; a wrapper tests whether that is empty. Observed calls of the C core have no frame:
it lists those that run in a thread, and they carry their notes.
"""

import os
import sys
from _thread import get_ident
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from kobs.context import Cause, cause
from kobs.payloads import (
    FileChanged,
    FileOpened,
    FileSlow,
    GcPaused,
    IpcTimeout,
    MessageReceived,
    MessageSent,
    PermissionDenied,
    PipeRead,
    PipeWritten,
    ProcessCreated,
    ProcessStateChanged,
    ProcessTerminated,
    SecurityViolation,
    ShmCreated,
    ShmDestroyed,
    ShmRead,
    ShmWritten,
)

if TYPE_CHECKING:
    from kobs.collector import Collector
    from kobs.handover import Sent
    from kobs.observe.sites import Site
    from kobs.schema import PayloadType

FILENAME = "<kobs observe: a frame to skip, like importlib._bootstrap>"
"""File name of generated code. `warnings` and `logging` skip frames whose file name has
"importlib" and "_bootstrap" in it, so that `stacklevel` counts as if the wrapper were not there."""

SHARED: "frozenset[type[PayloadType]]" = frozenset(
    (
        FileChanged,
        FileOpened,
        FileSlow,
        GcPaused,
        IpcTimeout,
        MessageReceived,
        MessageSent,
        PermissionDenied,
        PipeRead,
        PipeWritten,
        ProcessCreated,
        ProcessStateChanged,
        ProcessTerminated,
        SecurityViolation,
        ShmCreated,
        ShmDestroyed,
        ShmRead,
        ShmWritten,
    )
)
"""Types that a watch of the standard library may tell too."""

PROCESS_ENDS = (ProcessCreated, ProcessTerminated)

_REMEMBERED = 4096

said: "set[type[PayloadType]]" = set()
"""Types that some observed method says; what is not in it needs no search."""


class Held:
    """Something that a watch saw, to be told by the observed call on its return, or else by the
    watch: when something else needs it as its cause, when another follows, when the call ends
    without a word of it."""

    __slots__ = ("_tell", "event", "sent", "subject")

    def __init__(
        self, tell: Callable[[], int], *, subject: object = None, sent: "Sent | None" = None
    ) -> None:
        self._tell: list[Callable[[], int]] = [tell]
        self.event = 0
        self.subject = subject
        self.sent = sent

    def tell(self) -> int:
        """Have the watch tell it, if nobody did yet; the event."""
        try:
            tell = self._tell.pop()
        except IndexError:
            return self.event
        self.event = tell()
        return self.event

    def drop(self) -> bool:
        """Somebody else tells it; False where the watch has."""
        try:
            self._tell.pop()
        except IndexError:
            return False
        return True


class Arriving(Cause):
    """The cause after a receive that is held: whoever needs it as a parent has it told."""

    held: Held

    @classmethod
    def of(cls, then: Cause, held: Held) -> "Arriving":
        """`then`, with the parent that `held` will be."""
        made = cls(*then)
        made.held = held
        return made

    @property
    def parent(self) -> int:
        """The receive, told by now."""
        before: int = tuple.__getitem__(self, 1)  # type: ignore[assignment]
        return self.held.tell() or before

    def __getitem__(self, index: Any) -> Any:
        return self.parent if index == 1 else tuple.__getitem__(self, index)

    def _replace(self, **changes: Any) -> Cause:  # type: ignore[override]
        return Cause(*self)._replace(**{"parent": self.parent, **changes})

    def __reduce__(self) -> Any:
        return Cause, tuple(self)


class Note:
    """What was told and is held inside one running call."""

    __slots__ = ("held", "told")

    def __init__(self) -> None:
        self.told: dict[int, list[object]] = {}
        """Subjects of the events that were told, by index of the emission."""
        self.held: dict[type[PayloadType], Held] = {}


notes: dict[int, Note] = {}
"""By identity of the wrapper's frame; empty unless a watch told something in a running call."""


class Running(Protocol):
    """A running observed call."""

    note: Note | None

    @property
    def site(self) -> "Site":
        """What was called."""
        ...

    @property
    def collector(self) -> "Collector":
        """Where its events go."""
        ...

    def arguments(self) -> dict[str, Any]:
        """The arguments by parameter."""
        ...


running_natively: Callable[[], list[Any]] = list
"""The running calls of this thread that have no frame, innermost first; set by the C core."""


class _Frame:
    """A running call by the frame of its wrapper."""

    __slots__ = ("_frame", "collector", "site")

    def __init__(self, frame: FrameType, site: "Site", collector: "Collector") -> None:
        self._frame = frame
        self.site = site
        self.collector = collector

    @property
    def note(self) -> Note | None:
        return notes.get(id(self._frame))

    @note.setter
    def note(self, note: Note) -> None:
        notes[id(self._frame)] = note

    def arguments(self) -> dict[str, Any]:
        return self._frame.f_locals


def _running() -> Iterator[Any]:
    """The running calls of this thread (`Running`)."""
    yield from running_natively()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == FILENAME:
            values = frame.f_locals
            site = getattr(values.get("_kobs_failed"), "__self__", None)
            if site is not None and "_kobs_route" in values:
                yield _Frame(frame, site, values.get("_kobs_c"))  # type: ignore[arg-type]
        frame = frame.f_back


class Inside:
    """A running observed call, as seen from within: one of its emissions."""

    __slots__ = ("_call", "_index", "_site")

    def __init__(self, call: Running, index: int) -> None:
        self._call = call
        self._site = call.site
        self._index = index

    @property
    def claimed(self) -> bool:
        """An event was told for this emission already."""
        note = self._call.note
        return note is not None and self._index in note.told

    def words(self) -> dict[str, Any]:
        """The fields that the call gives, as far as they are known before it returns."""
        names, function = self._site.words(self._index)
        values = self._call.arguments()
        found: dict[str, Any] = function(*(values[name] for name in names))
        return found

    def tell(self, subject: object = None) -> None:
        """An event was told that this call is not to say again."""
        self._note().told.setdefault(self._index, []).append(subject)

    def hold(self, held: Held) -> None:
        """Keep something for the call's return. What was held of the type is told."""
        note = self._note()
        kind = self._site.emissions[self._index].type
        before = note.held.pop(kind, None)
        note.held[kind] = held
        if before is not None:
            before.tell()

    def _note(self) -> Note:
        note = self._call.note
        if note is None:
            note = self._call.note = Note()
        return note


def calls_saying(
    types: "tuple[type[PayloadType], ...]",
    collector: "Collector",
    fits: Callable[[dict[str, Any]], bool] | None = None,
) -> Iterator[Inside]:
    """The running calls, innermost first, that are to say one of `types` to `collector` after
    they end; with `fits` only those whose words it finds right."""
    if said.isdisjoint(types):
        return
    for call in _running():
        if call.collector is collector:
            for index, emission in enumerate(call.site.emissions):
                if emission.type in types and emission.when != "call":
                    inside = Inside(call, index)
                    if fits is None or fits(inside.words()):
                        yield inside
                        break


def call_saying(
    type: "type[PayloadType]",
    collector: "Collector",
    fits: Callable[[dict[str, Any]], bool] | None = None,
) -> Inside | None:
    """The innermost of `calls_saying`."""
    return next(calls_saying((type,), collector, fits), None)


# -- processes: each begins and ends once, wherever that was seen ------------------------------

watched: list[bool] = []
"""Not empty once a watch told of a process: from then on channels are `OfProcess`."""
at_first: list[Callable[[], None]] = []
"""What is called then."""
_created: dict[int, tuple[int, int]] = {}
"""Processes whose creation a watch told outside of any observed call: (thread, collector)."""
_ended: dict[int, tuple[int, int]] = {}
"""Processes whose end a watch told: (exit code, collector)."""


def process_created(pid: int, collector: "Collector", *, in_call: bool) -> None:
    """A watch told of the creation of a process."""
    _ended.pop(pid, None)
    _created.pop(pid, None)
    if not in_call:
        _remember(_created, pid, (get_ident(), id(collector)))


def process_ended(pid: int, exit_code: int, collector: "Collector") -> None:
    """A watch told of the end of a process."""
    _remember(_ended, pid, (exit_code, id(collector)))


def _remember(table: dict[int, tuple[int, int]], pid: int, entry: tuple[int, int]) -> None:
    if not watched:
        watched.append(True)
        for lay_routes_anew in at_first:
            lay_routes_anew()
    while len(table) >= _REMEMBERED:
        table.pop(next(iter(table)), None)
    table[pid] = entry


class OfProcess:
    """Channel of an emission about the begin or end of a process, which may have been seen in
    another thread or task than the observed call's: it knows them by pid."""

    __slots__ = ("_collector", "_created", "_emitter", "_suspends")

    def __init__(
        self,
        type: "type[PayloadType]",
        emitter: Callable[..., int],
        collector: "Collector",
        *,
        suspends: bool,
    ) -> None:
        self._created = type is ProcessCreated
        self._emitter = emitter
        self._suspends = suspends
        self._collector = id(collector)

    def __call__(self, *fields: Any, **more: Any) -> int:
        pid = more.get("pid")
        if pid and (self._was_created(pid) if self._created else self._has_ended(pid, *fields)):
            return 0
        return self._emitter(*fields, **more)

    def _was_created(self, pid: int) -> bool:
        thread, collector = _created.get(pid, (0, 0))
        if collector != self._collector:
            return False
        # By this thread: before the call began, unless in another task while this one waited.
        if thread == get_ident() and not self._suspends:
            return False
        _created.pop(pid, None)
        return True

    def _has_ended(self, pid: int, exit_code: int = 0) -> bool:
        return _ended.get(pid) == (exit_code, self._collector)


# -- at the return ----------------------------------------------------------------------------


def take(frame: FrameType, site: "Site", channels: tuple[Any, ...]) -> tuple[Any, ...]:
    """(note, channels) of a call that ended: those that know of it do not say again what was
    told inside."""
    note = notes.pop(id(frame), None)
    if note is None:
        return (None, *channels)
    return (note, *aware(note, site, channels))


def aware(note: Note, site: "Site", channels: tuple[Any, ...]) -> tuple[Any, ...]:
    """The channels of a call that know what was told inside."""
    return tuple(
        Told(note, index, emission.type, channel)
        if index in note.told or emission.type in note.held
        else channel
        for index, (emission, channel) in enumerate(zip(site.emissions, channels, strict=True))
    )


def leave(note: Note | None, failed: Callable[..., None], collector: "Collector") -> None:
    """Have told what is still held of a call that ended."""
    if note is not None:
        for held in note.held.values():
            try:
                held.tell()
            except Exception as error:
                failed(error, 0, collector)


class Told:
    """Channel of an emission in a call inside of which a watch told something of its type."""

    __slots__ = ("_channel", "_index", "_note", "_type")

    def __init__(self, note: Note, index: int, type: "type[PayloadType]", channel: Any) -> None:
        self._note = note
        self._index = index
        self._type = type
        self._channel = channel

    def __call__(self, *fields: Any, **more: Any) -> None:
        about = more.get("pid")
        held = self._note.held.get(self._type)
        if held is not None and held.subject in (None, about):
            del self._note.held[self._type]
            if not held.drop():
                return
        elif any(subject in (None, about) for subject in self._note.told.get(self._index, ())):
            return
        self._channel(*fields, **more)

    def send(self, key: Any) -> None:
        """The watch has sent it under a token of its own."""

    def withdraw(self, link: int | None) -> None:
        self._channel.withdraw(link)

    def sent(self, link: int | None, *fields: Any, **more: Any) -> None:
        self._channel.withdraw(link)

    def received(self, key: Any, *fields: Any, **more: Any) -> None:
        held = self._note.held.pop(self._type, None)
        if held is None:
            if self._index not in self._note.told:
                self._channel.received(key, *fields, **more)
        elif held.drop():
            sent = held.sent
            if sent is None:
                self._channel.received(key, *fields, **more)
            else:
                self._channel.continued(sent, *fields, **more)


def restore(held: Held, then: Cause) -> None:
    """After a held receive was told by the watch: its event is the ambient cause, if nothing
    else has become so."""
    now = cause.get()
    if isinstance(now, Arriving) and now.held is held:
        cause.set(then)


def _after_fork() -> None:
    notes.clear()
    for call in running_natively():
        call.note = None
    _created.clear()
    _ended.clear()


os.register_at_fork(after_in_child=_after_fork)
