"""Blocking work that nobody has to wait for: in a thread that dies with the process, whatever a server does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


class Aside:
    """One piece of work, begun at once."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self.failed = ""
        try:
            threading.Thread(target=self._run, name="aside", daemon=True).start()
        except RuntimeError:  # no thread is to be had
            self._fail("no thread")

    def _run(self) -> None:
        try:
            self._work()
        except Exception as cause:  # noqa: BLE001 - nobody waits for it, and no run fails for it: told by its kind alone
            self.failed = type(cause).__name__
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._ended.set)

    def _fail(self, what: str) -> None:
        self.failed = what
        self._ended.set()

    async def ended(self, seconds: float) -> bool:
        """Whether it ends within that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._ended.wait()
        return self._ended.is_set()
