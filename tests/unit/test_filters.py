"""A filter says which events a subscriber sees."""

from kobs import (
    Category,
    Event,
    EventFilter,
    ProcessCreated,
    ProcessTerminated,
    Severity,
)

CREATED = Event(Severity.INFO, Category.PROCESS, ProcessCreated("sh"), pid=1, causality_id=5)
ENDED = Event(Severity.ERROR, Category.PROCESS, ProcessTerminated(1), pid=2)


def test_an_empty_filter_lets_everything_through() -> None:
    assert EventFilter().matches(CREATED)


def test_severity_means_at_least() -> None:
    warn = EventFilter().severity(Severity.WARN)
    assert not warn.matches(CREATED)
    assert warn.matches(ENDED)
    assert EventFilter().severity(Severity.ERROR).matches(ENDED)


def test_conditions_add_up_and_values_of_one_kind_are_alternatives() -> None:
    either = EventFilter().pid(1).pid(2)
    assert either.matches(CREATED)
    assert either.matches(ENDED)
    assert not either.type(ProcessTerminated).matches(CREATED)
    assert EventFilter().category(Category.PROCESS).causality(5).matches(CREATED)
    assert not EventFilter().category(Category.MEMORY).matches(CREATED)


def test_a_predicate_sees_the_event() -> None:
    by_name = EventFilter().type(ProcessCreated).where(lambda event: event.payload.name == "sh")
    assert by_name.matches(CREATED)
    assert not by_name.where(lambda event: False).matches(CREATED)


def test_builders_leave_the_filter_as_it_was() -> None:
    empty = EventFilter()
    empty.severity(Severity.CRITICAL).pid(9)
    assert empty.matches(CREATED)
    assert repr(empty) == "EventFilter()"
