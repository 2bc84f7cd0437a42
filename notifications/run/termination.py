"""SIGTERM, for everything that waits: what may be given up is given up at once, or after its last seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Termination(asyncio.Event):
    """Set by the signal's handler, in the loop. Brings the time-outs forward that were begun under it."""

    def __init__(self) -> None:
        super().__init__()
        self._limits: dict[asyncio.Timeout, float] = {}
        self._told_at = 0.0  # of the loop's clock

    def set(self) -> None:
        """The run is told to stop."""
        super().set()
        self._told_at = now = asyncio.get_running_loop().time()
        for limit, grace in self._limits.items():
            if not limit.expired():
                limit.reschedule(min(limit.when() or now, now + grace))

    @asynccontextmanager
    async def timeout(self, seconds: float, *, grace: float = 0.0) -> AsyncIterator[None]:
        """Like asyncio.timeout, but `grace` seconds at most after the run was told to stop. Raises TimeoutError.

        They count from the signal, whenever the work begins: several works in a row share the platform's last seconds.
        """
        left = self._told_at + grace - asyncio.get_running_loop().time()
        async with asyncio.timeout(min(seconds, max(0.0, left)) if self.is_set() else seconds) as limit:
            self._limits[limit] = grace
            try:
                yield
            finally:
                del self._limits[limit]
