"""What a recap is made of: which conversations count, and whether they say enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from notifications.domain.language.steering import without_steering
from notifications.domain.language.words import words_in
from notifications.domain.model import Conversation

MAX_READ = 5_000  # conversations of a window that a store hands over, the newest: more is no person's day
MAX_TEXT = 150_000  # characters of one conversation that are looked at: some three hours of talk


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
    What was said to steer a summarizer is left out here, before anybody reads it.
    """
    telling = [c for c in map(_not_steering, conversations) if c.tells_something]
    if not telling or not _says_enough(telling, min_words):
        return None
    spoken = Counter(c.language for c in telling if c.language)
    own = spoken.most_common(1)[0][0] if spoken else None
    return Material(day, tuple(sorted(telling, key=held_at)), language or own, zone)


def _not_steering(c: Conversation) -> Conversation:
    (title, _), (overview, cut), (transcript, off) = map(without_steering, (c.title, c.overview, c.transcript))
    tasks = tuple(item for item in c.action_items if not without_steering(item.description)[1])
    events = tuple(event for event in c.events if not without_steering(event)[1])
    left_out = cut or off or len(tasks) < len(c.action_items) or len(events) < len(c.events)
    if not left_out and title == c.title:
        return c
    return replace(
        c,
        title=title,
        overview=overview,
        transcript=transcript,
        action_items=tasks,
        events=events,
        cut=c.cut or left_out,
    )


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
