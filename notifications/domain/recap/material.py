"""What a recap is made of: which conversations count, how long its parts are, and the document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from notifications.domain.model import ActionItem, Conversation, Draft, Recap
from notifications.domain.text import bounded, plain

MAX_HIGHLIGHTS = 4
MAX_LIST = 3
MAX_READ = 300  # conversations of a window that a store hands over, the newest
MAX_CONVERSATIONS = 100  # the newest of a window; beyond that a prompt only grows
MAX_TRANSCRIPT_CHARS = 4_000
MAX_ACTION_ITEMS, MAX_READ_ITEMS = 50, 500
MAX_OVERVIEW, MAX_TOPIC, MAX_SUMMARY, MAX_LISTED = 1_500, 80, 600, 400  # characters stored


@dataclass(frozen=True, slots=True)
class Material:
    """What a summarizer gets for one user and day."""

    date: date
    conversations: tuple[Conversation, ...]
    language: str | None  # the user's, else the conversations' own


def material(day: date, conversations: Sequence[Conversation], language: str | None) -> Material | None:
    """The conversations that are worth a recap, oldest first; None where the day has nothing to say."""
    worth = [c for c in conversations if c.tells_something][-MAX_CONVERSATIONS:]
    if not worth:
        return None
    spoken = Counter(c.language for c in worth if c.language)
    return Material(day, tuple(worth), language or (spoken.most_common(1)[0][0] if spoken else None))


def _shown(item: ActionItem) -> ActionItem:
    return replace(item, description=bounded(plain(item.description), MAX_LISTED))


def compose(m: Material, draft: Draft, made_at: datetime) -> Recap:
    """The document that is stored: the LLM's words, and the figures and action items from the data."""
    items: list[ActionItem] = [item for c in m.conversations for item in c.action_items]
    return Recap(
        id=m.date.isoformat(),
        date=m.date,
        created_at=made_at,
        draft=draft,
        total_conversations=len(m.conversations),
        total_duration_minutes=round(sum(c.minutes for c in m.conversations)),
        action_items=tuple(dict.fromkeys(_shown(item) for item in items[:MAX_READ_ITEMS]))[:MAX_ACTION_ITEMS],
    )
