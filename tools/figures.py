"""Make docs/reference/figures.md of a result of `make bench`, and what each subsystem's page says
of its cost.

    python -m tools.figures [FILE]

With FILE, that result becomes `benchmarks/figures.json`, the one that the documentation shows; of
`python -m benchmarks --only watches` what the watches add does.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import CORES, WATCHES_HEADER, Table, as_markdown, table_lines, watched

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "figures.json"
PAGE = ROOT / "docs" / "reference" / "figures.md"
SUBSYSTEMS = ROOT / "docs" / "reference" / "subsystems"
COST = "<!-- what follows is made by `make bench-docs` -->\n"
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


def subsystem_pages(result: Mapping[str, Any]) -> dict[Path, str]:
    """The pages of the subsystems: as they are, with the costs of this result."""
    made = {}
    for path in sorted(SUBSYSTEMS.glob("*.md")):
        before, mark, _ = path.read_text().partition(COST)
        if mark:
            made[path] = before + mark + _costs(path.stem, result)
    return made


def _costs(watch: str, result: Mapping[str, Any]) -> str:
    lines = [
        "",
        "Of [the run of the figures](../figures.md), which says on which machine: medians ± half",
        "the distance of the quartiles; what is added was taken beside the bare operation in each",
        "round.",
        "",
    ]
    for core, rows in result["watches"].items():
        cells = [watched(row) for row in rows if row["watch"] == watch]
        table = Table("", "", (f"{CORES[core]}: operation", *WATCHES_HEADER[1:]), cells)
        lines += [*table_lines(table), ""]
    return "\n".join(lines)


def main() -> None:
    """Take a new result if one is given; write the pages."""
    if len(sys.argv) > 1:
        result = json.loads(Path(sys.argv[1]).read_text())
        # The rounds themselves stay behind: what is shown is what was made of them.
        kept = {name: value for name, value in result.items() if name not in ("series", "absent")}
        if result["only"] == ["watches"]:  # beside the others, which stay those of their run
            made = {"date": result["machine"]["date"], "rounds": result["rounds"]}
            old = json.loads(RESULT.read_text())
            kept = old | {"watches": result["watches"], "watches_run": made}
        RESULT.write_text(json.dumps(_rounded(kept), indent=1, ensure_ascii=False) + "\n")
    result = json.loads(RESULT.read_text())
    PAGE.write_text(page(result))
    for path, text in subsystem_pages(result).items():
        path.write_text(text)
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
