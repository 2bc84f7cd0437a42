"""Recaps without an LLM: the extract, over sentences that a kept library finds in some 300 languages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import sentencex

from notifications.domain.model import Draft
from notifications.domain.pace import Budget
from notifications.domain.recap.extract import extract
from notifications.domain.recap.material import Material

ANY_LANGUAGE = "en"  # its rules serve what has none of its own


class OfflineSummarizer:
    """The Summarizer port without a server. `calls` stays 0: no LLM is asked."""

    where = "The offline summarizer"

    def __init__(self) -> None:
        self.calls = 0
        self.budgets: Mapping[str, Budget] = {}  # nobody limits it
        self.tokens = 0

    async def summarize(self, material: Material, deadline: timedelta) -> Draft:
        """The day's own sentences, chosen in a thread: the other users go on meanwhile."""
        return await asyncio.to_thread(extract, material, sentences)

    async def check(self) -> str:
        """It always serves."""
        return ""

    async def aclose(self) -> None:
        """Nothing is open."""


def sentences(text: str, language: str | None) -> list[str]:
    """The text cut into sentences by the rules of its language."""
    return [sentence.strip() for sentence in sentencex.segment((language or ANY_LANGUAGE).split("-")[0], text)]
