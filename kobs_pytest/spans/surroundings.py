"""Which pipeline runs the tests, and of which commit: by OpenTelemetry's conventions.

Names: https://opentelemetry.io/docs/specs/semconv/registry/attributes/cicd/ and .../vcs/. What
GitHub and GitLab say goes before what git says. What nobody says is left out.

PYTEST_DONT_REWRITE
"""

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

Attributes = dict[str, str]

_CHANGE = re.compile(r"refs/pull/(\d+)/")
_SCP = re.compile(r"(?:[\w.+-]+@)?([\w.-]+):(?!//)(.+)")
_GIT_TIMEOUT_S = 5


def attributes(folder: str, environment: Mapping[str, str]) -> Attributes:
    """All that is known of a run in `folder`, of which git is asked once."""
    found = git(folder)
    found.update(github(environment) or gitlab(environment))
    return {key: value for key, value in found.items() if value}


def github(given: Mapping[str, str]) -> Attributes:
    """What GitHub Actions says; empty elsewhere."""
    if given.get("GITHUB_ACTIONS") != "true":
        return {}

    def get(name: str) -> str:
        return given.get(name, "")

    repository = get("GITHUB_REPOSITORY")
    url = f"{get('GITHUB_SERVER_URL')}/{repository}" if repository else ""
    number, attempt = get("GITHUB_RUN_ID"), get("GITHUB_RUN_ATTEMPT")
    run = f"{url}/actions/runs/{number}" if url and number else ""
    change = _CHANGE.match(get("GITHUB_REF"))
    found = {
        "cicd.pipeline.name": get("GITHUB_WORKFLOW"),
        "cicd.pipeline.run.id": number,
        "cicd.pipeline.run.url.full": f"{run}/attempts/{attempt}" if run and attempt else run,
        "cicd.pipeline.task.name": get("GITHUB_JOB"),
        "cicd.pipeline.task.type": "test",
        "cicd.worker.name": get("RUNNER_NAME"),
        "vcs.provider.name": "github",
        "vcs.owner.name": get("GITHUB_REPOSITORY_OWNER"),
        "vcs.repository.name": repository.rpartition("/")[2],
        "vcs.repository.url.full": url,
        "vcs.ref.head.name": get("GITHUB_HEAD_REF") or get("GITHUB_REF_NAME"),
        "vcs.ref.head.type": "branch" if get("GITHUB_HEAD_REF") else get("GITHUB_REF_TYPE"),
        "vcs.ref.head.revision": get("GITHUB_SHA"),
        "vcs.change.id": change[1] if change else "",
    }
    if get("GITHUB_BASE_REF"):
        found |= {"vcs.ref.base.name": get("GITHUB_BASE_REF"), "vcs.ref.base.type": "branch"}
    return _known(found)


def gitlab(given: Mapping[str, str]) -> Attributes:
    """What GitLab CI says; empty elsewhere."""
    if given.get("GITLAB_CI") != "true":
        return {}

    def get(name: str) -> str:
        return given.get(name, "")

    source = get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME")
    found = {
        "cicd.pipeline.name": get("CI_PIPELINE_NAME"),
        "cicd.pipeline.run.id": get("CI_PIPELINE_ID"),
        "cicd.pipeline.run.url.full": get("CI_PIPELINE_URL"),
        "cicd.pipeline.task.name": get("CI_JOB_NAME"),
        "cicd.pipeline.task.run.id": get("CI_JOB_ID"),
        "cicd.pipeline.task.run.url.full": get("CI_JOB_URL"),
        "cicd.pipeline.task.type": "test",
        "cicd.worker.id": get("CI_RUNNER_ID"),
        "cicd.worker.name": get("CI_RUNNER_DESCRIPTION"),
        "vcs.provider.name": "gitlab",
        "vcs.owner.name": get("CI_PROJECT_NAMESPACE"),
        "vcs.repository.name": get("CI_PROJECT_NAME"),
        "vcs.repository.url.full": get("CI_PROJECT_URL"),
        "vcs.ref.head.name": source or get("CI_COMMIT_REF_NAME"),
        "vcs.ref.head.type": "tag" if get("CI_COMMIT_TAG") else "branch",
        "vcs.ref.head.revision": get("CI_COMMIT_SHA"),
        "vcs.change.id": get("CI_MERGE_REQUEST_IID"),
        "vcs.change.title": get("CI_MERGE_REQUEST_TITLE"),
    }
    target = get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
    if target:
        found |= {"vcs.ref.base.name": target, "vcs.ref.base.type": "branch"}
    return _known(found)


def git(folder: str) -> Attributes:
    """What git says of the commit that is checked out in `folder`; empty without git or where
    there is no repository."""
    revision, _, branch = _run(folder, "rev-parse", "HEAD", "--abbrev-ref", "HEAD").partition("\n")
    if not revision:
        return {}
    found = {"vcs.ref.head.revision": revision}
    if branch and branch != "HEAD":  # "HEAD": no branch is checked out
        found |= {"vcs.ref.head.name": branch, "vcs.ref.head.type": "branch"}
    url = web_url(_run(folder, "config", "--get", "remote.origin.url"))
    if url:
        owner, _, name = urlsplit(url).path.strip("/").rpartition("/")
        found |= {
            "vcs.repository.url.full": url,
            "vcs.repository.name": name,
            "vcs.owner.name": owner,
        }
    return _known(found)


def web_url(remote: str) -> str:
    """Where people find a repository that git reaches at `remote`: without credentials and
    `.git`. Empty for a folder."""
    scp = _SCP.fullmatch(remote)
    if scp is not None:
        remote = f"https://{scp[1]}/{scp[2]}"
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https", "ssh", "git") or not parts.hostname:
        return ""
    web = parts.scheme in ("http", "https")
    scheme = parts.scheme if web else "https"
    port = f":{parts.port}" if web and parts.port else ""
    path = parts.path.rstrip("/").removesuffix(".git")
    return f"{scheme}://{parts.hostname}{port}{path}"


def _run(folder: str, *arguments: str) -> str:
    import subprocess

    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True,
            timeout=_GIT_TIMEOUT_S, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _known(found: Attributes) -> Attributes:
    return {key: value for key, value in found.items() if value}
