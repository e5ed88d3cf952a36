"""`kobs export`: a session for other tools.

    kobs export --to perfetto -o trace.pftrace     open it at ui.perfetto.dev
    kobs export --to jsonl | jq 'select(.category == "IPC")'
    kobs export --to prometheus -o shop.prom       its metrics, in Prometheus' text format
    kobs export --to otlp                          to OTEL_EXPORTER_OTLP_ENDPOINT; what was sent
                                                   before is sent once more only with --again
>>>>>>> export

`perfetto` writes SESSION.pftrace in the current folder unless -o names another file; `jsonl`
and `prometheus` write to stdout; -o - is stdout. A file is there whole or not at all. Plug-ins
add formats. With --json, what was written is told as one object on stdout (to, path, events,
lost, ...).
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from kobs.cli import figures, otlp_options, targets
from kobs.cli.render import print_json
from kobs.errors import ConfigError

if TYPE_CHECKING:
    from kobs.recording import Recording

FORMATS = ("perfetto", "jsonl", "prometheus", "otlp")


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "export",
        help="write a session for Perfetto, as JSON lines, or send it as OTLP",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    targets.add_argument(parser)
    parser.add_argument("--to", required=True, metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("-o", "--output", metavar="FILE", help="where to; - is stdout")
    parser.add_argument("--again", action="store_true", help="otlp: also what was exported before")
    parser.add_argument("--json", action="store_true", help="tell what was written as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    to = arguments.to.lower()
    if to not in FORMATS:
        plugins = _plugins()
        if to not in plugins:
            known = ", ".join((*FORMATS, *plugins))
            raise ConfigError(f"--to {arguments.to!r} is not known; it is one of {known}")
    if to == "otlp" and arguments.output:
        raise ConfigError("--to otlp sends to OTEL_EXPORTER_OTLP_ENDPOINT; -o has no meaning there")
    if arguments.again and to != "otlp":
        raise ConfigError(f"--again has no meaning with --to {to}: it always writes everything")
    with targets.opened(arguments.session) as recording:
        if to == "perfetto":
            told = _to_file(recording, arguments, _perfetto, f"{_name(recording)}.pftrace")
        elif to == "jsonl":
            told = _to_file(recording, arguments, _jsonl, "-")
        elif to == "prometheus":
            told = _to_file(recording, arguments, _prometheus, "-")
        elif to == "otlp":
            told = _otlp(recording, again=arguments.again)
        else:
            plugins[to](recording, arguments.output, {})
            told = {"to": to, "path": arguments.output}
        _tell(recording, told, as_json=arguments.json)
    refused = told.get("failed", 0) + told.get("pending", 0)
    if refused:
        print(
            f"kobs: the receiver did not take {figures.count(refused, 'item')}"
            " (OTEL_EXPORTER_OTLP_ENDPOINT says where it is)",
            file=sys.stderr,
        )
    return 1 if refused else 0


def _perfetto(recording: "Recording", file: BinaryIO) -> dict[str, Any]:
    from kobs.export.perfetto import export_perfetto

    return {"to": "perfetto", **vars(export_perfetto(recording, file))}


def _jsonl(recording: "Recording", file: BinaryIO) -> dict[str, Any]:
    from kobs.export.jsonl import export_jsonl

    return {"to": "jsonl", "events": export_jsonl(recording, file)}


def _prometheus(recording: "Recording", file: BinaryIO) -> dict[str, Any]:
    from kobs.export.prometheus import export_prometheus

    return {"to": "prometheus", "series": export_prometheus(recording, file)}


def _otlp(recording: "Recording", *, again: bool) -> dict[str, Any]:
    done = otlp_options.export(recording, again=again)
    told = {"to": "otlp", **done.to_dict()}
    told.pop("lost", None)  # told of every format in the same words
    return told


def _to_file(
    recording: "Recording", arguments: argparse.Namespace, write: Any, otherwise: str
) -> dict[str, Any]:
    from kobs.export.files import whole_file

    path = arguments.output or otherwise
    if path == "-":
        if arguments.json:
            raise ConfigError("--json tells on stdout what was written: give a file with -o")
        told: dict[str, Any] = write(recording, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return {**told, "path": "-"}
    with whole_file(path) as file:
        told = write(recording, file)
    return {**told, "path": path}


def _tell(recording: "Recording", told: dict[str, Any], *, as_json: bool) -> None:
    """What was written, and what it lacks; on stderr, so that stdout is the export."""
    from kobs.cli.query import total_lost

    lost = total_lost(recording)
    damage = recording.damage
    if as_json:
        print_json({**told, "lost": lost, "damage": damage})
    if lost:
        print(
            f"kobs: {figures.count(lost, 'event')} of this recording were lost or left out before "
            "the export (kobs report tells why)",
            file=sys.stderr,
        )
    for line in damage:
        print(f"kobs: {line}", file=sys.stderr)
    if as_json or told.get("path") == "-":
        return
    if told["to"] == "otlp":
        print(f"sent {figures.count(told['spans'], 'span')}, "
              f"{figures.count(told['logs'], 'log record')} and "
              f"{figures.count(told['points'], 'data point')}")  # fmt: skip
        return
    numbers = ", ".join(
        figures.count(value, name.rstrip("s"))
        for name, value in told.items()
        if isinstance(value, int) and (value or name == "events")
    )
    hint = "; open it at https://ui.perfetto.dev" if told["to"] == "perfetto" else ""
    print(f"wrote {numbers or told['to']} to {told['path']}{hint}")


def _name(recording: "Recording") -> str:
    name = os.path.basename(os.path.normpath(recording.path))
    return name.removesuffix(".kobs") or "kobs"


def _plugins() -> dict[str, Any]:
    from kobs import hooks

    return hooks.exporters()
