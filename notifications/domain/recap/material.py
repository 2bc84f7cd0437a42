"""What a recap is made of: which conversations count, and whether they say enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from notifications.domain.language.steering import without_steering
from notifications.domain.language.words import words_in
from notifications.domain.model import Conversation
from notifications.domain.text import plain

MAX_LOOK = 400  # characters of a thing to do, to see whether there is any


@dataclass(frozen=True, slots=True)
class Material:
    """What a summarizer gets for one user and day: conversations in the order in which they were held."""

    date: date
    conversations: tuple[Conversation, ...]
    language: str | None  # the user's, else the conversations' own
    zone: str = "UTC"
    left_out: str = ""  # what was said to steer a summarizer

    @property
    def size(self) -> int:
        """Characters of all conversations, and of what was left out of them."""
        return sum(c.size for c in self.conversations) + len(self.left_out)


def material(
    day: date, conversations: Sequence[Conversation], language: str | None, zone: str = "UTC", min_words: int = 0
) -> Material | None:
    """The conversations that say something; None where the day has nothing to say.

    A day has, with an action item, an event, or `min_words` words said. Titles alone are no words said.
    What was said to steer a summarizer is left out here, before anybody reads it.
    """
    read = [_not_steering(c) for c in conversations]
    telling = [c for c, _ in read if c.tells_something]
    if not telling or not _says_enough(telling, min_words):
        return None
    spoken = Counter(c.language for c in telling if c.language)
    own = spoken.most_common(1)[0][0] if spoken else None
    left_out = "\n".join(words for _, words in read if words)
    return Material(day, tuple(sorted(telling, key=held_at)), language or own, zone, left_out)


def _not_steering(c: Conversation) -> tuple[Conversation, str]:
    """The conversation without what speaks to a summarizer, and that."""
    title, overview, transcript = map(without_steering, (c.title, c.overview, c.transcript))
    tasks = [(item, without_steering(item.description)[1]) for item in c.action_items]
    events = [(event, without_steering(event)[1]) for event in c.events]
    said = [title[1], overview[1], transcript[1], *(words for _, words in tasks), *(words for _, words in events)]
    left_out = "\n".join(words for words in said if words)
    if not left_out:
        return c, ""
    changed = replace(
        c,
        title=title[0],
        overview=overview[0],
        transcript=transcript[0],
        action_items=tuple(item for item, words in tasks if not words),
        events=tuple(event for event, words in events if not words),
        cut=True,
    )
    return changed, left_out


def held_at(c: Conversation) -> datetime:
    """When it was held, as far as that is known."""
    return c.started_at or c.created_at


def _planned(c: Conversation) -> Iterable[str]:
    return (*c.events, *(item.description for item in c.action_items))


def _says_enough(conversations: Sequence[Conversation], min_words: int) -> bool:
    if any(plain(words, MAX_LOOK) for c in conversations for words in _planned(c)):
        return True
    said = 0
    for c in conversations:
        said += words_in(c.overview) + words_in(c.transcript)
        if said >= min_words:
            return True
    return False
