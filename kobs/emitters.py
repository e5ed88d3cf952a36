"""Emitters: one callable a payload type, made as straight-line code from its declaration.

An emitter converts the fields, fills the header from the ambient cause and origin, and publishes.
It is the only code between a caller and the ring.
"""

import _thread
from collections.abc import Callable
from struct import error as StructError
from time import monotonic_ns
from typing import Any

from kobs._core.contract import Ring
from kobs._core.layout import MAIN_LANE, PRIORITY_LANE
from kobs.context import Cause, cause, origin
from kobs.errors import FieldTypeError
from kobs.fields import InternedName
from kobs.gate import DROP
from kobs.hiding import Hide
from kobs.ids import NO_LANE
from kobs.levels import Severity
from kobs.payload_type import MISSING
from kobs.schema import Schema

Emitter = Callable[..., int]


BeginEmitter = Callable[..., tuple[int, int]]
"""As an `Emitter`, of an event that opens a scope: (event id, entry in the in-flight table)."""

_HEADER = frozenset(
    ("pid", "tid", "severity", "category", "causality_id", "parent", "span_id", "link",
     "timestamp_ns", "flags")
)  # fmt: skip
"""Header fields that an emitter takes by keyword."""

Rewire = Callable[[Ring, int], None]
"""Has an emitter go on in another ring, as another process: after a fork."""


class Cell:
    """What a written emitter reads on every call; exchanged when the ring is."""

    __slots__ = ("_format", "begins", "ring", "wiring")

    def __init__(self, payload_format: str, *, begins: bool) -> None:
        self._format = payload_format
        self.begins = begins
        self.wiring: tuple[Any, Callable[[str], int], Callable[[str], int | None], int]
        """What publishes (a `BeginPublisher`, or `Writers`), what interns, what knows the strings
        that were, and the process."""

    def wire(self, ring: Ring, pid: int) -> None:
        """Publish into `ring` from here on."""
        self.ring = ring
        make = ring.begin_publisher if self.begins else ring.writers
        self.wiring = (make(self._format), ring.intern, ring.known, pid)


class ThreadIds(_thread._local):
    """The kernel's id of each thread, asked for once a thread."""

    def __init__(self) -> None:
        self.tid = _thread.get_native_id()


def lane_of(schema: Schema, severity: int) -> int:
    """WARN and above, and types that say `keep`, go to the priority lane."""
    return PRIORITY_LANE if schema.keep or severity >= Severity.WARN else MAIN_LANE


def make_emitter(
    schema: Schema,
    ring: Ring,
    pid: int,
    *,
    begins: bool = False,
    gate: list[bool],
    threads: list[ThreadIds],
    decide: Callable[[int, int, int, bool | None], int],
    analyse: Callable[[str, float, int], None] | None,
    hide: Hide | None = None,
) -> tuple[Callable[..., Any], Rewire]:
    """The emitter of a payload type (with `begins` a `BeginEmitter`), and what has it go on in
    another ring.

    `gate[0]` true sends every call through `decide(severity, category, causality_id, sampled)`,
    which answers with flags to add, or -1 to drop. `analyse(name, duration_us, event)` sees the
    durations. What `hide` hides is counted, and nothing else happens.
    """
    if "duration_us" not in schema.field_names:
        analyse = None
    native = getattr(ring, "native", None)
    fields = native_fields(schema) if native is not None else None
    if native is not None and fields is not None:
        made, wire = _native_emitter(
            schema, native, pid, fields, begins, gate, decide, analyse, hide
        )
    else:
        cell = Cell(schema.format, begins=begins)
        cell.wire(ring, pid)
        made, wire = _written_emitter(schema, cell, gate, threads, decide, analyse, hide), cell.wire
    ring.add_schema(schema.type_id, schema.to_record())
    made.__name__ = made.__qualname__ = f"emit_{schema.name}"
    made.__doc__ = (
        f"Emit {schema.name}({', '.join(schema.field_names)}); the id of the event, 0 if it was "
        "not recorded.\n\nHeader fields by keyword. Raises `FieldError` for a value that does not "
        "fit."
    )

    def rewire(ring: Ring, pid: int) -> None:
        ring.add_schema(schema.type_id, schema.to_record())
        wire(ring, pid)

    return made, rewire


def native_fields(schema: Schema) -> tuple[tuple[Any, ...], ...] | None:
    """A payload's fields as the C core's emitters take them; None where it does not know one."""
    found = []
    for field in schema.fields:
        kind = field.kind.native()
        if kind is None:
            return None
        name, size, extra = kind
        default = None if field.required else field.default
        found.append((field.name, name, field.offset, size, not field.required, default, extra))
    return tuple(found)


def _analysed_name(schema: Schema) -> str | None:
    """The field whose value, with the type's name, names the metric of a duration."""
    if schema.name_field and isinstance(schema.field(schema.name_field).kind, InternedName):
        return schema.name_field
    return None


def _native_emitter(
    schema: Schema,
    ring: Any,
    pid: int,
    fields: tuple[tuple[Any, ...], ...],
    begins: bool,
    gate: list[bool],
    decide: Callable[[int, int, int, bool | None], int],
    analyse: Callable[[str, float, int], None] | None,
    hide: Hide | None,
) -> tuple[Any, Rewire]:
    from kobs._core import _native

    made = _native.Emitter(
        ring=ring,
        pid=pid,
        title=schema.name,
        payload=schema.cls,
        type_id=schema.type_id,
        severity=int(schema.severity),
        category=int(schema.category),
        keep=schema.keep,
        fields=fields,
        size=schema.size,
        begins=begins,
        scope_name=schema.name_field if begins else None,
        name_field=_analysed_name(schema) if analyse is not None else None,
        duration_field="duration_us" if analyse is not None else None,
        cause=cause,
        cause_type=Cause,
        origin=origin.variable,
        origin_used=origin.used,
        gate=gate,
        decide=decide,
        analyse=analyse,
        explain=_Explain(schema),
        hides=hide.hides if hide is not None else None,
        hidden=hide.answers if hide is not None else {},
        hide_field=hide.field if hide is not None else None,
    )

    def rewire(ring: Any, pid: int) -> None:
        made.rewire(ring.native, pid)

    return made, rewire


def _written_emitter(
    schema: Schema,
    cell: Cell,
    gate: list[bool],
    threads: list[ThreadIds],
    decide: Callable[[int, int, int, bool | None], int],
    analyse: Callable[[str, float, int], None] | None,
    hide: Hide | None,
) -> Any:
    # All names of its own begin with an underscore, which a field's cannot.
    statements, values, names = schema.encode_source(_parameter)
    names.update(
        _cell=cell,
        _gate=gate,
        _threads=threads,
        _decide=decide,
        _DROP=DROP,
        _NO_LANE=NO_LANE,
        _analyse=analyse,
        _cause_get=cause.get,
        _origin_get=origin.get,
        _origin_used=origin.used,
        _clock=monotonic_ns,
        _hidden=_hidden(hide, cell) if hide is not None else None,
        _refuse=_refuse,
        _explain=_Explain(schema),
        _errors=(StructError, FieldTypeError, TypeError, AttributeError, ValueError, OverflowError),
    )
    parameters = ""
    for index, field in enumerate(schema.fields):
        names[f"_default{index}"] = field.default
        name = _parameter(field.name)
        parameters += f"{name}=_default{index}, " if not field.required else f"{name}, "
    arguments = ", ".join(map(_parameter, schema.field_names))
    severity, category = int(schema.severity), int(schema.category)
    publish, close = "_event = _publish[1][_lane](_publish[0](", "))"
    if cell.begins:
        scope = schema.name_field
        named = f"_intern(str({_parameter(scope)}))" if scope else "0"
        if scope and isinstance(schema.field(scope).kind, InternedName):
            named = f"_e_{scope}"
        publish, close = f"_event, _entry = _publish({named}, _lane, ", ")"
    lines = [
        f"def _emit({parameters}*, pid=None, tid=None, severity=None, category=None,"
        " causality_id=None, parent=None, span_id=None, link=0, timestamp_ns=None, flags=0):",
        "    _flags = flags or 0",
        "    _cause = _cause_get()",
        "    if _cause is not None:",
        "        if causality_id is None: causality_id = _cause[0]",
        "        if parent is None: parent = _cause[1]",
        "        if span_id is None: span_id = _cause[2]",
        "    if severity is None and category is None:",
        f"        _lane = {lane_of(schema, severity)}; _level = {severity | category << 4}",
        "    else:",
        f"        if severity is None: severity = {severity}",
        f"        if category is None: category = {category}",
        f"        _lane = 1 if severity >= {int(Severity.WARN)} else {int(schema.keep)}",
        "        _level = severity | category << 4",
        *(_hiding_source(hide, "_level >> 4", "0, -1" if cell.begins else "0")),
        "    if _gate[0]:",
        "        _more = _decide(_level & 15, _level >> 4, causality_id or 0,"
        " _cause[3] if _cause is not None and _cause[0] == causality_id else None)",
        *(
            (
                "        if _more == _DROP: return 0, -1",
                "        if _more < 0: _lane = _NO_LANE; _more = 0",
            )
            if cell.begins
            else ("        if _more < 0: return 0",)
        ),
        "        _flags |= _more",
        "    _publish, _intern, _known, _own_pid = _cell.wiring",
        "    _scope = _origin_get() if _origin_used[0] else ''",
        "    try:",
        "        if _scope: _scope = _intern(_scope)",
        *(f"        {line}" for line in statements),
        f"        {publish}_clock() if timestamp_ns is None else timestamp_ns,"
        " causality_id or 0, parent or 0, span_id or 0, link or 0,"
        " _own_pid if pid is None else pid,"
        f" _threads[0].tid if tid is None else tid, {schema.type_id}, _level, _flags,"
        f" _scope or 0, {', '.join(values)}{close}",
        f"    except _errors as _error: _explain(_error, ({arguments},), pid, link, parent)",
    ]
    tail = [f"    return {'_event, _entry' if cell.begins else '_event'}"]
    if analyse is not None:
        analysed = _analysed_name(schema)
        name = repr("") if analysed is None else _parameter(analysed)
        tail.insert(0, f"    if _event: _analyse({name}, duration_us, _event)")
    exec("\n".join(lines + tail), names)
    if cell.begins:
        return names["_emit"]
    # Most calls give no more than the fields and `pid`, and go straight: a function with ten
    # keywords costs three times as much to call, also where none is given.
    names["_general"] = names.pop("_emit")
    lines = [
        f"def _emit({parameters}*, pid=None, **_header):",
        *(_hiding_source(hide, str(category), "0", unless="_header or _gate[0]")),
        f"    if _header or _gate[0]: return _general({arguments}, pid=pid, **_header)",
        "    _cause = _cause_get()",
        "    if _cause is None: _causality_id = _parent = _span_id = 0",
        "    else: _causality_id, _parent, _span_id = _cause[0], _cause[1], _cause[2]",
        "    (_pack, _write), _intern, _known, _own_pid = _cell.wiring",
        "    _flags = 0",
        "    try:",
        "        _scope = _origin_get() if _origin_used[0] else ''",
        "        _scope = _intern(_scope) if _scope else 0",
        *(f"        {line}" for line in statements),
        f"        _event = _write[{lane_of(schema, severity)}](_pack(_clock(), _causality_id or 0,"
        f" _parent or 0, _span_id or 0, 0, _own_pid if pid is None else pid, _threads[0].tid,"
        f" {schema.type_id}, {severity | category << 4}, _flags, _scope, {', '.join(values)}))",
        f"    except _errors as _error: _explain(_error, ({arguments},), pid, 0, None)",
    ]
    exec("\n".join(lines + tail), names)
    names["_emit"].general = names["_general"]
    return names["_emit"]


def _parameter(field: str) -> str:
    """The parameter of a field. One that has a header field's name is given by its place."""
    return f"_field_{field}" if field in _HEADER else field


def _hiding_source(
    hide: Hide | None, category: str, answer: str, *, unless: str = ""
) -> tuple[str, ...]:
    if hide is None:
        return ()
    field = None if hide.field is None else _parameter(hide.field)
    test = f"_hidden({field}, {category})"
    return (f"    if {f'not ({unless}) and ' if unless else ''}{test}: return {answer}",)


def _hidden(hide: Hide, cell: Cell) -> Callable[[object, int], bool]:
    """Whether an event is hidden; counts those that are. A closed ring hides nothing: it
    refuses."""

    def hidden(name: object, category: int) -> bool:
        ring = cell.ring
        if ring.closed or not hide.hides(name):
            return False
        ring.leave_out("filtered", category)
        return True

    return hidden


class _Explain:
    """The cold half of an emitter: says which value did not fit, and why."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def __call__(
        self, error: Exception, values: tuple[Any, ...], pid: Any, link: Any, parent: Any
    ) -> None:
        for field, value in zip(self.schema.fields, values, strict=True):
            if value is not MISSING:
                field.kind.check(value, f"{self.schema.name}.{field.name}")
        for name, value, bits in (("pid", pid, 32), ("link", link, 64), ("parent", parent, 64)):
            if value is not None and not (isinstance(value, int) and 0 <= value < 1 << bits):
                raise FieldTypeError(
                    f"{self.schema.name}: header {name}={value!r}: expected 0 to {(1 << bits) - 1}"
                ) from None
        raise error


def _refuse() -> None:
    raise FieldTypeError
