"""VizTracer: an instant, an event with a duration, and a function call that it traces."""

from typing import Any

from benchmarks.subject import Statement, main


def recording() -> Any:
    """A tracer that records; its buffer is a ring."""
    from viztracer import VizTracer

    tracer = VizTracer(verbose=0, ignore_c_function=True)
    tracer.start()
    return tracer


def traced() -> Any:
    """An empty function, with the tracer on."""
    recording()

    def function() -> None:
        pass

    return function


SUBJECTS = {
    "viz_instant": Statement('tracer.add_instant("read")', "tracer", recording),
    "viz_event": Statement(
        'with tracer.log_event("read"):\n    pass', "tracer", recording, unrolled=1
    ),
    "viz_traced": Statement("function()", "function", traced),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
