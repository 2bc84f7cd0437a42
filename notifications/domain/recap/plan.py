"""What of a day is asked: every conversation enters, whole or cut, by a budget of bytes.

By bytes, since a byte-level tokenizer never makes more tokens than bytes; BYTES_A_TOKEN is the worst that was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from notifications.domain.model import Conversation
from notifications.domain.recap.material import Material, held_at
from notifications.domain.schedule import zone
from notifications.domain.text import clean

BYTES_A_TOKEN = 2.3  # of emoji; seven languages have 3.2 to 7.7
MAX_TITLE, MAX_ITEM, MAX_ITEMS = 200, 400, 100
MAX_TEXT = 150_000  # characters of one conversation that are looked at
LEAST = 120  # bytes of a note: below that it would be nothing but its number, so a day of very many takes more room
BETWEEN = 2  # bytes between two notes
ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Plan:
    """The notes of one call, and how many conversations stand in them whole and in part."""

    notes: tuple[str, ...]
    coverage: Mapping[str, int]


def plan(m: Material, max_tokens: int) -> Plan:
    """A note for each conversation, numbered from 1 in the material's order; long ones are cut where all don't fit."""
    tz = zone(m.zone)
    whole = [_note(number, c, m, tz) for number, c in enumerate(m.conversations, start=1)]
    room = int(max_tokens * BYTES_A_TOKEN) - BETWEEN * len(whole)
    most = max(LEAST, level([len(note.encode()) for note in whole], room))
    notes = tuple(_cut(note, most) for note in whole)
    part = sum(cut != note for cut, note in zip(notes, whole, strict=True))
    return Plan(notes, {"whole": len(whole) - part, "part": part, "extract": 0})


def level(sizes: Sequence[int], room: int) -> int:
    """The most that each may have so that all fit: the short ones are whole, the long ones share what is left."""
    left, ascending = room, sorted(sizes)
    for place, size in enumerate(ascending):
        share = left // (len(ascending) - place)
        if size > share:
            return max(0, share)
        left -= size
    return ascending[-1] if ascending else 0


def _cut(note: str, most: int) -> str:
    if len(note.encode()) <= most:
        return note
    return note.encode()[: max(0, most - len(ELLIPSIS.encode()))].decode(errors="ignore").rstrip() + ELLIPSIS


def _note(number: int, c: Conversation, m: Material, tz: ZoneInfo) -> str:
    """The user's own time of day; weekday and date too where it was held before the day that the recap is about."""
    begun = held_at(c).astimezone(tz)
    when = f"{begun:%H:%M}" if begun.date() >= m.date else f"{begun:%A %Y-%m-%d %H:%M}"
    lines = [f"[{number}] {when}, {c.minutes:.0f} min. {clean(c.title[: 4 * MAX_TITLE])[:MAX_TITLE]}".rstrip()]
    lines += [clean(line) for line in (c.overview or c.transcript)[:MAX_TEXT].splitlines()]
    lines += [f"- event: {clean(event[: 4 * MAX_ITEM])[:MAX_ITEM]}" for event in c.events[:MAX_ITEMS]]
    tasks = [
        (item.completed, clean(item.description[: 4 * MAX_ITEM])[:MAX_ITEM]) for item in c.action_items[:MAX_ITEMS]
    ]
    lines += [f"- {'done' if done else 'to do'}: {words}" for done, words in tasks]
    return "\n".join(line for line in lines if line)
