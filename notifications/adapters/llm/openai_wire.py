"""What the chat completions API answers: the part of the body that is read, and the announced limits."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Self, cast

from httpx2 import AsyncByteStream, Response
from pydantic import BaseModel, BeforeValidator, model_validator

from notifications.domain.backoff import RateLimit

MOST = 10**12  # requests or tokens: beyond is no limit, and no number to reckon with
MAX_BYTES = 1_000_000  # of one answer
DURATION_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
STATUS = re.compile(r"[45][0-9]{2}", re.ASCII)
DURATION_PART = re.compile(r"([0-9.]+)(ms|[smhd])")


class TooLong(Exception):
    """The server sends more than any recap has."""


class Packed(Exception):
    """The server packs its answer, though it was asked not to."""


class _Bounded(AsyncByteStream):
    """A response's body, of which at most MAX_BYTES are read."""

    def __init__(self, stream: AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise TooLong
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def bound(response: Response) -> None:
    """Keep a response from filling the memory; a packed one could be a thousand times as long as it looks."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Packed
    response.stream = _Bounded(cast(AsyncByteStream, response.stream))


def _count(value: object) -> int | None:
    """A number of tokens in whatever writing, rounded up; None where it is none."""
    try:
        number = math.ceil(float(value)) if isinstance(value, (int, float, str)) else -1
    except (ValueError, OverflowError):
        return None
    return min(number, MOST) if number >= 0 and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: object) -> object:
    return value if isinstance(value, dict) else {}


def _words(value: object) -> str:
    """What is said: a text, or the texts among its parts; what was thought before is none of them."""
    if isinstance(value, list):
        texts = [one if isinstance(one, str) else one.get("text") for one in value if _is_said(one)]
        return "".join(one for one in texts if isinstance(one, str))
    return value if isinstance(value, str) else ""


def _is_said(part: object) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"))


Count = Annotated[int | None, BeforeValidator(_count)]
Text = Annotated[str | None, BeforeValidator(_text)]


class ReadDetails(BaseModel):
    """Of the tokens in."""

    cached_tokens: Count = None
    cache_write_tokens: Count = None


class WrittenDetails(BaseModel):
    """Of the tokens out."""

    reasoning_tokens: Count = None


class Usage(BaseModel):
    """What the call cost, in tokens. What is told of it in another's words is read too."""

    prompt_tokens: Count = None
    completion_tokens: Count = None
    cached_tokens: Count = None
    prompt_cache_hit_tokens: Count = None
    cache_read_input_tokens: Count = None
    prompt_tokens_details: Annotated[ReadDetails, BeforeValidator(_mapping)] = ReadDetails()
    completion_tokens_details: Annotated[WrittenDetails, BeforeValidator(_mapping)] = WrittenDetails()

    @property
    def read(self) -> int:
        """Tokens in; what is not told, or can't be, is 0."""
        return self.prompt_tokens or 0

    @property
    def cached(self) -> int:
        """Of those in, what the server had read before."""
        told = (
            self.prompt_tokens_details.cached_tokens,
            self.cached_tokens,
            self.prompt_cache_hit_tokens,
            self.cache_read_input_tokens,
        )
        return max(one or 0 for one in told)

    @property
    def kept(self) -> int:
        """Of those in, what the server keeps for a later call."""
        return self.prompt_tokens_details.cache_write_tokens or 0

    @property
    def written(self) -> int:
        return self.completion_tokens or 0

    @property
    def hidden(self) -> int:
        """Of those out, what was thought."""
        return self.completion_tokens_details.reasoning_tokens or 0

    @property
    def told(self) -> bool:
        """Whether it says what was read and what was written."""
        return self.read > 0 and self.completion_tokens is not None


class AnswerMessage(BaseModel):
    """The words, or why there are none."""

    content: Annotated[str, BeforeValidator(_words)] = ""
    refusal: Any = None


class Choice(BaseModel):
    """One answer and how it ended."""

    finish_reason: Text = None
    message: Annotated[AnswerMessage, BeforeValidator(_mapping)] = AnswerMessage()
    error: Any = None  # OpenRouter's, where its provider broke off

    @property
    def end(self) -> str:
        """How it ended, in small letters and without what some add to it."""
        said = re.match(r"[a-z_]*", (self.finish_reason or "").strip().lower())
        return said[0] if said else ""


class Completion(BaseModel):
    """The part of a chat completion that is read here; servers add what they like.

    Without choices where a filter stopped the question. `error`: what OpenRouter sends with a status of 200.
    """

    model: Text = None
    service_tier: Text = None
    choices: list[Choice] | None = None
    usage: Annotated[Usage, BeforeValidator(_mapping)] = Usage()
    error: Any = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if "choices" not in self.model_fields_set and not self.error:
            raise ValueError("no completion")
        return self

    @property
    def failure(self) -> Any:
        """What went wrong behind an answer that looks well."""
        if not self.choices:
            return self.error
        first = self.choices[0]
        return first.error or ({} if first.end == "error" else None)


def status_of(failure: object) -> int:
    """The status that an error of this kind has where it is sent as one; 502 where it does not say."""
    code = failure.get("code") if isinstance(failure, dict) else None
    if isinstance(code, str) and STATUS.fullmatch(code):
        code = int(code)
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def rate_limits(headers: Mapping[str, str]) -> dict[str, RateLimit]:
    """What the answer's x-ratelimit headers announce. A limit that is missing or unreadable is left out."""
    found: dict[str, RateLimit] = {}
    for name in ("requests", "tokens"):
        try:
            limit, remaining = (int(headers[f"x-ratelimit-{kind}-{name}"]) for kind in ("limit", "remaining"))
            reset = _duration(headers[f"x-ratelimit-reset-{name}"])
        except (KeyError, ValueError, OverflowError):
            continue
        if 0 < limit < MOST and remaining < MOST:  # some servers say -1
            found[name] = RateLimit(limit, max(0, remaining), reset)
    return found


def _duration(text: str) -> timedelta:
    """A duration as the provider writes it: 6m0s, 12ms, 1.5s, or bare seconds."""
    if text.replace(".", "", 1).isdigit():
        return timedelta(seconds=float(text))
    parts = DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("not a duration")
    return sum((float(number) * DURATION_UNITS[unit] for number, unit in parts), timedelta(0))
