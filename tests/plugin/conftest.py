"""A pytest inside pytest, that knows nothing of the run around it."""

import functools
import importlib
import os
import re

import pytest

# `pytester` forgets the modules that an inner run imported; what kobs consists of and what it
# watches must stay one.
for _name in (
    "kobs_pytest.artifacts.failing_tests",
    "kobs_pytest.artifacts.run_page",
    "kobs_pytest.artifacts.run_report",
    "kobs_pytest.artifacts.failure_folder",
    "asyncio",
    "concurrent.futures.thread",
    "concurrent.futures.process",
    "multiprocessing.queues",
    "multiprocessing.shared_memory",
    "queue",
    "subprocess",
    "kobs.collector",
    "kobs.anomaly",
    "kobs.session",
    "kobs.pattern.explain",
    "kobs_pytest.asserting.run",
    "kobs_pytest.asserting.shapes",
    "kobs_pytest.asserting.tables",
    "kobs_pytest.runtime",
    "kobs_pytest.judging.feature",
    "kobs_pytest.spans.feature",
    "kobs_pytest.spans.sender",
    "kobs_pytest.workers.crash",
    "kobs.export.otlp_transport",
    "kobs.tracing.view",
    "kobs.tracing.runtime_context",
    "opentelemetry.instrumentation.utils",
    "opentelemetry.sdk.resources",
    "opentelemetry.sdk.trace",
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
    "requests",
    "kobs_pytest.baselines.feature",
    "kobs_pytest.baselines.passing",
    "kobs_pytest.baselines.stored",
    "kobs._analysis.scanned",
    "kobs._analysis.traces",
    "kobs.cli.targets",
    "kobs.slots",
    "kobs_instrumentation.registry",
    *(
        f"kobs_instrumentation.watch.{name}"
        for name in ("process", "vfs", "queue", "scheduler", "network", "permission", "sandbox")
    ),
):
    importlib.import_module(_name)


@pytest.fixture(autouse=True)
def nothing_is_observed_yet(monkeypatch):
    """Classes that other tests of this process decorated could tell of their types: here none."""
    from kobs.observe import sites

    monkeypatch.setattr(sites, "_sites", type(sites._sites)())


FOREIGN = ("PYTEST_", "OTEL_", "KOBS_", "KERNEL_", "GITHUB_", "GITLAB_")
ALSO = ("CI", "BUILD_NUMBER", "TRACEPARENT", "TRACESTATE", "BAGGAGE", "RUST_LOG", "FORCE_COLOR")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path_factory):
    """Nothing of the run around it reaches the inner one."""
    for name in list(os.environ):
        if name.startswith(FOREIGN) or name in ALSO:
            monkeypatch.delenv(name)
    state = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setenv("COLUMNS", "80")
    return state


class Inner:
    """Runs pytest on a test module and looks at what it said."""

    def __init__(self, pytester):
        self.pytester = pytester
        pytester.makeini(
            "[pytest]\nasyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\n"
        )

    def __call__(self, source, *arguments, subprocess=False, **outcomes):
        """Run `source` with `arguments`; `passed=2, failed=1, ...` must come out."""
        self.pytester.makepyfile(source)
        tester = self.pytester
        run = tester.runpytest_inprocess
        if subprocess:
            run = functools.partial(tester.runpytest_subprocess, timeout=120)
        # Plugins that import much, and once more in every inner run.
        off = [
            "no:cacheprovider",
            "no:hypothesispytest",
            *(() if "anyio" in source else ("no:anyio",)),
        ]
        result = run(*(f"-p{name}" for name in off), *arguments)
        if outcomes:
            result.assert_outcomes(**outcomes)
        return result

    @staticmethod
    def told(result):
        """What a result says, with times, pids and numbers of lines made equal."""
        text = "\n".join(result.outlines)
        text = re.sub(r"[+-]\d+\.\d{3}ms", "+T", text)
        text = re.sub(r"pid=\d{4,}", "pid=P", text)
        return re.sub(r"(\.py):\d+", r"\1:N", text)


@pytest.fixture
def inner(pytester):
    return Inner(pytester)
