"""Every numeric setting (docs/protocol.md, section 8): default, minimum, maximum, and which may not contradict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from notifications.domain.claim import EXPIRY_AFTER_SLOT_MS, MAX_LEASE_MS
from notifications.domain.errors import ConfigFault
from notifications.domain.schedule import Rules
from notifications.domain.text import printable

if TYPE_CHECKING:  # an idle tick does not need it
    from notifications.domain.delivery import LedgerRules

MAX_LEASE_SECONDS = MAX_LEASE_MS / 1000
SEEN_SECONDS = EXPIRY_AFTER_SLOT_MS / 1000  # how long after its slot a cohort is listed
AFTER_PUSHES_SECONDS = 5.0  # of RECAP_STOP_SECONDS: for storing the results, and for ending the claims
T = TypeVar("T")
WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,20})?", re.ASCII)  # up to as many digits as programs print


def _limit(default: T, least: float, most: float) -> T:
    return field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True, slots=True)
class Limits:
    """The numeric settings. In the environment each is RECAP_ and its name in capitals."""

    user_deadline_seconds: float = _limit(480.0, 1, 840)
    user_lease_seconds: float = _limit(660.0, 1, MAX_LEASE_SECONDS)
    push_deadline_seconds: float = _limit(30.0, 0.1, 120)
    store_timeout_seconds: float = _limit(60.0, 0.1, 300)
    sending_stale_seconds: float = _limit(120.0, 1, 900)
    shard_lease_seconds: float = _limit(180.0, 1, MAX_LEASE_SECONDS)
    shard_renew_seconds: float = _limit(30.0, 0.1, 300)
    shard_retry_min_seconds: float = _limit(60.0, 0.001, 900)
    shard_retry_max_seconds: float = _limit(300.0, 0.001, 1800)
    item_retry_seconds: float = _limit(60.0, 0.001, 1800)
    provider_retry_seconds: float = _limit(60.0, 0.001, 1800)
    push_retry_seconds: float = _limit(60.0, 0.001, 1800)
    refused_retry_seconds: float = _limit(1800.0, 0.001, 1800)
    catch_up_seconds: float = _limit(7200.0, 1, SEEN_SECONDS)
    grace_seconds: float = _limit(1200.0, 1, SEEN_SECONDS)
    sweep_seconds: float = _limit(600.0, 0.001, 3600)
    watchdog_seconds: float = _limit(90.0, 5, 3600)
    redis_timeout_seconds: float = _limit(2.0, 0.05, 60)
    stop_seconds: float = _limit(10.0, 6, 600)
    start_gap_seconds: float = _limit(0.004, 0.0001, 1)
    look_back_hours: int = _limit(24, 0, 48)
    min_words: int = _limit(30, 0, 10_000)
    quiet_after_minutes: int = _limit(30, 0, 1440)
    max_prompt_tokens: int = _limit(60_000, 1_000, 2_000_000)
    max_parts: int = _limit(12, 1, 50)
    daily_budget_usd: float | None = _limit(None, 0.000001, 1_000_000)
    price_in_usd_per_mtok: float | None = _limit(None, 0, 10_000)
    price_out_usd_per_mtok: float | None = _limit(None, 0, 10_000)
    max_item_failures: int = _limit(3, 1, 100)
    max_crashes: int = _limit(4, 1, 100)
    max_pushes: int = _limit(3, 1, 20)
    max_provider_failures: int = _limit(10, 1, 1000)
    concurrency: int = _limit(128, 1, 2000)
    shards: int = _limit(1, 1, 62)
    shards_at_once: int = _limit(8, 1, 62)
    page_size: int = _limit(300, 1, 1000)
    ledger_retention_days: int = _limit(30, 1, 3650)

    def __post_init__(self) -> None:
        for limit in fields(self):
            value, least, most = getattr(self, limit.name), limit.metadata["least"], limit.metadata["most"]
            if value is not None and not least <= value <= most:
                raise ConfigFault(f"{_variable(limit.name)} is {value:.12g}; set it to {_wish(limit)}.")
        self._check_together()

    @property
    def stop_push_seconds(self) -> float:
        """How long a push may still take after the run was told to stop."""
        return self.stop_seconds - AFTER_PUSHES_SECONDS

    @property
    def rules(self) -> Rules:
        """How long a slot is served."""
        return Rules(self.duration("catch_up"), self.duration("grace"))

    @property
    def look_back(self) -> timedelta:
        """How long before the last recap's slot a conversation may have begun that could not be read at that slot."""
        return timedelta(hours=self.look_back_hours)

    @property
    def ledger_rules(self) -> LedgerRules:
        """The settings that a ledger's transitions need."""
        from notifications.domain.delivery import LedgerRules

        return LedgerRules(self.duration("sending_stale"), self.max_pushes, timedelta(days=self.ledger_retention_days))

    def _check_together(self) -> None:
        sending = self.push_deadline_seconds + self.store_timeout_seconds
        whole_turn = self.user_deadline_seconds + sending + self.store_timeout_seconds
        served, most_served = self.catch_up_seconds + self.grace_seconds, SEEN_SECONDS - self.shard_retry_max_seconds
        if self.user_lease_seconds <= whole_turn:
            raise ConfigFault(
                f"RECAP_USER_LEASE_SECONDS is {self.user_lease_seconds:.12g}; it must be over "
                "RECAP_USER_DEADLINE_SECONDS + RECAP_PUSH_DEADLINE_SECONDS + 2 x RECAP_STORE_TIMEOUT_SECONDS "
                f"= {whole_turn:.12g}, or a claim ends while its user is still being served."
            )
        if self.sending_stale_seconds <= sending:
            raise ConfigFault(
                f"RECAP_SENDING_STALE_SECONDS is {self.sending_stale_seconds:.12g}; it must be over "
                f"RECAP_PUSH_DEADLINE_SECONDS + RECAP_STORE_TIMEOUT_SECONDS = {sending:.12g}, "
                "or a live sender is taken for a dead one."
            )
        if self.shard_renew_seconds >= self.shard_lease_seconds / 3:
            raise ConfigFault(
                f"RECAP_SHARD_RENEW_SECONDS is {self.shard_renew_seconds:.12g}; it must be under a third of "
                f"RECAP_SHARD_LEASE_SECONDS = {self.shard_lease_seconds:.12g}, so that two lost renewals cost no shard."
            )
        if self.shard_retry_min_seconds > self.shard_retry_max_seconds:
            raise ConfigFault("RECAP_SHARD_RETRY_MIN_SECONDS is over RECAP_SHARD_RETRY_MAX_SECONDS; swap them.")
        if served > most_served:
            raise ConfigFault(
                f"RECAP_CATCH_UP_SECONDS + RECAP_GRACE_SECONDS is {served:.12g}; it may be {SEEN_SECONDS:.12g} - "
                f"RECAP_SHARD_RETRY_MAX_SECONDS = {most_served:.12g} at most, since a slot is seen for three hours."
            )
        if (self.price_in_usd_per_mtok is None) != (self.price_out_usd_per_mtok is None):
            names = "RECAP_PRICE_IN_USD_PER_MTOK and RECAP_PRICE_OUT_USD_PER_MTOK"
            raise ConfigFault(f"{names} go together; set both, or neither.")

    def duration(self, name: str) -> timedelta:
        """A duration by its name without the unit: duration("user_lease")."""
        return timedelta(seconds=getattr(self, f"{name}_seconds"))


def _variable(name: str) -> str:
    return f"RECAP_{name.upper()}"


def _is_whole(limit: Field[Any]) -> bool:
    return limit.type == "int"


def _wish(limit: Field[Any]) -> str:
    kind = "a whole number" if _is_whole(limit) else "a number"
    return f"{kind} from {limit.metadata['least']:g} to {limit.metadata['most']:g}"


def limits(env: Mapping[str, str]) -> Limits:
    """Read the numeric settings from the environment. Raises ConfigFault: one sentence that names the variable."""
    changes: dict[str, Any] = {}
    for limit in fields(Limits):
        text = env.get(_variable(limit.name))
        if text is None:
            continue
        number, form = (int, WHOLE) if _is_whole(limit) else (float, DECIMAL)
        if not form.fullmatch(text):
            raise ConfigFault(f"{_variable(limit.name)} is {printable(text, 40)!r}; set it to {_wish(limit)}.")
        changes[limit.name] = number(text)
    return Limits(**changes)
