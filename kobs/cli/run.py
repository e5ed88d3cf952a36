"""`kobs run`: start a program, record it and its Python children, and stay out of its way.

The program is a child in the same process group, with the same descriptors and terminal. What
is sent to `kobs run` is passed on to it, its exit is passed back: the same exit code, or death by
the same signal.
"""

import argparse
import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from kobs.cli import otlp_options
from kobs.cli.main import UNMEASURED
from kobs.errors import ConfigError, KobsError, SessionError, UnknownSubsystemError

if TYPE_CHECKING:
    from kobs.session import Session

DEFAULT_KEEP = 1 << 30
NOT_FOUND = 127
NOT_EXECUTABLE = 126

USAGE = """kobs run [options] app.py [args ...]
       kobs run [options] -m module [args ...]
       kobs run [options] -- command [args ...]"""


class Program(NamedTuple):
    """What to start."""

    argv: list[str]
    """As the program sees it."""
    name: str
    """A short name for the session folder."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `run` to the subcommands of `kobs`; sets `func(namespace) -> exit code`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "run", help="record a program and its Python children", description=__doc__, usage=USAGE,
        formatter_class=UNMEASURED,
    )  # fmt: skip
    _describe(parser)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parse = parser.parse_known_args

    def parse_known_args(
        args: list[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        options, program = _split(list(sys.argv[1:] if args is None else args))
        found, extra = parse(options, namespace)
        found.program = program
        return found, extra

    parser.parse_known_args = parse_known_args  # type: ignore[assignment]
    parser.set_defaults(func=_run, handler=_run)
    return parser


def run(args: list[str]) -> int:
    """`kobs run` with these arguments; the exit code. Does not return where the program died of
    a signal: this process then dies of it too."""
    parser = argparse.ArgumentParser(prog="kobs")
    add_parser(parser.add_subparsers(prog="kobs"))
    try:
        namespace = parser.parse_args(["run", *args])
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    return _run(namespace)


# -- options ---------------------------------------------------------------------------------


def _describe(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--session", metavar="DIR", help="session folder to write; default: a new one "
        "under $XDG_STATE_HOME/kobs")  # fmt: skip
    add("--only", metavar="A,B", type=_names, help="watch only these subsystems")
    add("--except", metavar="A,B", type=_names, dest="exclude", help="watch all but these")
    add(
        "--policy",
        metavar="FILE",
        default=os.environ.get("KOBS_POLICY") or None,
        help="sandbox policy, TOML: what to tell of or to refuse ($KOBS_POLICY)",
    )
    add("--keep", metavar="SIZE", type=_size, default=DEFAULT_KEEP,
        help="disk space a process's recording may take, for instance 200MB; the oldest is "
        "dropped beyond it (1GB)")  # fmt: skip
    add("--last", action="store_true", help="keep only the newest events of each process")
    add("--sampling", metavar="PCT", type=_percent, help="share of causal chains to keep (100)")
    add("--rate", metavar="CATEGORY=PCT,...", type=_rates, action="extend", default=[],
        help="share of the causal chains that begin with an event of a category, for instance "
        "ipc=10,filesystem=1; WARN and above are kept")  # fmt: skip
    add("--hide", metavar="WHAT[:PATTERN]", type=_hidden, action="append", default=[],
        help="do not record events of a category or type, whose name (a path, a system call, a "
        "queue) fits a shell pattern: syscall:read, 'file:/tmp/*', FileChanged; they are counted. "
        "May be given several times")  # fmt: skip
    add("--no-adaptive", action="store_true", help="do not lower the sampling rate where "
        "recording costs more than 1 %% of the CPU time")  # fmt: skip
    otlp_options.add_argument(parser, "send spans, events and metrics to an OTLP receiver while "
        "the program runs, from this process")  # fmt: skip
    add("--report", action="store_true", help="print the report when the program has ended")
    add("-q", "--quiet", action="store_true", help="do not say where the session is")


_WITH_VALUE = (
    "-o", "--session", "--only", "--except", "--policy", "--keep", "--sampling", "--rate", "--hide",
)  # fmt: skip


def _split(args: list[str]) -> tuple[list[str], list[str]]:
    """(the options of `kobs run`, the rest from the script, `-m` or `--` on)."""
    index = 0
    while index < len(args):
        word = args[index]
        if word == "--" or word == "-m" or not word.startswith("-") or word == "-":
            break
        with_url = word == "--otlp" and otlp_options.is_url("".join(args[index + 1 : index + 2]))
        index += 2 if word in _WITH_VALUE or with_url else 1
    return args[:index], args[index:]


def _names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _size(text: str) -> int:
    units = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    number = text.strip().upper().removesuffix("B").removesuffix("I")
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        size = float(number[: len(number) - len(unit)])
        size *= units[unit]
        if not 1 << 20 <= size < 1 << 60:
            raise ValueError
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a size of at least 1MB, for instance 200MB or 1GB"
        ) from None
    return int(size)


def _percent(text: str) -> float:
    from kobs import config

    try:
        return config.sampling_rate(text, "--sampling")
    except ConfigError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 100") from None


def _rates(text: str) -> list[str]:
    from kobs import config

    try:
        config.category_rates(text, "--rate")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return [text]


def _hidden(text: str) -> str:
    from kobs import hiding

    try:
        hiding.parse([text], "--hide")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


# -- running ---------------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    try:
        from kobs_instrumentation import others, subsystems

        watches = others.find(subsystems.WATCHED)
        chosen = subsystems.choose(args.only, args.exclude, watches)
        args.policy = _policy(args.policy, chosen)
        program = _program(args.program)
        if args.otlp is not None:
            _check_otlp(args.otlp)
        session = _session(program, args.session)
        export = None if args.otlp is None else _live_export(session, args.otlp)
    except UnknownSubsystemError as error:
        return _fail(str(error), 2)
    except _WrongUse as error:
        return _fail(str(error), error.code)
    except ConfigError as error:
        return _fail(str(error), 2)
    except KobsError as error:
        return _fail(str(error), 1)
    try:
        status = _supervise(
            program, _environment(session, args, others.passed_on(watches)), session,
            export.start if export is not None else lambda: None,
        )  # fmt: skip
    except OSError as error:
        _write_exit(session, None)
        code = NOT_EXECUTABLE if isinstance(error, PermissionError) else NOT_FOUND
        return _fail(f"{program.argv[0]}: {error.strerror}", code)
    written = _write_exit(session, status)
    if written and not args.quiet:
        _tell(f"kobs: recorded {session.path}")
    if export is not None:
        _finish(export, session, quiet=args.quiet)
    if args.report:
        _report(session)
    return _pass_on(status)


def _check_otlp(endpoint: str) -> None:
    """Raises what is wrong with the settings of the export, before anything is written."""
    from kobs.export.otlp_settings import TransportSettings

    for signal_name in ("traces", "logs", "metrics"):
        TransportSettings.from_environment(signal_name, endpoint or None)


def _live_export(session: "Session", endpoint: str) -> "otlp_options.LiveExport":
    from kobs.recording import open_recording

    export = otlp_options.LiveExport(open_recording(session), endpoint)
    session.begin_export()
    return export


def _finish(export: "otlp_options.LiveExport", session: "Session", *, quiet: bool) -> None:
    """Send the rest, and say what became of everything; where something is left, even if quiet."""
    done = export.finish()
    session.end_export()
    if done.failed or done.wrong:
        why = f" ({done.wrong})" if done.wrong else ""
        _tell(f"kobs: {done.told()}{why}; `kobs recover {session.path} --otlp` "
              "sends what was not")  # fmt: skip
    elif not quiet or done.traffic.lost:
        _tell(f"kobs: {done.told()}")


def _policy(path: str | None, watched: tuple[str, ...]) -> dict[str, Any] | None:
    """What a policy's file says, for this process's children. Raises `ConfigError`."""
    if path is None:
        return None
    if "sandbox" not in watched:
        raise _WrongUse(f"{path}: a policy needs the subsystem sandbox, which is left out", 2)
    from kobs_instrumentation.policy import SandboxPolicy

    return SandboxPolicy.from_file(path).to_mapping()


class _WrongUse(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def _fail(message: str, code: int) -> int:
    _tell(f"kobs run: {message}")
    return code


def _tell(text: str) -> None:
    """A line on stderr. Where that is full or gone nothing is said: the exit code stays the
    program's, and Python's last flush has nothing to fail at."""
    try:
        os.write(2, text.encode("utf-8", "surrogateescape") + b"\n")
    except OSError:
        pass


def _program(words: list[str]) -> Program:
    if not words or words in (["-m"], ["--"]):
        raise _WrongUse("nothing to run; " + "usage: " + USAGE.splitlines()[0], 2)
    first, rest = words[0], words[1:]
    if first == "-m":
        return Program([sys.executable, "-m", *rest], rest[0])
    if first == "--":
        import shutil

        if shutil.which(rest[0]) is None and not os.path.exists(rest[0]):
            raise _WrongUse(f"{rest[0]}: command not found", NOT_FOUND)
        return Program(rest, os.path.basename(rest[0]))
    if not os.path.exists(first):
        import shutil

        hint = f"; to run a command: kobs run -- {first}" if shutil.which(first) else ""
        raise _WrongUse(f"{first}: no such file{hint}", NOT_FOUND)
    name = os.path.basename(os.path.abspath(first)).removesuffix(".py")
    return Program([sys.executable, first, *rest], name)


def _session(program: Program, folder: str | None) -> "Session":
    from kobs.session import Session

    if folder is None:
        return Session.create(program.name, program.argv)
    if not folder:
        raise _WrongUse("--session is empty; give a folder", 2)
    folder = os.path.abspath(folder)
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise SessionError(f"{folder}: no session can be made there: it is no folder")
    try:
        made = Session.create(program.name, program.argv, root=os.path.dirname(folder))
    except SessionError as error:
        # It is made beside, under another name; and where it lies was asked for.
        why = getattr(error.__context__, "strerror", None) or str(error)
        if isinstance(error.__context__, FileExistsError):
            why = "what it would lie in is no folder"
        raise SessionError(f"{folder}: no session can be made there: {why}") from None
    try:
        os.rename(made.path, folder)  # an empty folder may be there already
    except OSError as error:
        import shutil

        shutil.rmtree(made.path, ignore_errors=True)
        what = "is there already and not empty; give a new folder"
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            what = f"no session can be made there: {error.strerror}"
        raise SessionError(f"{folder}: {what}") from None
    return Session.open(folder)


def _environment(
    session: "Session", args: argparse.Namespace, watches: dict[str, str]
) -> dict[bytes, bytes]:
    from kobs_instrumentation import propagate

    options = {
        "only": args.only,
        "exclude": args.exclude or [],
        "watches": watches,
        "keep": args.keep,
        "last": args.last,
        "sampling": args.sampling,
        "rates": ",".join(args.rate),
        "hide": args.hide,
        "adaptive": not args.no_adaptive,
        "policy": args.policy,
    }
    propagate.children_record(
        propagate.Children(str(session.path), json.dumps(options), session.trace_high)
    )
    env = dict(os.environb)
    propagate.add_to_child(env, 0)
    del env[b"KOBS_LINK"]  # by this the program knows that no watched process started it
    return env


_STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
"""The terminal sends them to the group. None stops this process: `_follow` does, where and when
the program was stopped. (A continue is not passed on either: `_follow` sees to it.)"""
_PASSED_ON = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGWINCH, signal.SIGALRM, *_STOPS,
)  # fmt: skip
_FROM_KERNEL = 0x80  # SI_KERNEL: the terminal sent it, to the whole group


def _supervise(
    program: Program, env: dict[bytes, bytes], session: "Session", started: Callable[[], None]
) -> int:
    """Start the program, pass signals on until it ends; its wait status. Raises `OSError` where
    it cannot be started. `started` is called once it was, with the signals blocked that are
    waited for here."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    waited = {*_PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    try:
        pid = os.posix_spawnp(
            program.argv[0], program.argv, env,
            setsigmask=before, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )  # fmt: skip
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    _note_unobserved(program, pid, session)
    started()
    while True:
        info = signal.sigwaitinfo(waited)
        if info.si_signo == signal.SIGCHLD:
            status = _follow(pid)
            if status is not None:
                while signal.sigtimedwait(_STOPS, 0):
                    pass  # it was the program's, which has ended
                signal.pthread_sigmask(signal.SIG_SETMASK, before - set(_PASSED_ON))
                return status
        elif _is_for_us_alone(info, pid):
            try:
                os.kill(pid, info.si_signo)
            except ProcessLookupError:
                pass


def _note_unobserved(program: Program, pid: int, session: "Session") -> None:
    """A program that will not record itself is listed in the session."""
    from kobs_instrumentation import propagate

    executable = program.argv[0]
    if executable != sys.executable:
        import shutil

        executable = shutil.which(executable) or executable
    reason = propagate.why_unobserved(executable, [os.fsencode(word) for word in program.argv])
    if reason:
        session.add_unobserved(pid, program.argv, reason)


def _is_for_us_alone(info: signal.struct_siginfo, pid: int) -> bool:
    """Whether the program did not get the signal itself: the terminal sends to the group, and so
    does the program where it sends to its own group."""
    return info.si_code != _FROM_KERNEL and info.si_pid != pid


def _follow(pid: int) -> int | None:
    """The wait status if the program has ended. Where it was stopped, stop too, so that the
    shell sees its job stopped; where only this process was continued, continue the program."""
    while True:
        found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if found == 0:
            return None
        if not os.WIFSTOPPED(status):
            return status
        os.kill(os.getpid(), signal.SIGSTOP)
        if not _went_on(pid):
            os.kill(pid, signal.SIGCONT)


def _went_on(pid: int) -> bool:
    """Whether the program was continued, or ended, since the stop that was reported last.

    A shell continues the whole group, the younger member first. By the time this process runs
    again the program may have been stopped anew, and that stop has to stand: its state now says
    nothing. It was continued if that is to be reported, or if another stop is. To be asked in
    this order, and not at once: the kernel looks for one after the other, the stop first, and
    would miss a stop that comes in between.
    """
    asked = (os.WCONTINUED, os.WSTOPPED)
    left = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return any(os.waitid(os.P_PID, pid, change | left) for change in asked)


def _write_exit(session: "Session", status: int | None) -> bool:
    code = None if status is None else os.waitstatus_to_exitcode(status)
    try:
        if code is not None and code < 0:
            session.write_exit(None, -code)
        else:
            session.write_exit(code)
    except SessionError as error:
        _tell(f"kobs run: {error}")
        return False
    return True


def _report(session: "Session") -> None:
    from kobs.cli import main

    try:
        main.main(["report", str(session.path)])
    except SystemExit:
        pass


def _pass_on(status: int) -> int:
    """The program's exit code; where a signal killed it, die of the same one, without leaving a
    second core file."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    import resource

    sys.stdout.flush()
    sys.stderr.flush()
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    os.kill(os.getpid(), -code)
    return 128 - code
