"""Rows of the results: what, the figure, the bar, and whether it is reached; kept in RESULTS.md."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"
MARK = "<!-- the table: written by make bench -->"
HEAD = ("| what | figure | bar | |", "|---|---|---|---|")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    figure: str
    bar: str
    reached: bool

    def __str__(self) -> str:
        return f"{'pass' if self.reached else 'FAIL'}  {self.what}: {self.figure}  (bar {self.bar})"

    @property
    def markdown(self) -> str:
        """The row of RESULTS.md."""
        return f"| {self.what} | {self.figure} | {self.bar} | {'pass' if self.reached else '**fail**'} |"


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median and spread."""
    middle = statistics.median(values)
    around = f" ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else ""
    return f"{middle:.2f}{unit}{around}"


def machine() -> str:
    """What it ran on, in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"


def keep(rows: Sequence[Row], *, whole: bool) -> None:
    """Write the rows into RESULTS.md: the `whole` table is of one go; else rows of other cases stay as they were."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else f"# Results\n\n{MARK}\n"
    before, _, table = text.partition(MARK)
    lines = [] if whole else table.splitlines()
    kept = {_what(line): line for line in lines if line.startswith("| ") and line not in HEAD}
    kept |= {_what(row.markdown): row.markdown for row in rows}
    RESULTS.write_text("\n".join([f"{before}{MARK}", "", machine(), "", *HEAD, *kept.values(), ""]), encoding="utf-8")


def _what(line: str) -> str:
    return line.split(" | ")[0]
