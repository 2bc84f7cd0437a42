"""An LLM server's error, read from a body of any shape.

Bodies are untrusted, and some repeat what they were sent. So only a bounded part is read, of the fields where servers
describe the error; and text that also stands in the day's notes does not count.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from notifications.adapters.retry_after import LONGEST, retry_after
from notifications.domain.errors import ItemFault, ItemReason
from notifications.domain.text import bounded, clean, printable
from notifications.domain.text import code as error_code

TEXTS = frozenset(("message", "msg", "detail", "description", "error", "error_description", "raw"))  # never `input`
CODES = ("code", "type", "status", "reason")
NAMES = ("param", "field", "loc")
MOST_NODES, MOST_TEXTS, MOST_CHARS, MOST_INSIDE = 300, 20, 1_000, 20_000
QUOTE_LENGTH = 120  # characters of a server's sentence
ECHO_WORDS = 4  # so many words in a row that stand in the notes too are an echo
QUOTE_ECHO_WORDS = 2
BETWEEN_CLAUSES = re.compile(r"\n|; |(?<=[.!?])\s")
WORD = re.compile(r"\w+")
ESCAPED = re.compile(r"\\+(?:[nrt]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})")
IN_QUOTES = re.compile(r"['\"`]([^'\"`]{1,80})['\"`]")
DELAY = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)s", re.ASCII)
ADDRESS, MASKED, LONG_CODE = re.compile(r"\w+://\S+"), re.compile(r"\*{2,}|^sk-|\.{3}\w"), re.compile(r"[\w-]{20,}")

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
    "json_validate_failed": ItemReason.INVALID_ANSWER,  # Groq's, to what its model wrote
}
# What servers write without a code.
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
FAR_TOO_LONG = re.compile(
    r"request too large|tokens must be reduced", re.IGNORECASE
)  # a 429 that waiting does not mend
FULL = re.compile(r"context (?:length|size|window)", re.IGNORECASE)
BLOCKED = re.compile(
    r"content (?:management )?policy|input was flagged|content (?:was |is )?(?:blocked|flagged)|prohibited content"
    r"|blocked by .{0,40}(?:safety|filter|policy)|safety system",
    re.IGNORECASE,
)
NO_KEY = re.compile(r"api[ _-]?key (?:is )?(?:not valid|invalid|expired)|invalid api[ _-]?key", re.IGNORECASE)
NO_MODEL = re.compile(
    r"(?:invalid|unknown) model|not a valid model|\bmodel\b.{0,80}(?:does not exist|not found|decommissioned)", re.I
)
GONE_CODES = frozenset(("model_not_found", "model_decommissioned"))  # OpenAI's and Groq's; others have words alone
GONE = re.compile(
    r"\bmodel\b.{0,150}\b"
    r"(?:deprecated|decommissioned|discontinued|retired|shut ?down|no longer (?:available|supported))",
    re.IGNORECASE | re.DOTALL,
)
GONE_STATUSES = (400, 404, 410)
WRONG_ADDRESS = (401, 403, 404, 405)


@dataclass(frozen=True)
class Refusal:
    """One error. `named`: the paths of the fields that it names; `texts`: its messages, without echoes of the notes."""

    status: int
    codes: tuple[str, ...]
    named: tuple[str, ...]
    texts: tuple[str, ...]
    notes: str
    wait: timedelta | None = None

    @staticmethod
    def read(status: int, body: object, headers: Mapping[str, str], notes: str) -> Refusal:
        """Read a body. `notes`: what was sent, which the server may have repeated."""
        codes, named, texts, wait = list[str](), list[str](), list[str](), None
        words = _words(notes)
        for key, value in _leaves(body):
            if key in CODES and isinstance(value, str) and not value.isdigit():
                codes.insert(0 if key == "code" else len(codes), error_code(value, ""))
            elif key in NAMES:
                named.append(_path(value))
            elif key == "retryDelay" and isinstance(value, str) and (delay := DELAY.fullmatch(value)):
                wait = min(timedelta(seconds=float(delay[1])), LONGEST)
            elif isinstance(value, str) and len(texts) < MOST_TEXTS:
                texts.append(_without_echoes(ESCAPED.sub(" ", value[:MOST_CHARS]), words))
        wait = _wait(headers) or wait
        return Refusal(status, tuple(filter(None, codes)), tuple(filter(None, named)), tuple(texts), notes, wait)

    @cached_property
    def clauses(self) -> tuple[str, ...]:
        """The messages, split into clauses."""
        return tuple(clause for text in self.texts for clause in BETWEEN_CLAUSES.split(text) if clause.strip())

    def says(self, *patterns: re.Pattern[str]) -> bool:
        """Whether one clause matches all of them."""
        return any(all(pattern.search(clause) for pattern in patterns) for clause in self.clauses)

    @property
    def code(self) -> str:
        """The first code; "" without one."""
        return self.codes[0] if self.codes else ""

    @property
    def item(self) -> ItemReason | None:
        """Why this question can't be answered, if the question is the cause."""
        if self.status in (401, 404):
            return None
        for code in map(str.lower, self.codes):
            if code in ITEM_CODES:
                return ITEM_CODES[code]
        if self.status in (400, 403, 422) and self.says(BLOCKED):
            return ItemReason.CONTENT_POLICY
        if self.status in (400, 422) and self.says(TRUNCATED):
            return ItemReason.TRUNCATED
        words = {400: TOO_LONG, 422: TOO_LONG, 429: FAR_TOO_LONG, 500: FULL}.get(self.status)
        too_long = self.status == 413 or (words is not None and self.says(words))
        return ItemReason.CONTEXT_LENGTH if too_long else None

    def raise_item_fault(self) -> None:
        """Raise ItemFault if the question is the cause."""
        if (reason := self.item) is not None:
            sentence = f"The LLM can't take this day's notes ({self.code or reason.value})."
            paid = reason in (ItemReason.TRUNCATED, ItemReason.INVALID_ANSWER)
            raise ItemFault(reason, sentence, unpaid=not paid)

    @property
    def gone(self) -> bool:
        """Whether the server does not have the model, or no longer."""
        return self.status in GONE_STATUSES and (not GONE_CODES.isdisjoint(self.codes) or self.says(GONE))

    @property
    def config(self) -> bool:
        """Whether a setting is the cause: a refused key, an unknown model, a wrong address."""
        return (
            self.gone
            or self.status in WRONG_ADDRESS
            or (self.status in (400, 422) and (self.says(NO_KEY) or self.says(NO_MODEL)))
        )

    def quote(self, key: str) -> str:
        """The server's first sentence, cleaned and cut, in quotes after a space; "" if it may hold words of the notes.

        `key`: our API key, which a server may repeat in part.
        """
        if not self.config and self.status < 500:
            return ""
        message = next((text.strip() for text in self.texts if text.strip()), "")
        sentence = BETWEEN_CLAUSES.split(message, maxsplit=1)[0].strip()
        words = _words(self.notes)
        shared = any(f" {quoted.lower()} " in words for quoted in IN_QUOTES.findall(sentence))
        if not sentence or message.startswith("<") or shared or _echoes(sentence, words, QUOTE_ECHO_WORDS):
            return ""
        masked = " ".join(_masked(word, key) for word in clean(ADDRESS.sub("…", sentence)).split())
        return f' "{printable(bounded(masked.rstrip("."), QUOTE_LENGTH)).replace(chr(34), chr(39))}"'


def _leaves(body: object) -> Iterator[tuple[str, object]]:
    """Codes, field names and texts, with their keys, breadth first; also those inside a string of JSON."""
    queue: deque[tuple[str, object, int]] = deque([("message", body, 0)])
    for _ in range(MOST_NODES):
        if not queue:
            return
        key, value, depth = queue.popleft()
        if key in NAMES:
            yield key, value
        elif isinstance(value, Mapping):
            queue.extend((str(name), one, depth + 1) for name, one in value.items() if depth < 8)
        elif isinstance(value, list):
            queue.extend((key, one, depth + 1) for one in value[:MOST_NODES] if depth < 8)
        elif isinstance(value, str) and key in TEXTS:
            text, error = _split_json(value)
            yield key, text
            if error is not None and depth < 8:
                queue.append((key, error, depth + 1))
        elif key in CODES or key == "retryDelay":
            yield key, value


def _split_json(text: str) -> tuple[str, Any]:
    """A text without the error in JSON that a gateway put into it, and that error or None."""
    start = re.search(r"[{\[]", text)
    if start is None or len(text) > MOST_INSIDE:
        return text, None
    try:
        error, end = json.JSONDecoder().raw_decode(text, start.start())
    except (ValueError, RecursionError):
        return text, None
    useful = isinstance(error, dict) or (isinstance(error, list) and any(isinstance(one, dict) for one in error))
    return (text[: start.start()] + text[end:], error) if useful else (text, None)


def _path(value: object) -> str:
    """A field's path, from `response_format.type` or from a list that begins with `body`."""
    parts = value if isinstance(value, list) else [value]
    return ".".join(part for part in parts[:20] if isinstance(part, str) and part != "body")[:200]


def _words(text: str) -> str:
    return f" {' '.join(WORD.findall(text.lower()))} "


def _echoes(text: str, words: str, row: int) -> list[tuple[int, int]]:
    """The spans of the text in which so many words in a row stand in the notes too."""
    matches = list(WORD.finditer(text))
    runs = (matches[first : first + row] for first in range(len(matches) - row + 1))
    return [
        (run[0].start(), run[-1].end()) for run in runs if f" {' '.join(word[0].lower() for word in run)} " in words
    ]


def _without_echoes(text: str, words: str) -> str:
    kept, at = list[str](), 0
    for start, end in _echoes(text, words, ECHO_WORDS):
        kept.append(f"{text[at:start]}…" if start > at else "")
        at = max(at, end)
    return "".join([*kept, text[at:]])


def _masked(word: str, key: str) -> str:
    """The word; an ellipsis if it may be a part of a key, or names an account."""
    ours = len(key) >= 6 and (key[:6] in word or key[-4:] in word)
    account = LONG_CODE.search(word) is not None and any(char.isdigit() for char in word)
    return "…" if ours or account or MASKED.search(word) else word


def _wait(headers: Mapping[str, str]) -> timedelta | None:
    """Azure's `retry-after-ms`, else Retry-After."""
    text = headers.get("retry-after-ms", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 12:
        return min(timedelta(milliseconds=int(text)), LONGEST)
    return retry_after(headers)
