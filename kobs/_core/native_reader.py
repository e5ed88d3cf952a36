"""The C core's readers: what `reader.RingReader` does, in C (`_core/src/cursor.c`)."""

from collections.abc import Callable

from kobs._core import _native, attached
from kobs._core.attached import AttachedFile
from kobs._core.contract import AttachedRing, RawSlot, Reader
from kobs._core.layout import CACHE_LINE, LANES
from kobs._core.reader import LaneView


def lane_of(
    view: LaneView, head: "_native.Memory | int", fixed: "_native.Memory | None"
) -> "_native.Lane":
    """A lane for a `_native.Reader`: `head` is where one past its newest ticket is, or what that
    is for good; `fixed` is where its slots lie, None if `view.locate` tells."""
    if fixed is None:
        return (view.lane, view.slots, view.first, head, view.locate, view.oldest)
    return (view.lane, view.slots, view.first, head, fixed, None)


class NativeAttachedFile(AttachedFile):
    """A recording's file whose slots are read in C."""

    def _make_reader(self, *, settled: bool, before_read: Callable[[], None] | None) -> Reader:
        lanes = []
        for lane in range(LANES):
            head: _native.Memory | int | None = self._settled_heads.get(lane)
            if head is None:
                head = (self._memory, self._info.counters.offset + lane * CACHE_LINE)
            fixed = None if self._segmented else (self._memory, self._info.lanes[lane].offset)
            lanes.append(lane_of(self._view(lane), head, fixed))
        return _native.Reader(tuple(lanes), RawSlot, settled=settled, before_read=before_read)


def attach(path: str) -> AttachedRing:
    """Open a recording's file for reading; see `contract.Core.attach`."""
    return attached.open_file(path, NativeAttachedFile)
