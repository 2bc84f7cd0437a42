"""What one run knows about itself: its parts, its counts, and why it stops claiming."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from notifications.domain.claim import EXPIRY_AFTER_SLOT_MS, user_key
from notifications.domain.errors import ConfigFault, DependencyDown, ProviderFault, RecapError
from notifications.domain.model import Device
from notifications.domain.schedule import Rules, Slot
from notifications.numbers import Numbers
from notifications.pace import Pace
from notifications.ports import Claims, Clock, Push, Store, Summarizer, Terms
from notifications.termination import Termination

log = structlog.get_logger()

MANY_IN_A_ROW = 10  # store failures in a row that stop claiming (PROTOCOL section 5)


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


@dataclass(slots=True)
class Counts:
    """The figures of one run, as `tick.finished` tells them."""

    due: int = 0
    claimed: int = 0
    sent: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    done_before: int = 0
    held: int = 0
    waiting: int = 0
    stopped: int = 0
    failed: int = 0
    dead: int = 0
    missed: int = 0
    pushes: int = 0
    tokens_deleted: int = 0
    malformed: int = 0
    devices: int = 0

    def as_event(self) -> dict[str, Any]:
        """Flat numbers, and the skips by reason."""
        figures: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return {**figures, "skipped": sum(self.skipped.values()), "skipped_by_reason": dict(self.skipped)}


@dataclass(slots=True)
class Run:
    """One run's state. `offset` is what `--now` adds to Redis time for the schedule alone."""

    parts: Parts
    offset: timedelta = timedelta(0)
    terminated: Termination = field(default_factory=Termination)  # SIGTERM
    counts: Counts = field(default_factory=Counts)
    trouble: RecapError | None = None  # the first that stopped the claiming
    defects: int = 0
    push_not_before: float = 0.0  # seconds of the parts' clock
    dead_tokens: list[tuple[str, Device]] = field(default_factory=list)
    pace: Pace = field(init=False)
    _provider_failures: int = 0
    _store_failures: int = 0
    _answered: set[str] = field(default_factory=set)
    _last_failure: dict[str, RecapError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers, tasks = self.parts.numbers, self.parts.tasks
        self.pace = Pace(
            self.parts.claims,
            self.parts.clock,
            self.terminated,
            reserve=numbers.concurrency * tasks,
            push_rate=numbers.push_rate / tasks,
        )

    def stop_claiming(self, trouble: RecapError) -> None:
        """No further claims in this run. The first trouble is the one that the exit code tells."""
        if self.trouble is None:
            self.trouble = trouble
            log.error("run.stops_claiming", reason=str(trouble))

    @property
    def stops(self) -> bool:
        """Whether nothing further is claimed. Users in flight go on, but for SIGTERM."""
        return self.trouble is not None or self.terminated.is_set()

    def provider_failed(self, fault: ProviderFault) -> None:
        """The breaker: opens at once where waiting is useless, else at many failures in a row."""
        self._provider_failures += 1
        cause: RecapError = ConfigFault(str(fault)) if fault.config else DependencyDown(fault.name, str(fault))
        self._last_failure[fault.name] = cause
        if fault.opens or self._provider_failures >= self.parts.numbers.max_provider_failures:
            self.stop_claiming(cause)

    def provider_answered(self, name: str) -> None:
        """It works: the failures in a row are over."""
        self._answered.add(name)
        if name == "llm":
            self._provider_failures = 0

    def push_unreachable(self, code: str) -> None:
        """A push got no answer. Recaps are stored all the same, so claiming goes on."""
        self._last_failure.setdefault(
            "fcm", DependencyDown("fcm", f"FCM does not answer ({code}); check FCM_BASE_URL.")
        )

    def store_failed(self, failure: RecapError) -> None:
        """Ten in a row stop claiming."""
        self._store_failures += 1
        self._last_failure["store"] = failure
        if self._store_failures >= MANY_IN_A_ROW:
            self.stop_claiming(failure)

    def store_answered(self) -> None:
        """It works: the failures in a row are over."""
        self._store_failures = 0
        self._last_failure.pop("store", None)

    @property
    def verdict(self) -> RecapError | None:
        """What stopped the run; else a store that was down at its end, or a provider that never once answered."""
        silent = (failure for name, failure in self._last_failure.items() if name not in self._answered)
        return self.trouble or next(silent, None)

    def redis_ms(self, moment: datetime) -> int:
        """An instant of the schedule as Redis time in ms: leases stay on real time under `--now`."""
        return int((moment - self.offset).timestamp() * 1000)

    def user_terms(self, uid: str, slot: Slot) -> Terms:
        """On what terms one user's day is claimed."""
        numbers = self.parts.numbers
        return Terms(
            key=user_key(uid, slot.recap_date),
            lease_ms=int(numbers.user_lease_seconds * 1000),
            expire_ms=self.redis_ms(slot.at) + EXPIRY_AFTER_SLOT_MS,
            until_ms=self.redis_ms(slot.at + numbers.span("catch_up")),
            max_crashes=numbers.max_crashes,
            max_failures=numbers.max_item_failures,
        )
