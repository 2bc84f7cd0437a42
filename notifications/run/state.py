"""The state that one run shares: its services, its counts, why it stopped claiming; and its result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from notifications.domain.claim import EXPIRY_AFTER_SLOT_MS, ClaimAnswer, new_token, user_key
from notifications.domain.errors import (
    ClaimsDown,
    ConfigFault,
    DependencyDown,
    ItemReason,
    ProviderFault,
    RecapError,
    StoreDown,
)
from notifications.domain.push import PushResult, PushText
from notifications.domain.shards import Shard
from notifications.limits import Limits
from notifications.ports import Channel, Claims, ClaimTerms, Clock, Reply, Store, Summarizer, Telemetry
from notifications.run.clocks import (
    MAX_CLOCK_SKEW,
    RedisTime,
    compare_clocks,
    disagreement,
    host_is_wrong,
    read_redis_time,
    redis_jumped,
)
from notifications.run.dependencies import BadAnswerTracker, Breaker, Pace, Writes
from notifications.run.outcome import Counts, Delivered, OpenHour
from notifications.run.pusher import Pusher
from notifications.run.sender import Shared
from notifications.run.termination import Termination

if TYPE_CHECKING:
    from notifications.recap.scoring import Split

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services and settings of a run that has work."""

    claims: Claims
    store: Store
    summarizer: Summarizer | None  # None: without an LLM, every recap is an extract
    channels: tuple[Channel, ...]
    clock: Clock
    limits: Limits
    split_sentences: Split  # for the extract
    task_count: int = 1  # parallel tasks that share the LLM's rate limit
    has_fallback: bool = True  # whether the extract is sent if the LLM fails
    telemetry: Telemetry = field(default_factory=Telemetry)
    push_text: PushText = PushText.RECAP  # how much of a recap its push shows
    verifier: Summarizer | None = None  # gives the second look, maybe the summarizer itself; None: no second look
    style: str = ""  # the operator's instruction for every recap (RECAP_STYLE)

    @property
    def llms(self) -> list[Summarizer]:
        """The LLMs in use, each once."""
        return list({id(llm): llm for llm in (self.summarizer, self.verifier) if llm is not None}.values())


@dataclass(frozen=True, slots=True)
class Claimed:
    """What Redis answered to a claim by `token`. `started_at`: the services' clock before it was requested."""

    reply: Reply
    token: str
    started_at: float


class Run:
    """One run's state. `offset` is what `--now` adds to Redis time, for the schedule only."""

    def __init__(
        self, services: Services, offset: timedelta = timedelta(0), terminated: Termination | None = None
    ) -> None:
        self.services = services
        self.offset = offset
        self.terminated = terminated or Termination()  # SIGTERM
        self.counts = Counts()
        self.open_hours: list[OpenHour] = []  # due hours that it can't claim
        self.trouble: RecapError | None = None  # the first error that stopped the claiming
        self.defects = 0
        self.verifier = services.verifier  # None after a configuration fault has ended the second looks
        self.verifier_fault: ConfigFault | None = None
        self.checked_time: RedisTime | None = None  # Redis' clock at its last successful check; None: not checked yet
        self.served: set[tuple[str, date]] = set()  # uid and date of open days that this run has served
        self.read_breaker = Breaker(self.stop_claiming)
        self.write_breaker = Writes(self.stop_claiming, services.limits, self.terminated)
        self.llm_breaker = Breaker(self.stop_claiming, services.limits.max_provider_failures)
        self.bad_answers = BadAnswerTracker(self._provider_answers_badly)
        shared = Shared(services.clock, services.limits, self.terminated, self.counts)
        self.pusher = Pusher(services.channels, shared, self.stop_claiming)
        calls = (1 if services.verifier is None else 2) * services.limits.concurrency * services.task_count
        self.pace = Pace(services.claims, services.clock, self.terminated, reserve=calls)

    @property
    def is_stopping(self) -> bool:
        """Whether the run claims nothing more. Users in flight are still served, except after SIGTERM."""
        return self.trouble is not None or self.terminated.is_set()

    def stop_claiming(self, trouble: RecapError) -> None:
        """Claim nothing more in this run. The first error decides the exit code."""
        if self.trouble is None:
            self.trouble = trouble
            log.error("run.stops_claiming", reason=str(trouble))
        self.bad_answers.resolve(blame_item=False)

    @property
    def stop_code(self) -> str:
        """What stopped the claiming, as a code: llm_429, SERVICE_DISABLED, redis, configuration; `stopped` by SIGTERM;
        empty: nothing.
        """
        if self.trouble is None:
            return "stopped" if self.terminated.is_set() else ""
        name = self.trouble.name if isinstance(self.trouble, (ConfigFault, DependencyDown)) else "configuration"
        return f"store_{name}" if isinstance(self.trouble, StoreDown) else name

    @property
    def stopped_by(self) -> RecapError | None:
        """What stopped the run; else a store that is down at its end, or a provider that never answered."""
        down = (self.read_breaker.down, self.write_breaker.down, self.llm_breaker.silent, self.pusher.trouble)
        return self.trouble or self.verifier_fault or next((cause for cause in down if cause), None)

    def end_second_looks(self, fault: ProviderFault) -> None:
        """Ask for no more second looks in this run: only a person can fix the cause. Recaps are sent unverified."""
        if self.verifier is not None:
            self.verifier, self.verifier_fault = None, ConfigFault(str(fault))
            log.error("second_look.ended", reason=str(fault))

    def provider_failed(self, fault: ProviderFault) -> None:
        """Count a failure of the LLM's provider. A configuration fault stops the claiming at once."""
        name = fault.reason.removeprefix("provider_")
        cause = (
            ConfigFault(str(fault), name if fault.code else "configuration")
            if fault.config
            else DependencyDown(name, str(fault))
        )
        self.llm_breaker.record_failure(cause, at_once=fault.final)

    def _provider_answers_badly(self, kind: ItemReason) -> None:
        where = self.services.summarizer.where if self.services.summarizer else "The LLM"
        sentence = f"{where}: the answers are all useless ({kind.value}); set a model that doctor finds able."
        self.llm_breaker.record_failure(DependencyDown(f"llm_{kind.value}", sentence), at_once=True)

    async def check_clocks(
        self, before: datetime | None = None, host_now: Callable[[], datetime] | None = None
    ) -> None:
        """Check Redis' clock against the store's, before the first claim. `before`: an earlier reading of it.

        Raises ClaimsDown if it is wrong. If the store does not answer but this machine's clock agrees with Redis', the
        run continues: reading its first page will report the store's error.
        """
        services = self.services
        try:
            async with self.terminated.timeout(math.inf):
                clocks = await compare_clocks(services.claims, services.store, services.clock)
        except StoreDown:
            time = await read_redis_time(services.claims, services.clock)
            if host_now is None or abs(time.redis - host_now()) > MAX_CLOCK_SKEW:
                raise
            self.checked_time = time
            return
        redis = clocks.time.redis
        host_ahead = host_now() - redis + clocks.ahead if host_now is not None else None
        if clocks.is_one_wrong:
            raise ClaimsDown("redis", disagreement(clocks.ahead, host_ahead))
        if before is not None and abs(redis - before) > MAX_CLOCK_SKEW:
            raise ClaimsDown("redis", redis_jumped(redis - before))
        self.checked_time = clocks.time
        if host_ahead is not None and (sentence := host_is_wrong(host_ahead)):
            log.warning("clock.host", reason=sentence)

    async def claim(self, terms: ClaimTerms, lane: int) -> Claimed:
        """Claim by a new token; the reply says whether it was won. Raises ClaimsDown, ConfigFault or KeyTrouble."""
        token, started_at = new_token(), self.services.clock.seconds()
        reply = await self.services.claims.claim(terms, token, lane)
        await self._check_time_of(reply, terms, token, started_at)
        return Claimed(reply, token, started_at)

    async def _check_time_of(self, reply: Reply, terms: ClaimTerms, token: str, started_at: float) -> None:
        """Raise ClaimsDown if Redis' clock has jumped since the check; a claim that was won is given back first."""
        time, ended_at = self.checked_time, self.services.clock.seconds()
        if time is None or not (jump := time.jump(reply.now, started_at, ended_at)):
            return
        if reply.answer is ClaimAnswer.WON:
            back = replace(terms, until_ms=min(terms.until_ms, int(time.at(started_at).timestamp() * 1000)))
            await self.services.claims.fail(back, token, timedelta(0), 0, "clock")
        raise ClaimsDown("redis", redis_jumped(jump))

    def redis_ms(self, moment: datetime) -> int:
        """An instant of the schedule as Redis time in ms: leases stay on real time under `--now`."""
        return int((moment - self.offset).timestamp() * 1000)

    def user_terms(self, uid: str, day: date, slot_at: datetime) -> ClaimTerms:
        """The terms on which one user's day is claimed."""
        limits = self.services.limits
        return ClaimTerms(
            key=user_key(uid, day),
            lease_ms=int(limits.user_lease_seconds * 1000),
            expire_ms=self.redis_ms(slot_at) + EXPIRY_AFTER_SLOT_MS,
            until_ms=self.redis_ms(slot_at + limits.duration("catch_up")),
            max_crashes=limits.max_crashes,
            max_failures=limits.max_item_failures,
        )

    def shard_terms(self, shard: Shard) -> ClaimTerms:
        """The terms on which a shard is claimed: it never becomes dead, and is due again until the grace ends."""
        slot, rules = shard.cohort.slot, self.services.limits.rules
        return ClaimTerms(
            key=shard.key,
            lease_ms=int(self.services.limits.shard_lease_seconds * 1000),
            expire_ms=self.redis_ms(slot) + EXPIRY_AFTER_SLOT_MS,
            until_ms=self.redis_ms(rules.service_end(slot)),
        )

    @property
    def deliveries(self) -> list[Delivered]:
        """What left by each channel; where nothing did, that of the first."""
        requests, by_channel = self.counts.requests, self.counts.by_channel
        named = [channel for channel in self.services.channels if requests[channel.name]] or self.services.channels[:1]
        return [
            Delivered(
                *channel.noun,
                requests[channel.name],
                by_channel[channel.name][PushResult.ACCEPTED] if channel.name in by_channel else 0,
            )
            for channel in named
        ]

    def result(self, now: datetime, unserved: int = 0) -> RunResult:
        """Sum up what this run did, and record it in telemetry."""
        stopped_by = self.stopped_by
        closed = [sender.stopped_by for sender in self.pusher.senders.values()]  # the other channels went on
        result = RunResult(
            now,
            counts=self.counts,
            trouble=stopped_by,
            stopped_early=self.trouble is not None or stopped_by not in (None, self.verifier_fault, *closed),
            defects=self.defects,
            llm_calls=sum(llm.calls for llm in self.services.llms),
            tokens_used=sum(llm.tokens for llm in self.services.llms),
            unserved=unserved,
            open_hours=self.open_hours,
            deliveries=self.deliveries,
            documents_read=self.services.store.reads,
            documents_written=self.services.store.writes,
        )
        self.services.telemetry.record_run(result.as_event())
        return result


@dataclass(slots=True)
class RunResult:
    """What one run did. `idle`: Redis showed nothing to claim."""

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
    open_hours: list[OpenHour] = field(default_factory=list)  # due hours that it could not claim
    deliveries: list[Delivered] = field(default_factory=list)
    lateness: timedelta = timedelta(0)  # of the last to get a recap, after their hour or the installation
    hint: str = ""  # of --user: why there is no new recap, or where to look

    @property
    def free_at(self) -> datetime | None:
        """When the last hour or user that a claim holds is free, or due again; None if none does."""
        times = [self.counts.free_at, *(hour.until for hour in self.open_hours)]
        return max(filter(None, times), default=None)

    def as_event(self) -> dict[str, Any]:
        """The fields of `tick.finished`: flat numbers, and the skips by reason."""
        not_flat = ("now", "counts", "trouble", "unserved", "open_hours", "deliveries", "lateness", "hint")
        flat = {figure.name: getattr(self, figure.name) for figure in fields(self) if figure.name not in not_flat}
        shards = {
            "unserved_shards": self.unserved,
            "held_shards": sum(1 for hour in self.open_hours if hour.renewed_at),
        }
        return {**self.counts.as_event(), **flat, **shards, "trouble": str(self.trouble or "")}
