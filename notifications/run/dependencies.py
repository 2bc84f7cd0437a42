"""The state of a run's dependencies: failures in a row, who is to blame for bad answers, announced rate limits."""

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

FIRST_WRITE_PAUSE = 1 / 120  # after a transaction's first try, as a fraction of the store's time-out; it doubles
MAX_WRITE_PAUSE = 1 / 7.5  # the longest such pause, also as a fraction
MAX_IN_A_ROW = 10  # failures of a store, and bad answers of one kind (docs/protocol.md, section 5)
PAUSE_POLL_SECONDS = 1.0
MIN_PAUSE = timedelta(milliseconds=100)


class Breaker:
    """Counts one dependency's failures in a row. Calls `on_open` at `threshold`, or at once if retrying is useless."""

    def __init__(self, on_open: Callable[[RecapError], None], threshold: int = MAX_IN_A_ROW) -> None:
        self._on_open = on_open
        self._threshold = threshold
        self._in_a_row = 0
        self._ever_answered = False
        self.down: RecapError | None = None  # why its last call failed

    def record_failure(self, cause: RecapError, *, at_once: bool = False, counts: bool = True) -> None:
        """Count one more failure. `counts`: False if claiming goes on without this dependency."""
        self._in_a_row += counts
        self.down = cause
        if at_once or self._in_a_row >= self._threshold:
            self._on_open(cause)

    def record_success(self) -> None:
        self._in_a_row = 0
        self._ever_answered = True
        self.down = None

    @property
    def silent(self) -> RecapError | None:
        """The last failure of a dependency that never answered; None if it did, or was never asked."""
        return None if self._ever_answered else self.down

    async def watch(self, call: Awaitable[T]) -> T:
        """Await one call to a store and count whether it failed. Raises what the call raises."""
        try:
            answer = await call
        except StoreDown as error:
            self.record_failure(error)
            raise
        self.record_success()
        return answer


class Writes(Breaker):
    """Breaker of the store's writes, which are retried until it is known whether they happened."""

    def __init__(self, on_open: Callable[[RecapError], None], limits: Limits, terminated: Termination) -> None:
        super().__init__(on_open)
        self._limits = limits
        self._terminated = terminated

    async def retry_until_known(self, transaction: Callable[[], Awaitable[T]], stop_share: float) -> T:
        """Try the transaction until the store's time-out. Raises StoreDown.

        Repeats are harmless: `by` and `seq` make them one write. Each failure counts for the run, so a store that takes
        no writes soon stops the claiming. `stop_share`: once the run must stop, the fraction of RECAP_STOP_SECONDS by
        which this must be done.
        """
        timeout = self._limits.store_timeout_seconds
        pause = timeout * FIRST_WRITE_PAUSE
        with suppress(TimeoutError):
            async with self._terminated.timeout(timeout, grace=self._limits.stop_seconds * stop_share):
                while True:
                    try:
                        return await self.watch(transaction())
                    except StoreDown:
                        await asyncio.sleep(jittered(timedelta(seconds=pause), 0.5, 1.5).total_seconds())
                        pause = min(2 * pause, timeout * MAX_WRITE_PAUSE)
        if self.down is not None:
            raise StoreDown("writes", str(self.down))
        failure = StoreDown("writes", f"The store took over {timeout:g} s for one user (RECAP_STORE_TIMEOUT_SECONDS).")
        self.record_failure(failure)
        raise failure


class BadAnswerTracker:
    """Decides who is to blame for bad answers of the LLM.

    The item, once another item got a good answer; the provider, if ten bad answers in a row are of one kind.
    """

    def __init__(self, blame_provider: Callable[[ItemReason], None]) -> None:
        self._blame_provider = blame_provider
        self._kind: ItemReason | None = None
        self._in_a_row = 0
        self._verdict: asyncio.Future[bool] | None = None
        self.waiting = 0  # callers in wait_for_verdict()

    def record_good_answer(self) -> None:
        """The provider works: whoever waits for a verdict learns that the item is to blame."""
        self._in_a_row = 0
        self.resolve(blame_item=True)

    def record_bad_answer(self, fault: ItemFault) -> None:
        """Count a bad answer without charging an item. Raises ProviderFault at the tenth in a row of one kind."""
        if fault.reason in MAY_BE_THE_PROVIDERS and self._count(fault.reason) >= MAX_IN_A_ROW:
            self._blame_provider(fault.reason)
            raise ProviderFault(str(fault), final=True, code=fault.reason.value)

    async def wait_for_verdict(self, kind: ItemReason) -> bool:
        """Count a bad answer, and wait until it is known who is to blame. Returns True if the item is.

        Blames the provider at the tenth in a row of one kind. The caller bounds the wait.
        """
        is_providers = self._count(kind) >= MAX_IN_A_ROW
        self._verdict = verdict = self._verdict or asyncio.get_running_loop().create_future()
        self.waiting += 1
        try:
            if is_providers:
                self._blame_provider(kind)
                self.resolve(blame_item=False)
            return await asyncio.shield(verdict)
        finally:
            self.waiting -= 1

    def resolve(self, *, blame_item: bool) -> None:
        """Give the verdict to the callers of wait_for_verdict()."""
        verdict, self._verdict = self._verdict, None
        if verdict is not None and not verdict.done():
            verdict.set_result(blame_item)

    def _count(self, kind: ItemReason) -> int:
        self._in_a_row = self._in_a_row + 1 if kind is self._kind else 1
        self._kind = kind
        return self._in_a_row


class Pace:
    """Pauses a run if the LLM's provider announces that a rate limit is near, and tells the other processes.

    `reserve`: how many LLM calls may be in flight.
    """

    def __init__(self, claims: Claims, clock: Clock, terminated: Termination, *, reserve: int) -> None:
        self._claims = claims
        self._clock = clock
        self._terminated = terminated
        self._announced = asyncio.Event()
        self._reserve = reserve
        self._not_before = 0.0

    async def wait(self) -> None:
        """Wait until the pause is over. Called before the claim, so that it does not use up a user's deadline."""
        while (seconds := self._not_before - self._clock.seconds()) > 0 and not self._terminated.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._terminated.wait()

    async def note_limits(self, summarizer: Summarizer) -> None:
        """Pause, here and in the other processes, if the last answer announced that a limit is near."""
        if not summarizer.rate_limits:
            return
        self._announced.set()
        average = summarizer.tokens / max(1, summarizer.calls)
        reserves = {"requests": float(self._reserve), "tokens": self._reserve * average}
        pause = max(limit.pause(reserves[name]) for name, limit in summarizer.rate_limits.items())
        if pause > MIN_PAUSE and self._extend_pause(pause):
            log.warning("llm.pause", seconds=round(pause.total_seconds(), 3))
            with suppress(ClaimsDown, ConfigFault, KeyTrouble):  # best effort: the others see it in their own answers
                await self._claims.set_pause(pause_key(self._claims.environment), pause)

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
            await self._announced.wait()  # a provider that announces no limits causes no pauses
            await asyncio.sleep(PAUSE_POLL_SECONDS)
            await self._read_pause()

    async def _read_pause(self) -> None:
        with suppress(ClaimsDown, ConfigFault, KeyTrouble):
            pause = await self._claims.pause_left(pause_key(self._claims.environment))
            self._extend_pause(min(pause, MAX_PAUSE))  # the key may hold a value that is not ours

    def _extend_pause(self, pause: timedelta) -> bool:
        """Pause for that long from now, unless a longer pause is set. Returns whether it became longer."""
        until = self._clock.seconds() + pause.total_seconds()
        is_longer = until > self._not_before + MIN_PAUSE.total_seconds()
        self._not_before = max(self._not_before, until)
        return is_longer
