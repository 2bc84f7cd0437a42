"""One run: PROTOCOL section 6, top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from datetime import datetime, timedelta

import structlog

from notifications.domain.claim import SINCE_EXPIRY_DAYS, SINCE_KEY, SINGLE_FILE_LANE, SWEEP_KEY
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble
from notifications.domain.model import User
from notifications.domain.schedule import ONE_DAY, Rules, recap_date, slot_on
from notifications.ports import Claims
from notifications.run.one_user import LATER, OpenParts, claim_and_recap
from notifications.run.report import Report, report_of
from notifications.run.shard import HeldShard, claim_shard, keep_renewing
from notifications.run.shards import Due, Shard, due_shards, spread
from notifications.run.state import Ending, Outcome, Run
from notifications.run.sweep import sweep
from notifications.run.termination import Termination
from notifications.settings import Settings

log = structlog.get_logger()

NARROW_LANE_WIDTH = 8
LOOK_AGAIN_SECONDS = 0.2


async def tick(
    claims: Claims,
    settings: Settings,
    open_parts: OpenParts,
    *,
    terminated: Termination,
    offset: timedelta = timedelta(0),
    since: datetime | None = None,
) -> Report:
    """Serve every due shard once. `since`: slots that ended before this installation are not missed."""
    numbers = settings.numbers
    rules = Rules(numbers.span("catch_up"), numbers.span("grace"))
    now = await claims.now() + offset
    due = await due_shards(claims, rules, numbers.shards, now, offset)
    unserved = _tell_unserved(due, rules, since)
    sweeps = due.sweep and await claims.take_turn(SWEEP_KEY, numbers.span("sweep"), now - offset)
    if sweeps:
        await claims.take_turn(SINCE_KEY, SINCE_EXPIRY_DAYS * ONE_DAY, now - offset)
    if not due.claimable and not sweeps:
        return Report(now, idle=True, unserved=unserved)
    finished = False
    try:
        report, finished = await _work(claims, settings, open_parts, due, sweeps, terminated, offset, now, unserved)
        return report
    finally:
        if sweeps and not finished:
            with suppress(ClaimsDown, ConfigFault, KeyTrouble):
                await claims.forget(SWEEP_KEY)  # the next run's turn


async def _work(
    claims: Claims,
    settings: Settings,
    open_parts: OpenParts,
    due: Due,
    sweeps: bool,
    terminated: Termination,
    offset: timedelta,
    now: datetime,
    unserved: int,
) -> tuple[Report, bool]:
    """Batch after batch of shards, then the sweep; the report, and whether a sweep that was due was finished."""
    numbers = settings.numbers
    async with open_parts() as parts:
        for sentence in await claims.warnings():
            log.warning("redis.settings", reason=sentence)
        run = Run(parts, offset, terminated)
        shards = spread(due.claimable, settings.task_index, settings.task_count, numbers.shards)
        following = asyncio.create_task(run.pace.follow())
        try:
            for start in range(0, len(shards), numbers.shards_at_once):
                if run.stops:
                    break
                await serve_batch(run, shards[start : start + numbers.shards_at_once])
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        swept = sweeps and await sweep(run, now)
        await run.pusher.delete_dead_tokens(parts.store)
        return report_of(run, now, unserved), swept


def _tell_unserved(due: Due, rules: Rules, since: datetime | None) -> int:
    """Slots whose catch-up and grace went by without any run ending them: the scheduler was down, or Redis forgot.

    Returns how many of them Redis would remember: their users' day ended without a recap.
    """
    ended = rules.catch_up + rules.grace
    missed = [shard for shard in due.unserved if since is None or shard.cohort.slot + ended > since]
    if missed:
        log.error(
            "slots.unserved",
            shards=len(missed),
            first=missed[0].cohort.slot.isoformat(),
            last=missed[-1].cohort.slot.isoformat(),
            redis_remembers_since=due.remembers_since.isoformat(),
        )
    return sum(shard.cohort.slot + ended > due.remembers_since for shard in missed)


async def serve_batch(run: Run, shards: Sequence[Shard]) -> None:
    """Claim a batch of shards, pass over all their users once a lane, finish the shards."""
    held = [won for shard in shards if (won := await _claim_shard(run, shard))]
    if not held:
        return
    renewing = asyncio.create_task(keep_renewing(run, held))
    try:
        later = await pass_over(run, _everybody(run, held), lane=0, width=run.parts.numbers.concurrency)
        later = await pass_over(run, _again(later), lane=1, width=NARROW_LANE_WIDTH)
        await pass_over(run, _again(later), lane=SINGLE_FILE_LANE, width=1)
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        for shard in held:
            await _finish_shard(run, shard)


async def _claim_shard(run: Run, shard: Shard) -> HeldShard | None:
    if run.stops:
        return None
    try:
        return await claim_shard(run, shard)
    except (ClaimsDown, ConfigFault) as trouble:
        run.stop_claiming(trouble)
    except KeyTrouble as trouble:
        run.defects += 1
        log.error("shard.key_trouble", key=shard.key, reason=str(trouble))
    return None


async def _finish_shard(run: Run, shard: HeldShard) -> None:
    try:
        await shard.finish()
    except KeyTrouble as trouble:  # its lease runs out by itself
        log.warning("shard.unfinished", key=shard.shard.key, reason=str(trouble))
    except (ClaimsDown, ConfigFault) as trouble:
        log.warning("shard.unfinished", key=shard.shard.key, reason=str(trouble))
        run.stop_claiming(trouble)


async def _everybody(run: Run, shards: Sequence[HeldShard]) -> AsyncGenerator[tuple[HeldShard, User]]:
    for shard in shards:
        if run.stops:
            return
        async for user in shard.users():
            yield shard, user
            if run.stops:
                return
            if shard.lost:
                break


async def _again(later: Sequence[tuple[HeldShard, User]]) -> AsyncGenerator[tuple[HeldShard, User]]:
    for shard, user in later:
        yield shard, user


async def pass_over(
    run: Run, everybody: AsyncGenerator[tuple[HeldShard, User]], *, lane: int, width: int
) -> list[tuple[HeldShard, User]]:
    """One pass with `width` users at a time; returns those who belong in a narrower lane.

    A user is claimed only when a worker is free for it. The first `width` start one after
    another, since starting hundreds of calls at once stalls the loop.
    """
    free = asyncio.Semaphore(width)
    later: list[tuple[HeldShard, User]] = []
    serving: set[asyncio.Task[None]] = set()
    raised: list[BaseException] = []
    gap = run.parts.numbers.start_gap_seconds if lane == 0 else 0.0

    async def serve(shard: HeldShard, user: User) -> None:
        place = Place(free)
        try:
            outcome = await serve_user(run, shard, user, lane, place.leave)
            if outcome is LATER:
                later.append((shard, user))
                return
            shard.note(outcome)
            if not outcome.done:
                run.served.add((user.uid, recap_date(shard.shard.cohort.zones[user.zone], user.hour)))
        finally:
            place.leave()

    def served(task: asyncio.Task[None]) -> None:
        serving.discard(task)
        if not task.cancelled() and (defect := task.exception()):
            raised.append(defect)

    try:
        async with aclosing(everybody):
            async for shard, user in everybody:
                await free.acquire()
                task = asyncio.create_task(serve(shard, user))
                serving.add(task)
                task.add_done_callback(served)
                width -= 1
                if width > 0:
                    await asyncio.sleep(gap)
    finally:
        await _all_served(run, serving)
    if raised:
        raise raised[0]
    return later


class Place:
    """A worker's place, which is left once."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free: asyncio.Semaphore | None = free

    def leave(self) -> None:
        """Another user may be served now."""
        if self._free is not None:
            self._free.release()
            self._free = None


async def _all_served(run: Run, serving: set[asyncio.Task[None]]) -> None:
    """Everybody's end. Where all who are left wait for what the LLM answers others, nobody else will be asked."""
    while serving:
        if run.useless_answers.waiting >= len(serving):
            run.useless_answers.decide(items=not run.stops)
        await asyncio.wait(set(serving), timeout=LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)


async def serve_user(run: Run, shard: HeldShard, user: User, lane: int, leave_place: Callable[[], None]) -> Outcome:
    """Claim one user and carry them through."""
    if shard.lost:
        return Outcome(Ending.LOST)
    cohort = shard.shard.cohort
    await run.pace.turn_to_ask()
    slot = slot_on(user.zone, cohort.zones[user.zone], user.hour)
    return await claim_and_recap(run, user, slot, lane, leave_place=leave_place)
