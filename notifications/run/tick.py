"""One run: docs/protocol.md, section 6, top to bottom."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import structlog

from notifications.domain.claim import SINCE_EXPIRY_DAYS, SINGLE_FILE_LANE, ClaimState, since_key, sweep_key, user_key
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble, Unfinished
from notifications.domain.schedule import ONE_DAY, Phase, Rules, Slot, latest_slot
from notifications.domain.shards import Shard, batches, spread
from notifications.limits import Limits
from notifications.ports import Claims, Summarizer
from notifications.run.clocks import APART_AT_MOST, host_clock
from notifications.run.outcome import Outcome, Progress, TurnResult
from notifications.run.shard import Due, due_shards
from notifications.run.state import Parts, Run, RunResult, run_result
from notifications.run.termination import Termination

log = structlog.get_logger()

OpenParts = Callable[[], AbstractAsyncContextManager[Parts]]
ShowProgress = Callable[[Callable[[], Progress]], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Tick:
    """One start of the job. `offset` is what `--now` adds to Redis time for the schedule alone."""

    claims: Claims
    limits: Limits
    open_parts: OpenParts
    terminated: Termination
    offset: timedelta = timedelta(0)
    task: int = 0  # of `tasks` that run side by side
    tasks: int = 1
    shown: ShowProgress = lambda progress: nullcontext()  # how far it is, to who watches
    since: datetime | None = None  # slots that ended before this installation are not missed
    host: Callable[[], datetime] = host_clock

    async def run(self) -> RunResult:
        """Serve every due shard once, then sweep. Where Redis says that there is nothing to do, nothing is opened.

        Nor is imported what only a run with work needs: most starts find none. Raises ClaimsDown where Redis' clock is
        wrong: nothing is claimed, and nothing said of slots.
        """
        rules = Rules(self.limits.span("catch_up"), self.limits.span("grace"))
        asked = await self.claims.now()
        doubted = abs(asked - self.host()) > APART_AT_MOST
        now = asked + self.offset
        due = await due_shards(self.claims, rules, self.limits.shards, now, self.offset)
        if not (due.claimable or due.sweep or doubted):
            return RunResult(now, idle=True, unserved=self._tell_unserved(due, rules))
        async with self.open_parts() as parts:
            run = Run(parts, self.offset, self.terminated)
            await run.agree_on_time(asked, self.host)
            unserved = self._tell_unserved(due, rules)
            sweeps = due.sweep and await self._take_sweep(due, rules, now)
            if not due.claimable and not sweeps:
                return RunResult(now, idle=True, unserved=unserved, documents_read=run.store.reads)
            await self._work(run, due.claimable, now, sweeps=sweeps)
            return run_result(run, now, unserved)

    async def _work(self, run: Run, claimable: Sequence[Shard], now: datetime, *, sweeps: bool) -> None:
        from notifications.run.sweep import sweep
        from notifications.run.tick import tell_last_day

        swept = False
        try:
            async with self.shown(lambda: run.counts.progress):
                await self._serve(run, claimable)
                if claimable:
                    await tell_last_day(run, now - self.offset)
                swept = sweeps and await sweep(run, now)
            await run.pusher.delete_dead_tokens(run.store)
        finally:
            if sweeps and not swept:
                with suppress(ClaimsDown, ConfigFault, KeyTrouble):
                    await self.claims.forget(sweep_key(self.claims.environment))  # the next run's turn

    async def _take_sweep(self, due: Due, rules: Rules, now: datetime) -> bool:
        """This run's turn, and the word that Redis remembers from now on. What else has these keys makes place."""
        sweep, since = sweep_key(self.claims.environment), since_key(self.claims.environment)
        for key in due.odd:
            log.error("redis.key_replaced", key=key, reason=f"{key} held what this job did not write; it is made anew.")
            await self.claims.forget(key)
        if not await self.claims.take_turn(sweep, self.limits.span("sweep"), now - self.offset):
            return False
        if await self.claims.remember(since, now - self.offset, SINCE_EXPIRY_DAYS * ONE_DAY):
            before = len(self._missed(due, rules))
            log.info("redis.first_seen", key=since, unserved=before)
        return True

    async def _serve(self, run: Run, claimable: Sequence[Shard]) -> None:
        from notifications.run.lanes import serve_batch

        for sentence in await self.claims.warnings():
            log.warning("redis.settings", reason=sentence)
        shards = spread(claimable, self.task, self.tasks, self.limits.shards)
        await run.pace.look()
        following = asyncio.create_task(run.pace.follow())
        try:
            for batch in batches(shards, self.limits.shards, self.tasks, self.limits.shards_at_once):
                if run.stops:
                    break
                await serve_batch(run, batch)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def _missed(self, due: Due, rules: Rules) -> list[Shard]:
        """Slots whose catch-up and grace went by without any run ending them, since there was an installation."""
        ended = rules.catch_up + rules.grace
        return [shard for shard in due.unserved if self.since is None or shard.cohort.slot + ended > self.since]

    def _tell_unserved(self, due: Due, rules: Rules) -> int:
        """How many missed slots Redis would remember: their users' day ended without a recap."""
        ended = rules.catch_up + rules.grace
        missed = [shard for shard in self._missed(due, rules) if shard.cohort.slot + ended > due.remembers_since]
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

    async def run_user(self, uid: str) -> RunResult:
        """This user only, without a shard: their latest slot, if still served. Raises ConfigFault for nobody."""
        from notifications.run.user import claim_and_recap

        now = await self.claims.now() + self.offset
        async with self.open_parts() as parts:
            run = Run(parts, self.offset, self.terminated)
            await run.agree_on_time(now - self.offset, self.host)
            listed = await run.store.user(uid)
            if listed is None or listed.user is None:
                raise ConfigFault(listed.flaw if listed else f"users/{uid} does not exist; check the uid.")
            user = listed.user
            slot = latest_slot(user.zone, user.hour, now)
            if not user.enabled:
                run.counts.due = 1
                run.counts.add(TurnResult(Outcome.SKIPPED, reason="user_gone_or_off"))
            elif run.rules.phase(slot.at, now) is Phase.OVER:
                log.info("user.not_due", uid=uid, last_slot=slot.at.isoformat())
            else:
                run.counts.due = 1
                result = await claim_and_recap(run, user, slot, SINGLE_FILE_LANE)
                run.counts.add(result)
                if result.outcome is Outcome.DONE_BEFORE:
                    await self._tell_strange(run, uid, slot)
                await run.pusher.delete_dead_tokens(run.store)
            return run_result(run, now)

    async def _tell_strange(self, run: Run, uid: str, slot: Slot) -> None:
        """A claim that is `sent` without a ledger. It stays: two environments' runs would delete each other's."""
        day = slot.recap_date
        [record] = await self.claims.read([user_key(uid, day)])
        if record.state is ClaimState.SENT and not await run.store.ledgers_between(uid, day, day):
            again = f"python job.py resend {uid} {day}"
            raise Unfinished(f"{sent_elsewhere(uid, day)} {again} makes it here.")


def sent_elsewhere(uid: str, day: date) -> str:
    """Of a claim without a ledger: what it means."""
    return (
        f"Redis says that {uid} {day} was sent, and the store has no ledger of it: "
        "it was another environment's, or the store was emptied since."
    )


log = structlog.get_logger()

KEY_PREFIX = "daily_summary:shutdown:"
WARNED_DAYS = 30


async def tell_last_day(run: Run, now: datetime) -> None:
    """Log `llm.shutdown` where it is this run's turn to ask, and the model ends soon. `now`: Redis time."""
    for llm in run.llms:
        if not run.stops:
            await _tell_last_day_of(run, llm, now)


async def _tell_last_day_of(run: Run, llm: Summarizer, now: datetime) -> None:
    with suppress(ClaimsDown, ConfigFault, KeyTrouble):  # whoever needs Redis says so
        if await run.claims.take_turn(turn_key(llm.where), ONE_DAY, now):
            day = await llm.last_day()
            if day is not None and days_left(day, now) <= WARNED_DAYS:
                left = days_left(day, now)
                log.warning("llm.shutdown", model=llm.model, shuts_down_on=day.isoformat(), days_left=left)


def turn_key(where: str) -> str:
    """Held by who asked last. Of each service its own: others may use the same Redis."""
    return f"{KEY_PREFIX}{hashlib.sha256(where.encode()).hexdigest()[:16]}"


def days_left(last_day: date, now: datetime) -> int:
    """Until that date; negative after it."""
    return (last_day - now.date()).days
