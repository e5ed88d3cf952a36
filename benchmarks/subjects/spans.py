"""What a span costs."""

from typing import Any

from benchmarks.subject import Statement, main
from benchmarks.subjects.calls import written


def spans() -> Any:
    """`span_operation`, with a process-wide collector."""
    from kobs import init_collector, span_operation

    init_collector(written())
    return span_operation


SUBJECTS = {
    "span": Statement(
        'with span_operation("x") as span:\n    span.record("key", 1)',
        "span_operation",
        spans,
        unrolled=1,
    )
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
