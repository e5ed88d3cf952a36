"""The seeds: small recordings and a session, whole; and how they are made.

`python -m tests.fuzz.seeds` makes those in `corpus/` anew (after a change of the format).
"""

import gzip
import os
import shutil
import signal
import tempfile
from functools import cache
from pathlib import Path

from kobs._core import layout

CORPUS = Path(__file__).parent / "corpus"

Files = dict[str, bytes]
"""The files of a recording or session by name; the first is what is opened, unless there is a
`session.json`: then it is the folder."""


@cache
def seeds() -> list[Files]:
    """Every seed, always in the same order."""
    return [
        {
            file.name.removesuffix(".gz"): gzip.decompress(file.read_bytes())
            for file in sorted(folder.glob("*.gz"), key=lambda file: (len(file.name), file.name))
        }
        for folder in sorted(CORPUS.iterdir())
    ]


def write(files: Files, folder: str) -> str:
    """Put the files into an empty folder; the path to open."""
    for name, content in files.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)
    return folder if "session.json" in files else os.path.join(folder, next(iter(files)))


def _record_all_types(path: Path) -> None:
    """A ring that has gone round, with an event of every payload type and of one of our own."""
    from typing import Annotated

    from kobs import (
        Category,
        Collector,
        MessageReceived,
        MessageSent,
        PermissionDenied,
        SyscallExit,
        SyscallResult,
        causal_context,
        event_type,
    )
    from kobs.schema import U64, Identifier, Json, Name, PayloadType, Text

    @event_type(category=Category.IPC)
    class Odd(PayloadType):
        """One field of each kind that has a form of its own."""

        who: Name
        which: Identifier
        note: Annotated[str, Text(20)]
        more: Annotated[dict, Json(30)]
        result: SyscallResult
        size: U64 = 0

    with Collector(size=16, path=path) as collector:
        collector.emit_begin(SyscallExit("unfinished", 1.5, SyscallResult.ERROR, 7))
        with causal_context(0xABC):
            for number in range(30):
                collector.emit(SyscallExit(f"call{number % 3}", number, SyscallResult.SUCCESS, 1))
            collector.emit(MessageSent("jobs", 10), link=77)
            collector.emit(MessageReceived("jobs", 10), link=77)
            for number in range(4):
                collector.emit(Odd("ä", "text" if number % 2 else 5, "note", {"a": number},
                                   SyscallResult.SUCCESS))  # fmt: skip
        for number in range(20):
            collector.emit(PermissionDenied("write", f"root{number % 2}"))


def _record_killed(path: Path) -> None:
    from kobs import Collector, ProcessCreated, SyscallExit, SyscallResult

    pid = os.fork()
    if pid == 0:
        collector = Collector(size=16, path=path)
        collector.emit_begin(ProcessCreated(name="unfinished", priority=1), pid=77)
        for number in range(9):
            collector.emit(SyscallExit("read", number, SyscallResult.SUCCESS, 1))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def _record_segments(path: Path) -> None:
    from kobs import Collector, PermissionDenied, SyscallExit, SyscallResult

    with Collector(size=16, path=path, keep=1 << 20) as collector:
        for number in range(40):
            collector.emit(SyscallExit("read", number, SyscallResult.SUCCESS, 1))
            if number % 10 == 0:
                collector.emit(PermissionDenied("write", "root"))


def _record_session(folder: Path) -> None:
    from kobs import Collector, ProcessTerminated, SyscallExit, SyscallResult
    from kobs.session import Session

    session = Session.create("app.py", ["app.py", "-v"], root=folder, cwd="/app")
    for exit_code in (3, 0):
        with Collector(session=session, size=16) as collector:
            collector.emit(SyscallExit("read", 1, SyscallResult.SUCCESS, 1))
            collector.emit(ProcessTerminated(exit_code=exit_code), pid=4711)
    session.add_unobserved(12, ["sh", "-c", "exit 0"], "not Python")
    session.write_exit(3)


def _anywhere(content: bytes) -> bytes:
    """A recording that does not tell where it was made."""
    if not content.startswith(layout.MAGIC):
        return content
    command = layout.Header.command
    return (
        content[: command.offset]
        + b"python app.py".ljust(command.size, b"\0")
        + content[command.offset + command.size :]
    )


def make() -> None:
    """Make the corpus's recordings anew."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, record in (
            ("alltypes", _record_all_types),
            ("killed", _record_killed),
            ("segments", _record_segments),
            ("session", _record_session),
        ):
            work = Path(scratch, name)
            work.mkdir()
            record(work if name == "session" else work / "a.kobs")
            target = CORPUS / name
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for file in filter(Path.is_file, work.rglob("*")):
                packed = gzip.compress(_anywhere(file.read_bytes()), mtime=0)
                (target / f"{file.name}.gz").write_bytes(packed)
            print(f"{name}: {', '.join(sorted(file.name for file in target.iterdir()))}")


if __name__ == "__main__":
    make()
