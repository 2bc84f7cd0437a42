"""A recap of two sentences, to check whether an LLM can write one."""

from __future__ import annotations

from datetime import UTC, datetime

from notifications.domain.model import Conversation
from notifications.domain.question import Question
from notifications.recap.answer import read_answer
from notifications.recap.evidence import Evidence
from notifications.recap.material import Material
from notifications.recap.plan import plan
from notifications.recap.prompt import recap_question

AT = datetime(2026, 1, 5, 9, tzinfo=UTC)
TEXT = "Mia and Noah met at the harbour to look at boats. They chose the blue one, and will sail on Sunday."
MATERIAL = Material(AT.date(), (Conversation("trial", AT, overview=TEXT, language="en"),), "en")


class Trial:
    """The question of the check, and how its answer is read."""

    def __init__(self) -> None:
        [self._notes] = plan(MATERIAL, 60_000, 1, lambda conversation: "").parts
        self.question: Question = recap_question(MATERIAL, self._notes)

    def read(self, text: str) -> None:
        """Raise ItemFault if the answer can't be read as a recap."""
        read_answer(text, Evidence(MATERIAL, self._notes, self.question.marker))
