"""What a run knows of its dependencies: failures in a row, whose fault a bad answer is, announced rate limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TypeVar

import structlog

from notifications.domain.backoff import MAX_PAUSE, jittered
from notifications.domain.claim import pause_key
from notifications.domain.errors import (
    MAY_BE_THE_PROVIDERS,
    ClaimsDown,
    ConfigFault,
    ItemFault,
    ItemReason,
    KeyTrouble,
    ProviderFault,
    RecapError,
    StoreDown,
)
from notifications.limits import Limits
from notifications.ports import Claims, Clock, Summarizer
from notifications.run.termination import Termination

log = structlog.get_logger()
T = TypeVar("T")

FIRST_WRITE_PAUSE, MAX_WRITE_PAUSE = 1 / 120, 1 / 7.5  # of the store's time-out, between tries of one transaction
MANY_IN_A_ROW = 10  # failures of a store, and bad answers of a kind (docs/protocol.md, section 5)
LOOK_EVERY_SECONDS = 1.0
MIN_PAUSE = timedelta(milliseconds=100)


class Breaker:
    """Counts one dependency's failures in a row. Opens at `many`, or at once where waiting is useless."""

    def __init__(self, opens: Callable[[RecapError], None], many: int = MANY_IN_A_ROW) -> None:
        self._opens = opens
        self._many = many
        self._in_a_row = 0
        self._ever_answered = False
        self.down: RecapError | None = None  # why its last call failed

    def record_failure(self, cause: RecapError, *, at_once: bool = False, counts: bool = True) -> None:
        """It failed once more. `counts`: False where claiming goes on without it."""
        self._in_a_row += counts
        self.down = cause
        if at_once or self._in_a_row >= self._many:
            self._opens(cause)

    def record_success(self) -> None:
        self._in_a_row = 0
        self._ever_answered = True
        self.down = None

    @property
    def silent(self) -> RecapError | None:
        """Why it never once answered; None where it did, or was never asked."""
        return None if self._ever_answered else self.down

    async def watch(self, call: Awaitable[T]) -> T:
        """One call to a store, counted. Raises what the call raises."""
        try:
            answer = await call
        except StoreDown as failure:
            self.record_failure(failure)
            raise
        self.record_success()
        return answer


class Writes(Breaker):
    """The store's writes: each is tried again until it is known whether it happened."""

    def __init__(self, opens: Callable[[RecapError], None], limits: Limits, terminated: Termination) -> None:
        super().__init__(opens)
        self._limits = limits
        self._terminated = terminated

    async def retry_until_known(self, transaction: Callable[[], Awaitable[T]], grace: float) -> T:
        """Try the transaction until the store's time-out: `by` and `seq` make its repeats one. Raises StoreDown.

        Each failure counts for the run, so a store that takes no writes soon stops the claiming. `grace`: how much of
        the platform's last seconds it may take once the run was told to stop.
        """
        most = self._limits.store_timeout_seconds
        pause = most * FIRST_WRITE_PAUSE
        with suppress(TimeoutError):
            async with self._terminated.timeout(most, grace=self._limits.stop_seconds * grace):
                while True:
                    try:
                        return await self.watch(transaction())
                    except StoreDown:
                        await asyncio.sleep(jittered(timedelta(seconds=pause), 0.5, 1.5).total_seconds())
                        pause = min(2 * pause, most * MAX_WRITE_PAUSE)
        if self.down is not None:
            raise StoreDown("writes", str(self.down))
        failure = StoreDown("writes", f"The store took over {most:g} s for one user (RECAP_STORE_TIMEOUT_SECONDS).")
        self.record_failure(failure)
        raise failure


class BadAnswerTracker:
    """Whose fault bad answers are: the item's, once another was answered well; the provider's, where ten are alike."""

    def __init__(self, blame_provider: Callable[[ItemReason], None]) -> None:
        self._blame_provider = blame_provider
        self._kind: ItemReason | None = None
        self._in_a_row = 0
        self._verdict: asyncio.Future[bool] | None = None
        self.waiting = 0

    def record_good_answer(self) -> None:
        self._in_a_row = 0
        self.resolve(blame_item=True)

    def record_bad_answer(self, fault: ItemFault) -> None:
        """One more, charged to no item. Raises ProviderFault where ten in a row are alike."""
        if fault.reason in MAY_BE_THE_PROVIDERS and self._count(fault.reason) >= MANY_IN_A_ROW:
            self._blame_provider(fault.reason)
            raise ProviderFault(str(fault), final=True)

    async def wait_for_verdict(self, kind: ItemReason) -> bool:
        """Whether this one is charged to its item. Waits until that is known; the caller bounds the wait."""
        many = self._count(kind) >= MANY_IN_A_ROW
        self._verdict = verdict = self._verdict or asyncio.get_running_loop().create_future()
        self.waiting += 1
        try:
            if many:
                self._blame_provider(kind)
                self.resolve(blame_item=False)
            return await asyncio.shield(verdict)
        finally:
            self.waiting -= 1

    def resolve(self, *, blame_item: bool) -> None:
        """Answer those who wait for `wait_for_verdict`."""
        verdict, self._verdict = self._verdict, None
        if verdict is not None and not verdict.done():
            verdict.set_result(blame_item)

    def _count(self, kind: ItemReason) -> int:
        self._in_a_row = self._in_a_row + 1 if kind is self._kind else 1
        self._kind = kind
        return self._in_a_row


class Pace:
    """Pauses a run where the LLM's provider announced that its rate limit is near, and tells the other processes.

    `reserve`: LLM calls that may be on their way.
    """

    def __init__(self, claims: Claims, clock: Clock, terminated: Termination, *, reserve: int) -> None:
        self._claims = claims
        self._clock = clock
        self._terminated = terminated
        self._announced = asyncio.Event()
        self._reserve = reserve
        self._not_before = 0.0

    async def wait(self) -> None:
        """Wait until the pause is over. Before the claim, so that no user's deadline pays for it."""
        while (seconds := self._not_before - self._clock.seconds()) > 0 and not self._terminated.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._terminated.wait()

    async def note_limits(self, summarizer: Summarizer) -> None:
        """Pause, here and in the other processes, where the last answer announced that a limit is near."""
        if not summarizer.rate_limits:
            return
        self._announced.set()
        average = summarizer.tokens / max(1, summarizer.calls)
        reserves = {"requests": float(self._reserve), "tokens": self._reserve * average}
        rest = max(limit.pause(reserves[name]) for name, limit in summarizer.rate_limits.items())
        if rest > MIN_PAUSE and self._pause(rest):
            log.warning("llm.pause", seconds=round(rest.total_seconds(), 3))
            with suppress(ClaimsDown, ConfigFault, KeyTrouble):  # the others learn it from their own answers
                await self._claims.set_pause(pause_key(self._claims.environment), rest)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Keep to the pauses of other processes while the block runs, and before its first user."""
        await self._read_pause()
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await self._announced.wait()  # who announces no limits sets no pauses
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            await self._read_pause()

    async def _read_pause(self) -> None:
        with suppress(ClaimsDown, ConfigFault, KeyTrouble):
            rest = await self._claims.pause_left(pause_key(self._claims.environment))
            self._pause(min(rest, MAX_PAUSE))  # the key may hold a value that is not ours

    def _pause(self, rest: timedelta) -> bool:
        """Whether this made the pause longer."""
        until = self._clock.seconds() + rest.total_seconds()
        longer = until > self._not_before + MIN_PAUSE.total_seconds()
        self._not_before = max(self._not_before, until)
        return longer
