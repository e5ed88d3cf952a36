"""The C core: producers' and readers' hot paths in C (`_core/src`), on the same memory.

What runs once a ring, a segment or a new string stays in Python, and is the Python core's.
"""

import ctypes
from collections.abc import Iterator
from functools import partial
from typing import Any

import kobs._core._native as _native
from kobs._core import layout
from kobs._core.contract import BeginPublisher, RawSlot, Reader, Writers
from kobs._core.lanes import Lane, payload_packer
from kobs._core.layout import Counters, Header
from kobs._core.native_reader import attach, lane_of
from kobs._core.python import COUNTED, PythonRing, prepare
from kobs.errors import CoreUnavailableError

name = "c"
Method = _native.Method
hooks = _native
"""Where `Hook`, `TimedHook` and `Busy` are."""

__all__ = ["Method", "NativeRing", "attach", "create", "hooks", "name"]


def create(
    *,
    slots: int,
    path: str | None,
    overflow: str,
    recording: int,
    session: str,
    trace_high: int,
    parent_event: int,
    sampling_rate: float,
    first_ticket: int = 0,
    keep: int = 0,
) -> "NativeRing":
    """Make a ring; see `contract.Core.create`."""
    return NativeRing(
        *prepare(
            name,
            slots=slots,
            path=path,
            overflow=overflow,
            recording=recording,
            session=session,
            trace_high=trace_high,
            parent_event=parent_event,
            sampling_rate=sampling_rate,
            first_ticket=first_ticket,
            keep=keep,
        )
    )


class NativeLane(Lane):
    """A lane whose tickets are taken in C; its head is in memory."""

    def head(self) -> int:
        return int(self.words[self.head_word])


class NativeRing(PythonRing):
    """Fulfils `contract.Ring`."""

    def __init__(
        self, view: memoryview, header: Header, path: str | None, first_ticket: int
    ) -> None:
        super().__init__(view, header, path, first_ticket)
        self.native = _native.Ring(
            view,
            bytes(header),
            first_ticket,
            self._string_ids,
            self._intern_new,
            None if self._segments is None else self._segments.locate,
            None if self._segments is None else self._segments.look_ahead,
            self.doorbell.memory,
        )
        self._offsets = {
            cause: header.counters.offset + getattr(Counters, cause).offset for cause in COUNTED
        }
        # Called by name on every event: without a frame between.
        self.intern = self.native.intern  # type: ignore[method-assign, assignment]
        self.close_entry = self.native.close_entry  # type: ignore[method-assign, assignment]
        if self._segments is not None:
            self._segments.rebind.append(self.native.forget)

    def _make_lane(self, *arguments: Any) -> Lane:
        return NativeLane(*arguments)

    def writers(self, payload_format: str) -> Writers:
        self._check_open()
        publish = self.native.publish
        write = tuple(partial(publish, lane) for lane in range(layout.LANES))
        return Writers(payload_packer(payload_format).pack, write)

    def begin_publisher(self, payload_format: str) -> BeginPublisher:
        self._check_open()
        pack = payload_packer(payload_format).pack
        native_begin = self.native.begin

        def begin(name: int, lane: int, *body: object) -> tuple[int, int]:
            return native_begin(name, lane, pack(*body))

        return begin

    def _make_reader(self, entry: int | None) -> Reader:
        memory, segmented = self._memory, self._segments is not None
        lanes = tuple(
            lane_of(
                view, (memory, lane.head_word * 8), None if segmented else (memory, lane.base * 8)
            )
            for lane, view in zip(self.lanes, self._views(), strict=True)
        )
        if entry is None:
            return _native.Reader(lanes, RawSlot)
        return _native.Reader(
            lanes,
            RawSlot,
            note=(memory, (self._entry_word(entry) + 1) * 8),
            on_close=lambda: self._unregister(entry),
        )

    def count(self, cause: str, by: int = 1) -> None:
        if by > 0:
            self.native.add(self._offsets[cause], by)

    def leave_out(self, cause: str, category: int) -> None:
        self.count(cause)
        self.native.add(8 * self._word_of(cause, category), 1)

    def abandon(self) -> None:
        super().abandon()
        self.native.stop()

    def _counts(self) -> Iterator[int]:
        return (int(self._words[offset // 8]) for offset in self._offsets.values())

    def _left_out_of(self, cause: str, category: int) -> int:
        return int(self._words[self._word_of(cause, category)])

    def _withdraw(self) -> None:
        self.native.forget()

    def _write_counts(self) -> None: ...


def check_layout() -> None:
    """Compare the structures as they were compiled with `layout`, offset by offset.

    Raises `CoreUnavailableError` naming the first field that differs."""
    for field, compiled in _native.layout().items():
        declared = _declared(field)
        if declared != compiled:
            raise CoreUnavailableError(
                f"the C core was built for another format: {field} is (offset, size) "
                f"{compiled} there, {declared} in this kobs; build it again "
                "(pip install --force-reinstall kobs), or set KOBS_CORE=python"
            )


def _declared(field: str) -> tuple[int, int]:
    """(offset, size) of a structure or of a field of one, as `layout` declares it."""
    structure, _, member = field.partition(".")
    found = getattr(layout, structure)
    if isinstance(found, int):
        return 0, found
    if not member:
        return 0, ctypes.sizeof(found)
    descriptor = getattr(found, member)
    return descriptor.offset, descriptor.size


check_layout()
