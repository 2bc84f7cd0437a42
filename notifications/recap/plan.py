"""The plan of a day's LLM calls: a note for each conversation, in as few parts as possible.

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

from notifications.domain.model import Cited, Conversation
from notifications.domain.schedule import zone
from notifications.domain.text import clean
from notifications.recap.material import Material, held_at

BYTES_A_TOKEN = 2.3  # measured for emoji, the worst case; seven languages have 3.2 to 7.7
MAX_TITLE, MAX_ITEM = 200, 400  # characters
MAX_ITEMS = 100  # events, and tasks, of a conversation
MIN_NOTE = 120  # bytes; a shorter note would have little more than its number
LINE_BYTES = 7  # sent with each line: the prompt's marker, a space and a line break
DIGEST_BYTES = 240  # a note that is shortened to the conversation's digest
FACT_OVERHEAD_BYTES = 40  # of one fact's markup in the notes of a join
NUMBER_BYTES = 8  # of one cited conversation's number in the notes of a join
ELLIPSIS = "…"
# How a note covers its conversation. The values are stored with a draft: don't rename them.
WHOLE, CUT, DIGEST = "whole", "part", "extract"
NOTHING_COVERED: Mapping[str, int] = {WHOLE: 0, CUT: 0, DIGEST: 0}

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
    """One conversation as it is sent to the LLM. `number`: from 1, in the material's order."""

    number: int
    lines: tuple[Line, ...]
    coverage: str = WHOLE

    @cached_property
    def size(self) -> int:
        """Its bytes as it is sent, with LINE_BYTES for each line."""
        return sum(len(str(line).encode()) + LINE_BYTES for line in self.lines)


@dataclass(frozen=True, slots=True)
class Plan:
    """The notes of each call.

    With one part, its call asks for the recap. With more, each call asks for facts, and one more call joins them.
    """

    parts: tuple[tuple[Note, ...], ...]

    @property
    def coverage(self) -> Mapping[str, int]:
        """How many conversations are sent whole, in part, and as their digest."""
        return {**NOTHING_COVERED, **Counter(note.coverage for part in self.parts for note in part)}


def plan(material: Material, max_tokens: int, max_parts: int, digest: Digest) -> Plan:
    """A note for each conversation, in parts of equal size if they don't fit in one call.

    If they don't fit in `max_parts` calls, the shortest conversations are sent as their digest; then the longest are
    cut. If MIN_NOTE bytes of each are still too much, the parts are larger than a call.
    """
    tz = zone(material.zone)
    room = int(max_tokens * BYTES_A_TOKEN)
    notes = [
        _cut(_note(number, conversation, material, tz), room)
        for number, conversation in enumerate(material.conversations, start=1)
    ]
    capacity = room * max_parts
    digest_of = cache(lambda number: clean(digest(material.conversations[number - 1])))
    while True:
        fitting = _shorten(notes, digest_of, capacity)
        parts = _divide(fitting, room, max_parts)
        if all(_size(part) <= room for part in parts) or capacity <= MIN_NOTE * len(notes):
            return Plan(parts)
        capacity = capacity * 9 // 10  # conversations are not divided, so the parts can't be filled completely


def halves(part: Sequence[Note]) -> tuple[tuple[Note, ...], tuple[Note, ...]]:
    """Divide a part that was too long in two; a single note loses its second half."""
    if len(part) > 1:
        first, second = _divide_equally(part, 2)
        return first, second
    return (_cut(part[0], part[0].size // 2),), ()


def _size(notes: Sequence[Note]) -> int:
    return sum(note.size for note in notes)


def _shorten(notes: Sequence[Note], digest_of: Callable[[int], str], capacity: int) -> list[Note]:
    """Shorten the notes to `capacity` bytes in all if they are larger."""
    fitting = list(notes)
    excess = _size(fitting) - capacity
    for note in sorted(notes, key=lambda note: note.size):
        if excess > 0 and note.size > DIGEST_BYTES + LINE_BYTES * 2:
            text = digest_of(note.number)
            lines = (note.lines[0], Line("", text)) if text else note.lines[:1]
            short = _cut(Note(note.number, lines, DIGEST), DIGEST_BYTES)
            fitting[note.number - 1] = short
            excess -= note.size - short.size
    if excess > 0:
        max_size = max(MIN_NOTE, level([note.size for note in fitting], capacity))
        fitting = [_cut(note, max_size) for note in fitting]
    return fitting


def _divide(notes: Sequence[Note], room: int, max_parts: int) -> tuple[tuple[Note, ...], ...]:
    """Divide the notes in as few parts of equal size as fit; no note is divided.

    If `max_parts` are too few, the parts are larger than `room`.
    """
    for count in range(max(1, math.ceil(_size(notes) / room)), max_parts + 1):
        parts = _divide_equally(notes, count)
        if all(_size(part) <= room for part in parts):
            return parts
    return _divide_equally(notes, min(max_parts, len(notes)))


def _divide_equally(notes: Sequence[Note], count: int) -> tuple[tuple[Note, ...], ...]:
    parts: list[list[Note]] = [[]]
    bytes_left, filled = _size(notes), 0
    for index, note in enumerate(notes):
        share = bytes_left / (count - len(parts) + 1)
        needs_part = len(notes) - index <= count - len(parts)  # else a later part would be empty
        if parts[-1] and len(parts) < count and (needs_part or filled + note.size / 2 > share):
            bytes_left -= filled
            parts.append([])
            filled = 0
        parts[-1].append(note)
        filled += note.size
    return tuple(map(tuple, parts))


def level(sizes: Sequence[int], room: int) -> int:
    """The largest size to which each can be cut so that all fit: short ones stay whole, long ones share the rest."""
    bytes_left, ascending = room, sorted(sizes)
    for index, size in enumerate(ascending):
        share = bytes_left // (len(ascending) - index)
        if size > share:
            return max(0, share)
        bytes_left -= size
    return ascending[-1] if ascending else 0


def _cut(note: Note, max_size: int) -> Note:
    """The note's first lines in that many bytes, the last of them cut."""
    if note.size <= max_size:
        return note
    bytes_left = max_size
    lines: list[Line] = []
    for line in note.lines:
        bytes_left -= len(str(line).encode()) + LINE_BYTES
        if bytes_left < 0:
            text = line.text.encode()
            head = text[: max(0, len(text) + bytes_left - len(ELLIPSIS.encode()))]
            lines.append(Line(line.label, head.decode(errors="ignore").rstrip() + ELLIPSIS))
            break
        lines.append(line)
    return replace(note, lines=tuple(lines), coverage=DIGEST if note.coverage == DIGEST else CUT)


def _note(number: int, conversation: Conversation, material: Material, tz: ZoneInfo) -> Note:
    """A conversation as a note, with its local time; also weekday and date if they are not the recap's."""
    start = held_at(conversation).astimezone(tz)
    when = f"{start:%H:%M}" if start.date() == material.date else f"{start:%A %Y-%m-%d %H:%M}"
    # clean() shortens a text: four times its length is enough to read.
    title = clean(conversation.title[: 4 * MAX_TITLE])[:MAX_TITLE]
    lines = [Line("", f"[{number}] {when}, {conversation.minutes:.0f} min. {title}".rstrip())]
    lines += [Line(turn.speaker, clean(turn.text)) for turn in conversation.lines]
    lines += [Line("- event", clean(event[: 4 * MAX_ITEM])[:MAX_ITEM]) for event in conversation.events[:MAX_ITEMS]]
    for item in conversation.action_items[:MAX_ITEMS]:
        text = clean(item.description[: 4 * MAX_ITEM])[:MAX_ITEM]
        lines.append(Line("- done" if item.completed else "- to do", text))
    return Note(number, tuple(line for line in lines if line.text), CUT if conversation.cut else WHOLE)


def fit_facts(facts: Sequence[Cited], max_bytes: int) -> list[Cited]:
    """As many facts as one call holds, chosen evenly over the day."""
    size = sum(
        len(f"{fact.text}{fact.quote}".encode()) + NUMBER_BYTES * len(fact.conversation_ids) + FACT_OVERHEAD_BYTES
        for fact in facts
    )
    if size <= max_bytes:
        return list(facts)
    count = max(1, len(facts) * max_bytes // size)
    return [facts[index * len(facts) // count] for index in range(count)]
