"""What a person reads: one call, one line, whatever is in it; and a terminal that breaks stops nothing."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TextIO

from notifications.domain.text import COLUMNS, printable, width_of, wrapped

ANY_LENGTH = sys.maxsize


def say(line: str) -> None:
    """One line on stdout. What could steer a terminal or forge another line is escaped."""
    sys.stdout.write(f"{printable(line, ANY_LENGTH)}\n")  # in one piece: something may be drawn between two
    sys.stdout.flush()


def say_line(text: str) -> None:
    """One line where it is piped; on a terminal as many as it takes."""
    if sys.stdout.isatty():
        say_wrapped(text, "    ", "")
    else:
        say(text)


def several(count: int, one: str) -> str:
    """A count of things, in words."""
    return f"{count:,} {one if count == 1 else one + 's'}"


def complain(sentence: str) -> None:
    """One sentence on stderr: one line, but on a terminal."""
    text = printable(sentence, ANY_LENGTH)
    lines = wrapped(text, COLUMNS) if sys.stderr.isatty() else [text]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def say_wrapped(text: str, indent: str = "", first: str | None = None) -> None:
    """Text in lines of 80 columns, all but the first behind `indent`, the first behind its own."""
    head = indent if first is None else first
    lines = wrapped(printable(text, ANY_LENGTH), COLUMNS - len(indent))
    if len(head) < len(indent):  # the first has more room
        lines = wrapped(printable(text, ANY_LENGTH), COLUMNS - len(head), indent=len(indent) - len(head))
        for line in lines:
            if line.strip():
                say(head + line)
        return
    for number, line in enumerate(lines):
        if line.strip():
            say((indent if number else head) + line)


class SafeStream(io.TextIOBase):
    """A stream that never raises: what can't be written (a closed pipe, a full disk, a letter beyond ASCII) is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.beside: Callable[[], AbstractContextManager[None]] = nullcontext  # what stands there meanwhile
        if isinstance(stream, io.TextIOWrapper):
            # In the locale C Python takes ASCII, where it is kept from its UTF-8 mode.
            plain = codecs.lookup(stream.encoding).name == "ascii" and "PYTHONIOENCODING" not in os.environ
            encoding = "utf-8" if plain else stream.encoding
            stream.reconfigure(encoding=encoding, errors="backslashreplace")

    def write(self, text: str) -> int:
        """As much of it as can be written."""
        try:
            with self.beside():
                self._stream.write(text)
                self._stream.flush()
        except (OSError, ValueError):
            self._mute()
        return len(text)

    def flush(self) -> None:
        """Nothing is told of a failure: what was done is on record."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._mute()

    @property
    def bare(self) -> TextIO:
        """The stream itself, for what is drawn over and over in its last line."""
        return self._stream

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def _mute(self) -> None:
        """From now on into nothing, what is still buffered too."""
        with suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)
            self._stream.flush()


def steady_streams() -> None:
    """From here on stdout and stderr can't end a run, nor a user's turn."""
    sys.stdout, sys.stderr = (SafeStream(stream or _nowhere()) for stream in (sys.stdout, sys.stderr))


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


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
