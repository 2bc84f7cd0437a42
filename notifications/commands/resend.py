"""`resend UID DATE`: push a day's recap again, or make the one that was skipped, missed or dead."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import date, datetime, timedelta

from notifications.commands.operation import Context, Operation, usable_user
from notifications.commands.terminal import say
from notifications.domain.claim import MAX_LEASE_MS, MAX_WAIT_MS, SINGLE_FILE_LANE, Record, Stored, user_key
from notifications.domain.delivery import Decision, Kind
from notifications.domain.errors import Unfinished, UsageFault
from notifications.domain.model import Ledger, State, User
from notifications.domain.schedule import ONE_DAY, Slot, nominal_date, slot_on
from notifications.ports import Listed
from notifications.run.outcome import Ending, Outcome
from notifications.run.state import Run
from notifications.run.user import claim_and_recap

LOOK_AGAIN = timedelta(seconds=1)
LONGEST_WAIT = timedelta(milliseconds=MAX_WAIT_MS)  # then the claim is due again
LATER_DAYS = 3  # a later day's window reaches 72 h back at most


def resend(uid: str, day: date) -> Operation:
    """The operation. Killed at any point, the same command finishes what it began."""

    async def run(context: Context) -> int:
        async with context.open_parts() as parts:
            run = Run(parts, context.offset, context.terminated)
            listed, user = await usable_user(parts.store, uid)
            if not user.enabled:
                raise UsageFault(f"users/{uid} is switched off; nothing is sent to who does not want it.")
            entry = await _resend(run, listed, user, day)
        say(f"{uid} {day}: {entry.state.value} {entry.outcome}".rstrip() + f", seq {entry.seq}.")
        return 0 if entry.state is State.SENT else 1

    return run


async def _resend(run: Run, listed: Listed, user: User, day: date) -> Ledger:
    slot = slot_on(user.zone, nominal_date(day, user.hour), user.hour)
    now = await run.claims.now() + run.offset
    if slot.at > now:
        raise UsageFault(f"{user.uid} {day} is not due before {slot.at:%Y-%m-%d %H:%M} UTC; it will be sent then.")
    await _refuse_what_is_no_day(run, listed, slot)
    terms = run.user_terms(user.uid, day, slot.at)
    [record] = await run.claims.read([user_key(user.uid, day)])
    asked = await run.store.resend(user.uid, day, claim_live=_live(record, now - run.offset))
    if asked.kind in (Kind.REFUSED, Kind.NOBODY):
        how = "was resent just now" if asked.entry and asked.entry.state is State.SENT else "is being sent right now"
        raise UsageFault(f"{user.uid} {day} {how}; try again in 2 min if it is to be pushed once more.")
    await run.claims.forget(terms.key)
    while True:
        replaces = asked.entry if asked.kind is Kind.FINAL else None
        outcome = await claim_and_recap(run, user, slot, SINGLE_FILE_LANE, replaces=replaces, resend=True)
        ledger = (await run.store.ledgers_between(user.uid, day, day)).get(day)
        if ledger is not None and (outcome.done or _final_at(ledger, asked)):
            return ledger
        _end_what_can_not_end(run, user.uid, day, outcome)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(max(LOOK_AGAIN, outcome.wait), LONGEST_WAIT).total_seconds()):
                await run.terminated.wait()


async def _refuse_what_is_no_day(run: Run, listed: Listed, slot: Slot) -> None:
    """A day that the account had no slot on, or whose conversations are in a later recap already."""
    uid, day = listed.uid, slot.recap_date
    ledgers = await run.store.ledgers_between(uid, day, day + LATER_DAYS * ONE_DAY)
    today = ledgers.pop(day, None)
    if today is None and listed.created is not None and slot.at < listed.created:
        raise UsageFault(
            f"{uid} {day} has no recap: the account is of {listed.created:%Y-%m-%d %H:%M} UTC, its slot was before."
        )
    made_anew = today is None or today.state in (State.SKIPPED, State.MISSED, State.DEAD)
    for later, entry in sorted(ledgers.items()):
        if made_anew and entry.window_start is not None and entry.window_start < slot.at:
            raise UsageFault(f"{uid} {day} is not made anew: its conversations are in the recap of {later}.")


def _end_what_can_not_end(run: Run, uid: str, day: date, outcome: Outcome) -> None:
    """Raises where another look can change nothing."""
    if run.trouble is not None:
        raise run.trouble
    if run.stops:
        raise Unfinished(f"{uid} {day} is unfinished; the same command finishes it.")
    if outcome.done or outcome.ending is Ending.SKIPPED:
        raise Unfinished(f"{uid} was switched off or erased meanwhile; nothing was sent.")
    if outcome.ending is Ending.FAILED:
        raise Unfinished(f"{uid} {day} failed ({outcome.reason or 'see the log'}); the same command tries again.")
    if run.pusher.refusals and outcome.reason in run.pusher.refusals:
        what = ", ".join(sorted(run.pusher.refusals))
        raise Unfinished(f"{uid} {day}: the push service refuses the device ({what}); mend that, then say it again.")


def _live(record: Record, now: datetime) -> bool:
    until, at = record.until, now.timestamp() * 1000
    return record.state is Stored.CLAIMED and at < until <= at + MAX_LEASE_MS


def _final_at(ledger: Ledger, asked: Decision) -> bool:
    before = asked.entry.seq if asked.entry else 0
    raised = before if asked.kind is Kind.RETRY else before + 1
    return ledger.state.final and ledger.seq >= raised
