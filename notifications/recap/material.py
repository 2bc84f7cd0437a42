"""The material of a recap: the conversations that it is made of, if they say enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from notifications.domain.model import WEARER, ActionItem, Conversation
from notifications.domain.plain import plain
from notifications.recap.words import count_words

MAX_ITEM_READ = 400  # characters of a task or an event that are searched for words
MIN_TURN_WORDS = 3  # a shorter turn does not count


@dataclass(frozen=True, slots=True)
class Material:
    """What a summarizer gets for one user and day: conversations in the order in which they were held."""

    date: date
    conversations: tuple[Conversation, ...]
    language: str | None  # the user's, else that of most conversations
    zone: str = "UTC"

    @property
    def action_items(self) -> tuple[ActionItem, ...]:
        """The action items of all conversations."""
        return tuple(item for conversation in self.conversations for item in conversation.action_items)

    @property
    def size(self) -> int:
        """The sum of the conversations' sizes, about their characters."""
        return sum(conversation.size for conversation in self.conversations)

    @property
    def has_transcript(self) -> bool:
        """Whether there is a transcript of any conversation."""
        return any(conversation.turns for conversation in self.conversations)

    @property
    def wearer_is_known(self) -> bool:
        """Whether any transcript says which speaker the user is."""
        return any(turn.speaker == WEARER for conversation in self.conversations for turn in conversation.turns)


def material(
    day: date, conversations: Sequence[Conversation], language: str | None, zone: str = "UTC", min_words: int = 0
) -> Material | None:
    """The conversations with content; None if the day says too little.

    One action item or event is enough, or `min_words` words in turns of at least three. Titles do not count, and no
    conversation is left out for its wording.
    """
    used = [conversation for conversation in conversations if conversation.has_content]
    if not _says_enough(used, min_words):
        return None
    if not language:
        languages = Counter(conversation.language for conversation in used if conversation.language)
        language = next((tag for tag, _ in languages.most_common(1)), None)
    return Material(day, tuple(sorted(used, key=held_at)), language, zone)


def held_at(conversation: Conversation) -> datetime:
    """When the conversation began, or if that is unknown, when it was created."""
    return conversation.started_at or conversation.created_at


def _says_enough(conversations: Sequence[Conversation], min_words: int) -> bool:
    events = (event for conversation in conversations for event in conversation.events)
    tasks = (item.description for conversation in conversations for item in conversation.action_items)
    if any(plain(text, MAX_ITEM_READ) for text in (*events, *tasks)):
        return True
    word_count = 0
    for conversation in conversations:
        word_count += count_words(conversation.overview)
        word_count += sum(count for turn in conversation.turns if (count := count_words(turn.text)) >= MIN_TURN_WORDS)
        if word_count >= min_words:
            return True
    return False
