"""The files of one failing test: `index.html`, `trace.pftrace` and `events.jsonl`.

PYTEST_DONT_REWRITE
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kobs._pages.document import document
from kobs.export.excerpt import Excerpt
from kobs.export.files import whole_file
from kobs.export.jsonl import export_excerpt
from kobs.export.perfetto import export_perfetto
from kobs_pytest.artifacts import failure_page
from kobs_pytest.artifacts.case import Case

if TYPE_CHECKING:
    from kobs_pytest.artifacts.failing_tests import Failure

PAGE, PERFETTO, EVENTS = "index.html", "trace.pftrace", "events.jsonl"


def write(
    folder: Path, case: Case, failures: Sequence["Failure"], report: pytest.TestReport
) -> dict[str, Path]:
    """Write what is known of a test that failed; the paths of its page, perfetto and events.

    Events that nobody is known to have caused are written too, marked. `report` is the last of
    the test. Raises `OSError` where the folder cannot be written; no file is there in part.
    """
    events = case.events
    excerpt = Excerpt(case.session, events)
    folder.mkdir(exist_ok=True)
    paths = {"page": folder / PAGE, "perfetto": folder / PERFETTO, "events": folder / EVENTS}
    with whole_file(str(paths["perfetto"]), sync=False) as stream:
        export_perfetto(excerpt, stream)
    with whole_file(str(paths["events"]), sync=False) as stream:
        export_excerpt(excerpt, stream)
    page = failure_page.body(case, excerpt, events, failures, report)
    with whole_file(str(paths["page"]), sync=False) as stream:
        stream.write(
            document(
                f"{case.verdict} {case.nodeid}",
                *page.content,
                styles=("trace.css",),
                scripts=("model.js", "timeline.js", "chain.js", "events.js", "trace.js"),
                data=page.data,
            )
        )
    return paths
