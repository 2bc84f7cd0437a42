"""Answers of the chat completions API: the fields that the job reads, and the rate limits in the headers."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Self, cast

from httpx2 import AsyncByteStream, Response
from pydantic import AliasPath, BaseModel, BeforeValidator, Field, model_validator

from notifications.domain.backoff import RateLimit

MAX_COUNT = 10**12  # requests or tokens: no real limit is higher
MAX_BYTES = 1_000_000  # of one answer
DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}  # seconds
STATUS = re.compile(r"[45][0-9]{2}", re.ASCII)
DURATION_PART = re.compile(r"([0-9.]+)(ms|[smhd])")


class TooLong(Exception):
    """The server's answer is longer than any recap."""


class Compressed(Exception):
    """The server's answer is compressed, though we asked for no compression."""


class _Bounded(AsyncByteStream):
    """A response's body, of which at most MAX_BYTES are read."""

    def __init__(self, stream: AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MAX_BYTES:
                raise TooLong
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def limit_size(response: Response) -> None:
    """Bound the memory that a response takes. Raises Compressed: decompressed it could be far longer."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Compressed
    response.stream = _Bounded(cast(AsyncByteStream, response.stream))


def _count(value: object) -> int | None:
    """A number of tokens, rounded up, from a number or a text; None for anything else."""
    try:
        number = math.ceil(float(value)) if isinstance(value, (int, float, str)) else -1
    except (ValueError, OverflowError):
        return None
    return min(number, MAX_COUNT) if number >= 0 and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: object) -> object:
    return value if isinstance(value, dict) else {}


def _content(value: object) -> str:
    """The text, joined from its parts if it has parts; parts with the model's reasoning are left out."""
    parts = value if isinstance(value, list) else [value]
    shown = [
        part for part in parts if not isinstance(part, dict) or part.get("type", "text") in ("text", "output_text")
    ]
    texts = [part.get("text") if isinstance(part, dict) else part for part in shown]
    return "".join(text for text in texts if isinstance(text, str))


Count = Annotated[int | None, BeforeValidator(_count)]
Tokens = Annotated[int, BeforeValidator(lambda value: _count(value) or 0)]
Text = Annotated[str | None, BeforeValidator(_text)]


def _at(*path: str) -> Any:
    return Field(0, validation_alias=AliasPath(*path))


class Usage(BaseModel):
    """What the call cost, in tokens, as one server or another reports it."""

    prompt_tokens: Tokens = 0
    completion_tokens: Count = None
    cached_tokens: Tokens = 0
    prompt_cache_hit_tokens: Tokens = 0
    cache_read_input_tokens: Tokens = 0
    cached_in_details: Tokens = _at("prompt_tokens_details", "cached_tokens")
    cache_write_tokens: Tokens = _at("prompt_tokens_details", "cache_write_tokens")
    reasoning_tokens: Tokens = _at("completion_tokens_details", "reasoning_tokens")

    @property
    def cached(self) -> int:
        """Input tokens that the server had cached."""
        openai = max(self.cached_in_details, self.cached_tokens)
        return max(openai, self.prompt_cache_hit_tokens, self.cache_read_input_tokens)

    @property
    def written(self) -> int:
        return self.completion_tokens or 0

    @property
    def is_complete(self) -> bool:
        """Whether tokens in and out are both reported."""
        return self.prompt_tokens > 0 and self.completion_tokens is not None


class AnswerMessage(BaseModel):
    """The text, or a refusal."""

    content: Annotated[str, BeforeValidator(_content)] = ""
    refusal: Any = None


class Choice(BaseModel):
    """One answer and how it ended."""

    finish_reason: Text = None
    message: Annotated[AnswerMessage, BeforeValidator(_mapping)] = AnswerMessage()
    error: Any = None  # OpenRouter: its provider stopped

    @property
    def end(self) -> str:
        """The finish reason in lower case, without what some servers append to it."""
        return re.split(r"[^a-z_]", (self.finish_reason or "").strip().lower(), maxsplit=1)[0]


class Completion(BaseModel):
    """A chat completion. `choices` is empty if a filter stopped the question; OpenRouter sends `error` with a 200."""

    model: Text = None
    service_tier: Text = None
    choices: list[Choice] | None = None
    usage: Annotated[Usage, BeforeValidator(_mapping)] = Usage()
    error: Any = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "choices" not in self.model_fields_set and not self.error:
            raise ValueError("no completion")
        return self

    @property
    def failure(self) -> Any:
        """An error inside an answer with a status of 200; None if there is none."""
        if not self.choices:
            return self.error
        first = self.choices[0]
        return first.error or ({} if first.end == "error" else None)


def status_of(failure: object) -> int:
    """The HTTP status that such an error names as its code, else 502."""
    code = failure.get("code") if isinstance(failure, dict) else None
    if isinstance(code, str) and STATUS.fullmatch(code):
        code = int(code)
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def rate_limits(headers: Mapping[str, str]) -> dict[str, RateLimit]:
    """The x-ratelimit headers by "requests" and "tokens"; those that are missing or malformed are left out."""
    limits: dict[str, RateLimit] = {}
    for name in ("requests", "tokens"):
        try:
            limit, remaining = (int(headers[f"x-ratelimit-{kind}-{name}"]) for kind in ("limit", "remaining"))
            reset = _duration(headers[f"x-ratelimit-reset-{name}"])
        except (KeyError, ValueError, OverflowError):
            continue
        if 0 < limit < MAX_COUNT and remaining < MAX_COUNT:  # some servers say -1
            limits[name] = RateLimit(limit, max(0, remaining), reset)
    return limits


def _duration(text: str) -> timedelta:
    """A duration: 6m0s, 12ms, 1.5s, or bare seconds."""
    if text.replace(".", "", 1).isdigit():
        return timedelta(seconds=float(text))
    parts = DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("not a duration")
    return timedelta(seconds=sum(float(number) * DURATION_UNITS[unit] for number, unit in parts))
