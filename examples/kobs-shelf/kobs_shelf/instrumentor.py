"""The same watch for `opentelemetry-instrument`, and for a program that switches it on itself."""

from kobs_instrumentation.instrumentor import WatchInstrumentor


class ShelfInstrumentor(WatchInstrumentor):
    """Watches shelves: ShelfUsed."""

    watch = "kobs_shelf.watch"
