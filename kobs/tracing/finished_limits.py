"""OpenTelemetry's limits of what a span may have, as they are set by `OTEL_SPAN_..._LIMIT` and
`OTEL_ATTRIBUTE_..._LIMIT`, for kobs's own spans. Those of a tracer provider were held to the
provider's limits when they were recorded."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from kobs.errors import ConfigError
from kobs.tracing.assembler import FinishedSpan

_None = 1 << 62
"""No limit."""


class Limits(NamedTuple):
    """How many attributes, events and links, and how long a text in an attribute may be. Where
    there are more the oldest are left out, and counted, as OpenTelemetry's SDK does it."""

    attributes: int = 128
    events: int = 128
    links: int = 128
    event_attributes: int = 128
    link_attributes: int = 128
    length: int = _None
    """Characters, of a span's attributes."""
    other_length: int = _None
    """Characters, of attributes of events and links."""

    @classmethod
    def from_environment(cls) -> "Limits":
        """Read the environment. Raises `ConfigError` naming a variable with a bad value."""
        from opentelemetry.sdk.trace import SpanLimits

        try:
            found = SpanLimits()
        except ValueError as error:
            raise ConfigError(str(error)) from None
        limits = (
            found.max_span_attributes, found.max_events, found.max_links,
            found.max_event_attributes, found.max_link_attributes,
            found.max_span_attribute_length, found.max_attribute_length,
        )  # fmt: skip
        return cls(*(_None if limit is None else limit for limit in limits))

    def applied(self, span: FinishedSpan) -> FinishedSpan:
        """The span within the limits."""
        if span.provider:
            return span
        attributes, dropped = _within(span.attributes, self.attributes, self.length)
        if attributes is not span.attributes:
            span = span._replace(
                attributes=attributes, dropped_attributes=span.dropped_attributes + dropped
            )
        if span.events:
            events = [
                event._replace(
                    attributes=kept, dropped_attributes=event.dropped_attributes + dropped
                )
                for event in span.events[max(0, len(span.events) - self.events) :]
                for kept, dropped in [
                    _within(event.attributes, self.event_attributes, self.other_length)
                ]
            ]
            left_out = len(span.events) - len(events)
            span = span._replace(events=events, dropped_events=span.dropped_events + left_out)
        if span.links:
            links = [
                link._replace(attributes=kept, dropped_attributes=link.dropped_attributes + dropped)
                for link in span.links[max(0, len(span.links) - self.links) :]
                for kept, dropped in [
                    _within(link.attributes, self.link_attributes, self.other_length)
                ]
            ]
            left_out = len(span.links) - len(links)
            span = span._replace(links=links, dropped_links=span.dropped_links + left_out)
        return span


def _within(attributes: Mapping[str, Any], most: int, length: int) -> tuple[dict[str, Any], int]:
    """(attributes, how many were left out); the same object where all is within."""
    dropped = max(0, len(attributes) - most)
    if dropped:
        attributes = dict(list(attributes.items())[dropped:])
    if length != _None:
        attributes = {key: _cut(value, length) for key, value in attributes.items()}
    return attributes, dropped  # type: ignore[return-value]


def _cut(value: Any, length: int) -> Any:
    if isinstance(value, str):
        return value[:length]
    if isinstance(value, list | tuple):
        return [_cut(one, length) for one in value]
    return value
