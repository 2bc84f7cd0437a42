"""Recaps without an LLM: extracted from the day's own titles and overviews, and marked as such."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import islice

from notifications.domain.model import Conversation, Draft, Highlight
from notifications.domain.pace import Budget
from notifications.domain.recap.material import (
    MAX_HIGHLIGHTS,
    MAX_LIST,
    MAX_LISTED,
    MAX_OVERVIEW,
    MAX_SUMMARY,
    MAX_TOPIC,
    Material,
)
from notifications.domain.text import bounded, plain

SENTENCE = re.compile(r"(?<=[.!?])\s+")
DECISION = re.compile(r"\b(agreed|decided|settled|chose|approved|will)\b", re.IGNORECASE)
FIGURE = re.compile(r"\d")
EMOJI = {
    "work": "💼",
    "business": "💼",
    "technology": "💻",
    "education": "📚",
    "health": "🏃",
    "family": "🏡",
    "social": "💬",
    "travel": "✈️",
    "finance": "💶",
    "food": "🍲",
}
ANY_EMOJI = "🗓️"
HEADLINE_LENGTH = 60


class OfflineSummarizer:
    """The Summarizer port without a server. `calls` stays 0: no LLM is asked."""

    where = "The offline summarizer"

    def __init__(self) -> None:
        self.calls = 0
        self.budgets: Mapping[str, Budget] = {}  # nobody limits it
        self.tokens = 0

    async def summarize(self, material: Material, deadline: timedelta) -> Draft:
        """A readable recap: the longest conversations lead."""
        by_weight = sorted(material.conversations, key=lambda c: (-c.minutes, c.created_at))
        sentences = [sentence for c in by_weight for sentence in SENTENCE.split(_words(c)) if sentence]
        leads = [SENTENCE.split(_words(c))[0] for c in by_weight]
        categories = Counter(c.category for c in by_weight if c.category)
        return Draft(
            headline=bounded(_headline(by_weight), HEADLINE_LENGTH),
            overview=bounded(" ".join(leads[:MAX_LIST]), MAX_OVERVIEW),
            day_emoji=EMOJI.get(categories.most_common(1)[0][0], ANY_EMOJI) if categories else ANY_EMOJI,
            highlights=tuple(
                Highlight(
                    bounded(plain(c.title) or lead, MAX_TOPIC),
                    EMOJI.get(c.category, ANY_EMOJI),
                    bounded(lead, MAX_SUMMARY),
                    (c.id,),
                )
                for c, lead in list(zip(by_weight, leads, strict=True))[:MAX_HIGHLIGHTS]
            ),
            unresolved_questions=_listed(s for s in sentences if s.endswith("?")),
            decisions_made=_listed(s for s in sentences if DECISION.search(s)),
            knowledge_nuggets=_listed(s for s in sentences if FIGURE.search(s)),
            metadata={"model": "extractive", "offline": True},
        )

    async def check(self) -> str:
        """It always serves."""
        return ""

    async def aclose(self) -> None:
        """Nothing is open."""


def _listed(sentences: Iterable[str]) -> tuple[str, ...]:
    return tuple(bounded(sentence, MAX_LISTED) for sentence in islice(sentences, MAX_LIST))


def _words(c: Conversation) -> str:
    """What a conversation says, cleaned: other people's words go to a phone here too."""
    said = plain(c.overview or c.transcript)
    others = (plain(one) for one in (*c.events, *(item.description for item in c.action_items)))
    return said or ". ".join(one for one in others if one) + "."


def _headline(by_weight: list[Conversation]) -> str:
    titles = [title for c in by_weight if (title := plain(c.title))][:2]
    return " and ".join(titles) if titles else _words(by_weight[0])
