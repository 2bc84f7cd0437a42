"""What one run knows about itself: its parts, its counts, and why it stops claiming."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog

from notifications.domain.claim import EXPIRY_AFTER_SLOT_MS, user_key
from notifications.domain.errors import ConfigFault, DependencyDown, ItemReason, ProviderFault, RecapError
from notifications.domain.schedule import Rules
from notifications.limits import Numbers
from notifications.ports import Claims, Clock, Push, Store, Summarizer, Terms
from notifications.run.breaker import Breaker, UselessAnswers
from notifications.run.pace import Pace
from notifications.run.push import Pusher
from notifications.run.termination import Termination

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a run with work needs."""

    claims: Claims
    store: Store
    summarizer: Summarizer
    push: Push
    clock: Clock
    numbers: Numbers
    tasks: int = 1  # parallel tasks that share the providers

    @property
    def rules(self) -> Rules:
        """How long a slot is served."""
        return Rules(self.numbers.span("catch_up"), self.numbers.span("grace"))


class Ending(StrEnum):
    """How one due user's turn ended in this run: each user has exactly one."""

    SENT = "sent"
    SKIPPED = "skipped"
    DONE_BEFORE = "done_before"
    MISSED = "missed"
    DEAD = "dead"
    GAVE_UP = "gave_up"
    UNREADABLE = "unreadable"  # a document that nobody can serve
    WAITING = "waiting"
    HELD = "held"
    LOST = "lost"  # the claim, or the shard, while it was being served
    STOPPED = "stopped"  # not begun, since the run was stopped
    FAILED = "failed"

    @property
    def done(self) -> bool:
        """Whether this user keeps no shard open."""
        return self not in (Ending.WAITING, Ending.HELD, Ending.LOST, Ending.STOPPED, Ending.FAILED)


WITHOUT_A_RECAP = (Ending.MISSED, Ending.DEAD, Ending.GAVE_UP)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the user answered to its shard: done, or to be tried again after `wait`."""

    ending: Ending
    wait: timedelta = timedelta(0)
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether this user keeps no shard open."""
        return self.ending.done


@dataclass(slots=True)
class Counts:
    """The figures of one run, as `tick.finished` tells them."""

    due: int = 0
    claimed: int = 0
    endings: Counter[Ending] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    swept: int = 0  # of the due: open ledgers that no cohort holds any more
    pushes: int = 0
    tokens_deleted: int = 0
    malformed: int = 0
    devices: int = 0

    def add(self, outcome: Outcome) -> None:
        """One due user more, in exactly one count."""
        self.endings[outcome.ending] += 1
        if outcome.ending is Ending.SKIPPED:
            self.skipped[outcome.reason] += 1

    @property
    def without_a_recap(self) -> int:
        """Users whose day ended in this run without a recap that reached them."""
        return sum(self.endings[ending] for ending in WITHOUT_A_RECAP)

    def as_event(self) -> dict[str, Any]:
        """Flat numbers, and the skips by reason."""
        plain = ("due", "claimed", "swept", "pushes", "tokens_deleted", "malformed", "devices")
        endings = {ending.value: self.endings[ending] for ending in Ending}
        return {name: getattr(self, name) for name in plain} | endings | {"skipped_by_reason": dict(self.skipped)}


@dataclass(slots=True)
class Run:
    """One run's state. `offset` is what `--now` adds to Redis time for the schedule alone."""

    parts: Parts
    offset: timedelta = timedelta(0)
    terminated: Termination = field(default_factory=Termination)  # SIGTERM
    counts: Counts = field(default_factory=Counts)
    trouble: RecapError | None = None  # the first that stopped the claiming
    defects: int = 0
    served: set[tuple[str, date]] = field(default_factory=set)  # whose day is open, and was looked at in this run
    reads: Breaker = field(init=False)
    writes: Breaker = field(init=False)
    llm: Breaker = field(init=False)
    useless_answers: UselessAnswers = field(init=False)
    pusher: Pusher = field(init=False)
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        parts, numbers = self.parts, self.parts.numbers
        self.reads, self.writes = Breaker(self.stop_claiming), Breaker(self.stop_claiming)
        self.llm = Breaker(self.stop_claiming, numbers.max_provider_failures)
        self.useless_answers = UselessAnswers(self._all_answers_useless)
        self.pusher = Pusher(
            parts.push, parts.clock, numbers, self.terminated, Breaker(self.stop_claiming), self.counts
        )
        self.pace = Pace(parts.claims, parts.clock, self.terminated, reserve=numbers.concurrency * parts.tasks)

    def stop_claiming(self, trouble: RecapError) -> None:
        """No further claims in this run. The first trouble is the one that the exit code tells."""
        if self.trouble is None:
            self.trouble = trouble
            log.error("run.stops_claiming", reason=str(trouble))
        self.useless_answers.decide(items=False)

    @property
    def stops(self) -> bool:
        """Whether nothing further is claimed. Users in flight go on, but for SIGTERM."""
        return self.trouble is not None or self.terminated.is_set()

    def provider_failed(self, fault: ProviderFault) -> None:
        """The LLM's provider: a configuration fault stops the claiming at once."""
        cause = ConfigFault(str(fault)) if fault.config else DependencyDown(fault.name, str(fault))
        self.llm.failed(cause, at_once=fault.opens)

    def _all_answers_useless(self, kind: ItemReason) -> None:
        sentence = f"The LLM's answers are all useless ({kind.value}); check OPENAI_MODEL and what it can do."
        self.llm.failed(DependencyDown("llm", sentence), at_once=True)

    @property
    def stopped_by(self) -> RecapError | None:
        """What stopped the run; else a store that was down at its end, or a provider that never once answered."""
        down = (self.reads.down, self.writes.down, self.llm.silent, self.pusher.breaker.silent)
        return self.trouble or next((cause for cause in down if cause), None)

    def redis_ms(self, moment: datetime) -> int:
        """An instant of the schedule as Redis time in ms: leases stay on real time under `--now`."""
        return int((moment - self.offset).timestamp() * 1000)

    def user_terms(self, uid: str, day: date, slot_at: datetime) -> Terms:
        """On what terms one user's day is claimed."""
        numbers = self.parts.numbers
        return Terms(
            key=user_key(uid, day),
            lease_ms=int(numbers.user_lease_seconds * 1000),
            expire_ms=self.redis_ms(slot_at) + EXPIRY_AFTER_SLOT_MS,
            until_ms=self.redis_ms(slot_at + numbers.span("catch_up")),
            max_crashes=numbers.max_crashes,
            max_failures=numbers.max_item_failures,
        )
