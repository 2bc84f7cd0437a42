"""A batch of shards: all its users at once, then the few, then who may kill the process alone (section 6, step 4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import structlog

from notifications.domain.claim import SINGLE_FILE_LANE
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble
from notifications.domain.model import User
from notifications.domain.schedule import recap_date, slot_on
from notifications.domain.shards import Shard
from notifications.run.outcome import Outcome, TurnResult
from notifications.run.shard import HeldShard, claim_shard, keep_renewing
from notifications.run.state import Run
from notifications.run.user import LATER, claim_and_recap

log = structlog.get_logger()

NARROW_LANE_WIDTH = 8
LOOK_AGAIN_SECONDS = 0.2


async def serve_batch(run: Run, shards: Sequence[Shard]) -> None:
    """Claim a batch of shards, carry all their users through the lanes, finish the shards."""
    held = [won for shard in shards if (won := await _claim(run, shard))]
    if not held:
        return
    renewing = asyncio.create_task(keep_renewing(run, held))
    try:
        await serve_users(run, held)
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        for shard in held:
            await _finish(run, shard)


async def _claim(run: Run, shard: Shard) -> HeldShard | None:
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


async def _finish(run: Run, shard: HeldShard) -> None:
    try:
        await shard.finish()
    except KeyTrouble as trouble:  # its lease runs out by itself
        log.warning("shard.unfinished", key=shard.shard.key, reason=str(trouble))
    except (ClaimsDown, ConfigFault) as trouble:
        log.warning("shard.unfinished", key=shard.shard.key, reason=str(trouble))
        run.stop_claiming(trouble)


async def serve_users(run: Run, shards: Sequence[HeldShard]) -> None:
    """Every user of these shards: who crashed a run before waits for a narrower lane."""
    later = await pass_over(run, _everybody(run, shards), lane=0, width=run.limits.concurrency)
    later = await pass_over(run, _again(later), lane=1, width=NARROW_LANE_WIDTH)
    await pass_over(run, _again(later), lane=SINGLE_FILE_LANE, width=1)


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
    """One pass with `width` users at a time, the first ones a gap apart; returns those for a narrower lane."""
    free = asyncio.Semaphore(width)
    later: list[tuple[HeldShard, User]] = []
    serving: set[asyncio.Task[None]] = set()
    raised: list[BaseException] = []
    gap = run.limits.start_gap_seconds if lane == 0 else 0.0

    async def serve(shard: HeldShard, user: User) -> None:
        place = WorkerPlace(free)
        try:
            outcome = await _serve_user(run, shard, user, lane, place.leave)
            if outcome is LATER:
                later.append((shard, user))
                return
            shard.count(user.uid, outcome)
            if not outcome.ending.done:
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


class WorkerPlace:
    """A worker's place, which is left once."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free: asyncio.Semaphore | None = free

    def leave(self) -> None:
        if self._free is not None:
            self._free.release()
            self._free = None


async def _all_served(run: Run, serving: set[asyncio.Task[None]]) -> None:
    """Everybody's end. Where all who are left wait for what the LLM answers others, nobody else will be asked."""
    while serving:
        if run.bad_answers.waiting >= len(serving):
            run.bad_answers.decide(items=not run.stops)
        await asyncio.wait(set(serving), timeout=LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)


async def _serve_user(
    run: Run, shard: HeldShard, user: User, lane: int, release_worker: Callable[[], None]
) -> TurnResult:
    if shard.lost:
        return TurnResult(Outcome.LOST)
    cohort = shard.shard.cohort
    if shard.asks:
        await run.pace.turn_to_ask()
    slot = slot_on(user.zone, cohort.zones[user.zone], user.hour)
    return await claim_and_recap(run, user, slot, lane, release_worker=release_worker)
