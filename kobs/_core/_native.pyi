"""The extension module: see the C sources in `src`."""

from array import array
from collections.abc import Callable, Iterable
from contextvars import Context, ContextVar
from typing import Any, TypeVar

from kobs._core.contract import RawSlot
from kobs._core.reader import Place

_Made = TypeVar("_Made")

def layout() -> dict[str, tuple[int, int]]: ...
def now() -> int: ...
def clock() -> str: ...
def span_type(
    base: type,
    cause: Any,
    cause_type: type,
    slow_ms: array[float],
    modules: dict[str, Any],
    /,
) -> type[Any]: ...
def look_elsewhere(variable: ContextVar[Any] | None, nothing: object, upto: int) -> None: ...
def wire_spans(
    collector: object,
    began: Emitter = ...,
    ended: Emitter = ...,
    gate: list[bool] = ...,
    trace_high: int = ...,
    /,
) -> None: ...
def open_span(span_id: int, /) -> Any: ...
def open_spans() -> list[Any]: ...
def close_span(span: object, /) -> None: ...
def audit(
    handle: Callable[[str, tuple[Any, ...]], BaseException | None], wanted: dict[str, bool], /
) -> None: ...
def audit_listens(on: bool, /) -> None: ...
def traffic(descriptor: int, /) -> tuple[int, int]: ...
def traffic_counts(sock: object, /) -> bool: ...
def watch_gc(
    before: Callable[[], object], told: Callable[[int, float, int], object], /
) -> bool: ...
def unwatch_gc() -> None: ...
def watch_type(
    type: type, made: Callable[[Any], object], gone: Callable[[int], object], /
) -> bool: ...
def unwatch_type() -> None: ...
def bench_publish(count: int, /) -> float: ...
def bench_clock(count: int, /) -> float: ...
def bench_tsc(count: int, /) -> float: ...
def bench_fetch_add(count: int, /) -> float: ...
def bench_cas(count: int, /) -> float: ...
def bench_observe(n: int, /) -> float: ...
def bench_filter(n: int, /) -> float: ...
def bench_serialise(n: int, /) -> float: ...
def bench_query(n: int, /) -> float: ...

class Ring:
    def __init__(
        self,
        memory: memoryview,
        header: bytes,
        first_ticket: int,
        string_ids: dict[str, int],
        intern_new: Callable[[str], int],
        locate: Callable[[int, int], tuple[int, memoryview, memoryview, int] | None] | None,
        look_ahead: Callable[[], None] | None,
        doorbell: memoryview | None = None,
        /,
    ) -> None: ...
    def publish(self, lane: int, body: bytes, /) -> int: ...
    def intern(self, text: str, /) -> int: ...
    def begin(self, name: int, lane: int, body: bytes, /) -> tuple[int, int]: ...
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
        payload: type,
        type_id: int,
        severity: int,
        category: int,
        keep: bool,
        fields: tuple[tuple[str, str, int, int, bool, Any, Any], ...],
        size: int,
        begins: bool,
        scope_name: str | None,
        name_field: str | None,
        duration_field: str | None,
        cause: Any,
        cause_type: type,
        origin: Any,
        origin_used: list[bool],
        gate: list[bool],
        decide: Callable[[int, int, int, bool | None], int],
        analyse: Callable[[str, float, int], None] | None,
        explain: Callable[..., None],
        hides: Callable[[object], bool] | None,
        hidden: dict[str, bool],
        hide_field: str | None,
    ) -> None: ...
    def __call__(self, *fields: Any, **header: Any) -> int: ...
    def rewire(self, ring: Ring, pid: int, /) -> None: ...

class Method:
    """A method that makes an event, without Python where nothing about the call is unusual."""

    def __init__(
        self,
        function: Callable[..., Any],
        type: type,
        parameters: tuple[tuple[str, int] | tuple[str, int, object, object], ...] = ...,
        levels: tuple[tuple[int, int], ...] = ...,
    ) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

class SpanMaker:
    """A function that makes spans, without Python where only their name is given."""

    def __init__(
        self, function: Callable[..., Any], type: type, kind: str, category: int
    ) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

class Analyser:
    def __call__(
        self, name: str, duration_us: float, event: int, *, now_ns: int | None = None
    ) -> None: ...

class Detector:
    forgotten: int
    rejected: int
    suppressed: int
    def __init__(
        self,
        *,
        threshold: float,
        threshold_squared: float,
        min_samples: int,
        reach: float,
        generation: int,
        interval_ns: int,
        tell: Callable[[str, str, float, float, float, int, int], None],
    ) -> None: ...
    def of(self, type: str, /) -> Analyser: ...
    def reset(self) -> None: ...
    def baselines(self) -> dict[tuple[str, str], tuple[int, float, float]]: ...

class Types:
    def __init__(
        self,
        *,
        recording: int,
        find: Callable[[int], tuple[Any, ...] | None],
        string: Callable[[int], str],
        severities: tuple[str, ...],
        categories: tuple[str, ...],
    ) -> None: ...
    def lines(
        self,
        slots: list[RawSlot],
        offset_ns: int | None,
        clock: Callable[[int], str] | None,
        otherwise: Callable[[RawSlot], bytes | None],
        /,
    ) -> tuple[bytes, int, int]: ...

class SpanEncoder:
    def __init__(
        self,
        *,
        types: Types,
        trace_high: int,
        pid: int,
        type_ids: tuple[int, int, int, int, int],
        kinds: dict[bytes, int],
        statuses: dict[bytes, int],
        syscall: int,
        network: int,
        adopted: dict[int, tuple[bytes, int, bool, bytes]],
        received: dict[int, Any],
        remote: dict[int, Any],
        most: int,
    ) -> None: ...
    def take(
        self,
        slots: list[RawSlot],
        before: tuple[int, int],
        clocks: tuple[tuple[int, int], ...],
        otherwise: Callable[[RawSlot], object],
        /,
    ) -> tuple[list[tuple[int, bytes, int]], int, int]: ...
    def release(self) -> list[RawSlot]: ...

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

class Sample:
    count: int
    rejected: int
    total: float
    def __init__(self, values: list[float], /) -> None: ...
    def percentile(self, q: float, /) -> float: ...
    def values(self) -> list[float]: ...

class Found:
    @property
    def count(self) -> int: ...
    seen: int
    last_ns: int
    @property
    def undecoded(self) -> list[int]: ...
    durations: Sample
    produced: int
    discarded: int
    too_big: int
    errors: int
    @property
    def by_severity(self) -> list[tuple[int, int]]: ...
    @property
    def by_category(self) -> list[tuple[int, int]]: ...
    @property
    def by_pid(self) -> list[tuple[int, int]]: ...
    @property
    def by_type(self) -> list[tuple[str, int]]: ...
    def slots(self, make: Callable[[int, int, bytes], _Made], /) -> list[_Made]: ...
    def sources(self) -> list[int]: ...

class Condition:
    def __init__(
        self,
        types: Types,
        severity: int,
        categories: int,
        since: int,
        until: int,
        pids: tuple[int, ...] | None,
        tids: tuple[int, ...] | None,
        chains: tuple[int, ...] | None,
        type_names: frozenset[str] | None,
        names: frozenset[str] | None,
        slower: float | None,
        /,
    ) -> None: ...
    def matches(self, slot: RawSlot, /) -> bool | None: ...
    def scan(
        self,
        source: Ring | list[RawSlot],
        start: tuple[int, ...],
        keep: int,
        durations: bool,
        by_pid: bool,
        by_type: bool,
        /,
    ) -> Found | None: ...

def pick_slots(
    slots: list[RawSlot], severity: int, before: tuple[int, int], always: tuple[int, ...], /
) -> list[RawSlot]: ...
def scan(
    sources: list[tuple[Condition, Iterable[list[RawSlot]]]],
    keep: int,
    durations: bool,
    by_pid: bool,
    by_type: bool,
    /,
) -> Found | None: ...

class Hook:
    def __init__(
        self,
        *,
        before: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None,
        after: Callable[[Any, Any], None],
        failed: Callable[[Any, Any], None],
        where: str,
        shield: bool,
        changed: type,
        tell: Callable[[str, BaseException], None],
        traffic: int,
        among: dict[int, Any] | None,
    ) -> None: ...
    def put(self, function: object, /) -> bool: ...
    def remove(self) -> None: ...

class StepHook:
    def __init__(
        self,
        *,
        original: Callable[..., Any],
        after: Callable[[Any, Any], None],
        tasks: dict[int, int],
        stall_ms: float,
        live: list[bool],
        where: str,
        tell: Callable[[str, BaseException], None],
        handles: type,
        c_tasks: type | None,
    ) -> None: ...
    def aim(self, latency: Any, switched: Any, some: bool, /) -> None: ...
    def __call__(self, handle: Any, /) -> Any: ...

def call_unseen(function: Callable[..., Any], /, *args: Any) -> Any: ...
def show_own(shown: bool, /) -> None: ...

class ImportHook:
    def __init__(
        self,
        *,
        original: Callable[..., Any],
        triggers: dict[str, Any],
        imported: Callable[[str, Any], None],
    ) -> None: ...
    def __call__(self, *args: Any) -> Any: ...

class FunctionHook:
    def __init__(self, *, original: Callable[..., Any], hook: Hook, live: list[bool]) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

class WakeHook:
    def __init__(self, *, original: Callable[..., Any], live: list[bool]) -> None: ...
    def __call__(self, *args: Any) -> Any: ...

class Letters:
    level: int
    @property
    def queue(self) -> Callable[[], Any]: ...
    @property
    def label(self) -> str | int: ...
    def __init__(
        self,
        *,
        queue: Callable[[], Any],
        label: str | int,
        order: str,
        limit: int,
        make_sent: Callable[[int, Any, str, int], Any],
        cause_type: type,
    ) -> None: ...
    def add(self, item: object, sent: object, /) -> None: ...
    def remove(self, item: object, sent: object, /) -> None: ...
    def take(self, item: object, /) -> Any: ...

class QueueWatch:
    def __init__(
        self,
        *,
        cause: ContextVar[Any],
        cause_type: type,
        origin: ContextVar[str],
        origin_used: list[bool],
        queues: dict[int, Any],
        make: Callable[[Any], Letters],
        said: set[type],
        sends: type,
        receives: type,
        pools: frozenset[str],
        passed_over: str,
        passed_file: str,
        put: Callable[[Any, Any, Any], Any],
        put_done: Callable[[Any, Any], None],
        received: Callable[[str | int, int, Any], None],
        tell_depth: Callable[[Letters], None],
        timed_out: Callable[[str | int, Any, BaseException, str], None],
        tell: Callable[[str, BaseException], None],
    ) -> None: ...
    def aim(
        self,
        sent: Emitter | None,
        received: Emitter | None,
        depth: Emitter | None,
        decider: Decider | None,
        up: list[bool] | None,
        ask: Callable[[], None] | None,
        /,
    ) -> None: ...
    def forget(self, letters: Letters | None, /) -> None: ...

class QueueHook:
    def __init__(
        self,
        *,
        watch: QueueWatch,
        puts: bool,
        timeout_at: int,
        measure: Callable[[Any], int] | None,
        where: str,
    ) -> None: ...
    def put(self, function: object, /) -> bool: ...
    def remove(self) -> None: ...

class QueueMethod:
    def __init__(
        self,
        *,
        original: Callable[..., Any],
        watch: QueueWatch,
        puts: bool,
        timeout_at: int,
        live: list[bool],
        where: str,
    ) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

class TimedHook:
    calls: int
    unrecorded: int
    bytes: int
    def __init__(
        self,
        *,
        name: str,
        where: str,
        succeeded: object,
        erred: object,
        expected: frozenset[int],
        counts_bytes: bool,
        tell: Callable[[str, BaseException], None],
    ) -> None: ...
    def put(self, function: object, /) -> bool: ...
    def remove(self) -> None: ...
    def aim(
        self,
        enter: Emitter | None,
        exit: Emitter | None,
        slow: Emitter | None,
        short_us: float,
        threshold_ms: float,
        /,
    ) -> None: ...

class Busy:
    inside: bool

class Carried:
    def __init__(self, function: Callable[..., object], context: Context, /) -> None: ...
    def __call__(self, *args: object, **kwargs: object) -> object: ...

class Decider:
    dropped: int
    def __init__(
        self,
        *,
        ring: Ring,
        bound: Callable[[int], int],
        measure: Callable[[], object],
        refuse: Callable[[], None],
        check_every: int,
        check_ms: float,
        remembered: int,
        limit: int,
        generation: int,
        chance: int,
        adaptive: bool,
    ) -> None: ...
    def __call__(
        self, severity: int, category: int, causality_id: int, sampled: bool | None, /
    ) -> int: ...
    def sampled(self, causality_id: int, category: int, /) -> bool: ...
    def update(self, adaptive: bool, /) -> None: ...
    def forget(self) -> None: ...
    def close(self) -> None: ...
    def rewire(self, ring: Ring, chance: int, /) -> None: ...

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
