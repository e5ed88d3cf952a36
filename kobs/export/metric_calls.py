"""Durations of remote calls, from the spans of gRPC: `rpc.client.call.duration` and
`rpc.server.call.duration` of OpenTelemetry's semantic conventions.

A span's end tells how long it took and what became of it, its begin on which side it was: begins
are remembered until their ends come.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kobs._analysis.series import Attributes, Key
from kobs.events import Event
from kobs.levels import Category
from kobs.tracing.records import join_attributes

METRICS = {"client": "rpc.client.call.duration", "server": "rpc.server.call.duration"}
"""By the kind of the span."""
METHOD, SYSTEM = "rpc.method", "rpc.system.name"
STATUS_CODE, ERROR = "rpc.response.status_code", "error.type"
SERVER = ("server.address", "server.port")

_MOST_OPEN = 8192
"""Calls that are remembered until they end; the oldest are forgotten."""
_MOST_PARTED, _MOST_PARTS = 64, 1024
"""Calls whose overflow records are kept, and how many of each: they come just before its end."""


class Calls:
    """Takes the events of spans and gives the durations of remote calls as they end."""

    def __init__(self) -> None:
        self._open: dict[int, str] = {}
        self._parts: dict[int, list[tuple[int, str]]] = {}

    def by_type(self) -> Mapping[str, Callable[[Event], tuple[Key, float] | None]]:
        """What takes the events of each payload type; it gives a series and microseconds."""
        return {
            "SpanBegan": self._began, "SpanAttributes": self._part, "SpanEnded": self._ended,
        }  # fmt: skip

    def _began(self, event: Event) -> None:
        if event.category is Category.NETWORK and event.payload.kind in METRICS:
            _make_room(self._open, _MOST_OPEN)
            self._open[event.id] = event.payload.kind

    def _part(self, event: Event) -> None:
        if event.parent not in self._open:
            return
        parts = self._parts.get(event.parent)
        if parts is None:
            _make_room(self._parts, _MOST_PARTED)
            parts = self._parts[event.parent] = []
        if len(parts) < _MOST_PARTS:
            parts.append((event.payload.index, event.payload.data))

    def _ended(self, event: Event) -> tuple[Key, float] | None:
        kind = self._open.pop(event.parent, None)
        if kind is None:
            return None
        payload = event.payload
        known = join_attributes(payload.attributes, self._parts.pop(event.parent, ()))
        found: dict[str, Any] = {METHOD: payload.name}
        for key in (STATUS_CODE, ERROR, *(SERVER if kind == "client" else ())):
            if isinstance(known.get(key), str | int):
                found[key] = known[key]
        if payload.status == "error":
            found.setdefault(ERROR, str(known.get("exception.type", "_OTHER")))
        attributes: Attributes = tuple(sorted(found.items()))
        return (METRICS[kind], attributes), payload.duration_us


def _make_room(table: dict[int, Any], most: int) -> None:
    while len(table) >= most:
        del table[next(iter(table))]
