"""The session that workers of pytest-xdist share where only some of them may need one.

PYTEST_DONT_REWRITE
"""

import os
import shutil
from collections.abc import Sequence

from kobs.session import Session

_NAME = "session"


def path_of(root: str) -> str:
    """Where the session below `root` is, if anybody needed one."""
    return os.path.join(root, _NAME)


def shared_session(root: str, argv: Sequence[str]) -> Session:
    """The session below `root`: of several processes that ask for it at once one makes it.

    Raises `SessionError` where it cannot be made.
    """
    path = path_of(root)
    if not os.path.isdir(path):
        made = Session.create("pytest", argv, root=root)
        try:
            os.rename(made.path, path)  # fails where there is one, which is never empty
        except OSError:
            shutil.rmtree(made.path, ignore_errors=True)
    return Session.open(path)
