"""Spans of a test run, as an OTLP receiver gets them."""

import subprocess

import pytest

from tests.otlp_receivers import HttpReceiver, Reply

pytest_plugins = ["pytester"]

PLAIN = "def test_it(): pass\n"
OUTER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STATUSES = ["", " ok", " ERROR"]


@pytest.fixture(scope="module")
def server():
    made = HttpReceiver()
    yield made
    made.close()


@pytest.fixture
def receiver(server):
    server.forget()
    return server


@pytest.fixture
def sent(inner, receiver):
    """Runs pytest with `--kobs-otlp`; what the receiver got."""

    def run(source, *arguments, **outcomes):
        given = [*arguments, f"--kobs-otlp={receiver.url}"]
        if "asyncio" not in source:
            given.append("-pno:asyncio")
        result = inner(source, *given, **outcomes)
        return Sent(receiver, result)

    return run


class Sent:
    """The spans of a run, by name."""

    def __init__(self, receiver, result):
        self.result = result
        self.spans = receiver.spans
        self.resources = [
            attributes(group.resource)
            for got in receiver.got
            for group in got.message.resource_spans
        ]

    def one(self, name):
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def test(self, name):
        return self.one(next(s.name for s in self.spans if s.name.endswith(f"::{name}")))

    def tree(self, root, leave_out=()):
        """The spans below one, by time, with their outcomes."""
        lines = [f"{root.name}{STATUSES[root.status.code]}"]
        below = [span for span in self.spans if span.parent_span_id == root.span_id]
        for span in sorted(below, key=lambda span: span.start_time_unix_nano):
            assert span.trace_id == root.trace_id
            assert span.start_time_unix_nano <= span.end_time_unix_nano
            if span.name not in leave_out:
                lines += [f"  {line}" for line in self.tree(span, leave_out)]
        return lines


def attributes(of):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in of.attributes}


class TestTheSpansOfARun:
    SOURCE = """
import subprocess, sys, threading
import pytest
import kobs as k

@pytest.fixture(scope="session")
def wide():
    with k.span_operation("open"): pass
    yield
    with k.span_operation("close"): pass

@pytest.fixture
def own():
    with k.span_operation("prepare"): pass
    yield
    with k.span_operation("clean up"): pass

def test_all(wide, own):
    with k.span_operation("outer"):
        with k.span_operation("inner"): pass
    def work():
        with k.span_operation("in a thread"): pass
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    code = "import kobs\\nwith kobs.span_operation('in a child'): pass"
    subprocess.run([sys.executable, "-c", code], check=True)

def test_fails(wide): raise LookupError("not there")

@pytest.fixture
def bad(): raise ValueError("no")
def test_error(bad): pass

@pytest.fixture
def late():
    yield
    raise OSError("too late")
def test_late(late): pass

@pytest.mark.xfail
def test_xfail(): assert 0
def test_skip(): pytest.skip("not here")
def test_sub(subtests):
    with subtests.test("one"): assert 0
    with k.span_operation("after"): pass
"""

    def test_are_a_session_and_a_trace_for_each_test(self, sent):
        run = sent(self.SOURCE, passed=2, failed=3, errors=2, xfailed=1, skipped=1)
        session = run.one("pytest")
        assert run.tree(session) == [
            "pytest ERROR",
            "  fixture wide ok",
            "    open",
            "  fixture wide teardown ok",
            "    close",
        ]
        assert run.tree(run.test("test_all")) == [
            "test_are_a_session_and_a_trace_for_each_test.py::test_all ok",
            "  setup ok",
            "    fixture own ok",
            "      prepare",
            "  call ok",
            "    outer",
            "      inner",
            "    in a thread",
            "    in a child",
            "  teardown ok",
            "    fixture own teardown ok",
            "      clean up",
        ]
        outcomes = {
            "test_fails": ["setup ok", "call ERROR", "teardown ok"],
            "test_error": ["setup ERROR", "  fixture bad ERROR", "teardown ok"],
            "test_late": [
                "setup ok", "  fixture late ok", "call ok", "teardown ERROR",
                "  fixture late teardown ERROR",
            ],
            "test_xfail": ["setup ok", "call", "teardown ok"],
            "test_skip": ["setup ok", "call", "teardown ok"],
            "test_sub": ["setup ok", "  fixture subtests ok", "call ERROR", "  after",
                         "teardown ok"],
        }  # fmt: skip
        for name, below in outcomes.items():
            assert run.tree(run.test(name))[1:] == [f"  {line}" for line in below], name

        # A trace for each test, linked to the session; the rest is the session's.
        tests = [span for span in run.spans if "::" in span.name]
        assert len({span.trace_id for span in [*tests, session]}) == len(tests) + 1 == 8
        for span in tests:
            ((trace, linked),) = ((link.trace_id, link.span_id) for link in span.links)
            assert (trace, linked) == (session.trace_id, session.span_id)

        told = {span.name.partition("::")[2]: attributes(span) for span in tests}
        assert {name: about["kobs.test.outcome"] for name, about in told.items()} == {
            "test_all": "passed", "test_fails": "failed", "test_error": "error",
            "test_late": "error", "test_xfail": "xfailed", "test_skip": "skipped",
            "test_sub": "failed",
        }  # fmt: skip
        assert {name: about["test.case.result.status"] for name, about in told.items()} == {
            "test_all": "pass", "test_fails": "fail", "test_error": "fail", "test_late": "fail",
            "test_xfail": "skip", "test_skip": "skip", "test_sub": "fail",
        }  # fmt: skip
        module = tests[0].name.partition("::")[0]
        about = told["test_fails"]
        assert about["test.case.name"] == f"{module}::test_fails"
        assert about["test.suite.name"] == module
        assert about["code.file.path"].endswith(f"/{module}")
        assert about["code.function.name"] == "test_fails"
        assert about["code.line.number"] == 28
        assert about["error.type"] == "LookupError"
        about = attributes(session)
        assert about["test.suite.run.status"] == "failure"
        assert about["process.exit.code"] == 1
        call = next(
            span for span in run.spans
            if span.parent_span_id == run.test("test_fails").span_id and span.name == "call"
        )  # fmt: skip
        (event,) = call.events
        failure = attributes(event)
        assert failure["exception.type"] == "LookupError"
        assert failure["exception.message"] == "not there"
        assert 'raise LookupError("not there")' in failure["exception.stacktrace"]
        run.result.stdout.fnmatch_lines([f"kobs: {len(run.spans)} spans sent over OTLP"])

    def test_of_which_all_passed_are_green(self, sent):
        run = sent(PLAIN, passed=1)
        assert run.tree(run.one("pytest")) == ["pytest ok"]
        assert attributes(run.one("pytest"))["test.suite.run.status"] == "success"

    def test_are_red_for_an_error_of_a_fixture_alone(self, sent):
        run = sent(
            "import pytest\n"
            "@pytest.fixture(scope='module')\n"
            "def wide(): raise OSError('no')\n"
            "def test_it(wide): pass\n",
            errors=1,
        )
        assert run.tree(run.one("pytest")) == ["pytest ERROR", "  fixture wide ERROR"]
        assert run.tree(run.test("test_it"))[1:] == ["  setup ERROR", "  teardown ok"]

    def test_that_was_stopped_in_the_middle_are_told_unfinished(self, sent):
        run = sent("import pytest\ndef test_it(): pytest.exit('enough', 3)\n")
        assert run.tree(run.test("test_it"))[1:] == ["  setup ok", "  call ERROR"]
        assert attributes(run.test("test_it"))["kobs.unfinished"] is True
        assert run.one("pytest").status.code == 2


class TestSpansOfOtherTracers:
    def test_in_a_test_are_of_its_trace(self, sent):
        run = sent(
            """
import asyncio, unittest
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
import kobs as k

TRACER = TracerProvider().get_tracer("theirs")
IDS = {}

def note(name, span):
    IDS[name] = (span.get_span_context().trace_id, span.parent and span.parent.span_id)

def test_plain():
    with TRACER.start_as_current_span("first") as span:
        note("test_plain", span)
        with k.span_operation("kobs inside"): pass

class TestUnit(unittest.IsolatedAsyncioTestCase):
    async def test_unit(self):
        with TRACER.start_as_current_span("second") as span:
            note("test_unit", span)

@pytest.fixture(scope="module")
def wide():
    with TRACER.start_as_current_span("third") as span:
        note("wide", span)
    yield

def test_wide(wide): pass

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_async(anyio_backend):
    with TRACER.start_as_current_span("fourth") as span:
        note("test_async", span)

def test_end():
    # Between tests, and in a test behind the span, nothing is left.
    assert IDS.keys() == {"test_plain", "test_unit", "wide", "test_async"}
    trace.ids = IDS
""",
            passed=5,
        )
        from opentelemetry import trace

        ids = trace.__dict__.pop("ids")
        for name, (trace_id, parent) in ids.items():
            if name == "wide":
                root, above = run.one("pytest"), run.one("fixture wide")
            else:
                root = next(s for s in run.spans if "::" in s.name and name in s.name)
                (above,) = (
                    span for span in run.spans
                    if span.parent_span_id == root.span_id and span.name == "call"
                )  # fmt: skip
            assert trace_id.to_bytes(16, "big") == root.trace_id, name
            assert parent.to_bytes(8, "big") == above.span_id, name
        assert run.one("kobs inside").trace_id == run.test("test_plain").trace_id

    def test_in_async_tests_and_fixtures_are_where_they_belong(self, sent):
        run = sent(
            """
import asyncio
import pytest, pytest_asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
import kobs as k

TRACER = TracerProvider().get_tracer("theirs")
trace.ids = {}

def note(name):
    with TRACER.start_as_current_span(name) as span:
        trace.ids[name] = (span.get_span_context().trace_id, span.parent.span_id)
    with k.span_operation(f"kobs {name}"): pass

@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wide():
    note("open")
    yield
    note("close")

@pytest_asyncio.fixture(loop_scope="module")
async def own():
    note("prepare")
    yield
    note("clean")

@pytest.mark.asyncio(loop_scope="module")
async def test_first(wide, own):
    note("first")
    await asyncio.create_task(later())

async def later():
    await asyncio.sleep(0)
    note("task")

@pytest.mark.asyncio(loop_scope="module")
async def test_second(wide): note("second")

@pytest.mark.asyncio
async def test_third(): note("third")
""",
            passed=3,
        )
        from opentelemetry import trace

        ids = trace.__dict__.pop("ids")
        by_id = {span.span_id: span for span in run.spans}
        expected = {
            "open": ("pytest", "fixture wide"),
            # pytest-asyncio runs an async generator's end in the context of its beginning.
            "close": ("pytest", "fixture wide"),
            "prepare": ("test_first", "fixture own"),
            "first": ("test_first", "call"),
            "task": ("test_first", "call"),
            "clean": ("test_first", "fixture own"),
            "second": ("test_second", "call"),
            "third": ("test_third", "call"),
        }
        assert set(ids) == set(expected)
        for name, (root, above) in expected.items():
            whose = run.one("pytest") if root == "pytest" else run.test(root)
            mine = run.one(f"kobs {name}")
            assert (mine.trace_id, by_id[mine.parent_span_id].name) == (whose.trace_id, above), name
            trace_id, parent = ids[name]
            assert trace_id.to_bytes(16, "big") == whose.trace_id, name
            assert by_id[parent.to_bytes(8, "big")].name == above, name

    def test_have_the_provider_that_they_had(self, sent):
        from opentelemetry import trace

        before = trace._TRACER_PROVIDER, trace.get_tracer_provider()
        run = sent(
            """
from opentelemetry import trace
def test_it():
    assert type(trace.get_tracer_provider()).__module__ == "opentelemetry.trace"
""",
            passed=1,
        )
        assert (trace._TRACER_PROVIDER, trace.get_tracer_provider()) == before
        assert run.test("test_it").status.code == 1


class TestWhatATestSees:
    """Is the same with spans and without."""

    SOURCE = """
import queue
import pytest
from kobs import FileOpened, MessageReceived, MessageSent, SpanBegan, SpanEnded

def test_it(kobs, tmp_path):
    letters = queue.Queue()
    letters.put(1)
    letters.get()
    (tmp_path / "a").write_text("x")
    here = FileOpened.like(path=lambda path: path.endswith("/a"))
    assert MessageSent.like() >> MessageReceived.like() >> here in kobs.events
    kobs.never(SpanBegan.like())
    assert SpanEnded.like() not in kobs.events
    assert not kobs.events.of(SpanBegan)
    print("EVENTS", [event.type_name for event in kobs.events if event.type_name != "FileChanged"])

def test_fails(kobs): assert 0
"""

    def test_but_for_the_trace(self, sent, inner):
        source = "import kobs as k\n" + self.SOURCE
        with_spans = sent(source, "-rP", "--kobs", passed=1, failed=1)
        without = inner(source, "-rP", "--kobs", "-pno:asyncio", passed=1, failed=1)
        both = [
            next(line for line in result.outlines if line.startswith("EVENTS"))
            for result in (with_spans.result, without)
        ]
        assert both[0] == both[1]
        for result in (with_spans.result, without):
            result.stdout.fnmatch_lines(["0 events of this test, 0 lost"])


class TestTheSessionsParent:
    def test_is_what_ci_says(self, sent, monkeypatch):
        monkeypatch.setenv("TRACEPARENT", OUTER)
        monkeypatch.setenv("TRACESTATE", "vendor=1")
        run = sent(
            "import pytest, kobs as k\n"
            "@pytest.fixture(scope='module')\n"
            "def wide():\n"
            "    with k.span_operation('open'): pass\n"
            "def test_it(wide):\n"
            "    with k.span_operation('mine'): pass\n",
            passed=1,
        )
        session = run.one("pytest")
        assert session.trace_id.hex() == OUTER[3:35]
        assert session.parent_span_id.hex() == OUTER[36:52]
        assert session.trace_state == "vendor=1"
        assert run.tree(session) == ["pytest ok", "  fixture wide ok", "    open"]
        test = run.test("test_it")
        assert run.one("mine").trace_id == test.trace_id != session.trace_id
        assert test.links[0].trace_id == session.trace_id

    def test_stops_export_where_it_is_not_sampled_and_never_capture(
        self, sent, receiver, monkeypatch
    ):
        monkeypatch.setenv("TRACEPARENT", OUTER[:-1] + "0")
        run = sent(
            "import kobs as k\n"
            "def test_it(kobs):\n"
            "    with k.span_operation('mine'): pass\n"
            "    assert k.SpanBegan.like(name='mine') in kobs.events\n",
            passed=1,
        )
        assert receiver.got == []
        run.result.stdout.no_fnmatch_line("*OTLP*")


class TestTheResource:
    def test_says_what_git_says(self, sent, inner, monkeypatch):
        folder = inner.pytester.path
        (folder / "file").write_text("x")
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for command in (
            ["init", "-q", "-b", "topic"],
            ["add", "file"],
            [*author, "commit", "-qm", "one"],
            ["remote", "add", "origin", "git@example.org:team/shop.git"],
        ):
            subprocess.run(["git", *command], cwd=folder, check=True)
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        (about, *_) = sent(PLAIN, passed=1).resources
        assert about["service.name"] == folder.name
        assert {key: about[key] for key in about if key.startswith("vcs.")} == {
            "vcs.ref.head.revision": head,
            "vcs.ref.head.name": "topic",
            "vcs.ref.head.type": "branch",
            "vcs.repository.url.full": "https://example.org/team/shop",
            "vcs.repository.name": "shop",
            "vcs.owner.name": "team",
        }
        monkeypatch.setenv("PATH", "")
        (*_, about) = sent(PLAIN, passed=1).resources
        assert not [key for key in about if key.startswith("vcs.")]

    def test_says_what_github_says(self, sent, monkeypatch):
        for name, value in {
            "GITHUB_ACTIONS": "true", "GITHUB_WORKFLOW": "CI", "GITHUB_RUN_ID": "42",
            "GITHUB_RUN_ATTEMPT": "2", "GITHUB_JOB": "tests", "RUNNER_NAME": "runner 7",
            "GITHUB_REPOSITORY": "team/shop", "GITHUB_REPOSITORY_OWNER": "team",
            "GITHUB_SERVER_URL": "https://github.com", "GITHUB_SHA": "abc123",
            "GITHUB_REF": "refs/pull/17/merge", "GITHUB_REF_NAME": "17/merge",
            "GITHUB_REF_TYPE": "branch", "GITHUB_HEAD_REF": "topic", "GITHUB_BASE_REF": "main",
            "OTEL_SERVICE_NAME": "shop tests",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        (about, *_) = sent(PLAIN, passed=1).resources
        assert about["service.name"] == "shop tests"
        assert {key: about[key] for key in about if key.startswith(("vcs.", "cicd."))} == {
            "cicd.pipeline.name": "CI",
            "cicd.pipeline.run.id": "42",
            "cicd.pipeline.run.url.full":
                "https://github.com/team/shop/actions/runs/42/attempts/2",
            "cicd.pipeline.task.name": "tests",
            "cicd.pipeline.task.type": "test",
            "cicd.worker.name": "runner 7",
            "vcs.provider.name": "github",
            "vcs.owner.name": "team",
            "vcs.repository.name": "shop",
            "vcs.repository.url.full": "https://github.com/team/shop",
            "vcs.ref.head.name": "topic",
            "vcs.ref.head.type": "branch",
            "vcs.ref.head.revision": "abc123",
            "vcs.ref.base.name": "main",
            "vcs.ref.base.type": "branch",
            "vcs.change.id": "17",
        }  # fmt: skip

    def test_says_what_gitlab_says(self, sent, monkeypatch):
        for name, value in {
            "GITLAB_CI": "true", "CI_PIPELINE_NAME": "nightly", "CI_PIPELINE_ID": "42",
            "CI_PIPELINE_URL": "https://gitlab.com/team/shop/-/pipelines/42",
            "CI_JOB_NAME": "tests", "CI_JOB_ID": "77", "CI_RUNNER_ID": "9",
            "CI_JOB_URL": "https://gitlab.com/team/shop/-/jobs/77",
            "CI_RUNNER_DESCRIPTION": "runner nine", "CI_PROJECT_NAMESPACE": "team",
            "CI_PROJECT_NAME": "shop", "CI_PROJECT_URL": "https://gitlab.com/team/shop",
            "CI_COMMIT_REF_NAME": "v1", "CI_COMMIT_TAG": "v1", "CI_COMMIT_SHA": "abc123",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        (about, *_) = sent(PLAIN, passed=1).resources
        assert {key: about[key] for key in about if key.startswith(("vcs.", "cicd."))} == {
            "cicd.pipeline.name": "nightly",
            "cicd.pipeline.run.id": "42",
            "cicd.pipeline.run.url.full": "https://gitlab.com/team/shop/-/pipelines/42",
            "cicd.pipeline.task.name": "tests",
            "cicd.pipeline.task.run.id": "77",
            "cicd.pipeline.task.run.url.full": "https://gitlab.com/team/shop/-/jobs/77",
            "cicd.pipeline.task.type": "test",
            "cicd.worker.id": "9",
            "cicd.worker.name": "runner nine",
            "vcs.provider.name": "gitlab",
            "vcs.owner.name": "team",
            "vcs.repository.name": "shop",
            "vcs.repository.url.full": "https://gitlab.com/team/shop",
            "vcs.ref.head.name": "v1",
            "vcs.ref.head.type": "tag",
            "vcs.ref.head.revision": "abc123",
        }


class TestSending:
    def test_goes_where_opentelemetrys_variables_say(self, inner, receiver, monkeypatch):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/mine")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "key=secret")
        inner(PLAIN, "--kobs-otlp", "-pno:asyncio", passed=1)
        (got,) = receiver.got
        assert (got.headers[":path"], got.headers["key"]) == ("/mine", "secret")

    @pytest.mark.parametrize("how", ["environment", "ini"])
    def test_is_asked_for_in_the_environment_and_the_ini_file(
        self, inner, receiver, monkeypatch, how
    ):
        options = ["-o", "kobs_otlp=http://127.0.0.1:1"]
        if how == "environment":
            monkeypatch.setenv("KOBS_PYTEST_OTLP", receiver.url)
        else:
            options = ["-o", f"kobs_otlp={receiver.url}"]
        inner(PLAIN, *options, "-pno:asyncio", passed=1)
        assert len(receiver.spans) == 5
        # The command line goes before both.
        inner(PLAIN, *options, "--kobs-otlp=no", passed=1)
        assert len(receiver.spans) == 5

    def test_is_not_asked_for_otherwise(self, inner, receiver, monkeypatch, clean_environment):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        inner(PLAIN, "--kobs", passed=1)
        inner(PLAIN, "--kobs", "-o", "kobs_otlp=no", passed=1)
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        inner(PLAIN, "--kobs", "--kobs-otlp", passed=1)
        assert receiver.got == []
        import kobs

        for session in (clean_environment / "kobs").iterdir():
            with kobs.open_recording(session) as recording:
                names = {event.type_name for event in recording.events()}
            assert names - {"MountChanged"} == {"TestBegan", "TestEnded"}  # others may mount

    def test_does_not_wait_until_the_ring_is_full(self, sent):
        run = sent(
            "import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_it(n): pass\n",
            "--kobs-size=256",
            passed=40,
        )
        assert len({span.name for span in run.spans if "::" in span.name}) == 40
        assert len(run.spans) == 40 * 4 + 1
        run.result.stdout.fnmatch_lines(["kobs: 161 spans sent over OTLP"])

    def test_that_fails_is_told_and_fails_nothing(self, sent, inner, receiver, monkeypatch):
        receiver.always = Reply(400, body=b"")
        result = sent(PLAIN, passed=1).result
        result.stdout.fnmatch_lines(
            [
                "kobs: 5 spans could not be sent over OTLP, 0 were: 5 spans were refused and given "
                f"up: {receiver.url}/v1/traces: HTTP 400 Bad Request"
            ]
        )
        assert result.ret == 0
        assert "OTLP export" not in result.stderr.str()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
        nobody = ["--kobs-otlp=http://127.0.0.1:1", "-pno:asyncio"]
        result = inner(PLAIN, *nobody, passed=1)
        result.stdout.fnmatch_lines(
            [
                "kobs: 5 spans could not be sent over OTLP, 0 were: the receiver does not take "
                "spans now: http://127.0.0.1:1/v1/traces: ConnectionRefusedError: * refused"
            ]
        )
        assert result.ret == 0
        result = inner(PLAIN, *nobody, "-pno:terminal")
        assert result.ret == 0

    def test_has_a_clear_error_for_what_is_no_receiver(self, inner, monkeypatch):
        def refused(*options):
            result = inner(PLAIN, *options)
            assert result.ret == pytest.ExitCode.USAGE_ERROR
            (line,) = (one for one in result.errlines if one.startswith("ERROR"))
            return line

        assert refused("--kobs-otlp", "tests/unit") == (
            "ERROR: --kobs-otlp=tests/unit: expected a URL such as http://localhost:4318 "
            "(without one, write --kobs-otlp behind the paths)"
        )
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier pigeon")
        assert refused("--kobs-otlp").startswith(
            "ERROR: --kobs-otlp: OTEL_EXPORTER_OTLP_PROTOCOL=carrier pigeon: expected"
        )

    def test_leaves_no_file(self, sent, clean_environment, monkeypatch, tmp_path):
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        sent(PLAIN, passed=1)
        assert list(tmp_path.glob("kobs*")) == []
        assert not (clean_environment / "kobs").exists()

    def test_is_done_with_no_kobs(self, sent, receiver):
        sent(PLAIN, "--no-kobs", passed=1)
        assert receiver.got == []
