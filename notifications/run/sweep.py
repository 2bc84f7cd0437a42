"""The sweep: finish open ledgers whose user no cohort includes any more (docs/protocol.md, section 6, step 8)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta

import structlog

from notifications.domain.claim import SINGLE_FILE_LANE, ClaimAnswer, ClaimState
from notifications.domain.delivery import RESEND_OUTCOME, LedgerRules, until_stale
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble, StoreDown
from notifications.domain.model import Ledger
from notifications.domain.schedule import Phase
from notifications.ports import UserDocument
from notifications.run.day import Day, claim_day
from notifications.run.outcome import Outcome, TurnResult
from notifications.run.state import Run
from notifications.run.targets import ledgers_before
from notifications.run.user import deliver, wait_before_take

log = structlog.get_logger()

PAGE = 300
MAX_SECONDS = 50  # of one run: the next minute's run has its own slots to serve


async def sweep(run: Run, now: datetime) -> bool:
    """Finish every open ledger that is stale and whose user key is free. Returns whether all were handled."""
    if run.is_stopping:
        return False
    deadline = run.services.clock.seconds() + MAX_SECONDS
    try:
        async with aclosing(_stale_ledgers(run, now)) as stale:
            async for uid, ledger in stale:
                if not _can_continue(run, deadline):
                    return False
                if (uid, ledger.date) not in run.served:
                    await _finish(run, uid, ledger, now)
    except (StoreDown, ClaimsDown, ConfigFault) as error:
        log.error("sweep.failed", reason=str(error))
        run.stop_claiming(error)
        return False
    return True


def _can_continue(run: Run, deadline: float) -> bool:
    """Whether to sweep on; if not, the next run does. Slots must not wait for a sweep that is slow or can't push."""
    return not run.is_stopping and run.pusher.can_send and run.services.clock.seconds() <= deadline


async def _stale_ledgers(run: Run, now: datetime) -> AsyncGenerator[tuple[str, Ledger]]:
    after = None
    while page := await run.read_breaker.watch(run.services.store.open_ledgers(after, PAGE)):
        for uid, ledger in page:
            if is_swept(ledger, now - run.offset, run.services.limits.ledger_rules):
                yield uid, ledger
        after = (page[-1][0], page[-1][1].date)


def is_swept(ledger: Ledger, redis_now: datetime, rules: LedgerRules) -> bool:
    """Whether a sweep handles the ledger: it is open, not a resend's, and its sender is gone.

    A `sending_at` far in the future counts as gone too: a clock that was ahead has stamped it.
    """
    left = until_stale(ledger, redis_now, rules)
    is_fresh = ledger.sending_at is not None and timedelta(0) < left <= 2 * rules.stale
    return not is_fresh and ledger.state.open and ledger.outcome != RESEND_OUTCOME


def slot_of_entry(ledger: Ledger, now: datetime) -> datetime:
    """When the ledger was due, approximately: the user's hour or zone may have changed since."""
    return ledger.window_end or ledger.sending_at or now


async def _finish(run: Run, uid: str, ledger: Ledger, now: datetime) -> None:
    slot = slot_of_entry(ledger, now)
    try:
        day = await claim_day(run, uid=uid, date=ledger.date, slot=slot, lane=SINGLE_FILE_LANE)
        is_dead = day.claim_reply.answer is ClaimAnswer.DONE and day.claim_reply.final is ClaimState.DEAD
        if day.claim_reply.answer is not ClaimAnswer.WON and not is_dead:
            return  # another run holds the claim, or it is not due yet
        run.counts.due += 1
        run.counts.swept += 1
        log.warning("ledger.swept", **day.log_context, state=ledger.state.value)
        result = TurnResult(Outcome.FAILED)
        try:
            with run.services.telemetry.span("user"):
                result = await day.run_guarded(day.result_when_not_won() if is_dead else _take_and_push(day, ledger))
        finally:
            run.counts.add(result)
    except KeyTrouble as error:
        run.defects += 1
        log.error("recap.trouble", uid=uid, reason=str(error))


async def _take_and_push(day: Day, ledger: Ledger) -> TurnResult:
    """Steps 4 to 7 of a user's turn, on a ledger that another run opened."""
    run, is_over = day.run, day.phase is Phase.OVER
    run.counts.claimed += 1
    try:
        async with run.terminated.timeout(run.services.limits.user_deadline_seconds):
            listed = await _user_document(day) if run.pusher.has_addresses else None
            before = await ledgers_before(run, day.uid, day.date)
            to = await day.read_targets(listed.user if listed else None, before)
    except (StoreDown, TimeoutError) as error:
        return await day.fail_reading(error)
    if not is_over and (not_yet := wait_before_take(day, to, ledger)):
        return await day.fail(not_yet.reason, not_yet.wait)
    return await deliver(day, to, lambda: run.services.store.sweep(day.uid, day.date, day.token, over=is_over))


async def _user_document(day: Day) -> UserDocument | None:
    return await day.run.read_breaker.watch(day.run.services.store.user_document(day.uid))
