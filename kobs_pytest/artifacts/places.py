"""Where artifacts go, and what their folders are called.

PYTEST_DONT_REWRITE
"""

import hashlib
import os
import re
from pathlib import Path

import pytest

from kobs_pytest.options import given

_UNSAFE = re.compile(r"[^A-Za-z0-9._]+")
_LONGEST = 120
"""Bytes of a readable name; file systems allow 255, some archives less."""


def asked_path(config: pytest.Config, name: str) -> Path | None:
    """The path that an option was given, absolute: what the command line and the environment say
    is relative to where pytest was started, what the ini file says to the rootdir."""
    handed = getattr(config, "workerinput", {}).get(name)
    if handed:
        return Path(handed)
    value, where = given(config, name)
    if not value:
        return None
    base = config.rootpath if where == name else config.invocation_params.dir
    return Path(base, os.path.expanduser(str(value)))


def folder_name(nodeid: str, attempt: int, worker: str) -> str:
    """A name for a test's folder on any file system: readable, and no other test's.

    Letters, digits, dots, underscores and dashes of the test's id; six digits of its digest, for
    what that loses; the attempt from the second on, and the worker if one is given."""
    plain = nodeid.replace(".py::", "-").replace("::", "-")
    name = _UNSAFE.sub("-", plain).strip("-.") or "test"
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 3]}-{name[-_LONGEST // 2 :].lstrip('-.')}"
    digest = hashlib.sha256(nodeid.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    again = f"-attempt{attempt}" if attempt > 1 else ""
    return f"{name}-{digest}{again}{f'-{worker}' if worker else ''}"


def shown_path(config: pytest.Config, path: Path) -> str:
    """The path as people and other jobs can use it: relative to where pytest was started if it
    lies below."""
    try:
        return path.relative_to(config.invocation_params.dir).as_posix()
    except ValueError:
        return path.as_posix()
