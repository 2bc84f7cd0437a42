"""The sweep: open ledgers whose user is in no cohort any more (docs/protocol.md, section 6, step 8)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta

import structlog

from notifications.domain.claim import SINGLE_FILE_LANE, ClaimAnswer, ClaimState
from notifications.domain.delivery import RESEND_OUTCOME
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble, StoreDown
from notifications.domain.model import Ledger
from notifications.domain.schedule import Phase
from notifications.run.day import Day, claim_day
from notifications.run.outcome import Outcome, TurnResult
from notifications.run.state import Run
from notifications.run.user import deliver

log = structlog.get_logger()

PAGE = 300
MAX_SECONDS = 50  # of one run: the next minute's has slots of its own


async def sweep(run: Run, now: datetime) -> bool:
    """Finish every open ledger that is stale and whose user key is free. Returns whether all were looked at."""
    if run.is_stopping:
        return False
    ends = run.services.clock.seconds() + MAX_SECONDS
    try:
        async with aclosing(_stale_ledgers(run, now)) as stale:
            async for uid, ledger in stale:
                if not _may_go_on(run, ends):
                    return False
                if (uid, ledger.date) not in run.served:
                    await _finish(run, uid, ledger, now)
    except (StoreDown, ClaimsDown, ConfigFault) as trouble:
        log.error("sweep.failed", reason=str(trouble))
        run.stop_claiming(trouble)
        return False
    return True


def _may_go_on(run: Run, ends: float) -> bool:
    """False: the next run goes on. No slot waits for a sweep that can't push, or takes long."""
    return not run.is_stopping and run.pusher.breaker.down is None and run.services.clock.seconds() <= ends


async def _stale_ledgers(run: Run, now: datetime) -> AsyncGenerator[tuple[str, Ledger]]:
    after = None
    while page := await run.read_breaker.watch(run.services.store.open_ledgers(after, PAGE)):
        for uid, ledger in page:
            if is_swept(ledger, now - run.offset, run.services.limits.duration("sending_stale")):
                yield uid, ledger
        after = (page[-1][0], page[-1][1].date)


def is_swept(ledger: Ledger, redis_now: datetime, stale: timedelta) -> bool:
    """Whether a sweep looks at it: open, not a resend's, and its sender gone or stamped by a clock that was ahead."""
    since = ledger.sending_at
    fresh = since is not None and redis_now - stale < since <= redis_now + stale
    return not fresh and ledger.state.open and ledger.outcome != RESEND_OUTCOME


def slot_of_entry(ledger: Ledger, now: datetime) -> datetime:
    """About when it was due: its user's hour or zone may have changed since."""
    return ledger.window_end or ledger.sending_at or now


async def _finish(run: Run, uid: str, ledger: Ledger, now: datetime) -> None:
    slot = slot_of_entry(ledger, now)
    try:
        day = await claim_day(run, uid=uid, date=ledger.date, slot=slot, lane=SINGLE_FILE_LANE)
        dead = day.claim_reply.answer is ClaimAnswer.DONE and day.claim_reply.final is ClaimState.DEAD
        if day.claim_reply.answer is not ClaimAnswer.WON and not dead:
            return  # another run's, or not yet due
        run.counts.due += 1
        run.counts.swept += 1
        log.warning("ledger.swept", **day.log_context, state=ledger.state.value)
        result = TurnResult(Outcome.FAILED)
        try:
            with run.services.telemetry.span("user"):
                result = await day.run_guarded(day.result_when_not_won() if dead else _take_and_push(day))
        finally:
            run.counts.add(result)
    except KeyTrouble as trouble:
        run.defects += 1
        log.error("recap.trouble", uid=uid, reason=str(trouble))


async def _take_and_push(day: Day) -> TurnResult:
    """Steps 4 to 7 of a user's turn, on what another run began."""
    run, over = day.run, day.phase is Phase.OVER
    run.counts.claimed += 1
    try:
        async with run.terminated.timeout(run.services.limits.user_deadline_seconds):
            devices = await day.devices()
    except StoreDown as failure:
        return await day.fail(f"store_{failure.name}")
    except TimeoutError:
        return await day.release("stopped")
    return await deliver(day, devices, lambda: run.services.store.sweep(day.uid, day.date, day.token, over=over))
