"""The delivery ledger's transitions (PROTOCOL section 4), as pure functions.

A store reads the documents in one transaction, asks here, and writes what the verdict
says in that same transaction. `read_time` is the store's own clock, as `sending_at` is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from notifications.domain.model import Ledger, Recap, State, Summary, Window, collapse_id
from notifications.domain.push import Message, Result, notice

REPLACEABLE = frozenset({State.SKIPPED, State.MISSED, State.DEAD})  # by an operator's resend


class Kind(StrEnum):
    """What the caller does next."""

    PUSH = "push"  # the entry is ours: push its open devices
    FINAL = "final"  # the day has ended; complete with its state
    TAKE = "take"  # another run began meanwhile
    BUSY = "busy"  # another sender is fresh: wait
    NOBODY = "nobody"  # user missing, switched off, or the account was erased
    RETRY = "retry"  # devices left: not complete, nothing charged
    REFUSED = "refused"  # an operator resent meanwhile, or the condition no longer holds


@dataclass(frozen=True, slots=True)
class Terms:
    """The numbers that the transitions need."""

    stale: timedelta  # a `sending` older than this has lost its sender
    max_pushes: int
    retention: timedelta  # how long a ledger is kept, counted from its slot


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to tell the caller and, if `write`, which ledger to store.

    `stamp_sending` and `stamp_sent` ask the store to put its own clock into `sending_at`
    and `sent_at`; `recap` is stored in the same commit.
    """

    kind: Kind
    entry: Ledger | None = None
    wait: timedelta = timedelta(0)
    write: bool = False
    stamp_sending: bool = False
    stamp_sent: bool = False
    recap: Recap | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """What `begin` and `close` write about a day that has no ledger yet."""

    uid: str
    date: date
    by: str
    slot: datetime
    window: Window | None = None
    failures: int = 0
    crashes: int = 0


NOBODY = Verdict(Kind.NOBODY)


def _entry(op: Opening, terms: Terms, state: State, outcome: str, seq: int = 1) -> Ledger:
    return Ledger(
        date=op.date,
        state=state,
        outcome=outcome,
        by=op.by,
        seq=seq,
        collapse_id=collapse_id(op.uid, op.date),
        window_start=op.window.start if op.window else None,
        window_end=op.window.end if op.window else None,
        failures=op.failures,
        crashes=op.crashes,
        expire_at=op.slot + terms.retention,
    )


def _settle(entry: Ledger) -> Verdict:
    return Verdict(Kind.FINAL, entry, write=True, stamp_sent=entry.state is State.SENT)


def _stale_in(entry: Ledger, read_time: datetime, terms: Terms) -> timedelta:
    """How long until this sender counts as gone; zero or less once it does."""
    since = entry.sending_at or read_time
    return since + terms.stale - read_time


def close(
    op: Opening,
    state: State,
    outcome: str,
    *,
    active: bool,
    found: Ledger | None,
    read_time: datetime,
    terms: Terms,
) -> Verdict:
    """End the day as skipped, missed or dead."""
    if not active:
        return NOBODY
    if found is None:
        return _settle(_entry(op, terms, state, outcome))
    if found.state.final:
        return Verdict(Kind.FINAL, found)
    if state is not State.DEAD:
        return Verdict(Kind.TAKE, found)
    left = _stale_in(found, read_time, terms)
    if found.state is State.SENDING and left > timedelta(0):
        return Verdict(Kind.BUSY, found, wait=left)
    ended = replace(found, state=State.GAVE_UP, outcome=outcome, failures=op.failures, crashes=op.crashes)
    return _settle(ended)


def legacy(op: Opening, summary: Summary, *, active: bool, found: Ledger | None, terms: Terms) -> Verdict:
    """Another hand already wrote a summary for the date: the day counts as sent, nothing is pushed."""
    if not active:
        return NOBODY
    if found is not None:
        return Verdict(Kind.FINAL if found.state.final else Kind.TAKE, found)
    return _settle(_legacy_entry(op, summary, terms))


def _legacy_entry(op: Opening, summary: Summary, terms: Terms, seq: int = 1) -> Ledger:
    note = notice(summary.headline, summary.overview, summary.day_emoji)
    return replace(
        _entry(op, terms, State.SENT, "legacy", seq),
        title=note.title,
        body=note.body,
        summary_id=summary.id,
        created_at=summary.created_at,
        window_start=None,
        window_end=min(summary.created_at, op.slot),
    )


def begin(
    op: Opening,
    recap: Recap,
    *,
    has_devices: bool,
    replaces: Ledger | None,
    active: bool,
    found: Ledger | None,
    summary: Summary | None,
    read_time: datetime,
    terms: Terms,
) -> Verdict:
    """Create ledger and summary in one commit: the creation is the fence.

    `replaces` is the skipped, missed or dead ledger that an operator's resend read; it is
    replaced only while its state and seq are as read.
    """
    if not active:
        return NOBODY
    replacing = _same(found, replaces) and found is not None and found.state in REPLACEABLE
    if found is not None and not replacing:
        return take(op.by, found=found, read_time=read_time, terms=terms)
    seq = found.seq + 1 if found else 1
    if summary is not None:
        return _settle(_legacy_entry(op, summary, terms, seq))
    note = notice(recap.draft.headline, recap.draft.overview, recap.draft.day_emoji)
    entry = replace(
        _entry(op, terms, State.SENDING, "", seq),
        tries=1,
        title=note.title,
        body=note.body,
        summary_id=recap.id,
        created_at=recap.created_at,
    )
    if not has_devices:
        done = replace(entry, state=State.SENT, outcome="no_devices", tries=0)
        return replace(_settle(done), recap=recap)
    return Verdict(Kind.PUSH, entry, write=True, stamp_sending=True, recap=recap)


def _same(found: Ledger | None, read: Ledger | None) -> bool:
    return found is not None and read is not None and (found.state, found.seq) == (read.state, read.seq)


def take(by: str, *, found: Ledger | None, read_time: datetime, terms: Terms) -> Verdict:
    """Become the sender of a ledger that another run left open."""
    if found is None:
        return NOBODY
    if found.state.final:
        return Verdict(Kind.FINAL, found)
    if found.state is State.SENDING:
        if found.by == by:
            return Verdict(Kind.PUSH, found)
        left = _stale_in(found, read_time, terms)
        if left > timedelta(0):
            return Verdict(Kind.BUSY, found, wait=left)
    if found.tries >= terms.max_pushes:
        return _settle(replace(found, state=State.GAVE_UP, outcome="pushes"))
    taken = replace(found, state=State.SENDING, by=by, tries=found.tries + 1)
    return Verdict(Kind.PUSH, taken, write=True, stamp_sending=True)


def report(
    by: str,
    seq: int,
    results: Mapping[str, Result],
    *,
    sent_nothing: bool,
    last_chance: bool,
    found: Ledger | None,
) -> Verdict:
    """Write down what FCM answered, device by device.

    `sent_nothing`: the push deadline had passed before the first push. `last_chance`: no
    further run will come in time, so what stays open is given up.
    """
    if found is None:
        return NOBODY
    if found.seq != seq:
        return Verdict(Kind.REFUSED, found)
    if found.state.final and found.state is not State.GAVE_UP:
        return Verdict(Kind.FINAL, found)
    closed = {device: result.value for device, result in results.items() if result.closes}
    repeats = sum(one == found.devices.get(device) == Result.ACCEPTED for device, one in closed.items())
    merged = replace(found, devices={**found.devices, **closed}, repeats=found.repeats + repeats)
    if found.state is State.GAVE_UP:
        return Verdict(Kind.FINAL, merged, write=True)
    if not sent_nothing and not _left(results, merged.devices):
        reached = Result.ACCEPTED in merged.devices.values()
        return _settle(replace(merged, state=State.SENT, outcome="" if reached else "no_devices"))
    if found.state is not State.SENDING or found.by != by:
        return Verdict(Kind.RETRY, merged, write=True)
    definite = sent_nothing or all(result.definite for result in results.values())
    tries = merged.tries - 1 if definite else merged.tries
    if last_chance:
        return _settle(replace(merged, state=State.GAVE_UP, outcome="undelivered", tries=tries))
    return Verdict(Kind.RETRY, replace(merged, state=State.PENDING, tries=tries), write=True)


def _left(results: Mapping[str, Result], devices: Mapping[str, str]) -> bool:
    """Whether a device is still to be tried.

    One that FCM refuses for good (a wrong project, a malformed token) is tried again only
    while no other device of the user got the recap: then it may be our own fault, which a
    person can mend before the catch-up ends.
    """
    if Result.REFUSED in results.values() and Result.ACCEPTED not in devices.values():
        return True
    return any(result.open and device not in devices for device, result in results.items())


def resend(*, active: bool, found: Ledger | None, claim_live: bool, read_time: datetime, terms: Terms) -> Verdict:
    """An operator's wish to push again: REFUSED while a send is fresh, or an earlier resend has just ended.

    RETRY: the ledger is open for a taker (bumped if it had ended). FINAL: the day ended
    without a recap, or has no ledger at all; the caller runs the user and `begin` replaces it.
    """
    if not active:
        return NOBODY
    fresh = found and found.state is State.SENDING and _stale_in(found, read_time, terms) > timedelta(0)
    if claim_live or fresh or (found and _just_resent(found, read_time, terms)):
        return Verdict(Kind.REFUSED, found)
    if found is None or found.state in REPLACEABLE:
        return Verdict(Kind.FINAL, found)
    if not found.state.final:
        return Verdict(Kind.RETRY, found)
    again = replace(found, state=State.PENDING, outcome="resend", seq=found.seq + 1, tries=0, devices={}, sent_at=None)
    return Verdict(Kind.RETRY, again, write=True)


def _just_resent(found: Ledger, read_time: datetime, terms: Terms) -> bool:
    """An operator whose process was killed after its last effect says the same again: that is one wish, not two."""
    if found.state is not State.SENT or found.seq == 1 or found.sent_at is None:
        return False
    return read_time - found.sent_at < terms.stale


def message(uid: str, entry: Ledger) -> Message:
    """What is pushed: always from the ledger, so that a second push says what the first said."""
    return Message(
        uid=uid,
        collapse_id=entry.collapse_id,
        title=entry.title,
        body=entry.body,
        summary_id=entry.summary_id,
        created_at=entry.created_at,
    )
