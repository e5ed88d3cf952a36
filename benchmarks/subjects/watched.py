"""What the watches add: each operation with the watch that is for it."""

from importlib import import_module
from typing import Any

from benchmarks.subject import Work, main
from benchmarks.subjects.calls import written
from benchmarks.subjects.operations import OPERATIONS


def watch(name: str) -> None:
    """Put one watch in place."""
    from kobs_instrumentation.policy import SandboxPolicy

    collector = written()
    options: dict[str, Any] = {}
    if name == "sandbox":
        options["policy"] = SandboxPolicy(deny=["open.write:/nowhere/*"])
    module = import_module(f"kobs_instrumentation.watch.{name}")
    module.install(lambda: collector, **options)


def look() -> Any:
    """What the watch of memory does once a second."""
    watch("memory")
    from kobs_instrumentation.watch import memory

    return memory._levels.look


SUBJECTS = {
    f"watched_{name}": operation.statement(lambda name=operation.watch: watch(name))  # type: ignore[misc]
    for name, operation in OPERATIONS.items()
} | {"watched_look": Work("look(0)", "look", look, unrolled=1)}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS)
