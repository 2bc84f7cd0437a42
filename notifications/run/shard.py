"""One shard under our claim: its users page by page, its renewal, and its end (PROTOCOL sections 3 and 6)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta

import structlog

from notifications.domain.claim import SINGLE_FILE_LANE, Answer, Stored, new_token
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble, StoreDown
from notifications.domain.model import User
from notifications.limits import Numbers
from notifications.ports import Listed
from notifications.run.shards import ZONES_AT_MOST, Shard
from notifications.run.state import Ending, Outcome, Run

log = structlog.get_logger()


class HeldShard:
    """One shard under our claim, and what its users answered."""

    def __init__(self, run: Run, shard: Shard, token: str) -> None:
        self.shard = shard
        self.lost = False
        self._run = run
        self._token = token
        self._terms = shard.terms(run)
        self._read_to_end = False
        self._seen = 0
        self._done = 0
        self._waits: list[timedelta] = []

    async def users(self) -> AsyncGenerator[User]:
        """Its users, page by page; the next page is fetched while the last is served.

        A document that can't be served is counted and told, and keeps nobody else from theirs.
        """
        numbers, zones = self._run.parts.numbers, sorted(self.shard.cohort.zones)
        try:
            for start in range(0, len(zones), ZONES_AT_MOST):
                async for listed in self._pages(zones[start : start + ZONES_AT_MOST], numbers):
                    self._seen += 1
                    self._run.counts.due += 1
                    if listed.user is not None:
                        yield listed.user
                    else:
                        self._unreadable(listed)
            self._read_to_end = True
        except TimeoutError:
            log.info("shard.stopped", key=self.shard.key)  # by SIGTERM: the rest is for the next run
        except StoreDown as failure:
            log.error("shard.page_failed", key=self.shard.key, reason=str(failure))
        except ConfigFault as fault:
            self._run.stop_claiming(fault)

    def _unreadable(self, listed: Listed) -> None:
        self._run.defects += 1
        log.error("user.unreadable", uid=listed.uid, reason=listed.flaw)
        self.note(Outcome(Ending.UNREADABLE))

    async def _pages(self, zones: Sequence[str], numbers: Numbers) -> AsyncGenerator[Listed]:
        following: asyncio.Task[list[Listed]] | None = self._fetch(zones, None)
        try:
            while following is not None:
                async with self._run.terminated.timeout(math.inf):  # the store bounds it, SIGTERM ends it
                    page = await self._run.reads.watch(following)
                following = self._fetch(zones, page[-1].uid) if len(page) == numbers.page_size else None
                for listed in page:
                    yield listed
        finally:
            if following is not None:
                following.cancel()

    def _fetch(self, zones: Sequence[str], after: str | None) -> asyncio.Task[list[Listed]]:
        store, cohort = self._run.parts.store, self.shard.cohort
        size = self._run.parts.numbers.page_size
        return asyncio.create_task(store.page(zones, cohort.hour, self.shard.ids, after, size))

    def note(self, outcome: Outcome) -> None:
        """One user's answer, counted once. Only an answer of "done" lets the shard end."""
        self._run.counts.add(outcome)
        if outcome.done:
            self._done += 1
        else:
            self._waits.append(outcome.wait)

    async def renew(self) -> None:
        """Extend the claim; once lost, claim no user of it and leave it alone."""
        try:
            reply = await self._run.parts.claims.renew(self._terms, self._token)
            self.lost = reply.answer is not Answer.OK
        except KeyTrouble:
            self.lost = True
        if self.lost:
            log.warning("shard.lost", key=self.shard.key)

    async def finish(self) -> None:
        """Complete, if every page was read and every user is done; else due again after the least wait."""
        if self.lost:
            return
        claims, numbers = self._run.parts.claims, self._run.parts.numbers
        if self._read_to_end and self._seen == self._done:
            await claims.complete(self._terms, self._token, Stored.COMPLETE)
            return
        least, most = numbers.span("shard_retry_min"), numbers.span("shard_retry_max")
        everybody_answered = self._read_to_end and self._seen == self._done + len(self._waits)
        wait = max(least, min([most, *self._waits])) if everybody_answered else least
        if self._run.terminated.is_set():
            wait = timedelta(0)  # released: the next run may go on at once
        await claims.fail(self._terms, self._token, wait, 0, "open")
        log.info("shard.open", key=self.shard.key, users=self._seen, done=self._done, wait_seconds=wait.total_seconds())


async def claim_shard(run: Run, shard: Shard) -> HeldShard | None:
    """The shard under our claim, or None where another run holds it or has ended it."""
    token = new_token()
    reply = await run.parts.claims.claim(shard.terms(run), token, SINGLE_FILE_LANE)
    if reply.answer is not Answer.WON:
        return None
    if reply.crashes:
        log.warning("shard.taken_over", key=shard.key, crashes=reply.crashes)
    return HeldShard(run, shard, token)


async def keep_renewing(run: Run, shards: Sequence[HeldShard]) -> None:
    """Renew every claim at its interval until cancelled, from the event loop: a stalled loop loses them."""
    while True:
        await asyncio.sleep(run.parts.numbers.shard_renew_seconds)
        for held in shards:
            if not held.lost:
                try:
                    await held.renew()
                except (ClaimsDown, ConfigFault) as trouble:
                    run.stop_claiming(trouble)
                    return
