"""A plugin of pytest's that takes the time of each test, in the runs that are compared.

Outside of everything that is done for a test: its hook is the outermost of the wrappers around
`pytest_runtest_protocol`, entered when all other plugins are there. What is done once a run (before
the first test, after the last, and in the first) is not a test's.
"""

import json
import os
from collections.abc import Generator
from pathlib import Path
from time import perf_counter_ns

import pytest

TIMES = "BENCH_TIMES"
"""The environment variable that names the file for the times: nanoseconds, test by test."""


class Timer:
    """Takes the times of a run."""

    def __init__(self) -> None:
        self.times_ns: list[int] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """A test, its reports included."""
        began = perf_counter_ns()
        try:
            return (yield)
        finally:
            self.times_ns.append(perf_counter_ns() - began)

    def pytest_unconfigure(self) -> None:
        """Write what was taken."""
        Path(os.environ[TIMES]).write_text(json.dumps(self.times_ns))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Go around all the others."""
    timer = Timer()
    session.config.pluginmanager.register(timer)
    outermost = session.config.hook.pytest_runtest_protocol.get_hookimpls()[-1]
    if outermost.plugin is not timer:
        raise pytest.UsageError(f"{outermost.plugin_name} would not be in the time of a test")
