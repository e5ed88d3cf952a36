"""OpenTelemetry's limits of what a span holds, and attributes as its API wants them."""

import os
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.attributes import BoundedAttributes

_DEFAULT = 128


class Limits(NamedTuple):
    """How much a span may hold; None for no limit."""

    span_attributes: int | None = _DEFAULT
    span_attribute_length: int | None = None
    """Characters of a text."""
    events: int | None = _DEFAULT
    links: int | None = _DEFAULT
    event_attributes: int | None = _DEFAULT
    link_attributes: int | None = _DEFAULT
    attribute_length: int | None = None
    """Characters of a text in the attributes of events and links."""

    @classmethod
    def from_environment(cls) -> "Limits":
        """By `OTEL_ATTRIBUTE_COUNT_LIMIT` and its like, as OpenTelemetry's SDK reads them. Raises
        `ConfigError` for a value that is no number of 0 or more."""
        count = _read("OTEL_ATTRIBUTE_COUNT_LIMIT", _DEFAULT)
        count = _DEFAULT if count is None else count  # as the SDK has it
        length = _read("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", None)
        return cls(
            _read("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", count),
            _read("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", length),
            _read("OTEL_SPAN_EVENT_COUNT_LIMIT", _DEFAULT),
            _read("OTEL_SPAN_LINK_COUNT_LIMIT", _DEFAULT),
            _read("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", count),
            _read("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", count),
            length,
        )

    @classmethod
    def of(cls, limits: Any) -> "Limits":
        """The `SpanLimits` of OpenTelemetry's SDK."""
        return cls(
            limits.max_span_attributes,
            limits.max_span_attribute_length,
            limits.max_events,
            limits.max_links,
            limits.max_event_attributes,
            limits.max_link_attributes,
            limits.max_attribute_length,
        )


def _read(name: str, default: int | None) -> int | None:
    text = os.environ.get(name)
    if text is None:
        return default
    text = text.strip()
    if not text:
        return None
    if not text.isdecimal():
        raise ConfigError(f"{name}={text}: expected a number, 0 or more, or nothing for no limit")
    return int(text)


class Latest(deque[Any]):
    """The latest of what was added, and how many were left out for it."""

    def __init__(self, limit: int | None) -> None:
        super().__init__(maxlen=limit)
        self.dropped = 0

    def add(self, item: Any) -> None:
        """Add one at the end."""
        if self.maxlen is not None and len(self) >= self.maxlen:
            self.dropped += 1
        self.append(item)


def checked(
    attributes: Mapping[str, Any] | None, count: int | None, length: int | None
) -> "BoundedAttributes":
    """Attributes as OpenTelemetry's SDK keeps them: what is no attribute is left out with a
    warning, what is too much is counted."""
    from opentelemetry.attributes import BoundedAttributes

    return BoundedAttributes(count, attributes, immutable=True, max_value_len=length)
