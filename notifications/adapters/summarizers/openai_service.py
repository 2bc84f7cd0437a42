"""What is known of the model itself: its last day, and a recap to try it with."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

from pydantic import BaseModel

from notifications.domain.model import Conversation
from notifications.domain.question import Question
from notifications.recap.answer import read_answer
from notifications.recap.evidence import Evidence
from notifications.recap.material import Material
from notifications.recap.plan import plan
from notifications.recap.prompt import recap_question

FORMS = {"json_schema": "by the schema", "json_object": "in JSON", "plain": "in plain text"}
AT = datetime(2026, 1, 5, 9, tzinfo=UTC)
TRIAL_WORDS = "Mia and Noah met at the harbour to look at boats. They chose the blue one, and will sail on Sunday."
TRIAL = Material(AT.date(), (Conversation("trial", AT, overview=TRIAL_WORDS, language="en"),), "en")

[TRIAL_NOTES] = plan(TRIAL, 60_000, 1, lambda c: "").parts


class Described(BaseModel):
    """The part of GET /v1/models/{id} that is read."""

    shutdown_date: str | None = None

    @property
    def last_day(self) -> date | None:
        """The date; None for what is none."""
        try:
            return date.fromisoformat(self.shutdown_date or "")
        except ValueError:
            return None


def trial() -> Question:
    """The question for the recap of two sentences of ours."""
    return recap_question(TRIAL, TRIAL_NOTES)


def form_of(text: str, question: Question, asked: str) -> str:
    """In which form the answer to `trial` came. Raises ItemFault where it can't be read as a recap.

    What of it would stand is not asked: a run asks once more, or sends the extract.
    """
    read_answer(text, Evidence(TRIAL, TRIAL_NOTES, question.marker))
    try:
        json.loads(text)
    except ValueError:
        return "with JSON amid other words"
    return FORMS[asked]
