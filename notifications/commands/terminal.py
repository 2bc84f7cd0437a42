"""What a person reads: one call, one line, whatever is in it; and a terminal that breaks stops nothing."""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from notifications.domain.text import printable

ANY_LENGTH = sys.maxsize
COLUMNS = 80


def say(line: str) -> None:
    """One line on stdout. What could steer a terminal or forge another line is escaped."""
    print(printable(line, ANY_LENGTH), flush=True)


def complain(sentence: str) -> None:
    """One sentence on stderr."""
    print(printable(sentence, ANY_LENGTH), file=sys.stderr, flush=True)


def width_of(text: str) -> int:
    """How many columns of a terminal it takes."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def say_wrapped(text: str, indent: str = "", first: str | None = None) -> None:
    """Text in lines of 80 columns: broken at spaces, or anywhere in a script that writes none."""
    line = head = indent if first is None else first
    for word in printable(text, ANY_LENGTH).split():
        for piece in pieces(word, COLUMNS - width_of(indent)):
            if line != head and width_of(line) + 1 + width_of(piece) > COLUMNS:
                say(line.rstrip())
                line = head = indent
            line += piece if line == head else f" {piece}"
    if line.strip():
        say(line.rstrip())


def pieces(word: str, room: int) -> list[str]:
    """A word that no line holds, in pieces that lines hold."""
    found = [""]
    for letter in word:
        if width_of(found[-1] + letter) > room:
            found.append("")
        found[-1] += letter
    return found


class Steady(io.TextIOBase):
    """A stream that never raises: what can't be written (a closed pipe, a full disk, a letter beyond ASCII) is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """As much of it as can be written."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self._mute()
        return len(text)

    def flush(self) -> None:
        """Nothing is told of a failure: what was done is on record."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._mute()

    def isatty(self) -> bool:
        """Whether a person watches."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's own."""
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
    sys.stdout, sys.stderr = (Steady(stream or _nowhere()) for stream in (sys.stdout, sys.stderr))


def _nowhere() -> TextIO:
    """In place of a stream that was closed before the start."""
    return Path(os.devnull).open("w")
