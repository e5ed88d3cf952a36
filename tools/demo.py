"""`make demo`: record a real program and a real test run, and show the result."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".demo"
SESSION = WORK / "session"
TRACE = WORK / "minikernel.pftrace"
EXAMPLES = ROOT / "examples"


def main() -> int:
    """Run the steps; the number of those that did not end as they should."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    began = time.monotonic()
    kobs = [sys.executable, "-m", "kobs"]
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    failures = [
        step
        for step, arguments, expected in (
            (
                "1. Record a program: the example kernel, unchanged, under `kobs run`",
                [*kobs, "run", "--session", str(SESSION), "-m", "minikernel"],
                0,
            ),
            (
                "2. What happened: `kobs report`",
                [*kobs, "report", str(SESSION)],
                0,
            ),
            (
                "3. For the Perfetto UI: `kobs export --to perfetto`",
                [*kobs, "export", str(SESSION), "--to", "perfetto", "-o", str(TRACE)],
                0,
            ),
            (
                "4. Assert on it: `pytest --kobs`, with a causal chain that crosses a process,"
                " a queue and shared memory",
                [*pytest, "--kobs", "-v", "test_minikernel.py"],
                0,
            ),
            (
                "5. A test that fails, to show what kobs says then",
                [*pytest, "--kobs", "failing_example.py"],
                1,
            ),
        )
        if not _run(step, arguments, expected)
    ]
    took = time.monotonic() - began
    print(f"\nThe session is in {SESSION.relative_to(ROOT)},", end=" ")
    print(f"the trace for the Perfetto UI in {TRACE.relative_to(ROOT)}; it took {took:.0f} s.")
    for step in failures:
        print(f"did not end as it should: {step}", file=sys.stderr)
    return len(failures)


def _run(step: str, arguments: list[str], expected: int) -> bool:
    print(f"\n\033[1m{step}\033[0m\n" if sys.stdout.isatty() else f"\n{step}\n", flush=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("KOBS_", "KERNEL_"))}
    code = subprocess.run(arguments, cwd=EXAMPLES, env=environment).returncode
    return code == expected


if __name__ == "__main__":
    sys.exit(main())
