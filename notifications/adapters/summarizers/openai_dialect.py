"""What this server takes of the chat completions API: found out once a run, from what it refuses."""

from __future__ import annotations

import re
from typing import Any

import structlog

from notifications.domain.recap.prompt import Question

log = structlog.get_logger()

FLEX = "flex"
REASONS = re.compile(r"^(?:o\d|gpt-(?:[5-9]|\d\d))(?!.*chat)", re.IGNORECASE)  # models that think before they answer
DEFAULT_EFFORT = "low"
REASONING_TOKENS = 2_000  # hidden, and of the answer's room
FORMS = ("json_schema", "json_object", "plain")
FORM = re.compile(r"response_?format|json_?schema|json_?object", re.IGNORECASE)
FORM_FIELDS = ("response_format", "response_format.type")
UNKNOWN = re.compile(
    r"un(?:known|recogni[sz]ed|supported|expected)|not (?:supported|permitted|allowed|recogni[sz]ed)|extra", re.I
)
FLEX_REFUSED = re.compile(r"\bflex\b", re.IGNORECASE)
OPTIONAL = ("service_tier", "reasoning_effort", "store", "max_completion_tokens")


class Dialect:
    """The arguments of a call, in the form that this server understands."""

    def __init__(self, model: str, effort: str | None, tier: str | None) -> None:
        self._model = model
        self._effort = effort or (DEFAULT_EFFORT if REASONS.match(model) else None)
        self._tier = tier
        self._form = 0
        self._left_out: set[str] = set()

    @property
    def form(self) -> str:
        """In which form answers are asked for."""
        return FORMS[self._form]

    def is_flex(self, *, cheap: bool) -> bool:
        """Whether a call would go to the slower tier at half the price."""
        return cheap and self._tier == FLEX and "service_tier" not in self._left_out

    def room(self, question: Question) -> int:
        """What the answer may take, in tokens, with what is thought before it."""
        reasons = self._effort not in (None, "none") and "reasoning_effort" not in self._left_out
        return question.answer_tokens + (REASONING_TOKENS if reasons else 0)

    def arguments(self, question: Question, *, cheap: bool) -> dict[str, Any]:
        """As the client takes them."""
        form = self.form
        instructions = question.instructions if form == "json_schema" else question.instructions_with_schema
        given: dict[str, Any] = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": instructions},
                {"role": "user", "content": question.notes},
            ],
            "max_completion_tokens": self.room(question),
            "store": False,
        }
        if form == "json_schema":
            schema = {"name": question.name, "strict": True, "schema": question.schema}
            given["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form == "json_object":
            given["response_format"] = {"type": "json_object"}
        if self._effort:
            given["reasoning_effort"] = self._effort
        if self._tier and (cheap or self._tier != FLEX):
            given["service_tier"] = self._tier
        if "max_completion_tokens" in self._left_out:
            given["max_tokens"] = given["max_completion_tokens"]
        return {name: value for name, value in given.items() if name not in self._left_out}

    def learns(self, refused: str, param: str | None, asked: dict[str, Any]) -> bool:
        """Whether a refusal names something that can be left out: then the same question may be asked again.

        Others may have been refused alike meanwhile: each form, and each field, is given up once.
        """
        form = asked.get("response_format", {}).get("type")
        if form and (param in FORM_FIELDS or FORM.search(refused)):
            self._give_up(form)
            return True
        unknown = UNKNOWN.search(refused) is not None
        named = [name for name in OPTIONAL if name in asked and (param == name or (unknown and _names(name, refused)))]
        if not named and "service_tier" in asked and param in (None, "service_tier") and FLEX_REFUSED.search(refused):
            named = ["service_tier"]
        new = [name for name in named if name not in self._left_out]
        self._left_out.update(named)
        if new:
            log.warning("llm.takes_no", fields=", ".join(new))
        return bool(named)

    def _give_up(self, form: str) -> None:
        following = FORMS.index(form) + 1
        if following > self._form:
            self._form = following
            log.warning("llm.answers_otherwise", form=FORMS[following])


def _names(name: str, refused: str) -> bool:
    return re.search(rf"(?<![\w-]){name}(?![\w-])", refused) is not None
