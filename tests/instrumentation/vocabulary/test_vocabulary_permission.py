"""Each event of the vocabulary `permission`, each field held against what really happened."""

from typing import Any

import pytest
from minikernel import (
    PermissionManager,
)
from minikernel.permission import RateLimitError

from kobs import (
    PermissionDenied,
    PermissionGranted,
    RateLimitExceeded,
    Severity,
)

SUBSYSTEM = "permission"
NOBODY = 65534


def guarded(stage: Any, **options: Any) -> Any:
    stage.folder.chmod(0o711)
    notes = stage.folder / "notes"
    notes.write_text("x")
    notes.chmod(0o604)
    return stage.watch(PermissionManager(str(stage.folder), **options))


def test_PermissionGranted__who_may(stage: Any) -> None:
    guard = guarded(stage)
    assert guard.check(NOBODY, "read", "notes")
    guard.require(NOBODY, "read", "notes")
    guard.grant(NOBODY, "net_bind")
    assert guard.authorize(NOBODY, "bind port 80", "net_bind")
    assert [event.payload for event in stage.all(PermissionGranted)] == [
        PermissionGranted("read", "other:r on notes"),
        PermissionGranted("read", "other:r on notes"),
        PermissionGranted("grant", "net_bind"),
        PermissionGranted("bind port 80", "capability net_bind"),
    ]
    assert stage.all(PermissionDenied) == []


def test_PermissionDenied__who_may_not(stage: Any) -> None:
    guard = guarded(stage)
    assert not guard.check(NOBODY, "write", "notes")
    with pytest.raises(PermissionError):
        guard.require(NOBODY, "write", "notes")
    assert not guard.authorize(NOBODY, "reboot", "sys_boot")
    events = stage.all(PermissionDenied)
    assert [event.payload for event in events] == [
        PermissionDenied("write", "other:w on notes"),
        PermissionDenied("write", "other:w on notes"),
        PermissionDenied("reboot", "capability sys_boot"),
    ]
    assert {event.severity for event in events} == {Severity.WARN}
    assert stage.all(PermissionGranted) == []


def test_RateLimitExceeded__who_asks_too_often(stage: Any) -> None:
    guard = guarded(stage, rate_limit=3, window=60)
    for _ in range(3):
        guard.acquire(NOBODY)
    with pytest.raises(RateLimitError):
        guard.acquire(NOBODY)
    assert stage.one(RateLimitExceeded).payload == RateLimitExceeded(limit=3, current=4)


def test_every_event_of_the_vocabulary_has_a_test_of_its_own(unproven: set[str]) -> None:
    assert unproven == set()
