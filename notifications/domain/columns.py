"""Text in the columns of a terminal: how wide it is, and where it breaks."""

from __future__ import annotations

import unicodedata

COLUMNS = 80


def width_of(text: str) -> int:
    """How many columns of a terminal it takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def wrapped(text: str, width: int, *, indent: int = 0) -> list[str]:
    """Lines of this width: broken at spaces, and anywhere in a word that no line holds; all but the first indented."""
    lines = [""]
    for word in text.split():
        for piece in _pieces(word, width - indent):
            if lines[-1].strip() and width_of(lines[-1]) + 1 + width_of(piece) > width:
                lines.append(" " * indent)
            lines[-1] += f" {piece}" if lines[-1].strip() else piece
    return lines


def _pieces(word: str, room: int) -> list[str]:
    """A word that no line holds, in pieces that lines hold."""
    if width_of(word) <= room:
        return [word]
    found = [""]
    for letter in word:
        if width_of(found[-1] + letter) > room:
            found.append("")
        found[-1] += letter
    return found
