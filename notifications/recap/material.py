"""What a recap is made of: which conversations count, and whether they say enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from notifications.domain.model import WEARER, Conversation
from notifications.domain.text import plain
from notifications.recap.words import words_in

MAX_LOOK = 400  # characters of a thing to do, to see whether there is any
LEAST_TURN = 3  # words: a shorter turn is no telling


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
    def spoken(self) -> bool:
        """Whether something of it is known as it was said, not only as it was written down."""
        return any(c.turns for c in self.conversations)

    @property
    def knows_the_wearer(self) -> bool:
        """Whether the data says in any conversation which of the speakers the user is."""
        return any(turn.speaker == WEARER for c in self.conversations for turn in c.turns)


def material(
    day: date, conversations: Sequence[Conversation], language: str | None, zone: str = "UTC", min_words: int = 0
) -> Material | None:
    """The conversations that say something; None where the day has nothing to say.

    A day has, with an action item, an event, or `min_words` words said in turns of three and more. Titles alone are no
    words said. Nothing is left out for its wording.
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


def _planned(c: Conversation) -> Iterable[str]:
    return (*c.events, *(item.description for item in c.action_items))


def _says_enough(conversations: Sequence[Conversation], min_words: int) -> bool:
    if any(plain(words, MAX_LOOK) for c in conversations for words in _planned(c)):
        return True
    said = 0
    for c in conversations:
        said += words_in(c.overview)
        said += sum(count for turn in c.turns if (count := words_in(turn.text)) >= LEAST_TURN)
        if said >= min_words:
            return True
    return False
