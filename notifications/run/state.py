"""What one run knows of itself: its parts, its counts, why it stops claiming; and its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from notifications.domain.claim import EXPIRY_AFTER_SLOT_MS, ClaimAnswer, user_key
from notifications.domain.errors import (
    ClaimsDown,
    ConfigFault,
    DependencyDown,
    ItemReason,
    ProviderFault,
    RecapError,
    StoreDown,
)
from notifications.domain.money import Spent
from notifications.domain.push import PushText
from notifications.domain.schedule import Rules
from notifications.domain.shards import Shard
from notifications.limits import Limits
from notifications.ports import Claims, ClaimTerms, Clock, Push, Reply, Store, Summarizer, Telemetry
from notifications.run.breaker import BadAnswerTracker, Breaker, Writes
from notifications.run.clocks import APART_AT_MOST, Agreed, compared, disagreement, host_is_wrong, jumped, read
from notifications.run.outcome import Counts
from notifications.run.pace import Pace
from notifications.run.pusher import Pusher
from notifications.run.termination import Termination

if TYPE_CHECKING:
    from notifications.recap.extract import Split

log = structlog.get_logger()


class NullTelemetry:
    """Telemetry where none is set."""

    def span(self, name: str, model: str = "") -> AbstractContextManager[None]:
        return nullcontext()

    def asked(self, spent: Spent, model: str, error: str = "") -> None:
        """Nothing is counted."""

    def ended(self, figures: Mapping[str, object]) -> None:
        """Nothing is told."""

    async def aclose(self) -> None:
        """Nothing is left to send."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a run with work needs."""

    claims: Claims
    store: Store
    summarizer: Summarizer | None  # None: no LLM is asked
    push: Push
    clock: Clock
    limits: Limits
    split: Split  # into sentences: for the extract
    tasks: int = 1  # parallel tasks that share the providers
    falls_back: bool = True  # to the extract, where the LLM can't
    telemetry: Telemetry = field(default_factory=NullTelemetry)
    shown: PushText = PushText.RECAP  # of a recap in its push
    verifier: Summarizer | None = None  # who takes the second look, maybe the summarizer itself; None: nobody
    style: str = ""  # what the operator wishes of every recap (RECAP_STYLE)

    @property
    def rules(self) -> Rules:
        """How long a slot is served."""
        return Rules(self.limits.span("catch_up"), self.limits.span("grace"))


class Run:
    """One run's state. `offset` is what `--now` adds to Redis time for the schedule alone."""

    def __init__(self, parts: Parts, offset: timedelta = timedelta(0), terminated: Termination | None = None) -> None:
        self.parts = parts
        self.offset = offset
        self.terminated = terminated or Termination()  # SIGTERM
        self.counts = Counts()
        self.trouble: RecapError | None = None  # the first that stopped the claiming
        self.defects = 0
        self.no_second_looks: ConfigFault | None = None  # why there are no further ones
        self.agreed: Agreed | None = None  # when Redis' clock was found right; before that no claim is held against it
        self.served: set[tuple[str, date]] = set()  # whose day is open, and was looked at in this run
        self.claims, self.store, self.telemetry = parts.claims, parts.store, parts.telemetry
        self.summarizer, self.split, self.falls_back = parts.summarizer, parts.split, parts.falls_back
        self.shown, self.style = parts.shown, parts.style
        self.clock, self.limits, self.rules = parts.clock, parts.limits, parts.rules
        self.reads, pushes = Breaker(self.stop_claiming), Breaker(self.stop_claiming)
        self.writes = Writes(self.stop_claiming, self.limits, self.terminated)
        self.llm = Breaker(self.stop_claiming, self.limits.max_provider_failures)
        self.bad_answers = BadAnswerTracker(self._all_answers_useless)
        self.pusher = Pusher(parts.push, self.clock, self.limits, self.terminated, pushes, self.counts)
        calls = (1 if parts.verifier is None else 2) * self.limits.concurrency * parts.tasks
        self.pace = Pace(self.claims, self.clock, self.terminated, reserve=calls)

    @property
    def verifier(self) -> Summarizer | None:
        """Who takes the second look; None where nobody does, or nobody can any more."""
        return None if self.no_second_looks is not None else self.parts.verifier

    @property
    def llms(self) -> list[Summarizer]:
        """Every LLM of this run, each once."""
        both = (self.parts.summarizer, self.parts.verifier)
        return list({id(one): one for one in both if one is not None}.values())

    def end_second_looks(self, fault: ProviderFault) -> None:
        """No further second look in this run: only a person can mend what is wrong. Recaps go on without."""
        if self.no_second_looks is None:
            self.no_second_looks = ConfigFault(str(fault))
            log.error("second_look.ended", reason=str(fault))

    def stop_claiming(self, trouble: RecapError) -> None:
        """No further claims in this run. The first trouble is the one that the exit code tells."""
        if self.trouble is None:
            self.trouble = trouble
            log.error("run.stops_claiming", reason=str(trouble))
        self.bad_answers.decide(items=False)

    @property
    def stops(self) -> bool:
        """Whether nothing further is claimed. Users in flight go on, but for SIGTERM."""
        return self.trouble is not None or self.terminated.is_set()

    def provider_failed(self, fault: ProviderFault) -> None:
        """The LLM's provider: a configuration fault stops the claiming at once."""
        cause = ConfigFault(str(fault)) if fault.config else DependencyDown(fault.name, str(fault))
        self.llm.failed(cause, at_once=fault.opens)

    def _all_answers_useless(self, kind: ItemReason) -> None:
        where = self.summarizer.where if self.summarizer else "The LLM"
        sentence = f"{where}: the answers are all useless ({kind.value}); check what this model can do."
        self.llm.failed(DependencyDown("llm", sentence), at_once=True)

    @property
    def stopped_by(self) -> RecapError | None:
        """What stopped the run; else a store that was down at its end, or a provider that never once answered."""
        down = (self.reads.down, self.writes.down, self.llm.silent, self.pusher.breaker.silent)
        return self.trouble or self.no_second_looks or next((cause for cause in down if cause), None)

    async def agree_on_time(self, asked: datetime | None = None, host: Callable[[], datetime] | None = None) -> None:
        """Before the first claim: whether Redis' clock is right, by the store's. `asked`: what it showed before.

        Raises ClaimsDown where it is not. A store that does not answer is no judge: where this machine's clock has
        nothing to say against Redis' either, the run goes on, and finds out by its first page what ails the store.
        """
        try:
            async with self.terminated.timeout(math.inf):
                found = await compared(self.claims, self.store, self.clock)
        except StoreDown:
            agreed = await read(self.claims, self.clock)
            if host is None or abs(agreed.redis - host()) > APART_AT_MOST:
                raise
            self.agreed = agreed
            return
        host_ahead = host() - found.agreed.redis + found.ahead if host is not None else None
        if found.apart:
            raise ClaimsDown("redis", disagreement(found.ahead, host_ahead))
        if asked is not None and abs(found.agreed.redis - asked) > APART_AT_MOST:
            raise ClaimsDown("redis", jumped(found.agreed.redis - asked))
        self.agreed = found.agreed
        if host_ahead is not None and (sentence := host_is_wrong(host_ahead)):
            log.warning("clock.host", reason=sentence)

    async def trust(self, reply: Reply, terms: ClaimTerms, token: str, begun: float) -> None:
        """Raises ClaimsDown where Redis' clock has jumped since the check; what was won is given back first."""
        ended = self.clock.seconds()
        if self.agreed is None or not (off := self.agreed.jumped(reply.now, begun, ended)):
            return
        if reply.answer is ClaimAnswer.WON:
            due = int(self.agreed.time_at(begun).timestamp() * 1000)
            back = replace(terms, until_ms=min(terms.until_ms, due))
            await self.claims.fail(back, token, timedelta(0), 0, "clock")
        raise ClaimsDown("redis", jumped(off))

    def redis_ms(self, moment: datetime) -> int:
        """An instant of the schedule as Redis time in ms: leases stay on real time under `--now`."""
        return int((moment - self.offset).timestamp() * 1000)

    def user_terms(self, uid: str, day: date, slot_at: datetime) -> ClaimTerms:
        """On what terms one user's day is claimed."""
        limits = self.limits
        return ClaimTerms(
            key=user_key(uid, day),
            lease_ms=int(limits.user_lease_seconds * 1000),
            expire_ms=self.redis_ms(slot_at) + EXPIRY_AFTER_SLOT_MS,
            until_ms=self.redis_ms(slot_at + limits.span("catch_up")),
            max_crashes=limits.max_crashes,
            max_failures=limits.max_item_failures,
        )

    def shard_terms(self, shard: Shard) -> ClaimTerms:
        """On what terms a shard is claimed: never dead, and due again until the end of the grace."""
        slot = shard.cohort.slot
        return ClaimTerms(
            key=shard.key,
            lease_ms=int(self.limits.shard_lease_seconds * 1000),
            expire_ms=self.redis_ms(slot) + EXPIRY_AFTER_SLOT_MS,
            until_ms=self.redis_ms(slot + self.rules.catch_up + self.rules.grace),
        )


@dataclass(slots=True)
class RunResult:
    """What one run did; `idle` where Redis said that nothing is claimable."""

    now: datetime
    idle: bool = False
    counts: Counts = field(default_factory=Counts)
    trouble: RecapError | None = None
    stopped_early: bool = False
    defects: int = 0
    llm_calls: int = 0
    tokens_used: int = 0
    unserved: int = 0
    documents_read: int = 0
    documents_written: int = 0

    def as_event(self) -> dict[str, Any]:
        """Flat numbers, and the skips by reason: as `tick.finished` tells them."""
        return {
            **self.counts.as_event(),
            "llm_calls": self.llm_calls,
            "tokens_used": self.tokens_used,
            "defects": self.defects,
            "documents_read": self.documents_read,
            "documents_written": self.documents_written,
            "unserved_shards": self.unserved,
            "idle": self.idle,
            "stopped_early": self.stopped_early,
            "trouble": str(self.trouble or ""),
        }


def run_result(run: Run, now: datetime, unserved: int = 0) -> RunResult:
    """The result of a run that had work; telemetry gets its figures."""
    trouble = run.stopped_by
    result = RunResult(
        now,
        counts=run.counts,
        trouble=trouble,
        stopped_early=trouble is not None and trouble is not run.no_second_looks,
        defects=run.defects,
        llm_calls=sum(one.calls for one in run.llms),
        tokens_used=sum(one.tokens for one in run.llms),
        unserved=unserved,
        documents_read=run.store.reads,
        documents_written=run.store.writes,
    )
    run.telemetry.ended(result.as_event())
    return result
