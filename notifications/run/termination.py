"""SIGTERM, for everything that waits: it is given up at once, or after its last seconds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class Termination(asyncio.Event):
    """Set by the signal's handler, in the loop. Brings forward the time-outs that were begun under it."""

    def __init__(self) -> None:
        super().__init__()
        self._graces: dict[asyncio.Timeout, float] = {}
        self._set_at = 0.0  # of the loop's clock

    def set(self) -> None:
        """Tell the run to stop."""
        super().set()
        self._set_at = now = asyncio.get_running_loop().time()
        for limit, grace in self._graces.items():
            if not limit.expired():
                limit.reschedule(min(limit.when() or now, now + grace))

    @asynccontextmanager
    async def timeout(self, seconds: float, *, grace: float = 0.0) -> AsyncIterator[None]:
        """Like asyncio.timeout, but `grace` seconds at most after the run was told to stop. Raises TimeoutError.

        They count from the signal, whenever the work begins: several works in a row share the platform's last seconds.
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
        """What the context manager gives. Raises TimeoutError where the run is told to stop before it is entered."""
        async with AsyncExitStack() as stack:
            async with self.timeout(math.inf):
                value = await stack.enter_async_context(manager)
            yield value
