"""The pytest plugin's entry point. It imports pytest alone, and does nothing for a test until
the fixture `kobs` or an option asks for it: then `kobs_pytest.runtime` takes over.

PYTEST_DONT_REWRITE
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from kobs_pytest.asserting.fixture import Kobs


class Option(NamedTuple):
    """An option of the command line. `--kobs-x` is `KOBS_PYTEST_X` in the environment and
    `kobs_x` in the ini file, each of which the one before overrides."""

    flag: str
    help: str
    metavar: str = ""
    """What its value is called; empty: it takes none."""
    ini: bool = True
    """It can be set in the ini file, and in the environment."""
    captures: bool = False
    """It asks for `--kobs` as well."""

    @property
    def name(self) -> str:
        """Its name in `config.getoption` and in the ini file."""
        return self.flag[2:].replace("-", "_")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "KOBS_PYTEST" + self.name[4:].upper()


OPTIONS = (
    Option(
        "--kobs",
        "capture events in every test, not only where the fixture 'kobs' or a marker asks for "
        "it, and keep the recording",
        captures=True,
    ),
    Option("--no-kobs", "capture nothing; skip tests that use 'kobs'", ini=False),
    Option(
        "--kobs-all",
        "watch system calls and memory too, of which pytest itself makes many events",
    ),
    Option("--kobs-size", "events that the ring holds, a power of two (65536)", "N"),
    Option(
        "--kobs-sampling",
        "percent of causal chains to keep (100); with less, absence is inconclusive",
        "PCT",
    ),
    Option(
        "--kobs-session",
        "make the session folder below this directory (with --kobs: $XDG_STATE_HOME/kobs, "
        "without: a temporary one)",
        "DIR",
        ini=False,
    ),
    Option(
        "--kobs-baseline",
        "compare what each test does with what it did when this file was written (with --kobs)",
        "FILE",
        captures=True,
    ),
    Option(
        "--kobs-update-baseline",
        "take what the tests do into the baseline; two runs that agree make an entry",
        ini=False,
        captures=True,
    ),
    Option(
        "--kobs-baseline-durations",
        "compare medians of durations too: they may grow by this factor, for instance 1.5x; "
        "1.5x:50 needs 50 samples (20)",
        "FACTOR",
        ini=False,
        captures=True,
    ),
    Option(
        "--kobs-passing",
        "show where a failing test parts from the run in which it passed: a session, or 'latest' "
        "(the default with --kobs); 'no' shows nothing",
        "SESSION",
    ),
)


OURS = ("kobs", "kobs_pytest", "kobs_instrumentation")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the options and ini values; have kobs's own modules imported as they are.

    pytest would parse, rewrite and compile all modules of a plugin's distribution, for the sake
    of their `assert` statements: twice the time in a run without a cache, as in CI. Where a
    pytest does not keep their names here, it does that as before.
    """
    rewritten = getattr(pluginmanager.rewrite_hook, "_must_rewrite", None)
    if isinstance(rewritten, set):
        rewritten.difference_update(OURS)
    group = parser.getgroup("kobs", "kobs: what the code really did")
    for option in OPTIONS:
        if option.metavar:
            group.addoption(option.flag, metavar=option.metavar, help=option.help)
        else:
            group.addoption(option.flag, action="store_true", help=option.help)
        if option.ini:
            about = f"as {option.flag}"
            if option.metavar:
                parser.addini(option.name, about)
            else:
                parser.addini(option.name, about, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """With `--kobs`, capture from the first test on."""
    if config.getoption("no_kobs"):
        for option in OPTIONS:
            if option.captures and config.getoption(option.name):
                raise pytest.UsageError(
                    f"{option.flag} and --no-kobs were both given: leave one out"
                )
        return
    if _any_in_environment() or any(
        config.getoption(option.name) or (option.ini and config.getini(option.name))
        for option in OPTIONS
        if option.captures
    ):
        from kobs_pytest.runtime import configure

        configure(config)


def _any_in_environment() -> bool:
    import os

    return any(name.startswith("KOBS_PYTEST") for name in os.environ)


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
        from kobs_pytest.reporting.reporter import prepare_worker

        prepare_worker(node)
