"""Which session or recording a command is about."""

import argparse
import os
import stat
from typing import TYPE_CHECKING, Any

from kobs.errors import RecordingError, SessionError

if TYPE_CHECKING:
    from kobs.recording import Recording


def add_argument(parser: argparse.ArgumentParser, name: str = "session", **options: Any) -> None:
    """The positional argument that names a session."""
    options.setdefault("nargs", "?")
    options.setdefault(
        "help",
        "a session's folder, its name or the beginning of it, or a recording's file "
        "(default: the latest session)",
    )
    parser.add_argument(name, metavar=options.pop("metavar", "SESSION"), **options)


def find(name: str | None) -> str:
    """The path of the session or recording that `name` means; the latest session for None.

    Raises `SessionError` where there is none, or where the beginning of a name fits several.
    """
    from kobs.session import latest_session, sessions_root

    root = sessions_root()
    if not name:
        latest = latest_session()
        if latest is None:
            raise SessionError(
                f"there is no session in {root}; make one with `kobs run app.py`, or name a "
                "session's folder or a recording's file"
            )
        return latest.path
    if os.path.exists(name) or os.sep in name:
        return name
    try:
        fitting = sorted(entry for entry in os.listdir(root) if entry.startswith(name))
    except OSError:
        fitting = []
    if name in fitting:
        fitting = [name]
    if not fitting:
        # Perhaps the short id that ends a session's name, or the command in its middle.
        fitting = _elsewhere(root, name)
    if len(fitting) > 1:
        shown = ", ".join(fitting[-3:])
        raise SessionError(f"{name!r} fits {len(fitting)} sessions ({shown}); say more of the name")
    if not fitting:
        raise SessionError(f"{name}: no such file or session; sessions lie in {root}")
    return os.path.join(root, fitting[0])


def _elsewhere(root: str, name: str) -> list[str]:
    try:
        return sorted(entry for entry in os.listdir(root) if entry.endswith(f"-{name}"))
    except OSError:
        return []


def opened(name: str | None) -> "Recording":
    """The recording or session that `name` means, opened."""
    from kobs.recording import open_recording

    path = find(name)
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = stat.S_IFREG  # opening it says what is wrong
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise RecordingError(f"{path}: neither a file nor a folder, so no recording or session")
    return open_recording(path)


def names_types(arguments: argparse.Namespace) -> bool:
    """The conditions that were given name payload types."""
    return bool(arguments.type) or any(word.startswith("type=") for word in arguments.filter)


def type_names(recording: "Recording") -> set[str]:
    """The payload types that the recordings declare, other programs' own among them."""
    import json

    from kobs._core import select
    from kobs.errors import KobsError

    names = set()
    for record in recording.processes:
        try:
            attached = select().attach(record.path)
        except KobsError:
            continue
        for type_id, declaration in attached.schemas():
            try:
                name = json.loads(declaration)["name"] if type_id else None
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            if isinstance(name, str):
                names.add(name)
        attached.close()
    return names
