"""No test leaves anything behind for the next: no ambient cause, no process-wide collector."""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest

from kobs import global_collector
from kobs._core import select
from kobs.collector import clear_collector
from kobs.context import cause, origin
from kobs.errors import CoreUnavailableError

# How long an example takes is up to who else uses the machine.
hypothesis.settings.register_profile(
    "kobs", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("kobs")

_BYTECODE = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Hundreds of tests start programs, and half of such a start is compiling kobs: where
    bytecode is to be kept out of the working copy, it is kept in a folder of this run instead."""
    # A shell starts what is to run in the background with these ignored, and children inherit that.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    if os.environ.get("PYTHONDONTWRITEBYTECODE") and "PYTHONPYCACHEPREFIX" not in os.environ:
        config.stash[_BYTECODE] = tempfile.mkdtemp(prefix="kobs-tests-bytecode-")
        os.environ["PYTHONPYCACHEPREFIX"] = config.stash[_BYTECODE]
        del os.environ["PYTHONDONTWRITEBYTECODE"]


def pytest_unconfigure(config: pytest.Config) -> None:
    if folder := config.stash.get(_BYTECODE, ""):
        del os.environ["PYTHONPYCACHEPREFIX"]
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a C compiler there is no C core to test; `KOBS_BUILD_CORE=1` says there must be."""
    if os.environ.get("KOBS_BUILD_CORE") == "1":
        return
    try:
        select("c")
    except CoreUnavailableError as error:
        for item in items:
            if item.get_closest_marker("c_core"):
                item.add_marker(pytest.mark.skip(reason=str(error)))


def pytest_collection_finish() -> None:
    """Collections that tests ask for walk what tests made, not the thousands of tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_ambient_is_left() -> Iterator[None]:
    yield
    cause.set(None)  # a receive sets it for the rest of the task, and a test is part of one
    left = {"origin": origin.get(), "collector": global_collector()}
    origin.set("")
    clear_collector()
    assert not any(left.values()), f"the test leaves behind {left}"
