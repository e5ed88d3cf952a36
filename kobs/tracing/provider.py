"""`TracerProvider`: OpenTelemetry's tracing API on kobs's ring, in place of the SDK's provider.

from kobs.tracing import TracerProvider        # was: from opentelemetry.sdk.trace import ...

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporter))
trace.set_tracer_provider(provider)
"""

import atexit
import itertools
import logging
import os
import threading
import warnings
import weakref
from typing import Any

from opentelemetry import trace as api
from opentelemetry.context.context import Context
from opentelemetry.sdk import resources, trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import export, sampling
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationInfo, InstrumentationScope
from opentelemetry.util.types import Attributes

from kobs import bridge, collector as collectors
from kobs.collector import Collector
from kobs.tracing.finished import FinishedSpan
from kobs.tracing.finished_limits import within
from kobs.tracing.limits import Limits
from kobs.tracing.open_spans import open_views
from kobs.tracing.pump import Pump
from kobs.tracing.readable import to_span
from kobs.tracing.records import SpanDetailed
from kobs.tracing.sampling import plain_sampler
from kobs.tracing.tracer import Tracer
from kobs.tracing.tracer_span import RecordingSpan
from kobs.tracing.view import room, wall_offset_ns

_logger = logging.getLogger("kobs")
_numbers = itertools.count(1)
_DO_NOTHING = {
    getattr(cls, name, None)
    for cls in (sdk.SpanProcessor, export.SimpleSpanProcessor, export.BatchSpanProcessor)
    for name in ("on_start", "_on_ending")
}


class Processors:
    """Span processors that look at a span while it is open, or as it ends."""

    def __init__(self, processors: tuple[Any, ...]) -> None:
        self._processors = processors

    def on_start(self, span: RecordingSpan, context: Context | None) -> None:
        """A span began."""
        for processor in self._processors:
            processor.on_start(span, parent_context=context)

    def on_ending(self, span: RecordingSpan) -> None:
        """A span is about to end."""
        for processor in self._processors:
            on_ending = getattr(processor, "_on_ending", None)
            if on_ending is not None:
                on_ending(span)

    def on_end(self, span: sdk.ReadableSpan) -> None:
        """A span ended."""
        for processor in self._processors:
            processor.on_end(span)


def is_live(processor: Any) -> bool:
    """The processor has to be called while the program waits: it looks at spans as they begin or
    are about to end, or promises to export them as they end."""
    kind = type(processor)
    if isinstance(processor, export.SimpleSpanProcessor):
        return True
    return any(getattr(kind, name, None) not in _DO_NOTHING for name in ("on_start", "_on_ending"))


class TracerProvider(sdk.TracerProvider):
    """OpenTelemetry's `TracerProvider` on a collector's ring.

    Takes what the SDK's takes, and is one for `isinstance`; nothing of that one is used.
    `collector`: where spans are recorded; else the process-wide one, and where there is none, one
    that is made, and closed at `shutdown`. Processors that look at spans as they begin are called
    at once, all others (`BatchSpanProcessor`) from a thread that reads the ring; they get the spans
    of `span_operation` and its like, too.

    Raises `ValueError` for a limit in the environment that is no number.
    """

    def __init__(
        self,
        sampler: sampling.Sampler | None = None,
        resource: Resource | None = None,
        shutdown_on_exit: bool = True,
        active_span_processor: Any = None,
        id_generator: IdGenerator | None = None,
        span_limits: sdk.SpanLimits | None = None,
        *,
        meter_provider: Any = None,
        collector: Collector | None = None,
        **private: Any,
    ) -> None:
        self._configurator = private.pop("_tracer_configurator", None)
        if private:
            raise TypeError(
                f"TracerProvider() got unexpected arguments: {', '.join(private)}; it takes what "
                "the SDK's takes, and collector"
            )
        self.number = next(_numbers)
        """What its spans are known by in the recording."""
        self._own_collector: Collector | None = None
        self._collector = collector or collectors.global_collector() or self._make_collector()
        self._trace_high = self._collector.ring.trace_high
        make: Any = sdk.SynchronousMultiSpanProcessor
        self._active_span_processor: Any = active_span_processor or make()
        self.id_generator: Any = RandomIdGenerator() if id_generator is None else id_generator
        self._custom_ids = type(self.id_generator) is not RandomIdGenerator
        is_random = getattr(self.id_generator, "is_trace_id_random", None)
        self._random_ids = bool(is_random()) if is_random is not None else False
        self._resource = Resource.create({}) if resource is None else resource
        self._forked = False
        self.sampler = sampler or sampling._get_from_env_or_default()
        self._plain_sampler = plain_sampler(self.sampler)
        self._span_limits = span_limits or sdk.SpanLimits()
        self.limits = Limits.of(self._span_limits)
        self._room = room(self.limits)
        self._disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        self._look_whether_plain()
        self._introduce = self._collector.emitter(SpanDetailed)
        self._seen: Any = None
        self._looking: Processors | None = None
        self._pump: Pump | None = None
        self._lock = threading.Lock()
        self._tracers: dict[InstrumentationScope, Any] = {}
        self._atexit_handler = atexit.register(self.shutdown) if shutdown_on_exit else None
        _providers.add(self)
        bridge.place_context()
        self._live()

    @property
    def resource(self) -> Resource:
        """What the process is."""
        if self._forked:
            # Not in the fork itself: detectors use threads and locks.
            self._forked = False
            again = getattr(resources, "_get_process_dependent_resource", None)
            if again is not None:
                self._update_resource(again())
        return self._resource

    @property
    def collector(self) -> Collector:
        """Where its spans are recorded."""
        return self._collector

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> api.Tracer:
        """The tracer of a scope; the same one for the same scope."""
        if self._disabled:
            return api.NoOpTracer()
        if not instrumenting_module_name:
            instrumenting_module_name = ""
            _logger.error("get_tracer called with missing module name.")
        version = instrumenting_library_version or ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            info = InstrumentationInfo(instrumenting_module_name, version, schema_url)
        scope = InstrumentationScope(instrumenting_module_name, version, schema_url, attributes)
        with self._lock:
            tracer = self._tracers.get(scope)
            if tracer is None:
                tracer = self._tracers[scope] = Tracer(self, info, scope)
            return tracer

    def add_span_processor(self, span_processor: Any) -> None:
        """Have a processor take spans. Processors are called in the order in which they came."""
        self._active_span_processor.add_span_processor(span_processor)
        self._live()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Hand on what has ended, and have the processors export it; False where that took longer
        than `timeout_millis`."""
        if self._pump is not None:
            self._pump.drain()
        return bool(self._active_span_processor.force_flush(timeout_millis))

    def shutdown(self) -> None:
        """Hand on what has ended and shut the processors down."""
        if self._pump is not None:
            self._pump.stop()
            self._pump = None
        self._active_span_processor.shutdown()
        if self._atexit_handler is not None:
            atexit.unregister(self._atexit_handler)
            self._atexit_handler = None
        made, self._own_collector = self._own_collector, None
        if made is not None:
            if collectors.global_collector() is made:
                collectors.clear_collector()
            made.close()

    # -- below: how -------------------------------------------------------------------------

    def _make_collector(self) -> Collector:
        made = self._own_collector = collectors.init_collector()
        return made

    def _span_id(self) -> int:
        return int(self.id_generator.generate_span_id())

    def _look_whether_plain(self) -> None:
        """Find out whether nothing is to be asked before a span of the usual kind begins."""
        self._plain = (
            not self._custom_ids
            and self._random_ids
            and self._plain_sampler is not None
            and self._plain_sampler.bound == 1 << 64
            and self._configurator is None
        )

    def _set_tracer_configurator(self, *, tracer_configurator: Any) -> None:
        """Have another say which tracers are enabled, those that there are too."""
        self._configurator = tracer_configurator
        self._look_whether_plain()

    def _is_enabled(self, scope: InstrumentationScope) -> bool:
        if self._configurator is None:
            return True
        try:
            return bool(self._configurator(scope).is_enabled)
        except Exception:
            _logger.exception("the configurator of tracers raised; %s stays enabled", scope)
            return True

    def _live(self) -> Processors | None:
        """The processors that are called at once; None for none."""
        active = self._active_span_processor
        now = getattr(active, "_span_processors", active)
        if now is not self._seen:
            self._look(active, now)
        return self._looking

    def _look(self, active: Any, now: Any) -> None:
        with self._lock:
            if type(active) is sdk.SynchronousMultiSpanProcessor:
                live = tuple(processor for processor in now if is_live(processor))
            else:
                live = (active,)
            looking = self._looking = Processors(live) if live else None
            self._seen = now
            begun = [view for view in open_views() if self._made(view)]
            for view in begun if looking is not None else ():
                view._live = looking
                view._span._plain = False
            if now and self._pump is None and not self._collector.closed:
                deliver = weakref.WeakMethod(self._deliver)
                self._pump = Pump(
                    self._collector, lambda span: _call(deliver, span), begun=bool(begun)
                )
                self._pump.start()

    def _made(self, view: Any) -> bool:
        return isinstance(view, RecordingSpan) and view._tracer._provider is self

    def _deliver(self, span: FinishedSpan) -> None:
        """Hand a span to the processors that did not see it end."""
        own = span.provider == self.number
        if not own and (span.provider or not span.trace.exported):
            return
        active = self._active_span_processor
        if type(active) is sdk.SynchronousMultiSpanProcessor:
            waiting = [one for one in active._span_processors if not own or not is_live(one)]
        else:
            waiting = [] if own else [active]
        if waiting:
            span = within(span, self.limits)
            readable = to_span(span, wall_offset_ns(), self.resource)
            for processor in waiting:
                processor.on_end(readable)

    def _update_resource(self, resource: Resource) -> None:
        self._resource = self._resource.merge(resource)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._forked = True


def _call(deliver: Any, span: FinishedSpan) -> None:
    method = deliver()
    if method is not None:
        method(span)


_providers: "weakref.WeakSet[TracerProvider]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for provider in list(_providers):
        provider._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
