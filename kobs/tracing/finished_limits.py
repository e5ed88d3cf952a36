"""OpenTelemetry's limits held to spans of kobs when they are handed on. Those of a tracer provider
were held to the provider's limits when they were recorded."""

from typing import Any, TypeVar

from kobs.tracing.finished import FinishedSpan, SpanEvent, SpanLink
from kobs.tracing.limits import Limits

Part = TypeVar("Part", SpanEvent, SpanLink)


def within(span: FinishedSpan, limits: Limits) -> FinishedSpan:
    """The span within the limits: of what is too much the oldest is left out, and counted, as
    OpenTelemetry's SDK does it."""
    if span.provider:
        return span
    attributes, dropped = _attributes(
        span.attributes, limits.span_attributes, limits.span_attribute_length
    )
    if attributes is not span.attributes:
        span = span._replace(
            attributes=attributes, dropped_attributes=span.dropped_attributes + dropped
        )
    length = limits.attribute_length
    if span.events:
        events, dropped = _newest(span.events, limits.events, limits.event_attributes, length)
        span = span._replace(events=events, dropped_events=span.dropped_events + dropped)
    if span.links:
        links, dropped = _newest(span.links, limits.links, limits.link_attributes, length)
        span = span._replace(links=links, dropped_links=span.dropped_links + dropped)
    return span


def _newest(
    parts: list[Part], most: int | None, most_attributes: int | None, length: int | None
) -> tuple[list[Part], int]:
    """(events or links within the limits, how many were left out)."""
    left_out = _too_many(len(parts), most)
    kept = []
    for part in parts[left_out:]:
        attributes, dropped = _attributes(part.attributes, most_attributes, length)
        kept.append(
            part._replace(
                attributes=attributes, dropped_attributes=part.dropped_attributes + dropped
            )
        )
    return kept, left_out


def _attributes(
    attributes: dict[str, Any], most: int | None, length: int | None
) -> tuple[dict[str, Any], int]:
    """(attributes, how many were left out); the same object where all is within."""
    dropped = _too_many(len(attributes), most)
    if dropped:
        attributes = dict(list(attributes.items())[dropped:])
    if length is not None:
        attributes = {key: _cut(value, length) for key, value in attributes.items()}
    return attributes, dropped


def _too_many(number: int, most: int | None) -> int:
    return 0 if most is None else max(0, number - most)


def _cut(value: Any, length: int) -> Any:
    if isinstance(value, str):
        return value[:length]
    if isinstance(value, list | tuple):
        return [_cut(one, length) for one in value]
    return value
