"""The machine that figures come from: what it is, and not whose."""

import os
import platform
import sys
import time
from pathlib import Path


def describe() -> dict[str, str]:
    """What a reader needs to judge the figures; no name and no path of the machine."""
    from kobs import __version__

    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "virtual": "yes" if "hypervisor" in _flags() else "not told",
        "clock source": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
        "gil": "on" if getattr(sys, "_is_gil_enabled", lambda: True)() else "off",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "kobs": __version__,
    }


def _cpu() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _flags() -> list[str]:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("flags"):
            return line.split()
    return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "not told"
