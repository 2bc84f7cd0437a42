"""One shard: due, claimed, paged, renewed, ended (docs/protocol.md, sections 2, 3 and 6)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from notifications.domain.claim import (
    EXPIRY_AFTER_SLOT_MS,
    FOREIGN_TEXT,
    FOREIGN_TYPE,
    SHARD_PREFIX,
    SINGLE_FILE_LANE,
    ClaimAnswer,
    ClaimState,
    claimable,
    cohort_prefix,
    new_token,
    since_key,
    skipped_key,
    sweep_key,
)
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble, StoreDown
from notifications.domain.model import User
from notifications.domain.schedule import Phase, Rules, cohorts_between
from notifications.domain.shards import Shard, ended_cohorts, shards_of
from notifications.limits import Limits
from notifications.ports import Claims, Listed
from notifications.run.outcome import Outcome, TurnResult
from notifications.run.state import Run

log = structlog.get_logger()

LEFT_OPEN = "open"  # why a shard's claim was given back
SKIPPED_AT_MOST = 10_000  # names that are kept of one shard
ZONES_AT_MOST = 30  # that one `in` takes
SLACK_MS = 300_000  # that a clock may be set back by: what was written just before is no time to come
SEEN_FOR = timedelta(milliseconds=EXPIRY_AFTER_SLOT_MS)  # as long as a shard's record is kept


@dataclass(frozen=True, slots=True)
class Due:
    """What Redis says about every shard of the last three hours, and whether a sweep is due."""

    claimable: list[Shard]
    unserved: list[Shard]
    sweep: bool
    remembers_since: datetime  # what Redis says of the time before is nothing
    odd: list[str]  # keys of the sweep's and of since that hold something else: as good as absent


async def due_shards(claims: Claims, rules: Rules, shards: int, now: datetime, offset: timedelta) -> Due:
    """The state of every shard, and of the sweep, by pipelined GETs: one round trip. Oldest slot first."""
    place = claims.environment
    listed = [shard for cohort in cohorts_between(now - SEEN_FOR, now) for shard in shards_of(cohort, place, shards)]
    keys = [*(shard.key for shard in listed), sweep_key(place), since_key(place)]
    *records, swept, since = await claims.read(keys)
    redis_now = int((now - offset).timestamp() * 1000)
    claimable_ones, unserved = [], []
    for shard, record in zip(listed, records, strict=True):
        if rules.phase(shard.cohort.slot, now) is Phase.OVER:
            if record.state is not ClaimState.COMPLETE:
                unserved.append(shard)
        elif record.state is ClaimState.FOREIGN or claimable(
            record, redis_now
        ):  # the claim gives a foreign value an end
            claimable_ones.append(shard)
    if unserved:
        unserved = await _not_completed_by_any_version(claims, unserved)
    remembers = 0 < since.until <= redis_now + SLACK_MS and since.state is ClaimState.COMPLETE
    remembers_since = datetime.fromtimestamp(since.until / 1000, UTC) + offset if remembers else now
    odd = [
        key
        for key, is_odd in (
            (sweep_key(place), swept.state is ClaimState.FOREIGN),
            (since_key(place), since.state is not ClaimState.ABSENT and not remembers),
        )
        if is_odd
    ]
    return Due(claimable_ones, unserved, swept.state is ClaimState.ABSENT or bool(odd), remembers_since, odd)


async def _not_completed_by_any_version(claims: Claims, unserved: Sequence[Shard]) -> list[Shard]:
    """Those whose cohort no other version ended either: one of another tzdata, or with another number of shards."""
    complete: list[str] = []
    with suppress(KeyTrouble, ConfigFault):  # who may not scan is told once more rather than never
        complete = [
            found.key async for found in claims.scan(f"{SHARD_PREFIX}*") if found.record.state is ClaimState.COMPLETE
        ]
    ended = ended_cohorts(complete, claims.environment)
    return [shard for shard in unserved if cohort_prefix(shard.cohort.slot, shard.cohort.hour) not in ended]


class HeldShard:
    """One shard under our claim, and what its users answered."""

    def __init__(
        self, run: Run, shard: Shard, token: str, *, asks: bool = True, skipped: frozenset[str] = frozenset()
    ) -> None:
        self.shard = shard
        self.asks = asks  # the LLM, for its users: not in the closing pass
        self.lost = False
        self._run = run
        self._token = token
        self._terms = run.shard_terms(shard)
        self._read_to_end = False
        self._seen = 0
        self._done = 0
        self._waits: list[timedelta] = []
        self._skipped_before = skipped
        self._skipped: set[str] = set()

    async def users(self) -> AsyncGenerator[User]:
        """Its users, the next page fetched meanwhile. A document that can't be served is counted and passed over."""
        limits, zones = self._run.limits, sorted(self.shard.cohort.zones)
        try:
            for start in range(0, len(zones), ZONES_AT_MOST):
                async for listed in self._pages(zones[start : start + ZONES_AT_MOST], limits):
                    self._seen += 1
                    self._run.counts.due += 1
                    if listed.uid in self._skipped_before:
                        self.count(listed.uid, TurnResult(Outcome.DONE_BEFORE))
                    elif listed.user is not None:
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
        self.count(listed.uid, TurnResult(Outcome.UNREADABLE))

    async def _pages(self, zones: Sequence[str], limits: Limits) -> AsyncGenerator[Listed]:
        following: asyncio.Task[list[Listed]] | None = self._fetch(zones, None)
        try:
            while following is not None:
                async with self._run.terminated.timeout(math.inf):  # the store bounds it, SIGTERM ends it
                    page = await self._run.reads.watch(following)
                following = self._fetch(zones, page[-1].uid) if len(page) == limits.page_size else None
                for listed in page:
                    yield listed
        finally:
            if following is not None:
                following.cancel()

    def _fetch(self, zones: Sequence[str], after: str | None) -> asyncio.Task[list[Listed]]:
        store, cohort = self._run.store, self.shard.cohort
        size = self._run.limits.page_size
        return asyncio.create_task(store.due_users(zones, cohort.hour, self.shard.ids, after, size))

    def count(self, uid: str, outcome: TurnResult) -> None:
        """One user's answer, counted once. Only an answer of "done" lets the shard end."""
        self._run.counts.add(outcome)
        if outcome.freed and len(self._skipped) < SKIPPED_AT_MOST:
            self._skipped.add(uid)
        if outcome.ending.done:
            self._done += 1
        else:
            self._waits.append(outcome.wait)

    async def renew(self) -> None:
        """Extend the claim; once lost, claim no user of it and leave it alone."""
        try:
            reply = await self._run.claims.renew(self._terms, self._token)
            self.lost = reply.answer is not ClaimAnswer.OK
        except KeyTrouble:
            self.lost = True
        if self.lost:
            log.warning("shard.lost", key=self.shard.key)

    async def finish(self) -> None:
        """Complete, if every page was read and every user is done; else due again after the least wait."""
        if self.lost:
            return
        claims, limits = self._run.claims, self._run.limits
        if self._read_to_end and self._seen == self._done:
            await claims.complete(self._terms, self._token, ClaimState.COMPLETE)
            return
        least, most = limits.span("shard_retry_min"), limits.span("shard_retry_max")
        everybody_answered = self._read_to_end and self._seen == self._done + len(self._waits)
        wait = max(least, min([most, *self._waits])) if everybody_answered else least
        if self._run.terminated.is_set():
            wait = timedelta(0)  # released: the next run may go on at once
        await claims.fail(self._terms, self._token, wait, 0, LEFT_OPEN)
        log.info("shard.open", key=self.shard.key, users=self._seen, done=self._done, wait_seconds=wait.total_seconds())
        if self._skipped:
            with suppress(KeyTrouble):  # then they are claimed once more, and their ledgers say that they have ended
                await claims.add_names(skipped_key(self.shard.key), self._skipped, self._terms.expire_ms)


async def claim_shard(run: Run, shard: Shard) -> HeldShard | None:
    """The shard under our claim, or None where another run holds it or has ended it."""
    terms, token, begun = run.shard_terms(shard), new_token(), run.clock.seconds()
    reply = await run.claims.claim(terms, token, SINGLE_FILE_LANE)
    await run.trust(reply, terms, token, begun)
    if reply.reason in (FOREIGN_TEXT, FOREIGN_TYPE):
        raise KeyTrouble(
            f"{shard.key} holds what is no claim of this job, and none of its users is served before that ends, "
            "in two hours at most; look at it by python job.py inspect --keys, and delete it."
        )
    if reply.answer is not ClaimAnswer.WON:
        return None
    if reply.crashes:
        log.warning("shard.taken_over", key=shard.key, crashes=reply.crashes)
    phase = run.rules.phase(shard.cohort.slot, reply.now + run.offset)
    due = phase in (Phase.EARLY, Phase.DUE)  # early: the clock was set back a little
    skipped: frozenset[str] = frozenset()
    if reply.reason == LEFT_OPEN:
        with suppress(KeyTrouble):
            skipped = await run.claims.names(skipped_key(shard.key))
    return HeldShard(run, shard, token, asks=due or not run.falls_back, skipped=skipped)


async def keep_renewing(run: Run, shards: Sequence[HeldShard]) -> None:
    """Renew every claim at its interval until cancelled, from the event loop: a stalled loop loses them."""
    while True:
        await asyncio.sleep(run.limits.shard_renew_seconds)
        for held in shards:
            if not held.lost:
                try:
                    await held.renew()
                except (ClaimsDown, ConfigFault) as trouble:
                    run.stop_claiming(trouble)
                    return
