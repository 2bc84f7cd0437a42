"""One run: docs/protocol.md, section 6, top to bottom."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog

from notifications.domain.claim import (
    EXPIRY_AFTER_SLOT_MS,
    SHARD_PREFIX,
    SINCE_EXPIRY_DAYS,
    SINGLE_FILE_LANE,
    ClaimState,
    claimable,
    cohort_prefix,
    since_key,
    sweep_key,
    user_key,
)
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble, Unfinished
from notifications.domain.schedule import ONE_DAY, Phase, Slot, cohorts_between, latest_slot
from notifications.domain.shards import Shard, batches, ended_cohorts, shards_of, spread
from notifications.limits import Limits
from notifications.ports import Claims
from notifications.run.clocks import MOST_APART, host_clock
from notifications.run.outcome import Outcome, Progress, TurnResult
from notifications.run.state import Parts, Run, RunResult
from notifications.run.termination import Termination

log = structlog.get_logger()

OpenParts = Callable[[], AbstractAsyncContextManager[Parts]]
ShowProgress = Callable[[Callable[[], Progress]], AbstractAsyncContextManager[None]]
SEEN_FOR = timedelta(milliseconds=EXPIRY_AFTER_SLOT_MS)  # as long as a shard's record is kept
SLACK_MS = 300_000  # by which a clock may be set back: what was written just before is not in the future
SHUTDOWN_PREFIX = "daily_summary:shutdown:"
WARNED_DAYS = 30  # before a model's last day


@dataclass(frozen=True, slots=True)
class Due:
    """What Redis says about every shard of the last three hours, and whether a sweep is due."""

    claimable: list[Shard]  # oldest slot first
    unserved: list[Shard]  # their time is over, and no run completed them
    sweep: bool
    remembers_since: datetime  # Redis knows nothing of the time before
    foreign_keys: list[str]  # keys of the sweep and of `since` with a foreign value: to be made anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One start of the job. `offset` is what `--now` adds to Redis time for the schedule alone."""

    claims: Claims
    limits: Limits
    open_parts: OpenParts
    terminated: Termination
    offset: timedelta = timedelta(0)
    task: int = 0  # of `tasks` that run side by side
    tasks: int = 1
    show_progress: ShowProgress = lambda progress: nullcontext()
    since: datetime | None = None  # slots that ended before this installation are not missed
    host: Callable[[], datetime] = host_clock

    async def run(self) -> RunResult:
        """Serve every due shard once, then sweep. Without anything to do, nothing is opened or imported.

        Raises ClaimsDown where Redis' clock is wrong: then nothing is claimed, and no slot is called unserved.
        """
        # 1. What is due, and whether Redis' clock is right.
        redis_now = await self.claims.now()
        now = redis_now + self.offset
        due = await read_due(self.claims, self.limits, now, self.offset, self.since)
        host_agrees = abs(redis_now - self.host()) <= MOST_APART
        if not due.claimable and not due.sweep and host_agrees:
            return RunResult(now, idle=True, unserved=self._log_unserved(due))
        async with self.open_parts() as parts:
            run = Run(parts, self.offset, self.terminated)
            await run.check_clocks(redis_now, self.host)
            unserved = self._log_unserved(due)
            sweeps = due.sweep and await self._take_sweep(due, redis_now)
            if not due.claimable and not sweeps:
                return RunResult(now, idle=True, unserved=unserved, documents_read=parts.store.reads)
            # 2 to 9. Serve the shards batch by batch, then sweep.
            await self._serve_and_sweep(run, due.claimable, now, sweeps=sweeps)
            return run.result(now, unserved)

    def _log_unserved(self, due: Due) -> int:
        """Log and count the unserved slots that Redis would remember: their users' day ended without a recap."""
        served_for = self.limits.rules.catch_up + self.limits.rules.grace
        missed = [shard for shard in due.unserved if shard.cohort.slot + served_for > due.remembers_since]
        if missed:
            log.error(
                "slots.unserved",
                shards=len(missed),
                remembered=len(missed),  # as alerts of former versions ask for
                first=missed[0].cohort.slot.isoformat(),
                last=missed[-1].cohort.slot.isoformat(),
                redis_remembers_since=due.remembers_since.isoformat(),
            )
        return len(missed)

    async def _take_sweep(self, due: Due, redis_now: datetime) -> bool:
        """Take the sweep's turn, and note that Redis remembers from now on. Values of others are deleted."""
        place = self.claims.environment
        for key in due.foreign_keys:
            log.error("redis.key_replaced", key=key, reason=f"{key} held what this job did not write; it is made anew.")
            await self.claims.delete(key)
        if not await self.claims.take_turn(sweep_key(place), self.limits.span("sweep"), redis_now):
            return False
        if await self.claims.remember(since_key(place), redis_now, SINCE_EXPIRY_DAYS * ONE_DAY):
            log.info("redis.first_seen", key=since_key(place), unserved=len(due.unserved))
        return True

    async def _serve_and_sweep(self, run: Run, shards: Sequence[Shard], now: datetime, *, sweeps: bool) -> None:
        from notifications.run.sweep import sweep

        swept = False
        try:
            async with self.show_progress(lambda: run.counts.progress):
                await self._serve(run, shards)
                if shards:
                    await warn_of_shutdown(run, now - self.offset)
                swept = sweeps and await sweep(run, now)
            await run.pusher.delete_dead_tokens(run.parts.store)
        finally:
            if sweeps and not swept:  # the next run's turn
                with suppress(ClaimsDown, ConfigFault, KeyTrouble):
                    await self.claims.delete(sweep_key(self.claims.environment))

    async def _serve(self, run: Run, shards: Sequence[Shard]) -> None:
        from notifications.run.shard import serve_batch

        for sentence in await self.claims.warnings():
            log.warning("redis.settings", reason=sentence)
        count = self.limits.shards
        ordered = spread(shards, self.task, self.tasks, count)
        async with run.pace.following():
            for batch in batches(ordered, count, self.tasks, self.limits.shards_at_once):
                if run.stops:
                    break
                await serve_batch(run, batch)

    async def run_user(self, uid: str) -> RunResult:
        """Step 10: serve this user's latest slot without a shard, if its time is not over.

        Raises ConfigFault where there is no such user.
        """
        from notifications.run.user import claim_and_recap

        redis_now = await self.claims.now()
        now = redis_now + self.offset
        async with self.open_parts() as parts:
            run = Run(parts, self.offset, self.terminated)
            await run.check_clocks(redis_now, self.host)
            listed = await parts.store.user(uid)
            if listed is None or listed.user is None:
                raise ConfigFault(listed.flaw if listed else f"users/{uid} does not exist; check the uid.")
            user = listed.user
            slot = latest_slot(user.zone, user.hour, now)
            if user.enabled and self.limits.rules.phase(slot.at, now) is Phase.OVER:
                log.info("user.not_due", uid=uid, last_slot=slot.at.isoformat())
                return run.result(now)
            run.counts.due = 1
            if not user.enabled:
                run.counts.add(TurnResult(Outcome.SKIPPED, reason="user_gone_or_off"))
                return run.result(now)
            result = await claim_and_recap(run, user, slot, SINGLE_FILE_LANE)
            run.counts.add(result)
            if result.outcome is Outcome.DONE_BEFORE:
                await self._check_sent_claim(run, uid, slot)
            await run.pusher.delete_dead_tokens(parts.store)
            return run.result(now)

    async def _check_sent_claim(self, run: Run, uid: str, slot: Slot) -> None:
        """Raises Unfinished for a claim that is `sent` without a ledger.

        The claim stays: two environments' runs would delete each other's.
        """
        day = slot.recap_date
        [record] = await self.claims.read([user_key(uid, day)])
        if record.state is ClaimState.SENT and not await run.parts.store.ledgers_between(uid, day, day):
            again = f"python job.py resend {uid} {day}"
            raise Unfinished(f"{sent_elsewhere(uid, day)} {again} makes it here.")


async def read_due(claims: Claims, limits: Limits, now: datetime, offset: timedelta, since: datetime | None) -> Due:
    """Read the state of every shard and of the sweep by pipelined GETs: one round trip."""
    place, rules = claims.environment, limits.rules
    cohorts = cohorts_between(now - SEEN_FOR, now)
    shards = [shard for cohort in cohorts for shard in shards_of(cohort, place, limits.shards)]
    keys = [*(shard.key for shard in shards), sweep_key(place), since_key(place)]
    *records, swept, remembered = await claims.read(keys)
    redis_ms = int((now - offset).timestamp() * 1000)
    due, unserved = list[Shard](), list[Shard]()
    for shard, record in zip(shards, records, strict=True):
        slot = shard.cohort.slot
        if rules.phase(slot, now) is not Phase.OVER:
            if record.state is ClaimState.FOREIGN or claimable(record, redis_ms):  # the claim ends a foreign value
                due.append(shard)
        elif record.state is not ClaimState.COMPLETE and (since is None or slot + rules.catch_up + rules.grace > since):
            unserved.append(shard)
    remembers = 0 < remembered.until <= redis_ms + SLACK_MS and remembered.state is ClaimState.COMPLETE
    foreign = [sweep_key(place)] if swept.state is ClaimState.FOREIGN else []
    if not remembers and remembered.state is not ClaimState.ABSENT:
        foreign.append(since_key(place))
    return Due(
        claimable=due,
        unserved=await _not_completed_by_any_version(claims, unserved) if unserved else [],
        sweep=swept.state is ClaimState.ABSENT or bool(foreign),
        remembers_since=datetime.fromtimestamp(remembered.until / 1000, UTC) + offset if remembers else now,
        foreign_keys=foreign,
    )


async def _not_completed_by_any_version(claims: Claims, unserved: Sequence[Shard]) -> list[Shard]:
    """Leave out cohorts that another version completed: one of other tzdata, or with another number of shards."""
    complete: list[str] = []
    with suppress(KeyTrouble, ConfigFault):  # without the right to scan: rather reported once too often than never
        complete = [key.key async for key in claims.scan(f"{SHARD_PREFIX}*") if key.record.state is ClaimState.COMPLETE]
    ended = ended_cohorts(complete, claims.environment)
    return [shard for shard in unserved if cohort_prefix(shard.cohort.slot, shard.cohort.hour) not in ended]


def sent_elsewhere(uid: str, day: date) -> str:
    """What a `sent` claim without a ledger means, as a sentence."""
    return (
        f"Redis says that {uid} {day} was sent, and the store has no ledger of it: "
        "it was another environment's, or the store was emptied since."
    )


async def warn_of_shutdown(run: Run, redis_now: datetime) -> None:
    """Log `llm.shutdown` where a model ends soon. Asked once a day over all processes; a failure is no error."""
    for llm in run.parts.llms:
        if run.stops:
            return
        key = f"{SHUTDOWN_PREFIX}{hashlib.sha256(llm.where.encode()).hexdigest()[:16]}"
        with suppress(ClaimsDown, ConfigFault, KeyTrouble):
            day = await llm.last_day() if await run.parts.claims.take_turn(key, ONE_DAY, redis_now) else None
            if day is not None and (days := days_left(day, redis_now)) <= WARNED_DAYS:
                log.warning("llm.shutdown", model=llm.model, shuts_down_on=day.isoformat(), days_left=days)


def days_left(last_day: date, now: datetime) -> int:
    """Days until that date; negative after it."""
    return (last_day - now.date()).days
