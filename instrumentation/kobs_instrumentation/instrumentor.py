"""The base of kobs's instrumentors: an OpenTelemetry `BaseInstrumentor` over one watch."""

from collections.abc import Collection
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from kobs import global_collector

if TYPE_CHECKING:
    from kobs_instrumentation.watch._watch import Undo


class WatchInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Switches the standard-library half of a subsystem on and off.

    `instrument(collector=c)` sends events to `c`; without, to the collector of
    `kobs.init_collector` at the time of each event, and nowhere while there is none. Twice is
    once; after `uninstrument()` every patched object is the original again.
    """

    watch = ""
    """The module of `kobs_instrumentation.watch`; of another package, with a dot in it."""
    _undo: "Undo | None" = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing beyond the standard library."""
        return ()

    def instrument(self, **kwargs: Any) -> None:
        """Switch it on. Where `opentelemetry-instrument` does that, only with `KOBS_ENABLE=1`."""
        from kobs_instrumentation import zero_code

        if not zero_code.is_loading() or zero_code.may_instrument():
            super().instrument(**kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        collector = kwargs.get("collector")
        where = self.watch if "." in self.watch else f"kobs_instrumentation.watch.{self.watch}"
        module = import_module(where)
        from kobs_instrumentation.watch._watch import Always, errors_go_to

        get_collector = global_collector if collector is None else Always(collector)
        undo_watch = module.install(get_collector, **self.install_options(kwargs))
        undo_errors = errors_go_to(get_collector)

        def undo() -> None:
            undo_watch()
            undo_errors()

        self._undo = undo

    def install_options(self, given: dict[str, Any]) -> dict[str, Any]:
        """What the watch takes beside the collector, of what `instrument` was given."""
        return {}

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None
