"""The extension module: see the C sources in `src`."""

from collections.abc import Callable
from typing import Any

from kobs._core.contract import RawSlot
from kobs._core.reader import Place

def layout() -> dict[str, tuple[int, int]]: ...
def now() -> int: ...
def bench_publish(count: int, /) -> float: ...
def bench_clock(count: int, /) -> float: ...
def bench_tsc(count: int, /) -> float: ...
def bench_fetch_add(count: int, /) -> float: ...
def bench_cas(count: int, /) -> float: ...

class Ring:
    def __init__(
        self,
        memory: memoryview,
        header: bytes,
        first_ticket: int,
        string_ids: dict[str, int],
        intern_new: Callable[[str], int],
        locate: Callable[[int, int], tuple[int, memoryview, memoryview] | None] | None,
        /,
    ) -> None: ...
    def publish(self, lane: int, body: bytes, /) -> int: ...
    def intern(self, text: str, /) -> int: ...
    def open_entry(
        self,
        event: int,
        timestamp_ns: int,
        causality_id: int,
        span_id: int,
        parent: int,
        tid: int,
        pid: int,
        name: int,
        origin: int,
        type_id: int,
        /,
    ) -> int: ...
    def close_entry(self, index: int, /) -> None: ...
    def add(self, offset: int, by: int, /) -> None: ...
    def head(self, lane: int, /) -> int: ...
    def forget(self) -> None: ...
    def stop(self) -> None: ...

class Emitter:
    def __init__(
        self,
        *,
        ring: Ring,
        pid: int,
        title: str,
        type_id: int,
        severity: int,
        category: int,
        keep: bool,
        fields: tuple[tuple[str, str, int, int, bool, Any, Any], ...],
        size: int,
        name_field: str | None,
        duration_field: str | None,
        cause: Any,
        cause_type: type,
        origin: Any,
        gate: list[bool],
        decide: Callable[[int, int, int, bool | None], int],
        analyse: Callable[[str, float, int], None] | None,
        explain: Callable[..., None],
    ) -> None: ...
    def __call__(self, *fields: Any, **header: Any) -> int: ...
    def rewire(self, ring: Ring, pid: int, /) -> None: ...

Memory = tuple[memoryview, int]
"""A buffer and an offset in it, in bytes."""

Lane = tuple[
    int,  # the lane
    int,  # its slots
    int,  # its first ticket
    Memory | int,  # where one past the newest ticket is; or what it is, for good
    Memory | Callable[[int], Place | int],  # where every slot lies; or tells it of a ticket
    Callable[[], int] | None,  # the oldest ticket; None: a full lane behind the newest
]

class Reader:
    def __init__(
        self,
        lanes: tuple[Lane, ...],
        slot_type: type[RawSlot],
        /,
        *,
        settled: bool = False,
        note: Memory | None = None,
        on_close: Callable[[], None] | None = None,
        before_read: Callable[[], None] | None = None,
    ) -> None: ...
    @property
    def lost(self) -> int: ...
    def read(self, limit: int = 1024) -> list[RawSlot]: ...
    def seek_oldest(self) -> None: ...
    def seek_end(self) -> None: ...
    def position(self) -> tuple[int, ...]: ...
    def seek(self, position: tuple[int, ...]) -> None: ...
    def pending(self) -> int: ...
    def close(self) -> None: ...
