"""Floods, as they are and recorded by `kobs run` with adaptive sampling, its default."""

import os
import tempfile

from benchmarks.subject import Command, main

PROGRAMS = {"reads": "benchmarks/programs/reads.py", "letters": "benchmarks/programs/letters.py"}


def bare(program: str) -> Command:
    """The program."""
    return Command(lambda: [PROGRAMS[program]])


def recorded(program: str) -> Command:
    """The program under `kobs run`, everything on, from its start to its end."""

    def arguments() -> list[str]:
        folder = tempfile.mkdtemp(dir=os.environ["BENCH_FOLDER"])
        return ["-m", "kobs", "run", "--quiet", "--session", folder, PROGRAMS[program]]

    return Command(arguments)


SUBJECTS = {f"{program}_recorded": recorded(program) for program in PROGRAMS}
BARE = {program: bare(program) for program in PROGRAMS}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS | BARE)
