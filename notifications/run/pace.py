"""A run's pace: it pauses where the LLM's provider says that a rate limit is near, and tells the other processes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog

from notifications.domain.backoff import MAX_PAUSE
from notifications.domain.claim import pause_key
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble
from notifications.ports import Claims, Clock, Summarizer
from notifications.run.termination import Termination

log = structlog.get_logger()

ASK_EVERY_SECONDS = 1.0
WORTH_TELLING = timedelta(milliseconds=100)


class Pace:
    """Of one run. `reserve`: LLM calls that may be on their way."""

    def __init__(self, claims: Claims, clock: Clock, terminated: Termination, *, reserve: int) -> None:
        self._claims = claims
        self._clock = clock
        self._terminated = terminated
        self._announced = asyncio.Event()
        self._reserve = reserve
        self._not_before = 0.0

    async def turn_to_ask(self) -> None:
        """Wait until the LLM's rate limit allows a call: before the claim, so that a pause costs no user's deadline."""
        while (left := self._not_before - self._clock.seconds()) > 0 and not self._terminated.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._terminated.wait()

    async def heed(self, summarizer: Summarizer) -> None:
        """Pause, here and in the other processes, where an answer announced that a limit is near."""
        if not summarizer.rate_limits:
            return
        self._announced.set()
        average = summarizer.tokens / max(1, summarizer.calls)
        reserves = {"requests": float(self._reserve), "tokens": self._reserve * average}
        rest = max(limit.pause(reserves[name]) for name, limit in summarizer.rate_limits.items())
        if rest > WORTH_TELLING and self._pause(rest):
            log.warning("llm.pause", seconds=round(rest.total_seconds(), 3))
            with suppress(ClaimsDown, ConfigFault, KeyTrouble):  # the others will be told by their own answers
                await self._claims.set_pause(pause_key(self._claims.environment), rest)

    async def follow(self) -> None:
        """Keep to the pauses that others are told of, until cancelled: where the provider announces rate limits."""
        while True:
            await self._announced.wait()
            await asyncio.sleep(ASK_EVERY_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Keep to the pause that other processes were told of: before the first user is served, too."""
        with suppress(ClaimsDown, ConfigFault, KeyTrouble):
            left = await self._claims.pause_left(pause_key(self._claims.environment))
            self._pause(min(left, MAX_PAUSE))  # whatever a key says that nobody of us wrote

    def _pause(self, rest: timedelta) -> bool:
        until = self._clock.seconds() + rest.total_seconds()
        longer = until > self._not_before + WORTH_TELLING.total_seconds()
        self._not_before = max(self._not_before, until)
        return longer
