"""What a process is, as OpenTelemetry's resource conventions say it.

What `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` say goes before what is found out here.
"""

import os
import platform
import re
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4, uuid5

from kobs import __version__
from kobs.errors import MissingExtraError

if TYPE_CHECKING:
    from kobs._core.contract import AttachedRing

_NAMESPACE = UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")
"""Of `service.instance.id`, by its convention."""
_ARCHITECTURES = {
    "x86_64": "amd64", "aarch64": "arm64", "i386": "x86", "i686": "x86", "armv6l": "arm32",
    "armv7l": "arm32", "ppc64le": "ppc64", "ppc64": "ppc64", "ppc": "ppc32", "s390x": "s390x",
}  # fmt: skip
_CONTAINER = re.compile(r"(?:^|[/:.-])([0-9a-f]{64})(?:$|[/.])", re.MULTILINE)
_SAME_BOOT_NS = 5_000_000_000

Attributes = dict[str, Any]


class Given(NamedTuple):
    """What is said of a resource from outside; the same for all processes of a program."""

    otherwise: Attributes
    """Where nothing else is known."""
    above_all: Attributes
    """Goes before everything."""

    @classmethod
    def read(cls) -> "Given":
        """Ask the SDK, with the detectors that `OTEL_EXPERIMENTAL_RESOURCE_DETECTORS` names. (It
        takes threads: at the end of a process that is too late.)"""
        try:
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        except ImportError as error:
            raise MissingExtraError(
                f"export to OTLP needs opentelemetry-sdk: {error}; "
                "install it with: pip install 'kobs[otlp]'"
            ) from error
        above_all = OTELResourceDetector().detect().attributes
        return cls(dict(Resource.create().attributes), dict(above_all))


def process_resource(given: Given, session: str = "", recording: int = 0) -> Attributes:
    """What this process is. `session` and `recording`: where it is recorded, so that whoever reads
    that later finds the same `service.instance.id`."""
    import getpass

    own: Attributes = {
        **_machine(),
        "process.pid": os.getpid(),
        "process.parent_pid": os.getppid(),
        "process.executable.name": os.path.basename(sys.executable or "python"),
        "process.executable.path": sys.executable,
        "process.command": sys.orig_argv[0] if sys.orig_argv else "",
        "process.command_args": list(sys.orig_argv),
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": platform.python_version(),
        "process.runtime.description": sys.version,
    }
    try:
        own["process.owner"] = getpass.getuser()
    except (OSError, KeyError, ImportError):
        pass  # a user without a name
    return _with_given(given, own, session, recording)


def recorded_resource(given: Given, attached: "AttachedRing") -> Attributes:
    """What a recorded process is, or was."""
    own: Attributes = {"process.pid": attached.pid, "process.parent_pid": attached.ppid}
    if _same_boot(attached):
        own.update(_machine())
    command = attached.command.split()
    if command:
        own["process.command"] = command[0]
        own["process.command_line"] = attached.command
        own["process.executable.name"] = os.path.basename(command[0])
    if attached.session:
        own["kobs.session.id"] = attached.session
    return _with_given(given, own, attached.session, attached.recording)


def container_id(cgroup: str, mounts: str) -> str:
    """The id of the container, of what `/proc/self/cgroup` and `/proc/self/mountinfo` say; empty
    where there is none, or they do not tell."""
    for text in (cgroup, *(line for line in mounts.splitlines() if "/containers/" in line)):
        found = _CONTAINER.search(text)
        if found:
            return found[1]
    return ""


def _with_given(given: Given, own: Attributes, session: str, recording: int) -> Attributes:
    own |= {
        "service.instance.id": str(
            uuid5(_NAMESPACE, f"{session}:{recording}") if session else uuid4()
        ),
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "kobs",
        "telemetry.sdk.version": __version__,
    }
    found = {**given.otherwise, **own, **given.above_all}
    return {key: value for key, value in found.items() if value not in ("", None)}


def _machine() -> Attributes:
    found: Attributes = {
        "host.name": platform.node(),
        "host.arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "host.id": _read("/etc/machine-id").strip(),
        "os.type": platform.system().lower(),
        "container.id": container_id(_read("/proc/self/cgroup"), _read("/proc/self/mountinfo")),
    }
    try:
        release = platform.freedesktop_os_release()
        found["os.name"] = release.get("NAME", "")
        found["os.version"] = release.get("VERSION_ID", "")
        found["os.description"] = release.get("PRETTY_NAME", "")
    except OSError:
        found["os.version"] = platform.release()
    return found


def _same_boot(attached: "AttachedRing") -> bool:
    """It was recorded on this machine, since its last boot: the clocks are as far apart."""
    then = attached.started_wall_ns - attached.started_monotonic_ns
    now = time.time_ns() - time.monotonic_ns()
    return abs(then - now) < _SAME_BOOT_NS


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return ""
