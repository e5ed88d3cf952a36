"""`pytest --kobs-otlp`, with pytest-xdist, to receivers that this project did not write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.receivers import Receiver

pytestmark = pytest.mark.e2e

SUITE = Path(__file__).parent / "programs" / "suite.py"
PARENT = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_run_is_read_back_as_it_was(receiver: Receiver, protocol: str, tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(SUITE.read_text())
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n2", "--dist=each", "--tx=2*popen", "--kobs-otlp",
         "-pno:asyncio", "-pno:anyio", "-pno:cacheprovider", "test_shop.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={
            **clean,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc if "grpc" in protocol else receiver.http,
            "OTEL_SERVICE_NAME": "shop tests",
            "TRACEPARENT": "-".join(("00", *PARENT, "01")),
            "XDG_STATE_HOME": str(tmp_path),
        },
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    # Each of two workers runs both tests: the session; the fixture and its span; two tests with
    # three phases each; the order's span and the child's.
    number = 1 + 2 * (2 + 2 * 4 + 2)
    assert f"kobs: {number} spans sent over OTLP" in done.stdout
    receiver.wait_for(spans=number)

    def named(name: str) -> list[dict[str, object]]:
        return [span for span in receiver.spans if span["name"] == name]

    by_id = {span["span_id"]: span for span in receiver.spans}
    assert len(by_id) == number
    (session,) = named("pytest")
    assert (session["trace_id"], session["parent"]) == PARENT
    assert session["status"] == "error"
    assert session["resource"]["service.name"] == "shop tests"
    for fixture in named("fixture stock"):
        assert (fixture["trace_id"], fixture["parent"]) == (PARENT[0], session["span_id"])
    for opened in named("open stock"):
        assert opened["trace_id"] == PARENT[0]
        assert by_id[opened["parent"]]["name"] == "fixture stock"
    traces = set()
    for name, status in (("test_order", "ok"), ("test_nothing_left", "error")):
        tests = named(f"test_shop.py::{name}")
        assert {test["attributes"]["kobs.test.worker"] for test in tests} == {"gw0", "gw1"}
        for test in tests:
            assert test["parent"] == ""
            assert test["status"] == status
            assert test["links"] == [(session["trace_id"], session["span_id"])]
            traces.add(test["trace_id"])
    assert len(traces) == 4
    for delivered in named("deliver"):  # in a child process of the test
        order = by_id[delivered["parent"]]
        call = by_id[order["parent"]]
        test = by_id[call["parent"]]
        assert [order["name"], call["name"], test["name"]] == [
            "take order", "call", "test_shop.py::test_order",
        ]  # fmt: skip
        assert {span["trace_id"] for span in (delivered, order, call)} == {test["trace_id"]}
    failed = next(
        span for span in named("call")
        if by_id[span["parent"]]["name"] == "test_shop.py::test_nothing_left"
    )  # fmt: skip
    (exception,) = failed["events"]
    assert exception["attributes"]["exception.type"] == "KeyError"
