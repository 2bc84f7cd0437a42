"""How a user's turn ended, and what that means for the claim and the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Self

import structlog

from notifications.domain.claim import ClaimState, Record, free_at
from notifications.domain.model import DayState, Ledger
from notifications.domain.money import MICROS, Spent
from notifications.domain.push import FEW_DEVICES, PushResult, deletions_allowed
from notifications.limits import Limits

log = structlog.get_logger()


# The stored reason of a shard's claim that was given back: this; with what stopped the run before it had read all of
# its users, open_llm_429; else with what most of those who wait, wait for, open_for_llm_429.
LEFT_OPEN = "open"
WAITS_FOR = f"{LEFT_OPEN}_for"


def what_stopped(reason: str) -> str:
    """What stopped the run that gave a shard back with that reason, as a code; empty: nothing did."""
    return "" if reason.startswith(WAITS_FOR) else reason.removeprefix(LEFT_OPEN).strip("_")


class Outcome(StrEnum):
    """How one due user's turn ended in this run. Each user has exactly one outcome."""

    SENT = "sent"  # at least one target accepted it
    NO_DEVICES = "no_devices"  # the recap is stored, and there is no device, or each is gone
    SKIPPED = "skipped"
    DONE_BEFORE = "done_before"
    MISSED = "missed"
    DEAD = "dead"
    GAVE_UP = "gave_up"
    UNREADABLE = "unreadable"  # the job can't use the user's document
    WAITING = "waiting"
    HELD = "held"
    LOST = "lost"  # the claim, or the shard's, was lost while the user was being served
    STOPPED = "stopped"  # the run stopped before the turn began
    FAILED = "failed"

    @property
    def done(self) -> bool:
        """Whether the user's shard may be completed."""
        return self not in (Outcome.WAITING, Outcome.HELD, Outcome.LOST, Outcome.STOPPED, Outcome.FAILED)


# How a day ends in its claim. How it counts is `Ledger.ending`.
ENDS: Mapping[DayState, ClaimState] = {
    DayState.SENT: ClaimState.SENT,
    DayState.SKIPPED: ClaimState.SKIPPED,
    DayState.MISSED: ClaimState.MISSED,
    DayState.DEAD: ClaimState.DEAD,
    DayState.GAVE_UP: ClaimState.DEAD,
}
WITHOUT_A_RECAP = (Outcome.MISSED, Outcome.DEAD, Outcome.GAVE_UP)


@dataclass(frozen=True, slots=True)
class TurnResult:
    """The result of a user's turn: done, or to be tried again after `wait`, at `free_at` if another run has it."""

    outcome: Outcome
    wait: timedelta = timedelta(0)
    reason: str = ""
    freed: bool = False  # the day was skipped and its key was deleted: only the ledger says that it has ended
    free_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenHour:
    """A due hour that this run could not claim: another run holds it until `until`, or it is tried again then.

    `renewed_at`: when its holder was last heard of; None: nobody holds it. `reason`: why it is tried again, as a code.
    """

    slot: datetime
    until: datetime
    renewed_at: datetime | None = None
    may_be_dead: bool = False  # its holder has missed two renewals
    reason: str = ""

    @classmethod
    def of(cls, slot: datetime, record: Record, limits: Limits, now: datetime, offset: timedelta) -> Self:
        """From the shard's record, which says until when. `now`: the schedule's time, `offset` ahead of Redis'."""
        until = free_at(record, now - offset) + offset
        if record.state is not ClaimState.CLAIMED:
            killed = record.crashes and record.reason == LEFT_OPEN
            return cls(slot, until, reason="killed_run" if killed else record.reason)
        renewed_at = until - limits.duration("shard_lease")
        return cls(slot, until, renewed_at, now - renewed_at > 2 * limits.duration("shard_renew"))


class Delivered(NamedTuple):
    """What left by one channel, in its word for it: `push` and `pushes`."""

    noun: str
    plural: str
    requests: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How many users a run has served so far, of all who are due as far as it knows."""

    done: int
    due: int
    waiting: int

    @property
    def left(self) -> int:
        return self.due - self.done - self.waiting


@dataclass(slots=True)
class Counts:
    """The figures of one run, for `tick.finished`."""

    due: int = 0
    claimed: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    unfinished: Counter[tuple[Outcome, str]] = field(default_factory=Counter)  # users who wait or are held, by reason
    since: dict[Outcome, datetime] = field(default_factory=dict)  # the earliest slot of each
    free_at: datetime | None = None  # when the last of the held users is free
    counted: int = 0  # users of the claimed shards, if they were counted before they were read
    unreached: int = 0  # due users that were not read, since the run stopped
    swept: int = 0  # among the due: open ledgers whose user no cohort includes any more
    extract_reasons: Counter[str] = field(default_factory=Counter)  # of the recaps that the LLM did not write
    ended_extracts: Counter[tuple[Outcome, str]] = field(default_factory=Counter)  # of the days that ended, by reason
    requests: Counter[str] = field(default_factory=Counter)  # that left, by channel
    by_channel: dict[str, Counter[PushResult]] = field(default_factory=dict)  # targets, by what came of them
    pushes_refused: int = 0  # permanently, for a reason that only a person can fix
    tokens_deleted: int = 0
    devices_answered: int = 0  # accepted or dead
    devices_dead: int = 0
    malformed: int = 0
    encrypted: int = 0  # conversations whose text only the app can decrypt
    devices: int = 0
    over_budget: int = 0  # among the extracts: the day's budget was used up
    micro_usd: int = 0  # cost of the calls whose price is known
    unpriced_calls: int = 0
    failed_calls: int = 0  # LLM calls without an answer

    @property
    def pushes(self) -> int:
        """Requests that left, by all channels."""
        return self.requests.total()

    @property
    def extracts(self) -> int:
        return self.extract_reasons.total()

    @property
    def too_many_dead(self) -> bool:
        """Whether so many devices are dead that it is probably our own error."""
        return self.devices_dead >= FEW_DEVICES and self.devices_dead > deletions_allowed(self.devices_answered)

    @property
    def all_dead(self) -> bool:
        """Whether each device that answered is dead, and they are many."""
        return self.too_many_dead and self.devices_dead == self.devices_answered

    def spend(self, spent: Spent, *, failed: bool = False) -> None:
        self.failed_calls += failed
        self.micro_usd += spent.micro_usd or 0
        self.unpriced_calls += spent.calls if spent.micro_usd is None else 0

    def add(self, result: TurnResult, slot: datetime | None = None) -> None:
        """Count the result of one due user."""
        outcome = result.outcome
        self.outcomes[outcome] += 1
        if outcome is Outcome.SKIPPED:
            self.skipped[result.reason] += 1
        if slot is not None:
            self.since[outcome] = min(slot, self.since.get(outcome, slot))
        if not outcome.done:
            self.unfinished[outcome, result.reason] += 1
            if result.free_at is not None:
                self.free_at = max(result.free_at, self.free_at or result.free_at)

    @property
    def progress(self) -> Progress:
        """The progress so far; without a count before, the next page may bring more."""
        waiting = self.outcomes[Outcome.WAITING] + self.outcomes[Outcome.HELD]
        return Progress(self.outcomes.total() - waiting, max(self.due, self.counted), waiting)

    @property
    def without_a_recap(self) -> int:
        """How many users' days ended in this run without a recap that reached them."""
        return sum(self.outcomes[outcome] for outcome in WITHOUT_A_RECAP)

    def as_event(self) -> dict[str, Any]:
        """Flat numbers, and the skips by reason."""
        plain = (
            *("due", "claimed", "swept", "extracts", "pushes", "pushes_refused", "tokens_deleted"),
            *("malformed", "encrypted", "devices", "over_budget", "unpriced_calls", "unreached"),
        )
        return {
            **{name: getattr(self, name) for name in plain},
            **{outcome.value: self.outcomes[outcome] for outcome in Outcome},
            "usd": self.micro_usd / MICROS,
            "skipped_by_reason": dict(self.skipped),
            "by_channel": {
                name: {result.value: count for result, count in results.items()}
                for name, results in self.by_channel.items()
            },
        }


def log_end(entry: Ledger, who: Mapping[str, str], *, ours: bool) -> Outcome:
    """The outcome of a day that ended with this ledger. Logged if this run ended it (`ours`)."""
    if not ours:
        return Outcome.DONE_BEFORE
    facts = {**who, "reason": entry.outcome}
    outcome = Outcome(entry.ending)
    results = list(entry.devices.values())
    accepted, gone = results.count(PushResult.ACCEPTED), results.count(PushResult.GONE)
    match outcome:
        case Outcome.SENT:
            log.info("recap.sent", **facts, tries=entry.tries, accepted=accepted, gone=gone)
        case Outcome.NO_DEVICES:
            log.info("recap.no_devices", **facts, gone=gone)
        case Outcome.SKIPPED:
            log.info("recap.skipped", **facts)
        case Outcome.MISSED:
            log.error("recap.missed", **facts)
        case _:
            counted = {"failures": entry.failures, "crashes": entry.crashes, "last_failure": entry.reason}
            log.error(f"recap.{entry.state.value}", **facts, **counted)
    return outcome
