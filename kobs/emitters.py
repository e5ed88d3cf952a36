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
from kobs.context import cause, origin
from kobs.errors import FieldTypeError
from kobs.fields import InternedName
from kobs.levels import Severity
from kobs.payload_type import MISSING
from kobs.schema import Schema

Emitter = Callable[..., int]


BeginEmitter = Callable[..., tuple[int, int]]
"""As an `Emitter`, of an event that opens a scope: (event id, entry in the in-flight table)."""


class Cell:
    """What an emitter reads on every call; exchanged when the ring is (fork)."""

    __slots__ = ("begins", "schema", "wiring")

    def __init__(self, schema: Schema, *, begins: bool) -> None:
        self.schema = schema
        self.begins = begins
        self.wiring: tuple[Callable[..., Any], Callable[[str], int], int]

    def wire(self, ring: Ring, pid: int) -> None:
        """Publish into `ring` from here on."""
        ring.add_schema(self.schema.type_id, self.schema.to_record())
        make = ring.begin_publisher if self.begins else ring.publisher
        self.wiring = (make(self.schema.format), ring.intern, pid)


class ThreadIds(_thread._local):
    """The kernel's id of each thread, asked for once a thread."""

    def __init__(self) -> None:
        self.tid = _thread.get_native_id()


def lane_of(schema: Schema, severity: int) -> int:
    """WARN and above, and types that say `keep`, go to the priority lane."""
    return PRIORITY_LANE if schema.keep or severity >= Severity.WARN else MAIN_LANE


def make_emitter(
    schema: Schema,
    cell: Cell,
    *,
    gate: list[bool],
    threads: list[ThreadIds],
    decide: Callable[[int, int, int, bool | None], int],
    analyse: Callable[[str, float, int], None] | None,
) -> Callable[..., Any]:
    """The emitter of a payload type, a `BeginEmitter` where the cell is one for begins.

    `gate[0]` true sends every call through `decide(severity, category, causality_id, sampled)`,
    which answers with flags to add, or -1 to drop. `analyse(name, duration_us, event)` sees the
    durations.
    """
    statements, values, names = schema.encode_source()
    names.update(
        cell=cell,
        gate=gate,
        threads=threads,
        decide=decide,
        analyse=analyse,
        cause_get=cause.get,
        origin_get=origin.get,
        clock=monotonic_ns,
        refuse=_refuse,
        explain=_Explain(schema),
        errors=(StructError, FieldTypeError, TypeError, AttributeError, ValueError),
    )
    parameters = ""
    for index, field in enumerate(schema.fields):
        names[f"default{index}"] = field.default
        parameters += f"{field.name}=default{index}, " if not field.required else f"{field.name}, "
    arguments = ", ".join(schema.field_names)
    severity, category = int(schema.severity), int(schema.category)
    publish = "event = publish("
    if cell.begins:
        name = schema.name_field
        named = f"intern(str({name}))" if name else "0"
        if name and isinstance(schema.field(name).kind, InternedName):
            named = f"(named := intern({name}))"
            values = ["named" if value == f"intern({name})" else value for value in values]
        publish = f"event, entry = publish({named}, "
    lines = [
        f"def emit({parameters}*, pid=None, tid=None, severity=None, category=None,"
        " causality_id=None, parent=None, span_id=None, link=0, timestamp_ns=None, flags=0):",
        "    cause = cause_get()",
        "    if cause is not None:",
        "        if causality_id is None: causality_id = cause[0]",
        "        if parent is None: parent = cause[1]",
        "        if span_id is None: span_id = cause[2]",
        "    if severity is None and category is None:",
        f"        lane = {lane_of(schema, severity)}; level = {severity | category << 4}",
        "    else:",
        f"        if severity is None: severity = {severity}",
        f"        if category is None: category = {category}",
        f"        lane = 1 if severity >= {int(Severity.WARN)} else {int(schema.keep)}",
        "        level = severity | category << 4",
        "    if gate[0]:",
        "        more = decide(level & 15, level >> 4, causality_id or 0,"
        " cause[3] if cause is not None else None)",
        f"        if more < 0: return {'0, -1' if cell.begins else '0'}",
        "        flags |= more",
        "    publish, intern, own_pid = cell.wiring",
        "    scope = origin_get()",
        "    try:",
        *(f"        {line}" for line in statements),
        f"        {publish}lane, clock() if timestamp_ns is None else timestamp_ns,"
        " causality_id or 0, parent or 0, span_id or 0, link, own_pid if pid is None else pid,"
        f" threads[0].tid if tid is None else tid, {schema.type_id}, level, flags,"
        f" intern(scope) if scope else 0, {', '.join(values)})",
        f"    except errors as error: explain(error, ({arguments},), pid, link, parent)",
    ]
    if analyse is not None and "duration_us" in schema.field_names:
        name = "''"
        if schema.name_field and isinstance(schema.field(schema.name_field).kind, InternedName):
            name = schema.name_field
        lines.append(f"    if event: analyse({name}, duration_us, event)")
    lines.append(f"    return {'event, entry' if cell.begins else 'event'}")
    exec("\n".join(lines), names)
    emit: Callable[..., Any] = names["emit"]
    emit.__name__ = emit.__qualname__ = f"emit_{schema.name}"
    emit.__doc__ = (
        f"Emit {schema.name}({arguments}); the id of the event, 0 if it was not recorded.\n\n"
        "Header fields by keyword. Raises `FieldError` for a value that does not fit."
    )
    return emit


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
