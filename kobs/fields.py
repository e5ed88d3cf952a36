"""Field types of payloads: what Python value, what bytes, what range.

A payload's annotation is an alias of this module (`U64`, `Name`, ...), `Annotated[str, Text(64)]`,
an `IntEnum` class, or a plain `int`, `float`, `bool`, `str`.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Annotated, Any

from kobs.errors import FieldError, FieldTypeError

Intern = Callable[[str], int]
Strings = Callable[[int], str]

IDENTIFIER_IS_STRING = 1 << 63
"""Set in an `Identifier`'s 64 bits where the rest is the id of an interned string."""


class FieldKind:
    """How one field is checked, laid out and read back.

    `code` is its `struct` format; `values` the number of values that format takes;
    `encode_source` the Python source that turns the argument into those values.
    """

    name = ""
    code = ""
    values = 1
    python = "object"
    arrow = "null"

    def check(self, value: Any, where: str) -> Any:
        """The value as the payload keeps it; raises `FieldError` naming `where` (type.field)."""
        raise NotImplementedError

    def encode_source(self, arg: str) -> tuple[list[str], list[str], dict[str, Any]]:
        """(statements, value expressions, names they need). Statements may set `_flags |= 1`."""
        return [], [arg], {}

    def decode(self, values: tuple[Any, ...], strings: Strings) -> Any:
        """The Python value of the `struct` values."""
        return values[0]

    def describe(self) -> dict[str, Any]:
        """What `kind_from_description` needs to make this kind again."""
        return {"kind": self.name}

    def native(self) -> tuple[str, int, Any] | None:
        """(kind, bytes, what else it needs) as the C core's emitters know it; None where they do
        not, and Python is to do the whole event."""
        return None

    @property
    def allowed(self) -> str:
        """The range or type in words, for messages and the reference."""
        return self.python


class Integer(FieldKind):
    """A signed or unsigned integer of 8, 16, 32 or 64 bits."""

    python = "int"
    _codes = {
        (8, False): "B", (16, False): "H", (32, False): "I", (64, False): "Q",
        (8, True): "b", (16, True): "h", (32, True): "i", (64, True): "q",
    }  # fmt: skip

    def __init__(self, bits: int, *, signed: bool = False) -> None:
        self.bits = bits
        self.signed = signed
        self.code = self._codes[bits, signed]
        self.minimum = -(1 << (bits - 1)) if signed else 0
        self.maximum = (1 << (bits - signed)) - 1
        self.name = f"{'i' if signed else 'u'}{bits}"
        self.arrow = f"{'' if signed else 'u'}int{bits}"

    def native(self) -> tuple[str, int, Any]:
        return ("signed" if self.signed else "unsigned"), self.bits // 8, None

    def check(self, value: Any, where: str) -> int:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise FieldTypeError(
                f"{where} = {value!r}: expected an int, {self.allowed}, got {_type(value)}"
            )
        number = value.__index__()
        if not self.minimum <= number <= self.maximum:
            raise FieldError(f"{where} = {number}: out of range, allowed is {self.allowed}")
        return int(number)

    @property
    def allowed(self) -> str:
        return f"{self.minimum} to {self.maximum}"


class Float(FieldKind):
    """A 64-bit float; integers are taken too."""

    name = "f64"
    code = "d"
    python = "float"
    arrow = "float64"

    def native(self) -> tuple[str, int, Any]:
        return "f64", 8, None

    def check(self, value: Any, where: str) -> float:
        if isinstance(value, bool | str | bytes):
            raise FieldTypeError(f"{where} = {value!r}: expected a number, got {_type(value)}")
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            raise FieldTypeError(
                f"{where} = {value!r}: expected a number, got {_type(value)}"
            ) from None


class Boolean(FieldKind):
    """True or False."""

    name = "bool"
    code = "?"
    python = "bool"
    arrow = "bool"

    def native(self) -> tuple[str, int, Any]:
        return "bool", 1, None

    def check(self, value: Any, where: str) -> bool:
        if not isinstance(value, bool):
            raise FieldTypeError(f"{where} = {value!r}: expected a bool, got {_type(value)}")
        return value

    def encode_source(self, arg: str) -> tuple[list[str], list[str], dict[str, Any]]:
        line = f"if {arg} is not True and {arg} is not False: _refuse()"
        return [line], [arg], {}


class InternedName(FieldKind):
    """A string that repeats: kept once a recording, its id in the payload."""

    name = "name"
    code = "I"
    python = "str"
    arrow = "string"

    def native(self) -> tuple[str, int, Any]:
        return "name", 4, None

    def check(self, value: Any, where: str) -> str:
        return _string(value, where)

    def encode_source(self, arg: str) -> tuple[list[str], list[str], dict[str, Any]]:
        return [f"{arg} = _known({arg}) or _intern({arg})"], [arg], {}

    def decode(self, values: tuple[Any, ...], strings: Strings) -> str:
        return strings(values[0])


class IdentifierKind(FieldKind):
    """What a program calls one of its things: a number below 2**63, or an interned string."""

    name = "identifier"
    code = "Q"
    python = "int | str"
    arrow = "string"

    def native(self) -> tuple[str, int, Any]:
        return "identifier", 8, None

    def check(self, value: Any, where: str) -> int | str:
        if isinstance(value, str):
            return _string(value, where)
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise FieldTypeError(f"{where} = {value!r}: expected an int or str, got {_type(value)}")
        number = int(value.__index__())
        if not 0 <= number < IDENTIFIER_IS_STRING:
            raise FieldError(f"{where} = {number}: out of range, allowed is {self.allowed}")
        return number

    def encode_source(self, arg: str) -> tuple[list[str], list[str], dict[str, Any]]:
        lines = [
            f"if {arg}.__class__ is str: {arg} = _intern({arg}) | {IDENTIFIER_IS_STRING}",
            f"elif {arg}.__class__ is not int or {arg} >= {IDENTIFIER_IS_STRING}:"
            f" {arg} = _identifier({arg}, _intern)",
        ]
        return lines, [arg], {"_identifier": self._anew}

    def _anew(self, value: Any, intern: Callable[[str], int]) -> int:
        """A value of some other kind than most, in the payload's form."""
        try:
            found = self.check(value, "")
        except FieldError:
            raise FieldTypeError from None  # whoever catches it knows the field's name
        return intern(found) | IDENTIFIER_IS_STRING if found.__class__ is str else int(found)

    def decode(self, values: tuple[Any, ...], strings: Strings) -> int | str:
        value: int = values[0]
        if value & IDENTIFIER_IS_STRING:
            return strings(value & (IDENTIFIER_IS_STRING - 1))
        return value

    @property
    def allowed(self) -> str:
        return f"a str, or 0 to {IDENTIFIER_IS_STRING - 1}"


class Text(FieldKind):
    """A string of at most `size` bytes of UTF-8 in the slot itself.

    What does not fit is cut on a character boundary and flagged; `keep="tail"` (paths) keeps
    the end. File names that are no UTF-8 survive (`surrogateescape`).
    """

    name = "text"
    values = 2
    python = "str"
    arrow = "string"

    def __init__(self, size: int, *, keep: str = "head") -> None:
        if not 1 <= size <= 127 or keep not in ("head", "tail"):
            raise FieldError(
                f'Text({size}, keep={keep!r}): size is 1 to 127 bytes, keep "head" or "tail"'
            )
        self.size = size
        self.keep = keep
        self.code = f"B{size}s"

    def native(self) -> tuple[str, int, Any]:
        return ("text tail" if self.keep == "tail" else "text"), self.size, None

    def check(self, value: Any, where: str) -> str:
        return _string(value, where)

    def encode_source(self, arg: str) -> tuple[list[str], list[str], dict[str, Any]]:
        lines = [
            f"try: {arg} = {arg}.encode('utf-8', 'surrogateescape')",
            f"except UnicodeEncodeError: {arg} = {arg}.encode('utf-8', 'backslashreplace')",
            f"if len({arg}) > {self.size}:"
            f" {arg} = _cut_{self.keep}({arg}, {self.size}); _flags |= 1",
        ]
        return lines, [f"len({arg})", arg], {f"_cut_{self.keep}": _CUTS[self.keep]}

    def decode(self, values: tuple[Any, ...], strings: Strings) -> str:
        length, data = values
        text: str = data[:length].decode("utf-8", "surrogateescape")
        return text

    def describe(self) -> dict[str, Any]:
        return {"kind": self.name, "bytes": self.size, "keep": self.keep}

    @property
    def allowed(self) -> str:
        return f"a str of up to {self.size} bytes, longer is cut ({self.keep} kept)"


class Json(FieldKind):
    """A mapping with string keys, as compact JSON of at most `size` bytes.

    Entries that do not fit are left out from the end and flagged.
    """

    name = "json"
    values = 2
    python = "Mapping[str, object]"
    arrow = "string"

    def __init__(self, size: int) -> None:
        if not 2 <= size <= 127:
            raise FieldError(f"Json({size}): size is 2 to 127 bytes")
        self.size = size
        self.code = f"B{size}s"

    def native(self) -> tuple[str, int, Any]:
        return "json", self.size, json_bytes

    def check(self, value: Any, where: str) -> Mapping[str, object]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise FieldTypeError(
                f"{where} = {value!r}: expected a mapping with str keys, got {_type(value)}"
            )
        return dict(value)

    def encode_source(self, arg: str) -> tuple[list[str], list[str], dict[str, Any]]:
        lines = [
            f"{arg} = _json_bytes({arg}, {self.size}) if {arg} else b'{{}}'",
            f"if {arg}.__class__ is tuple: {arg} = {arg}[0]; _flags |= 1",
        ]
        return lines, [f"len({arg})", arg], {"_json_bytes": json_bytes}

    def decode(self, values: tuple[Any, ...], strings: Strings) -> dict[str, object]:
        import json

        length, data = values
        try:
            decoded = json.loads(data[:length] or b"{}")
        except (ValueError, RecursionError):
            return {}
        return decoded if isinstance(decoded, dict) else {}

    def describe(self) -> dict[str, Any]:
        return {"kind": self.name, "bytes": self.size}

    @property
    def allowed(self) -> str:
        return f"a mapping whose compact JSON has up to {self.size} bytes, the rest is left out"


class Enumeration(FieldKind):
    """A member of an `IntEnum` with values 0 to 255."""

    code = "B"
    arrow = "dictionary"

    def __init__(self, members: type[IntEnum]) -> None:
        if not all(0 <= member <= 255 for member in members):
            raise FieldError(f"{members.__name__}: an enumeration's values are 0 to 255")
        self.members = members
        self.name = "enum"
        self.python = members.__name__

    def native(self) -> tuple[str, int, Any]:
        return "enum", 1, self.members

    def check(self, value: Any, where: str) -> IntEnum:
        if not isinstance(value, self.members):
            raise FieldTypeError(
                f"{where} = {value!r}: expected {self.allowed}, got {_type(value)}"
            )
        return value

    def encode_source(self, arg: str) -> tuple[list[str], list[str], dict[str, Any]]:
        name = f"_enum_{self.members.__name__}"
        return [f"if {arg}.__class__ is not {name}: _refuse()"], [arg], {name: self.members}

    def decode(self, values: tuple[Any, ...], strings: Strings) -> Any:
        try:
            return self.members(values[0])
        except ValueError:
            return values[0]

    def describe(self) -> dict[str, Any]:
        members = {member.name: int(member) for member in self.members}
        return {"kind": self.name, "enum": self.members.__name__, "members": members}

    @property
    def allowed(self) -> str:
        return " or ".join(f"{self.members.__name__}.{member.name}" for member in self.members)


U8 = Annotated[int, Integer(8)]
U16 = Annotated[int, Integer(16)]
U32 = Annotated[int, Integer(32)]
U64 = Annotated[int, Integer(64)]
I32 = Annotated[int, Integer(32, signed=True)]
I64 = Annotated[int, Integer(64, signed=True)]
F64 = Annotated[float, Float()]
Bool = Annotated[bool, Boolean()]
Name = Annotated[str, InternedName()]
Identifier = Annotated[int | str, IdentifierKind()]

PLAIN: dict[object, FieldKind] = {
    int: Integer(64, signed=True),
    float: Float(),
    bool: Boolean(),
    str: Text(40),
}


def kind_from_description(description: Mapping[str, Any]) -> FieldKind:
    """The kind that `FieldKind.describe` described, in a recording made elsewhere."""
    kind = str(description["kind"])
    if kind == "text":
        return Text(int(description["bytes"]), keep=str(description["keep"]))
    if kind == "json":
        return Json(int(description["bytes"]))
    if kind == "enum":
        members = {str(name): int(value) for name, value in description["members"].items()}
        return Enumeration(IntEnum(str(description["enum"]), members))  # type: ignore[arg-type]
    if kind[:1] in "ui" and kind[1:] in ("8", "16", "32", "64"):
        return Integer(int(kind[1:]), signed=kind[0] == "i")
    simple = {"f64": Float, "bool": Boolean, "name": InternedName, "identifier": IdentifierKind}
    if kind not in simple:
        raise FieldError(f"field kind {kind!r} is not known to this version of kobs")
    return simple[kind]()


def json_bytes(mapping: Mapping[str, object], size: int) -> bytes | tuple[bytes]:
    """Compact JSON of as many leading entries as fit; in a tuple if any was left out."""
    encode = _json_encoder()
    whole = encode(dict(mapping)).encode()
    if len(whole) <= size:
        return whole
    kept: list[bytes] = []
    room = size - 2
    for key, value in mapping.items():
        entry = encode({key: value}).encode()[1:-1]
        if len(entry) + (1 if kept else 0) > room:
            continue
        room -= len(entry) + (1 if kept else 0)
        kept.append(entry)
    return (b"{" + b",".join(kept) + b"}",)


_encode_json: Callable[[object], str] | None = None


def _json_encoder() -> Callable[[object], str]:
    """One encoder for all: `json.dumps` with options makes a new one every time, 1.5 µs."""
    global _encode_json
    if _encode_json is None:
        from json import JSONEncoder

        _encode_json = JSONEncoder(separators=(",", ":"), default=str).encode
    return _encode_json


def _cut_head(data: bytes, size: int) -> bytes:
    while size and data[size] & 0xC0 == 0x80:
        size -= 1
    return data[:size]


def _cut_tail(data: bytes, size: int) -> bytes:
    start = len(data) - size
    while start < len(data) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]


_CUTS: dict[str, Callable[[bytes, int], bytes]] = {"head": _cut_head, "tail": _cut_tail}


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise FieldTypeError(f"{where} = {value!r}: expected a str, got {_type(value)}")
    return str(value) if value.__class__ is not str else value


def _type(value: object) -> str:
    return type(value).__name__
