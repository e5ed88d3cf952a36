"""The command `kobs`: which subcommand, and what is said when something goes wrong.

A subcommand is a module of this package with `add_parser(subparsers)`; the parser that it adds
has a default `handler`, which takes the parsed arguments and returns the exit code (None is 0).
Only the module of the subcommand that was asked for is imported.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted; `kobs run` has that of the program.
"""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from kobs.errors import ConfigError, KobsError, UnknownSubsystemError

UNMEASURED = partial(argparse.RawDescriptionHelpFormatter, width=80)
"""Of a parser while arguments are added, where nothing is shown: argparse makes a formatter a time,
which would import shutil to know how wide the terminal is."""

OK, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

COMMANDS = {
    "run": "record a program and its Python children, unchanged",
    "report": "what happened in a session or recording, and what was not seen",
    "tail": "follow a session while it runs",
    "top": "the busiest operations, refreshed",
    "query": "events that meet conditions, and figures over them",
    "export": "write a session for Perfetto, as JSON lines, or send it as OTLP",
    "recover": "what a killed process left behind",
    "compare": "two sessions side by side",
    "doctor": "what this installation can do and what it costs",
    "demo": "record a small example and report it",
}

_DESCRIPTION = """\
Know what a Python program really did.

  kobs run app.py          record a program
  kobs report              what happened in the latest session
  kobs export --to perfetto    look at it in the Perfetto UI
"""

_EPILOG = """\
SESSION is a session's folder, its name, the beginning of its name, a recording's file, or
nothing for the latest session. Sessions lie in $XDG_STATE_HOME/kobs (~/.local/state/kobs).
`kobs COMMAND --help` says more.
"""


def entry() -> NoReturn:
    """The console script: run, then exit with the code."""
    code = main()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _failed_output(error, code)
    try:
        sys.stderr.flush()
    except OSError:  # full: what could not be said changes no exit code (120 otherwise)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if sys.argv[1:2] == ["run"] and "threading" not in sys.modules:
        # Nothing waits for the end of this process but the memory that it goes with anyway:
        # taking every module apart takes a fifth of what `kobs run` takes itself.
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's); return the exit code.

    Never raises for wrong input, a missing file, a full disk or a closed pipe: each is one line
    on stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _have_streams()
    try:
        if not arguments:
            _parser([]).print_help(sys.stderr)
            return WRONG_USE
        parsed = _parser(arguments).parse_args(arguments)
        handler: Callable[[argparse.Namespace], int | None]
        handler = getattr(parsed, "handler", None) or parsed.run  # plug-ins set `run`
        code = handler(parsed) or OK
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return _code_of(stop)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError as error:
        return _failed_output(error, OK)
    except (ConfigError, UnknownSubsystemError) as error:
        return _say(error, WRONG_USE)
    except KobsError as error:
        return _say(error, FAILED)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EIO) and error.filename is None:
            return _failed_output(error, FAILED)
        return _say(describe(error), FAILED)
    except MemoryError:
        return _say("not enough memory for this; ask for less (--since, --type, --last)", FAILED)
    except Exception as error:
        return _unexpected(error)


def describe(error: OSError) -> str:
    """An operating system's error in one line: what, on which file."""
    what = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.ENOSPC:
        what = "no space left on the disk"
    if error.filename is None:
        return what[:1].lower() + what[1:]
    return f"{os.fsdecode(error.filename)}: {what[:1].lower()}{what[1:]}"


def _have_streams() -> None:
    """Where stdout or stderr is closed, write to nothing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kobs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=UNMEASURED,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    subparsers = parser.add_subparsers(
        metavar="COMMAND", title="commands", required=True, prog="kobs"
    )
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    only = wanted in COMMANDS and arguments[0] == wanted  # nobody will see the others
    for name, summary in COMMANDS.items():
        if name == wanted:
            _module(name).add_parser(subparsers)
        elif not only:
            subparsers.add_parser(name, help=summary)
    if wanted is None or wanted not in COMMANDS:
        _add_plugins(subparsers)
    return parser


class _Module:
    """What a subcommand's module looks like."""

    add_parser: Callable[[object], None]


def _module(name: str) -> _Module:
    from importlib import import_module

    module: _Module = import_module(f"kobs.cli.{name}")  # type: ignore[assignment]
    return module


def _add_plugins(subparsers: object) -> None:
    """Commands that other packages add (`kobs.hooks`); one that is broken spoils no other."""
    try:
        from kobs import hooks

        add = getattr(hooks, "add_commands", None)
        if add is not None:
            add(subparsers)
    except Exception as error:
        print(f"kobs: a plugin's command cannot be loaded: {error}", file=sys.stderr)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from kobs import __version__

        print(f"kobs {__version__}")
        parser.exit()


def _code_of(stop: SystemExit) -> int:
    if stop.code is None:
        return OK
    if isinstance(stop.code, int):
        return stop.code
    return _say(stop.code, FAILED)


def _say(message: object, code: int) -> int:
    lines = " ".join(str(message).split("\n"))
    try:
        print(f"kobs: {lines}", file=sys.stderr)
    except OSError:
        pass
    return code


def _failed_output(error: OSError, code: int) -> int:
    """stdout cannot be written: say why unless its reader left; keep Python's own last flush
    from failing again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
    if isinstance(error, BrokenPipeError):
        return code
    return _say(f"the output cannot be written: {describe(error)}", FAILED)


def _unexpected(error: Exception) -> int:
    if os.environ.get("KOBS_DEBUG"):
        import traceback

        traceback.print_exc()
    what = str(error) or "no message"
    return _say(
        f"unexpected {type(error).__name__}: {what} (KOBS_DEBUG=1 shows where; please report it)",
        FAILED,
    )
