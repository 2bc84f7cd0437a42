"""Recaps without an LLM: extracted from the day's own titles and overviews, and marked as such."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

from notifications.domain.model import Conversation, Draft, Highlight
from notifications.domain.pace import Budget
from notifications.domain.push import cut
from notifications.domain.recap import MAX_HIGHLIGHTS, MAX_LIST, Material

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
            headline=cut(_headline(by_weight), HEADLINE_LENGTH),
            overview=" ".join(leads[:MAX_LIST]),
            day_emoji=EMOJI.get(categories.most_common(1)[0][0], ANY_EMOJI) if categories else ANY_EMOJI,
            highlights=tuple(
                Highlight(c.title or cut(lead, HEADLINE_LENGTH), EMOJI.get(c.category, ANY_EMOJI), lead, (c.id,))
                for c, lead in list(zip(by_weight, leads, strict=True))[:MAX_HIGHLIGHTS]
            ),
            unresolved_questions=tuple(s for s in sentences if s.endswith("?"))[:MAX_LIST],
            decisions_made=tuple(s for s in sentences if DECISION.search(s))[:MAX_LIST],
            knowledge_nuggets=tuple(s for s in sentences if FIGURE.search(s))[:MAX_LIST],
            metadata={"model": "extractive", "offline": True},
        )

    async def check(self) -> str:
        """It always serves."""
        return ""

    async def aclose(self) -> None:
        """Nothing is open."""


def _words(c: Conversation) -> str:
    """What a conversation says; there is always something, or it would not be in the material."""
    return c.overview or c.transcript or ". ".join((*c.events, *(item.description for item in c.action_items))) + "."


def _headline(by_weight: list[Conversation]) -> str:
    titles = [c.title for c in by_weight if c.title][:2]
    return " and ".join(titles) if titles else _words(by_weight[0])
