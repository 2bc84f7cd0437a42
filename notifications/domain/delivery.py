"""The delivery ledger's transitions (docs/protocol.md, section 4), as pure functions of what a transaction read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from notifications.domain.errors import Malformed
from notifications.domain.model import DayState, Ledger, Recap, Summary, Window, collapse_id
from notifications.domain.push import Wording, notice

REPLACEABLE = frozenset({DayState.SKIPPED, DayState.MISSED, DayState.DEAD})  # by an operator's resend
RESEND_OUTCOME = "resend"  # the outcome of an open ledger that an operator's command opened: that command finishes it


class NextStep(StrEnum):
    """What the caller does next."""

    PUSH = "push"  # the entry is ours: push its open devices
    FINAL = "final"  # the day has ended; complete with its state
    TAKE = "take"  # another run began meanwhile
    BUSY = "busy"  # another sender is fresh: wait
    NOBODY = "nobody"  # user missing, switched off, or the account was erased
    RETRY = "retry"  # devices left: not complete, nothing charged
    REFUSED = "refused"  # an operator resent meanwhile, or the condition no longer holds
    CHANGED = "changed"  # a ledger around isn't as it was read: the text is to be made anew


@dataclass(frozen=True, slots=True)
class LedgerRules:
    """The numbers that the transitions need."""

    stale: timedelta  # a `sending` older than this has lost its sender
    max_pushes: int
    retention: timedelta  # how long a ledger is kept, counted from its slot


@dataclass(frozen=True, slots=True)
class Decision:
    """What to tell the caller and, if `write`, what to store. `stamp_…`: that time is the store's own clock."""

    step: NextStep
    entry: Ledger | None = None
    wait: timedelta = timedelta(0)
    write: bool = False
    stamp_sending: bool = False
    stamp_sent: bool = False
    recap: Recap | None = None  # stored in the same commit
    version: object = None  # the ledger's, as this left it, in the store's own terms; None where it has none

    def to_store(self, now: datetime) -> Ledger | None:
        """The ledger to store, with the store's own clock where it is asked for; None where nothing is written."""
        if not self.write or self.entry is None:
            return None
        return replace(
            self.entry,
            sending_at=now if self.stamp_sending else self.entry.sending_at,
            sent_at=now if self.stamp_sent else self.entry.sent_at,
        )


Version = tuple[DayState, int]  # a ledger's state and seq: what another run's write changes
MAY_CHANGE = frozenset({*REPLACEABLE, None})  # states of a ledger around that another run may still give a text


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The ledgers around a day as they were read, of those that may change: what its text rests on.

    `later`: those after it. They count for a resend, and where the user's zone or hour isn't the listed one any more;
    else none of them can have begun yet.
    """

    earlier: Mapping[date, Version | None] = field(default_factory=dict)
    later: Mapping[date, Version | None] = field(default_factory=dict)

    def changed(self, found: Mapping[date, Ledger | None]) -> bool:
        """Whether one of those that were read again isn't as it was."""
        known = {**self.earlier, **self.later}
        return any(version_of(entry) != known[day] for day, entry in found.items())


ALONE = Neighbours()


def version_of(entry: Ledger | None) -> Version | None:
    """What another run's write changes; None where there is no ledger."""
    return None if entry is None else (entry.state, entry.seq)


def neighbours(day: date, around: Mapping[date, Ledger], dates: Iterable[date]) -> Neighbours:
    """Of these dates around a day, the ledgers that may still get a text, as they were read."""
    versions = {one: version_of(around.get(one)) for one in dates if one != day}
    changing = {one: found for one, found in versions.items() if (found[0] if found else None) in MAY_CHANGE}
    return Neighbours(
        {one: found for one, found in changing.items() if one < day},
        {one: found for one, found in changing.items() if one > day},
    )


@dataclass(frozen=True, slots=True)
class Opening:
    """What `begin` and `end_day` write about a day that has no ledger yet. `told` is None where nothing was read."""

    uid: str
    date: date
    by: str
    slot: datetime
    window: Window | None = None
    read_from: datetime | None = None
    told: str | None = None
    neighbours: Neighbours = ALONE
    zone: str = ""
    hour: int = 0
    failures: int = 0
    crashes: int = 0
    reason: str = ""  # the last failure's code
    operators: bool = False  # it is a resend that opens it
    wording: Wording = field(default_factory=Wording)  # of its push


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a transaction read. `read_time`: the store's own clock. `active`: the account is there and switched on."""

    ledger: Ledger | None
    read_time: datetime
    active: bool = True
    summary: Summary | None = None
    around: Mapping[date, Ledger | None] = field(default_factory=dict)  # those that the opening rests on, read again

    def __post_init__(self) -> None:
        if self.ledger is not None and self.ledger.state is DayState.UNREADABLE:
            raise Malformed(f"recap_deliveries/{self.ledger.date}: what is stored is none that this version knows.")


NOBODY = Decision(NextStep.NOBODY)
CHANGED = Decision(NextStep.CHANGED)


def _entry(op: Opening, rules: LedgerRules, state: DayState, outcome: str, seq: int = 1) -> Ledger:
    return Ledger(
        date=op.date,
        state=state,
        outcome=outcome,
        by=op.by,
        seq=seq,
        collapse_id=collapse_id(op.uid, op.date),
        window_start=op.window.start if op.window else None,
        window_end=op.window.end if op.window else None,
        read_from=op.read_from,
        told=op.told,
        failures=op.failures,
        crashes=op.crashes,
        reason=op.reason if state is DayState.DEAD else "",
        expire_at=op.slot + rules.retention,
    )


def settled(entry: Ledger) -> Decision:
    """The day ends with this entry."""
    return Decision(NextStep.FINAL, entry, write=True, stamp_sent=entry.state is DayState.SENT)


def stale_in(entry: Ledger, read_time: datetime, rules: LedgerRules) -> timedelta:
    """How long until this sender counts as gone; zero or less once it does."""
    since = entry.sending_at or read_time
    return since + rules.stale - read_time


def from_the_future(entry: Ledger, read_time: datetime, rules: LedgerRules) -> Decision | None:
    """BUSY for a sender that a clock ahead has stamped, stamped anew: a live one is not overtaken. None for others."""
    if entry.state is not DayState.SENDING or stale_in(entry, read_time, rules) <= 2 * rules.stale:
        return None
    again = replace(entry, sending_at=read_time)
    return Decision(NextStep.BUSY, again, wait=rules.stale, write=True, stamp_sending=True)


def busy_sender(entry: Ledger, read_time: datetime, rules: LedgerRules) -> Decision | None:
    """BUSY while another's sender is fresh, or its time is to come; None where there is none."""
    if ahead := from_the_future(entry, read_time, rules):
        return ahead
    left = stale_in(entry, read_time, rules)
    return (
        Decision(NextStep.BUSY, entry, wait=left) if entry.state is DayState.SENDING and left > timedelta(0) else None
    )


def end_day(op: Opening, state: DayState, outcome: str, seen: Snapshot, rules: LedgerRules) -> Decision:
    """End the day as skipped, missed or dead."""
    found = seen.ledger
    if not seen.active:
        return NOBODY
    if found is None:
        return CHANGED if op.neighbours.changed(seen.around) else settled(_entry(op, rules, state, outcome))
    if found.state.final:
        return Decision(NextStep.FINAL, found)
    if state is not DayState.DEAD:
        return Decision(NextStep.TAKE, found)
    if (busy := busy_sender(found, seen.read_time, rules)) is not None:
        return busy
    counted = replace(found, failures=op.failures, crashes=op.crashes, reason=op.reason or found.reason)
    return gave_up(counted, outcome)


def gave_up(entry: Ledger, outcome: str) -> Decision:
    """The day ends with a recap that is stored, and a push that somebody may not have got."""
    return settled(replace(entry, state=DayState.GAVE_UP, outcome=outcome))


def legacy(op: Opening, summary: Summary, seen: Snapshot, rules: LedgerRules) -> Decision:
    """Another hand already wrote a summary for the date: the day counts as sent, nothing is pushed."""
    if not seen.active:
        return NOBODY
    if seen.ledger is not None:
        return Decision(NextStep.FINAL if seen.ledger.state.final else NextStep.TAKE, seen.ledger)
    return settled(_legacy_entry(op, summary, rules))


def _legacy_entry(op: Opening, summary: Summary, rules: LedgerRules, seq: int = 1) -> Ledger:
    note = notice(summary.headline, summary.overview, summary.day_emoji, op.wording)
    return replace(
        _entry(op, rules, DayState.SENT, "legacy", seq),
        title=note.title,
        body=note.body,
        summary_id=summary.id,
        created_at=summary.created_at,
        window_start=None,
        window_end=None if summary.created_at is None else min(summary.created_at, op.slot),
        read_from=None,
        told=None,  # all before its end
    )


def begin(
    op: Opening, recap: Recap, seen: Snapshot, rules: LedgerRules, *, has_devices: bool, replaces: Ledger | None
) -> Decision:
    """Create ledger and summary in one commit: the creation is the fence.

    `replaces` is the skipped, missed or dead ledger that an operator's resend read; it is
    replaced only while its state and seq are as read.
    """
    found = seen.ledger
    if not seen.active:
        return NOBODY
    replacing = _same(found, replaces) and found is not None and found.state in REPLACEABLE
    if found is not None and not replacing:
        return take(op.by, seen, rules)
    seq = found.seq + 1 if found else 1
    if seen.summary is not None:
        return settled(_legacy_entry(op, seen.summary, rules, seq))
    if op.neighbours.changed(seen.around):
        return CHANGED
    note = notice(recap.draft.headline, recap.draft.push, recap.draft.day_emoji, op.wording)
    entry = replace(
        _entry(op, rules, DayState.SENDING, RESEND_OUTCOME if op.operators else "", seq),
        tries=1,
        title=note.title,
        body=note.body,
        summary_id=recap.id,
        created_at=recap.created_at,
        **_cost(recap),
    )
    if not has_devices:
        done = replace(entry, state=DayState.SENT, outcome="no_devices", tries=0)
        return replace(settled(done), recap=recap)
    return Decision(NextStep.PUSH, entry, write=True, stamp_sending=True, recap=recap)


def _cost(recap: Recap) -> dict[str, Any]:
    told = recap.draft.metadata
    usd, seconds = told.get("usd"), told.get("llm_seconds")
    return {
        "source": str(told.get("source", "")),
        "verified": None if recap.extracted else recap.draft.checks.get("verified") is True,
        "tokens": int(told.get("tokens_in", 0)) + int(told.get("tokens_out", 0)),
        "usd": None if usd is None else float(usd),
        "llm_seconds": None if seconds is None else float(seconds),
    }


def _same(found: Ledger | None, read: Ledger | None) -> bool:
    return found is not None and read is not None and (found.state, found.seq) == (read.state, read.seq)


def take(by: str, seen: Snapshot, rules: LedgerRules) -> Decision:
    """Become the sender of a ledger that another run left open."""
    found = seen.ledger
    if found is None:
        return NOBODY
    if found.state.final:
        return Decision(NextStep.FINAL, found)
    if found.state is DayState.SENDING:
        if found.by == by:
            return Decision(NextStep.PUSH, found)
        if (busy := busy_sender(found, seen.read_time, rules)) is not None:
            return busy
    if found.tries >= rules.max_pushes:
        return gave_up(found, "pushes")
    taken = replace(found, state=DayState.SENDING, by=by, tries=found.tries + 1)
    return Decision(NextStep.PUSH, taken, write=True, stamp_sending=True)
