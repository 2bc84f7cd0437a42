"""What is sent to the chat completions API: without what this server has refused in this run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import structlog

from notifications.adapters.llm.refusals import Refusal
from notifications.domain.question import Question

log = structlog.get_logger()

FLEX = "flex"
REASONS = re.compile(r"^(?:o\d|gpt-(?:[5-9]|\d\d))(?!.*chat)", re.IGNORECASE)  # models that reason before they answer
# Models that bill for caching a prompt unless it is turned off; a day's notes are never sent again.
BILLS_CACHE = re.compile(r"(?:^|/)gpt-(?:5\.(?:[6-9]|\d\d)|[6-9]|\d\d)", re.IGNORECASE)
DEFAULT_EFFORT = "low"
REASONING_TOKENS = 2_000  # hidden, and of the answer's room
FORMS = ("json_schema", "json_object", "plain")
FORM_REFUSED = re.compile(
    r"response_?format|response_?(?:json_?)?schema|json_?schema|json_?object|json mode|structured[ _]outputs?"
    r"|additional_?properties|\bgrammars?\b|x?grammar\b|guided[ _]|\bschemas?\b|too many states",
    re.IGNORECASE,
)
BARE = re.compile(r"request contains an invalid argument", re.IGNORECASE)  # all that Google says to some schemas
UNKNOWN = re.compile(
    r"un(?:known|recogni[sz]ed|supported|expected)|cannot find field|\bextra\b"
    r"|(?:not|n't) (?:be )?(?:supported|support|permitted|allowed|recogni[sz]ed|available|enabled|valid)"
    r"|must be one of|not one of|invalid",
    re.IGNORECASE,
)
NO_SYSTEM = re.compile(
    r"(?:system|developer) (?:role|message|prompt|instruction)s?.{0,40}"
    r"(?:not|n't) (?:supported|allowed|enabled|permitted)"
    r"|does(?: not|n't) support.{0,20}(?:system|developer) ",
    re.IGNORECASE,
)
# Arguments that can be left out, and how servers refer to them.
OPTIONAL = {
    "service_tier": re.compile(r"service[ _]?tier|\bflex\b|priority (?:processing|tier)|fast mode", re.IGNORECASE),
    "reasoning_effort": re.compile(r"reasoning[ _]?effort|\bthink(?:ing)?\b", re.IGNORECASE),
    "store": re.compile(r"(?<![\w-])store(?![\w-])"),
    "prompt_cache_options": re.compile(r"prompt_cache_options"),
    "max_completion_tokens": re.compile(r"max_completion_tokens"),
}
FLEX_NAMED = re.compile(r"\bflex\b", re.IGNORECASE)  # enough where the call had it, whatever the verb
SYSTEM = "system role"
MOST_REFUSALS = len(OPTIONAL) + len(FORMS)  # of one question: each field, each form but the last, and the system role
LEARNT_BY_WORDS = (400, 404, 415, 422, 500, 501)
NEVER_LEARNT = (401, 413, 429)


class Dialect:
    """The arguments of a call, in the form that this server supports."""

    def __init__(self, model: str, effort: str | None, tier: str | None) -> None:
        self._model = model
        self._effort = effort or (DEFAULT_EFFORT if REASONS.match(model) else None)
        self._tier = tier
        self._form = 0
        self._left_out: set[str] = set()

    @property
    def form(self) -> str:
        return FORMS[self._form]

    def is_flex(self, *, cheap: bool) -> bool:
        """Whether a call would use the slower tier at half the price."""
        return cheap and self._tier == FLEX and "service_tier" not in self._left_out

    def room(self, question: Question) -> int:
        """The tokens that the answer may take, with the reasoning before it."""
        reasons = self._effort not in (None, "none") and "reasoning_effort" not in self._left_out
        return question.answer_tokens + (REASONING_TOKENS if reasons else 0)

    @property
    def bills_cache(self) -> bool:
        """Whether the model bills for caching a prompt."""
        return BILLS_CACHE.search(self._model) is not None

    def arguments(self, question: Question, *, cheap: bool) -> dict[str, Any]:
        form = self.form
        instructions = question.instructions if form == "json_schema" else question.instructions_with_schema
        given: dict[str, Any] = {
            "model": self._model,
            "messages": self._messages(instructions, question.notes),
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
        if self.bills_cache:
            given["prompt_cache_options"] = {"mode": "explicit"}
        if "max_completion_tokens" in self._left_out:
            given["max_tokens"] = given["max_completion_tokens"]
        return {name: value for name, value in given.items() if name not in self._left_out}

    def _messages(self, instructions: str, notes: str) -> list[dict[str, str]]:
        if SYSTEM in self._left_out:
            return [{"role": "user", "content": f"{instructions}\n{notes}"}]
        return [{"role": "system", "content": instructions}, {"role": "user", "content": notes}]

    def learns(self, refusal: Refusal, arguments: Mapping[str, Any]) -> bool:
        """Leave out what a refusal names. Returns whether it names anything: then the question may be sent again."""
        if refusal.status in NEVER_LEARNT:
            return False
        by_words = refusal.status in LEARNT_BY_WORDS
        pointed = {part for path in refusal.named for part in re.split(r"[.\[\]]", path)[:2]}
        names = [
            name
            for name, pattern in OPTIONAL.items()
            if name in arguments and (name in pointed or (by_words and refusal.says(pattern, UNKNOWN)))
        ]
        flex = arguments.get("service_tier") == FLEX and "service_tier" not in names
        if flex and by_words and refusal.says(FLEX_NAMED):
            names.append("service_tier")
        if by_words and arguments["messages"][0]["role"] == "system" and refusal.says(NO_SYSTEM):
            names.append(SYSTEM)
        if names:
            if new := [name for name in names if name not in self._left_out]:
                log.warning("llm.takes_no", fields=", ".join(new))
            self._left_out.update(names)
            return True
        form = arguments.get("response_format", {}).get("type")
        patterns = [FORM_REFUSED, BARE] if form == FORMS[0] else [FORM_REFUSED]
        if form and (any(map(FORM_REFUSED.search, refusal.named)) or (by_words and any(map(refusal.says, patterns)))):
            following = FORMS.index(form) + 1
            if following > self._form:
                self._form = following
                log.warning("llm.answers_otherwise", form=FORMS[following])
            return True
        return False
