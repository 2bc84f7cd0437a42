"""One tick: read what is due, serve it, sweep (docs/protocol.md, section 6).

`Tick.run` has step 1 (what is due) and calls the others: steps 2 to 5 are in shard.py and, for one user, in user.py;
step 6 (SIGTERM) starts in termination.py; step 7, the watchdog of a stalled loop, is in job.py; step 8 is in sweep.py;
step 9, the warning of a model's shutdown, is `warn_of_model_shutdown` below; step 10 (`--user`) is `Tick.run_user`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

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
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble, Unfinished, UsageFault
from notifications.domain.schedule import ONE_DAY, Phase, Slot, cohorts_between, latest_slot, slot_of_day
from notifications.domain.shards import Shard, batches, ended_cohorts, shards_of, spread
from notifications.limits import Limits
from notifications.ports import Claims
from notifications.run.clocks import MAX_CLOCK_SKEW, host_clock
from notifications.run.outcome import OpenHour, Outcome, Progress, TurnResult
from notifications.run.state import Run, RunResult, Services
from notifications.run.termination import Termination

log = structlog.get_logger()

OpenServices = Callable[[], AbstractAsyncContextManager[Services]]
ShowProgress = Callable[[Callable[[], Progress]], AbstractAsyncContextManager[None]]
SHARD_HISTORY = timedelta(milliseconds=EXPIRY_AFTER_SLOT_MS)  # how far back shards are read; Redis keeps them as long
CLOCK_SLACK_MS = 300_000  # accept timestamps up to 5 min ahead: Redis' clock may have been set back
SHUTDOWN_PREFIX = "daily_summary:shutdown:"
SHUTDOWN_WARNING_DAYS = 30  # warn this long before a model is shut down


@dataclass(frozen=True, slots=True)
class DueWork:
    """What the keys in Redis say: which shards can be claimed, which were missed, whether a sweep is due."""

    claimable_shards: list[Shard]  # oldest slot first
    unserved: list[Shard]  # past catch-up and grace, never completed; also those from before `remembers_since`
    sweep: bool
    remembers_since: datetime  # Redis knows nothing of the time before
    unusable_keys: list[str]  # the sweep or since key, if its value is no such record or in the future; to be deleted
    open_hours: list[OpenHour]  # due, and not claimable now


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One run of the job. `offset` is what `--now` adds to Redis time, for the schedule only.

    `installed_at`: slots that were over by then are not reported as unserved. None: no such limit.
    """

    claims: Claims
    limits: Limits
    open_services: OpenServices
    terminated: Termination
    offset: timedelta = timedelta(0)
    task_index: int = 0
    task_count: int = 1  # tasks that the platform runs in parallel
    show_progress: ShowProgress = lambda progress: nullcontext()
    counts_ahead: bool = False  # whether all due users are counted while the first are served, for the progress line
    installed_at: datetime | None = None
    host_now: Callable[[], datetime] = host_clock

    async def run(self) -> RunResult:
        """Serve every due shard once, then sweep. With nothing to do, nothing is opened or imported.

        Raises ClaimsDown if Redis does not answer, or, before anything is claimed or reported, if its clock is wrong.
        """
        # 1. What is due, and whether Redis' clock is right.
        redis_now = await self.claims.now()
        now = redis_now + self.offset
        due = await read_due(self.claims, self.limits, now, self.offset, self.installed_at)
        host_agrees = abs(redis_now - self.host_now()) <= MAX_CLOCK_SKEW
        if not due.claimable_shards and not due.sweep and host_agrees:
            return RunResult(now, idle=True, unserved=self._log_unserved(due), open_hours=due.open_hours)
        async with self.open_services() as services:
            run = Run(services, self.offset, self.terminated)
            await run.check_clocks(redis_now, self.host_now)
            unserved = self._log_unserved(due)
            sweep_is_ours = False
            if due.sweep:
                await self._delete_unusable_keys(due)
                sweep_is_ours = await self._take_sweep_turn(due, redis_now)
            if not due.claimable_shards and not sweep_is_ours:
                read = services.store.reads
                return RunResult(now, idle=True, unserved=unserved, documents_read=read, open_hours=due.open_hours)
            run.open_hours += due.open_hours
            await self._serve_and_sweep(run, due.claimable_shards, redis_now, sweep_is_ours=sweep_is_ours)
            return replace(run.result(now, unserved), lateness=self._lateness(run, now))

    def _lateness(self, run: Run, now: datetime) -> timedelta:
        first = run.counts.since.get(Outcome.SENT, now)
        return now - max(first, self.installed_at or first)

    def _log_unserved(self, due: DueWork) -> int:
        """Log and count unserved shards.

        Those that were over before Redis' memory begins are left out: the first run on an empty Redis would report
        all of them.
        """
        service_end = self.limits.rules.service_end
        unserved = [shard for shard in due.unserved if service_end(shard.cohort.slot) > due.remembers_since]
        if unserved:
            log.error(
                "slots.unserved",
                shards=len(unserved),
                remembered=len(unserved),  # same as `shards`; the metric in deploy/monitoring/ filters on this name
                first=unserved[0].cohort.slot.isoformat(),
                last=unserved[-1].cohort.slot.isoformat(),
                redis_remembers_since=due.remembers_since.isoformat(),
            )
        return len(unserved)

    async def _delete_unusable_keys(self, due: DueWork) -> None:
        # the event says `replaced`: the run that wins the sweep's turn then writes the keys again
        for key in due.unusable_keys:
            log.error("redis.key_replaced", key=key, reason=f"{key} held what this job did not write; it was replaced.")
            await self.claims.delete(key)

    async def _take_sweep_turn(self, due: DueWork, redis_now: datetime) -> bool:
        """Return whether this run may sweep. If so, record since when Redis remembers, unless that is known."""
        environment = self.claims.environment
        if not await self.claims.take_turn(sweep_key(environment), self.limits.duration("sweep"), redis_now):
            return False
        if await self.claims.set_once(since_key(environment), redis_now, SINCE_EXPIRY_DAYS * ONE_DAY):
            log.info("redis.first_seen", key=since_key(environment), unserved=len(due.unserved))
        return True

    async def _serve_and_sweep(
        self, run: Run, shards: Sequence[Shard], redis_now: datetime, *, sweep_is_ours: bool
    ) -> None:
        """Steps 2 to 5, 8 and 9: serve the shards, sweep, warn of a model's shutdown, delete dead tokens.

        If the sweep does not get through all ledgers, its turn is given back.
        """
        from notifications.run.sweep import sweep  # imported late: an idle tick must not load what serves users

        swept = False
        try:
            async with self.show_progress(lambda: run.counts.progress):
                await self._serve(run, shards)
                if sweep_is_ours:
                    swept = await sweep(run, redis_now + self.offset)
                if shards:
                    await warn_of_model_shutdown(run, redis_now)
            await run.pusher.delete_dead_tokens(run.services.store)
        finally:
            if sweep_is_ours and not swept:  # give the turn back, so that the next run sweeps
                with suppress(ClaimsDown, ConfigFault, KeyTrouble):
                    await self.claims.delete(sweep_key(self.claims.environment))

    async def _serve(self, run: Run, shards: Sequence[Shard]) -> None:
        """Serve the shards batch by batch (steps 2 to 5), keeping to the pauses that other processes announce."""
        from notifications.run.shard import count_users, serve_batch  # imported late: an idle tick must not load them

        for sentence in await self.claims.warnings():
            log.warning("redis.settings", reason=sentence)
        per_cohort, tasks = self.limits.shards, self.task_count
        ordered = spread(shards, self.task_index, tasks, per_cohort)
        async with self._counting_ahead(run, shards), run.pace.following():
            for batch in batches(ordered, per_cohort=per_cohort, tasks=tasks, limit=self.limits.shards_at_once):
                if not run.is_stopping:
                    await serve_batch(run, batch)
                elif not run.terminated.is_set():
                    run.counts.unreached += sum([await count_users(run, shard) for shard in batch])

    @asynccontextmanager
    async def _counting_ahead(self, run: Run, shards: Sequence[Shard]) -> AsyncGenerator[None]:
        """Count all due users while the first are served, if a progress line shows them."""
        from notifications.run.shard import count_users  # imported late: an idle tick must not load it

        async def count_all() -> None:
            for shard in shards if self.counts_ahead else ():
                run.counts.counted += await count_users(run, shard)

        counting = asyncio.create_task(count_all())
        try:
            yield
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)

    async def run_user(self, uid: str) -> RunResult:
        """Step 10 (--user): serve the user's latest slot, unless its catch-up and grace have passed.

        Raises UsageFault if there is no such user or the document is flawed, and Unfinished if the claim is `sent` but
        the day has no ledger.
        """
        from notifications.run.user import claim_and_recap  # imported late: an idle tick must not load it

        redis_now = await self.claims.now()
        now = redis_now + self.offset
        async with self.open_services() as services:
            run = Run(services, self.offset, self.terminated)
            await run.check_clocks(redis_now, self.host_now)
            document = await services.store.user_document(uid)
            if document is None or document.user is None:
                path = services.store.user_path.format(uid=uid)
                raise UsageFault(document.flaw if document else f"{path} does not exist; check the uid.")
            user = document.user
            slot = latest_slot(user.zone, user.hour, now)
            if user.enabled and self.limits.rules.phase(slot.at, now) is Phase.OVER:
                log.info("user.not_due", uid=uid, last_slot=slot.at.isoformat())
                comes = slot_of_day(user.zone, slot.recap_date + ONE_DAY, user.hour).at
                hint = f"{uid} is not due before {comes:%Y-%m-%d %H:%M} UTC; python job.py why {uid} says more"
                return replace(run.result(now), hint=hint)
            run.counts.due = 1
            if not user.enabled:
                run.counts.add(TurnResult(Outcome.SKIPPED, reason="user_gone_or_off"))
                return replace(run.result(now), hint=f"{uid} has recaps switched off")
            result = await claim_and_recap(run, user, slot, SINGLE_FILE_LANE)
            run.counts.add(result, slot.at)
            if result.outcome is Outcome.DONE_BEFORE:
                await self._check_sent_claim(run, uid, slot)
            await run.pusher.delete_dead_tokens(services.store)
            hint = "" if result.outcome is Outcome.SENT else f"python job.py why {uid} says more"
            return replace(run.result(now), hint=hint)

    async def _check_sent_claim(self, run: Run, uid: str, slot: Slot) -> None:
        """Raise Unfinished if the claim is `sent` but the day has no ledger.

        The claim is not deleted: another environment on the same Redis may own it.
        """
        day = slot.recap_date
        [record] = await self.claims.read([user_key(uid, day)])
        if record.state is ClaimState.SENT and not await run.services.store.ledgers_between(uid, day, day):
            resend_command = f"python job.py resend {uid} {day}"
            raise Unfinished(f"{explain_sent_elsewhere(uid, day)} Run `{resend_command}` to make it here.")


async def read_due(
    claims: Claims, limits: Limits, now: datetime, offset: timedelta, installed_at: datetime | None
) -> DueWork:
    """Read every shard's and the sweep's state, in pipelines; a SCAN follows only if a shard is unserved."""
    environment, rules = claims.environment, limits.rules
    cohorts = cohorts_between(now - SHARD_HISTORY, now)
    shards = [shard for cohort in cohorts for shard in shards_of(cohort, environment, limits.shards)]
    keys = [*(shard.key for shard in shards), sweep_key(environment), since_key(environment)]
    *records, sweep_record, since_record = await claims.read(keys)
    redis_ms = int((now - offset).timestamp() * 1000)
    claimable_shards: list[Shard] = []
    unserved: list[Shard] = []
    open_hours: list[OpenHour] = []
    for shard, record in zip(shards, records, strict=True):
        slot = shard.cohort.slot
        if rules.phase(slot, now) is not Phase.OVER:
            # claiming gives a foreign value a TTL, so that it can expire
            if record.state is ClaimState.FOREIGN or claimable(record, redis_ms):
                claimable_shards.append(shard)
            elif record.state is not ClaimState.COMPLETE:
                open_hours.append(OpenHour.of(slot, record, limits, now, offset))
        elif record.state is not ClaimState.COMPLETE and (
            installed_at is None or rules.service_end(slot) > installed_at
        ):
            unserved.append(shard)
    # in the `since` record, `until` holds the instant from which Redis remembers
    knows_since = since_record.state is ClaimState.COMPLETE and 0 < since_record.until <= redis_ms + CLOCK_SLACK_MS
    unusable_keys = [sweep_key(environment)] if sweep_record.state is ClaimState.FOREIGN else []
    if not knows_since and since_record.state is not ClaimState.ABSENT:
        unusable_keys.append(since_key(environment))
    return DueWork(
        claimable_shards=claimable_shards,
        unserved=await _not_completed_by_any_version(claims, unserved) if unserved else [],
        sweep=sweep_record.state is ClaimState.ABSENT or bool(unusable_keys),
        remembers_since=since_record.until_at + offset if knows_since else now,
        unusable_keys=unusable_keys,
        open_hours=open_hours,
    )


async def _not_completed_by_any_version(claims: Claims, unserved: Sequence[Shard]) -> list[Shard]:
    """Leave out cohorts that another version completed: one with other tzdata, or with another number of shards."""
    completed: list[str] = []
    with suppress(KeyTrouble, ConfigFault):  # without SCAN a slot that another version served is reported too
        completed = [
            scanned.key
            async for scanned in claims.scan(f"{SHARD_PREFIX}*")
            if scanned.record.state is ClaimState.COMPLETE
        ]
    ended = ended_cohorts(completed, claims.environment)
    return [shard for shard in unserved if cohort_prefix(shard.cohort.slot, shard.cohort.hour) not in ended]


def explain_sent_elsewhere(uid: str, day: date) -> str:
    """A sentence on what a `sent` claim without a ledger means."""
    return (
        f"Redis says that {uid} {day} was sent, and the store has no ledger of it: "
        "it was another environment's, or the store was emptied since."
    )


async def warn_of_model_shutdown(run: Run, redis_now: datetime) -> None:
    """Log `llm.shutdown` if a model will be shut down soon. One process a day asks; errors are ignored."""
    for llm in run.services.llms:
        if run.is_stopping:
            return
        key = f"{SHUTDOWN_PREFIX}{hashlib.sha256(llm.where.encode()).hexdigest()[:16]}"
        with suppress(ClaimsDown, ConfigFault, KeyTrouble):
            if not await run.services.claims.take_turn(key, ONE_DAY, redis_now):
                continue
            last_day = await llm.last_day()
            if last_day is None or days_left(last_day, redis_now) > SHUTDOWN_WARNING_DAYS:
                continue
            left = days_left(last_day, redis_now)
            log.warning("llm.shutdown", model=llm.model, shuts_down_on=last_day.isoformat(), days_left=left)


def days_left(last_day: date, now: datetime) -> int:
    """Days until that date; negative after it."""
    return (last_day - now.date()).days
