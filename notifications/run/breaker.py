"""What a run knows of its dependencies: failures in a row, their last cause, and whose fault a useless answer is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from notifications.domain.backoff import jittered
from notifications.domain.errors import (
    MAY_BE_THE_PROVIDERS,
    ItemFault,
    ItemReason,
    ProviderFault,
    RecapError,
    StoreDown,
)
from notifications.limits import Limits
from notifications.run.termination import Termination

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 1 / 120, 1 / 7.5  # of the store's time-out, between tries of one transaction
MANY_IN_A_ROW = 10  # failures of a store, and useless answers of a kind (docs/protocol.md, section 5)


class Breaker:
    """Of one dependency. Opens at many failures in a row, or at once where waiting is useless."""

    def __init__(self, opens: Callable[[RecapError], None], many: int = MANY_IN_A_ROW) -> None:
        self._opens = opens
        self._many = many
        self._in_a_row = 0
        self._cause: RecapError | None = None
        self._ever_answered = False

    def failed(self, cause: RecapError, *, at_once: bool = False, counts: bool = True) -> None:
        """It failed once more. `counts`: False where claiming goes on without it."""
        self._in_a_row += counts
        self._cause = cause
        if at_once or self._in_a_row >= self._many:
            self._opens(cause)

    def answered(self) -> None:
        self._in_a_row = 0
        self._ever_answered = True
        self._cause = None

    @property
    def down(self) -> RecapError | None:
        """Why its last call failed; None where that went well."""
        return self._cause

    @property
    def silent(self) -> RecapError | None:
        """Why it never once answered; None where it did, or was never asked."""
        return None if self._ever_answered else self._cause

    async def watch(self, call: Awaitable[T]) -> T:
        """One call to a store, counted."""
        try:
            answer = await call
        except StoreDown as failure:
            self.failed(failure)
            raise
        self.answered()
        return answer


class Writes(Breaker):
    """The store's writes: each is tried again until it is known whether it happened."""

    def __init__(self, opens: Callable[[RecapError], None], limits: Limits, terminated: Termination) -> None:
        super().__init__(opens)
        self._limits = limits
        self._terminated = terminated

    async def retry_until_known(self, transaction: Callable[[], Awaitable[T]], grace: float) -> T:
        """The transaction, again until the store's time-out where it may or may not have happened: `by` and `seq`
        make it one. Each failure counts for the run: a store that takes no writes stops the claiming soon.

        `grace`: how much of the platform's last seconds it may take once the run was told to stop. Raises StoreDown.
        """
        whole = self._limits.store_timeout_seconds
        pause = whole * FIRST_PAUSE
        with suppress(TimeoutError):
            async with self._terminated.timeout(whole, grace=self._limits.stop_seconds * grace):
                while True:
                    try:
                        return await self.watch(transaction())
                    except StoreDown:
                        await asyncio.sleep(jittered(timedelta(seconds=pause), 0.5, 1.5).total_seconds())
                        pause = min(2 * pause, whole * LONGEST_PAUSE)
        if self.down is not None:
            raise StoreDown("writes", str(self.down))
        failure = StoreDown("writes", f"The store took over {whole:g} s for one user (RECAP_STORE_TIMEOUT_SECONDS).")
        self.failed(failure)
        raise failure


class BadAnswerTracker:
    """Whose fault they are: the item's, once another was answered well; the provider's, where ten are alike."""

    def __init__(self, theirs: Callable[[ItemReason], None]) -> None:
        self._theirs = theirs
        self._kind: ItemReason | None = None
        self._in_a_row = 0
        self._verdict: asyncio.Future[bool] | None = None
        self.waiting = 0

    def answered_well(self) -> None:
        self._in_a_row = 0
        self.decide(items=True)

    def answered_uselessly(self, fault: ItemFault) -> None:
        """One more, of which nobody is charged. Raises ProviderFault where so many are alike that it is no item's."""
        if fault.reason in MAY_BE_THE_PROVIDERS and self._count(fault.reason) >= MANY_IN_A_ROW:
            self._theirs(fault.reason)
            raise ProviderFault(str(fault), opens=True)

    def _count(self, kind: ItemReason) -> int:
        self._in_a_row = self._in_a_row + 1 if kind is self._kind else 1
        self._kind = kind
        return self._in_a_row

    def decide(self, *, items: bool) -> None:
        verdict, self._verdict = self._verdict, None
        if verdict is not None and not verdict.done():
            verdict.set_result(items)

    async def is_the_items(self, kind: ItemReason) -> bool:
        """Whether this one is charged to its item. Waits until that is known; the caller bounds the wait."""
        self._count(kind)
        self._verdict = verdict = self._verdict or asyncio.get_running_loop().create_future()
        self.waiting += 1
        try:
            if self._in_a_row >= MANY_IN_A_ROW:
                self._theirs(kind)
                self.decide(items=False)
            return await asyncio.shield(verdict)
        finally:
            self.waiting -= 1
