"""The delivery ledger's transitions (docs/protocol.md, section 4), as pure functions of what a transaction read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from notifications.domain.errors import Malformed
from notifications.domain.model import PARTIAL, DayState, Ledger, Recap, Summary, Window, collapse_id
from notifications.domain.money import NOTHING, Spent
from notifications.domain.notice import Wording, notice
from notifications.domain.push import PushResult
from notifications.domain.target import GAVE_UP
from notifications.domain.told_once import NO_NEIGHBOURS, Neighbours

RESEND_OUTCOME = "resend"  # the outcome of a ledger that an operator's command reopened and has to finish


class NextStep(StrEnum):
    """What the caller does next."""

    PUSH = "push"  # the ledger is ours: push to its open devices
    FINAL = "final"  # the day has ended: complete the claim with its state
    TAKE = "take"  # another run has opened the ledger in the meantime
    BUSY = "busy"  # another sender is fresh: wait
    NO_USER = "no_user"  # the user is missing or switched off, or the account was erased
    RETRY = "retry"  # some devices have to be tried again; the user is not charged a failure
    REFUSED = "refused"  # an operator has resent in the meantime, or the condition is no longer true
    CHANGED = "changed"  # a neighbour has changed since it was read: the text has to be made again


@dataclass(frozen=True, slots=True)
class LedgerRules:
    """The settings that the transitions need."""

    stale: timedelta  # the sender of a `sending` older than this counts as gone
    max_pushes: int
    retention: timedelta  # how long after its slot a ledger is kept


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to the caller and, if `write`, the ledger to store. `stamp_…`: with the store's own clock."""

    step: NextStep
    ledger: Ledger | None = None
    wait: timedelta = timedelta(0)
    write: bool = False
    stamp_sending: bool = False
    stamp_sent: bool = False
    recap: Recap | None = None  # stored in the same commit
    version: object = None  # the written document's version, in the store's own terms

    def to_store(self, now: datetime) -> Ledger | None:
        """The ledger to store, stamped with the store's own clock; None if nothing is written."""
        if not self.write or self.ledger is None:
            return None
        return replace(
            self.ledger,
            sending_at=now if self.stamp_sending else self.ledger.sending_at,
            sent_at=now if self.stamp_sent else self.ledger.sent_at,
        )


NO_USER = Decision(NextStep.NO_USER)
CHANGED = Decision(NextStep.CHANGED)


@dataclass(frozen=True, slots=True)
class Opening:
    """What `begin` and `end_day` write about a day that has no ledger yet. `told` is None if nothing was read."""

    uid: str
    date: date
    by: str
    slot: datetime
    window: Window | None = None
    read_from: datetime | None = None
    told: str | None = None
    neighbours: Neighbours = NO_NEIGHBOURS
    zone: str = ""
    hour: int = 0
    failures: int = 0
    crashes: int = 0
    reason: str = ""  # the last failure's code
    spent: Spent = NOTHING  # on all LLM calls for the day: those of the draft, and of tries that came to nothing
    resend: bool = False  # an operator's resend opens it
    wording: Wording = field(default_factory=Wording)  # how much its push shows

    def ledger(self, rules: LedgerRules, state: DayState, outcome: str, seq: int = 1) -> Ledger:
        """The day's first ledger."""
        return Ledger(
            date=self.date,
            state=state,
            outcome=outcome,
            by=self.by,
            seq=seq,
            collapse_id=collapse_id(self.uid, self.date),
            window_start=self.window.start if self.window else None,
            window_end=self.window.end if self.window else None,
            read_from=self.read_from,
            told=self.told,
            failures=self.failures,
            crashes=self.crashes,
            reason=self.reason if state is DayState.DEAD else "",
            **_cost_fields(self.spent),
            expire_at=self.slot + rules.retention,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a transaction read. `read_time`: the store's own clock. `active`: the user exists and is switched on."""

    ledger: Ledger | None
    read_time: datetime
    active: bool = True
    summary: Summary | None = None
    nearby: Mapping[date, Ledger | None] = field(default_factory=dict)  # the opening's neighbours, read again

    def __post_init__(self) -> None:
        if self.ledger is not None and self.ledger.state is DayState.UNREADABLE:
            raise Malformed(f"The ledger of {self.ledger.date} is none that this version knows; see `inspect`.")


def end(ledger: Ledger) -> Decision:
    """The day ends with this ledger."""
    return Decision(NextStep.FINAL, ledger, write=True, stamp_sent=ledger.state is DayState.SENT)


def give_up(ledger: Ledger, outcome: str) -> Decision:
    """The day ends with a stored recap whose push may not have reached every device."""
    return end(replace(ledger, state=DayState.GAVE_UP, outcome=outcome))


def give_up_rest(ledger: Ledger, outcome: str) -> Decision:
    """The day ends although targets are left: it was sent if one of them has the recap, else given up."""
    rest = replace(ledger, devices={**ledger.devices, **dict.fromkeys(ledger.targets, GAVE_UP)}, targets={})
    if PushResult.ACCEPTED not in rest.devices.values():
        return give_up(rest, outcome)
    return end(replace(rest, state=DayState.SENT, outcome=PARTIAL, reason=ledger.reason or outcome))


def until_stale(ledger: Ledger, read_time: datetime, rules: LedgerRules) -> timedelta:
    """How long until this sender counts as gone; zero or less once it does."""
    return (ledger.sending_at or read_time) + rules.stale - read_time


def restamp_future_sender(ledger: Ledger, read_time: datetime, rules: LedgerRules) -> Decision | None:
    """BUSY for a sender stamped by a clock that was ahead, which is stamped again so that it can become stale."""
    if ledger.state is not DayState.SENDING or until_stale(ledger, read_time, rules) <= 2 * rules.stale:
        return None
    stamped = replace(ledger, sending_at=read_time)
    return Decision(NextStep.BUSY, stamped, wait=rules.stale, write=True, stamp_sending=True)


def busy_sender(ledger: Ledger, read_time: datetime, rules: LedgerRules) -> Decision | None:
    """BUSY while another sender is fresh; None otherwise."""
    if restamped := restamp_future_sender(ledger, read_time, rules):
        return restamped
    wait = until_stale(ledger, read_time, rules)
    if ledger.state is DayState.SENDING and wait > timedelta(0):
        return Decision(NextStep.BUSY, ledger, wait=wait)
    return None


def end_day(opening: Opening, state: DayState, outcome: str, snapshot: Snapshot, rules: LedgerRules) -> Decision:
    """End the day as skipped, missed or dead."""
    ledger = snapshot.ledger
    if not snapshot.active:
        return NO_USER
    if ledger is None:
        changed = opening.neighbours.have_changed(snapshot.nearby)
        return CHANGED if changed else end(opening.ledger(rules, state, outcome))
    if ledger.state.final:
        return Decision(NextStep.FINAL, ledger)
    if state is not DayState.DEAD:
        return Decision(NextStep.TAKE, ledger)
    if busy := busy_sender(ledger, snapshot.read_time, rules):
        return busy
    counted = replace(
        ledger, failures=opening.failures, crashes=opening.crashes, reason=opening.reason or ledger.reason
    )
    return give_up_rest(counted, outcome)


def end_as_legacy(opening: Opening, summary: Summary, snapshot: Snapshot, rules: LedgerRules) -> Decision:
    """Another writer already stored a summary of the date: the day counts as sent, nothing is pushed."""
    if not snapshot.active:
        return NO_USER
    if (ledger := snapshot.ledger) is not None:
        return Decision(NextStep.FINAL if ledger.state.final else NextStep.TAKE, ledger)
    return end(_legacy_ledger(opening, summary, rules))


def _legacy_ledger(opening: Opening, summary: Summary, rules: LedgerRules, seq: int = 1) -> Ledger:
    shown = notice(summary.headline, summary.overview, summary.day_emoji, opening.wording)
    return replace(
        opening.ledger(rules, DayState.SENT, "legacy", seq),
        title=shown.title,
        body=shown.body,
        summary_id=summary.id,
        created_at=summary.created_at,
        window_start=None,
        window_end=None if summary.created_at is None else min(summary.created_at, opening.slot),
        read_from=None,
        told=None,  # all conversations before `window_end` count as told
    )


def begin(
    opening: Opening,
    recap: Recap,
    snapshot: Snapshot,
    rules: LedgerRules,
    *,
    has_targets: bool,
    replaces: Ledger | None,
) -> Decision:
    """Create ledger and summary in one commit: the creation is the fence.

    `replaces` is the skipped, missed or dead ledger that an operator's resend read; it is replaced only while its
    state and seq are as read.
    """
    ledger = snapshot.ledger
    if not snapshot.active:
        return NO_USER
    if ledger is not None and not (ledger.state.without_text and _is_same(ledger, replaces)):
        return _with_cost(take(opening.by, snapshot, rules), opening.spent)
    seq = ledger.seq + 1 if ledger else 1
    if snapshot.summary is not None:
        return end(_legacy_ledger(opening, snapshot.summary, rules, seq))
    if opening.neighbours.have_changed(snapshot.nearby):
        return CHANGED
    shown = notice(recap.draft.headline, recap.draft.push, recap.draft.day_emoji, opening.wording)
    sending = replace(
        opening.ledger(rules, DayState.SENDING, RESEND_OUTCOME if opening.resend else "", seq),
        tries=1,
        title=shown.title,
        body=shown.body,
        summary_id=recap.id,
        created_at=recap.created_at,
        recap_hash=recap.text_hash,
        source=str(recap.draft.metadata.get("source", "")),
        extract_reason=str(recap.draft.metadata.get("extract_reason", "")),
        verified=None if recap.is_extract else recap.draft.checks.get("verified") is True,
    )
    if not has_targets:
        return replace(end(replace(sending, state=DayState.SENT, outcome="no_devices", tries=0)), recap=recap)
    return Decision(NextStep.PUSH, sending, write=True, stamp_sending=True, recap=recap)


def _cost_fields(spent: Spent) -> dict[str, Any]:
    """A ledger's fields for a cost; without a call its price and seconds are None."""
    usd, seconds = (spent.usd, round(spent.seconds, 3)) if spent.calls else (None, None)
    return {"tokens": spent.tokens, "usd": usd, "llm_seconds": seconds}


def _with_cost(decision: Decision, spent: Spent) -> Decision:
    """Add to a ledger that begin() found and takes over what was paid for the draft that is thrown away."""
    ledger = decision.ledger
    if ledger is None or not decision.write or decision.step is NextStep.BUSY or not spent.calls:
        return decision
    return replace(decision, ledger=replace(ledger, **_cost_fields(ledger.spent + spent)))


def _is_same(ledger: Ledger, read: Ledger | None) -> bool:
    return read is not None and (ledger.state, ledger.seq) == (read.state, read.seq)


def take(by: str, snapshot: Snapshot, rules: LedgerRules) -> Decision:
    """Become the sender of a ledger that another run left open."""
    ledger = snapshot.ledger
    if ledger is None:
        return NO_USER
    if ledger.state.final:
        return Decision(NextStep.FINAL, ledger)
    if ledger.state is DayState.SENDING and ledger.by == by:
        return Decision(NextStep.PUSH, ledger)
    if busy := busy_sender(ledger, snapshot.read_time, rules):
        return busy
    if ledger.tries >= rules.max_pushes:
        return give_up_rest(ledger, "pushes")
    taken = replace(ledger, state=DayState.SENDING, by=by, tries=ledger.tries + 1)
    return Decision(NextStep.PUSH, taken, write=True, stamp_sending=True)


def sweep(by: str, snapshot: Snapshot, rules: LedgerRules, *, over: bool) -> Decision:
    """Take a ledger that no cohort leads to any more. `over`: its slot's catch-up and grace have passed."""
    ledger = snapshot.ledger
    if ledger is None or ledger.state.final:
        return take(by, snapshot, rules)
    if ledger.by != by and (busy := busy_sender(ledger, snapshot.read_time, rules)):
        return busy
    if not snapshot.active:
        return give_up_rest(ledger, "user_gone_or_off")
    return give_up_rest(ledger, "undelivered") if over else take(by, snapshot, rules)


def resend(snapshot: Snapshot, rules: LedgerRules, *, claim_live: bool, again: bool = True) -> Decision:
    """Open an ended delivery for an operator: REFUSED while a push is fresh, or just after an earlier resend.

    RETRY: the ledger is open, and can be taken. FINAL: the day has no text; the caller serves the user, and `begin`
    replaces the ledger. `again`: push also to devices that already have the recap.
    """
    ledger, read_time = snapshot.ledger, snapshot.read_time
    if not snapshot.active:
        return NO_USER
    if ledger is None:
        return Decision(NextStep.REFUSED if claim_live else NextStep.FINAL)
    if restamped := restamp_future_sender(ledger, read_time, rules):
        return replace(restamped, step=NextStep.REFUSED)
    fresh = ledger.state is DayState.SENDING and until_stale(ledger, read_time, rules) > timedelta(0)
    has_it = ledger.state is DayState.SENT and not ledger.is_partial and not again
    if claim_live or fresh or has_it or until_resendable(ledger, read_time, rules):
        return Decision(NextStep.REFUSED, ledger)
    if ledger.state.without_text:
        return Decision(NextStep.FINAL, ledger)
    if not ledger.state.final:
        return Decision(NextStep.RETRY, ledger)
    reached = {device: result for device, result in ledger.devices.items() if result == PushResult.ACCEPTED}
    opened = replace(
        ledger,
        state=DayState.PENDING,
        outcome=RESEND_OUTCOME,
        seq=ledger.seq + 1,
        tries=0,
        unanswered=0,
        repeats=ledger.repeats + ledger.may_repeat,
        devices={} if again else reached,
        targets={},
        sent_at=None,
    )
    return Decision(NextStep.RETRY, opened, write=True)


def until_resendable(ledger: Ledger, read_time: datetime, rules: LedgerRules) -> timedelta:
    """How long a day that a resend ended is not resent: its process may have been killed just after its last write."""
    if ledger.state is not DayState.SENT or ledger.seq == 1 or ledger.sent_at is None:
        return timedelta(0)
    age = read_time - ledger.sent_at
    return rules.stale - age if abs(age) < rules.stale else timedelta(0)  # below 0: stamped by a clock that was ahead
