"""Checks Redis' clock, which decides what is due, against the store's and this machine's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from notifications.ports import Claims, Clock, Store

MAX_CLOCK_SKEW = timedelta(minutes=5)  # more than synchronized clocks ever differ; less than any wait


def host_clock() -> datetime:
    """This machine's time. It alone never stops a run."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class RedisTime:
    """A reading of Redis' clock, and readings of the services' clock before and after it, in seconds."""

    redis: datetime
    before: float
    after: float

    def at(self, seconds: float) -> datetime:
        """What Redis' clock should show at a later reading of the services' clock."""
        return self.redis + timedelta(seconds=seconds - self.before)

    def jump(self, redis: datetime, before: float, after: float) -> timedelta:
        """How much further (or less far) Redis' clock has moved than the services' clock; zero within five minutes.

        `before` and `after`: the services' clock when Redis was asked, and when it had answered. The process may freeze
        at any point in between.
        """
        moved = redis - self.redis
        min_elapsed, max_elapsed = timedelta(seconds=before - self.after), timedelta(seconds=after - self.before)
        jump = min(moved - min_elapsed, timedelta(0)) or max(moved - max_elapsed, timedelta(0))
        return jump if abs(jump) > MAX_CLOCK_SKEW else timedelta(0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Redis' clock and the store's, read one after the other."""

    time: RedisTime
    ahead: timedelta  # how far Redis' clock is ahead of the store's; negative: behind
    read_in: timedelta  # how long the two readings took

    @property
    def is_one_wrong(self) -> bool:
        """Whether one of the clocks is wrong, even allowing for the time between the two readings."""
        return not -MAX_CLOCK_SKEW <= self.ahead <= MAX_CLOCK_SKEW + self.read_in


async def compare_clocks(claims: Claims, store: Store, clock: Clock) -> Comparison:
    """Ask the store, then Redis. Raises StoreDown or ClaimsDown."""
    started_at = clock.seconds()
    store_time = await store.now()
    time = await read_redis_time(claims, clock)
    return Comparison(time, time.redis - store_time, timedelta(seconds=time.after - started_at))


async def read_redis_time(claims: Claims, clock: Clock) -> RedisTime:
    """Read Redis' clock together with the services' clock. Raises ClaimsDown."""
    before = clock.seconds()
    return RedisTime(await claims.now(), before, clock.seconds())


def disagreement(ahead: timedelta, host_ahead: timedelta | None) -> str:
    """A sentence on Redis' clock, and on this machine's if that is wrong too; both compared with the store's."""
    sentence = f"Redis' clock is {off_by(ahead)} the store's"
    if host_ahead is not None and abs(host_ahead) > MAX_CLOCK_SKEW:
        together = abs(host_ahead - ahead) <= MAX_CLOCK_SKEW
        sentence += ", and so is this machine's" if together else f", and this machine's {off_by(host_ahead)} it"
    return f"{sentence}; set the wrong clock right (NTP), nothing is claimed until they agree within 5 minutes."


def redis_jumped(off: timedelta) -> str:
    """A sentence on Redis' clock if it jumps during a run."""
    return f"Redis' clock has jumped, and is {off_by(off)} where it was; set it right (NTP), nothing more is claimed."


def host_is_wrong(host_ahead: timedelta) -> str:
    """A sentence on this machine's clock if Redis' and the store's agree; empty if all three do."""
    if abs(host_ahead) <= MAX_CLOCK_SKEW:
        return ""
    return f"This machine's clock is {off_by(host_ahead)} the store's and Redis'; set it right (NTP)."


def off_by(span: timedelta) -> str:
    """How far, and in which direction."""
    minutes = round(abs(span).total_seconds() / 60)
    distance = f"{minutes // 1440} days" if minutes >= 2880 else f"{minutes // 60} h {minutes % 60} min"
    return f"{distance} {'ahead of' if span > timedelta(0) else 'behind'}"
