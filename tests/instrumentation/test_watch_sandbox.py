"""The sandbox watch: a policy in force in this process, and under `kobs run`."""

import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import kobs
from kobs import CapabilityDenied, SecurityViolation
from kobs._core import select
from kobs_instrumentation.policy import SandboxPolicy
from kobs_instrumentation.sandbox import SandboxInstrumentor
from kobs_instrumentation.watch import _audit, _patch, sandbox
from tests.instrumentation.conftest import Runner


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[kobs.Collector]:
    wrong: list[BaseException] = []
    monkeypatch.setattr(_patch, "on_error", lambda where, error: wrong.append(error))
    with kobs.Collector(size=256) as made:
        yield made
    assert wrong == []


def violations(collector: kobs.Collector) -> list[str]:
    return [
        e.payload.description
        for e in collector.snapshot()
        if isinstance(e.payload, SecurityViolation)
    ]


def withheld(collector: kobs.Collector) -> list[tuple[str, str]]:
    return [
        (e.payload.capability, e.payload.operation)
        for e in collector.snapshot()
        if isinstance(e.payload, CapabilityDenied)
    ]


@pytest.mark.says("a policy that warns")
def test_warn_tells_and_lets_it_happen(collector: kobs.Collector, tmp_path: Path) -> None:
    policy = SandboxPolicy(deny=["open.write:*/secret"])
    undo = sandbox.install(lambda: collector, policy=policy)
    (tmp_path / "secret").write_text("x")
    assert (tmp_path / "secret").read_text() == "x"
    undo()
    (event,) = collector.snapshot()
    assert event.payload.description == f"open {tmp_path}/secret (seen: open.write:*/secret)"
    assert event.severity == kobs.Severity.CRITICAL


@pytest.mark.says("a policy that enforces")
def test_deny_raises_in_the_program_and_tells(collector: kobs.Collector, tmp_path: Path) -> None:
    policy = SandboxPolicy(deny=["open.write:*/secret"], mode="deny")
    undo = sandbox.install(lambda: collector, policy=policy)
    path = str(tmp_path / "secret")
    with pytest.raises(PermissionError) as caught:
        open(path, "w").close()
    undo()
    assert caught.value.filename == path
    assert str(caught.value) == (
        f"[Errno 1] open is denied by the sandbox policy (open.write:*/secret): {path!r}"
    )
    assert not os.path.exists(path)
    assert violations(collector) == [f"open {path} (denied: open.write:*/secret)"]


@pytest.mark.skipif(select().name != "c", reason="a Python hook is in the traceback")
def test_the_traceback_of_a_denial_is_the_program_s(collector: kobs.Collector) -> None:
    policy = SandboxPolicy(deny=["kobs.test"], mode="deny")
    undo = sandbox.install(lambda: collector, policy=policy)
    try:
        sys.audit("kobs.test")
    except PermissionError as error:
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        context = error.__context__
    finally:
        undo()
    assert frames == ["test_the_traceback_of_a_denial_is_the_program_s"]
    assert context is None


def test_a_withheld_capability_is_told_as_such(collector: kobs.Collector) -> None:
    undo = sandbox.install(lambda: collector, policy=SandboxPolicy(deny=["kobs.*"]))
    sys.audit("kobs.test", 1, "about this")
    undo()
    assert violations(collector) == []
    assert withheld(collector) == [("kobs.test", "kobs.test about this")]


@pytest.mark.says("capability denials")
def test_a_denied_capability_is_a_violation_that_causes_it(collector: kobs.Collector) -> None:
    policy = SandboxPolicy(deny=["subprocess.Popen"], mode="deny")
    undo = sandbox.install(lambda: collector, policy=policy)
    with pytest.raises(PermissionError):
        subprocess.run([sys.executable, "-c", ""], check=False)
    undo()
    violation, capability = collector.snapshot()
    assert capability.payload.capability == "subprocess.Popen"
    assert capability.parent == violation.id


def test_addresses(collector: kobs.Collector) -> None:
    policy = SandboxPolicy(deny=["socket.connect:*:1"], mode="deny")
    undo = sandbox.install(lambda: collector, policy=policy)
    with socket.socket() as sock, pytest.raises(PermissionError):
        sock.connect(("127.0.0.1", 1))
    with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(("127.0.0.1", 2))
    undo()
    assert violations(collector) == ["socket.connect 127.0.0.1:1 (denied: socket.connect:*:1)"]


def test_without_a_policy_nothing_is_watched(collector: kobs.Collector) -> None:
    undo = sandbox.install(lambda: collector)
    open(os.devnull).close()
    assert _audit._listeners == []
    undo()
    assert collector.snapshot() == []


def test_two_policies_both_hold_until_each_is_taken_back(collector: kobs.Collector) -> None:
    one = sandbox.install(lambda: collector, policy=SandboxPolicy(deny=["kobs.one"]))
    two = sandbox.install(lambda: collector, policy=SandboxPolicy(deny=["kobs.two"]))
    sys.audit("kobs.one")
    sys.audit("kobs.two")
    one()
    one()
    sys.audit("kobs.one")
    sys.audit("kobs.two")
    two()
    sys.audit("kobs.two")
    assert [name for name, _ in withheld(collector)] == ["kobs.one", "kobs.two", "kobs.two"]


def test_the_instrumentor_takes_the_policy(collector: kobs.Collector) -> None:
    instrumentor = SandboxInstrumentor()
    policy = SandboxPolicy(deny=["kobs.test"], mode="deny")
    instrumentor.instrument(collector=collector, policy=policy)
    with pytest.raises(PermissionError):
        sys.audit("kobs.test")
    instrumentor.uninstrument()
    sys.audit("kobs.test")
    assert withheld(collector) == [("kobs.test", "kobs.test")]


def test_denied_without_a_collector_too() -> None:
    undo = sandbox.install(lambda: None, policy=SandboxPolicy(deny=["kobs.test"], mode="deny"))
    with pytest.raises(PermissionError):
        sys.audit("kobs.test")
    undo()


def test_an_error_of_ours_does_not_reach_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = []
    monkeypatch.setattr(_patch, "on_error", lambda where, error: wrong.append((where, error)))
    mistake = ValueError("ours")

    def handle(event: str, args: tuple[object, ...]) -> None:
        raise mistake

    undo = _audit.listen(_audit.Listener("kobs.test".__eq__, handle))
    sys.audit("kobs.test")
    undo()
    assert wrong == [("audit event kobs.test", mistake)]


def test_what_is_forbidden_is_refused_where_it_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong: list[str] = []
    monkeypatch.setattr(_patch, "on_error", lambda where, error: wrong.append(where))
    monkeypatch.setattr(sandbox, "SecurityViolation", None)
    with kobs.Collector(size=16) as collector:
        policy = SandboxPolicy(deny=["open.write:*/secret"], mode="deny")
        undo = sandbox.install(lambda: collector, policy=policy)
        with pytest.raises(PermissionError, match="policy"):
            (tmp_path / "secret").write_text("x")
        undo()
    assert wrong == ["sandbox.open"]
    assert not (tmp_path / "secret").exists()


def test_tracers_do_not_see_the_hook(collector: kobs.Collector) -> None:
    undo = sandbox.install(lambda: collector, policy=SandboxPolicy(deny=["kobs.test"]))
    seen = []
    sys.settrace(lambda frame, event, arg: seen.append(frame.f_code.co_name))
    try:
        sys.audit("kobs.test")
    finally:
        sys.settrace(None)
        undo()
    assert seen == []
    assert len(withheld(collector)) == 1


# -- kobs run --------------------------------------------------------------------------------


PROGRAM = """
import subprocess, sys
def attempt(path):
    try:
        open(path, "w").close()
    except PermissionError as error:
        print(error.filename)
attempt("allowed")
attempt("forbidden")
if len(sys.argv) < 2:
    subprocess.run([sys.executable, __file__, "child"], check=True)
"""


def test_a_run_and_its_children_are_under_the_policy(runner: Runner) -> None:
    policy = runner.write('mode = "deny"\ndeny = ["open.write:*/forbidden"]\n', "policy.toml")
    script = runner.write(PROGRAM)
    ran = runner.kobs("--policy", str(policy), str(script))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [str(runner.folder / "forbidden")] * 2
    assert not (runner.folder / "forbidden").exists()
    found = ran.events(SecurityViolation)
    assert len({event.pid for event in found}) == len(found) == 2


def test_the_environment_may_name_the_policy(runner: Runner) -> None:
    policy = runner.write('deny = ["open.write:*/forbidden"]\n', "policy.toml")
    script = runner.write(PROGRAM)
    ran = runner.kobs(str(script), "child", env={"KOBS_POLICY": str(policy)})
    assert (ran.code, ran.out) == (0, "")
    assert len(ran.events(SecurityViolation)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('mode = "kill"', "sandbox mode='kill': expected one of warn, deny"),
        ('refuse = ["open"]', "there is no key 'refuse'; there are mode, deny and allow"),
        ("deny = [", "is no TOML"),
    ],
)
def test_a_policy_that_is_none_is_refused(runner: Runner, text: str, message: str) -> None:
    policy = runner.write(text, "policy.toml")
    ran = runner.kobs("--policy", str(policy), str(runner.write("print(1)")))
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert not ran.session.exists()


def test_a_policy_without_its_subsystem_is_refused(runner: Runner) -> None:
    policy = runner.write("", "policy.toml")
    script = str(runner.write("print(1)"))
    ran = runner.kobs("--policy", str(policy), "--only", "vfs", script)
    assert (ran.code, ran.out) == (2, "")
    assert "needs the subsystem sandbox" in ran.err
