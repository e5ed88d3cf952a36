"""A payload type is declared once, as an annotated class; all else is derived from that.

    @event_type(category=Category.IPC)
    class JobQueued(PayloadType):
        \"\"\"A job was put on the queue.\"\"\"

        job: Name
        size: U64 = 0

From this follow the binary layout, the constructor with its checks, the encoder, the decoder,
the pattern (`JobQueued.like(job="x")`), the record in a recording's header and the page in the
reference.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from keyword import iskeyword
from struct import Struct, calcsize
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_type_hints

from kobs.errors import FieldError, SchemaError
from kobs.fields import (
    F64 as F64,
    I32 as I32,
    I64 as I64,
    PLAIN,
    U8 as U8,
    U16 as U16,
    U32 as U32,
    U64 as U64,
    Bool,
    Enumeration,
    FieldKind,
    Identifier,
    Json,
    Name,
    Strings,
    Text,
    kind_from_description,
)
from kobs.levels import Category, Severity
from kobs.payload_type import MISSING, PayloadType, make_class, own_annotations

__all__ = [
    "F64",
    "I32",
    "I64",
    "U8",
    "U16",
    "U32",
    "U64",
    "Bool",
    "Field",
    "Identifier",
    "Json",
    "Name",
    "PayloadType",
    "Schema",
    "Text",
    "event_type",
    "registered_types",
    "schema_from_record",
]

PAYLOAD_BYTES = 128
FIRST_USER_TYPE = 1024
LAST_TYPE = 65_535

_UNITS = {"_ns": "ns", "_us": "µs", "_ms": "ms", "_pct": "%", "_mb": "MiB"}
_BYTES = {"size", "bytes_sent", "bytes_received"}
_DURATIONS = ("duration_us", "duration_ms", "actual_ms", "wake_to_run_us")
_NAMES = ("name", "operation", "queue_id", "metric", "resource", "pipe_id", "path",
          "logger")  # fmt: skip

_types: dict[str, type["PayloadType"]] = {}
_next_user_type = FIRST_USER_TYPE

T = TypeVar("T")


class Field:
    """One field of a payload type."""

    __slots__ = ("default", "kind", "name", "offset")

    def __init__(self, name: str, kind: FieldKind, offset: int, default: Any = MISSING) -> None:
        self.name = name
        self.kind = kind
        self.offset = offset
        self.default = default

    @property
    def size(self) -> int:
        """Bytes in the payload."""
        return calcsize("=" + self.kind.code)

    @property
    def required(self) -> bool:
        """It has no default."""
        return self.default is MISSING

    @property
    def unit(self) -> str:
        """Unit of measure, from the name's ending; empty if it has none."""
        for ending, unit in _UNITS.items():
            if self.name.endswith(ending):
                return unit
        return "bytes" if self.name in _BYTES else ""


class Schema:
    """Everything that is derived from a payload type's declaration."""

    def __init__(
        self,
        name: str,
        type_id: int,
        category: Category,
        severity: Severity,
        kinds: Mapping[str, tuple[FieldKind, Any]],
        *,
        stable: bool = False,
        keep: bool = False,
    ) -> None:
        self.name = name
        self.type_id = type_id
        self.category = category
        self.severity = severity
        self.stable = stable
        """Its count in a run does not depend on timing: it may take part in baselines."""
        self.keep = keep
        """It goes to the priority lane whatever its severity."""
        self.cls: type[PayloadType] = PayloadType
        offset = 0
        fields = []
        for field_name, (kind, default) in kinds.items():
            field = Field(field_name, kind, offset, default)
            fields.append(field)
            offset += field.size
        if offset > PAYLOAD_BYTES:
            sizes = ", ".join(f"{field.name} {field.size}" for field in fields)
            raise SchemaError(
                f"{name} takes {offset} bytes ({sizes}); a payload has {PAYLOAD_BYTES}: "
                "shorten its Text fields or use Name for strings that repeat"
            )
        self.fields = tuple(fields)
        self.field_names = tuple(kinds)
        self.format = "".join(field.kind.code for field in fields)
        self.size = offset
        self.duration_field = next((n for n in _DURATIONS if n in kinds), None)
        """The field that says how long it took; None if there is none."""
        self.name_field = next((n for n in _NAMES if n in kinds), None)
        """The field that says what it happened to, for reports and metrics."""
        self._unpack = Struct("=" + self.format).unpack_from

    def field(self, name: str) -> Field:
        """The field of that name. Raises `FieldError` naming those there are."""
        for field in self.fields:
            if field.name == name:
                return field
        raise FieldError(self.unknown(name))

    def unknown(self, name: str) -> str:
        """The message for a field that this type does not have."""
        return f"{self.name} has no field {name!r}; its fields are {', '.join(self.field_names)}"

    def check(self, name: str, value: Any) -> Any:
        """The value as field `name` keeps it. Raises `FieldError` or `FieldTypeError`."""
        return self.field(name).kind.check(value, f"{self.name}.{name}")

    def decode(self, data: bytes, strings: Strings) -> "PayloadType":
        """The payload from its bytes; `strings` gives the string of an id."""
        values = self._unpack(data)
        payload = object.__new__(self.cls)
        position = 0
        for field in self.fields:
            after = position + field.kind.values
            object.__setattr__(
                payload, field.name, field.kind.decode(values[position:after], strings)
            )
            position = after
        return payload

    def encode_source(
        self, parameter: Callable[[str], str]
    ) -> tuple[list[str], list[str], dict[str, Any]]:
        """Python source that turns the arguments that `parameter` names into `struct` values.

        (statements, value expressions, names the source needs); it also uses `_intern`, `_known`
        and `_refuse` and may set bits of `_flags`.
        """
        statements: list[str] = []
        expressions: list[str] = []
        names: dict[str, Any] = {}
        for field in self.fields:
            argument = parameter(field.name)
            lines, values, needed = field.kind.encode_source(argument)
            if lines:  # work on a copy: a message about a bad value shows what was given
                copy = f"_e_{field.name}"
                lines, values, needed = field.kind.encode_source(copy)
                statements.append(f"{copy} = {argument}")
            statements += lines
            expressions += values
            names.update(needed)
        return statements, expressions, names

    def to_record(self) -> bytes:
        """The JSON record that a recording's header keeps of this type."""
        import json

        record = {
            "name": self.name,
            "category": self.category.name,
            "severity": self.severity.name,
            "stable": self.stable,
            "keep": self.keep,
            "format": self.format,
            "fields": [
                {
                    "name": field.name,
                    "offset": field.offset,
                    "size": field.size,
                    "format": field.kind.code,
                    **({"unit": field.unit} if field.unit else {}),
                    **field.kind.describe(),
                }
                for field in self.fields
            ],
        }
        return json.dumps(record, separators=(",", ":")).encode()


@dataclass_transform(frozen_default=True)
def event_type(
    *,
    category: Category,
    severity: Severity = Severity.INFO,
    stable: bool = False,
    keep: bool = False,
    name: str | None = None,
) -> Callable[[type[T]], type[T]]:
    """Declare a payload type.

    `category` and `severity` are the defaults of its events; `stable` says that how often it
    happens does not depend on timing; `keep` puts its events in the priority lane. `name` is
    the class's name unless given. Raises `SchemaError` for a field that cannot be laid out.
    """

    def declare(cls: type[T]) -> type[T]:
        global _next_user_type
        type_name = name or cls.__name__
        known = _types.get(type_name)
        if known is not None and known.__module__ != cls.__module__:
            raise SchemaError(
                f"the payload type {type_name!r} is declared already, in {known.__module__}; "
                'give this one another name with event_type(name="...")'
            )
        if known is not None:
            type_id = known.__kobs_schema__.type_id
        else:
            type_id, _next_user_type = _next_user_type, _next_user_type + 1
        return declare_type(cls, type_name, type_id, category, severity, stable=stable, keep=keep)

    return declare


def declare_type(
    cls: type[T],
    name: str,
    type_id: int,
    category: Category,
    severity: Severity,
    *,
    stable: bool,
    keep: bool,
) -> type[T]:
    """Make the payload class of a declaration and register it (`event_type`'s second half)."""
    kinds: dict[str, tuple[FieldKind, Any]] = {}
    for base in reversed(cls.__mro__):
        schema = base.__dict__.get("__kobs_schema__")
        if isinstance(schema, Schema):
            kinds.update({f.name: (f.kind, f.default) for f in schema.fields})
    for field_name, annotation in _annotations(cls).items():
        default = cls.__dict__.get(field_name, MISSING)
        kind = _kind(name, field_name, annotation)
        if default is not MISSING:
            default = kind.check(default, f"{name}.{field_name}")
        kinds[field_name] = (kind, default)
    schema = Schema(name, type_id, Category(category), Severity(severity), kinds,
                    stable=stable, keep=keep)  # fmt: skip
    made = make_class(cls, schema)
    _types[name] = made
    return made  # type: ignore[return-value]


def registered_types() -> dict[str, type[PayloadType]]:
    """Every payload type that this process knows, by name."""
    return dict(_types)


def schema_from_record(type_id: int, record: bytes) -> Schema:
    """The schema of a header's JSON record.

    Where this process has the same type, its class is used; else a class is made. Raises
    `SchemaError` for a record that makes no sense.
    """
    import json

    try:
        description = json.loads(record)
        name = str(description["name"])
        known = _types.get(name)
        if known is not None and known.__kobs_schema__.to_record() == record:
            return known.__kobs_schema__
        kinds = {
            _checked(name, str(field["name"])): (kind_from_description(field), MISSING)
            for field in description["fields"]
        }
        schema = Schema(
            name,
            type_id,
            Category[description["category"]],
            Severity[description["severity"]],
            kinds,
            stable=bool(description.get("stable")),
            keep=bool(description.get("keep")),
        )
        make_class(type(name, (), {"__doc__": f"{name}, as the recording declares it."}), schema)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,  # a size that is infinite
        RecursionError,  # JSON that is nested too deep
    ) as error:
        raise SchemaError(
            f"the recording's declaration of payload type {type_id} makes no sense: {error}"
        ) from error
    return schema


def _annotations(cls: type) -> dict[str, Any]:
    own = own_annotations(cls)
    if any(isinstance(annotation, str) for annotation in own.values()):
        hints = get_type_hints(cls, include_extras=True)
        own = {name: hints[name] for name in own}
    return {
        name: annotation
        for name, annotation in own.items()
        if getattr(annotation, "__origin__", None) is not ClassVar
    }


def _checked(type_name: str, field_name: str) -> str:
    """A field's name, if it hides nothing that a payload has and can be an argument's."""
    if (
        not field_name.isidentifier()
        or iskeyword(field_name)
        or field_name.startswith("_")
        or field_name in _RESERVED
    ):
        raise SchemaError(f"{type_name}.{field_name}: a field cannot have this name")
    return field_name


def _kind(type_name: str, field_name: str, annotation: Any) -> FieldKind:
    _checked(type_name, field_name)
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, FieldKind):
            return extra
    if annotation in PLAIN:
        return PLAIN[annotation]
    if isinstance(annotation, type) and issubclass(annotation, IntEnum):
        return Enumeration(annotation)
    raise SchemaError(
        f"{type_name}.{field_name}: {annotation!r} cannot be laid out; use int, float, bool, str, "
        "an IntEnum, or a type of kobs.fields (U8 ... U64, I32, I64, F64, Name, Identifier, "
        "Annotated[str, Text(64)])"
    )


_RESERVED = {"like", "to_dict"}
