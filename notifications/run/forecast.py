"""Predicts what the next run does with one user's day, from the claim's table and the run's gates. Reads only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from notifications.domain.claim import (
    FINAL,
    SINGLE_FILE_LANE,
    Call,
    ClaimAnswer,
    ClaimState,
    Record,
    Transition,
    Verb,
    claimable,
    decide,
    skipped_key,
    sweep_key,
    user_key,
)
from notifications.domain.delivery import (
    RESEND_OUTCOME,
    Decision,
    NextStep,
    Opening,
    Snapshot,
    end_day,
    give_up_rest,
    sweep,
    take,
    until_stale,
)
from notifications.domain.model import DayState, Ledger, User
from notifications.domain.schedule import Phase, Slot
from notifications.domain.shards import key_of
from notifications.run.day import SECOND_LOOK_FAILED
from notifications.run.day_input import DayInput, Gate, Ledgers, read_conversations, read_ledgers
from notifications.run.drafting import unverified_draft
from notifications.run.outcome import LEFT_OPEN
from notifications.run.state import Run
from notifications.run.sweep import is_swept, slot_of_entry
from notifications.run.targets import To, ledgers_before, read_targets
from notifications.run.user import is_too_late

DRY_RUN_TOKEN = "-"  # noqa: S105 - in place of a run's token: nothing is written


class Step(StrEnum):
    """What the next run does with a day, in the words of `--dry-run`."""

    MAKES = "due"
    SENDS_EXTRACT = "due: closing, so no LLM is asked"
    SENDS_DRAFT = "due: closing, so its draft is sent without a second look"
    PUSHES = "due: an open delivery would be taken over"
    LEGACY = "skipped: legacy"
    SKIPS = "skipped: no_content"
    MISSES = "missed: its catch-up is over"
    MISSES_INVERTED = "missed: a ledger around ends after its slot"
    CLOSES_DEAD = "dead: it failed or crashed too often"
    GIVES_UP = "given up"
    ENDS_PARTLY_SENT = "sent: not to each target"
    # the day stays as it is
    ENDED = "done"
    ENDED_IN_REDIS = "done in Redis"
    WAITS = "waiting"
    SENDER_WAITS = "waiting: its sender may still be at work"
    SWEPT_LATER = "waiting: for the next sweep"
    HELD = "held"
    FOREIGN = "held by another writer's value"
    SHARD_WAITS = "waiting: its hour is served again later"
    SHARD_HELD = "held: another run serves its hour"
    SHARD_FOREIGN = "stuck: another writer's value holds its hour"
    SHARD_COMPLETE = "not due: its hour was served to the end"
    SKIPPED_BEFORE = "done: skipped by an earlier run"
    STUCK_LEDGER = "stuck: its ledger can't be read"
    STUCK_INVERTED = "stuck: a ledger around ends after its slot"
    SWITCHED_OFF = "switched off"
    EARLY = "not due yet"
    OVER = "not due"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the next run does; if it waits, `then` is what follows. `ledger`: the ledger as it would be stored."""

    step: Step
    wait: timedelta = timedelta(0)
    ledger: Ledger | None = None
    then: Forecast | None = None

    @property
    def is_action(self) -> bool:
        return self.step in (Step.PUSHES, Step.GIVES_UP, Step.ENDS_PARTLY_SENT, Step.CLOSES_DEAD)


@dataclass(frozen=True, slots=True)
class Records:
    """What Redis says about a day: the records of its claim, its shard's claim and the sweep."""

    claim: Record
    shard: Record
    sweep: Record
    skipped: bool  # its shard remembers that it was skipped


@dataclass(slots=True)
class DayView:
    """One user's day as a run that starts now would see it. `now` is the schedule's time.

    `alone`: the run serves this user only, without a shard (`--user`).
    """

    run: Run
    user: User
    slot: Slot
    now: datetime
    ledgers: Ledgers
    records: Records
    alone: bool = False
    _input: DayInput | None = None

    @property
    def phase(self) -> Phase:
        return self.run.services.limits.rules.phase(self.slot.at, self.now)

    @property
    def redis_now(self) -> datetime:
        """Redis TIME, which `--now` does not move."""
        return self.now - self.run.offset

    def closing_step(self, cause: str) -> Step:
        """What the closing pass does with a day that is still not made because of `cause`, the last failure's code."""
        if cause == SECOND_LOOK_FAILED:
            return Step.SENDS_DRAFT
        return Step.SENDS_EXTRACT if self.run.services.has_fallback else Step.MISSES

    async def read(self) -> DayInput:
        """Read the conversations, on the first call only."""
        if self._input is None:
            self._input = await read_conversations(self.run.services.store, self.ledgers)
        return self._input

    async def forecast(self) -> Forecast:
        """What the next run does with the day; and if it waits, what a run after that wait does."""
        forecast = await self._forecast()
        if forecast.wait <= timedelta(0):
            return forecast
        ledgers = replace(self.ledgers, today=forecast.ledger) if forecast.ledger else self.ledgers
        later = replace(self, now=self.now + forecast.wait, ledgers=ledgers)
        return replace(forecast, then=await later.forecast())

    async def _forecast(self) -> Forecast:
        today = self.ledgers.today
        if today is not None and today.state is DayState.UNREADABLE:
            return Forecast(Step.STUCK_LEDGER)
        if today is not None and today.state.final:
            return Forecast(Step.ENDED)
        if today is None and self.records.claim.state in FINAL - {ClaimState.DEAD}:
            return Forecast(Step.ENDED_IN_REDIS)
        if skipped := self._shard_skips():
            active = self.user.enabled
            uid = self.user.uid
            swept = await sweep_forecast(self.run, uid, today, self.records, self.now, active=active) if today else None
            shard_comes_back = skipped.step in (Step.SHARD_WAITS, Step.SHARD_HELD, Step.SHARD_FOREIGN)
            return swept if swept and (swept.is_action or not shard_comes_back) else skipped
        transition = _next_claim(self.run, self.records.claim, self.now)
        not_won = _not_won(self.run, transition, today, self.now)
        return not_won or await self._gates(replace(transition.after, reason=self.records.claim.reason))

    def _shard_skips(self) -> Forecast | None:
        """Why a run of the user's shard does not serve the user; None if it does."""
        shard, redis_ms = self.records.shard, self.run.redis_ms(self.now)
        if not self.user.enabled:
            return Forecast(Step.SWITCHED_OFF)
        if self.phase is Phase.EARLY:
            return Forecast(Step.EARLY)
        if self.phase is Phase.OVER:
            return Forecast(Step.OVER)
        if self.alone:
            return None
        if shard.state is ClaimState.FOREIGN:
            return Forecast(Step.SHARD_FOREIGN)
        if shard.state is ClaimState.COMPLETE:
            return Forecast(Step.SHARD_COMPLETE)
        if not claimable(shard, redis_ms):
            step = Step.SHARD_WAITS if shard.state is ClaimState.IDLE else Step.SHARD_HELD
            return Forecast(step, timedelta(milliseconds=shard.until - redis_ms))
        return Forecast(Step.SKIPPED_BEFORE) if self.records.skipped else None

    async def _gates(self, claim: Record) -> Forecast:
        """What a run does with the day after it has claimed it."""
        run, closing = self.run, self.phase is Phase.CLOSING
        match self.ledgers.gate():
            case Gate.OPEN if self.ledgers.today is not None:
                seen = _snapshot(run, self.ledgers.today, self.now)
                decision = take(DRY_RUN_TOKEN, seen, run.services.limits.ledger_rules)
                to, _ = await read_targets(run, self.user.uid, self.user, self.ledgers.before)
                return _forecast_of_open(run, to, decision, seen, self.slot.at, self.now)
            case Gate.LEGACY:
                return Forecast(Step.LEGACY)
            case Gate.INVERTED:
                return Forecast(Step.MISSES_INVERTED if closing else Step.STUCK_INVERTED)
        material = (await self.read()).material(run.services.limits.min_words)
        if material is None:
            return Forecast(Step.SKIPS)
        if not closing:
            return Forecast(Step.MAKES)
        if await unverified_draft(run, self.user.uid, material, claim):
            return Forecast(Step.SENDS_DRAFT)
        return Forecast(Step.SENDS_EXTRACT if run.services.has_fallback else Step.MISSES)


async def view_day(run: Run, user: User, slot: Slot, now: datetime, *, alone: bool = False) -> DayView:
    """Read the day's ledgers, and what Redis says about it. Raises StoreDown or ClaimsDown."""
    ledgers = await read_ledgers(run.services.store, user, slot, run.services.limits.look_back)
    return DayView(run, user, slot, now, ledgers, await _records_of(run, user, slot), alone)


async def _records_of(run: Run, user: User, slot: Slot) -> Records:
    claims = run.services.claims
    shard_key = key_of(user.uid, slot.at, user.hour, claims.environment, run.services.limits.shards)
    keys = [user_key(user.uid, slot.recap_date), shard_key, sweep_key(claims.environment)]
    claim, shard, swept = await claims.read(keys)
    skipped = shard.reason.startswith(LEFT_OPEN) and user.uid in await claims.members(skipped_key(shard_key))
    return Records(claim, shard, swept, skipped)


async def sweep_forecast(
    run: Run, uid: str, entry: Ledger, records: Records, now: datetime, *, active: bool
) -> Forecast | None:
    """What the sweep does with an open ledger; None if nothing. `active`: whether the user is switched on."""
    redis_now, rules = now - run.offset, run.services.limits.ledger_rules
    if entry.outcome == RESEND_OUTCOME or not entry.state.open:
        return None
    if entry.sending_at is not None and not is_swept(entry, redis_now, rules):
        return Forecast(Step.SENDER_WAITS, until_stale(entry, redis_now, rules))
    turn = timedelta(milliseconds=records.sweep.until - run.redis_ms(now)) + run.services.limits.duration("sweep")
    if records.sweep.state is ClaimState.COMPLETE and turn > timedelta(0):
        return Forecast(Step.SWEPT_LATER, turn)
    not_won = _not_won(run, _next_claim(run, records.claim, now), entry, now, active=active)
    slot = slot_of_entry(entry, now)
    over = run.services.limits.rules.phase(slot, now) is Phase.OVER
    seen = _snapshot(run, entry, now, active=active)
    decision = sweep(DRY_RUN_TOKEN, seen, rules, over=over)
    if not_won or over:
        return not_won or _forecast_of(decision, seen)
    to, _ = await read_targets(run, uid, None, await ledgers_before(run, uid, entry.date))
    return _forecast_of_open(run, to, decision, seen, slot, now)


def _forecast_of_open(run: Run, to: To, decision: Decision, seen: Snapshot, slot: datetime, now: datetime) -> Forecast:
    """What a run does with an open delivery before it takes it, as `decision` has it: its targets may be due later."""
    assert seen.ledger is not None  # noqa: S101 - it is open
    wait = run.pusher.wait_before_take(to.targets, seen.ledger, now - run.offset)
    is_closing = run.services.limits.rules.phase(slot, now) is Phase.CLOSING
    if wait is not None and not (is_closing and is_too_late(run, slot, now + wait)):
        return Forecast(Step.WAITS, wait)
    if wait is not None and decision.step is NextStep.PUSH:  # the last chance, and nothing can be sent
        decision = give_up_rest(seen.ledger, "undelivered")
    return _forecast_of(decision, seen)


def _next_claim(run: Run, record: Record, now: datetime) -> Transition:
    """The transition that the next claim causes, in the last lane at the latest."""
    limits = run.services.limits
    lease_ms = int(limits.user_lease_seconds * 1000)
    return decide(
        Call(Verb.CLAIM, DRY_RUN_TOKEN, run.redis_ms(now), lease_ms, SINGLE_FILE_LANE, limits.max_crashes), record
    )


def _not_won(
    run: Run, transition: Transition, today: Ledger | None, now: datetime, *, active: bool = True
) -> Forecast | None:
    """What the run does if the claim is not won; None if it is won."""
    wait = timedelta(milliseconds=transition.wait)
    match transition.answer:
        case ClaimAnswer.WON:
            return None
        case ClaimAnswer.HELD:
            return Forecast(Step.HELD, wait)
        case ClaimAnswer.FOREIGN:
            return Forecast(Step.FOREIGN)
        case ClaimAnswer.DONE if transition.after.state is ClaimState.DEAD:
            opening = Opening("", now.date(), by=DRY_RUN_TOKEN, slot=now)
            outcome = "failures" if transition.after.failures >= run.services.limits.max_item_failures else "crashes"
            seen = _snapshot(run, today, now, active=active)
            return _forecast_of(end_day(opening, DayState.DEAD, outcome, seen, run.services.limits.ledger_rules), seen)
        case ClaimAnswer.DONE:
            return Forecast(Step.ENDED_IN_REDIS)
        case _:
            return Forecast(Step.WAITS, wait)


def _snapshot(run: Run, entry: Ledger | None, now: datetime, *, active: bool = True) -> Snapshot:
    return Snapshot(entry, now - run.offset, active)


def _forecast_of(decision: Decision, seen: Snapshot) -> Forecast:
    """The forecast that the ledger's transition means."""
    if decision.step is NextStep.PUSH:
        return Forecast(Step.PUSHES)
    if decision.step is NextStep.BUSY:
        return Forecast(Step.SENDER_WAITS, decision.wait, decision.to_store(seen.read_time))
    if decision.ledger is None:
        return Forecast(Step.SWITCHED_OFF)
    ends = {DayState.DEAD: Step.CLOSES_DEAD, DayState.SENT: Step.ENDS_PARTLY_SENT}
    return Forecast(ends.get(decision.ledger.state, Step.GIVES_UP), ledger=decision.ledger)
