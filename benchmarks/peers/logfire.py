"""logfire: a span with one attribute, sent to nobody."""

from typing import Any

from benchmarks.subject import Statement, main


def configured() -> Any:
    """logfire without its console and its service."""
    import logfire

    logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
    return logfire


SPAN = 'with logfire.span("x") as span:\n    span.set_attribute("key", 1)'
SUBJECTS = {"logfire_span": Statement(SPAN, "logfire", configured, unrolled=1)}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
