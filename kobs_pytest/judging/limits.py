"""Budgets as they are written: in the marker `kobs_budget`, and as text in options.

    @pytest.mark.kobs_budget(FileOpened=3, ProcessCreated=0)
    @pytest.mark.kobs_budget(SyscallExit={"count": 100, "p95": "5ms"})
    @pytest.mark.kobs_budget(SyscallExit.like(name="read"), count=10, max="20ms")
    @pytest.mark.kobs_budget(FileOpened=3, ids={"large": {"FileOpened": 30}, "*-slow": {}})

and `FileOpened=3; SyscallExit[read] count=10 p95=5ms` as text, where `[read]` is the name that such
an event bears.

PYTEST_DONT_REWRITE
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from kobs.errors import ConfigError
from kobs.fields import IdentifierKind
from kobs.pattern import EventPattern, Pattern
from kobs.pattern.base import shown as shown_value
from kobs.schema import PayloadType, Schema, registered_types
from kobs_pytest.judging import amounts

PERCENTILE = re.compile(r"p\d{1,2}(\.\d+)?")
_KINDS = "count, p50, p95, p99 (or another percentile), max, total, bytes"
_TEXT = re.compile(r"(?P<subject>\w+(?:\[[^\]]*\])?)\s*(?:=\s*(?P<count>\d+))?(?P<rest>.*)", re.S)
_MARKER = "@pytest.mark.kobs_budget"


class Limit(NamedTuple):
    """At most this much."""

    subject: str
    """Of what: `FileOpened`, `SyscallExit[read]`, or a pattern."""
    pattern: Pattern
    kind: str
    """count, pNN, max, total or bytes."""
    allowed: float | None
    """Events, microseconds or bytes; None: no limit."""

    @property
    def unit(self) -> str:
        """events, us or bytes."""
        return {"count": "events", "bytes": "bytes"}.get(self.kind, "us")


Budget = dict[tuple[str, str], Limit]
"""By subject and kind."""


def budget_of_text(text: str, where: str) -> Budget:
    """A budget as an option gives it: entries on lines of their own, or with `;` between them.
    Raises `ConfigError`."""
    found: Budget = {}
    for entry in re.split(r"[;\n]", text):
        if not entry.strip():
            continue
        parts = _TEXT.fullmatch(entry.strip())
        said: dict[str, str] = {}
        if parts is not None:
            words = parts["rest"].split()
            said = {name: value for name, _, value in (word.partition("=") for word in words)}
            if parts["count"]:
                said["count"] = parts["count"]
        if parts is None or not all(map(all, said.items())) or not said:
            raise ConfigError(
                f"{where}: {entry.strip()!r} is no limit: expected one such as 'FileOpened=3' or "
                "'SyscallExit[read] count=10 p95=5ms'"
            )
        found |= _of_subject(parts["subject"], said, where)
    return found


def budget_of_marker(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], test_id: str | None
) -> Budget:
    """The budget of a marker for the test of that parameter id (None: it has none). Raises
    `ConfigError`, `PatternError`."""
    said = dict(kwargs)
    ids = said.pop("ids", None)
    if ids is not None:
        _check_ids(ids, test_id)
    if not args:
        found = _of_types(said, _MARKER)
        for of_id in _for_id(ids, test_id):
            if not isinstance(of_id, Mapping):
                raise ConfigError(
                    f"{_MARKER}(ids=...): {of_id!r} says not what of: expected such as "
                    "{'FileOpened': 30}"
                )
            found |= _of_types(of_id, f"{_MARKER}(ids=...)")
        what = "types, such as FileOpened=3, or of a pattern: kobs_budget(P, count=3)"
    else:
        pattern = args[0]
        if isinstance(pattern, type) and issubclass(pattern, PayloadType):
            pattern = pattern.like()
        if len(args) > 1 or not isinstance(pattern, Pattern):
            given = ", ".join(map(shown_value, args))
            raise ConfigError(
                f"{_MARKER}({given}): expected one pattern or payload type, and its limits by "
                f"keyword ({_KINDS})"
            )
        found = _of_pattern(repr(pattern), pattern, said, _MARKER)
        for of_id in _for_id(ids, test_id):
            found |= _of_pattern(repr(pattern), pattern, of_id, f"{_MARKER}(ids=...)")
        what = f"the pattern by keyword: {_KINDS}"
    if not found and ids is None:
        raise ConfigError(f"{_MARKER} says nothing: expected limits of {what}")
    if not found and not _matching(ids, test_id):
        raise ConfigError(
            f"{_MARKER}(ids=...) has no limits for the parameter id {test_id!r}: there are "
            f"{', '.join(map(repr, ids))}; give limits beside ids= for the others"
        )
    return found


def _check_ids(ids: Any, test_id: str | None) -> None:
    if not isinstance(ids, Mapping) or not all(isinstance(key, str) for key in ids):
        raise ConfigError(
            f"{_MARKER}(ids={ids!r}): expected limits by parameter id: {{'large': ...}}"
        )
    if test_id is None:
        raise ConfigError(
            f"{_MARKER}(ids=...): the test is not parametrized: give its limits beside ids="
        )


def _matching(ids: Mapping[str, Any] | None, test_id: str | None) -> list[str]:
    if not ids or test_id is None:
        return []
    if test_id in ids:
        return [test_id]
    return [key for key in ids if fnmatchcase(test_id, key)]


def _for_id(ids: Mapping[str, Any] | None, test_id: str | None) -> list[Any]:
    return [ids[key] for key in _matching(ids, test_id)[:1]] if ids else []


def _of_types(said: Mapping[str, Any], where: str) -> Budget:
    found: Budget = {}
    for subject, limits in said.items():
        if PERCENTILE.fullmatch(subject) or subject in ("count", "max", "total", "bytes"):
            raise ConfigError(
                f"{where}({subject}=...): of what? Give a pattern before it: "
                f"kobs_budget(FileOpened.like(), {subject}=...)"
            )
        found |= _of_subject(subject, limits, where)
    return found


def _of_subject(subject: str, limits: Any, where: str) -> Budget:
    """Limits of a type, or of one name of its events: `FileOpened`, `SyscallExit[read]`."""
    type_name, _, rest = subject.partition("[")
    known = registered_types()
    if type_name not in known:
        close = get_close_matches(type_name, known, n=1)
        meant = f"did you mean {close[0]!r}?" if close else "import the module that declares it"
        raise ConfigError(f"{where}: there is no event type {type_name!r}; {meant}")
    cls = known[type_name]
    fields: dict[str, Any] = {}
    if rest:
        schema = cls.__kobs_schema__
        if schema.name_field is None:
            raise ConfigError(
                f"{where}: {type_name} has no name that {subject!r} could mean; its fields are "
                f"{', '.join(schema.field_names)}"
            )
        name = rest.removesuffix("]")
        numbered = isinstance(schema.field(schema.name_field).kind, IdentifierKind)
        fields[schema.name_field] = int(name) if numbered and name.isdecimal() else name
    return _of_pattern(subject, cls.like(**fields), limits, where)


def _of_pattern(subject: str, pattern: Pattern, limits: Any, where: str) -> Budget:
    if not isinstance(limits, Mapping):
        limits = {"count": limits}
    found: Budget = {}
    for kind, value in limits.items():
        place = f"{where}: {subject} {kind}"
        read = _reader(kind)
        if read is None:
            raise ConfigError(f"{place}={value!r}: expected one of {_KINDS}")
        if kind != "count":
            _check_fields(pattern, kind, place)
        allowed = None if value is None else read(value, place)
        found[subject, kind] = Limit(subject, pattern, kind, allowed)
    return found


def _reader(kind: Any) -> Any:
    if kind == "count":
        return amounts.number
    if kind == "bytes":
        return amounts.size
    if kind in ("max", "total") or (isinstance(kind, str) and PERCENTILE.fullmatch(kind)):
        return amounts.microseconds
    return None


def _check_fields(pattern: Pattern, kind: str, place: str) -> None:
    """Durations and bytes are those of single events, of types that have such a field."""
    if not isinstance(pattern, EventPattern):
        raise ConfigError(f"{place}: {pattern!r} is {pattern.kind}: only its count has a limit")
    for cls in pattern.types():
        schema = cls.__kobs_schema__
        if not (byte_fields(schema) if kind == "bytes" else schema.duration_field):
            what = "bytes" if kind == "bytes" else "duration"
            raise ConfigError(
                f"{place}: {schema.name} has no {what}; its fields are "
                f"{', '.join(schema.field_names)}"
            )


def byte_fields(schema: Schema) -> list[str]:
    """The fields of a type that say bytes."""
    return [field.name for field in schema.fields if field.unit == "bytes"]
