"""`make bench`: runs every case, prints the table, and keeps it in benchmarks/RESULTS.md."""

from __future__ import annotations

import argparse
import sys

from benchmarks.cases import CASES
from benchmarks.table import Row, keep


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="some of the cases; all without a name")
    asked = parser.parse_args()
    rows: list[Row] = []
    for name in asked.cases or CASES:
        for row in CASES[name]():
            rows.append(row)
            print(row, flush=True)
            keep(rows, whole=not asked.cases)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
