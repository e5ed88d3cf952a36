"""The pytest plugin's entry point. It imports pytest alone, and does nothing for a test until
the fixture `kobs` or the option `--kobs` asks for it: then `kobs_pytest.runtime` takes over.

PYTEST_DONT_REWRITE
"""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kobs_pytest.fixture import Kobs


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and ini values."""
    group = parser.getgroup("kobs", "kobs: what the code really did")
    group.addoption(
        "--kobs",
        action="store_true",
        help="capture events in every test, not only where the fixture 'kobs' asks for it, "
        "and keep the recording",
    )
    group.addoption(
        "--no-kobs", action="store_true", help="capture nothing; skip tests that use 'kobs'"
    )
    group.addoption(
        "--kobs-all",
        action="store_true",
        help="watch system calls and memory too, of which pytest itself makes many events",
    )
    group.addoption(
        "--kobs-size",
        metavar="N",
        help="events that the ring holds, a power of two (65536)",
    )
    group.addoption(
        "--kobs-sampling",
        metavar="PCT",
        help="percent of causal chains to keep (100); with less, absence is inconclusive",
    )
    group.addoption(
        "--kobs-session",
        metavar="DIR",
        help="make the session folder below this directory (with --kobs: $XDG_STATE_HOME/kobs, "
        "without: a temporary one)",
    )
    parser.addini("kobs", "as --kobs", type="bool", default=False)
    parser.addini("kobs_all", "as --kobs-all", type="bool", default=False)
    parser.addini("kobs_size", "as --kobs-size")
    parser.addini("kobs_sampling", "as --kobs-sampling")


def pytest_configure(config: pytest.Config) -> None:
    """With `--kobs`, capture from the first test on."""
    if config.getoption("kobs") and config.getoption("no_kobs"):
        raise pytest.UsageError("--kobs and --no-kobs were both given: leave one out")
    if (config.getoption("kobs") or config.getini("kobs")) and not config.getoption("no_kobs"):
        from kobs_pytest.runtime import activate

        activate(config, every_test=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Without `--kobs`, capture in the tests that use the fixture, if any does."""
    if not session.config.getoption("no_kobs") and any(
        "kobs" in getattr(item, "fixturenames", ()) for item in session.items
    ):
        from kobs_pytest.runtime import activate

        activate(session.config)


@pytest.fixture
def kobs(request: pytest.FixtureRequest) -> "Kobs":
    """What this test caused: `kobs.events`, `kobs.expect(...)`, `kobs.never(...)`, ..."""
    if request.config.getoption("no_kobs"):
        pytest.skip("--no-kobs: this test asserts on events")
    from kobs_pytest.runtime import activate

    return activate(request.config).fixture_of(request.node)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Under pytest-xdist, in the controller: tell a worker where to record."""
    if not node.config.getoption("no_kobs"):
        from kobs_pytest.reporting import prepare_worker

        prepare_worker(node)
