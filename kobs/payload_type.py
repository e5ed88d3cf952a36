"""The classes that payload declarations become: immutable, checked, comparable by value."""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from kobs.errors import FieldError

if TYPE_CHECKING:
    from kobs.pattern import Like
    from kobs.schema import Schema

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "<required>"})()
"""Stands where a required field has no default."""


@dataclass_transform(frozen_default=True)
class PayloadType:
    """Base of payload types. Instances are immutable, comparable and hashable by value."""

    __slots__ = ()
    __kobs_schema__: "ClassVar[Schema]"

    @classmethod
    def like(cls, **fields: Any) -> "Like":
        """A pattern: an event of this type whose fields match.

        A value matches by `==`, a plain function by its answer. Raises `FieldError` for a
        field that the type does not have.
        """
        from kobs.pattern import like

        return like(cls, **fields)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON can write them."""
        return {
            name: value.name if isinstance(value := getattr(self, name), IntEnum) else value
            for name in self.__kobs_schema__.field_names
        }

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} is read-only: payloads are immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} is read-only: payloads are immutable")

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash((self.__class__, *map(_hashable, _values(self))))

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{name}={_brief(getattr(self, name))}" for name in self.__kobs_schema__.field_names
        )
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(_values(self))


def own_annotations(cls: type) -> dict[str, Any]:
    """The annotations of the class itself, without its bases'."""
    return dict(cls.__dict__.get("__annotations__", {}))  # noqa: RUF063  (inspect costs 10 ms)


def make_class(cls: type, schema: "Schema") -> type[PayloadType]:
    """The payload class of a declaration: slots, constructor, signature."""
    namespace = {
        key: value
        for key, value in cls.__dict__.items()
        if key not in schema.field_names
        and key not in ("__dict__", "__weakref__", "__slots__", "__annotations__", "__init__")
    }
    inherited = {
        name for base in cls.__mro__ for name in getattr(base, "__slots__", ()) if base is not cls
    }
    namespace["__slots__"] = tuple(n for n in schema.field_names if n not in inherited)
    namespace["__match_args__"] = schema.field_names
    namespace["__kobs_schema__"] = schema
    namespace["__signature__"] = _LazySignature()
    namespace["__annotations__"] = own_annotations(cls)
    bases = cls.__bases__ if issubclass(cls, PayloadType) else (PayloadType, *cls.__bases__)
    if bases[-1] is object:
        bases = bases[:-1] or (PayloadType,)
    made = type(cls)(cls.__name__, bases, namespace)
    setattr(made, "__init__", _first_init(made, schema))
    schema.cls = made
    return made


def _first_init(cls: type, schema: "Schema") -> Callable[..., None]:
    """An `__init__` that makes the real one when it is first called. A process that is only
    watched makes no payload at all, and compiling fifty constructors takes it 5 ms."""

    def __init__(self: PayloadType, *values: Any, **fields: Any) -> None:
        real = _make_init(cls, schema)
        if cls.__dict__.get("__init__") is __init__:
            setattr(cls, "__init__", real)
        real(self, *values, **fields)

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    return __init__


def _make_init(cls: type, schema: "Schema") -> Callable[..., None]:
    """`__init__` with a check a field, as straight-line code: a payload is made a call."""
    where = {field.name: f"{schema.name}.{field.name}" for field in schema.fields}
    names: dict[str, Any] = {"missing": MISSING, "refuse": _refuse, "schema": schema}
    parameters = "".join(f"{name}=missing, " for name in schema.field_names)
    lines = [f"def __init__(self, {parameters}*extra, **unknown):"]
    lines.append("    if extra or unknown: refuse(schema, extra, unknown)")
    for index, field in enumerate(schema.fields):
        names[f"check{index}"] = field.kind.check
        names[f"set{index}"] = getattr(cls, field.name).__set__
        names[f"default{index}"] = field.default
        otherwise = (
            f"refuse(schema, (), {{}}, {field.name!r})"
            if field.required
            else f"dict(default{index})"
            if isinstance(field.default, dict)
            else f"default{index}"
        )
        lines.append(
            f"    set{index}(self, check{index}({field.name}, {where[field.name]!r})"
            f" if {field.name} is not missing else {otherwise})"
        )
    exec("\n".join(lines), names)
    init: Callable[..., None] = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _refuse(
    schema: "Schema", extra: tuple[Any, ...], unknown: Mapping[str, Any], missing: str = ""
) -> None:
    fields = ", ".join(schema.field_names)
    if extra:
        raise FieldError(
            f"{schema.name} takes {len(schema.fields)} fields ({fields}); "
            f"got {len(schema.fields) + len(extra)} values"
        )
    if unknown:
        raise FieldError("; ".join(schema.unknown(name) for name in unknown))
    raise FieldError(f"{schema.name} needs {missing!r}; its fields are {fields}")


class _LazySignature:
    """`inspect.signature` of a payload type; `inspect` is imported only where it is asked for."""

    def __get__(self, instance: object, owner: type[PayloadType]) -> Any:
        from inspect import Parameter, Signature

        return Signature(
            [
                Parameter(
                    field.name,
                    Parameter.POSITIONAL_OR_KEYWORD,
                    default=Parameter.empty if field.required else field.default,
                )
                for field in owner.__kobs_schema__.fields
            ]
        )


def _values(payload: object) -> list[Any]:
    schema: Schema = payload.__kobs_schema__  # type: ignore[attr-defined]
    return [getattr(payload, name) for name in schema.field_names]


def _hashable(value: Any) -> Any:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


def _brief(value: Any) -> str:
    if isinstance(value, IntEnum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(value)
