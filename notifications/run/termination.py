"""SIGTERM: ends everything that waits, at once or after a grace period."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class Termination(asyncio.Event):
    """An event that the signal handler sets in the loop. Shortens the time-outs that were started by timeout()."""

    def __init__(self) -> None:
        super().__init__()
        self._graces: dict[asyncio.Timeout, float] = {}
        self._set_at = 0.0  # seconds of the loop's clock

    def set(self) -> None:
        """Tell the run to stop."""
        super().set()
        self._set_at = now = asyncio.get_running_loop().time()
        for limit, grace in self._graces.items():
            if not limit.expired():
                limit.reschedule(min(limit.when() or now, now + grace))

    @asynccontextmanager
    async def timeout(self, seconds: float, *, grace: float = 0.0) -> AsyncIterator[None]:
        """Like asyncio.timeout, but ends `grace` seconds after the signal at the latest. Raises TimeoutError.

        The grace counts from the signal, not from the start of the block: blocks in a row share the seconds that the
        platform allows.
        """
        remaining = self._set_at + grace - asyncio.get_running_loop().time()
        async with asyncio.timeout(min(seconds, max(0.0, remaining)) if self.is_set() else seconds) as limit:
            self._graces[limit] = grace
            try:
                yield
            finally:
                del self._graces[limit]

    @asynccontextmanager
    async def entered(self, manager: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
        """Enter the context manager. Raises TimeoutError if the run is told to stop before that is done."""
        async with AsyncExitStack() as stack:
            async with self.timeout(math.inf):
                value = await stack.enter_async_context(manager)
            yield value
