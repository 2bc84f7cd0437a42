"""One run: PROTOCOL section 6, top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from notifications.config import Settings
from notifications.domain.claim import SINGLE_FILE_LANE, Answer, Stored, new_token
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble, Malformed, RecapError, StoreDown
from notifications.domain.model import Ledger, User
from notifications.domain.push import deletions_allowed
from notifications.domain.schedule import Phase, Rules, Slot, latest_slot, slot_on
from notifications.ports import Claims
from notifications.recap_user import Claimed, Outcome, close_dead, recap_user
from notifications.run import Counts, Parts, Run
from notifications.shards import Due, HeldShard, Shard, claim_shard, due_shards, keep_renewing, spread

log = structlog.get_logger()

NARROW_LANE_WIDTH = 8
LATER = Outcome(False, "later")
STOPPED = Outcome(False, "stopped")
ERROR = Outcome(False, "error")

OpenParts = Callable[[], AbstractAsyncContextManager[Parts]]


@dataclass(slots=True)
class Report:
    """What one run did; `idle` where Redis said that nothing is claimable."""

    now: datetime
    idle: bool = False
    counts: Counts = field(default_factory=Counts)
    trouble: RecapError | None = None
    defects: int = 0
    llm_calls: int = 0
    tokens_used: int = 0
    unserved: int = 0


async def tick(
    claims: Claims,
    settings: Settings,
    open_parts: OpenParts,
    *,
    terminated: asyncio.Event,
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
        for start in range(0, len(shards), numbers.shards_at_once):
            if run.stops:
                break
            await serve_batch(run, shards[start : start + numbers.shards_at_once])
        await delete_dead_tokens(run)
        return _report(run, now, unserved)


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


def _report(run: Run, now: datetime, unserved: int = 0) -> Report:
    summarizer = run.parts.summarizer
    return Report(
        now,
        counts=run.counts,
        trouble=run.verdict,
        defects=run.defects,
        llm_calls=summarizer.calls,
        tokens_used=summarizer.tokens,
        unserved=unserved,
    )


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

    A user is claimed only when a worker is free for it. The first `width` start over the
    ramp-up time, since starting hundreds of calls at once stalls the loop.
    """
    free = asyncio.Semaphore(width)
    later: list[tuple[HeldShard, User]] = []
    serving: set[asyncio.Task[None]] = set()
    gap = run.parts.numbers.ramp_up_seconds / width if lane == 0 else 0.0

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


async def claim_and_recap(
    run: Run, user: User, slot: Slot, lane: int, *, replaces: Ledger | None = None, resend: bool = False
) -> Outcome:
    """One claim in one lane, and what its answer asks for."""
    if run.stops:
        return STOPPED
    terms, token = run.user_terms(user.uid, slot), new_token()
    reply = await run.parts.claims.claim(terms, token, lane)
    now = reply.now + run.offset
    claimed = Claimed(
        user=user,
        slot=slot,
        terms=terms,
        token=token,
        won=reply,
        closing=not resend and run.parts.rules.phase(slot.at, now) is not Phase.DUE,
        now=now,
        since=run.parts.clock.seconds(),
        replaces=replaces,
        resend=resend,
    )
    match reply.answer:
        case Answer.WON:
            run.counts.claimed += 1
            return await recap_user(run, claimed)
        case Answer.DONE if reply.final is Stored.DEAD:
            outcome = "failures" if reply.failures >= terms.max_failures else "crashes"
            return await close_dead(run, claimed, outcome, reply)
        case Answer.DONE:
            run.counts.done_before += 1
            return Outcome(True, str(reply.final))
        case Answer.LATER:
            return LATER
        case Answer.HELD:
            run.counts.held += 1
            return Outcome(False, "held", reply.wait)
        case _:
            run.counts.waiting += 1
            return Outcome(False, "waiting", reply.wait)


async def tick_user(
    claims: Claims, open_parts: OpenParts, uid: str, *, terminated: asyncio.Event, offset: timedelta = timedelta(0)
) -> Report:
    """This user only, without a shard: their latest slot, if it is still served. Respects the claim.

    Raises ConfigFault where there is no such user, or its document can't be served.
    """
    now = await claims.now() + offset
    async with open_parts() as parts:
        run = Run(parts, offset, terminated)
        user = await parts.store.user(uid)
        if user is None:
            raise ConfigFault(f"users/{uid} does not exist, or lacks a zone or an hour; `doctor` says which.")
        slot = latest_slot(user.zone, user.hour, now)
        run.counts.due = 1
        if not user.enabled:
            run.counts.skipped["nobody"] += 1
        elif parts.rules.phase(slot.at, now) is Phase.OVER:
            log.info("user.not_due", uid=uid, last_slot=slot.at.isoformat())
            run.counts.due = 0
        else:
            try:
                await claim_and_recap(run, user, slot, SINGLE_FILE_LANE)
            except (ClaimsDown, StoreDown) as trouble:
                run.stop_claiming(trouble)
            await delete_dead_tokens(run)
        return _report(run, now)


async def delete_dead_tokens(run: Run) -> None:
    """Delete the tokens that FCM no longer knows; past a fifth of the run's devices it is our error."""
    allowed = deletions_allowed(run.counts.devices)
    if len(run.dead_tokens) > allowed:
        log.error("devices.deletions_stopped", dead=len(run.dead_tokens), allowed=allowed)
    for uid, device in run.dead_tokens[:allowed]:
        with suppress(StoreDown):  # the next push finds it dead again
            run.counts.tokens_deleted += await run.parts.store.forget_device(uid, device)
