"""Each event of the vocabulary `sandbox`, each field held against what really happened."""

import signal
from typing import Any

from minikernel import (
    SandboxManager,
)
from minikernel.sandbox import Limits

from kobs import (
    BudgetExceeded,
    CapabilityDenied,
    SecurityViolation,
    Severity,
)

SUBSYSTEM = "sandbox"


def test_CapabilityDenied__what_the_child_was_refused(stage: Any) -> None:
    box = stage.watch(SandboxManager(str(stage.folder)))
    code = (
        "import os, socket\n"
        "for attempt in (socket.socket, lambda: os.system('true')):\n"
        "    try: attempt()\n"
        "    except PermissionError: print('refused')\n"
    )
    outcome = box.run(code)
    assert outcome.output == "refused\nrefused\n"
    events = stage.all(CapabilityDenied)
    assert [event.payload for event in events] == [
        CapabilityDenied("network", "socket.__new__"),
        CapabilityDenied("process", "os.system"),
    ]
    assert {event.pid for event in events} == {outcome.pid}


def test_SecurityViolation__the_rules_that_no_capability_lifts(stage: Any) -> None:
    box = stage.watch(SandboxManager(str(stage.folder), limits=Limits(open_files=20)))
    outside = stage.folder.parent / "outside"
    escape = box.run(f"open({str(outside)!r}, 'w')", name="escape", allow=["file.write"])
    greedy = box.run("x = [open('f', 'w') for _ in range(50)]", allow=["file.write"])
    assert not outside.exists()
    first, second = stage.all(SecurityViolation)
    assert (
        first.payload.description
        == (f"escape: open for writing {outside}: outside of its folder")[
            : len(first.payload.description)
        ]
    )
    assert second.payload.description == "sandbox: opened more files than its limit"
    assert [first.pid, second.pid] == [escape.pid, greedy.pid]
    assert first.severity is Severity.CRITICAL


def test_BudgetExceeded__the_time_that_it_took(stage: Any) -> None:
    box = stage.watch(SandboxManager(str(stage.folder)))
    box.run("print('quick')")
    outcome = box.run("while True: pass", name="endless", budget_ms=200)
    event = stage.one(BudgetExceeded)
    assert event.payload == BudgetExceeded("endless", 200, outcome.duration_ms)
    assert outcome.duration_ms >= 200
    assert (event.pid, outcome.exit_code) == (outcome.pid, -signal.SIGKILL)


def test_every_event_of_the_vocabulary_has_a_test_of_its_own(unproven: set[str]) -> None:
    assert unproven == set()
