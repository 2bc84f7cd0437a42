"""`why UID [DATE]`: every gate of one user's day in its order, with the values that decided, and what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from notifications.commands.joined import is_abandoned_resend, not_made_anew
from notifications.commands.operation import Context
from notifications.commands.show import dropped_by_reason, second_look
from notifications.commands.terminal import say_wrapped
from notifications.domain.claim import ClaimState, Record, user_key
from notifications.domain.model import DayState, Ledger, User
from notifications.domain.schedule import Phase, Slot, latest_slot, slot_of_day, zone
from notifications.domain.shards import key_of
from notifications.domain.text import printable
from notifications.domain.told import hashes_in
from notifications.ports import Listed, Store
from notifications.run.day_input import DayInput, read_conversations, read_ledgers
from notifications.run.state import Parts
from notifications.run.tick import sent_elsewhere

STATES = {
    DayState.SENT: "ended: sent",
    DayState.SKIPPED: "ended: nothing was sent, on purpose",
    DayState.MISSED: "ended without a recap: nobody served it in time",
    DayState.DEAD: "ended without a recap: it failed too often",
    DayState.GAVE_UP: "ended: the recap is stored, and no push of it was accepted",
    DayState.SENDING: "a run is pushing it, or died while it did",
    DayState.PENDING: "the recap is stored, and a push of it is still owed",
    DayState.UNREADABLE: "is none that this version knows",
}
DEVICES_NAMED = 5
LEGACY = "made by another hand (an older deployment, or the app on demand), so nothing was pushed"
OUTCOMES = {
    "legacy": LEGACY,
    "resend": "an operator's resend, which the same command finishes",
    "no_content": "too little was said (RECAP_MIN_WORDS)",
    "no_devices": "the user has no device",
    "inverted_window": "another day's ledger ends after its slot, so what was told is not known",
    "closed": "its catch-up was over, and RECAP_FALLBACK=none",
    "crashes": "the process died with it four times",
    "undelivered": "no push of it was accepted before its time was over",
    "user_gone_or_off": "the user was erased or switched off meanwhile",
    "failures": "the LLM failed on it too often",
    "pushes": "three tries were not accepted",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is read of one day; reads only."""

    listed: Listed
    user: User
    slot: Slot
    phase: Phase
    now: datetime
    ledger: Ledger | None
    record: Record
    passed_by: bool  # its shard was served to its end
    summary: Mapping[str, Any] | None
    given: DayInput
    tells: bool
    devices: int


def lines(f: Facts) -> list[str]:
    """One for each gate, in their order."""
    found = _gates(f)
    if f.summary is not None:
        found.append(f"recap: {_recap_line(f.summary)}")
    return found


def _gates(f: Facts) -> list[str]:
    user, slot = f.user, f.slot
    return [
        f"document: users/{user.uid} is seen; recaps are switched {'on' if user.enabled else 'off'}, "
        f"at {user.hour}:00 in {user.zone}.",
        f"day: {slot.recap_date}, due at {_local(slot.at, user.zone)}{_utc(slot.at)} UTC ({_phase(f)}).",
        f"window: {_window_line(f)}",
        f"devices: {f.devices}.",
        f"claim: {_claim_line(f)}",
        f"ledger: {ledger_line(f.ledger) if f.ledger else 'none; the day has not ended.'}",
    ]


def _window_line(f: Facts) -> str:
    """What the recap covers: as its ledger has it, else as the next run would read it."""
    candidates, malformed, entry = f.given.ledgers.candidates, f.given.malformed, f.ledger
    if entry is not None and entry.told is None and entry.window_end is not None:
        # An older version's, or of another hand's recap. Read now, it would lack what the ledgers around have told.
        since = f"{_utc(entry.window_start)} to" if entry.window_start else "up to"
        return f"{since} {_utc(entry.window_end)} UTC; which conversations it told is not stored."
    left_out = f", {malformed} malformed and left out" if malformed else ""
    if f.given.encrypted:
        left_out += f", {f.given.encrypted} encrypted, whose words only the app can read"
    if entry is not None and entry.told is not None:
        start, end = entry.window_start or candidates.window.start, entry.window_end or candidates.until
        read_from, said = entry.read_from or start, len(hashes_in(entry.told))
        what = f"{_counted(said, 'conversation')} told{left_out}"
    else:
        start, end, read_from, said = (
            candidates.window.start,
            candidates.until,
            candidates.since,
            len(f.given.conversations),
        )
        what = f"{_counted(said, 'conversation')}{left_out}; {'enough' if f.tells else 'too little'} for a recap"
    late = f" (what no recap has told: from {_utc(read_from)})" if read_from < start else ""
    return f"{_utc(start)} to {_utc(end)} UTC{late}, {what}."


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def _local(at: datetime, name: str) -> str:
    return "" if name == "UTC" else f"{at.astimezone(zone(name)):%Y-%m-%d %H:%M} in {name}, "


def _phase(f: Facts) -> str:
    late = f.now - f.slot.at
    match f.phase:
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


def _claim_line(f: Facts) -> str:
    record, now = f.record, f.now
    left = timedelta(milliseconds=max(0, record.until - int(now.timestamp() * 1000)))
    reason = f"; the last failure: {record.reason}" if record.reason else ""
    counted = f" ({record.failures} failures, {record.crashes} crashes)" if record.failures or record.crashes else ""
    match record.state:
        case ClaimState.ABSENT if f.ledger is not None and f.ledger.state is DayState.SKIPPED:
            return "none; a day that was skipped ends it, and its key is free again."
        case ClaimState.ABSENT:
            return "none; nobody has claimed it, or Redis has forgotten it."
        case ClaimState.CLAIMED:
            return f"held by a run, for {_span(left)} at most{counted}{reason}."
        case ClaimState.IDLE:
            return f"waits, due again in {_span(left)}{counted}{reason}."
        case ClaimState.FOREIGN:
            return "another maker's value stands under its key, and holds it for two hours at most."
        case _:
            return f"ended: {record.state.value}{counted}{reason}."


def ledger_line(entry: Ledger) -> str:
    """What a ledger says, in words."""
    told = [STATES[entry.state]]
    if entry.outcome:
        told.append(OUTCOMES.get(entry.outcome, entry.outcome))
    if entry.reason:
        told.append(f"the last failure: {entry.reason}")
    if entry.tries:
        told.append(_counted(entry.tries, "try", "tries"))
    if entry.devices:
        told.append(_answers(entry.devices))
    if entry.sent_at:
        told.append(f"at {_utc(entry.sent_at)} UTC")
    return f"{'; '.join(told)}."


def _answers(devices: Mapping[str, str]) -> str:
    """Each device's answer; of many, how many answered so. Devices are named by the hash of their token."""
    if len(devices) <= DEVICES_NAMED:
        return ", ".join(f"device {device} {answer}" for device, answer in sorted(devices.items()))
    answers = list(devices.values())
    return ", ".join(f"{answers.count(one)} devices {one}" for one in sorted(set(answers)))


def _counted(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _recap_line(doc: Mapping[str, Any]) -> str:
    meta = doc.get("metadata")
    meta = meta if isinstance(meta, Mapping) else {}
    source = {"llm": "by the LLM", "extract": "the day's own sentences, by no LLM"}.get(str(meta.get("source")), LEGACY)
    usd = f", {meta['usd']:.4f} USD" if isinstance(meta.get("usd"), float) else ""
    calls = f", {_counted(meta['calls'], 'call')}" if isinstance(meta.get("calls"), int) else ""
    used = [count for name in ("tokens_in", "tokens_out") if isinstance(count := meta.get(name), int)]
    tokens = f", {sum(used)} tokens" if used else ""
    checks = doc.get("checks")
    checks = checks if isinstance(checks, Mapping) else {}
    said = ", ".join(f"{count} {printable(reason, 40)}" for reason, count in dropped_by_reason(checks).items())
    looked = f" {second_look(checks)}" if second_look(checks) else ""
    return f"stored, {source}{calls}{tokens}{usd}{f'; the checks dropped: {said}' if said else ''}.{looked}"


def following(f: Facts) -> str:
    """What happens by itself and when, or the command to type."""
    again = f"python job.py resend {f.user.uid} {f.slot.recap_date}"
    if f.ledger is not None:
        return _next_of_ledger(f, f.ledger, again)
    if f.record.state is ClaimState.SENT:
        return f"nothing by itself: {sent_elsewhere(f.user.uid, f.slot.recap_date)} {again} makes it here."
    if not f.user.enabled:
        return "nothing; the user has switched recaps off."
    if f.passed_by and f.phase in (Phase.DUE, Phase.CLOSING):
        tomorrow = "all users of this hour were served; who came since is served from the next slot on"
        return f"nothing by itself: {tomorrow}. python job.py --user {f.user.uid} makes it now."
    if f.phase is Phase.OVER and f.listed.created is not None and f.slot.at < f.listed.created:
        return "nothing; the account is younger than this slot."
    if f.phase is Phase.OVER and (reason := not_made_anew(f.slot, f.given.ledgers.around)):
        return f"nothing; {reason}."
    if (late := f.given.ledgers.inverted_by) is not None and f.phase in (Phase.DUE, Phase.CLOSING):
        return (
            f"it waits for a person, then it is missed: users/{f.user.uid}/recap_deliveries/{late} has a window that "
            "ends after its slot; delete it if a clock that was ahead made it."
        )
    match f.phase:
        case Phase.EARLY:
            return f"it is made in the first run after {_utc(f.slot.at)} UTC."
        case Phase.OVER:
            return f"nothing by itself: no run served this slot. {again} makes it."
        case Phase.DUE if f.record.state is ClaimState.CLAIMED:
            return "the run that holds it ends it, or the next one takes it over when the claim lapses."
        case Phase.DUE if f.record.state is ClaimState.IDLE:
            return (
                "the first run after that wait tries again; if the LLM stays away, the closing pass sends the extract."
            )
        case Phase.DUE:
            return (
                "the next run makes it. Where that does not come, look at the scheduler, and at python job.py doctor."
            )
        case _:
            return "the next run of the closing pass sends the extract."


def _next_of_ledger(f: Facts, entry: Ledger, again: str) -> str:
    if is_abandoned_resend(entry) and f.record.state is not ClaimState.CLAIMED:
        return f"nothing by itself, unless that resend is at work; else it was stopped. {again} finishes it."
    reason = not_made_anew(f.slot, f.given.ledgers.around)
    match entry.state:
        case DayState.SKIPPED | DayState.MISSED | DayState.DEAD if reason:
            return f"nothing; {reason}."
        case DayState.SENT if entry.outcome == "no_devices" and not f.devices:
            return (
                f"nothing; the recap is in the app, and there is no device to push to. python job.py show {f.user.uid}."
            )
        case DayState.SENT:
            return f"nothing; it had its recap. {again} pushes it once more."
        case DayState.SKIPPED:
            return f"nothing; what was said since is in the next recap. {again} looks again."
        case DayState.MISSED | DayState.DEAD | DayState.GAVE_UP:
            return f"nothing by itself. {again} makes and pushes it."
        case DayState.UNREADABLE:
            return "nothing by itself; its document was written by another version, or by hand: correct or delete it."
        case _ if f.phase is Phase.OVER:
            return "the sweep ends it within 10 minutes of the next runs: pushed once more, or given up."
        case _:
            return "the next run that may pushes it: after the wait of its claim, or once its sender is stale (2 min)."


def went_wrong(f: Facts) -> bool:
    """Whether the day ended, or is over, without the recap that was owed."""
    if f.ledger is not None:
        return is_abandoned_resend(f.ledger) or f.ledger.state in (
            DayState.MISSED,
            DayState.DEAD,
            DayState.GAVE_UP,
            DayState.UNREADABLE,
        )
    if f.record.state is ClaimState.SENT:
        return True  # by another environment, or the store was emptied since
    younger = f.listed.created is not None and f.slot.at < f.listed.created
    return f.phase is Phase.OVER and f.user.enabled and not younger


def _say(line: str) -> None:
    say_wrapped(line, "    ", "  ")


async def why(uid: str, day: date | None, context: Context) -> int:
    """Exit 1 where the day went, or goes, wrong."""
    async with context.open_parts() as parts:
        now = await context.claims.now() + context.offset
        listed = await parts.store.user(uid)
        if listed is None or listed.user is None:
            return await _not_served(parts.store, uid, listed, day)
        facts = await _facts(context, parts, listed, listed.user, day, now)
        for line in lines(facts):
            _say(line)
        _say(f"next: {following(facts)}")
        return 1 if went_wrong(facts) else 0


async def _not_served(store: Store, uid: str, listed: Listed | None, day: date | None) -> int:
    if listed is not None:
        _say(f"document: not seen by the job: {listed.flaw}")
        _say("next: nothing, until it is mended: python job.py doctor --fix, or write the document anew.")
        return 1
    _say(f"document: users/{uid} does not exist; erased, or never there.")
    ledger = (await store.ledgers_between(uid, day, day)).get(day) if day else None
    if ledger is not None:
        _say(f"ledger: {ledger_line(ledger)}")
    _say("next: nothing; check the uid.")
    return 1


async def _facts(context: Context, parts: Parts, listed: Listed, user: User, day: date | None, now: datetime) -> Facts:
    slot = latest_slot(user.zone, user.hour, now)
    if day is not None:
        slot = slot_of_day(user.zone, day, user.hour)
    store, found = parts.store, slot.recap_date
    ledgers = await read_ledgers(store, user, slot, parts.limits.look_back)
    ledger = ledgers.today
    shard = key_of(user.uid, slot.at, user.hour, context.claims.environment, parts.limits.shards)
    record, shard_record = await context.claims.read([user_key(user.uid, found), shard])
    given = await read_conversations(store, ledgers)
    return Facts(
        listed=listed,
        user=user,
        slot=slot,
        phase=parts.limits.rules.phase(slot.at, now),
        now=now,
        ledger=ledger,
        record=record,
        passed_by=shard_record.state is ClaimState.COMPLETE,
        summary=await store.summary_document(user.uid, found, ledger.summary_id if ledger else ""),
        given=given,
        tells=given.material(parts.limits.min_words) is not None,
        devices=len((await store.devices(user.uid))[0]),
    )
