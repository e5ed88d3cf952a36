"""Who may do what: mode bits of real files, capabilities, and a limit on the rate of asking."""

import os
import stat
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from kobs import observe

_BITS = {"read": 4, "write": 2, "execute": 1}
_LETTERS = {"read": "r", "write": "w", "execute": "x"}


class Decision(NamedTuple):
    """The answer to "may they?"; true or false as itself."""

    granted: bool
    operation: str
    required: str
    """What it takes, for instance "other:w on notes.txt" or "capability net_bind"."""

    def __bool__(self) -> bool:
        return self.granted


class AccessDenied(PermissionError):
    """Somebody may not do what they asked for."""

    def __init__(self, uid: int, decision: Decision) -> None:
        super().__init__(f"user {uid} may not {decision.operation}: needs {decision.required}")
        self.required = decision.required


class RateLimitError(Exception):
    """Somebody asks too often."""

    def __init__(self, limit: int, current: int, window: float) -> None:
        super().__init__(f"{current} requests in {window} s; {limit} are allowed")
        self.limit = limit
        self.current = current


@observe("permission")
class PermissionManager:
    """Decides for any user id by the mode bits of the files below `root`, and by capabilities.

    It reads the bits itself: `os.access` answers for the user who runs this, and root may all.
    `trail` keeps the last thousand decisions.
    """

    def __init__(self, root: str, *, rate_limit: int = 100, window: float = 1.0) -> None:
        self.root = Path(root).resolve(strict=True)
        self.rate_limit = rate_limit
        self.window = window
        self.trail: deque[tuple[int, Decision]] = deque(maxlen=1000)
        self._capabilities: dict[int, set[str]] = {}
        self._requests: dict[int, deque[float]] = {}

    def check(self, uid: int, operation: str, path: str, *, gids: tuple[int, ...] = ()) -> Decision:
        """May user `uid` "read", "write" or "execute" the file at `path` (below the root)?"""
        return self._decide(uid, operation, path, gids)

    def require(
        self, uid: int, operation: str, path: str, *, gids: tuple[int, ...] = ()
    ) -> Decision:
        """As `check`, but a refusal is `AccessDenied`, a `PermissionError`."""
        decision = self._decide(uid, operation, path, gids)
        if not decision:
            raise AccessDenied(uid, decision)
        return decision

    def grant(self, uid: int, capability: str) -> None:
        """Give a user a capability."""
        self._capabilities.setdefault(uid, set()).add(capability)

    def revoke(self, uid: int, capability: str) -> None:
        """Take a capability away."""
        self._capabilities.get(uid, set()).discard(capability)

    def authorize(self, uid: int, operation: str, capability: str) -> Decision:
        """May user `uid` do `operation`, which takes `capability`? Root has them all."""
        granted = uid == 0 or capability in self._capabilities.get(uid, ())
        return self._note(uid, Decision(granted, operation, f"capability {capability}"))

    def acquire(self, uid: int) -> int:
        """Count a request; how many are left in this window. `RateLimitError` past the limit."""
        now = time.monotonic()
        requests = self._requests.setdefault(uid, deque())
        while requests and requests[0] <= now - self.window:
            requests.popleft()
        if len(requests) >= self.rate_limit:
            raise RateLimitError(self.rate_limit, len(requests) + 1, self.window)
        requests.append(now)
        return self.rate_limit - len(requests)

    def _decide(self, uid: int, operation: str, path: str, gids: tuple[int, ...]) -> Decision:
        if operation not in _BITS:
            raise ValueError(f"operation = {operation!r}: expected one of {sorted(_BITS)}")
        target = (self.root / path).resolve(strict=True)
        if not target.is_relative_to(self.root):
            raise ValueError(f"{path!r} is not below {self.root}")
        below = target.relative_to(self.root)
        for folder in reversed(below.parents):
            step = _ask(self.root / folder, uid, gids, "execute", str(folder))
            if not step:
                return self._note(uid, step._replace(operation=operation))
        return self._note(uid, _ask(target, uid, gids, operation, str(below)))

    def _note(self, uid: int, decision: Decision) -> Decision:
        self.trail.append((uid, decision))
        return decision


def _ask(path: Path, uid: int, gids: tuple[int, ...], operation: str, shown: str) -> Decision:
    """What the system's own check does: the first of owner, group and other that fits decides."""
    status = os.stat(path)
    mode = stat.S_IMODE(status.st_mode)
    if uid == status.st_uid:
        who, bits = "owner", mode >> 6
    elif status.st_gid in gids:
        who, bits = "group", mode >> 3
    else:
        who, bits = "other", mode
    if uid == 0:
        # Root needs one execute bit somewhere to execute, and nothing to read, write or search.
        granted = operation != "execute" or stat.S_ISDIR(status.st_mode) or bool(mode & 0o111)
    else:
        granted = bool(bits & _BITS[operation])
    return Decision(granted, operation, f"{who}:{_LETTERS[operation]} on {shown}")
