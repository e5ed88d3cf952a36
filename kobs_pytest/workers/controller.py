"""In pytest-xdist's controller: where workers record, and what to tell of one that crashed.

Imports nothing of kobs before a worker crashed: a run in which nobody asks for events costs
nothing.

PYTEST_DONT_REWRITE
"""

import os
import shutil
import sys
import tempfile
from secrets import token_hex
from typing import Any

import pytest

from kobs_pytest.reporting.reporter import reporter_of

WORKERS = pytest.StashKey["Workers"]()


def prepare_worker(node: Any) -> None:
    """One session for all workers; their letters are known here."""
    config: pytest.Config = node.config
    reporter_of(config)
    workers = config.stash.get(WORKERS, None)
    if workers is None:
        workers = config.stash[WORKERS] = Workers(config)
        config.pluginmanager.register(workers, "kobs-workers")
    node.workerinput.update(workers.given)


class Workers:
    """What the controller knows of its workers' recordings."""

    def __init__(self, config: pytest.Config) -> None:
        self._root = ""
        """A temporary folder, which is made by the first worker that has something to record."""
        self._out_of_memory = out_of_memory()
        runtime = self._runtime = config.pluginmanager.get_plugin("kobs-runtime")
        """None where nothing asks for every test."""
        folder = config.getoption("kobs_session")
        self._session = ""
        if runtime is not None:
            self._session = runtime.recorder.session_path
        elif folder is not None:
            from kobs_pytest.capture.recorder import make_session

            self._session = make_session(folder, list(sys.orig_argv)).path
        if not self._session:
            self._root = os.path.join(tempfile.gettempdir(), f"kobs-pytest-{token_hex(8)}")

    @property
    def given(self) -> dict[str, str]:
        """What workers are told."""
        if self._session:
            return {"kobs_session": self._session}
        return {"kobs_root": self._root}

    @property
    def session(self) -> str:
        """The session's folder; empty where nobody recorded anything."""
        if self._session:
            return self._session
        from kobs_pytest.workers.shared import path_of

        path = path_of(self._root)
        return path if os.path.isdir(path) else ""

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Add what the worker recorded last to the report of the test that it ran."""
        if not self.session:
            return
        from kobs_pytest.workers.crash import read

        node: Any = getattr(report, "node", None)
        worker = node.gateway.id if node is not None else ""
        features = self._runtime.features if self._runtime is not None else []
        try:
            crashed = read(self.session, worker, crashitem, whole=bool(features))
        except Exception as error:  # the crash itself is reported all the same
            text = f"the recording of worker {worker} cannot be read: {error!r}"
            report.sections.append((f"kobs: the last events of {worker}", text))
            return
        if crashed is not None:
            text = crashed.told(how_it_ended(node, out_of_memory() - self._out_of_memory))
            report.sections.append((f"kobs: the last events of {worker}", text))
            for feature in features:
                feature.crashed(crashed, report)

    def pytest_unconfigure(self) -> None:
        """Remove what nobody asked to keep."""
        if self._root:
            shutil.rmtree(self._root, ignore_errors=True)


def how_it_ended(node: Any, out_of_memory: int) -> str:
    """What became of a worker's process, in words; empty where that is not known (execnet does
    not say it of processes elsewhere). `out_of_memory`: processes that the kernel has ended
    meanwhile, this one or others, because there was no memory left."""
    import signal

    process = getattr(getattr(getattr(node, "gateway", None), "_io", None), "popen", None)
    try:
        code = process.wait(1.0) if process is not None else None
    except Exception:
        return ""
    if code is None:
        return ""
    if code >= 0:
        return f"exit code {code}"
    try:
        how = f"killed by {signal.Signals(-code).name}"
    except ValueError:
        how = f"killed by signal {-code}"
    if code == -signal.SIGKILL and out_of_memory > 0:
        one = "a process" if out_of_memory == 1 else f"{out_of_memory} processes"
        how += f" (out of memory? the kernel ended {one} for that since the run began)"
    return how


def out_of_memory() -> int:
    """How many processes the kernel has ended since it started because there was no memory left,
    in a control group or at all; 0 where that is not told."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            lines = dict(line.split(None, 1) for line in file)
        return int(lines["oom_kill"])
    except (OSError, KeyError, ValueError):
        return 0
