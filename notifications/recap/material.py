"""The material of a recap: which conversations count, and whether they say enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from notifications.domain.model import WEARER, Conversation
from notifications.domain.text import plain
from notifications.recap.words import count_words

MAX_LOOK = 400  # characters of a thing to do or an event, to see whether there are words in it
LEAST_TURN = 3  # words: a shorter turn does not count


@dataclass(frozen=True, slots=True)
class Material:
    """What a summarizer gets for one user and day: conversations in the order in which they were held."""

    date: date
    conversations: tuple[Conversation, ...]
    language: str | None  # the user's, else the conversations' own
    zone: str = "UTC"

    @property
    def size(self) -> int:
        """Characters of all conversations."""
        return sum(c.size for c in self.conversations)

    @property
    def has_transcript(self) -> bool:
        """Whether there is a transcript of any conversation."""
        return any(c.turns for c in self.conversations)

    @property
    def wearer_is_known(self) -> bool:
        """Whether any transcript says which speaker the user is."""
        return any(turn.speaker == WEARER for c in self.conversations for turn in c.turns)


def material(
    day: date, conversations: Sequence[Conversation], language: str | None, zone: str = "UTC", min_words: int = 0
) -> Material | None:
    """The conversations that say something; None where the day says too little.

    Enough is one action item or event, or `min_words` words in turns of three or more. Titles do not count, and no
    conversation is left out for its wording.
    """
    used = [c for c in conversations if c.has_content]
    if not _says_enough(used, min_words):
        return None
    languages = Counter(c.language for c in used if c.language).most_common(1)
    return Material(day, tuple(sorted(used, key=held_at)), language or (languages[0][0] if languages else None), zone)


def held_at(c: Conversation) -> datetime:
    """When it began, or else was created."""
    return c.started_at or c.created_at


def _says_enough(conversations: Sequence[Conversation], min_words: int) -> bool:
    planned = (text for c in conversations for text in (*c.events, *(item.description for item in c.action_items)))
    if any(plain(text, MAX_LOOK) for text in planned):
        return True
    words = 0
    for c in conversations:
        words += count_words(c.overview)
        words += sum(count for turn in c.turns if (count := count_words(turn.text)) >= LEAST_TURN)
        if words >= min_words:
            return True
    return False
