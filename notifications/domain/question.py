"""A question to an LLM, as every adapter gets it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ANSWER_TOKENS = 4_000  # enough for 25 sentences with their quotes, which measure 180 to 290 bytes each
AS_JSON = "Answer with one JSON object that follows this JSON schema, and with nothing else:\n"


@dataclass(frozen=True, slots=True)
class Question:
    """One call: instructions that are the same for all users, one user's notes, and the answer's maximum of tokens."""

    name: str
    instructions: str
    schema: Mapping[str, Any]
    notes: str
    marker: str
    answer_tokens: int = ANSWER_TOKENS

    @property
    def instructions_with_schema(self) -> str:
        """For a server that takes the schema only as text."""
        return f"{self.instructions}{AS_JSON}{json.dumps(self.schema, separators=(',', ':'))}\n"
