"""Whole programs, as they are and recorded by `kobs run` with everything on."""

import os
import tempfile

from benchmarks.subject import Absent, Command, main

PROGRAMS = {"web": "benchmarks/programs/web.py", "streams": "benchmarks/programs/streams.py"}


def bare(program: str) -> Command:
    """The program."""
    return Command(lambda: [PROGRAMS[program]], check=flask_is_there)


def recorded(program: str) -> Command:
    """The program under `kobs run`, from its start to its end."""

    def arguments() -> list[str]:
        folder = tempfile.mkdtemp(dir=os.environ["BENCH_FOLDER"])
        return ["-m", "kobs", "run", "--quiet", "--session", folder, PROGRAMS[program]]

    return Command(arguments, check=flask_is_there)


def flask_is_there() -> None:
    """Raises `Absent`."""
    try:
        import flask  # noqa: F401
    except ImportError:
        raise Absent("Flask is not installed: `make bench` does it") from None


SUBJECTS = {
    "web_recorded": recorded("web"),
    "streams_recorded": recorded("streams"),
}
BARE = {"web": bare("web"), "streams": bare("streams")}

if __name__ == "__main__":
    main(__spec__.name, SUBJECTS | BARE)
