"""`kobs demo`: record a small program that knows nothing of kobs, and report what it did.

The program (`python -m kobs.cli.demo_program`) has a few workers that take jobs from a queue, a
child process and some files. Its session is removed afterwards unless -o names a folder for it.
"""

import argparse
import os
import sys
from typing import Any

PROGRAM = "kobs.cli.demo_program"


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="record a small example and report it",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--session", metavar="DIR", help="keep the session in this folder")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    if arguments.session:
        return _record(arguments.session, arguments.json)
    import tempfile

    with tempfile.TemporaryDirectory(prefix="kobs-demo-") as folder:
        return _record(os.path.join(folder, "session"), arguments.json)


def _record(session: str, as_json: bool) -> int:
    import subprocess

    from kobs.cli.main import main

    command = [sys.executable, "-m", "kobs", "run", "--quiet", "--session", session, "-m", PROGRAM]
    if not as_json:
        print(f"$ kobs run -m {PROGRAM}")
    sys.stdout.flush()
    # In a process of its own: its output goes where ours goes, but for --json.
    ended = subprocess.run(command, stdout=sys.stderr if as_json else None, check=False)
    if ended.returncode:
        print(f"kobs: the example ended with exit code {ended.returncode}", file=sys.stderr)
        return 1
    if as_json:
        return main(["report", "--json", session])
    print("\n$ kobs report")
    code = main(["report", session])
    print("\nNext: kobs run YOUR_PROGRAM.py, then kobs report, kobs export --to perfetto")
    return code
