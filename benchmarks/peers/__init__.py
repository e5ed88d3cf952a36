"""The peers, a module each. A module runs in an environment of its own (`environments.py`), with
`pyperf` and the peer in it and no kobs; it is declared in `PEERS`."""

from typing import NamedTuple


class Peer(NamedTuple):
    """A project to measure beside."""

    module: str
    """In this package; also names its environment."""
    requirement: str
    """What pip installs; empty for the standard library, which needs no environment."""
    beside: tuple[str, ...] = ()
    """What else goes into its environment, for the programs that it watches."""


PEERS = (
    Peer("stdlib", ""),
    Peer("wrapt", "wrapt"),
    Peer("opentelemetry", "opentelemetry-sdk", (
        "flask", "opentelemetry-distro", "opentelemetry-exporter-otlp-proto-common",
        "opentelemetry-instrumentation-asyncio",
        "opentelemetry-instrumentation-flask", "opentelemetry-instrumentation-sqlite3",
        "opentelemetry-instrumentation-system-metrics", "opentelemetry-instrumentation-threading",
    )),
    # Apart: `opentelemetry-instrument` imports what the instrumentations that are there watch.
    Peer("opentelemetry_grpc", "opentelemetry-instrumentation-grpc",
         ("grpcio", "opentelemetry-sdk")),
    Peer("viztracer", "viztracer", ("flask",)),
    Peer("ddtrace", "ddtrace", ("flask", "pytest")),
    Peer("logfire", "logfire", ("pytest",)),
    Peer("pytest_opentelemetry", "pytest-opentelemetry", ("pytest",)),
    Peer("structlog", "structlog"),
)  # fmt: skip
