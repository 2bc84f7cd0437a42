"""Serve a batch of shards: claim, renew, read users, serve them in lanes, finish (docs/protocol.md, section 6)."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing, suppress
from dataclasses import replace
from datetime import timedelta

import structlog

from notifications.domain.claim import (
    FOREIGN_TEXT,
    FOREIGN_TYPE,
    SINGLE_FILE_LANE,
    ClaimAnswer,
    ClaimState,
    skipped_key,
)
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble, StoreDown
from notifications.domain.model import User
from notifications.domain.schedule import recap_date, slot_on
from notifications.domain.shards import Shard
from notifications.ports import ClaimTerms, UserDocument
from notifications.run.outcome import LEFT_OPEN, WAITS_FOR, OpenHour, Outcome, TurnResult
from notifications.run.state import Run
from notifications.run.user import FOR_NARROWER_LANE, claim_and_recap

log = structlog.get_logger()

MAX_SKIPPED = 10_000  # skipped uids remembered for one shard
MAX_ZONES = 30  # values of one `in` filter of the store
NARROW_LANE_WIDTH = 8  # users at a time
POLL_SECONDS = 0.2  # how often a lane checks whether all its users wait for a verdict


async def serve_batch(run: Run, shards: Sequence[Shard]) -> None:
    """Claim a batch of shards, serve all their users, finish the shards."""
    held = [held_shard for shard in shards if (held_shard := await claim_shard(run, shard))]
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


async def count_users(run: Run, shard: Shard) -> int:
    """How many users the shard has; 0 while the store is down."""
    total = 0
    if run.read_breaker.down is not None:
        return total
    with suppress(StoreDown, ConfigFault):
        for zones in shard.cohort.zone_batches(MAX_ZONES):
            total += await run.read_breaker.watch(run.services.store.count_due(zones, shard.cohort.hour, shard.ids))
    return total


async def claim_shard(run: Run, shard: Shard) -> HeldShard | None:
    """Claim a shard; None if it can't be claimed now. An error is logged, or stops the run's claiming."""
    if run.is_stopping:
        return None
    terms = run.shard_terms(shard)
    try:
        claimed = await run.claim(terms, SINGLE_FILE_LANE)
        reply = claimed.reply
        if reply.reason in (FOREIGN_TEXT, FOREIGN_TYPE):
            raise KeyTrouble(
                f"{shard.key} holds what is no claim of this job, and none of its users is served before that ends, "
                "in two hours at most; look at it by python job.py inspect --keys, and delete it."
            )
        if reply.answer is not ClaimAnswer.WON:
            if reply.answer is ClaimAnswer.HELD:  # by a run that began in the same moment
                run.open_hours.append(OpenHour(shard.cohort.slot, reply.now + run.offset + reply.wait, reply.now))
            return None
        if reply.crashes and not reply.reason:  # a claim that was given back has its reason: nobody died since
            log.warning("shard.taken_over", key=shard.key, crashes=reply.crashes)
        skipped: frozenset[str] = frozenset()
        if reply.reason.startswith(LEFT_OPEN):
            with suppress(KeyTrouble):
                skipped = await run.services.claims.members(skipped_key(shard.key))
    except (ClaimsDown, ConfigFault) as error:
        run.stop_claiming(error)
        return None
    except KeyTrouble as error:
        run.defects += 1
        log.error("shard.key_trouble", key=shard.key, reason=str(error))
        return None
    phase = run.services.limits.rules.phase(shard.cohort.slot, reply.now + run.offset)
    waits_for_pause = phase.is_due or not run.services.has_fallback
    return HeldShard(
        run,
        shard,
        terms,
        claimed.token,
        waits_for_pause=waits_for_pause,
        skipped=skipped,
        was_killed=reply.crashes > 0,
    )


class HeldShard:
    """One shard under our claim, and the results of its users.

    `waits_for_pause`: whether its users wait for the LLM's pause before they are claimed. True until the catch-up ends;
    without a fallback also in the closing pass, though that asks no LLM. `skipped`: users that an earlier run skipped.
    `was_killed`: whether a run died over this shard, whose users' claims are still held.
    """

    def __init__(
        self,
        run: Run,
        shard: Shard,
        terms: ClaimTerms,
        token: str,
        *,
        waits_for_pause: bool,
        skipped: frozenset[str],
        was_killed: bool,
    ) -> None:
        self.shard = shard
        self.waits_for_pause = waits_for_pause
        self.is_lost = False
        self._run = run
        self._terms = terms
        self._token = token
        self._has_read_all = False
        self._read_count = 0
        self._done_count = 0
        self._waits: list[timedelta] = []  # of the users that are not done
        self._unfinished: Counter[tuple[Outcome, str]] = Counter()  # the same users, by reason
        self._skipped_before = skipped
        self._was_killed = was_killed
        self._skipped: set[str] = set()

    async def users(self) -> AsyncGenerator[User]:
        """Yield the shard's users, while the next page is fetched. Unusable documents are only counted."""
        try:
            for zones in self.shard.cohort.zone_batches(MAX_ZONES):
                async for document in self._pages(zones):
                    self._read_count += 1
                    self._run.counts.due += 1
                    if document.uid in self._skipped_before:
                        self.count(document.uid, TurnResult(Outcome.DONE_BEFORE))
                    elif document.user is not None:
                        yield document.user
                    else:
                        self._run.defects += 1
                        log.error("user.unreadable", uid=document.uid, reason=document.flaw)
                        self.count(document.uid, TurnResult(Outcome.UNREADABLE))
            self._has_read_all = True
        except TimeoutError:
            log.info("shard.stopped", key=self.shard.key)  # by SIGTERM; the next run serves the others
        except StoreDown as error:
            log.error("shard.page_failed", key=self.shard.key, reason=str(error))
        except ConfigFault as error:
            self._run.stop_claiming(error)

    async def _pages(self, zones: Sequence[str]) -> AsyncGenerator[UserDocument]:
        next_page: asyncio.Task[list[UserDocument]] | None = self._fetch(zones, None)
        try:
            while next_page is not None:
                async with self._run.terminated.timeout(math.inf):  # the store has its own time-out; SIGTERM ends this
                    page = await self._run.read_breaker.watch(next_page)
                is_full = len(page) == self._run.services.limits.page_size
                next_page = self._fetch(zones, page[-1].uid) if is_full else None
                for document in page:
                    yield document
        finally:
            if next_page is not None:
                next_page.cancel()

    def _fetch(self, zones: Sequence[str], after: str | None) -> asyncio.Task[list[UserDocument]]:
        services, hour = self._run.services, self.shard.cohort.hour
        due_users = services.store.due_users(zones, hour, self.shard.ids, after, services.limits.page_size)
        return asyncio.create_task(due_users)

    def count(self, uid: str, result: TurnResult) -> None:
        """Count one user's result. The shard is complete only when all users are done."""
        if self._was_killed and result.outcome is Outcome.HELD:
            result = replace(result, reason="killed_run")
        self._run.counts.add(result, self.shard.cohort.slot)
        if result.freed and len(self._skipped) < MAX_SKIPPED:
            self._skipped.add(uid)
        if result.outcome.done:
            self._done_count += 1
        else:
            self._waits.append(result.wait)
            self._unfinished[result.outcome, result.reason] += 1

    async def renew(self) -> None:
        """Extend the claim; if it is lost, no more users of the shard are claimed. Raises ClaimsDown or ConfigFault."""
        try:
            reply = await self._run.services.claims.renew(self._terms, self._token)
            self.is_lost = reply.answer is not ClaimAnswer.OK
        except KeyTrouble:
            self.is_lost = True
        if self.is_lost:
            log.warning("shard.lost", key=self.shard.key)

    async def finish(self) -> None:
        """End the claim. If that fails, the lease runs out by itself."""
        try:
            if self.is_lost:
                await self._count_unreached()
            else:
                await self._complete_or_leave_open()
        except (ClaimsDown, ConfigFault, KeyTrouble) as error:
            log.warning("shard.unfinished", key=self.shard.key, reason=str(error))
            if not isinstance(error, KeyTrouble):
                self._run.stop_claiming(error)

    async def _complete_or_leave_open(self) -> None:
        """Complete the shard if all users were read and are done; else make it due again after the shortest wait."""
        claims, limits, key = self._run.services.claims, self._run.services.limits, self.shard.key
        if self._has_read_all and self._read_count == self._done_count:
            await claims.complete(self._terms, self._token, ClaimState.COMPLETE)
            return
        min_wait, max_wait = limits.duration("shard_retry_min"), limits.duration("shard_retry_max")
        has_all_results = self._has_read_all and self._read_count == self._done_count + len(self._waits)
        wait = max(min_wait, min([max_wait, *self._waits])) if has_all_results else min_wait
        if self._run.terminated.is_set():
            wait = timedelta(0)  # so that the next run can continue at once
        else:
            await self._count_unreached()
        await claims.fail(self._terms, self._token, wait, 0, self._why_open())
        log.info(
            "shard.open", key=key, users=self._read_count, done=self._done_count, wait_seconds=wait.total_seconds()
        )
        if self._skipped:
            with suppress(KeyTrouble):  # without it they are claimed once more, and found ended in their ledgers
                await claims.add_members(skipped_key(key), self._skipped, self._terms.expire_ms)

    async def _count_unreached(self) -> None:
        if not self._has_read_all:
            self._run.counts.unreached += max(0, await count_users(self._run, self.shard) - self._read_count)

    def _why_open(self) -> str:
        """Why the shard is left open, as a code that an idle tick finds in its record."""
        if not self._has_read_all:
            return "_".join(filter(None, (LEFT_OPEN, self._run.stop_code)))
        if self._unfinished[Outcome.HELD, "killed_run"]:
            return LEFT_OPEN  # the record's crashes say so
        waiting = Counter({why: count for (how, why), count in self._unfinished.items() if how is Outcome.WAITING})
        cause = next((why for why, _ in waiting.most_common() if why), self._run.stop_code)
        return f"{WAITS_FOR}_{cause.removeprefix('provider_')}" if cause else LEFT_OPEN


ShardUsers = AsyncGenerator[tuple[HeldShard, User]]


async def _keep_renewing(run: Run, shards: Sequence[HeldShard]) -> None:
    """Renew all claims regularly until cancelled. Runs in the event loop on purpose: a stalled loop loses them."""
    while True:
        await asyncio.sleep(run.services.limits.shard_renew_seconds)
        for held in shards:
            if not held.is_lost:
                try:
                    await held.renew()
                except (ClaimsDown, ConfigFault) as error:
                    run.stop_claiming(error)
                    return


async def _serve_users(run: Run, shards: Sequence[HeldShard]) -> None:
    """Serve the users in three lanes, each narrower than the last.

    First all users at once; then those whose earlier run crashed, a few at a time; last, one by one, those who crashed
    twice.
    """
    later = await _serve_lane(run, _all_users(run, shards), lane=0, width=run.services.limits.concurrency)
    later = await _serve_lane(run, _as_generator(later), lane=1, width=NARROW_LANE_WIDTH)
    await _serve_lane(run, _as_generator(later), lane=SINGLE_FILE_LANE, width=1)


async def _all_users(run: Run, shards: Sequence[HeldShard]) -> ShardUsers:
    for shard in shards:
        if run.is_stopping:
            return
        async for user in shard.users():
            yield shard, user
            if run.is_stopping:
                return
            if shard.is_lost:
                break


async def _as_generator(users: Sequence[tuple[HeldShard, User]]) -> ShardUsers:
    for shard, user in users:
        yield shard, user


async def _serve_lane(run: Run, users: ShardUsers, *, lane: int, width: int) -> list[tuple[HeldShard, User]]:
    """Serve `width` users at a time, starting the first ones a gap apart. Returns those for a narrower lane."""
    workers = asyncio.Semaphore(width)
    later: list[tuple[HeldShard, User]] = []
    serving: set[asyncio.Task[None]] = set()
    defects: list[BaseException] = []
    gap = run.services.limits.start_gap_seconds if lane == 0 else 0.0

    async def serve(shard: HeldShard, user: User) -> None:
        with ExitStack() as worker:
            worker.callback(workers.release)  # released once: at the end, or earlier by worker.close()
            result = await _serve_user(run, shard, user, lane, worker.close)
            if result is FOR_NARROWER_LANE:
                later.append((shard, user))
                return
            shard.count(user.uid, result)
            if not result.outcome.done:
                run.served.add((user.uid, recap_date(shard.shard.cohort.zones[user.zone], user.hour)))

    def on_done(task: asyncio.Task[None]) -> None:
        serving.discard(task)
        if not task.cancelled() and (defect := task.exception()):
            defects.append(defect)

    try:
        async with aclosing(users):
            async for shard, user in users:
                await workers.acquire()
                task = asyncio.create_task(serve(shard, user))
                serving.add(task)
                task.add_done_callback(on_done)
                width -= 1  # from here on: how many starts still need a gap
                if width > 0:
                    await asyncio.sleep(gap)
    finally:
        while serving:
            # if all users wait for a verdict, no other answer can bring one
            if run.bad_answers.waiting >= len(serving):
                run.bad_answers.resolve(blame_item=not run.is_stopping)
            await asyncio.wait(set(serving), timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if defects:
        raise defects[0]
    return later


async def _serve_user(
    run: Run, shard: HeldShard, user: User, lane: int, release_worker: Callable[[], None]
) -> TurnResult:
    if shard.is_lost:
        return TurnResult(Outcome.LOST)
    if shard.waits_for_pause:
        await run.pace.wait()
    slot = slot_on(user.zone, shard.shard.cohort.zones[user.zone], user.hour)
    return await claim_and_recap(run, user, slot, lane, release_worker=release_worker)
