"""`kobs doctor`: what this installation can do, what it costs here, and what stands in the way.

`--json` prints one object: version, python, platform, gil (whether a
free-threaded Python has its lock on, null for any other), core {name, why, available}, cost
{core, events, ns_per_event}, sessions {root, count, bytes, free_bytes, writable}, extras (name to
version, or null where missing), entry_points (group to names), watches (subsystem to watched,
problem, package, says and unseen: what the watch cannot see with this core), unseen (the same for
those where there is something), environment, problems, warnings.
Exit code 1 where there is a problem: something that keeps kobs from recording.
"""

import argparse
import os
import sys
import sysconfig
from typing import Any

from kobs.cli import figures
from kobs.cli.render import Cell, Screen, print_json, screen
from kobs.errors import KobsError

_EXTRAS = {
    "arrow": ("pyarrow",),
    "cli": ("rich",),
    "grpc": ("grpcio",),
    "otlp": ("opentelemetry-exporter-otlp-proto-http", "opentelemetry-exporter-otlp-proto-grpc"),
    "pandas": ("pandas",),
    "prometheus": ("prometheus-client",),
    "pytest": ("pytest",),
}
_REQUIRED = ("opentelemetry-api", "opentelemetry-sdk", "opentelemetry-instrumentation", "wrapt",
             "pluggy")  # fmt: skip
_GROUPS = ("kobs.vocabularies", "kobs.watches", "opentelemetry_instrumentor", "kobs", "pytest11")
_VARIABLES = ("KERNEL_SAMPLING_RATE", "KERNEL_CATEGORY_RATES", "KERNEL_STREAM_SIZE",
              "KERNEL_ANOMALY_THRESHOLD", "KERNEL_TRACE_JSON", "KERNEL_LOG", "RUST_LOG",
              "KOBS_CORE", "KOBS_HIDE", "KOBS_SESSION", "XDG_STATE_HOME",
              "TRACEPARENT")  # fmt: skip
_LOW_SPACE = 1 << 30
_BATCH = 10_000


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this installation can do and what it costs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--no-cost", action="store_true", help="leave out measuring the cost (a quarter second)"
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    found = examine(measure=not arguments.no_cost)
    if arguments.json:
        print_json(found)
    else:
        show(screen(), found)
    return 1 if found["problems"] else 0


def examine(*, measure: bool = True) -> dict[str, Any]:
    """The object that `--json` prints."""
    import platform

    from kobs import __version__

    found: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "problems": [],
        "warnings": [],
    }
    found["core"] = _core(found)
    found["gil"] = _gil()
    found["cost"] = _cost(found) if measure and found["core"]["name"] else None
    found["sessions"] = _sessions(found)
    found["extras"] = {name: _extra(packages) for name, packages in _EXTRAS.items()}
    found["dependencies"] = {name: _package(name) for name in _REQUIRED}
    for name, there in found["dependencies"].items():
        if there is None:
            found["problems"].append(f"{name} is missing: pip install kobs")
    found["entry_points"] = _entry_points()
    found["watches"] = _watches(found)
    found["unseen"] = {
        name: one["unseen"] for name, one in found["watches"].items() if one["unseen"]
    }
    found["environment"] = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    _check_python(found)
    return found


def _core(found: dict[str, Any]) -> dict[str, Any]:
    from kobs._core import CORES, fallen_back, select

    asked = os.environ.get("KOBS_CORE")
    available = {}
    for name in CORES:
        try:
            available[name] = select(name).name == name
        except (KobsError, ImportError):
            available[name] = False
    try:
        chosen = select().name
    except KobsError as error:
        found["problems"].append(str(error))
        return {"name": None, "why": str(error), "available": available, "clock": None}
    if asked:
        why = f"KOBS_CORE={asked} asks for it"
    elif chosen == "c":
        why = "the fastest there is"
    else:
        why = fallen_back[0] if fallen_back else "the C core is not to be had"
    return {"name": chosen, "why": why, "available": available, "clock": _clock(chosen)}


_CLOCKS = {
    "tsc": "the processor's counter (invariant), set by the monotonic clock every millisecond",
    "clock_gettime": "the monotonic clock, by clock_gettime (the counter is not invariant)",
    "monotonic_ns": "the monotonic clock, by time.monotonic_ns",
}


def _clock(core: str) -> str:
    """Where events get their time from."""
    if core != "c":
        return "monotonic_ns"
    from kobs._core import _native

    return _native.clock()


def _cost(found: dict[str, Any]) -> dict[str, Any] | None:
    """Nanoseconds for one typed event of four fields, the median of several batches."""
    from statistics import median
    from time import perf_counter_ns

    from kobs import collector as collectors
    from kobs.levels import SyscallResult
    from kobs.payloads import SyscallExit

    try:
        # In memory, whatever session is set: measuring leaves no recording behind.
        named = os.environ.pop("KOBS_SESSION", None)
        default, collectors.default_session = collectors.default_session, None
        try:
            collector = collectors.Collector(size=1024, sampling=100)
        finally:
            collectors.default_session = default
            if named is not None:
                os.environ["KOBS_SESSION"] = named
    except KobsError as error:
        found["problems"].append(str(error))
        return None
    with collector:
        emit = collector.emitter(SyscallExit)
        success = SyscallResult.SUCCESS
        nanoseconds = []
        for _ in range(5):
            begin = perf_counter_ns()
            for _ in range(_BATCH):
                emit("read", 12.0, success, 0)
            nanoseconds.append((perf_counter_ns() - begin) / _BATCH)
    return {
        "core": found["core"]["name"],
        "events": 5 * _BATCH,
        "ns_per_event": round(median(nanoseconds), 1),
    }


def _sessions(found: dict[str, Any]) -> dict[str, Any]:
    import shutil
    import stat

    from kobs.session import sessions_root

    root = os.fspath(sessions_root())
    there = os.path.isdir(root)
    existing = root
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    number, octets = 0, 0
    if there:
        with os.scandir(root) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    number += 1
                    octets += _folder_bytes(entry.path)
    free = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK | os.X_OK)
    if not writable:
        found["problems"].append(
            f"{existing} cannot be written: sessions have no place; set XDG_STATE_HOME"
        )
    if free < _LOW_SPACE:
        found["warnings"].append(
            f"only {figures.size(free)} are free where sessions lie; a session keeps up to 1 GB"
        )
    if there and stat.S_IMODE(os.stat(root).st_mode) & 0o077:
        found["warnings"].append(f"others may look into {root}: chmod 700 {root}")
    return {"root": root, "exists": there, "count": number, "bytes": octets, "free_bytes": free,
            "writable": writable}  # fmt: skip


def _folder_bytes(folder: str) -> int:
    octets = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    octets += entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        pass
    return octets


def _extra(packages: tuple[str, ...]) -> dict[str, str | None]:
    return {name: _package(name) for name in packages}


def _package(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _entry_points() -> dict[str, list[str]]:
    from importlib.metadata import entry_points

    return {
        group: sorted(
            {
                point.name
                for point in entry_points(group=group)
                if group.startswith("kobs") or point.value.startswith("kobs")
            }
        )
        for group in _GROUPS
    }


def _watches(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    try:
        from kobs_instrumentation import registry
    except ImportError as error:
        found["problems"].append(f"nothing can be watched: {error}")
        return {}
    made = {}
    for name, one in registry.survey().items():
        made[name] = {
            "watched": not one.problem, "problem": one.problem, "package": one.package,
            "says": list(one.says), "unseen": list(one.unseen),
        }  # fmt: skip
        if one.problem:
            found["warnings"].append(
                f"{name} cannot be watched ({one.package}): {one.problem}; "
                f"kobs run --except {name} leaves it out"
            )
    return made


_LOCKS = {
    True: "free-threaded Python, and the interpreter lock is on: PYTHON_GIL, -X gil, or an "
    "extension module that asks for it",
    False: "free-threaded Python, without the interpreter lock",
}


def _gil() -> bool | None:
    """Whether a free-threaded Python has its lock on; None where there always is one."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None
    return bool(sys._is_gil_enabled())  # type: ignore[attr-defined,unused-ignore]


def _check_python(found: dict[str, Any]) -> None:
    from kobs.config import Settings

    if found["implementation"] != "CPython":
        found["warnings"].append(f"{found['implementation']} is untested; CPython is meant")
    if sys.platform != "linux":
        found["warnings"].append(f"{sys.platform} is untested; Linux is meant")
    try:
        settings = Settings.from_environment()
    except KobsError as error:
        found["problems"].append(str(error))
        return
    if settings.sampling_rate < 100:
        found["warnings"].append(
            f"KERNEL_SAMPLING_RATE={settings.sampling_rate:g}: not every chain is recorded"
        )
    if settings.session:
        found["warnings"].append(f"KOBS_SESSION is set: collectors record into {settings.session}")


def show(out: Screen, found: dict[str, Any]) -> None:
    """Print what `examine` found."""
    for problem in found["problems"]:
        out.line(Cell("PROBLEM  ", "bold red"), problem)
    for warning in found["warnings"]:
        out.line(Cell("warning  ", "yellow"), warning)
    if found["problems"] or found["warnings"]:
        out.line()
    core, cost, sessions = found["core"], found["cost"], found["sessions"]
    _fact(out, "kobs", f"{found['version']} on {found['implementation']} {found['python']}, "
                       f"{found['platform']}")  # fmt: skip
    if found["gil"] is not None:
        _fact(out, "threads", _LOCKS[found["gil"]])
    _fact(out, "core", f"{core['name'] or 'none'} ({core['why']})")
    if cost is not None:
        _fact(out, "cost", f"{figures.duration(cost['ns_per_event'] / 1000)} for an event of four "
                           "fields, measured here just now")  # fmt: skip
    if core["clock"]:
        _fact(out, "clock", _CLOCKS[core["clock"]])
    _fact(out, "sessions", f"{sessions['root']}")
    _fact(out, "", f"{figures.count(sessions['count'], 'session')}, "
                   f"{figures.size(sessions['bytes'])}; "
                   f"{figures.size(sessions['free_bytes'])} free")  # fmt: skip
    for name, packages in found["extras"].items():
        missing = [package for package, version in packages.items() if version is None]
        if missing:
            text = Cell(f"missing: pip install 'kobs[{name}]'", "yellow")
        else:
            text = Cell(", ".join(f"{package} {version}" for package, version in packages.items()))
        _fact(out, f"kobs[{name}]", text)
    titles = {
        "kobs.vocabularies": "vocabularies",
        "kobs.watches": "watches",
        "opentelemetry_instrumentor": "instrumentors",
        "kobs": "plugins",
        "pytest11": "pytest",
    }
    for group, names in found["entry_points"].items():
        shown = ", ".join(names) or "none"
        for at, piece in enumerate(_wrapped(shown, max(20, out.width - 16))):
            _fact(out, titles[group] if at == 0 else "", piece)
    for name, one in found["watches"].items():
        shown = "cannot be watched: " + one["problem"] if one["problem"] else ", ".join(one["says"])
        by = "" if one["package"] == "kobs" else f" (by {one['package']})"
        label = "watched" if name == next(iter(found["watches"])) else ""
        for at, piece in enumerate(_wrapped((shown or "nothing") + by, max(20, out.width - 26))):
            _fact(out, label if at == 0 else "", f"{name if at == 0 else '':<12}{piece}")
    for name, what in found["unseen"].items():
        label = "not seen" if name == next(iter(found["unseen"])) else ""
        for at, piece in enumerate(_wrapped("; ".join(what), max(20, out.width - 26))):
            _fact(out, label if at == 0 else "", f"{name if at == 0 else '':<12}{piece}")
    for name, value in found["environment"].items():
        _fact(out, "set" if name == next(iter(found["environment"])) else "", f"{name}={value}")


def _fact(out: Screen, label: str, text: str | Cell) -> None:
    out.line(Cell(f"{label:<13} ", "dim"), text)


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]
