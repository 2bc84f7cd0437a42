"""What of a day is asked, and in how many calls: every conversation enters, by a budget of bytes.

By bytes, since a byte-level tokenizer never makes more tokens than bytes; BYTES_A_TOKEN is the worst that was measured.
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

BYTES_A_TOKEN = 2.3  # of emoji; seven languages have 3.2 to 7.7
MAX_TITLE, MAX_ITEM, MAX_ITEMS = 200, 400, 100
LEAST = 120  # bytes of a note: below that it would be nothing but its number, so a day of very many takes more room
LINE_BYTES = 7  # the marker, a space and the line's end
DIGEST = 240  # bytes of a conversation that enters as its extract
ELLIPSIS = "…"
WHOLE, PART, EXTRACT = "whole", "part", "extract"
NOTHING_COVERED: Mapping[str, int] = {WHOLE: 0, PART: 0, EXTRACT: 0}

Digest = Callable[[Conversation], str]  # a conversation's own words in a sentence or two


class Line(NamedTuple):
    """One line of a note. `label`: who says it, or what it is; empty where that is not known."""

    label: str
    text: str

    def __str__(self) -> str:
        """As it is sent."""
        return f"{self.label}: {self.text}" if self.label else self.text


@dataclass(frozen=True)
class Note:
    """One conversation as it is asked about. `number`: from 1, in the material's order."""

    number: int
    lines: tuple[Line, ...]
    how: str = WHOLE

    @cached_property
    def size(self) -> int:
        """Its bytes, with what marks each line."""
        return sum(len(str(line).encode()) + LINE_BYTES for line in self.lines)


@dataclass(frozen=True, slots=True)
class Plan:
    """The notes of each call. One part is asked for the recap itself; several for what is in them, and then joined."""

    parts: tuple[tuple[Note, ...], ...]

    @property
    def coverage(self) -> Mapping[str, int]:
        """How many conversations enter whole, in part, and as their extract."""
        return {**NOTHING_COVERED, **Counter(note.how for part in self.parts for note in part)}


def plan(m: Material, max_tokens: int, max_parts: int, digest: Digest) -> Plan:
    """A note for each conversation; parts of equal size where one call does not hold them all.

    Beyond `max_parts` the shortest conversations enter as their extract; then the longest are cut.
    """
    tz = zone(m.zone)
    room = int(max_tokens * BYTES_A_TOKEN)
    notes = [_cut(_note(number, c, m, tz), room) for number, c in enumerate(m.conversations, start=1)]
    capacity = room * max_parts
    digested = cache(lambda number: clean(digest(m.conversations[number - 1])))
    while True:
        fitting = _fitted(notes, digested, capacity)
        parts = _split(fitting, room, max_parts)
        if all(_size(part) <= room for part in parts) or capacity <= LEAST * len(notes):
            return Plan(parts)
        capacity = capacity * 9 // 10  # what remains of each part, since conversations are not torn


def halves(part: Sequence[Note]) -> tuple[tuple[Note, ...], tuple[Note, ...]]:
    """A part that was too long, as two; a note that stands alone loses its second half."""
    if len(part) > 1:
        first, second = _split(part, 0, 2)
        return first, second
    return (_cut(part[0], part[0].size // 2),), ()


def _size(notes: Sequence[Note]) -> int:
    return sum(note.size for note in notes)


def _fitted(notes: Sequence[Note], digested: Callable[[int], str], capacity: int) -> list[Note]:
    """The notes, shortened where all together are over the capacity."""
    fitting = list(notes)
    over = _size(fitting) - capacity
    for note in sorted(notes, key=lambda one: one.size):
        if over <= 0:
            return fitting
        if note.size > DIGEST + LINE_BYTES * 2:
            words = digested(note.number)
            lines = (note.lines[0], Line("", words)) if words else note.lines[:1]
            short = _cut(Note(note.number, lines, EXTRACT), DIGEST)
            short = replace(short, how=EXTRACT)
            fitting[note.number - 1] = short
            over -= note.size - short.size
    if over <= 0:
        return fitting
    most = max(LEAST, level([note.size for note in fitting], capacity))
    return [_cut(note, most) for note in fitting]


def _split(notes: Sequence[Note], room: int, most: int) -> tuple[tuple[Note, ...], ...]:
    """Into as few parts of equal size as hold them, `most` at most; conversations are not torn."""
    whole = _size(notes)
    least = min(most, max(1, math.ceil(whole / room))) if room else most
    for count in range(least, most + 1):
        parts = _equal(notes, count)
        if all(_size(part) <= room for part in parts):
            return parts
    return _equal(notes, min(most, len(notes)))


def _equal(notes: Sequence[Note], count: int) -> tuple[tuple[Note, ...], ...]:
    parts: list[list[Note]] = [[]]
    left, filled = _size(notes), 0
    for place, note in enumerate(notes):
        share = left / (count - len(parts) + 1)
        must = len(notes) - place <= count - len(parts)  # so that no part is empty
        if parts[-1] and len(parts) < count and (must or filled + note.size / 2 > share):
            left -= filled
            parts.append([])
            filled = 0
        parts[-1].append(note)
        filled += note.size
    return tuple(map(tuple, parts))


def level(sizes: Sequence[int], room: int) -> int:
    """The most that each may have so that all fit: the short ones are whole, the long ones share what is left."""
    left, ascending = room, sorted(sizes)
    for place, size in enumerate(ascending):
        share = left // (len(ascending) - place)
        if size > share:
            return max(0, share)
        left -= size
    return ascending[-1] if ascending else 0


def _cut(note: Note, most: int) -> Note:
    """The note in so many bytes: its first lines, and of the last of them what fits."""
    if note.size <= most:
        return note
    left, kept = most, list[Line]()
    for line in note.lines:
        left -= len(str(line).encode()) + LINE_BYTES
        if left < 0:
            whole = line.text.encode()
            fits = whole[: max(0, len(whole) + left - len(ELLIPSIS.encode()))]
            kept.append(Line(line.label, fits.decode(errors="ignore").rstrip() + ELLIPSIS))
            break
        kept.append(line)
    return replace(note, lines=tuple(kept), how=EXTRACT if note.how == EXTRACT else PART)


def _note(number: int, c: Conversation, m: Material, tz: ZoneInfo) -> Note:
    """The user's own time of day; weekday and date too where it was not held on the day that the recap is about."""
    begun = held_at(c).astimezone(tz)
    when = f"{begun:%H:%M}" if begun.date() == m.date else f"{begun:%A %Y-%m-%d %H:%M}"
    title = clean(c.title[: 4 * MAX_TITLE])[:MAX_TITLE]
    lines = [Line("", f"[{number}] {when}, {c.minutes:.0f} min. {title}".rstrip())]
    lines += [Line(turn.speaker, clean(turn.text)) for turn in c.lines]
    lines += [Line("- event", clean(event[: 4 * MAX_ITEM])[:MAX_ITEM]) for event in c.events[:MAX_ITEMS]]
    for item in c.action_items[:MAX_ITEMS]:
        words = clean(item.description[: 4 * MAX_ITEM])[:MAX_ITEM]
        lines.append(Line("- done" if item.completed else "- to do", words))
    return Note(number, tuple(line for line in lines if line.text), PART if c.cut else WHOLE)
