"""Who strikes: a process is killed, frozen or cut off at its k-th message, never inside its code.

The fakes and two TCP proxies report every message that a run sends; a first run counts
them, and a sweep repeats it for every k. No failpoint is in the product.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from dataclasses import dataclass, field
from typing import Literal

from tests.support.jobs import Job

When = Literal["before", "after"]
Deed = Literal["kill", "freeze", "term", "hold", "cut", "down"]  # until thawed: hold, unanswered; down, cut off
SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "term": signal.SIGTERM, "hold": signal.SIGTERM}


@dataclass
class Director:
    """Sees every message of the run under test, and strikes at the one it was told."""

    trace: list[str] = field(default_factory=list)
    at: int | None = None
    named: tuple[str, int] | None = None  # a message by its name, and how many of that name to let pass
    victim: str = ""  # the source of the message that was struck
    when: When = "after"
    deed: Deed = "kill"
    process: Job | None = None
    struck: threading.Event = field(default_factory=threading.Event)
    thawed: threading.Event = field(default_factory=threading.Event)

    def aim(self, at: int | str | None, when: When, deed: Deed, nth: int = 0) -> None:
        """At the message of that number, or the nth of that name."""
        self.trace.clear()
        self.named = (at, nth) if isinstance(at, str) else None
        at = None if isinstance(at, str) else at
        self.at, self.when, self.deed = at, when, deed
        self.struck.clear()
        self.thawed.clear()

    async def message(self, source: str) -> int:
        index = len(self.trace)
        self.trace.append(source)
        if self.deed == "down" and self.struck.is_set() and source == self.victim and not self.thawed.is_set():
            raise ConnectionResetError
        if self.named is not None and self._is_named(source) > self.named[1]:
            self.at, self.named, self.victim = index, None, source
        if index == self.at and self.when == "before":
            await self._strike()
        return index

    def _is_named(self, source: str) -> int:
        """How often a message of that name came so far; 0 for another. `llm` names each call to the LLM."""
        assert self.named is not None
        name = self.named[0]
        if source != name and not source.startswith(f"{name} "):
            return 0
        return sum(one == name or one.startswith(f"{name} ") for one in self.trace)

    async def answer(self, index: int) -> None:
        if index == self.at and self.when == "after":
            await self._strike()

    async def _strike(self) -> None:
        self.at = None
        process = self.process
        assert process is not None
        if how := SIGNALS.get(self.deed):
            os.kill(process.pid, how)
        self.struck.set()
        if self.deed in ("kill", "cut", "down"):
            raise ConnectionResetError
        if self.deed in ("freeze", "hold"):
            await asyncio.to_thread(self.thawed.wait)
