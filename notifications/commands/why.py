"""`why UID [DATE]`: explain one user's day gate by gate, and say what happens next."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

from notifications.commands.context import Context, slot_in_question, unused_addresses
from notifications.commands.reasons import DOCTOR, cure_of, in_words, is_of_an_answer
from notifications.commands.show import checked, made_by
from notifications.commands.terminal import minute, say_wrapped, several
from notifications.commands.user_days import covered_later, has_changed_since, is_abandoned_resend
from notifications.domain.claim import ABSENT, ClaimState, free_at, lease_left, sweep_key, user_key
from notifications.domain.model import DayState, Ledger
from notifications.domain.schedule import ONE_DAY, Phase, zone
from notifications.domain.target import Target
from notifications.domain.told_once import split_told_hashes
from notifications.ports import Store, UserDocument
from notifications.run.day_input import DayInput
from notifications.run.forecast import DayView, Forecast, Records, Step, sweep_forecast, view_day
from notifications.run.outcome import what_stopped
from notifications.run.state import Run
from notifications.run.targets import read_targets
from notifications.run.tick import explain_sent_elsewhere

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
STATES, OUTCOMES, STEP_TEXTS = TABLES["states"], TABLES["outcomes"], TABLES["steps"]
TARGETS_NAMED = 5
NO_TARGET_NOW = "There is no target now"  # so that a resend is refused
MAKING = (Step.EARLY, Step.MAKES, Step.SENDS_EXTRACT, Step.SENDS_DRAFT)
LOSING_STEPS = frozenset(
    {
        Step.MISSES,
        Step.MISSES_INVERTED,
        Step.CLOSES_DEAD,
        Step.GIVES_UP,
        Step.SHARD_FOREIGN,
        Step.STUCK_LEDGER,
        Step.STUCK_INVERTED,
    }
)
LOST_STATES = frozenset({DayState.MISSED, DayState.DEAD, DayState.GAVE_UP, DayState.UNREADABLE})


@dataclass(frozen=True, slots=True)
class ExplainedDay:
    """All that is read of one day."""

    document: UserDocument
    view: DayView
    forecast: Forecast
    day_input: DayInput
    enough_for_a_recap: bool
    summary: Mapping[str, Any] | None
    targets: Sequence[Target]

    @property
    def ledger(self) -> Ledger | None:
        return self.view.ledgers.today


async def why(uid: str, day: date | None, context: Context) -> int:
    """Print every gate of the day. Returns 1 if the recap was or will be lost."""
    async with context.open_run() as run:
        now = await context.now()
        document = await run.services.store.user_document(uid)
        if document is None or document.user is None:
            return await _explain_invisible(run, uid, document, day, now)
        user = document.user
        slot = slot_in_question(run.services.limits.rules, document, user, now, day)
        view = await view_day(run, user, slot, now)
        day_input = await view.read()
        summary_id = view.ledgers.today.summary_id if view.ledgers.today else ""
        to, _ = await read_targets(run, uid, user, view.ledgers.before)
        explained = ExplainedDay(
            document=document,
            view=view,
            forecast=await view.forecast(),
            day_input=day_input,
            enough_for_a_recap=day_input.material(run.services.limits.min_words) is not None,
            summary=await run.services.store.summary_document(uid, slot.recap_date, summary_id),
            targets=to.targets,
        )
        unused = [f"not used: {clause}." for clause in await unused_addresses(context, run.services, uid)]
    for line in (*gate_lines(explained), *unused):
        _say(line)
    _say(f"next: {describe_next(explained, explained.forecast, now)}")
    return 1 if is_lost(explained) else 0


async def _explain_invisible(run: Run, uid: str, document: UserDocument | None, day: date | None, now: datetime) -> int:
    """Explain a user that no run sees. The sweep may still end a delivery that a run has opened for them."""
    store = run.services.store
    missing = f"{store.user_path.format(uid=uid)} does not exist."
    _say(f"document: {f'not seen by the job: {document.flaw}' if document else missing}")
    first, last = (day, day) if day else (now.date() - 2 * ONE_DAY, now.date() + ONE_DAY)
    ledgers = (await store.ledgers_between(uid, first, last)).values()
    for ledger in (ledger for ledger in ledgers if day or ledger.state.open):
        claim, sweep_record = await run.services.claims.read(
            [user_key(uid, ledger.date), sweep_key(run.services.claims.environment)]
        )
        records = Records(claim, ABSENT, sweep_record, skipped=False)  # no shard serves a user that the query can't see
        _say(f"ledger of {ledger.date}: {ledger_line(ledger)}")
        active = document is not None and document.active
        if forecast := await sweep_forecast(run, uid, ledger, records, now, active=active):
            _say(f"what happens to it: {_describe(forecast, now, store, uid=uid, day=ledger.date)}")
    if document is not None:
        _say("next: nothing until the document is correct: run python job.py doctor --fix, or write it again.")
    else:
        _say("next: nothing. Check the uid.")
    return 1 if document is not None else 2


def _say(line: str) -> None:
    say_wrapped(line, "    ", "  ")


def gate_lines(explained: ExplainedDay) -> list[str]:
    """The lines that `why` prints: the document, the day, and what the targets, claim, ledger and store say of it."""
    user, slot, ledger = explained.view.user, explained.view.slot, explained.ledger
    due, path = f"{_utc(slot.at)} UTC", explained.view.run.services.store.user_path.format(uid=user.uid)
    if user.zone != "UTC":
        due = f"{slot.at.astimezone(zone(user.zone)):%Y-%m-%d %H:%M} in {user.zone}, {due}"
    by_channel = Counter(target.channel for target in explained.targets)
    names = {name: target.channel for target in explained.targets for name in target.ids}
    lines = [
        f"document: {path} is seen; recaps are switched {'on' if user.enabled else 'off'}, "
        f"at {user.hour}:00 in {user.zone}.",
        f"day: {slot.recap_date}, due at {due} ({_phase(explained.view)}).",
        f"window: {_window_line(explained)}",
        f"targets: {', '.join(f'{count} by {name}' for name, count in by_channel.items()) or 'none'}.",
        f"claim: {_claim_line(explained.view)}",
        f"ledger: {ledger_line(ledger, names) if ledger else 'none; the day has not ended.'}",
    ]
    if explained.summary is not None:
        lines.append(f"recap: stored. {made_by(explained.summary)} {checked(explained.summary)}".rstrip())
    return lines


def _window_line(explained: ExplainedDay) -> str:
    """What the recap covers: according to its ledger, else as the next run would read it."""
    candidates, ledger, day_input = explained.view.ledgers.candidates, explained.ledger, explained.day_input
    if ledger is not None and ledger.told is None and ledger.window_end is not None:
        # An older version or another writer ended the day. What its recap covered can't be recomputed: conversations
        # that neighbouring recaps have used since are no longer read.
        since = f"{_utc(ledger.window_start)} to" if ledger.window_start else "up to"
        return f"{since} {_utc(ledger.window_end)} UTC; which conversations it used is not stored."
    start, end = candidates.window.start, candidates.until
    if ledger is not None and ledger.told is not None:
        start, end = ledger.window_start or start, ledger.window_end or end
        read_from = ledger.read_from or start
        amount = f"{several(len(split_told_hashes(ledger.told)), 'conversation')} used"
        verdict = ""
    else:
        read_from = candidates.first_untold
        amount = several(len(day_input.conversations), "conversation")
        so_far = " so far" if explained.view.phase is Phase.EARLY else ""
        verdict = f"; {'enough' if explained.enough_for_a_recap else 'too little'} for a recap{so_far}"
    if day_input.malformed:
        amount += f", {day_input.malformed} malformed and left out"
    if day_input.encrypted:
        amount += f", {day_input.encrypted} encrypted, whose words only the app can read"
    earlier = f" (with unused conversations from {_utc(read_from)})" if read_from < start else ""
    return f"{_utc(start)} to {_utc(end)} UTC{earlier}, {amount}{verdict}."


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def _phase(view: DayView) -> str:
    since_slot, rules = view.now - view.slot.at, view.run.services.limits.rules
    no_closing_pass = view.phase is Phase.DUE and not view.run.services.has_fallback
    last = view.slot.at + rules.catch_up if no_closing_pass else rules.service_end(view.slot.at)
    match view.phase:
        case Phase.EARLY:
            return f"in {_duration(-since_slot)}"
        case Phase.DUE | Phase.CLOSING as phase:
            how = "due" if phase is Phase.DUE else "in the closing pass,"
            return f"{_duration(since_slot)} ago, {how} until {_until(last, view.now, ', ')}"
        case _:
            return f"{_duration(since_slot)} ago, no longer served"


def _until(at: datetime, now: datetime, comma: str = "") -> str:
    """A time to come, and how far off it is: in brackets, or after a comma; both by the minute that has it behind."""
    left = (at - now) / timedelta(minutes=1)
    away = f"in {_duration(timedelta(minutes=ceil(left)))}" if left > 0 else "now"
    return f"{minute(at)} UTC{comma}{away if comma else f' ({away})'}"


def _duration(duration: timedelta) -> str:
    minutes = max(0, round(duration.total_seconds() / 60))
    if minutes < 60:
        return f"{minutes} min"
    if minutes >= 48 * 60:
        return f"{minutes // 1440} days"
    return f"{minutes // 60} h {minutes % 60} min".removesuffix(" 0 min")


def _claim_line(view: DayView) -> str:
    record, ledger = view.records.claim, view.ledgers.today
    until = _until(free_at(record, view.redis_now) + view.run.offset, view.now)
    reason = f"; the last failure: {in_words(record.reason)}" if record.reason else ""
    stopped_by = what_stopped(view.records.shard.reason)
    counted = f" ({record.failures} failures, {record.crashes} crashes)" if record.failures or record.crashes else ""
    match record.state:
        case ClaimState.ABSENT if ledger is not None and ledger.state is DayState.SKIPPED:
            return "none; skipping the day released it."
        case ClaimState.ABSENT if ledger is None and stopped_by:
            return f"none; the last run stopped before it reached this user: {in_words(stopped_by)}."
        case ClaimState.ABSENT if ledger is None and view.records.shard.state is ClaimState.ABSENT:
            return "none; no run has come to its hour yet, or Redis has lost it."
        case ClaimState.ABSENT:
            return "none; no run has claimed it, or Redis has lost it."
        case ClaimState.CLAIMED if not lease_left(record, view.redis_now):
            return f"left by a run that was killed; the next run may take it{counted}{reason}."
        case ClaimState.CLAIMED:
            who = "a run that was killed" if view.records.shard.crashes else "a run"
            return f"held by {who}, until {until} at the latest{counted}{reason}."
        case ClaimState.IDLE:
            return f"waits, due again at {until}{counted}{reason}."
        case ClaimState.FOREIGN:
            return "its key holds a foreign value, for two hours at most."
        case _:
            no_device = ledger is not None and ledger.ending == "no_devices"
            return f"ended{', with no target' if no_device else f': {record.state.value}'}{counted}{reason}."


def _variant(step: Step, view: DayView) -> tuple[str, str]:
    """The name of the step's text, and what failed last, as a code; a cause that lasts makes the next run fail too."""
    name, records, ledger = step.name.lower(), view.records, view.ledgers.today
    cause = records.claim.reason or (ledger.reason if ledger is not None else "")
    if not cause and ledger is None and records.claim.state is ClaimState.ABSENT:
        cause = what_stopped(records.shard.reason)
    if step is Step.MAKES and not cause and records.claim.state is records.shard.state is ClaimState.ABSENT:
        return "makes_first", ""
    if step is Step.HELD and records.shard.crashes:
        return "held_killed", ""
    kind = f"{name}_answered" if cause.startswith("store_") else f"{name}_again"  # it was just read
    return (kind if cause and kind in STEP_TEXTS else name), cause


def ledger_line(ledger: Ledger, names: Mapping[str, str] = {}) -> str:
    """The ledger as text. `names`: the channel of each target that is still there."""
    phrases = [STATES[ledger.ending]]
    if ledger.outcome == "no_devices":
        phrases.append("each target is gone" if ledger.devices else OUTCOMES["no_devices"])
    elif ledger.outcome:
        phrases.append(OUTCOMES.get(ledger.outcome, ledger.outcome))
    if ledger.extract_reason:
        phrases.append(f"an extract, since {in_words(ledger.extract_reason)}")
    if ledger.reason:
        phrases.append(f"the last failure: {in_words(ledger.reason)}")
    died = max(0, ledger.tries - (ledger.state in (DayState.SENDING, DayState.SENT)))
    phrases += [f"{several(died, 'run')} died while sending it"] if died else []
    phrases += [f"an answer was missing {several(ledger.unanswered, 'time')}"] if ledger.unanswered else []
    if ledger.devices:
        phrases.append(_answers(ledger.devices, names))
    if ledger.sent_at:
        phrases.append(f"at {_utc(ledger.sent_at)} UTC")
    return f"{'; '.join(phrases)}."


def _answers(answers: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Each target's answer, by the hash of its address; beyond TARGETS_NAMED of them only the count per answer."""
    if len(answers) <= TARGETS_NAMED:
        return ", ".join(f"{names.get(one, 'target')} {one} {answer}" for one, answer in sorted(answers.items()))
    return ", ".join(
        f"{several(count, 'target')} {answer}" for answer, count in sorted(Counter(answers.values()).items())
    )


def _resend_command(uid: str, day: date) -> str:
    return f"python job.py resend {uid} {day}"


def _describe(
    forecast: Forecast,
    now: datetime,
    store: Store,
    *,
    uid: str,
    day: date,
    then: str = "the next run ends it.",
    slot: str = "",
    inverted_by: date | None = None,
    variant: tuple[str, str] = ("", ""),
    asked_at: datetime | None = None,
) -> str:
    """The text of a forecast made at `now`. `then`: what follows it; `slot`: the time; `inverted_by`: as Ledgers
    has it; `variant`: the text's name, if not the step's, and what failed, as a code; `asked_at`: if not `now`.
    """
    ledger, path = forecast.ledger, store.ledger_path.format
    return str(STEP_TEXTS[variant[0] or forecast.step.name.lower()]).format(
        until=_until(now + forecast.wait, asked_at or now),
        cause=in_words(variant[1]),
        cure=cure_of([variant[1]]) or DOCTOR,
        reason=OUTCOMES.get(ledger.outcome, ledger.outcome) if ledger is not None else "",
        resend=_resend_command(uid, day),
        uid=uid,
        day=day,
        then=then,
        slot=slot,
        due=slot[-5:],
        inverted=f"{path(uid=uid, day=inverted_by)} has a window that ends after this slot",
        ledger=path(uid=uid, day=day),
    )


def describe_next(explained: ExplainedDay, forecast: Forecast, now: datetime) -> str:
    """What happens by itself and when, or the command to type."""
    view, step, ledger, uid = explained.view, forecast.step, explained.ledger, explained.view.user.uid
    day, nearby, rules = view.slot.recap_date, view.ledgers.nearby, view.run.services.limits.rules
    if step is Step.ENDED and ledger is not None:
        return _describe_ended(explained, ledger)
    if step is Step.ENDED_IN_REDIS and ledger is None:
        return _describe_ended_in_redis(explained)
    if step in (Step.OVER, Step.SWITCHED_OFF, Step.SHARD_COMPLETE) and ledger is not None:
        finish = f"If it was stopped, run {_resend_command(uid, day)} to finish it."  # the sweep leaves it alone
        return f"nothing by itself, unless a resend is still running. {finish}"
    if step is Step.OVER and not rules.could_have(view.slot.at, explained.document.created):
        return "nothing: the account is younger than this slot."
    if step is Step.OVER and (reason := covered_later(view.slot, nearby)):
        return f"nothing: {reason}."
    nobody, variant = step in MAKING and not explained.targets, _variant(step, view)
    ends_as = view.closing_step(variant[1])
    soon = "_soon" if ends_as is Step.SENDS_EXTRACT and is_of_an_answer(variant[1]) else ""
    closing = TABLES["closing"][f"{ends_as.name.lower()}{soon}"].format(
        at=_until(view.slot.at + rules.catch_up, view.now)
    )
    return _describe(
        forecast,
        now,
        view.run.services.store,
        uid=uid,
        day=day,
        then=describe_next(explained, forecast.then, now + forecast.wait) if forecast.then else closing,
        slot=_utc(view.slot.at),
        inverted_by=view.ledgers.inverted_by,
        variant=variant,
        asked_at=view.now,
    ) + (STEP_TEXTS["to_nobody"] if nobody else "")


def _describe_ended(explained: ExplainedDay, ledger: Ledger) -> str:
    uid, slot = explained.document.uid, explained.view.slot
    resend = _resend_command(uid, slot.recap_date)
    if ledger.ending == "no_devices":
        now = f"Run {resend} to send it to the targets of now" if explained.targets else NO_TARGET_NOW
        others = f" {STEP_TEXTS['all_gone'].format(day=slot.recap_date)}" if ledger.devices else ""
        return (
            f"nothing: the recap is in the app, and no target got it. {now}.{others} "
            f"Run python job.py show {uid} to read it."
        )
    if not explained.view.user.enabled:
        return "nothing: the day has ended, and the user has switched recaps off since."
    if ledger.state is DayState.SENT:
        done = "the recap was sent" if ledger.ending == "sent" else "the day has another writer's recap"
        again = f"Run {resend} to send it{' again' if ledger.ending == 'sent' else ''}"
        return f"nothing: {done}. {again if explained.targets else NO_TARGET_NOW}."
    if ledger.state is DayState.GAVE_UP:
        return f"nothing by itself. {f'Run {resend} to send the recap' if explained.targets else NO_TARGET_NOW}."
    if reason := covered_later(slot, explained.view.ledgers.nearby):
        return f"nothing: {reason}."
    if ledger.state is DayState.SKIPPED:
        return f"nothing: what was said since is in the next recap. Run {resend} to look again."
    return f"nothing by itself. Run {resend} to make and send the recap."


def _describe_ended_in_redis(explained: ExplainedDay) -> str:
    """What to do about a day that Redis says has ended, but that has no ledger."""
    uid, day = explained.view.user.uid, explained.view.slot.recap_date
    resend, state = _resend_command(uid, day), explained.view.records.claim.state
    if state is ClaimState.SENT:
        return f"nothing by itself: {explain_sent_elsewhere(uid, day)} Run {resend} to make the recap here."
    return (
        f"nothing by itself: Redis says that the day ended as {state.value}, but it has no ledger. "
        f"Run {resend} to make the recap."
    )


def is_lost(explained: ExplainedDay) -> bool:
    """Whether the user has lost, or will lose, the recap of this day."""
    step, ledger = explained.forecast.step, explained.ledger
    if ledger is not None:
        return ledger.state in LOST_STATES or is_abandoned_resend(ledger) or step in LOSING_STEPS
    if step is Step.OVER:
        return not has_changed_since(explained.view.slot.at, explained.document)
    return step in LOSING_STEPS or explained.view.records.claim.state is ClaimState.SENT
