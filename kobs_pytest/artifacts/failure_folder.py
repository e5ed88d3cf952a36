"""The files of one failing test: `index.html`, `trace.pftrace` and `events.jsonl`.

PYTEST_DONT_REWRITE
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from kobs._pages.document import document
from kobs.export.excerpt import Excerpt
from kobs.export.files import whole_file
from kobs.export.jsonl import export_excerpt
from kobs.export.perfetto import export_perfetto
from kobs_pytest.artifacts import failure_page
from kobs_pytest.capture.attempt import Attempt

if TYPE_CHECKING:
    from kobs_pytest.artifacts.failing_tests import Failure

PAGE, PERFETTO, EVENTS = "index.html", "trace.pftrace", "events.jsonl"


class Written(NamedTuple):
    """What was written."""

    trace_id: str
    """Of the test's own trace, 32 hex digits."""
    paths: dict[str, Path]
    """The files: page, perfetto, events."""


def write(
    folder: Path,
    attempt: Attempt,
    failures: Sequence["Failure"],
    report: pytest.TestReport,
) -> Written:
    """Write what is known of a test that failed; `report` is that of its teardown.

    Events that nobody is known to have caused are written too, marked. Raises `OSError` where the
    folder cannot be written; no file is there in part.
    """
    attempt.drain()
    events = sorted(
        [*attempt.events, *attempt.unattributed(None)],
        key=lambda event: (event.timestamp_ns, event.id),
    )
    session = attempt.recorder.session
    assert session is not None  # a collector was made for the test's first event
    excerpt = Excerpt(session, events)
    trace_id = f"{session.trace_high:016x}{attempt.cause.causality_id:016x}"
    folder.mkdir(exist_ok=True)
    paths = {"page": folder / PAGE, "perfetto": folder / PERFETTO, "events": folder / EVENTS}
    with whole_file(str(paths["perfetto"]), sync=False) as stream:
        export_perfetto(excerpt, stream)
    with whole_file(str(paths["events"]), sync=False) as stream:
        export_excerpt(excerpt, stream)
    page = failure_page.body(attempt, excerpt, events, failures, report, trace_id)
    with whole_file(str(paths["page"]), sync=False) as stream:
        stream.write(
            document(
                f"{attempt.outcome} {attempt.nodeid}",
                *page.content,
                styles=("trace.css",),
                scripts=("model.js", "timeline.js", "chain.js", "events.js", "trace.js"),
                data=page.data,
            )
        )
    return Written(trace_id, paths)
