"""What a server refuses, read from an error body of any shape.

Bodies are hostile, and some repeat what they were sent. So a bounded part is read, of the places where servers write
about the call; and nothing counts that stands in the day's own notes.
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

SAID = frozenset(("message", "msg", "detail", "description", "error", "error_description", "raw"))  # never `input`
CODES = ("code", "type", "status", "reason")
NAMES = ("param", "field", "loc")
MOST_NODES, MOST_TEXTS, MOST_CHARS, MOST_INSIDE = 300, 20, 1_000, 20_000
QUOTED = 120  # characters of a server's sentence, at most
ECHO_WORDS = 4  # in a row, in the notes too: an echo
QUOTE_ECHO_WORDS = 2
NOT_CLAUSE = re.compile(r"\n|; |(?<=[.!?])\s")
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
# What servers write where they have no code for it.
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
FAR_TOO_LONG = re.compile(r"request too large|tokens must be reduced", re.IGNORECASE)  # a 429 that no waiting mends
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
    """One refusal. `named`: fields that it points at, as paths; `texts`: what it says, without what the notes say."""

    status: int
    codes: tuple[str, ...]
    named: tuple[str, ...]
    texts: tuple[str, ...]
    notes: str
    wait: timedelta | None = None

    @staticmethod
    def read(status: int, body: object, headers: Mapping[str, str], notes: str) -> Refusal:
        """What the body says. `notes`: what was sent, which the server may have repeated."""
        codes, named, texts, wait = list[str](), list[str](), list[str](), None
        words = _words(notes)
        for key, value in _leaves(body):
            if key in CODES and isinstance(value, str) and not value.isdigit():
                codes.insert(0 if key == "code" else len(codes), error_code(value, ""))
            elif key in NAMES:
                named.append(_path(value))
            elif key == "retryDelay" and isinstance(value, str) and (told := DELAY.fullmatch(value)):
                wait = min(timedelta(seconds=float(told[1])), LONGEST)
            elif isinstance(value, str) and len(texts) < MOST_TEXTS:
                texts.append(_without_echo(ESCAPED.sub(" ", value[:MOST_CHARS]), words))
        told_codes, told_names = tuple(filter(None, codes)), tuple(filter(None, named))
        return Refusal(status, told_codes, told_names, tuple(texts), notes, _wait(headers) or wait)

    @cached_property
    def clauses(self) -> tuple[str, ...]:
        """What it says, in pieces that say one thing each."""
        return tuple(clause for text in self.texts for clause in NOT_CLAUSE.split(text) if clause.strip())

    def says(self, *patterns: re.Pattern[str]) -> bool:
        """Whether one clause has them all."""
        return any(all(one.search(clause) for one in patterns) for clause in self.clauses)

    @property
    def code(self) -> str:
        """Its code, for a person; "" without one."""
        return self.codes[0] if self.codes else ""

    @property
    def item(self) -> ItemReason | None:
        """Why this very question can't be served, where that is it."""
        if self.status in (401, 404):
            return None
        coded = next((ITEM_CODES[one] for one in map(str.lower, self.codes) if one in ITEM_CODES), None)
        if coded is not None:
            return coded
        if self.status in (400, 403, 422) and self.says(BLOCKED):
            return ItemReason.CONTENT_POLICY
        if self.status in (400, 422) and self.says(TRUNCATED):
            return ItemReason.TRUNCATED
        words = {400: TOO_LONG, 422: TOO_LONG, 429: FAR_TOO_LONG, 500: FULL}.get(self.status)
        too_long = self.status == 413 or (words is not None and self.says(words))
        return ItemReason.CONTEXT_LENGTH if too_long else None

    def blame_the_item(self) -> None:
        """Raise ItemFault where it is this question that can't be served."""
        if (reason := self.item) is not None:
            sentence = f"The LLM can't take this day's notes ({self.code or reason.value})."
            paid = reason in (ItemReason.TRUNCATED, ItemReason.INVALID_ANSWER)
            raise ItemFault(reason, sentence, unpaid=not paid)

    @property
    def gone(self) -> bool:
        """Whether the server says that it has no such model, or has it no more."""
        return self.status in GONE_STATUSES and (not GONE_CODES.isdisjoint(self.codes) or self.says(GONE))

    @property
    def config(self) -> bool:
        """Whether only a person can mend it: a refused key, an unknown model, a wrong address."""
        return (
            self.gone
            or self.status in WRONG_ADDRESS
            or (self.status in (400, 422) and (self.says(NO_KEY) or self.says(NO_MODEL)))
        )

    def quote(self, key: str) -> str:
        """The server's own first sentence, cleaned and cut, in quotes with a space before; "" where it has none.

        Not where it may hold words of the notes. `key`: ours, which a server may repeat in part.
        """
        if not self.config and self.status < 500:
            return ""
        said = next((text.strip() for text in self.texts if text.strip()), "")
        sentence = NOT_CLAUSE.split(said, maxsplit=1)[0].strip()
        words = _words(self.notes)
        shared = any(f" {one.lower()} " in words for one in IN_QUOTES.findall(sentence))
        if not sentence or said.startswith("<") or shared or _echoed(sentence, words, QUOTE_ECHO_WORDS):
            return ""
        shown = " ".join(_shown(word, key) for word in clean(ADDRESS.sub("…", sentence)).split())
        return f' "{printable(bounded(shown.rstrip("."), QUOTED)).replace(chr(34), chr(39))}"'


def _leaves(body: object) -> Iterator[tuple[str, object]]:
    """Codes, names and texts, with their keys, from the outside in; of what is nested, or a string in JSON, too."""
    waiting: deque[tuple[str, object, int]] = deque([("message", body, 0)])
    for _ in range(MOST_NODES):
        if not waiting:
            return
        key, value, depth = waiting.popleft()
        if key in NAMES:
            yield key, value
        elif isinstance(value, Mapping):
            waiting.extend((str(name), one, depth + 1) for name, one in value.items() if depth < 8)
        elif isinstance(value, list):
            waiting.extend((key, one, depth + 1) for one in value[:MOST_NODES] if depth < 8)
        elif isinstance(value, str) and key in SAID:
            said, inside = _opened(value)
            yield key, said
            if inside is not None and depth < 8:
                waiting.append((key, inside, depth + 1))
        elif key in CODES or key == "retryDelay":
            yield key, value


def _opened(text: str) -> tuple[str, Any]:
    """A text, and the error in JSON that a gateway put into it."""
    at = min((place for place in (text.find("{"), text.find("[")) if place >= 0), default=-1)
    if at < 0 or len(text) > MOST_INSIDE:
        return text, None
    try:
        inside, end = json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        return text, None
    useful = isinstance(inside, dict) or (isinstance(inside, list) and any(isinstance(one, dict) for one in inside))
    return (text[:at] + text[end:], inside) if useful else (text, None)


def _path(value: object) -> str:
    """A field as servers point at it, as a path: `response_format.type`, or a list that begins at the body."""
    parts = value if isinstance(value, list) else [value]
    return ".".join(one for one in parts[:20] if isinstance(one, str) and one != "body")[:200]


def _words(text: str) -> str:
    return f" {' '.join(WORD.findall(text.lower()))} "


def _echoed(text: str, words: str, row: int) -> list[tuple[int, int]]:
    """Where the text has so many words in a row that stand in the notes alike."""
    found = list(WORD.finditer(text))
    spans = []
    for first in range(len(found) - row + 1):
        run = found[first : first + row]
        if f" {' '.join(one[0].lower() for one in run)} " in words:
            spans.append((run[0].start(), run[-1].end()))
    return spans


def _without_echo(text: str, words: str) -> str:
    kept, at = list[str](), 0
    for start, end in _echoed(text, words, ECHO_WORDS):
        kept.append(f"{text[at:start]}…" if start > at else "")
        at = max(at, end)
    return "".join([*kept, text[at:]])


def _shown(word: str, key: str) -> str:
    """A word of a server's sentence; an ellipsis for what may be a part of a key, or names an account."""
    ours = len(key) >= 6 and (key[:6] in word or key[-4:] in word)
    account = LONG_CODE.search(word) is not None and any(one.isdigit() for one in word)
    return "…" if ours or account or MASKED.search(word) else word


def _wait(headers: Mapping[str, str]) -> timedelta | None:
    """As Azure and others write it in milliseconds, else as everybody does."""
    told = headers.get("retry-after-ms", "").strip()
    if told.isascii() and told.isdigit() and len(told) < 12:
        return min(timedelta(milliseconds=int(told)), LONGEST)
    return retry_after(headers)
