"""The floors in C: compiled when they are first needed, with the compiler that Python names."""

import hashlib
import importlib.util
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from benchmarks.subject import Absent

SOURCE = Path(__file__).with_name("floor.c")
FOLDER = Path(__file__).resolve().parents[2] / "build" / "benchmarks"


def load() -> ModuleType:
    """The module of the floors. Raises `Absent` where it cannot be built."""
    spec = importlib.util.spec_from_file_location("floor", build())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build() -> Path:
    """The extension's file, built if it is not there."""
    digest = hashlib.sha256(SOURCE.read_bytes() + sys.version.encode()).hexdigest()[:12]
    target = FOLDER / f"floor-{digest}.so"
    if target.exists():
        return target
    FOLDER.mkdir(parents=True, exist_ok=True)
    linker = shlex.split(sysconfig.get_config_var("LDSHARED") or "cc -shared")
    command = [*linker, "-O2", "-fPIC", f"-I{sysconfig.get_path('include')}"]
    try:
        subprocess.run(
            [*command, str(SOURCE), "-o", str(target)], check=True, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise Absent("no C compiler here") from None
    except subprocess.CalledProcessError as error:
        raise Absent(f"the C compiler refused it: {error.stderr.splitlines()[:1]}") from None
    return target
