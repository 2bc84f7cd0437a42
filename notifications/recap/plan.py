"""The plan of a day's calls: a note for each conversation, in as few parts as they fit in.

Sizes are in bytes, since a byte-level tokenizer never makes more tokens than bytes; BYTES_A_TOKEN was measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NamedTuple
from zoneinfo import ZoneInfo

from notifications.domain.model import Conversation
from notifications.domain.schedule import zone
from notifications.domain.text import clean
from notifications.recap.material import Material, held_at

BYTES_A_TOKEN = 2.3  # of emoji, the worst; seven languages have 3.2 to 7.7
MAX_TITLE, MAX_ITEM, MAX_ITEMS = 200, 400, 100
LEAST_NOTE = 120  # bytes; in fewer there would be little but its number
LINE_BYTES = 7  # of a marker, a space and a line break
DIGEST_BYTES = 240  # of a conversation that enters as its extract
ELLIPSIS = "…"
WHOLE, PART, EXTRACT = "whole", "part", "extract"
NOTHING_COVERED: Mapping[str, int] = {WHOLE: 0, PART: 0, EXTRACT: 0}

Digest = Callable[[Conversation], str]  # a conversation's most central sentences


class Line(NamedTuple):
    """One line of a note. `label`: who says it, or what it is; empty if unknown."""

    label: str
    text: str

    def __str__(self) -> str:
        """As it is sent."""
        return f"{self.label}: {self.text}" if self.label else self.text


@dataclass(frozen=True)
class Note:
    """One conversation as it is sent. `number`: from 1, in the material's order."""

    number: int
    lines: tuple[Line, ...]
    how: str = WHOLE

    @cached_property
    def size(self) -> int:
        """Its bytes, markers included."""
        return sum(len(str(line).encode()) + LINE_BYTES for line in self.lines)


@dataclass(frozen=True, slots=True)
class Plan:
    """The notes of each call. One part: the call asks for the recap; more: each asks for facts, and a join follows."""

    parts: tuple[tuple[Note, ...], ...]

    @property
    def coverage(self) -> Mapping[str, int]:
        """How many conversations enter whole, in part, and as their extract."""
        return {**NOTHING_COVERED, **Counter(note.how for part in self.parts for note in part)}


def plan(m: Material, max_tokens: int, max_parts: int, digest: Digest) -> Plan:
    """A note for each conversation, in parts of equal size where one call can't take them all.

    Where `max_parts` can't, the shortest conversations enter as their extract; then the longest are cut.
    """
    tz = zone(m.zone)
    room = int(max_tokens * BYTES_A_TOKEN)
    notes = [_cut(_note(number, c, m, tz), room) for number, c in enumerate(m.conversations, start=1)]
    capacity = room * max_parts
    digested = cache(lambda number: clean(digest(m.conversations[number - 1])))
    while True:
        fitting = _fitted(notes, digested, capacity)
        parts = _split(fitting, room, max_parts)
        if all(_size(part) <= room for part in parts) or capacity <= LEAST_NOTE * len(notes):
            return Plan(parts)
        capacity = capacity * 9 // 10  # conversations are not divided, so parts have room left


def halves(part: Sequence[Note]) -> tuple[tuple[Note, ...], tuple[Note, ...]]:
    """A part that was too long, in two; a single note loses its second half."""
    if len(part) > 1:
        first, second = _equal(part, 2)
        return first, second
    return (_cut(part[0], part[0].size // 2),), ()


def _size(notes: Sequence[Note]) -> int:
    return sum(note.size for note in notes)


def _fitted(notes: Sequence[Note], digested: Callable[[int], str], capacity: int) -> list[Note]:
    """The notes, shortened to the capacity where they are larger."""
    fitting = list(notes)
    over = _size(fitting) - capacity
    for note in sorted(notes, key=lambda note: note.size):
        if over > 0 and note.size > DIGEST_BYTES + LINE_BYTES * 2:
            text = digested(note.number)
            lines = (note.lines[0], Line("", text)) if text else note.lines[:1]
            short = _cut(Note(note.number, lines, EXTRACT), DIGEST_BYTES)
            fitting[note.number - 1] = short
            over -= note.size - short.size
    if over > 0:
        most = max(LEAST_NOTE, level([note.size for note in fitting], capacity))
        fitting = [_cut(note, most) for note in fitting]
    return fitting


def _split(notes: Sequence[Note], room: int, most: int) -> tuple[tuple[Note, ...], ...]:
    """As few parts of equal size as the notes fit in, up to `most`; conversations are not divided."""
    for count in range(max(1, math.ceil(_size(notes) / room)), most + 1):
        parts = _equal(notes, count)
        if all(_size(part) <= room for part in parts):
            return parts
    return _equal(notes, min(most, len(notes)))


def _equal(notes: Sequence[Note], count: int) -> tuple[tuple[Note, ...], ...]:
    parts: list[list[Note]] = [[]]
    left, filled = _size(notes), 0
    for place, note in enumerate(notes):
        share = left / (count - len(parts) + 1)
        must = len(notes) - place <= count - len(parts)  # or a part would be empty
        if parts[-1] and len(parts) < count and (must or filled + note.size / 2 > share):
            left -= filled
            parts.append([])
            filled = 0
        parts[-1].append(note)
        filled += note.size
    return tuple(map(tuple, parts))


def level(sizes: Sequence[int], room: int) -> int:
    """The most bytes for each so that all fit: short ones stay whole, long ones share the rest."""
    left, ascending = room, sorted(sizes)
    for place, size in enumerate(ascending):
        share = left // (len(ascending) - place)
        if size > share:
            return max(0, share)
        left -= size
    return ascending[-1] if ascending else 0


def _cut(note: Note, most: int) -> Note:
    """The note's first lines in that many bytes, the last of them cut."""
    if note.size <= most:
        return note
    left, kept = most, list[Line]()
    for line in note.lines:
        left -= len(str(line).encode()) + LINE_BYTES
        if left < 0:
            text = line.text.encode()
            fits = text[: max(0, len(text) + left - len(ELLIPSIS.encode()))]
            kept.append(Line(line.label, fits.decode(errors="ignore").rstrip() + ELLIPSIS))
            break
        kept.append(line)
    return replace(note, lines=tuple(kept), how=EXTRACT if note.how == EXTRACT else PART)


def _note(number: int, c: Conversation, m: Material, tz: ZoneInfo) -> Note:
    """A conversation as a note: its local time, with weekday and date where it was not held on the recap's date."""
    start = held_at(c).astimezone(tz)
    when = f"{start:%H:%M}" if start.date() == m.date else f"{start:%A %Y-%m-%d %H:%M}"
    title = clean(c.title[: 4 * MAX_TITLE])[:MAX_TITLE]
    lines = [Line("", f"[{number}] {when}, {c.minutes:.0f} min. {title}".rstrip())]
    lines += [Line(turn.speaker, clean(turn.text)) for turn in c.lines]
    lines += [Line("- event", clean(event[: 4 * MAX_ITEM])[:MAX_ITEM]) for event in c.events[:MAX_ITEMS]]
    for item in c.action_items[:MAX_ITEMS]:
        text = clean(item.description[: 4 * MAX_ITEM])[:MAX_ITEM]
        lines.append(Line("- done" if item.completed else "- to do", text))
    return Note(number, tuple(line for line in lines if line.text), PART if c.cut else WHOLE)
