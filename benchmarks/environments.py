"""An environment for each peer, `.venv-bench-NAME`, made when it is first needed."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.peers import Peer
from benchmarks.subject import Absent

ROOT = Path(__file__).resolve().parents[1]


def python_of(peer: Peer) -> str:
    """The Python that has the peer in it. Raises `Absent` where it cannot be installed."""
    if not peer.requirement:
        return sys.executable
    folder = ROOT / f".venv-bench-{peer.module}"
    python = folder / "bin" / "python"
    stamp = folder / ".ready"
    wanted = f"{sys.version}\n{peer.requirement}\n" + "".join(f"{one}\n" for one in peer.beside)
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    print(f"installing {peer.requirement} into {folder.name}", flush=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [*install, "pyperf", peer.requirement, *peer.beside],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise Absent("could not be installed") from None
    stamp.write_text(wanted)
    return str(python)


def version_of(python: str, peer: Peer) -> str:
    """Which version of the peer it is."""
    if not peer.requirement:
        return "Python " + sys.version.split()[0]
    code = f"from importlib.metadata import version; print(version({peer.requirement!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def variables(**more: str) -> dict[str, str]:
    """The environment without what would change a figure."""
    meddling = ("KOBS_", "KERNEL_", "OTEL_", "PYTHON", "PYTEST_", "RUST_LOG", "TRACEPARENT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(meddling)}
    return kept | more
