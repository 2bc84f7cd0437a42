"""One evening in one process: a clock that tests turn, the ports in memory, and ticks over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

from notifications.adapters.sentences import sentences
from notifications.commands.context import Context
from notifications.domain.claim import Record, user_key
from notifications.domain.push import PushText
from notifications.domain.question import Question
from notifications.domain.schedule import Slot, latest_slot
from notifications.limits import Limits
from notifications.ports import Channel
from notifications.run.state import RunResult, Services
from notifications.run.termination import Termination
from notifications.run.tick import Tick
from notifications.settings import Settings
from notifications.testing import (
    Doc,
    MemoryClaims,
    MemoryPush,
    MemoryRedis,
    MemoryStore,
    MemorySummarizer,
    MemoryWorld,
    talk,
)

EIGHT = datetime(2026, 5, 1, 20, tzinfo=UTC)
LIMITS = Limits(concurrency=4, start_gap_seconds=0.0001, store_timeout_seconds=0.5, sending_stale_seconds=120)


class Evening:
    """20:00 in UTC and what comes after; everybody's hour is 20 unless a test says otherwise."""

    def __init__(self, **changes: Any) -> None:
        self.now = EIGHT + timedelta(seconds=30)
        self.limits = replace(LIMITS, **changes)
        self.redis = MemoryRedis(lambda: self.now)
        self.claims = MemoryClaims(self.redis)
        self.world = MemoryWorld(lambda: self.now)
        self.summarizer = MemorySummarizer()
        self.push = MemoryPush()
        self.channels: tuple[Channel, ...] = (self.push,)
        self.terminated = Termination()
        self.slots: dict[str, Slot] = {}
        self.opened = 0
        self.has_fallback = True
        self.push_text = PushText.RECAP
        self.verifies = False
        self.style = ""
        self.store: Any = MemoryStore(self.world.documents, self.limits.ledger_rules)

    def with_all_channels(self) -> tuple[MemoryPush, MemoryPush, MemoryPush]:
        """Phones, a webhook and mailboxes."""
        self.channels = channels = (self.push, MemoryPush("webhook"), MemoryPush("email"))
        return channels

    def seconds(self) -> float:
        """The services' clock: it stands still while nobody turns it."""
        return self.now.timestamp()

    def add(self, *uids: str, devices: int = 1, talks: int = 1, zone: str = "UTC", hour: int = 20, **more: Any) -> None:
        doc: Doc = {"time_zone": zone, "daily_summary_enabled": True, "daily_summary_hour_local": hour} | more
        for uid in uids:
            slot = self.slots[uid] = latest_slot(zone, hour, self.now)
            tokens = {f"d{n}": f"{uid}-{n}" for n in range(devices)}
            said = {f"t{n}": talk(uid, slot.at - timedelta(hours=1 + n)) for n in range(talks)}
            self.world.put_user(uid, doc, tokens, said)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Services]:
        self.opened += 1
        yield self.services

    @property
    def services(self) -> Services:
        return Services(
            claims=self.claims,
            store=self.store,
            summarizer=self.summarizer,
            channels=self.channels,
            clock=self,
            limits=self.limits,
            split_sentences=sentences,
            has_fallback=self.has_fallback,
            push_text=self.push_text,
            verifier=self.summarizer if self.verifies else None,
            style=self.style,
        )

    def context(self) -> Context:
        """What a command gets."""
        return Context(
            settings=Settings(),
            claims=self.claims,
            open_services=self._open,
            offset=timedelta(0),
            terminated=self.terminated,
            forget_pushes=AsyncMock(),
        )

    def start(self, **changes: Any) -> Tick:
        tick = Tick(
            claims=self.claims,
            limits=self.limits,
            open_services=self._open,
            terminated=self.terminated,
            host_now=lambda: self.now,
        )
        return replace(tick, **changes)

    async def tick(self, **changes: Any) -> RunResult:
        return await self.start(**changes).run()

    async def later(self, **span: float) -> RunResult:
        """Turn the clock, and tick."""
        self.now += timedelta(**span)
        return await self.tick()

    def ledger(self, uid: str) -> Doc:
        return self.world.ledgers(uid).get(self.slots[uid].recap_date.isoformat(), {})

    def record(self, uid: str) -> Record:
        return self.claims._record(user_key(uid, self.slots[uid].recap_date))

    def state(self, uid: str) -> str:
        """What the ledger says, and why."""
        return " ".join(str(self.ledger(uid).get(name, "")) for name in ("state", "outcome")).strip()

    def got(self) -> dict[str, int]:
        """How many pushes each token accepted."""
        return {token: len(messages) for token, messages in self.push.got.items()}


def outcomes(report: RunResult) -> dict[str, int]:
    """How the due users' turns ended."""
    return {outcome.value: count for outcome, count in report.counts.outcomes.items() if count}


def of(uid: str, fault: Callable[[Question], Exception]) -> Callable[[Question], Exception | None]:
    """The fault, on this user's day alone."""
    return lambda question: fault(question) if f"who={uid} " in question.notes else None
