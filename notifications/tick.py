"""One run: PROTOCOL section 6, top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

import structlog

from notifications.config import Settings
from notifications.domain.claim import SINGLE_FILE_LANE
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble, Malformed
from notifications.domain.model import User
from notifications.domain.schedule import Rules, slot_on
from notifications.held_shard import HeldShard, claim_shard, keep_renewing
from notifications.one_user import ERROR, LATER, OpenParts, claim_and_recap
from notifications.ports import Claims
from notifications.push_devices import delete_dead_tokens
from notifications.report import Report, report_of
from notifications.run import Run
from notifications.settle import Outcome
from notifications.shards import Due, Shard, due_shards, spread
from notifications.termination import Termination

log = structlog.get_logger()

NARROW_LANE_WIDTH = 8


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
    if not due.claimable:
        return Report(now, idle=True, unserved=unserved)
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
        await delete_dead_tokens(run)
        return report_of(run, now, unserved)


def _tell_unserved(due: Due, rules: Rules, since: datetime | None) -> int:
    """Slots whose catch-up and grace went by without any run ending them: the scheduler was down."""
    ended = rules.catch_up + rules.grace
    missed = [shard for shard in due.unserved if since is None or shard.cohort.slot + ended > since]
    if missed:
        log.error(
            "slots.unserved",
            shards=len(missed),
            first=missed[0].cohort.slot.isoformat(),
            last=missed[-1].cohort.slot.isoformat(),
        )
    return len(missed)


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
        for shard in held:
            await _finish_shard(shard)


async def _claim_shard(run: Run, shard: Shard) -> HeldShard | None:
    if run.stops:
        return None
    try:
        return await claim_shard(run, shard)
    except ClaimsDown as trouble:
        run.stop_claiming(trouble)
    except KeyTrouble as trouble:
        log.error("shard.key_trouble", key=shard.key, reason=str(trouble))
    return None


async def _finish_shard(shard: HeldShard) -> None:
    try:
        await shard.finish()
    except (ClaimsDown, KeyTrouble) as trouble:  # its lease runs out by itself
        log.warning("shard.unfinished", key=shard.shard.key, reason=str(trouble))


async def _everybody(run: Run, shards: Sequence[HeldShard]) -> AsyncGenerator[tuple[HeldShard, User]]:
    for shard in shards:
        if run.stops:
            return
        async for user in shard.users():
            if run.stops:
                return
            if shard.lost:
                break
            yield shard, user


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
    gap = run.parts.numbers.start_gap_seconds if lane == 0 else 0.0

    async def serve(shard: HeldShard, user: User) -> None:
        try:
            outcome = await serve_user(run, shard, user, lane)
            if outcome is LATER:
                later.append((shard, user))
            else:
                shard.note(outcome)
        finally:
            free.release()

    try:
        async with aclosing(everybody):
            async for shard, user in everybody:
                await free.acquire()
                if run.stops:
                    break
                if shard.lost:
                    free.release()
                    continue
                task = asyncio.create_task(serve(shard, user))
                serving.add(task)
                task.add_done_callback(serving.discard)
                width -= 1
                if width > 0:
                    await asyncio.sleep(gap)
    finally:
        await asyncio.gather(*serving)
    return later


async def serve_user(run: Run, shard: HeldShard, user: User, lane: int) -> Outcome:
    """Claim one user and carry them through. Here one user's trouble is kept from the others."""
    cohort = shard.shard.cohort
    slot = slot_on(user.zone, cohort.zones[user.zone], user.hour)
    if (early := shard.early(user.uid)) > timedelta(0):
        run.counts.waiting += 1
        return Outcome(False, "spread", early)
    await run.pace.turn_to_ask()
    try:
        return await claim_and_recap(run, user, slot, lane)
    except (ClaimsDown, ConfigFault) as trouble:
        run.stop_claiming(trouble)
    except (KeyTrouble, Malformed) as trouble:
        log.error("recap.trouble", uid=user.uid, reason=str(trouble))
    except Exception:  # a defect of ours: told with its stack, and the other users go on
        run.defects += 1
        run.counts.failed += 1
        log.exception("recap.defect", uid=user.uid, date=str(slot.recap_date))
    return ERROR
