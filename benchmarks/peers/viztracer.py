"""VizTracer: an instant, an event with a duration, and a function call that it traces."""

import os
import tempfile
from typing import Any

from benchmarks.subject import Command, Statement, Subject, main
from benchmarks.subjects.programs import PROGRAMS


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


def program(name: str) -> Command:
    """A whole program, traced as VizTracer does by default, its trace saved."""

    def arguments() -> list[str]:
        folder = tempfile.mkdtemp(dir=os.environ["BENCH_FOLDER"])
        return ["-m", "viztracer", "--quiet", "-o", f"{folder}/trace.json", PROGRAMS[name]]

    return Command(arguments)


SUBJECTS: dict[str, Subject] = {
    "viz_instant": Statement('tracer.add_instant("read")', "tracer", recording),
    "viz_event": Statement(
        'with tracer.log_event("read"):\n    pass', "tracer", recording, unrolled=1
    ),
    "viz_traced": Statement("function()", "function", traced),
    "viz_web": program("web"),
    "viz_streams": program("streams"),
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
