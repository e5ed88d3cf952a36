"""The OpenTelemetry contrib instrumentation of gRPC, its spans through a batch processor."""

from benchmarks.peers.opentelemetry import provider
from benchmarks.subject import Subject, main
from benchmarks.subjects.operations import OPERATIONS


def both_sides() -> None:
    """Watches clients and servers."""
    from opentelemetry.instrumentation.grpc import GrpcInstrumentorClient, GrpcInstrumentorServer

    made = provider()
    for instrumentor in (GrpcInstrumentorClient(), GrpcInstrumentorServer()):
        instrumentor.instrument(tracer_provider=made)


SUBJECTS: dict[str, Subject] = {
    "contrib_grpc_beside_api": OPERATIONS["grpc_beside_api"].statement(both_sides),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
