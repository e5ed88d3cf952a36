"""The receivers as fixtures. `make e2e` installs them; without them these tests fail and say so."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.receivers import MockOtlpServer, OpenTelemetryCollector, Receiver

INSTALLED = Path(
    os.environ.get("KOBS_E2E_DIR") or Path(__file__).resolve().parent.parent.parent / ".e2e"
)


def start_mockotlp(folder: Path) -> Receiver:
    """The mock OTLP server, which is always there after `make e2e`."""
    if not (INSTALLED / "mockotlp" / ".made-of").exists():
        pytest.fail("the OTLP receiver is not installed: run `make e2e`", pytrace=False)
    return MockOtlpServer(INSTALLED / "mockotlp")


def start_otelcol(folder: Path) -> Receiver:
    """The OpenTelemetry Collector, which is there where Go was."""
    if not (INSTALLED / "otelcol" / ".made-of").exists():
        pytest.skip("no OpenTelemetry Collector: `make e2e` builds it where Go is installed")
    return OpenTelemetryCollector(INSTALLED / "otelcol" / "otelcol", folder)


@pytest.fixture(params=[start_mockotlp, start_otelcol], ids=["mockotlp", "otelcol"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    """A receiver of its own for each test."""
    start: Callable[[Path], Receiver] = request.param
    made = start(tmp_path)
    try:
        yield made
    finally:
        made.close()
