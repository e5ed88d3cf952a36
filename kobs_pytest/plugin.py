"""The pytest plugin's entry point. It imports pytest alone, and does nothing for a test until
the fixture `kobs` or an option asks for it: then `kobs_pytest.runtime` takes over.

PYTEST_DONT_REWRITE
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from kobs_pytest.asserting.fixture import Kobs
    from kobs_pytest.asserting.run import KobsSession

FIXTURES = frozenset(("kobs", "kobs_session"))
"""Who asks for one of these is captured."""


class Option(NamedTuple):
    """An option of the command line. `--kobs-x` is `KOBS_PYTEST_X` in the environment and
    `kobs_x` in the ini file, each of which the one before overrides."""

    flag: str
    help: str
    metavar: str = ""
    """What its value is called; empty: it takes none."""
    ini: bool = True
    """It can be set in the ini file, and in the environment."""
    optional: bool = False
    """Its value may be left out, and is then empty."""
    asks: bool = False
    """It asks for capture in every test."""

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
        asks=True,
    ),
    Option("--no-kobs", "capture nothing; skip tests that use 'kobs'", ini=False),
    Option(
        "--kobs-all",
        "watch system calls and memory too, of which pytest itself makes many events",
    ),
    Option(
        "--kobs-artifacts",
        "capture in every test; of each that fails, leave a page, a Perfetto trace and its events "
        "below this directory",
        "DIR",
        asks=True,
    ),
    Option(
        "--kobs-report",
        "capture in every test, and write one HTML page about the run",
        "FILE",
        asks=True,
    ),
    Option("--kobs-size", "events that the ring holds, a power of two (65536)", "N"),
    Option(
        "--kobs-sampling",
        "percent of causal chains to keep (100); with less, absence is inconclusive",
        "PCT",
    ),
    Option(
        "--kobs-subsystems",
        "watch these alone ('vfs,process'), or what is watched anyhow and these, or without these "
        "('+syscall,-network')",
        "NAMES",
    ),
    Option(
        "--kobs-suppress",
        "checks that answers do without ('child_not_observed'); the summary says where",
        "NAMES",
    ),
    Option(
        "--kobs-budget",
        "what every captured test may cause: 'FileOpened=10; SyscallExit[read] count=50 p95=5ms'",
        "LIMITS",
    ),
    Option(
        "--kobs-anomalies",
        "what an anomaly in what a captured test causes is: fail, warn or allow (allow)",
        "VERDICT",
    ),
    Option(
        "--kobs-session",
        "make the session folder below this directory (with --kobs: $XDG_STATE_HOME/kobs, "
        "without: a temporary one)",
        "DIR",
        ini=False,
    ),
    Option(
        "--kobs-otlp",
        "send spans of the run, its tests, phases and fixtures, and those that tests make, to an "
        "OTLP receiver (without URL to OTEL_EXPORTER_OTLP_ENDPOINT)",
        "URL",
        optional=True,
        asks=True,
    ),
    Option(
        "--kobs-baseline",
        "compare what each test does with what it did when this file was written",
        "FILE",
        asks=True,
    ),
    Option(
        "--kobs-update-baseline",
        "take what the tests do into the baseline; two runs that agree make an entry",
        ini=False,
        asks=True,
    ),
    Option(
        "--kobs-baseline-durations",
        "compare medians of durations too: they may grow by this factor, for instance 1.5x; "
        "1.5x:50 needs 50 samples (20)",
        "FACTOR",
        ini=False,
        asks=True,
    ),
    Option(
        "--kobs-passing",
        "show where a failing test parts from the run in which it passed: a session, or 'latest' "
        "(the default with --kobs); 'no' shows nothing",
        "SESSION",
    ),
)


MARKERS = (
    "kobs(subsystems=..., sampling=..., size=..., suppress=...): capture this test, in this way: "
    "what is watched ('vfs,process' alone; '+syscall,-network' changes it), percent of chains, "
    "events that the ring holds, checks to do without",
    "kobs_expect(P, ...): the test fails unless it causes all of these patterns",
    "kobs_never(P, ...): the test fails if it causes one of these patterns",
    "kobs_budget(P, count=, p50=, p95=, p99=, max=, total=, bytes=, ids=, FileOpened=3, ...): "
    "the test fails if it causes more",
    "kobs_no_leaks('process', 'thread', 'task', 'fd', 'shm', 'queue'): the test fails if one of "
    "these (or, without any, of all) that it made is left after its teardown",
    "kobs_anomalies('fail' | 'warn' | 'allow'): what an anomaly in what the test causes is",
)

_NAMES = frozenset(marker.partition("(")[0] for marker in MARKERS)

MARKED = pytest.StashKey[bool]()
"""Of an item: a marker says something of it, or (true) it asserts on leaks."""


class PatternMark(pytest.MarkDecorator):
    """`pytest.mark.kobs_never(FileOpened)` as `pytest.mark.kobs_never(FileOpened.like())`: pytest
    would take the class for what is decorated, and what is decorated for its first field."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Decorate, or take arguments."""
        given: Any = args[0] if len(args) == 1 else None
        is_type = isinstance(given, type)
        if is_type and hasattr(given, "__kobs_schema__"):
            return self.with_args(given.like(), **kwargs)
        return super().__call__(*args, **kwargs)


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
        if option.optional:
            group.addoption(
                option.flag, metavar=option.metavar, help=option.help, nargs="?", const=""
            )
        elif option.metavar:
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
    """Register the markers; with `--kobs`, or what asks for as much, capture from the first test
    on."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    for name in ("kobs_expect", "kobs_never", "kobs_budget"):
        config.add_cleanup(_take_types(name))
    if config.getoption("no_kobs"):
        for name in ("kobs", "kobs_update_baseline"):
            if config.getoption(name):
                flag = "--" + name.replace("_", "-")
                raise pytest.UsageError(f"{flag} and --no-kobs were both given: leave one out")
        return
    if _asked(config) or _any_in_environment():
        from kobs_pytest.runtime import configure

        configure(config)


def _take_types(name: str) -> Callable[[], None]:
    """Have a marker take a payload type as its argument; returns what takes that back."""
    before = vars(pytest.mark).get(name)
    made = object.__new__(PatternMark)  # its constructor is pytest's own
    made.mark = getattr(pytest.mark, name).mark
    setattr(pytest.mark, name, made)

    def undo() -> None:
        if before is not None:
            setattr(pytest.mark, name, before)
        else:
            vars(pytest.mark).pop(name, None)

    return undo


def _asked(config: pytest.Config) -> bool:
    asking = ((option.name, option.ini) for option in OPTIONS if option.asks)
    return any(
        config.getoption(name) not in (None, False) or (ini and config.getini(name))
        for name, ini in asking
    )


def _any_in_environment() -> bool:
    import os

    return any(name.startswith("KOBS_PYTEST") for name in os.environ)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Without `--kobs`, capture in the tests that ask for it by fixture or marker, if any does."""
    if session.config.getoption("no_kobs"):
        return
    uses = judged = False
    known: dict[Any, bool] = {None: False}
    parent, below_marked = None, False
    for item in session.items:  # plain loops: this is all that a test that asks for nothing costs
        fixture = not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        marked = leaks = False
        if fixture:
            uses = True
            marked = leaks = _asks_for_leaks(item)
        if item.parent is not parent:
            parent = item.parent
            below_marked = _marked(parent, known)
        for mark in item.own_markers:
            if mark.name in _NAMES:
                marked = True
        if marked or below_marked:
            item.stash[MARKED] = leaks
            judged = True
    if uses or judged:
        from kobs_pytest.runtime import activate

        runtime = activate(session.config)
        if judged:
            runtime.judge()


def _marked(node: Any, known: dict[Any, bool]) -> bool:
    """A marker of ours is on the node or above it."""
    found = known.get(node)
    if found is None:
        own = any(mark.name in _NAMES for mark in node.own_markers)
        found = known[node] = own or _marked(node.parent, known)
    return found


def _asks_for_leaks(item: Any) -> bool:
    """It speaks of `kobs.no_leaks` or `kobs.leaks`: then leaks are tracked from its beginning."""
    names = getattr(getattr(getattr(item, "obj", None), "__code__", None), "co_names", ())
    return "no_leaks" in names or "leaks" in names


@pytest.fixture
def kobs(request: pytest.FixtureRequest) -> "Kobs":
    """What this test caused: `kobs.events`, `kobs.expect(...)`, `kobs.never(...)`, ..."""
    if request.config.getoption("no_kobs"):
        pytest.skip("--no-kobs: this test asserts on events")
    from kobs_pytest.runtime import activate

    return activate(request.config).fixture_of(request.node)


@pytest.fixture(scope="session")
def kobs_session(request: pytest.FixtureRequest) -> "KobsSession":
    """What all tests caused, and `with kobs_session.capture() as inner:` for a part of one, in
    each example of Hypothesis's `@given` too."""
    if request.config.getoption("no_kobs"):
        pytest.skip("--no-kobs: this test asserts on events")
    from kobs_pytest.runtime import activate

    runtime = activate(request.config)
    runtime.asserting(request._pyfuncitem)
    with runtime.recorder.muted():
        from kobs_pytest.asserting.run import session_of

        return session_of(runtime)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Under pytest-xdist, in the controller: tell a worker where to record."""
    if not node.config.getoption("no_kobs"):
        from kobs_pytest.workers.controller import prepare_worker

        prepare_worker(node)
