"""How a user's turn ended, and what that means for the claim and the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

import structlog

from notifications.domain.claim import ClaimState
from notifications.domain.model import DayState, Ledger
from notifications.domain.money import MICROS, Spent
from notifications.domain.push import PushResult

log = structlog.get_logger()


class Outcome(StrEnum):
    """How one due user's turn ended in this run. Each user has exactly one outcome."""

    SENT = "sent"
    SKIPPED = "skipped"
    DONE_BEFORE = "done_before"
    MISSED = "missed"
    DEAD = "dead"
    GAVE_UP = "gave_up"
    UNREADABLE = "unreadable"  # the job can't use the user's document
    WAITING = "waiting"
    HELD = "held"
    LOST = "lost"  # the claim, or the shard's, was lost while the user was being served
    STOPPED = "stopped"  # the run was stopped before the turn began
    FAILED = "failed"

    @property
    def done(self) -> bool:
        """Whether the user's shard may be completed."""
        return self not in (Outcome.WAITING, Outcome.HELD, Outcome.LOST, Outcome.STOPPED, Outcome.FAILED)


# How a day ends: in the ledger, in its claim, and in a run's counts.
ENDS: Mapping[DayState, tuple[ClaimState, Outcome]] = {
    DayState.SENT: (ClaimState.SENT, Outcome.SENT),
    DayState.SKIPPED: (ClaimState.SKIPPED, Outcome.SKIPPED),
    DayState.MISSED: (ClaimState.MISSED, Outcome.MISSED),
    DayState.DEAD: (ClaimState.DEAD, Outcome.DEAD),
    DayState.GAVE_UP: (ClaimState.DEAD, Outcome.GAVE_UP),
}
WITHOUT_A_RECAP = (Outcome.MISSED, Outcome.DEAD, Outcome.GAVE_UP)


@dataclass(frozen=True, slots=True)
class TurnResult:
    """The result of a user's turn: done, or to be tried again after `wait`."""

    outcome: Outcome
    wait: timedelta = timedelta(0)
    reason: str = ""
    freed: bool = False  # the day was skipped and its key was deleted: only the ledger says that it has ended


@dataclass(frozen=True, slots=True)
class Progress:
    """How many users a run has served so far."""

    done: int
    due: int
    waiting: int

    @property
    def in_flight(self) -> int:
        return self.due - self.done - self.waiting


@dataclass(slots=True)
class Counts:
    """The figures of one run, for `tick.finished`."""

    due: int = 0
    claimed: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    swept: int = 0  # among the due: open ledgers whose user no cohort includes any more
    extracts: int = 0  # recaps that the LLM did not write
    pushes: int = 0  # requests that left, by all channels
    by_channel: dict[str, Counter[PushResult]] = field(default_factory=dict)  # targets, by what came of them
    pushes_refused: int = 0  # permanently, for a reason that only a person can fix
    tokens_deleted: int = 0
    malformed: int = 0
    encrypted: int = 0  # conversations whose text only the app can decrypt
    devices: int = 0
    over_budget: int = 0  # among the extracts: the day's budget was used up
    micro_usd: int = 0  # cost of the calls whose price is known
    unpriced_calls: int = 0

    def spend(self, spent: Spent) -> None:
        self.micro_usd += spent.micro_usd or 0
        self.unpriced_calls += spent.calls if spent.micro_usd is None else 0

    def add(self, result: TurnResult) -> None:
        """Count the result of one due user."""
        self.outcomes[result.outcome] += 1
        if result.outcome is Outcome.SKIPPED:
            self.skipped[result.reason] += 1

    @property
    def progress(self) -> Progress:
        """The progress among the users that were read so far; the next page may bring more."""
        waiting = self.outcomes[Outcome.WAITING] + self.outcomes[Outcome.HELD]
        return Progress(self.outcomes.total() - waiting, self.due, waiting)

    @property
    def without_a_recap(self) -> int:
        """How many users' days ended in this run without a recap that reached them."""
        return sum(self.outcomes[outcome] for outcome in WITHOUT_A_RECAP)

    def as_event(self) -> dict[str, Any]:
        """Flat numbers, and the skips by reason."""
        plain = (
            *("due", "claimed", "swept", "extracts", "pushes", "pushes_refused", "tokens_deleted"),
            *("malformed", "encrypted", "devices", "over_budget", "unpriced_calls"),
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
    """Log that a day has ended with this ledger, and return its outcome. `ours`: whether this run ended it."""
    facts = {**who, "reason": entry.outcome}
    if not ours:
        log.debug("recap.done_before", state=entry.state.value, **facts)
        return Outcome.DONE_BEFORE
    _, outcome = ENDS[entry.state]
    match entry.state:
        case DayState.SENT if entry.outcome != "legacy":
            results = list(entry.devices.values())
            accepted, gone = results.count(PushResult.ACCEPTED), results.count(PushResult.GONE)
            log.info("recap.sent", **facts, tries=entry.tries, accepted=accepted, gone=gone)
        case DayState.SENT | DayState.SKIPPED:
            log.info("recap.skipped", **facts)
            return Outcome.SKIPPED
        case DayState.MISSED:
            log.error("recap.missed", **facts)
        case _:
            counted = {"failures": entry.failures, "crashes": entry.crashes, "last_failure": entry.reason}
            log.error(f"recap.{entry.state.value}", **facts, **counted)
    return outcome
