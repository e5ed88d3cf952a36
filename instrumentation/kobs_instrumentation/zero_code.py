"""kobs under `opentelemetry-instrument`.

It loads every instrumentor that is installed, by its entry point. kobs's do nothing there unless
`KOBS_ENABLE=1` is set: who installed kobs for its tests did not ask to have every program watched.
Where it is set, the first of them makes the process-wide collector, if the program has none yet,
and has it exported to where OpenTelemetry's own variables say.
"""

import logging
import os
import sys
from typing import TYPE_CHECKING

from kobs.collector import Collector, global_collector, init_collector

if TYPE_CHECKING:
    from kobs.export.otlp import OtlpExporter

ENABLE = "KOBS_ENABLE"
"""Environment variable: 1 to have kobs's instrumentors work there."""

_LOADER = "opentelemetry.instrumentation.auto_instrumentation"
_ON = ("1", "true", "yes", "on")
_OFF = ("", "0", "false", "no", "off")


def is_loading() -> bool:
    """Instrumentors are being loaded by their entry points: the loader is among the callers."""
    frame = sys._getframe(1).f_back
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(_LOADER):
            return True
        frame = frame.f_back
    return False


def may_instrument() -> bool:
    """`KOBS_ENABLE` says that kobs's instrumentors are to work. The first time a collector and its
    export are begun."""
    value = os.environ.get(ENABLE, "").strip().lower()
    if value not in _ON:
        if value not in _OFF and not _told:
            _told.append(True)
            _log.warning("%s=%s: expected 1 or 0; kobs's instrumentors do nothing", ENABLE, value)
        return False
    if not _begun:
        _begun.append(True)
        try:
            _begin()
        except Exception as error:  # the program goes on without
            _log.warning("kobs under opentelemetry-instrument: %s", error)
    return True


def exporter() -> "OtlpExporter | None":
    """What exports spans and events; None where nothing does."""
    return _exporters[-1] if _exporters else None


def _begin() -> None:
    collector = global_collector()
    if collector is None:
        collector = init_collector(Collector())
    spans, logs = _is_otlp("OTEL_TRACES_EXPORTER"), _is_otlp("OTEL_LOGS_EXPORTER")
    if spans or logs:
        from kobs.export.otlp import OtlpExporter

        _exporters.append(OtlpExporter(collector, spans=spans, logs=logs))
        _exporters[-1].start()
    if _is_otlp("OTEL_METRICS_EXPORTER"):
        from kobs.export.otlp_metrics import OtlpMetricsExporter

        OtlpMetricsExporter(collector).start()


def _is_otlp(variable: str) -> bool:
    """OTLP is among a signal's exporters, or nothing is said: it is OpenTelemetry's default."""
    names = [name.strip() for name in os.environ.get(variable, "").split(",")]
    return any(name.startswith("otlp") for name in names) or names == [""]


_log = logging.getLogger("kobs")
_begun: list[bool] = []
_told: list[bool] = []
_exporters: "list[OtlpExporter]" = []
