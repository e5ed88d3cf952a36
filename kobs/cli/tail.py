"""`kobs tail`: follow a session from another process while it runs.

Shows the newest events, then new ones as they come, of processes that begin later too. Ends when
the session has ended (or after `--idle` seconds in which no recorded process runs), and with
Ctrl-C. What went by too fast to be read is told.

`--json` prints an object a line, as `kobs export --to jsonl` does. What is lost is said on
stderr, and with `--json` as a line {"lost": NUMBER} too.
"""

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kobs.cli import conditions, figures, targets
from kobs.cli.render import Cell, Screen, screen

if TYPE_CHECKING:
    from kobs.events import Event
    from kobs.filters import EventFilter
    from kobs.following import RecordingSubscriber
    from kobs.recording import Recording

_POLL_FIRST_S = 0.005
_POLL_MOST_S = 0.1


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "tail",
        help="follow a session while it runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    targets.add_argument(parser)
    parser.add_argument(
        "-n", "--lines", type=_lines, default=10, metavar="N",
        help="begin with the newest N events; `all` for all there are (10)",
    )  # fmt: skip
    parser.add_argument(
        "--idle", type=_seconds, default=5.0, metavar="SECONDS",
        help="end after so long without a process that runs, where the session does not say "
        "that it has ended (5)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--plain", action="store_true", help="plain text on a terminal too")
    conditions.add_options(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    with targets.opened(arguments.session) as recording:
        known = targets.type_names(recording) if targets.names_types(arguments) else ()
        wanted = conditions.from_options(arguments, known, recording)
        out = _Output(recording, wanted, arguments.json, screen(plain=arguments.plain))
        subscriber = recording.subscribe(out.needed, oldest=True)
        try:
            for old in newest(filter(out.has_line, subscriber), arguments.lines):
                out.event(old)
            out.tell_lost(0)  # overwritten before anyone looked: the report's business
            sys.stdout.flush()
            for event in follow(recording, subscriber, arguments.idle):
                if event is None:
                    out.tell_lost(subscriber.lost)
                    sys.stdout.flush()
                elif out.has_line(event):
                    out.event(event)
            out.tell_lost(subscriber.lost)
        finally:
            subscriber.close()
    return 0


def newest(events: Iterable["Event"], number: int | None) -> Iterator["Event"]:
    """The last `number` of the events there are now; all for None."""
    return iter(events) if number is None else iter(deque(events, maxlen=number))


def follow(
    recording: "Recording", subscriber: "RecordingSubscriber", idle_s: float
) -> Iterator["Event | None"]:
    """Events as they come until the session has ended; None where there is none for now."""
    pause = _POLL_FIRST_S
    quiet_since = _last_sign(recording)
    while True:
        ended = has_ended(recording)
        running = recording.running
        # Asked before this look: what has ended by now has written all it will.
        event = subscriber.next()
        if event is not None:
            while event is not None:
                yield event
                event = subscriber.next()
            pause = _POLL_FIRST_S
            yield None
            continue
        yield None
        if running:
            quiet_since = time.time()
        elif ended or time.time() - quiet_since >= idle_s:
            return
        time.sleep(pause)
        pause = min(_POLL_MOST_S, pause * 2)


def has_ended(recording: "Recording") -> bool:
    """The session says so itself; a single recording ends with its process."""
    session = recording.session
    return session is None or session.exit is not None


def _last_sign(recording: "Recording") -> float:
    """When (wall clock, seconds) a recorded process last gave a sign of life."""
    import os

    newest = 0.0
    for record in recording.processes:
        try:
            newest = max(newest, os.stat(record.path).st_mtime)
        except OSError:
            continue
    began: int = recording.session_info.get("started_wall_ns") or 0
    return max(newest, began / 1e9)


class _Output:
    """Prints events, and what was lost between them."""

    def __init__(
        self, recording: "Recording", wanted: "EventFilter", as_json: bool, out: Screen
    ) -> None:
        from kobs.cli.lines import Lines
        from kobs.export.jsonl import wall_clock

        self._wanted = wanted
        self._json = as_json
        self._out = out
        self._clock = wall_clock(recording)
        self._lines = Lines(recording)
        self._lost = 0

    @property
    def needed(self) -> "EventFilter":
        """What passes `wanted`, and what is told on its lines."""
        from kobs.filters import EventFilter

        if self._json:
            return self._wanted
        return EventFilter().where(
            lambda event: event.type_name == "LogAttributes" or self._wanted.matches(event)
        )

    def has_line(self, event: "Event") -> bool:
        """It is not told on another event's line."""
        return self._json or not self._lines.is_part(event)

    def event(self, event: "Event") -> None:
        if self._json:
            from kobs.export.jsonl import line

            sys.stdout.write(line(event, self._clock) + "\n")
        else:
            self._lines.line(self._out, event)

    def tell_lost(self, lost: int) -> None:
        if lost <= self._lost:
            return
        more, self._lost = lost - self._lost, lost
        if self._json:
            sys.stdout.write(f'{{"lost":{more}}}\n')
        text = f"{figures.count(more, 'event')} went by unseen: overwritten before they were read"
        if self._json or not sys.stdout.isatty():
            print(f"kobs: {text}", file=sys.stderr)
        else:
            self._out.line(Cell(f"-- {text} --", "bold red"))


def _lines(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number or `all`")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds, 0 or more")
    return seconds
