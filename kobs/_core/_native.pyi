"""The extension module: see the C sources in `src`."""

from collections.abc import Callable
from typing import Any

def layout() -> dict[str, tuple[int, int]]: ...
def now() -> int: ...

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

class function:
    """An observed callable. In all but its type it is what it stands for."""

    def __init__(
        self,
        *,
        original: Any,
        site: Any,
        style: str,
        parameters: tuple[Any, ...],
        instance: tuple[Any, ...] | None,
        before: tuple[tuple[Any, ...], ...],
        returned: tuple[tuple[Any, ...], ...],
        raised: tuple[tuple[Any, ...], ...],
        emissions: int,
        scope: int,
        measured: bool,
        shared: bool,
        keeps_state: bool,
        through: type | None,
        name: str,
        end_noted: Callable[[Any, Any, tuple[Any, ...]], tuple[Any, ...]],
        leave_noted: Callable[[Any, Any, tuple[Any, ...]], None],
    ) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

class Running:
    note: Any
    @property
    def site(self) -> Any: ...
    @property
    def collector(self) -> Any: ...
    def arguments(self) -> dict[str, Any]: ...

def wire(
    observed: function,
    route: tuple[Any, ...] | None,
    lookup: Callable[[object], tuple[Any, ...] | None] | None,
    /,
) -> None: ...
def site_of(object: object, /) -> Any: ...
def running() -> list[Running]: ...
