"""A batch of shards: claimed, renewed, paged, served lane by lane, finished (docs/protocol.md, section 6, step 2)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing, suppress
from datetime import timedelta

import structlog

from notifications.domain.claim import (
    FOREIGN_TEXT,
    FOREIGN_TYPE,
    SINGLE_FILE_LANE,
    ClaimAnswer,
    ClaimState,
    new_token,
    skipped_key,
)
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble, StoreDown
from notifications.domain.model import User
from notifications.domain.schedule import Phase, recap_date, slot_on
from notifications.domain.shards import Shard
from notifications.ports import UserDocument
from notifications.run.outcome import Outcome, TurnResult
from notifications.run.state import Run
from notifications.run.user import FOR_NARROWER_LANE, claim_and_recap

log = structlog.get_logger()

LEFT_OPEN = "open"  # why a shard's claim was given back
MAX_SKIPPED = 10_000  # uids that are kept of one shard
MAX_ZONES = 30  # that one `in` takes
NARROW_LANE_WIDTH = 8
LOOK_AGAIN_SECONDS = 0.2


async def serve_batch(run: Run, shards: Sequence[Shard]) -> None:
    """Claim a batch of shards, carry all their users through the lanes, finish the shards."""
    held = [won for shard in shards if (won := await claim_shard(run, shard))]
    if not held:
        return
    renewing = asyncio.create_task(_keep_renewing(run, held))
    try:
        await _serve_users(run, held)
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        for shard in held:
            await shard.finish()


async def claim_shard(run: Run, shard: Shard) -> HeldShard | None:
    """The shard under our claim; None where another run holds it or has completed it, or Redis fails."""
    if run.is_stopping:
        return None
    terms, token, begun = run.shard_terms(shard), new_token(), run.services.clock.seconds()
    try:
        reply = await run.services.claims.claim(terms, token, SINGLE_FILE_LANE)
        await run.check_time_of(reply, terms, token, begun)
        if reply.reason in (FOREIGN_TEXT, FOREIGN_TYPE):
            raise KeyTrouble(
                f"{shard.key} holds what is no claim of this job, and none of its users is served before that ends, "
                "in two hours at most; look at it by python job.py inspect --keys, and delete it."
            )
        if reply.answer is not ClaimAnswer.WON:
            return None
        if reply.crashes:
            log.warning("shard.taken_over", key=shard.key, crashes=reply.crashes)
        skipped: frozenset[str] = frozenset()
        if reply.reason == LEFT_OPEN:
            with suppress(KeyTrouble):
                skipped = await run.services.claims.members(skipped_key(shard.key))
    except (ClaimsDown, ConfigFault) as trouble:
        run.stop_claiming(trouble)
        return None
    except KeyTrouble as trouble:
        run.defects += 1
        log.error("shard.key_trouble", key=shard.key, reason=str(trouble))
        return None
    phase = run.services.limits.rules.phase(shard.cohort.slot, reply.now + run.offset)
    due = phase in (Phase.EARLY, Phase.DUE)  # early: the clock was set back a little
    return HeldShard(run, shard, token, may_ask_llm=due or not run.services.has_fallback, skipped=skipped)


class HeldShard:
    """One shard under our claim, and what its users' turns came to.

    `may_ask_llm`: for its users; not in the closing pass. `skipped`: users that an earlier run has skipped.
    """

    def __init__(self, run: Run, shard: Shard, token: str, *, may_ask_llm: bool, skipped: frozenset[str]) -> None:
        self.shard = shard
        self.may_ask_llm = may_ask_llm
        self.lost = False
        self._run = run
        self._token = token
        self._terms = run.shard_terms(shard)
        self._read_to_end = False
        self._users = 0
        self._done = 0
        self._waits: list[timedelta] = []
        self._skipped_before = skipped
        self._skipped: set[str] = set()

    async def users(self) -> AsyncGenerator[User]:
        """Its users, the next page fetched meanwhile. A document that can't be used is counted and passed over."""
        zones = sorted(self.shard.cohort.zones)
        try:
            for start in range(0, len(zones), MAX_ZONES):
                async for listed in self._pages(zones[start : start + MAX_ZONES]):
                    self._users += 1
                    self._run.counts.due += 1
                    if listed.uid in self._skipped_before:
                        self.count(listed.uid, TurnResult(Outcome.DONE_BEFORE))
                    elif listed.user is not None:
                        yield listed.user
                    else:
                        self._run.defects += 1
                        log.error("user.unreadable", uid=listed.uid, reason=listed.flaw)
                        self.count(listed.uid, TurnResult(Outcome.UNREADABLE))
            self._read_to_end = True
        except TimeoutError:
            log.info("shard.stopped", key=self.shard.key)  # by SIGTERM: the rest is for the next run
        except StoreDown as failure:
            log.error("shard.page_failed", key=self.shard.key, reason=str(failure))
        except ConfigFault as fault:
            self._run.stop_claiming(fault)

    async def _pages(self, zones: Sequence[str]) -> AsyncGenerator[UserDocument]:
        following: asyncio.Task[list[UserDocument]] | None = self._fetch(zones, None)
        try:
            while following is not None:
                async with self._run.terminated.timeout(math.inf):  # the store bounds it, SIGTERM ends it
                    page = await self._run.read_breaker.watch(following)
                full = len(page) == self._run.services.limits.page_size
                following = self._fetch(zones, page[-1].uid) if full else None
                for listed in page:
                    yield listed
        finally:
            if following is not None:
                following.cancel()

    def _fetch(self, zones: Sequence[str], after: str | None) -> asyncio.Task[list[UserDocument]]:
        parts, hour = self._run.services, self.shard.cohort.hour
        due_users = parts.store.due_users(zones, hour, self.shard.ids, after, parts.limits.page_size)
        return asyncio.create_task(due_users)

    def count(self, uid: str, result: TurnResult) -> None:
        """Count one user's result. The shard is complete only when each is done."""
        self._run.counts.add(result)
        if result.freed and len(self._skipped) < MAX_SKIPPED:
            self._skipped.add(uid)
        if result.outcome.done:
            self._done += 1
        else:
            self._waits.append(result.wait)

    async def renew(self) -> None:
        """Extend the claim; once it is lost, no user of it is claimed. Raises ClaimsDown or ConfigFault."""
        try:
            reply = await self._run.services.claims.renew(self._terms, self._token)
            self.lost = reply.answer is not ClaimAnswer.OK
        except KeyTrouble:
            self.lost = True
        if self.lost:
            log.warning("shard.lost", key=self.shard.key)

    async def finish(self) -> None:
        """End the claim. Where that fails, its lease runs out by itself."""
        try:
            if not self.lost:
                await self._complete_or_leave_open()
        except (ClaimsDown, ConfigFault, KeyTrouble) as trouble:
            log.warning("shard.unfinished", key=self.shard.key, reason=str(trouble))
            if not isinstance(trouble, KeyTrouble):
                self._run.stop_claiming(trouble)

    async def _complete_or_leave_open(self) -> None:
        """Complete, if every page was read and every user is done; else due again after the least wait."""
        claims, limits, key = self._run.services.claims, self._run.services.limits, self.shard.key
        if self._read_to_end and self._users == self._done:
            await claims.complete(self._terms, self._token, ClaimState.COMPLETE)
            return
        least, most = limits.duration("shard_retry_min"), limits.duration("shard_retry_max")
        all_answered = self._read_to_end and self._users == self._done + len(self._waits)
        wait = max(least, min([most, *self._waits])) if all_answered else least
        if self._run.terminated.is_set():
            wait = timedelta(0)  # released: the next run may go on at once
        await claims.fail(self._terms, self._token, wait, 0, LEFT_OPEN)
        log.info("shard.open", key=key, users=self._users, done=self._done, wait_seconds=wait.total_seconds())
        if self._skipped:
            with suppress(KeyTrouble):  # then they are claimed once more, and their ledgers say that they have ended
                await claims.add_members(skipped_key(key), self._skipped, self._terms.expire_ms)


ShardUsers = AsyncGenerator[tuple[HeldShard, User]]


async def _keep_renewing(run: Run, shards: Sequence[HeldShard]) -> None:
    """Renew every claim at its interval until cancelled, from the event loop: a stalled loop loses them."""
    while True:
        await asyncio.sleep(run.services.limits.shard_renew_seconds)
        for held in shards:
            if not held.lost:
                try:
                    await held.renew()
                except (ClaimsDown, ConfigFault) as trouble:
                    run.stop_claiming(trouble)
                    return


async def _serve_users(run: Run, shards: Sequence[HeldShard]) -> None:
    """All users at once; then, a few at a time, those who crashed a run before; then one by one who did it again."""
    later = await _serve_lane(run, _all_users(run, shards), lane=0, width=run.services.limits.concurrency)
    later = await _serve_lane(run, _listed(later), lane=1, width=NARROW_LANE_WIDTH)
    await _serve_lane(run, _listed(later), lane=SINGLE_FILE_LANE, width=1)


async def _all_users(run: Run, shards: Sequence[HeldShard]) -> ShardUsers:
    for shard in shards:
        if run.is_stopping:
            return
        async for user in shard.users():
            yield shard, user
            if run.is_stopping:
                return
            if shard.lost:
                break


async def _listed(users: Sequence[tuple[HeldShard, User]]) -> ShardUsers:
    for shard, user in users:
        yield shard, user


async def _serve_lane(run: Run, users: ShardUsers, *, lane: int, width: int) -> list[tuple[HeldShard, User]]:
    """Serve `width` users at a time, the first ones a gap apart; returns those for a narrower lane."""
    workers = asyncio.Semaphore(width)
    later: list[tuple[HeldShard, User]] = []
    serving: set[asyncio.Task[None]] = set()
    defects: list[BaseException] = []
    gap = run.services.limits.start_gap_seconds if lane == 0 else 0.0

    async def serve(shard: HeldShard, user: User) -> None:
        with ExitStack() as worker:
            worker.callback(workers.release)  # once: at the end, or before, by worker.close
            result = await _serve_user(run, shard, user, lane, worker.close)
            if result is FOR_NARROWER_LANE:
                later.append((shard, user))
                return
            shard.count(user.uid, result)
            if not result.outcome.done:
                run.served.add((user.uid, recap_date(shard.shard.cohort.zones[user.zone], user.hour)))

    def end(task: asyncio.Task[None]) -> None:
        serving.discard(task)
        if not task.cancelled() and (defect := task.exception()):
            defects.append(defect)

    try:
        async with aclosing(users):
            async for shard, user in users:
                await workers.acquire()
                task = asyncio.create_task(serve(shard, user))
                serving.add(task)
                task.add_done_callback(end)
                width -= 1
                if width > 0:
                    await asyncio.sleep(gap)
    finally:
        while serving:
            if run.bad_answers.waiting >= len(serving):  # all wait for how the LLM answers others: there are none
                run.bad_answers.resolve(blame_item=not run.is_stopping)
            await asyncio.wait(set(serving), timeout=LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if defects:
        raise defects[0]
    return later


async def _serve_user(
    run: Run, shard: HeldShard, user: User, lane: int, release_worker: Callable[[], None]
) -> TurnResult:
    if shard.lost:
        return TurnResult(Outcome.LOST)
    if shard.may_ask_llm:
        await run.pace.wait()
    slot = slot_on(user.zone, shard.shard.cohort.zones[user.zone], user.hour)
    return await claim_and_recap(run, user, slot, lane, release_worker=release_worker)
