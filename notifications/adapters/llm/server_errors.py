"""An LLM server's error, read from a body of any shape.

Bodies are untrusted, and some repeat what they were sent. So only a bounded part is read, of the fields in which
servers describe the error; and text that also occurs in the day's notes is ignored.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Self

from notifications.adapters.retry_after import MAX_RETRY_AFTER, retry_after
from notifications.domain.errors import ItemFault, ItemReason
from notifications.domain.text import bounded, clean, printable
from notifications.domain.text import code as error_code

# Not "input": servers put our own request there.
TEXT_KEYS = frozenset(("message", "msg", "detail", "description", "error", "error_description", "raw"))
CODE_KEYS = ("code", "type", "status", "reason")
FIELD_KEYS = ("param", "field", "loc")
# These bound the work on a hostile body; no server's error comes near them.
MAX_NODES = 300
MAX_DEPTH = 8
MAX_TEXTS = 20
MAX_TEXT_LENGTH = 1_000  # characters that are read of each text
MAX_JSON_LENGTH = 20_000  # characters of a text in which JSON is looked for
QUOTE_LENGTH = 120  # characters of a server's sentence
ECHO_WORDS = 4  # this many consecutive words from the notes count as an echo of them
QUOTE_ECHO_WORDS = 2  # stricter in a sentence that is shown to people
BETWEEN_CLAUSES = re.compile(r"\n|; |(?<=[.!?])\s")
WORD = re.compile(r"\w+")
ESCAPED = re.compile(r"\\+(?:[nrt]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})")
IN_QUOTES = re.compile(r"['\"`]([^'\"`]{1,80})['\"`]")
DELAY = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)s", re.ASCII)
ADDRESS = re.compile(r"\w+://\S+")  # http://user:password@host/x
MASKED_KEY = re.compile(r"\*{2,}|^sk-|\.{3}\w")  # abcd****wxyz, sk-…, and abcd...wxyz
LONG_CODE = re.compile(r"[\w-]{20,}")  # org_01kgg5588eftc8k70aes4864eb

ITEM_CODES = {
    "context_length_exceeded": ItemReason.CONTEXT_LENGTH,
    "string_above_max_length": ItemReason.CONTEXT_LENGTH,
    "exceed_context_size_error": ItemReason.CONTEXT_LENGTH,  # llama.cpp's
    "request_too_large": ItemReason.CONTEXT_LENGTH,
    "string_too_long": ItemReason.CONTEXT_LENGTH,
    "content_policy_violation": ItemReason.CONTENT_POLICY,
    "content_filter": ItemReason.CONTENT_POLICY,
    "responsibleaipolicyviolation": ItemReason.CONTENT_POLICY,
    "invalid_prompt": ItemReason.CONTENT_POLICY,
    "json_validate_failed": ItemReason.INVALID_ANSWER,  # Groq: its model did not write the JSON asked for
}
# Messages of servers that send no error code.
TRUNCATED = re.compile(r"max_tokens or model output limit", re.IGNORECASE)
TOO_LONG = re.compile(
    r"context[ _-]?(?:length|size|window|limit)"
    r"|(?:prompt|input|request|messages?|conversation) (?:is |are )?too (?:long|large)"
    r"|reduce (?:the length|your (?:message|prompt|input))"
    r"|tokens? (?:count|in|must)\b.{0,60}(?:exceed|more than|be reduced|longer than)"
    r"|exceed(?:s|ed)?\b.{0,60}(?:context|n_ctx|token limit|max(?:imum)? (?:number of|allowed|input|prompt|length)\b)"
    r"|(?:prompt|input) length\b.{0,60}(?:exceed|limit|is \d)|input tokens exceed"
    r"|too many (?:input |prompt )?tokens|token limit exceeded|must be at least 1, got -\d",
    re.IGNORECASE,
)
# A 429 that waiting does not cure: the request alone exceeds the limit.
TOO_LONG_429 = re.compile(r"request too large|tokens must be reduced", re.IGNORECASE)
CONTEXT_MENTIONED = re.compile(r"context (?:length|size|window)", re.IGNORECASE)
BLOCKED = re.compile(
    r"content (?:management )?policy|input was flagged|content (?:was |is )?(?:blocked|flagged)|prohibited content"
    r"|blocked by .{0,40}(?:safety|filter|policy)|safety system",
    re.IGNORECASE,
)
NO_KEY = re.compile(r"api[ _-]?key (?:is )?(?:not valid|invalid|expired)|invalid api[ _-]?key", re.IGNORECASE)
NO_MODEL = re.compile(
    r"(?:invalid|unknown) model|not a valid model|\bmodel\b.{0,80}(?:does not exist|not found|decommissioned)", re.I
)
# OpenAI and Groq; other servers only say it in the message.
GONE_CODES = frozenset(("model_not_found", "model_decommissioned"))
GONE = re.compile(
    r"\bmodel\b.{0,150}\b"
    r"(?:deprecated|decommissioned|discontinued|retired|shut ?down|no longer (?:available|supported))",
    re.IGNORECASE | re.DOTALL,
)
GONE_STATUSES = (400, 404, 410)
CONFIG_STATUSES = (401, 403, 404, 405)  # a wrong key or a wrong address
PAID_REASONS = (ItemReason.TRUNCATED, ItemReason.INVALID_ANSWER)  # the model has answered before the server failed


@dataclass(frozen=True)
class ServerError:
    """One error. `fields`: paths of the fields it blames; `texts`: its messages, without echoes of the notes."""

    status: int
    codes: tuple[str, ...]
    fields: tuple[str, ...]
    texts: tuple[str, ...]
    notes: str  # what was sent: quote() leaves out sentences that repeat it
    wait: timedelta | None = None

    @classmethod
    def from_response(cls, status: int, body: object, headers: Mapping[str, str], notes: str) -> Self:
        """Read a body. `notes`: what was sent, which the server may have repeated."""
        codes, fields, texts, wait = list[str](), list[str](), list[str](), None
        padded_notes = _padded_words(notes)
        for key, value in _leaves(body):
            if key in CODE_KEYS and isinstance(value, str) and not value.isdigit():
                position = 0 if key == "code" else len(codes)  # "code" is more specific than the other keys
                codes.insert(position, error_code(value, ""))
            elif key in FIELD_KEYS:
                fields.append(_path(value))
            elif key == "retryDelay" and isinstance(value, str) and (delay := DELAY.fullmatch(value)):
                wait = min(timedelta(seconds=float(delay[1])), MAX_RETRY_AFTER)
            elif isinstance(value, str) and len(texts) < MAX_TEXTS:
                texts.append(_without_echoes(ESCAPED.sub(" ", value[:MAX_TEXT_LENGTH]), padded_notes))
        wait = _wait(headers) or wait
        return cls(status, tuple(filter(None, codes)), tuple(filter(None, fields)), tuple(texts), notes, wait)

    @cached_property
    def clauses(self) -> tuple[str, ...]:
        """The messages, split into clauses."""
        return tuple(clause for text in self.texts for clause in BETWEEN_CLAUSES.split(text) if clause.strip())

    def matches(self, *patterns: re.Pattern[str]) -> bool:
        """Whether one clause of the messages matches all patterns."""
        return any(all(pattern.search(clause) for pattern in patterns) for clause in self.clauses)

    @property
    def code(self) -> str:
        """The first code, or ""."""
        return self.codes[0] if self.codes else ""

    @property
    def item_reason(self) -> ItemReason | None:
        """Why this question can't be answered; None if the question is not the cause."""
        if self.status in (401, 404):
            return None
        for code in map(str.lower, self.codes):
            if code in ITEM_CODES:
                return ITEM_CODES[code]
        if self.status in (400, 403, 422) and self.matches(BLOCKED):
            return ItemReason.CONTENT_POLICY
        if self.status in (400, 422) and self.matches(TRUNCATED):
            return ItemReason.TRUNCATED
        pattern = {400: TOO_LONG, 422: TOO_LONG, 429: TOO_LONG_429, 500: CONTEXT_MENTIONED}.get(self.status)
        too_long = self.status == 413 or (pattern is not None and self.matches(pattern))
        return ItemReason.CONTEXT_LENGTH if too_long else None

    def raise_item_fault(self) -> None:
        """Raise ItemFault if the question is the cause."""
        if (reason := self.item_reason) is not None:
            sentence = f"The LLM rejected this day's notes ({self.code or reason.value})."
            raise ItemFault(reason, sentence, unpaid=reason not in PAID_REASONS)

    @property
    def model_is_gone(self) -> bool:
        """Whether the model does not exist, or no longer does."""
        return self.status in GONE_STATUSES and (not GONE_CODES.isdisjoint(self.codes) or self.matches(GONE))

    @property
    def is_config_error(self) -> bool:
        """Whether a setting is the cause: a refused key, an unknown model, a wrong address."""
        return (
            self.model_is_gone
            or self.status in CONFIG_STATUSES
            or (self.status in (400, 422) and (self.matches(NO_KEY) or self.matches(NO_MODEL)))
        )

    def quote(self, api_key: str) -> str:
        """The server's first sentence, cleaned and cut; "" if it may contain words of the notes.

        `api_key`: our own, which a server may repeat in part.
        """
        if not self.is_config_error and self.status < 500:
            return ""
        message = next((text.strip() for text in self.texts if text.strip()), "")
        sentence = BETWEEN_CLAUSES.split(message, maxsplit=1)[0].strip()
        padded_notes = _padded_words(self.notes)
        quotes_notes = any(f" {quoted.lower()} " in padded_notes for quoted in IN_QUOTES.findall(sentence))
        if not sentence or message.startswith("<") or quotes_notes:
            return ""
        if _echoes(sentence, padded_notes, QUOTE_ECHO_WORDS):
            return ""
        masked = " ".join(_masked(word, api_key) for word in clean(ADDRESS.sub("…", sentence)).split())
        return printable(bounded(masked.rstrip("."), QUOTE_LENGTH)).replace('"', "'")


def _leaves(body: object) -> Iterator[tuple[str, object]]:
    """Yield (key, value) of codes, fields and texts, breadth first, descending into JSON inside strings."""
    queue: deque[tuple[str, object, int]] = deque([("message", body, 0)])
    for _ in range(MAX_NODES):
        if not queue:
            return
        key, value, depth = queue.popleft()
        children: list[tuple[str, object]] = []
        if key in FIELD_KEYS:
            yield key, value
        elif isinstance(value, Mapping):
            children = [(str(name), child) for name, child in value.items()]
        elif isinstance(value, list):
            children = [(key, child) for child in value[:MAX_NODES]]
        elif isinstance(value, str) and key in TEXT_KEYS:
            text, error = _split_json(value)
            yield key, text
            children = [(key, error)] if error is not None else []
        elif key in CODE_KEYS or key == "retryDelay":
            yield key, value
        if depth < MAX_DEPTH:
            queue.extend((name, child, depth + 1) for name, child in children)


def _split_json(text: str) -> tuple[str, Any]:
    """Split a message into its text and the JSON error that a gateway embedded in it (None if there is none)."""
    start = re.search(r"[{\[]", text)
    if start is None or len(text) > MAX_JSON_LENGTH:
        return text, None
    try:
        error, end = json.JSONDecoder().raw_decode(text, start.start())
    except (ValueError, RecursionError):
        return text, None
    useful = isinstance(error, dict) or (isinstance(error, list) and any(isinstance(part, dict) for part in error))
    return (text[: start.start()] + text[end:], error) if useful else (text, None)


def _path(value: object) -> str:
    """A field's dotted path, from `response_format.type` or from a list that begins with `body`."""
    parts = value if isinstance(value, list) else [value]
    return ".".join(part for part in parts[:20] if isinstance(part, str) and part != "body")[:200]


def _padded_words(text: str) -> str:
    """The words in lower case, each between spaces: a phrase between spaces is then found as whole words."""
    return f" {' '.join(WORD.findall(text.lower()))} "


def _echoes(text: str, padded_notes: str, length: int) -> list[tuple[int, int]]:
    """The (start, end) of each run of `length` words that occurs in the notes too."""
    matches = list(WORD.finditer(text))
    runs = (matches[first : first + length] for first in range(len(matches) - length + 1))
    return [
        (run[0].start(), run[-1].end())
        for run in runs
        if f" {' '.join(word[0].lower() for word in run)} " in padded_notes
    ]


def _without_echoes(text: str, padded_notes: str) -> str:
    kept, position = list[str](), 0
    for start, end in _echoes(text, padded_notes, ECHO_WORDS):
        kept.append(f"{text[position:start]}…" if start > position else "")
        position = max(position, end)
    return "".join([*kept, text[position:]])


def _masked(word: str, api_key: str) -> str:
    """The word, or an ellipsis if it may be part of a key or name an account."""
    contains_our_key = len(api_key) >= 6 and (api_key[:6] in word or api_key[-4:] in word)
    names_account = LONG_CODE.search(word) is not None and any(char.isdigit() for char in word)
    return "…" if contains_our_key or names_account or MASKED_KEY.search(word) else word


def _wait(headers: Mapping[str, str]) -> timedelta | None:
    """Azure's `retry-after-ms`, else Retry-After."""
    text = headers.get("retry-after-ms", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 12:
        return min(timedelta(milliseconds=int(text)), MAX_RETRY_AFTER)
    return retry_after(headers)
