"""`resend UID DATE`: push a day's recap again, or make the one that was skipped, missed or dead."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta

from notifications.domain.claim import MAX_LEASE_MS, SINGLE_FILE_LANE, Record, Stored, user_key
from notifications.domain.delivery import Kind, Verdict
from notifications.domain.errors import UsageFault
from notifications.domain.model import Ledger, State, User
from notifications.domain.schedule import nominal_date, slot_on
from notifications.one_user import claim_and_recap
from notifications.operation import Context, Operation
from notifications.run import Run

LOOK_AGAIN = timedelta(seconds=1)


def resend(uid: str, day: date) -> Operation:
    """The operation. Killed at any point, the same command finishes what it began."""

    async def run(context: Context) -> int:
        async with context.open_parts() as parts:
            run = Run(parts, context.offset, context.terminated)
            user = await parts.store.user(uid)
            if user is None or not user.enabled:
                raise UsageFault(f"users/{uid} does not exist, is switched off, or lacks a zone or an hour.")
            entry = await _resend(run, user, day)
        print(f"{uid} {day}: {entry.state.value} {entry.outcome}".rstrip() + f", seq {entry.seq}.")
        return 0 if entry.state is State.SENT else 1

    return run


async def _resend(run: Run, user: User, day: date) -> Ledger:
    slot = slot_on(user.zone, nominal_date(day, user.hour), user.hour)
    now = await run.parts.claims.now() + run.offset
    if slot.at > now:
        raise UsageFault(f"{user.uid} {day} is not due before {slot.at:%Y-%m-%d %H:%M} UTC; it will be sent then.")
    terms = run.user_terms(user.uid, slot)
    [record] = await run.parts.claims.read([user_key(user.uid, day)])
    asked = await run.parts.store.resend(user.uid, day, claim_live=_live(record, now - run.offset))
    if asked.kind in (Kind.REFUSED, Kind.NOBODY):
        how = "was resent just now" if asked.entry and asked.entry.state is State.SENT else "is being sent right now"
        raise UsageFault(f"{user.uid} {day} {how}; try again in 2 min if it is to be pushed once more.")
    await run.parts.claims.forget(terms.key)
    while True:
        replaces = asked.entry if asked.kind is Kind.FINAL else None
        outcome = await claim_and_recap(run, user, slot, SINGLE_FILE_LANE, replaces=replaces, resend=True)
        ledger = (await run.parts.store.around(user.uid, day, day)).get(day)
        if ledger is not None and (outcome.done or _final_at(ledger, asked)):
            return ledger
        if run.stops:
            raise run.trouble or UsageFault(f"{user.uid} {day} is unfinished; the same command finishes it.")
        await asyncio.sleep(max(LOOK_AGAIN, outcome.wait).total_seconds())


def _live(record: Record, now: datetime) -> bool:
    until = datetime.fromtimestamp(record.u / 1000, UTC)
    return record.s is Stored.CLAIMED and now < until <= now + timedelta(milliseconds=MAX_LEASE_MS)


def _final_at(ledger: Ledger, asked: Verdict) -> bool:
    before = asked.entry.seq if asked.entry else 0
    raised = before if asked.kind is Kind.RETRY else before + 1
    return ledger.state.final and ledger.seq >= raised
