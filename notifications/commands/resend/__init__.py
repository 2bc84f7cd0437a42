"""`resend UID DATE`: push a day's recap again, or make the one that was skipped, missed or dead."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from notifications.commands.operation import Context, usable_user
from notifications.commands.terminal import say, say_wrapped
from notifications.commands.user_days import covered_later, slot_of
from notifications.domain.claim import MAX_LEASE_MS, MAX_WAIT_MS, SINGLE_FILE_LANE, ClaimState, Record, user_key
from notifications.domain.delivery import REPLACEABLE, Decision, NextStep
from notifications.domain.errors import Unfinished, UsageFault
from notifications.domain.model import DayState, Ledger, User
from notifications.domain.schedule import Slot
from notifications.ports import Listed
from notifications.run.day_input import Ledgers, read_ledgers
from notifications.run.outcome import Outcome, TurnResult
from notifications.run.state import Run
from notifications.run.tick import sent_elsewhere
from notifications.run.user import claim_and_recap

LOOK_AGAIN = timedelta(seconds=1)
LONGEST_WAIT = timedelta(milliseconds=MAX_WAIT_MS)  # then the claim is due again


class Refused(UsageFault):
    """This day is not resent. `why` in two words, for a count of many; `wait`: worth another try after it."""

    def __init__(self, sentence: str, why: str, wait: timedelta | None = None) -> None:
        super().__init__(sentence)
        self.why = why
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Wish:
    """One day that an operator wants sent, and what the ledger said to that."""

    user: User
    slot: Slot
    asked: Decision
    strange: bool = False  # Redis said that it was sent, and the store knew nothing of it


async def resend(uid: str, day: date, context: Context) -> int:
    """Killed at any point, the same command finishes what it began."""
    async with context.open_parts() as parts:
        run = Run(parts, context.offset, context.terminated)
        await run.agree_on_time()
        listed, _ = await usable_user(parts.store, uid)
        wished = await wish(run, listed, day)
        if wished.strange:
            say_wrapped(sent_elsewhere(uid, day), "  ")
        entry = await carry_out(run, wished)
    say(f"{uid} {day}: {entry.state.value} {entry.outcome}".rstrip() + f", seq {entry.seq}.")
    return 0 if entry.state is DayState.SENT else 1


async def wish(run: Run, listed: Listed, day: date, *, again: bool = True) -> Wish:
    """Ask for it. Not `again`: not where it was sent meanwhile. Raises Refused."""
    user, slot, _ = await check(run, listed, day)
    now = await run.claims.now()
    record = await _claim_of(run, user.uid, day)
    left = live_for(record, now)
    asked = await run.store.resend(user.uid, day, claim_live=left > timedelta(0), again=again)
    if asked.step in (NextStep.REFUSED, NextStep.NOBODY):
        sent = asked.entry is not None and asked.entry.state is DayState.SENT
        how = "was resent just now" if sent else "is being sent right now"
        wait = (
            None if sent or asked.step is NextStep.NOBODY else max(left, _fresh_for(run, asked.entry, now), LOOK_AGAIN)
        )
        sentence = f"{user.uid} {day} {how}; try again in 2 min if it is to be pushed once more."
        raise Refused(sentence, "had theirs" if sent else "being sent", wait)
    record = await _claim_of(run, user.uid, day)
    left = live_for(record, await run.claims.now())
    if left or not await run.claims.forget(user_key(user.uid, day), record):  # another's command, or a run, came first
        raise Refused(
            f"{user.uid} {day} is being sent right now; try again in 2 min.", "being sent", left or LOOK_AGAIN
        )
    return Wish(user, slot, asked, strange=asked.entry is None and record.state is ClaimState.SENT)


async def _claim_of(run: Run, uid: str, day: date) -> Record:
    """The day's claim. Raises Refused where another maker's value stands there: only ours are deleted."""
    key = user_key(uid, day)
    [record] = await run.claims.read([key])
    if record.state is ClaimState.FOREIGN:
        sentence = f"The app, or another job, is making {uid} {day}: {key} is not ours; try again once it has ended."
        raise Refused(sentence, "made by the app", LONGEST_WAIT)
    return record


def _fresh_for(run: Run, entry: Ledger | None, now: datetime) -> timedelta:
    """About how long a sender counts as alive: the store's clock decides."""
    since = entry.sending_at if entry is not None and entry.state is DayState.SENDING else None
    return since + run.limits.span("sending_stale") - now if since is not None else timedelta(0)


async def check(run: Run, listed: Listed, day: date) -> tuple[User, Slot, Ledgers]:
    """Whose day it is, when it was due, and its ledgers. Raises Refused where there is nothing to resend."""
    user, slot = listed.user, slot_of(listed, day)
    if user is None or slot is None:
        raise Refused(f"users/{listed.uid} can't be served: {listed.flaw}", "unreadable document")
    if not user.enabled:
        raise Refused(f"users/{user.uid} is switched off; nothing is sent to who does not want it.", "switched off")
    if slot.at > await run.claims.now() + run.offset:
        when = f"{slot.at:%Y-%m-%d %H:%M} UTC"
        raise Refused(f"{user.uid} {day} is not due before {when}; it will be sent then.", "not due yet")
    ledgers = await read_ledgers(run.store, user, slot, run.limits.look_back)
    refuse_unmakeable(listed, ledgers)
    return user, slot, ledgers


async def carry_out(run: Run, wished: Wish, patience: timedelta = LONGEST_WAIT) -> Ledger:
    """Through the claim, to the end of the day. Raises what stopped it; Refused for a wait beyond `patience`."""
    user, slot, asked = wished.user, wished.slot, wished.asked
    uid, day = user.uid, slot.recap_date
    while True:
        replaces = asked.entry if asked.step is NextStep.FINAL else None
        outcome = await claim_and_recap(run, user, slot, SINGLE_FILE_LANE, replaces=replaces, resend=True)
        ledger = (await run.store.ledgers_between(uid, day, day)).get(day)
        if ledger is not None and (outcome.ending.done or _final_at(ledger, asked)):
            return ledger
        _end_what_can_not_end(run, uid, day, outcome)
        wait = min(max(LOOK_AGAIN, outcome.wait), LONGEST_WAIT)
        if wait > patience:
            raise Refused(f"{uid} {day} waits ({outcome.reason or outcome.ending.value}).", "waiting", wait)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait.total_seconds()):
                await run.terminated.wait()


def refuse_unmakeable(listed: Listed, ledgers: Ledgers) -> None:
    """Raises Refused for a day before the account was made, and for one whose conversations are in a later recap."""
    slot, today = ledgers.slot, ledgers.today
    uid, day = listed.uid, slot.recap_date
    if today is None and listed.created is not None and slot.at < listed.created:
        made = f"{listed.created:%Y-%m-%d %H:%M} UTC"
        raise Refused(f"{uid} {day} has no recap: the account is of {made}, its slot was before.", "younger account")
    made_anew = today is None or today.state in REPLACEABLE
    if made_anew and (reason := covered_later(slot, ledgers.around)):
        raise Refused(f"{uid} {day} is not made anew: {reason}.", "in a later recap")


def _end_what_can_not_end(run: Run, uid: str, day: date, outcome: TurnResult) -> None:
    """Raises where another look can change nothing."""
    if run.trouble is not None:
        raise run.trouble
    if run.stops:
        raise Unfinished(f"{uid} {day} is unfinished; the same command finishes it.")
    if outcome.ending.done or outcome.ending is Outcome.SKIPPED:
        raise Unfinished(f"{uid} was switched off or erased meanwhile; nothing was sent.")
    if outcome.ending is Outcome.FAILED:
        raise Unfinished(f"{uid} {day} failed ({outcome.reason or 'see the log'}); the same command tries again.")
    if run.pusher.refusals and outcome.reason in run.pusher.refusals:
        what = ", ".join(sorted(run.pusher.refusals))
        raise Unfinished(f"{uid} {day}: the push service refuses the device ({what}); mend that, then say it again.")


def live_for(record: Record, now: datetime) -> timedelta:
    """How long a run may still hold the day; nothing where none does."""
    left = record.until - now.timestamp() * 1000
    live = record.state is ClaimState.CLAIMED and 0 < left <= MAX_LEASE_MS
    return timedelta(milliseconds=left if live else 0)


def _final_at(ledger: Ledger, asked: Decision) -> bool:
    before = asked.entry.seq if asked.entry else 0
    raised = before if asked.step is NextStep.RETRY else before + 1
    return ledger.state.final and ledger.seq >= raised
