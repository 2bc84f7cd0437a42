"""`why UID [DATE]`: every gate of one user's day in its order, with the values that decided, and what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from notifications.commands.context import Context
from notifications.commands.show import checked, made_by
from notifications.commands.terminal import say_wrapped, several
from notifications.commands.user_days import covered_later, is_abandoned_resend
from notifications.domain.claim import ClaimState, sweep_key, user_key
from notifications.domain.model import DayState, Ledger
from notifications.domain.schedule import ONE_DAY, Phase, latest_slot, slot_of_day, zone
from notifications.domain.told_once import split_told_hashes
from notifications.ports import UserDocument
from notifications.run.day_input import DayInput
from notifications.run.forecast import DayView, Forecast, Records, Step, sweep_forecast, view_day
from notifications.run.state import Run
from notifications.run.tick import explain_sent_elsewhere

STATES = {
    DayState.SENT: "ended: sent",
    DayState.SKIPPED: "ended: nothing was sent, on purpose",
    DayState.MISSED: "ended without a recap: no run served it in time",
    DayState.DEAD: "ended without a recap: it failed too often",
    DayState.GAVE_UP: "ended: the recap is stored, and no push of it was accepted",
    DayState.SENDING: "a run is pushing it, or died while it did",
    DayState.PENDING: "the recap is stored, and a push of it is still owed",
    DayState.UNREADABLE: "not one that this version can read",
}
DEVICES_NAMED = 5
LEGACY = "made by another writer (an older deployment, or the app on demand), so nothing was pushed"
OUTCOMES = {
    "legacy": LEGACY,
    "resend": "an operator's resend, which the same command finishes",
    "no_content": "too little was said (RECAP_MIN_WORDS)",
    "no_devices": "the user has no device",
    "inverted_window": "another day's ledger ends after its slot, so which conversations it had is not known",
    "closed": "its catch-up was over, and RECAP_FALLBACK=none",
    "crashes": "the process died with it too often",
    "undelivered": "no push of it was accepted before its time was over",
    "user_gone_or_off": "the user was erased or switched off meanwhile",
    "failures": "the LLM failed on it too often",
    "pushes": "its last permitted push was not accepted",
}
NEXT = {
    Step.MAKES: "the next run makes it. If no run comes, look at the scheduler, and run python job.py doctor.",
    Step.SENDS_EXTRACT: "the next run of the closing pass sends the extract.",
    Step.SENDS_DRAFT: "the next run of the closing pass sends its draft without a second look.",
    Step.PUSHES: "the next run pushes it.",
    Step.LEGACY: "the next run ends it as sent: another writer's summary of the date is stored. Nothing is pushed.",
    Step.SKIPS: "the next run skips it, since too little was said.",
    Step.MISSES: "the next run ends it as missed: its catch-up is over, and RECAP_FALLBACK=none.",
    Step.MISSES_INVERTED: "the next run ends it as missed: {inverted}.",
    Step.CLOSES_DEAD: "the next run ends it as dead: {reason}. {again} makes it after that.",
    Step.GIVES_UP: "the next run gives it up: {reason}.",
    Step.ENDED_IN_REDIS: "nothing until its claim expires, three hours after the slot; then a sweep ends its open "
    "delivery.",
    Step.WAITS: "it waits for {wait} after a failure; then {then}",
    Step.SENDER_WAITS: "its sender may still be at work, for {wait} at most; then {then}",
    Step.SWEPT_LATER: "the next sweep is in {wait}; then {then}",
    Step.HELD: "the run that holds it ends it; if that run has died, its claim lapses in {wait}, and then {then}",
    Step.FOREIGN: "no run makes it while another writer's value stands under its key.",
    Step.SHARD_WAITS: "its hour is served again in {wait}; then {then}",
    Step.SHARD_HELD: "another run serves its hour; if that run has died, its claim lapses in {wait}, and then {then}",
    Step.SHARD_FOREIGN: "no run serves its hour, since the key of its shard holds what this job did not write: "
    "look at it by python job.py inspect --keys, and delete it.",
    Step.SHARD_COMPLETE: "nothing by itself: all users of this hour were served; users who came since are served from "
    "the next slot on. python job.py --user {uid} makes it now.",
    Step.SKIPPED_BEFORE: "nothing by itself: an earlier run skipped it. python job.py --user {uid} looks again.",
    Step.STUCK_LEDGER: "nothing by itself: its ledger was written by another version, or by hand; correct or delete "
    "users/{uid}/recap_deliveries/{day}.",
    Step.STUCK_INVERTED: "it waits for a person, then it is missed: {inverted}; delete it if a clock that was ahead "
    "made it.",
    Step.SWITCHED_OFF: "nothing; the user has switched recaps off.",
    Step.EARLY: "it is made in the first run after {slot} UTC.",
    Step.OVER: "nothing by itself: no run served this slot. {again} makes it.",
}
GOES_WRONG = (
    *(Step.MISSES, Step.MISSES_INVERTED, Step.CLOSES_DEAD, Step.GIVES_UP),
    *(Step.SHARD_FOREIGN, Step.STUCK_LEDGER, Step.STUCK_INVERTED),
)
WENT_WRONG = (DayState.MISSED, DayState.DEAD, DayState.GAVE_UP, DayState.UNREADABLE)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is read of one day."""

    listed: UserDocument
    view: DayView
    forecast: Forecast
    conversations: DayInput
    enough: bool  # for a recap
    summary: Mapping[str, Any] | None
    devices: int

    @property
    def ledger(self) -> Ledger | None:
        return self.view.ledgers.today

    @property
    def younger(self) -> bool:
        """Whether the account was made after the slot."""
        return self.listed.created is not None and self.view.slot.at < self.listed.created


async def why(uid: str, day: date | None, context: Context) -> int:
    """Exit 1 where the day went, or goes, wrong."""
    async with context.open_services() as parts:
        run = Run(parts, context.offset, context.terminated)
        now = await context.claims.now() + context.offset
        listed = await run.services.store.user_document(uid)
        if listed is None or listed.user is None:
            return await _explain_unserved(run, uid, listed, day, now)
        user = listed.user
        slot = latest_slot(user.zone, user.hour, now) if day is None else slot_of_day(user.zone, day, user.hour)
        view = await view_day(run, user, slot, now)
        conversations = await view.read()
        ledger = view.ledgers.today
        facts = Facts(
            listed=listed,
            view=view,
            forecast=await view.forecast(),
            conversations=conversations,
            enough=conversations.material(run.services.limits.min_words) is not None,
            summary=await run.services.store.summary_document(
                uid, slot.recap_date, ledger.summary_id if ledger else ""
            ),
            devices=len((await run.services.store.devices(uid))[0]),
        )
    for line in gate_lines(facts):
        _say(line)
    _say(f"next: {next_step(facts, facts.forecast)}")
    return 1 if is_wrong(facts) else 0


async def _explain_unserved(run: Run, uid: str, listed: UserDocument | None, day: date | None, now: datetime) -> int:
    """A user that no run sees. Only the sweep may still end what a run began for them."""
    if listed is not None:
        _say(f"document: not seen by the job: {listed.flaw}")
    else:
        _say(f"document: users/{uid} does not exist: erased, or never there.")
    first, last = (day, day) if day else (now.date() - 2 * ONE_DAY, now.date() + ONE_DAY)
    ledgers = (await run.services.store.ledgers_between(uid, first, last)).values()
    for ledger in (ledger for ledger in ledgers if day or ledger.state.open):
        claim, swept = await run.services.claims.read(
            [user_key(uid, ledger.date), sweep_key(run.services.claims.environment)]
        )
        records = Records(claim, claim, swept, skipped=False)
        _say(f"ledger of {ledger.date}: {ledger_line(ledger)}")
        if forecast := sweep_forecast(run, ledger, records, now, active=listed is not None and listed.active):
            _say(f"next of it: {_sentence(forecast, uid=uid)}")
    if listed is not None:
        _say("next: nothing until the document is correct: python job.py doctor --fix, or write it anew.")
    else:
        _say("next: nothing; check the uid.")
    return 1


def _say(line: str) -> None:
    say_wrapped(line, "    ", "  ")


def gate_lines(f: Facts) -> list[str]:
    """One for each gate, in their order."""
    user, slot, ledger = f.view.user, f.view.slot, f.ledger
    lines = [
        f"document: users/{user.uid} is seen; recaps are switched {'on' if user.enabled else 'off'}, "
        f"at {user.hour}:00 in {user.zone}.",
        f"day: {slot.recap_date}, due at {_local(slot.at, user.zone)}{_utc(slot.at)} UTC ({_phase(f.view)}).",
        f"window: {_window_line(f)}",
        f"devices: {f.devices}.",
        f"claim: {_claim_line(f.view)}",
        f"ledger: {ledger_line(ledger) if ledger else 'none; the day has not ended.'}",
    ]
    if f.summary is not None:
        lines.append(f"recap: stored. {made_by(f.summary)} {checked(f.summary)}".rstrip())
    return lines


def _window_line(f: Facts) -> str:
    """What the recap covers: as its ledger says, else as the next run would read it."""
    candidates, ledger = f.conversations.ledgers.candidates, f.ledger
    if ledger is not None and ledger.told is None and ledger.window_end is not None:
        # An older version's, or of another writer's recap. Read now, it would lack what the ledgers around have told.
        since = f"{_utc(ledger.window_start)} to" if ledger.window_start else "up to"
        return f"{since} {_utc(ledger.window_end)} UTC; which conversations it had is not stored."
    start, end = candidates.window.start, candidates.until
    if ledger is not None and ledger.told is not None:
        start, end = ledger.window_start or start, ledger.window_end or end
        read_from = ledger.read_from or start
        what = f"{several(len(split_told_hashes(ledger.told)), 'conversation')} told"
        verdict = ""
    else:
        read_from = candidates.first_untold
        what = several(len(f.conversations.conversations), "conversation")
        verdict = f"; {'enough' if f.enough else 'too little'} for a recap"
    if f.conversations.malformed:
        what += f", {f.conversations.malformed} malformed and left out"
    if f.conversations.encrypted:
        what += f", {f.conversations.encrypted} encrypted, whose words only the app can read"
    late = f" (what no recap has told: from {_utc(read_from)})" if read_from < start else ""
    return f"{_utc(start)} to {_utc(end)} UTC{late}, {what}{verdict}."


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def _local(at: datetime, name: str) -> str:
    return "" if name == "UTC" else f"{at.astimezone(zone(name)):%Y-%m-%d %H:%M} in {name}, "


def _phase(view: DayView) -> str:
    late = view.now - view.slot.at
    match view.phase:
        case Phase.EARLY:
            return f"in {_span(-late)}"
        case Phase.DUE:
            return f"{_span(late)} ago, served until its catch-up ends"
        case Phase.CLOSING:
            return f"{_span(late)} ago, in its closing pass"
        case _:
            return f"{_span(late)} ago, no longer served"


def _span(span: timedelta) -> str:
    minutes = max(0, round(span.total_seconds() / 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"


def _claim_line(view: DayView) -> str:
    record, ledger = view.records.claim, view.ledgers.today
    left = timedelta(milliseconds=record.until - view.run.redis_ms(view.now))
    reason = f"; the last failure: {record.reason}" if record.reason else ""
    counted = f" ({record.failures} failures, {record.crashes} crashes)" if record.failures or record.crashes else ""
    match record.state:
        case ClaimState.ABSENT if ledger is not None and ledger.state is DayState.SKIPPED:
            return "none; a day that was skipped ends it, and its key is free again."
        case ClaimState.ABSENT:
            return "none; no run has claimed it, or Redis has forgotten it."
        case ClaimState.CLAIMED:
            return f"held by a run, for {_span(left)} at most{counted}{reason}."
        case ClaimState.IDLE:
            return f"waits, due again in {_span(left)}{counted}{reason}."
        case ClaimState.FOREIGN:
            return "another writer's value stands under its key, and holds it for two hours at most."
        case _:
            return f"ended: {record.state.value}{counted}{reason}."


def ledger_line(entry: Ledger) -> str:
    """What a ledger says, in words."""
    words = [STATES[entry.state]]
    if entry.outcome:
        words.append(OUTCOMES.get(entry.outcome, entry.outcome))
    if entry.reason:
        words.append(f"the last failure: {entry.reason}")
    if entry.tries:
        words.append("1 try" if entry.tries == 1 else f"{entry.tries} tries")
    if entry.devices:
        words.append(_answers(entry.devices))
    if entry.sent_at:
        words.append(f"at {_utc(entry.sent_at)} UTC")
    return f"{'; '.join(words)}."


def _answers(devices: Mapping[str, str]) -> str:
    """Each device's answer; of many, how many answered so. Devices are named by the hash of their token."""
    if len(devices) <= DEVICES_NAMED:
        return ", ".join(f"device {device} {answer}" for device, answer in sorted(devices.items()))
    answers = list(devices.values())
    return ", ".join(f"{answers.count(answer)} devices {answer}" for answer in sorted(set(answers)))


def _sentence(forecast: Forecast, then: str = "the next run ends it.", **words: object) -> str:
    entry = forecast.ledger
    reason = OUTCOMES.get(entry.outcome, entry.outcome) if entry is not None else ""
    return NEXT[forecast.step].format(wait=_span(forecast.wait), reason=reason, then=then, **words)


def next_step(f: Facts, forecast: Forecast) -> str:
    """What happens by itself and when, or the command to type."""
    view, step, ledger, uid = f.view, forecast.step, f.ledger, f.view.user.uid
    day, around = view.slot.recap_date, view.ledgers.nearby
    again = f"python job.py resend {uid} {day}"
    if step is Step.ENDED and ledger is not None:
        return _after_the_end(f, ledger, again)
    if step is Step.ENDED_IN_REDIS and ledger is None:
        return _after_the_end_in_redis(f, again)
    if step in (Step.OVER, Step.SWITCHED_OFF, Step.SHARD_COMPLETE) and ledger is not None:  # a resend's: none sweeps it
        return f"nothing by itself, unless that resend is at work; else it was stopped. {again} finishes it."
    if step is Step.OVER and f.younger:
        return "nothing; the account is younger than this slot."
    if step is Step.OVER and (reason := covered_later(view.slot, around)):
        return f"nothing; {reason}."
    path = f"users/{uid}/recap_deliveries/{view.ledgers.inverted_by}"
    inverted = f"{path} has a window that ends after its slot"
    then = next_step(f, forecast.then) if forecast.then else ""
    return _sentence(forecast, then, uid=uid, day=day, again=again, slot=_utc(view.slot.at), inverted=inverted)


def _after_the_end(f: Facts, ledger: Ledger, again: str) -> str:
    if ledger.state is DayState.SENT and ledger.outcome == "no_devices" and not f.devices:
        shown = f"python job.py show {f.listed.uid}"
        return f"nothing; the recap is in the app, and there is no device to push to. {shown}."
    if not f.view.user.enabled:
        return "nothing; the day has ended, and the user has switched recaps off since."
    reason = covered_later(f.view.slot, f.view.ledgers.nearby)
    match ledger.state:
        case DayState.SENT:
            return f"nothing; it had its recap. {again} pushes it once more."
        case DayState.GAVE_UP:
            return f"nothing by itself. {again} pushes it."
        case _ if reason:
            return f"nothing; {reason}."
        case DayState.SKIPPED:
            return f"nothing; what was said since is in the next recap. {again} looks again."
        case _:
            return f"nothing by itself. {again} makes and pushes it."


def _after_the_end_in_redis(f: Facts, again: str) -> str:
    """Redis says that it ended, and it has no ledger."""
    uid, day = f.view.user.uid, f.view.slot.recap_date
    state = f.view.records.claim.state
    if state is ClaimState.SENT:
        return f"nothing by itself: {explain_sent_elsewhere(uid, day)} {again} makes it here."
    return f"nothing by itself: Redis says that it ended as {state.value}, without a ledger. {again} makes it."


def is_wrong(f: Facts) -> bool:
    """Whether the day ended, is over, or will end, without the recap that was owed."""
    step = f.forecast.step
    if f.ledger is not None:
        return f.ledger.state in WENT_WRONG or is_abandoned_resend(f.ledger) or step in GOES_WRONG
    if step is Step.OVER:
        return not f.younger
    return step in GOES_WRONG or f.view.records.claim.state is ClaimState.SENT
