"""The arguments of a chat completions call, without those that this server has refused in this run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import structlog

from notifications.adapters.llm.server_errors import ServerError
from notifications.domain.question import Question

log = structlog.get_logger()

FLEX = "flex"
REASONING_MODEL = re.compile(r"^(?:o\d|gpt-(?:[5-9]|\d\d))(?!.*chat)", re.IGNORECASE)
# Models that bill for caching a prompt unless it is turned off. A day's notes are sent once, so a cache is no use.
CACHE_BILLED = re.compile(r"(?:^|/)gpt-(?:5\.(?:[6-9]|\d\d)|[6-9]|\d\d)", re.IGNORECASE)
DEFAULT_EFFORT = "low"
REASONING_TOKENS = 2_000  # not shown, but counted against max_completion_tokens
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
# Arguments that can be omitted, and how servers refer to them.
OPTIONAL = {
    "service_tier": re.compile(r"service[ _]?tier|\bflex\b|priority (?:processing|tier)|fast mode", re.IGNORECASE),
    "reasoning_effort": re.compile(r"reasoning[ _]?effort|\bthink(?:ing)?\b", re.IGNORECASE),
    "store": re.compile(r"(?<![\w-])store(?![\w-])"),
    "prompt_cache_options": re.compile(r"prompt_cache_options"),
    "max_completion_tokens": re.compile(r"max_completion_tokens"),
}
FLEX_NAMED = re.compile(r"\bflex\b", re.IGNORECASE)  # if the call had it, its name alone is a refusal of it
SYSTEM = "system role"
# Of one question a server can refuse each field, each form but the last, and the system role.
MAX_REFUSALS = len(OPTIONAL) + len(FORMS)
READABLE_STATUSES = (400, 404, 415, 422, 500, 501)  # their messages may name an argument
UNRELATED_STATUSES = (401, 413, 429)  # never about an argument


class Dialect:
    """The arguments of a call, in the form that this server supports."""

    def __init__(self, model: str, effort: str | None, tier: str | None) -> None:
        self._model = model
        self._effort = effort or (DEFAULT_EFFORT if REASONING_MODEL.match(model) else None)
        self._tier = tier
        self._form = 0
        self._omitted: set[str] = set()

    @property
    def form(self) -> str:
        return FORMS[self._form]

    def is_flex(self, *, cheap: bool) -> bool:
        """Whether a call would use the slower tier at half the price."""
        return cheap and self._tier == FLEX and "service_tier" not in self._omitted

    def room(self, question: Question) -> int:
        """The tokens that the answer and the reasoning before it may take."""
        is_reasoning = self._effort not in (None, "none") and "reasoning_effort" not in self._omitted
        return question.answer_tokens + (REASONING_TOKENS if is_reasoning else 0)

    @property
    def is_cache_billed(self) -> bool:
        """Whether the model bills for caching a prompt."""
        return CACHE_BILLED.search(self._model) is not None

    def arguments(self, question: Question, *, cheap: bool) -> dict[str, Any]:
        form = self.form
        instructions = question.instructions if form == "json_schema" else question.instructions_with_schema
        arguments: dict[str, Any] = {
            "model": self._model,
            "messages": self._messages(instructions, question.notes),
            "max_completion_tokens": self.room(question),
            "store": False,
        }
        if form == "json_schema":
            schema = {"name": question.name, "strict": True, "schema": question.schema}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form == "json_object":
            arguments["response_format"] = {"type": "json_object"}
        if self._effort:
            arguments["reasoning_effort"] = self._effort
        if self._tier and (cheap or self._tier != FLEX):
            arguments["service_tier"] = self._tier
        if self.is_cache_billed:
            arguments["prompt_cache_options"] = {"mode": "explicit"}
        if "max_completion_tokens" in self._omitted:
            arguments["max_tokens"] = arguments["max_completion_tokens"]
        return {name: value for name, value in arguments.items() if name not in self._omitted}

    def _messages(self, instructions: str, notes: str) -> list[dict[str, str]]:
        if SYSTEM in self._omitted:
            return [{"role": "user", "content": f"{instructions}\n{notes}"}]
        return [{"role": "system", "content": instructions}, {"role": "user", "content": notes}]

    def adapt_to(self, error: ServerError, arguments: Mapping[str, Any]) -> bool:
        """Omit what an error refuses. Returns whether it refuses an argument: then the question may be repeated."""
        if error.status in UNRELATED_STATUSES:
            return False
        readable = error.status in READABLE_STATUSES
        fields = {part for path in error.fields for part in re.split(r"[.\[\]]", path)[:2]}
        names = [
            name
            for name, pattern in OPTIONAL.items()
            if name in arguments and (name in fields or (readable and error.matches(pattern, UNKNOWN)))
        ]
        flex = arguments.get("service_tier") == FLEX and "service_tier" not in names
        if flex and readable and error.matches(FLEX_NAMED):
            names.append("service_tier")
        if readable and arguments["messages"][0]["role"] == "system" and error.matches(NO_SYSTEM):
            names.append(SYSTEM)
        if names:
            if new := [name for name in names if name not in self._omitted]:
                log.warning("llm.takes_no", fields=", ".join(new))
            self._omitted.update(names)
            return True
        form = arguments.get("response_format", {}).get("type")
        patterns = [FORM_REFUSED, BARE] if form == FORMS[0] else [FORM_REFUSED]
        if form and (any(map(FORM_REFUSED.search, error.fields)) or (readable and any(map(error.matches, patterns)))):
            next_form = FORMS.index(form) + 1
            if next_form > self._form:
                self._form = next_form
                log.warning("llm.answers_otherwise", form=FORMS[next_form])
            return True
        return False
