"""Make docs/reference/figures.md of a result of `make bench`.

    python -m tools.figures [FILE]

With FILE, that result becomes `benchmarks/figures.json`, the one that the documentation shows.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import as_markdown

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "figures.json"
PAGE = ROOT / "docs" / "reference" / "figures.md"
HEAD = """# Figures

Made by `make bench-docs` from one run of `make bench`, or of `make bench-quick` (fewer rounds: the
table of the machine says how many). Ratios are taken side by side in that run: every round measures
each subject once, one after the other, with [pyperf](https://pyperf.readthedocs.io), so that what
else the machine does falls on all of them. Quote the ratios. Nanoseconds are this machine's, and
those of whole processes are CPU time.

A verdict is *reached* or *not reached* where the quartiles agree on it, else *too close to tell*.
Where a target is not reached, the floor is what the row stands on: the same work without kobs, from
the table of floors. *not in this core*: the core has nothing there that could be measured.

```sh
make bench        # everything; installs the peers, each into an environment of its own
make bench-quick  # rough
```
"""


def page(result: Mapping[str, Any]) -> str:
    """The whole page."""
    machine = [
        "## The machine",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in result["machine"].items()),
        f"| rounds | up to {result['rounds']} |",
        "",
    ]
    return "\n".join([HEAD, *machine, as_markdown(result)])


def main() -> None:
    """Take a new result if one is given; write the page."""
    if len(sys.argv) > 1:
        result = json.loads(Path(sys.argv[1]).read_text())
        # The rounds themselves stay behind: what is shown is what was made of them.
        kept = {name: value for name, value in result.items() if name not in ("series", "absent")}
        RESULT.write_text(json.dumps(_rounded(kept), indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(json.loads(RESULT.read_text())))
    print(PAGE.relative_to(ROOT))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return value


if __name__ == "__main__":
    main()
