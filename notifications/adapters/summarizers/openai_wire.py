"""What the chat completions API answers: the part of the body that is read, and the announced limits."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import cast

from httpx2 import AsyncByteStream, Response
from pydantic import BaseModel, Field

from notifications.domain.pace import Budget

MOST = 10**12  # requests or tokens: beyond is no limit, and no number to reckon with
MAX_BYTES = 1_000_000  # of one answer
DURATION_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
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
        """Close the body."""
        await self._stream.aclose()


async def bound(response: Response) -> None:
    """Keep a response from filling the memory; a packed one could be a thousand times as long as it looks."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Packed
    response.stream = _Bounded(cast(AsyncByteStream, response.stream))


class ReadDetails(BaseModel):
    """Of the tokens in."""

    cached_tokens: int | None = None


class WrittenDetails(BaseModel):
    """Of the tokens out."""

    reasoning_tokens: int | None = None


class Usage(BaseModel):
    """What the call cost, in tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: ReadDetails | None = None
    completion_tokens_details: WrittenDetails | None = None

    def counts(self) -> tuple[int, int, int, int]:
        """Tokens in, of those cached, tokens out, of those hidden; what is not told, or can't be, is 0."""
        read, written = self.prompt_tokens_details, self.completion_tokens_details
        told = (
            self.prompt_tokens,
            read.cached_tokens if read else 0,
            self.completion_tokens,
            written.reasoning_tokens if written else 0,
        )
        tokens_in, cached, tokens_out, hidden = (min(max(0, one or 0), MOST) for one in told)
        return tokens_in, cached, tokens_out, hidden


class Message(BaseModel):
    """The words, or why there are none."""

    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    """One answer and how it ended."""

    finish_reason: str | None = None
    message: Message = Message()


class Completion(BaseModel):
    """The part of a chat completion that is read here; servers add what they like."""

    model: str | None = None
    service_tier: str | None = None
    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None


def budgets(headers: Mapping[str, str]) -> dict[str, Budget]:
    """What the answer's x-ratelimit headers announce. A limit that is not told, or not understood, is none."""
    found: dict[str, Budget] = {}
    for name in ("requests", "tokens"):
        try:
            limit, remaining = (int(headers[f"x-ratelimit-{kind}-{name}"]) for kind in ("limit", "remaining"))
            reset = _duration(headers[f"x-ratelimit-reset-{name}"])
        except (KeyError, ValueError, OverflowError):
            continue
        if 0 < limit < MOST and remaining < MOST:  # some servers say -1
            found[name] = Budget(limit, max(0, remaining), reset)
    return found


def _duration(text: str) -> timedelta:
    """A duration as the provider writes it: 6m0s, 12ms, 1.5s, or bare seconds."""
    if text.replace(".", "", 1).isdigit():
        return timedelta(seconds=float(text))
    parts = DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("not a duration")
    return sum((float(number) * DURATION_UNITS[unit] for number, unit in parts), timedelta(0))
