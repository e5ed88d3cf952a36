"""What CI services show of failing tests.

GitHub: workflow commands (an annotation at the line that failed) and the job's step summary.
GitLab has no commands in the log; it reads report files: job annotations (links on the job's
page) and code quality (findings at lines, in the merge request).

PYTEST_DONT_REWRITE
"""

import hashlib
import html
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from kobs.export.files import whole_file
from kobs_pytest.reporting.outcomes import Result

MOST_ANNOTATIONS = 10
"""What GitHub keeps of a step's errors."""
MOST_LISTED = 100
"""Tests in a summary, links on a job's page: services cut long files off."""
GITLAB_ANNOTATIONS, GITLAB_QUALITY = "gl-annotations.json", "gl-code-quality.json"


def in_github() -> bool:
    """The run is a step of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def in_gitlab() -> bool:
    """The run is a job of GitLab CI."""
    return os.environ.get("GITLAB_CI") == "true"


def github_commands(results: Sequence[Result], root: Path) -> Iterator[str]:
    """A workflow command for each of the first results."""
    base = os.environ.get("GITHUB_WORKSPACE") or str(root)
    for result in results[:MOST_ANNOTATIONS]:
        properties = {"file": _relative(result.path, root, base)}
        if result.line:
            properties["line"] = str(result.line)
        properties["title"] = f"{result.verdict}: {result.nodeid}"
        listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
        yield f"::error {listed}::{_data(_message(result))}"


def write_github_summary(results: Sequence[Result], run: int) -> None:
    """Append the failing tests to the step's summary, if there is one."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path or not results:
        return
    lines = [
        f"### kobs: {len(results)} of {run} tests did not pass",
        "",
        "| | test | says | artifacts | trace |",
        "|---|---|---|---|---|",
    ]
    for result in results[:MOST_LISTED]:
        page = result.facts.get("artifacts", {}).get("page", "")
        trace = result.facts.get("trace_id", "")
        cells = (result.verdict, result.nodeid, result.message, page, trace)
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    if len(results) > MOST_LISTED:
        lines += ["", f"and {len(results) - MOST_LISTED} more"]
    with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write("\n".join(lines) + "\n")


def write_gitlab_reports(results: Sequence[Result], root: Path, folder: Path) -> None:
    """Write both report files into `folder`: empty ones where nothing failed, so that the job
    finds what it is to upload."""
    project = os.environ.get("CI_PROJECT_DIR") or str(root)
    job = os.environ.get("CI_JOB_URL", "")
    links: list[dict[str, dict[str, str]]] = []
    findings: list[dict[str, object]] = []
    for result in results:
        page = result.facts.get("artifacts", {}).get("page")
        if page and job and len(links) < MOST_LISTED:
            path = _relative(os.path.abspath(page), root, project)
            label = f"{result.verdict}: {result.nodeid}"[:255]
            links.append(
                {"external_link": {"label": label, "url": f"{job}/artifacts/file/{quote(path)}"}}
            )
        path = _relative(result.path, root, project)
        findings.append(
            {
                "description": f"{result.nodeid}: {_message(result)}",
                "check_name": f"kobs-{result.verdict}",
                "fingerprint": hashlib.sha256(result.nodeid.encode("utf-8", "replace")).hexdigest(),
                "severity": "minor" if result.verdict == "inconclusive" else "major",
                "location": {"path": path, "lines": {"begin": result.line or 1}},
            }
        )
    for name, content in ((GITLAB_ANNOTATIONS, {"kobs": links}), (GITLAB_QUALITY, findings)):
        with whole_file(str(folder / name), sync=False) as file:
            file.write(json.dumps(content, indent=1).encode("ascii"))


def _message(result: Result) -> str:
    lines = [result.message or result.verdict]
    page = result.facts.get("artifacts", {}).get("page")
    if page:
        lines.append(f"kobs: {page}")
    if result.facts.get("trace_id"):
        lines.append(f"trace {result.facts['trace_id']}")
    return "\n".join(lines)


def _relative(path: str, root: Path, base: str) -> str:
    """A path as the service knows it: relative to the checkout, if it lies there."""
    whole = os.path.join(root, path)
    made = os.path.relpath(whole, base)
    return whole if made.startswith("..") else made.replace(os.sep, "/")


def _data(value: str) -> str:
    """Text of a workflow command, by GitHub's rules."""
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    """A property of a workflow command, by GitHub's rules."""
    return _data(value).replace(":", "%3A").replace(",", "%2C")


def _cell(value: str) -> str:
    """Text in a cell of a Markdown table."""
    plain = html.escape(" ".join(value.split())).replace("|", "\\|")
    for character in "`*_[]":
        plain = plain.replace(character, f"\\{character}")
    return plain
