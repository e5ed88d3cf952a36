"""Nothing happens unless it is asked for, and nothing stays behind."""

import os
import sys

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import pytest
import kobs as k
from kobs import MessageSent, ProcessCreated, FileOpened
"""
PLAIN = "def test_it(): pass\n"
WITH = "def test_it(kobs): pass\n"


def sessions(state):
    root = state / "kobs"
    return sorted(os.listdir(root)) if root.exists() else []


class TestInstalledAndUnused:
    def test_only_the_entry_point_is_imported_and_it_imports_pytest_alone(self, inner):
        inner.pytester.makeconftest(
            """
import sys
def pytest_unconfigure():
    loaded = sorted(
        name for name in sys.modules
        if name.partition(".")[0] in ("kobs", "kobs_pytest", "kobs_instrumentation")
    )
    print("LOADED", loaded)
    print("HEAVY", [name for name in ("opentelemetry", "wrapt", "rich") if name in sys.modules])
"""
        )
        result = inner(PLAIN, "-s", subprocess=True, passed=1)
        result.stdout.fnmatch_lines(
            ["LOADED ['kobs_pytest', 'kobs_pytest.plugin']", "HEAVY [[]]"], consecutive=True
        )

    def test_its_modules_are_imported_as_they_are(self, inner):
        inner.pytester.makepyfile(
            as_installed="""
def pytest_addoption(parser, pluginmanager):
    pluginmanager.rewrite_hook.mark_rewrite("kobs", "kobs_pytest")
"""
        )
        result = inner(
            """
import kobs_pytest.runtime
def test_it():
    print("LOADER", type(kobs_pytest.runtime.__spec__.loader).__name__)
""",
            "-s",
            "-pas_installed",
            subprocess=True,
            passed=1,
        )
        result.stdout.fnmatch_lines(["*LOADER SourceFileLoader"])

    def test_no_hook_runs_for_a_test(self, inner):
        inner.pytester.makeconftest(
            """
def pytest_unconfigure(config):
    plugin = config.pluginmanager.get_plugin("kobs")
    hooks = {c.name for c in config.pluginmanager.get_hookcallers(plugin)}
    print("HOOKS", sorted(hooks))
    print("MORE", config.pluginmanager.has_plugin("kobs-runtime"))
"""
        )
        result = inner(PLAIN, "-s", passed=1)
        result.stdout.fnmatch_lines(
            [
                "HOOKS *'pytest_addoption', 'pytest_collection_finish', 'pytest_configure'*",
                "MORE False",
            ]
        )
        assert "runtest" not in inner.told(result).split("HOOKS")[1].splitlines()[0]

    def test_no_session_is_made(self, inner, clean_environment):
        inner(PLAIN, passed=1)
        assert sessions(clean_environment) == []


class TestTheFixtureWithoutTheOption:
    def test_leaves_no_file(self, inner, clean_environment, monkeypatch, tmp_path):
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        inner(WITH, subprocess=True, passed=1)
        assert sessions(clean_environment) == []
        assert [name for name in os.listdir(tmp_path) if "kobs" in name] == []

    def test_captures_no_other_test(self, inner):
        result = inner(
            WITH + "def test_other():\n    import kobs\n    assert kobs.global_collector()\n",
            passed=1,
            failed=1,
        )
        result.stdout.no_fnmatch_line("*Captured kobs*")

    def test_says_nothing_about_itself(self, inner):
        text = inner.told(inner(WITH, passed=1))
        assert "kobs:" not in text


class TestTheOption:
    @pytest.mark.parametrize("how", ["option", "environment", "ini"])
    def test_captures_every_test(self, inner, how, monkeypatch):
        options = ["--kobs"]
        if how == "ini":
            options = ["-o", "kobs=true"]
        if how == "environment":
            options = ["-o", "kobs=false"]
            monkeypatch.setenv("KOBS_PYTEST", "1")
        result = inner(
            HEAD
            + """
def test_it():
    k.global_collector().emit(ProcessCreated("sh", 1))
    1 / 0
""",
            *options,
            failed=1,
        )
        result.stdout.fnmatch_lines(
            ["*- Captured kobs call -*", "1 event of this test, 0 lost", "  #1 * ProcessCreated(*"]
        )

    @pytest.mark.parametrize(
        ("how", "seen"), [([], False), (["--kobs-all"], True), (["-o", "kobs_all=true"], True)]
    )
    def test_watches_system_calls_if_asked(self, inner, how, seen):
        inner(
            f"""
import os
from kobs import SyscallExit
def test_it(kobs):
    os.stat("/")
    assert bool([e for e in kobs.events if e.type is SyscallExit]) is {seen}
""",
            "--kobs",
            *how,
            passed=1,
        )

    def test_environment_over_ini_file(self, inner, clean_environment, monkeypatch):
        monkeypatch.setenv("KOBS_PYTEST", "no")
        inner(PLAIN, "-o", "kobs=true", passed=1)
        assert sessions(clean_environment) == []
        monkeypatch.setenv("KOBS_PYTEST", "perhaps")
        result = inner(PLAIN, subprocess=True)
        result.stderr.fnmatch_lines(["ERROR: KOBS_PYTEST='perhaps': expected one of 1, true*"])

    def test_says_where_the_recording_is_and_keeps_it(self, inner, clean_environment):
        result = inner(
            HEAD + "def test_it(kobs):\n    kobs.collector.emit(ProcessCreated('sh', 1))\n",
            "--kobs",
            passed=1,
        )
        (session,) = sessions(clean_environment)
        path = clean_environment / "kobs" / session
        result.stdout.fnmatch_lines([f"kobs: recording into {path}"])
        result.stdout.fnmatch_lines(
            [f"kobs: * events recorded, 0 lost, 0 inconclusive; kobs report {path}"]
        )
        import kobs
        from kobs_pytest.capture.boundaries import TestBegan, TestEnded

        with kobs.open_recording(path) as recording:
            events = list(recording.events())
        nodeid = "test_says_where_the_recording_is_and_keeps_it.py::test_it"
        (began,) = (event for event in events if event.type is TestBegan)
        (ended,) = (event for event in events if event.type is TestEnded)
        (made,) = (event for event in events if event.type is kobs.ProcessCreated)
        assert began.payload == TestBegan(nodeid, 1)
        assert ended.payload == TestEnded(nodeid, "passed", 1)
        assert ended.origin == began.origin
        assert made.origin == began.origin + "c"

    def test_keeps_few_recordings(self, inner, clean_environment):
        from kobs_pytest.capture.recorder import KEPT_SESSIONS

        inner(PLAIN, passed=1)  # writes it
        several = "import pytest\n" + KEPT_SESSIONS * (
            "assert pytest.main(['-pno:cacheprovider', '--kobs', '-q']) == 0\n"
        )
        assert inner.pytester.run(sys.executable, "-c", several).ret == 0
        before = sessions(clean_environment)
        assert len(before) == KEPT_SESSIONS  # of a process that is gone
        result = inner(PLAIN, "--kobs", subprocess=True, passed=1)
        kept = sessions(clean_environment)
        assert len(kept) == KEPT_SESSIONS
        assert kept[:-1] == before[1:]
        result.stdout.fnmatch_lines([f"kobs: recording into *{kept[-1]}"])

    def test_never_removes_the_recording_of_a_process_that_lives(self, inner, clean_environment):
        from kobs_pytest.capture.recorder import KEPT_SESSIONS

        for _ in range(KEPT_SESSIONS + 1):  # in this process
            inner(PLAIN, "--kobs", passed=1)
        assert len(sessions(clean_environment)) == KEPT_SESSIONS + 1

    def test_puts_the_session_where_it_is_told(self, inner, tmp_path, clean_environment):
        inner(WITH, "--kobs", f"--kobs-session={tmp_path}/here", passed=1)
        assert len(os.listdir(tmp_path / "here")) == 1
        assert sessions(clean_environment) == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs no special rights where not root")
    def test_does_with_a_temporary_folder_where_the_state_cannot_be_written(
        self, inner, monkeypatch, tmp_path
    ):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        result = inner(WITH, "--kobs", subprocess=True, passed=1)
        result.stdout.fnmatch_lines([f"kobs: recording into {tmp_path}/kobs-pytest-*"])

    def test_restores_everything_at_the_end(self, inner):
        import builtins

        import kobs
        from kobs.context import cause, origin
        from kobs_instrumentation import registry

        opener = builtins.open
        inner(HEAD + "def test_it(): k.global_collector()\n", "--kobs", passed=1)
        assert kobs.global_collector() is None
        assert builtins.open is opener
        assert not registry.enabled()
        assert (origin.get(), cause.get()) == ("", None)

    def test_tests_of_all_kinds_run_as_before(self, inner):
        inner.pytester.makepyfile(
            test_more="""
import unittest, pytest, asyncio

class TestUnit(unittest.TestCase):
    def test_sub(self):
        for n in range(2):
            with self.subTest(n=n):
                assert n >= 0
    @unittest.skip("no")
    def test_skipped(self): pass
    @unittest.expectedFailure
    def test_expected(self): assert 0

@pytest.mark.xfail
def test_xfail(): assert 0

@pytest.mark.asyncio
async def test_async(): await asyncio.sleep(0)

class TestClass:
    def test_one(self, tmp_path, capsys, monkeypatch): print("x")

def test_fails(): assert 0

@pytest.fixture
def broken(): raise ValueError
def test_error(broken): pass
"""
        )
        inner('"""\n>>> 1 + 1\n2\n"""\n' + PLAIN, "--kobs", "--doctest-modules").assert_outcomes(
            passed=5, skipped=1, xfailed=2, failed=1, errors=1
        )


class TestSwitchedOff:
    def test_no_kobs_skips_the_tests_that_use_it(self, inner):
        result = inner(WITH + "def test_other(): pass\n", "--no-kobs", "-rs", passed=1, skipped=1)
        result.stdout.fnmatch_lines(["SKIPPED * --no-kobs: this test asserts on events"])

    def test_no_kobs_overrules_the_ini(self, inner, clean_environment):
        inner(PLAIN, "--no-kobs", "-o", "kobs=true", passed=1)
        assert sessions(clean_environment) == []

    @pytest.mark.parametrize("how", ["--no-kobs", "-pno:kobs"])
    def test_workers_of_xdist_know_it(self, inner, how, clean_environment):
        inner.pytester.makeconftest(
            """
import sys
def pytest_sessionfinish(session):
    config = session.config
    names = {str(name) for name, plugin in config.pluginmanager.list_name_plugin() if plugin}
    loaded = [name for name in sys.modules if name.partition(".")[0] == "kobs"]
    told = sorted(name for name in names if name.startswith("kobs")), loaded
    where = getattr(config, "workerinput", {}).get("workerid", "controller")
    with open(config.rootpath / f"{where}.told", "w") as file:
        print(*told, file=file)
"""
        )
        source = "def test_it(request): assert 'kobs' not in request.fixturenames\n" + (
            "" if how == "-pno:kobs" else WITH.replace("test_it", "test_with")
        )
        inner(source, "-n1", how, subprocess=True, passed=1, skipped=int(how == "--no-kobs"))
        registered = [] if how == "-pno:kobs" else ["kobs"]
        for where in ("controller", "gw0"):
            told = (inner.pytester.path / f"{where}.told").read_text()
            assert told == f"{registered} []\n"
        assert sessions(clean_environment) == []

    def test_the_plugin_itself_can_be_left_out(self, inner):
        result = inner(WITH, "-p", "no:kobs", errors=1)
        result.stdout.fnmatch_lines(["E *fixture 'kobs' not found"])
        result = inner(PLAIN, "-p", "no:kobs", "--kobs")
        assert result.ret == pytest.ExitCode.USAGE_ERROR


class TestWrongUse:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--kobs", "--no-kobs"], "--kobs and --no-kobs were both given: leave one out"),
            (["--kobs-size=1000"], "--kobs-size=1000: expected a power of two from 16 to *"),
            (["--kobs-size=many"], "--kobs-size=many: expected a power of two from 16 to *"),
            (["-o", "kobs_size=7"], "kobs_size=7: expected a power of two from 16 to *"),
            (["--kobs-sampling=101"], "--kobs-sampling=101: expected a number from 0 to 100"),
            (["--kobs-session=/proc/none"], "/proc/none/*: no session can be made there: *"),
        ],
    )
    @pytest.mark.parametrize("how", [[], ["--kobs"]])
    def test_is_one_line(self, inner, options, message, how):
        result = inner(WITH, *how, *options)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {message}"])
        assert "Traceback" not in result.stderr.str() + result.stdout.str()

    def test_of_a_variable_names_the_variable(self, inner, monkeypatch):
        monkeypatch.setenv("KERNEL_STREAM_SIZE", "12")
        result = inner(WITH)
        result.stderr.fnmatch_lines(["ERROR: KERNEL_STREAM_SIZE=12: expected a power of two*"])

    def test_of_the_command_line_goes_before_the_variable_before_the_ini(self, inner, monkeypatch):
        source = "def test_it(kobs): assert kobs.collector.ring.slots == {}"
        inner(source.format(64), "-o", "kobs_size=64", passed=1)
        monkeypatch.setenv("KERNEL_STREAM_SIZE", "128")
        inner(source.format(128), "-o", "kobs_size=64", passed=1)
        inner(source.format(256), "-o", "kobs_size=64", "--kobs-size=256", passed=1)


class TestWithXdist:
    SOURCE = (
        HEAD
        + """
import subprocess, sys

@pytest.mark.parametrize("n", range(4))
def test_it(kobs, n):
    kobs.collector.emit(MessageSent(n, 1))
    code = f"import kobs; kobs.global_collector().emit(kobs.MessageSent({n} + 100, 1))"
    subprocess.run([sys.executable, "-c", code], check=True)
    found = sorted(e.payload.queue_id for e in kobs.events.of(MessageSent))
    assert found == [n, n + 100]
    assert FileOpened.like(path="never") not in kobs.events
"""
    )

    def test_workers_do_not_see_each_others_events(self, inner):
        inner(self.SOURCE, "-n", "2", subprocess=True, passed=4)

    def test_workers_share_one_session_and_the_summary_counts_all_processes(
        self, inner, clean_environment
    ):
        result = inner(self.SOURCE, "-n", "2", "--kobs", subprocess=True, passed=4)
        (session,) = sessions(clean_environment)
        result.stdout.fnmatch_lines([f"kobs: recording into *{session}"])
        import kobs
        from kobs_pytest.capture.boundaries import TestEnded

        with kobs.open_recording(clean_environment / "kobs" / session) as recording:
            events = list(recording.events())
        ended = [event for event in events if event.type is TestEnded]
        assert len({event.payload.nodeid for event in ended}) == 4
        assert len({event.id >> 44 for event in ended}) == 2
        assert len({event.origin for event in ended}) == 4
        (line,) = (one for one in result.outlines if " events recorded, " in one)
        assert int(line.split()[1]) >= 4 * (2 + 2)

    def test_the_controller_knows_the_inconclusive(self, inner):
        result = inner(
            HEAD
            + """
def test_it(kobs):
    for n in range(200):
        kobs.collector.emit(MessageSent(n, 1))
    assert FileOpened.like() not in kobs.events
""",
            "-n", "1", "--kobs-size", "64",
            subprocess=True,
            failed=1,
        )  # fmt: skip
        result.stdout.fnmatch_lines(["[?] *", "*= inconclusive =*", "*::test_it", "*overflowed*"])


def test_the_plugin_imports_in_a_moment(inner):
    """Of a bare interpreter with pytest loaded already."""
    result = inner.pytester.run(
        sys.executable,
        "-c",
        "import pytest, sys\n"
        "before = set(sys.modules)\n"
        "import kobs_pytest.plugin\n"
        "print(sorted(set(sys.modules) - before))",
    )
    assert result.outlines == ["['kobs_pytest', 'kobs_pytest.plugin']"]
