"""Floods, as they are, behind hooks that only forward, and recorded by `kobs run` with adaptive
sampling, its default.

Each is there a second time with nothing in it, `_idle`: what starting and ending costs. Forwarding
is what no hook can do without that is to see each error.
"""

import os
import tempfile

from benchmarks.subject import Absent, Command, main

PROGRAMS = {"reads": "benchmarks/programs/reads.py", "letters": "benchmarks/programs/letters.py"}
FORWARDING = {
    "reads": "from kobs_instrumentation.watch import syscall; syscall.install(lambda: None)",
    "letters": "import queue; from kobs._core.hooking import native; "
    "[setattr(queue.Queue, name, native.WakeHook(original=vars(queue.Queue)[name], live=[])) "
    "for name in ('put', 'get')]",
}
"""What has the program's calls go through such a hook: its entry in C, a stand-in in C."""
IDLE = ("0",)
Sizes = tuple[str, ...]


def bare(program: str, size: Sizes = ()) -> Command:
    """The program."""
    return Command(lambda: [PROGRAMS[program], *size])


def passed(program: str, size: Sizes = ()) -> Command:
    """The program behind hooks that forward."""
    run = f"{FORWARDING[program]}; import runpy; "
    run += f"runpy.run_path({PROGRAMS[program]!r}, run_name='__main__')"
    return Command(lambda: ["-c", run, *size], check=hooks_are_there)


def recorded(program: str, size: Sizes = ()) -> Command:
    """The program under `kobs run`, everything on, from its start to its end."""

    def arguments() -> list[str]:
        folder = tempfile.mkdtemp(dir=os.environ["BENCH_FOLDER"])
        return ["-m", "kobs", "run", "--quiet", "--session", folder, PROGRAMS[program], *size]

    return Command(arguments)


def hooks_are_there() -> None:
    """Raises `Absent`."""
    from kobs._core import hooking

    if hooking.native is None:
        raise Absent("the Python core has no hooks in C")


SUBJECTS = {
    f"{program}{idle}_{how}": make(program, size)
    for program in PROGRAMS
    for idle, size in (("", ()), ("_idle", IDLE))
    for how, make in (("passed", passed), ("recorded", recorded))
}
BARE = {
    f"{program}{idle}": bare(program, size)
    for program in PROGRAMS
    for idle, size in (("", ()), ("_idle", IDLE))
}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS | BARE)
