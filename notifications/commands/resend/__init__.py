"""`resend UID DATE`: push a day's recap again, or make the one that was skipped, missed or dead."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from notifications.commands.context import Context, usable_user
from notifications.commands.terminal import say, say_wrapped
from notifications.commands.user_days import covered_later, slot_of
from notifications.domain.claim import MAX_LEASE_MS, MAX_WAIT_MS, SINGLE_FILE_LANE, ClaimState, Record, user_key
from notifications.domain.delivery import Decision, NextStep
from notifications.domain.errors import Unfinished, UsageFault
from notifications.domain.model import DayState, Ledger, User
from notifications.domain.schedule import Slot
from notifications.ports import UserDocument
from notifications.run.day_input import Ledgers, read_ledgers
from notifications.run.outcome import Outcome, TurnResult
from notifications.run.state import Run
from notifications.run.tick import explain_sent_elsewhere
from notifications.run.user import claim_and_recap

LOOK_AGAIN = timedelta(seconds=1)
LONGEST_WAIT = timedelta(milliseconds=MAX_WAIT_MS)  # then the claim is due again


class Refused(UsageFault):
    """This day is not resent. `kind`: what a bulk resend counts it as; `wait`: when to try again."""

    def __init__(self, sentence: str, kind: str, wait: timedelta | None = None) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.wait = wait


@dataclass(frozen=True, slots=True)
class OpenedDay:
    """One day that is to be resent, and the ledger's own decision."""

    user: User
    slot: Slot
    decision: Decision
    sent_elsewhere: bool = False  # Redis says that it was sent, and the store has no ledger


async def resend(uid: str, day: date, context: Context) -> int:
    """Killed at any point, the same command finishes what it began."""
    async with context.open_services() as parts:
        run = Run(parts, context.offset, context.terminated)
        await run.check_clocks()
        listed, _ = await usable_user(parts.store, uid)
        opened = await open_day(run, listed, day)
        if opened.sent_elsewhere:
            say_wrapped(explain_sent_elsewhere(uid, day), "  ")
        entry = await finish(run, opened)
    say(f"{uid} {day}: {entry.state.value} {entry.outcome}".rstrip() + f", seq {entry.seq}.")
    return 0 if entry.state is DayState.SENT else 1


async def open_day(run: Run, listed: UserDocument, day: date, *, again: bool = True) -> OpenedDay:
    """Open its ledger and forget its claim. Without `again`, a day that was sent is refused. Raises Refused."""
    user, slot, _ = await check(run, listed, day)
    uid, key = user.uid, user_key(user.uid, day)
    now = await run.services.claims.now()
    left = live_for(await _own_claim(run, key, uid, day), now)
    decision = await run.services.store.resend(uid, day, claim_live=left > timedelta(0), again=again)
    if decision.step in (NextStep.REFUSED, NextStep.NO_USER):
        sent = decision.ledger is not None and decision.ledger.state is DayState.SENT
        how = "was resent just now" if sent else "is being sent right now"
        wait = max(left, _fresh_for(run, decision.ledger, now), LOOK_AGAIN)
        raise Refused(
            f"{uid} {day} {how}; try again in 2 min if it is to be pushed once more.",
            "had theirs" if sent else "being sent",
            None if sent or decision.step is NextStep.NO_USER else wait,
        )
    record = await _own_claim(run, key, uid, day)
    left = live_for(record, await run.services.claims.now())
    # Not deleted: a run, or another operator's command, has claimed the day meanwhile.
    if left or not await run.services.claims.delete_if_unchanged(key, record):
        raise Refused(f"{uid} {day} is being sent right now; try again in 2 min.", "being sent", left or LOOK_AGAIN)
    return OpenedDay(user, slot, decision, decision.ledger is None and record.state is ClaimState.SENT)


async def _own_claim(run: Run, key: str, uid: str, day: date) -> Record:
    """The day's claim. Raises Refused for another writer's value: only our own are deleted."""
    [record] = await run.services.claims.read([key])
    if record.state is ClaimState.FOREIGN:
        sentence = f"The app, or another job, is making {uid} {day}: the value of {key} is not ours; try again later."
        raise Refused(sentence, "made by the app", LONGEST_WAIT)
    return record


def _fresh_for(run: Run, entry: Ledger | None, now: datetime) -> timedelta:
    """About how long its sender counts as alive, by Redis' clock; the store's decides."""
    since = entry.sending_at if entry is not None and entry.state is DayState.SENDING else None
    return since + run.services.limits.duration("sending_stale") - now if since is not None else timedelta(0)


async def check(run: Run, listed: UserDocument, day: date) -> tuple[User, Slot, Ledgers]:
    """Whose day it is, when it was due, and its ledgers. Raises Refused where there is nothing to resend."""
    user, slot = listed.user, slot_of(listed, day)
    if user is None or slot is None:
        raise Refused(f"users/{listed.uid} can't be served: {listed.flaw}", "unreadable document")
    if not user.enabled:
        raise Refused(f"users/{user.uid} is switched off; nothing is sent to them.", "switched off")
    if slot.at > await run.services.claims.now() + run.offset:
        when = f"{slot.at:%Y-%m-%d %H:%M} UTC"
        raise Refused(f"{user.uid} {day} is not due before {when}; it will be sent then.", "not due yet")
    ledgers = await read_ledgers(run.services.store, user, slot, run.services.limits.look_back)
    refuse_unmakeable(listed, ledgers)
    return user, slot, ledgers


async def finish(run: Run, opened: OpenedDay, patience: timedelta = LONGEST_WAIT) -> Ledger:
    """Through the claim, to the end of the day. Raises what stopped it; Refused for a wait beyond `patience`."""
    user, slot, decision = opened.user, opened.slot, opened.decision
    uid, day = user.uid, slot.recap_date
    while True:
        replaces = decision.ledger if decision.step is NextStep.FINAL else None
        result = await claim_and_recap(run, user, slot, SINGLE_FILE_LANE, replaces=replaces, resend=True)
        ledger = (await run.services.store.ledgers_between(uid, day, day)).get(day)
        if ledger is not None and (result.outcome.done or _is_final(ledger, decision)):
            return ledger
        _raise_if_hopeless(run, uid, day, result)
        wait = min(max(LOOK_AGAIN, result.wait), LONGEST_WAIT)
        if wait > patience:
            raise Refused(f"{uid} {day} waits ({result.reason or result.outcome.value}).", "waiting", wait)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait.total_seconds()):
                await run.terminated.wait()


def refuse_unmakeable(listed: UserDocument, ledgers: Ledgers) -> None:
    """Raises Refused for a day before the account was made, and for one whose conversations are in a later recap."""
    slot, today = ledgers.slot, ledgers.today
    uid, day = listed.uid, slot.recap_date
    if today is None and listed.created is not None and slot.at < listed.created:
        made = f"{listed.created:%Y-%m-%d %H:%M} UTC"
        raise Refused(f"{uid} {day} has no recap: the account is of {made}, its slot was before.", "younger account")
    made_anew = today is None or today.state.without_text
    if made_anew and (reason := covered_later(slot, ledgers.nearby)):
        raise Refused(f"{uid} {day} is not made anew: {reason}.", "in a later recap")


def _raise_if_hopeless(run: Run, uid: str, day: date, result: TurnResult) -> None:
    """Raises where another try can change nothing."""
    if run.trouble is not None:
        raise run.trouble
    if run.is_stopping:
        raise Unfinished(f"{uid} {day} is unfinished; the same command finishes it.")
    if result.outcome.done or result.outcome is Outcome.SKIPPED:
        raise Unfinished(f"{uid} was switched off or erased meanwhile; nothing was sent.")
    if result.outcome is Outcome.FAILED:
        raise Unfinished(f"{uid} {day} failed ({result.reason or 'see the log'}); the same command tries again.")
    if run.pusher.refusals and result.reason in run.pusher.refusals:
        what = ", ".join(sorted(run.pusher.refusals))
        raise Unfinished(f"{uid} {day}: the push service refuses the device ({what}); correct that, then run it again.")


def live_for(record: Record, now: datetime) -> timedelta:
    """How long a run may still hold the day; zero where none does."""
    left = record.until - now.timestamp() * 1000
    live = record.state is ClaimState.CLAIMED and 0 < left <= MAX_LEASE_MS
    return timedelta(milliseconds=left if live else 0)


def _is_final(ledger: Ledger, opened_by: Decision) -> bool:
    before = opened_by.ledger.seq if opened_by.ledger else 0
    raised = before if opened_by.step is NextStep.RETRY else before + 1
    return ledger.state.final and ledger.seq >= raised
