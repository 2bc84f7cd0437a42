"""Work that may hang and can't be cancelled, in a thread that delays no exit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


class DaemonTask:
    """Work in a daemon thread, started at once. `failed` names the kind of its error."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self.failed = ""
        try:
            threading.Thread(target=self._run, daemon=True).start()
        except RuntimeError:  # the system has no thread left
            self.failed = "no thread"
            self._ended.set()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as cause:  # noqa: BLE001 - its work never fails a run
            self.failed = type(cause).__name__
        finally:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._ended.set)

    async def wait(self) -> None:
        """Wait for its end."""
        await self._ended.wait()

    async def wait_until_done(self, seconds: float) -> bool:
        """Wait for its end. Returns False after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self.wait()
        return self._ended.is_set()
