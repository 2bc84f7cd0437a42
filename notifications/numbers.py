"""PROTOCOL section 8: every number, with its unit in its name, and which may not contradict each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta

from notifications.domain.claim import MAX_LEASE_MS
from notifications.domain.errors import ConfigFault

MAX_LEASE_SECONDS = MAX_LEASE_MS / 1000


def _number(default: float, least: float = 0.0) -> float:
    return field(default=type(least)(default), metadata={"least": least})


def _or_none(default: float) -> float:
    return field(default=default, metadata={"least": 0.0, "zero": True})


def _count(default: int, least: int = 1) -> int:
    return field(default=type(least)(default), metadata={"least": least})


@dataclass(frozen=True, slots=True)
class Numbers:
    """PROTOCOL section 8. Each is RECAP_ and its name in capitals in the environment."""

    user_deadline_seconds: float = _number(480)
    user_lease_seconds: float = _number(600)
    push_deadline_seconds: float = _number(30)
    store_timeout_seconds: float = _number(60)
    sending_stale_seconds: float = _number(120)
    shard_lease_seconds: float = _number(180)
    shard_renew_seconds: float = _number(30)
    shard_retry_min_seconds: float = _number(60)
    shard_retry_max_seconds: float = _number(300)
    item_retry_seconds: float = _number(60)
    provider_retry_seconds: float = _number(60)
    catch_up_seconds: float = _number(7200)
    grace_seconds: float = _number(1200)
    watchdog_seconds: float = _number(90)
    redis_timeout_seconds: float = _number(2)
    stop_push_seconds: float = _number(5)
    start_gap_seconds: float = _number(0.004)
    spread_seconds: float = _or_none(0.0)
    max_item_failures: int = _count(3)
    max_crashes: int = _count(4)
    max_pushes: int = _count(3)
    max_provider_failures: int = _count(10)
    concurrency: int = _count(64)
    push_rate: int = _count(10_000)
    shards: int = _count(1)
    shards_at_once: int = _count(8)
    page_size: int = _count(300)
    ledger_retention_days: int = _count(30)

    def __post_init__(self) -> None:
        for one in fields(self):
            value, least = getattr(self, one.name), one.metadata["least"]
            zero = value == 0.0 and least == 0.0 and not one.metadata.get("zero")
            if not least <= value < math.inf or zero:
                raise ConfigFault(f"{_variable(one.name)} is {value}; set it to {_at_least(least)}.")
        for fits, sentence in self._agreements():
            if not fits:
                raise ConfigFault(sentence)
        if self.shards > 62:
            raise ConfigFault(f"RECAP_SHARDS is {self.shards}; one character of a document id divides into 62 at most.")

    def _agreements(self) -> list[tuple[bool, str]]:
        rest = self.push_deadline_seconds + self.store_timeout_seconds
        return [
            (
                self.user_lease_seconds > self.user_deadline_seconds + rest,
                f"RECAP_USER_LEASE_SECONDS is {self.user_lease_seconds:g}; it must be over RECAP_USER_DEADLINE_SECONDS "
                f"+ RECAP_PUSH_DEADLINE_SECONDS + RECAP_STORE_TIMEOUT_SECONDS = {self.user_deadline_seconds + rest:g}, "
                "or a claim ends while its user is still being served.",
            ),
            (
                self.sending_stale_seconds > rest,
                f"RECAP_SENDING_STALE_SECONDS is {self.sending_stale_seconds:g}; it must be over "
                f"RECAP_PUSH_DEADLINE_SECONDS + RECAP_STORE_TIMEOUT_SECONDS = {rest:g}, "
                "or a live sender is taken for a dead one.",
            ),
            (
                max(self.user_lease_seconds, self.shard_lease_seconds) <= MAX_LEASE_SECONDS,
                f"RECAP_USER_LEASE_SECONDS and RECAP_SHARD_LEASE_SECONDS may be {MAX_LEASE_SECONDS:g} at most, "
                "since a longer lease reads as a clock that stepped back.",
            ),
            (
                self.shard_renew_seconds < self.shard_lease_seconds / 3,
                f"RECAP_SHARD_RENEW_SECONDS is {self.shard_renew_seconds:g}; it must be under a third of "
                f"RECAP_SHARD_LEASE_SECONDS = {self.shard_lease_seconds:g}, so that two lost renewals cost no shard.",
            ),
            (
                self.shard_retry_min_seconds <= self.shard_retry_max_seconds,
                "RECAP_SHARD_RETRY_MIN_SECONDS is over RECAP_SHARD_RETRY_MAX_SECONDS; swap them.",
            ),
            (
                self.spread_seconds <= self.catch_up_seconds / 2,
                f"RECAP_SPREAD_SECONDS is {self.spread_seconds:g}; it may be half of RECAP_CATCH_UP_SECONDS = "
                f"{self.catch_up_seconds:g} at most, so that a failure can still be made good.",
            ),
        ]

    def span(self, name: str) -> timedelta:
        """A duration by its name without the unit: span("user_lease")."""
        return timedelta(seconds=getattr(self, f"{name}_seconds"))


def _variable(name: str) -> str:
    return f"RECAP_{name.upper()}"


def _at_least(least: float) -> str:
    return "a number above 0" if least == 0.0 else f"a whole number from {least:g} on"


def numbers(env: Mapping[str, str]) -> Numbers:
    """The numbers that the environment changes. Raises ConfigFault: one sentence that names the variable."""
    given: dict[str, float | int] = {}
    for one in fields(Numbers):
        text = env.get(_variable(one.name))
        if text is None:
            continue
        whole = isinstance(one.default, int)
        try:
            given[one.name] = int(text) if whole else float(text)
        except ValueError:
            wish = _at_least(one.metadata["least"])
            raise ConfigFault(f"{_variable(one.name)} is {text!r}; set it to {wish}.") from None
    return Numbers(**given)  # type: ignore[arg-type]
