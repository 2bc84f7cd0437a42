"""Whether Redis' clock, which decides what is due, is right: the store's judges it, this machine's is a witness."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from notifications.ports import Claims, Clock, Store

MAX_CLOCK_SKEW = timedelta(minutes=5)  # more than clocks that are kept right ever differ; less than any wait


def host_clock() -> datetime:
    """This machine's clock. It judges nothing."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class RedisTime:
    """A reading of Redis' clock, and the readings of the parts' clock before and after it, in seconds."""

    redis: datetime
    before: float
    after: float

    def at(self, seconds: float) -> datetime:
        """What Redis' clock should show at a later reading of the parts' clock."""
        return self.redis + timedelta(seconds=seconds - self.before)

    def jumped(self, redis: datetime, before: float, after: float) -> timedelta:
        """By how much more, or less, Redis' clock has moved than the parts' clock; nothing within five minutes.

        `before` and `after`: the parts' clock when Redis was asked, and when it had answered. A process may be frozen
        at any point between.
        """
        moved = redis - self.redis
        least, most = timedelta(seconds=before - self.after), timedelta(seconds=after - self.before)
        off = min(moved - least, timedelta(0)) or max(moved - most, timedelta(0))
        return off if abs(off) > MAX_CLOCK_SKEW else timedelta(0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Redis' clock and the store's, read one after the other."""

    time: RedisTime
    ahead: timedelta  # Redis' of the store's; negative: behind
    read_in: timedelta

    @property
    def apart(self) -> bool:
        """Whether one of them is wrong, whatever passed between the two readings."""
        return not -MAX_CLOCK_SKEW <= self.ahead <= MAX_CLOCK_SKEW + self.read_in


async def compare_clocks(claims: Claims, store: Store, clock: Clock) -> Comparison:
    """Ask the store, then Redis. Raises StoreDown or ClaimsDown."""
    begun = clock.seconds()
    stores = await store.now()
    time = await read_redis_time(claims, clock)
    return Comparison(time, time.redis - stores, timedelta(seconds=time.after - begun))


async def read_redis_time(claims: Claims, clock: Clock) -> RedisTime:
    """Redis' clock, beside the parts' own. Raises ClaimsDown."""
    before = clock.seconds()
    return RedisTime(await claims.now(), before, clock.seconds())


def disagreement(ahead: timedelta, host_ahead: timedelta | None) -> str:
    """A sentence on Redis' clock, and on this machine's where that is wrong too; both as against the store's."""
    sentence = f"Redis' clock is {off_by(ahead)} the store's"
    if host_ahead is not None and abs(host_ahead) > MAX_CLOCK_SKEW:
        together = abs(host_ahead - ahead) <= MAX_CLOCK_SKEW
        sentence += ", and so is this machine's" if together else f", and this machine's {off_by(host_ahead)} it"
    return f"{sentence}; set the wrong clock right (NTP), nothing is claimed until they agree within 5 minutes."


def redis_jumped(off: timedelta) -> str:
    """A sentence on a clock that moves during a run."""
    return f"Redis' clock has jumped, and is {off_by(off)} where it was; set it right (NTP), nothing more is claimed."


def host_is_wrong(host_ahead: timedelta) -> str:
    """A sentence on this machine's clock, where Redis' and the store's agree. Empty where all do."""
    if abs(host_ahead) <= MAX_CLOCK_SKEW:
        return ""
    return f"This machine's clock is {off_by(host_ahead)} the store's and Redis'; set it right (NTP)."


def off_by(span: timedelta) -> str:
    """How far, and in which direction."""
    minutes = round(abs(span).total_seconds() / 60)
    distance = f"{minutes // 1440} days" if minutes >= 2880 else f"{minutes // 60} h {minutes % 60} min"
    return f"{distance} {'ahead of' if span > timedelta(0) else 'behind'}"
