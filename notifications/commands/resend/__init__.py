"""`resend UID DATE`: push a day's recap again, or make the one that was skipped, missed or dead."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from notifications.commands.context import Context, unused_addresses, usable_user
from notifications.commands.terminal import minute, say, say_wrapped, several
from notifications.commands.user_days import covered_later, slot_of
from notifications.domain.claim import MAX_WAIT_MS, SINGLE_FILE_LANE, ClaimState, Record, lease_left, user_key
from notifications.domain.delivery import Decision, NextStep, until_resendable, until_stale
from notifications.domain.errors import Unfinished, UsageFault
from notifications.domain.model import DayState, Ledger, User
from notifications.domain.schedule import Rules, Slot
from notifications.ports import UserDocument
from notifications.run.day_input import Ledgers, read_ledgers
from notifications.run.outcome import Outcome, TurnResult
from notifications.run.state import Run
from notifications.run.targets import ledgers_before, read_targets
from notifications.run.tick import explain_sent_elsewhere
from notifications.run.user import claim_and_recap

NO_TARGET = "stored (no target takes it)"  # in a tick's words
MIN_WAIT = timedelta(seconds=1)
ONE_MINUTE = timedelta(minutes=1)
MAX_WAIT = timedelta(milliseconds=MAX_WAIT_MS)  # after it every claim is due again


class ResendKind(StrEnum):
    """What a bulk resend counts a day as, in the words of its output. The first six are how its ledger ended."""

    SENT = "sent"
    PARTIAL = "partial"
    NO_DEVICES = "no_devices"
    SKIPPED = "skipped"
    MISSED = "missed"
    DEAD = "dead"
    GAVE_UP = "gave_up"
    ALREADY_SENT = "already sent"
    BEING_SENT = "being sent"
    ERASED = "erased"
    FOREIGN_CLAIM = "made by the app"
    IN_LATER_RECAP = "in a later recap"
    NOBODY_TO_SEND_TO = "nobody to send to"
    NOTHING_TO_SAY = "nothing to say"
    NOT_DUE = "not due yet"
    SWITCHED_OFF = "switched off"
    UNFINISHED = "unfinished"
    UNREADABLE_DOCUMENT = "unreadable document"
    WAITING = "waiting"
    YOUNGER_ACCOUNT = "younger account"


class Refused(UsageFault):
    """This day is not resent. `wait`: when to try again; None if another try can't help."""

    def __init__(self, sentence: str, kind: ResendKind, wait: timedelta | None = None) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.wait = wait


class NoTarget(Refused):
    """Its recap is stored, and a resend would only replace the ledger, which says who has it. `why`: clauses."""

    def __init__(self, uid: str, day: date, why: Sequence[str] = ()) -> None:
        because = f": {'; '.join(why)}" if why else ""
        sentence = f"{uid} {day} is not resent, and its ledger stays as it is: no target takes the recap now{because}."
        super().__init__(sentence, ResendKind.NOBODY_TO_SEND_TO)


@dataclass(frozen=True, slots=True)
class OpenedDay:
    """A day whose ledger a resend has opened, and the decision of that transaction."""

    user: User
    slot: Slot
    decision: Decision
    sent_elsewhere: bool = False  # Redis says that it was sent, and the store has no ledger


async def resend(uid: str, day: date, context: Context) -> int:
    """Resend one day. If it is killed at any point, running it again finishes the day."""
    async with context.open_run() as run:
        await run.check_clocks()
        listed, _ = await usable_user(run.services.store, uid)
        try:
            opened = await open_day(run, listed, day)
        except NoTarget:
            raise NoTarget(uid, day, await _why_no_target(run, uid, day, context)) from None
        if opened.sent_elsewhere:
            say_wrapped(explain_sent_elsewhere(uid, day), "  ")
        ledger = await finish_day(run, opened)
    ended = NO_TARGET if ledger.ending == "no_devices" else f"{ledger.state.value} {ledger.outcome}".rstrip()
    say(f"{uid} {day}: {ended}, seq {ledger.seq}.")
    return 0 if ledger.state is DayState.SENT else 1


async def _why_no_target(run: Run, uid: str, day: date, context: Context) -> list[str]:
    """Clauses about the user's devices and each address."""
    devices, _ = await run.services.store.devices(uid)
    clause = f"{several(len(devices), 'device')}, and no channel to devices is set here" if devices else "no device"
    before = await ledgers_before(run, uid, day)
    return [clause, *await unused_addresses(context, run.services, uid, before=before)]


async def open_day(run: Run, listed: UserDocument, day: date, *, again: bool = True) -> OpenedDay:
    """Open its ledger and delete its claim. Without `again`, a day that was sent is refused. Raises Refused."""
    ledgers = await check_resendable(run, listed, day)
    uid, key = listed.uid, user_key(listed.uid, day)
    now = await run.services.claims.now()
    left = lease_left(await _own_claim(run, key, uid, day), now)
    await _refuse_without_target(run, ledgers, again=again)
    decision = await run.services.store.resend(uid, day, claim_live=left > timedelta(0), again=again)
    if decision.step is NextStep.NO_USER:
        raise Refused(f"{uid} was switched off or erased meanwhile; nothing was sent.", ResendKind.SWITCHED_OFF)
    if decision.step is NextStep.REFUSED:
        if decision.ledger is not None and decision.ledger.state is DayState.SENT:
            resent = until_resendable(decision.ledger, now, run.services.limits.ledger_rules)
            if resent or not left or (_has_reached_all(decision.ledger) and not again):
                at = minute(now + run.offset + max(resent, left))
                sentence = f"{uid} {day} was resent just now; run this again at {at} UTC if it is to be sent once more."
                raise Refused(sentence, ResendKind.ALREADY_SENT)
        wait = max(left, _sender_time_left(run, decision.ledger, now), MIN_WAIT)
        raise _held(run, uid, day, now, wait)
    record = await _own_claim(run, key, uid, day)
    now = await run.services.claims.now()
    left = lease_left(record, now)
    # Not deleted: a run, or another operator's command, has claimed the day meanwhile.
    if left or not await run.services.claims.delete_if_unchanged(key, record):
        raise _held(run, uid, day, now, left or MIN_WAIT)
    sent_elsewhere = decision.ledger is None and record.state is ClaimState.SENT
    return OpenedDay(ledgers.user, ledgers.slot, decision, sent_elsewhere)


def _held(run: Run, uid: str, day: date, now: datetime, wait: timedelta) -> Refused:
    """The refusal of a day that a run may still be sending, for `wait`. `now`: Redis time."""
    until = f"{minute(now + run.offset + wait)} UTC (in {several(math.ceil(wait / ONE_MINUTE), 'minute')})"
    sentence = (
        f"{uid} {day} is held by a run that is sending it, or was killed over it, until {until} at the latest; "
        "the next run then ends it, or this command."
    )
    return Refused(sentence, ResendKind.BEING_SENT, wait)


async def _own_claim(run: Run, key: str, uid: str, day: date) -> Record:
    """The day's claim. Raises Refused for a foreign value, since a resend deletes only the job's own."""
    [record] = await run.services.claims.read([key])
    if record.state is ClaimState.FOREIGN:
        sentence = f"The app, or another job, is making {uid} {day}: the value of {key} is not ours; try again later."
        raise Refused(sentence, ResendKind.FOREIGN_CLAIM, MAX_WAIT)
    return record


def _sender_time_left(run: Run, ledger: Ledger | None, now: datetime) -> timedelta:
    """About how long its sender counts as alive: by Redis' clock, while the store decides by its own."""
    if ledger is None or ledger.state is not DayState.SENDING:
        return timedelta(0)
    return until_stale(ledger, now, run.services.limits.ledger_rules)


async def check_resendable(run: Run, listed: UserDocument, day: date) -> Ledgers:
    """Read the day's ledgers. Raises Refused if there is nothing to resend."""
    user, slot = listed.user, slot_of(listed, day)
    if user is None or slot is None:
        raise Refused(f"{listed.uid} can't be served: {listed.flaw}", ResendKind.UNREADABLE_DOCUMENT)
    if not user.enabled:
        raise Refused(f"{user.uid} is switched off; nothing is sent to them.", ResendKind.SWITCHED_OFF)
    if slot.at > await run.services.claims.now() + run.offset:
        when = f"{slot.at:%Y-%m-%d %H:%M} UTC"
        raise Refused(f"{user.uid} {day} is not due before {when}; it will be sent then.", ResendKind.NOT_DUE)
    ledgers = await read_ledgers(run.services.store, user, slot, run.services.limits.look_back)
    refuse_unmakeable(listed, ledgers, run.services.limits.rules)
    return ledgers


async def _refuse_without_target(run: Run, ledgers: Ledgers, *, again: bool) -> None:
    """Raise NoTarget for a stored recap that nothing takes now. An open day is let through, since it has to end."""
    today = ledgers.today
    if today is None or not today.state.final or today.state.without_text or (_has_reached_all(today) and not again):
        return
    to, _ = await read_targets(run, ledgers.user.uid, ledgers.user, ledgers.before)
    if not to.targets:
        raise NoTarget(ledgers.user.uid, ledgers.slot.recap_date)


def _has_reached_all(ledger: Ledger) -> bool:
    """Whether a bulk resend leaves it alone."""
    return ledger.state is DayState.SENT and not ledger.is_partial


async def finish_day(run: Run, opened: OpenedDay, max_wait: timedelta = MAX_WAIT) -> Ledger:
    """Claim and serve the day until it ends. Raises what stopped it; Refused for a wait above `max_wait`."""
    user, slot, decision = opened.user, opened.slot, opened.decision
    uid, day = user.uid, slot.recap_date
    while True:
        replaces = decision.ledger if decision.step is NextStep.FINAL else None
        result = await claim_and_recap(run, user, slot, SINGLE_FILE_LANE, replaces=replaces, resend=True)
        ledger = (await run.services.store.ledgers_between(uid, day, day)).get(day)
        if ledger is not None and (result.outcome.done or _is_final(ledger, decision)):
            return ledger
        _raise_if_hopeless(run, uid, day, result)
        wait = min(max(MIN_WAIT, result.wait), MAX_WAIT)
        if wait > max_wait:
            raise Refused(f"{uid} {day} waits ({result.reason or result.outcome.value}).", ResendKind.WAITING, wait)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait.total_seconds()):
                await run.terminated.wait()


def refuse_unmakeable(listed: UserDocument, ledgers: Ledgers, rules: Rules) -> None:
    """Raise Refused for a day before the account was made, and for one whose conversations are in a later recap."""
    slot, today = ledgers.slot, ledgers.today
    uid, day = listed.uid, slot.recap_date
    if today is None and not rules.could_have(slot.at, listed.created):
        made = f"{listed.created:%Y-%m-%d %H:%M} UTC"
        sentence = (
            f"{uid} {day} has no recap: the account was made at {made}, after their hour. Nothing is missing: "
            f"their first recap has what was said since; python job.py why {uid} says when it comes."
        )
        raise Refused(sentence, ResendKind.YOUNGER_ACCOUNT)
    needs_text = today is None or today.state.without_text
    if needs_text and (reason := covered_later(slot, ledgers.nearby)):
        raise Refused(f"{uid} {day} can't be made again: {reason}.", ResendKind.IN_LATER_RECAP)


def _raise_if_hopeless(run: Run, uid: str, day: date, result: TurnResult) -> None:
    """Raise an error if another try can't help."""
    if run.trouble is not None:
        raise run.trouble
    if run.is_stopping:
        raise Unfinished(f"{uid} {day} is unfinished; run the same command again to finish it.")
    if result.outcome.done or result.outcome is Outcome.SKIPPED:
        raise Unfinished(f"{uid} was switched off or erased meanwhile; nothing was sent.")
    if result.outcome is Outcome.FAILED or result.reason.startswith("defect"):
        raise Unfinished(f"{uid} {day} failed ({result.reason or 'see the log'}); run the same command again to retry.")
    if run.pusher.refusals and result.reason in run.pusher.refusals:
        what = ", ".join(sorted(run.pusher.refusals))
        raise Unfinished(
            f"{uid} {day}: a device or an address of theirs is refused ({what}); correct that, then run it again."
        )


def _is_final(ledger: Ledger, opened_by: Decision) -> bool:
    seq = opened_by.ledger.seq if opened_by.ledger else 0
    raised_seq = seq if opened_by.step is NextStep.RETRY else seq + 1
    return ledger.state.final and ledger.seq >= raised_seq
