"""The ledger's later transitions (docs/protocol.md, section 4): what came of pushes, the sweep, a resend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from notifications.domain.delivery import (
    NOBODY,
    REPLACEABLE,
    RESEND_OUTCOME,
    Decision,
    LedgerRules,
    NextStep,
    Snapshot,
    busy_sender,
    from_the_future,
    gave_up,
    settled,
    stale_in,
    take,
)
from notifications.domain.model import DayState, Ledger
from notifications.domain.push import TTL, Message, PushResult


def report(
    by: str,
    seq: int,
    results: Mapping[str, PushResult],
    *,
    sent_nothing: bool,
    last_chance: bool,
    reason: str = "",
    found: Ledger | None,
) -> Decision:
    """What the push service answered, device by device. `last_chance`: what stays open is given up."""
    if found is None:
        return NOBODY
    if found.seq != seq:
        return Decision(NextStep.REFUSED, found)
    if found.state.final and found.state is not DayState.GAVE_UP:
        return Decision(NextStep.FINAL, found)
    closed = {device: result.value for device, result in results.items() if result.closes}
    again = found.by == by and found.state is not DayState.SENDING  # this very report, whose reply was lost
    twice = (device for device, one in closed.items() if one == found.devices.get(device) == PushResult.ACCEPTED)
    repeats = 0 if again else sum(1 for _ in twice)
    known = {device: one for device, one in found.devices.items() if one == PushResult.ACCEPTED}  # it has the recap
    merged = replace(found, devices={**found.devices, **closed, **known}, repeats=found.repeats + repeats)
    if not sent_nothing and not _left(results, merged.devices):
        reached = PushResult.ACCEPTED in merged.devices.values()
        return settled(replace(merged, state=DayState.SENT, outcome="" if reached else "no_devices", reason=""))
    if found.state is DayState.GAVE_UP:
        return Decision(NextStep.FINAL, merged, write=True)
    if found.state is not DayState.SENDING or found.by != by:
        return Decision(NextStep.RETRY, merged, write=True)
    definite = sent_nothing or all(result.definite for result in results.values())
    tries = merged.tries - 1 if definite else merged.tries
    merged = replace(merged, tries=tries, reason=reason)
    if last_chance:
        return gave_up(merged, "undelivered")
    return Decision(NextStep.RETRY, replace(merged, state=DayState.PENDING), write=True)


def _left(results: Mapping[str, PushResult], devices: Mapping[str, str]) -> bool:
    """Whether a device is still to be tried.

    One that the service refuses for good (a wrong project, a malformed token) is tried again only
    while no other device of the user got the recap: then it may be our own fault, which a
    person can mend before the catch-up ends.
    """
    if PushResult.REFUSED in results.values() and PushResult.ACCEPTED not in devices.values():
        return True
    return any(result.open and device not in devices for device, result in results.items())


def sweep(by: str, seen: Snapshot, rules: LedgerRules, *, over: bool) -> Decision:
    """Take what no cohort would find any more. `over`: its slot's catch-up and grace have passed."""
    found = seen.ledger
    if found is None:
        return NOBODY
    if found.state.final:
        return Decision(NextStep.FINAL, found)
    if found.by != by and (busy := busy_sender(found, seen.read_time, rules)) is not None:
        return busy
    if not seen.active:
        return gave_up(found, "user_gone_or_off")
    if over:
        return gave_up(found, "undelivered")
    return take(by, seen, rules)


def resend(seen: Snapshot, rules: LedgerRules, *, claim_live: bool, again: bool = True) -> Decision:
    """An operator's wish to push again: REFUSED while a send is fresh, or an earlier resend has just ended.

    Not `again`: what was sent meanwhile is REFUSED too, and a device that accepted is not pushed to once more. RETRY:
    the ledger is open for a taker. FINAL: the day has no recap; the caller runs the user and `begin` replaces it.
    """
    found, read_time = seen.ledger, seen.read_time
    if not seen.active:
        return NOBODY
    if found is not None and (ahead := from_the_future(found, read_time, rules)):
        return replace(ahead, step=NextStep.REFUSED)
    fresh = found and found.state is DayState.SENDING and stale_in(found, read_time, rules) > timedelta(0)
    had = found is not None and found.state is DayState.SENT and not again
    if claim_live or fresh or had or (found and _just_resent(found, read_time, rules)):
        return Decision(NextStep.REFUSED, found)
    if found is None or found.state in REPLACEABLE:
        return Decision(NextStep.FINAL, found)
    if not found.state.final:
        return Decision(NextStep.RETRY, found)
    had_it = {} if again else {device: one for device, one in found.devices.items() if one == PushResult.ACCEPTED}
    opened = replace(found, state=DayState.PENDING, outcome=RESEND_OUTCOME, seq=found.seq + 1, tries=0, devices=had_it)
    opened = replace(opened, sent_at=None)
    return Decision(NextStep.RETRY, opened, write=True)


def _just_resent(found: Ledger, read_time: datetime, rules: LedgerRules) -> bool:
    """An operator whose process was killed after its last effect says the same again: that is one wish, not two."""
    if found.state is not DayState.SENT or found.seq == 1 or found.sent_at is None:
        return False
    return abs(read_time - found.sent_at) < rules.stale  # far ahead: by a clock that was, nobody knows when


def message(uid: str, entry: Ledger, now: datetime, *, silent: bool = False) -> Message:
    """What is pushed, always from the ledger. It is worth its time from the recap's making on; a resend from now on."""
    since = entry.created_at if entry.seq == 1 and entry.created_at else now
    return Message(
        uid=uid,
        collapse_id=entry.collapse_id,
        title=entry.title,
        body=entry.body,
        summary_id=entry.summary_id,
        created_at=entry.created_at,
        expires_at=since + TTL,
        silent=silent,
    )
