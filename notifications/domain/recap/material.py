"""What a recap is made of: which conversations count, and whether they say enough."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from notifications.domain.model import Conversation

MAX_READ = 1_000  # conversations of a window that a store hands over, the newest: more is no person's day
MAX_TRANSCRIPT_CHARS = 4_000
CHARACTERS_A_WORD = 2  # in scripts that write no spaces
WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


@dataclass(frozen=True, slots=True)
class Material:
    """What a summarizer gets for one user and day: conversations in the order in which they were held."""

    date: date
    conversations: tuple[Conversation, ...]
    language: str | None  # the user's, else the conversations' own
    zone: str = "UTC"


def material(
    day: date, conversations: Sequence[Conversation], language: str | None, zone: str = "UTC", min_words: int = 0
) -> Material | None:
    """The conversations that say something; None where the day has nothing to say.

    A day has, with an action item, an event, or `min_words` words said. Titles alone are no words said.
    """
    telling = [c for c in conversations if c.tells_something]
    if not telling or not _says_enough(telling, min_words):
        return None
    spoken = Counter(c.language for c in telling if c.language)
    own = spoken.most_common(1)[0][0] if spoken else None
    return Material(day, tuple(sorted(telling, key=held_at)), language or own, zone)


def held_at(c: Conversation) -> datetime:
    """When it was held, as far as that is known."""
    return c.started_at or c.created_at


def _says_enough(conversations: Sequence[Conversation], min_words: int) -> bool:
    if any(c.action_items or c.events for c in conversations):
        return True
    said = 0
    for c in conversations:
        said += words_in(c.overview) + words_in(c.transcript)
        if said >= min_words:
            return True
    return False


def words_in(text: str) -> int:
    """How many words are said; where a script writes no spaces, two characters count as one."""
    unspaced = sum(map(writes_no_spaces, text))
    if not unspaced:
        return len(text.split())
    spaced = "".join(" " if writes_no_spaces(letter) else letter for letter in text)
    return len(spaced.split()) + unspaced // CHARACTERS_A_WORD


def writes_no_spaces(letter: str) -> bool:
    """Whether its script puts no space between words."""
    return letter > "\u0dff" and unicodedata.name(letter, "").startswith(WITHOUT_SPACES)
