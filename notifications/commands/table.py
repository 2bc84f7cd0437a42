"""Rows under heads, as they come: nothing is held back, and no line is wider than a terminal.

A library's table needs all its rows before the first; a store of 100,000 users has no end in sight.
"""

from __future__ import annotations

from collections.abc import Iterable

from notifications.commands.terminal import ANY_LENGTH, say
from notifications.domain.columns import COLUMNS, width_of, wrapped
from notifications.domain.text import printable

GAP = 2


class Table:
    """Columns of (head, width); the last takes what is left. What does not fit is wrapped in its own column."""

    def __init__(self, *columns: tuple[str, int], last: str) -> None:
        left = COLUMNS - sum(width + GAP for _, width in columns)
        self._columns = [*columns, (last, left)]
        self._told = False

    def row(self, *cells: object) -> None:
        """One row; the heads come before the first."""
        if not self._told:
            self._told = True
            self._say([[head] for head, _ in self._columns])
        widths = (width for _, width in self._columns)
        self._say([wrapped(printable(str(cell), ANY_LENGTH), width) for cell, width in zip(cells, widths, strict=True)])

    def _say(self, cells: list[list[str]]) -> None:
        for number in range(max(map(len, cells))):
            parts = [lines[number] if number < len(lines) else "" for lines in cells]
            padded = (
                part + " " * (width - width_of(part)) for part, (_, width) in zip(parts, self._columns, strict=True)
            )
            say((" " * GAP).join(padded).rstrip())


def counted(uids: Iterable[str], count: int) -> str:
    """Uids, and how many more there are."""
    shown = list(uids)
    more = [f"and {count - len(shown):,} more"] if count > len(shown) else []
    return " ".join([*shown, *more])
