"""Lines for a person to read, on streams that never raise."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import TextIO

from notifications.domain.text import ANY_LENGTH, COLUMNS, printable, width_of, wrapped


def say(line: str) -> None:
    """One line on stdout. What could steer a terminal or forge another line is escaped."""
    sys.stdout.write(f"{printable(line, ANY_LENGTH)}\n")  # one write, since a progress line may be drawn between two
    sys.stdout.flush()


def say_line(text: str) -> None:
    """Print one line; on a terminal, wrapped."""
    if sys.stdout.isatty():
        say_wrapped(text, "    ", "")
    else:
        say(text)


def several(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: 1 call, 2 calls."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def minute(at: datetime) -> str:
    """The UTC minute by which a time has come, so that what ends at 18:51:40 is not over in the minute that is told."""
    return f"{at.astimezone(UTC) + timedelta(seconds=59, microseconds=999_999):%H:%M}"


def on_the_real_clock(until: datetime | None, now: datetime, offset: timedelta) -> str:
    """What to know under `--now` of a time at which a claim is free, since claims go by Redis' clock; else empty.

    `until` and `now` as `--now` has them, which is `offset` ahead of Redis' clock.
    """
    if until is None or abs(offset) < timedelta(minutes=1):
        return ""
    wait = max(0, ceil((until - now) / timedelta(minutes=1)))
    free = f"{minute(until)} UTC above is {wait} min from now, whatever --now says then"
    return f"--now does not move claims: they are free by Redis' clock, so {free}."


def complain(sentence: str) -> None:
    """Print one sentence on stderr, in one line; on a terminal, wrapped."""
    text = printable(sentence, ANY_LENGTH)
    lines = wrapped(text, COLUMNS) if sys.stderr.isatty() else [text]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def say_wrapped(text: str, indent: str = "", first: str | None = None) -> None:
    """Text in lines of 80 columns behind `indent`; the first line behind `first`, which is no longer."""
    head = indent if first is None else first
    for line in wrapped(printable(text, ANY_LENGTH), COLUMNS - len(head), indent=len(indent) - len(head)):
        if line.strip():
            say(head + line)
            head = " " * len(head)


class SafeStream(io.TextIOBase):
    """A stream that never raises: what can't be written (a closed pipe, a full disk) is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.around_write: Callable[[], AbstractContextManager[None]] = nullcontext  # hides a progress line
        if isinstance(stream, io.TextIOWrapper):
            # In the locale C Python chooses ASCII, unless its UTF-8 mode is on.
            plain = codecs.lookup(stream.encoding).name == "ascii" and "PYTHONIOENCODING" not in os.environ
            encoding = "utf-8" if plain else stream.encoding
            stream.reconfigure(encoding=encoding, errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            with self.around_write():
                self._stream.write(text)
                self._stream.flush()
        except (OSError, ValueError):
            self._mute()
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._mute()

    @property
    def bare(self) -> TextIO:
        """The stream itself, for a progress line."""
        return self._stream

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def _mute(self) -> None:
        """Send what is still buffered, and all that follows, to /dev/null."""
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            self._stream.flush()


def use_safe_streams() -> None:
    """Replace stdout and stderr, so that neither can end a run or a user's turn."""
    sys.stdout, sys.stderr = (SafeStream(stream or _open_null()) for stream in (sys.stdout, sys.stderr))


def _open_null() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


GAP = 2  # between two columns
AROUND = 3  # lines of a screen that are left for what comes before and after the rows


class Table:
    """Columns of (head, width); the last takes the rest of the line. Long cells are wrapped in their column."""

    def __init__(self, *columns: tuple[str, int], last: str) -> None:
        left = COLUMNS - sum(width + GAP for _, width in columns)
        self._columns = [*columns, (last, left)]
        self._has_head = False
        self.lines = 0  # printed so far

    def row(self, *cells: object) -> None:
        """One row; the heads come before the first."""
        if not self._has_head:
            self._has_head = True
            self._say([[head] for head, _ in self._columns])
        self._say(self._wrapped(cells))

    def height(self, *cells: object) -> int:
        """How many lines the row takes."""
        return max(map(len, self._wrapped(cells)))

    def _wrapped(self, cells: Sequence[object]) -> list[list[str]]:
        widths = (width for _, width in self._columns)
        return [wrapped(printable(str(cell), ANY_LENGTH), width) for cell, width in zip(cells, widths, strict=True)]

    def _say(self, cells: list[list[str]]) -> None:
        self.lines += max(map(len, cells))
        for number in range(max(map(len, cells))):
            parts = [lines[number] if number < len(lines) else "" for lines in cells]
            padded = (
                part + " " * (width - width_of(part)) for part, (_, width) in zip(parts, self._columns, strict=True)
            )
            say((" " * GAP).join(padded).rstrip())


class Groups:
    """Lines by what they have in common: of each group the number, and as many as a screen has room for."""

    def __init__(self, *, whole: bool = False) -> None:
        self._kept = ANY_LENGTH if whole else screen_lines()
        self._lines: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, group: str, line: str) -> None:
        self.counts[group] += 1
        lines = self._lines.setdefault(group, [])
        if len(lines) < self._kept:
            lines.append(line)

    def say(self) -> None:
        """Print them, in the order in which each group was first added to."""
        room = self._kept if self._kept == ANY_LENGTH else max(1, (self._kept - AROUND) // max(1, len(self._lines)) - 2)
        for group, lines in self._lines.items():
            say_wrapped(f"{group}: {self.counts[group]:,}", "    ", "")
            for line in lines[:room]:
                say_wrapped(line, "    ", "  ")
            if self.counts[group] > room:
                say(f"  and {self.counts[group] - room:,} more; --all prints them")


class Listing:
    """A table; where it is longer than a screen and not wanted `whole`, its rows in groups instead."""

    def __init__(self, table: Table, *, whole: bool) -> None:
        self._table = table
        self._whole = whole
        self._rows: list[Sequence[object]] = []
        self._lines_left = screen_lines() - AROUND
        self.groups = Groups()

    def add(self, group: str, line: str, *cells: object) -> None:
        """One row, and the line that stands for it in its group."""
        self.groups.add(group, line)
        if self._whole:
            self._table.row(*cells)
        elif self._lines_left >= 0:
            self._lines_left -= self._table.height(*cells)
            self._rows.append(cells)

    def say(self) -> None:
        """Print what was not printed row by row."""
        if self._lines_left < 0:
            self.groups.say()
            return
        for cells in self._rows:
            self._table.row(*cells)


def screen_lines() -> int:
    """How many lines a person sees at once; piped, as many as a small terminal has."""
    return shutil.get_terminal_size().lines


def first_of(uids: Sequence[str], count: int, listed_by: str = "") -> str:
    """The uids, and how many more there are. `listed_by`: the flag that lists all."""
    more = f"and {count - len(uids):,} more{f': {listed_by}' if listed_by else ''}"
    return " ".join([*uids, *([more] if count > len(uids) else [])])
