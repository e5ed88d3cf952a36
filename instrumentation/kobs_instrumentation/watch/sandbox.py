"""Watches what a policy forbids, through audit events: tells of it, and refuses it if it shall.

Active only where a policy was given: to `install`, or to the process by `use` (`kobs run
--policy`).
"""

from typing import TYPE_CHECKING, Any

from kobs.payloads import CapabilityDenied, SecurityViolation
from kobs_instrumentation.watch import _audit, _patch as patching
from kobs_instrumentation.watch._patch import Patcher
from kobs_instrumentation.watch._watch import GetCollector, Undo, Watch

if TYPE_CHECKING:  # its imports are for those who use one
    from kobs_instrumentation.policy import SandboxPolicy, Violation

UNREACHABLE: tuple[str, ...] = ()
"""What this watch cannot see with the Python core: nothing that it would with the C core."""


class _Guard:
    """One policy, in force while it is installed."""

    def __init__(self, policy: "SandboxPolicy") -> None:
        self.policy = policy

    def handle(self, event: str, args: tuple[Any, ...]) -> BaseException | None:
        """Judge an audit event; the error that it shall raise."""
        found = self.policy.judge(event, args)
        if found is None:
            return None
        denies = self.policy.mode == "deny"
        try:
            _tell(found, denies)
        except Exception as error:  # what is forbidden is refused, told or not
            patching.on_error(f"sandbox.{event}", error)
        return found.error() if denies else None


def _tell(found: "Violation", denies: bool) -> None:
    rule = found.rule
    capability = {"capability": found.event, "operation": found.operation}
    if rule.is_capability and not denies:
        _watch.emit(CapabilityDenied, *capability.values())
        return
    verb = "denied" if denies else "seen"
    description = f"{found.operation} ({verb}: {rule.text})"
    violation = _watch.tell(SecurityViolation, {"description": description})
    if rule.is_capability:
        header = {"parent": violation} if violation else {}
        _watch.emit(CapabilityDenied, *capability.values(), **header)


def _patch(patcher: Patcher) -> None:
    """Nothing is patched."""


_watch = Watch("sandbox", _patch)
_in_use: list["SandboxPolicy"] = []


def use(policy: "SandboxPolicy") -> Undo:
    """Have `install` without a policy of its own put this one in force."""
    _in_use.append(policy)
    return lambda: _in_use.remove(policy) if policy in _in_use else None


def install(
    get_collector: GetCollector, *, events: bool = True, policy: "SandboxPolicy | None" = None
) -> Undo:
    """Put a policy in force; returns what takes it back. Without one, nothing is watched."""
    policy = policy or (_in_use[-1] if _in_use else None)
    undo_watch = _watch.install(get_collector, events=events)
    if policy is None:
        return undo_watch
    guard = _Guard(policy)
    undo_hook = _audit.listen(_audit.Listener(policy.concerns, guard.handle))

    def undo() -> None:
        undo_hook()
        undo_watch()

    return undo
