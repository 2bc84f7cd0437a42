"""`make bench`: runs every case, prints the table, and keeps it in benchmarks/RESULTS.md."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

from benchmarks.cases import CASES, Row

RESULTS = Path(__file__).parent / "RESULTS.md"
MARK = "<!-- the table: written by make bench -->"


def machine() -> str:
    """What it ran on, in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"


def table(rows: list[Row]) -> str:
    """Markdown."""
    head = ["| what | figure | bar | |", "|---|---|---|---|"]
    lines = [f"| {row.what} | {row.figure} | {row.bar} | {'pass' if row.reached else '**fail**'} |" for row in rows]
    return "\n".join([*head, *lines])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="some of the cases; all without a name")
    chosen = parser.parse_args().cases or list(CASES)
    rows: list[Row] = []
    for name in chosen:
        for row in CASES[name]():
            rows.append(row)
            print(f"{'pass' if row.reached else 'FAIL'}  {row.what}: {row.figure}  (bar {row.bar})", flush=True)
    if chosen == list(CASES):
        text = RESULTS.read_text() if RESULTS.exists() else f"# Results\n\n{MARK}\n"
        RESULTS.write_text(f"{text.split(MARK)[0]}{MARK}\n\n{machine()}\n\n{table(rows)}\n")
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
