"""Every number (docs/protocol.md, section 8): its unit in its name, its least and most, and what may not contradict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING

from notifications.domain.claim import EXPIRY_AFTER_SLOT_MS, MAX_LEASE_MS
from notifications.domain.errors import ConfigFault
from notifications.domain.schedule import Rules
from notifications.domain.text import printable

if TYPE_CHECKING:  # an idle tick does without
    from notifications.domain.delivery import LedgerRules

MAX_LEASE_SECONDS = MAX_LEASE_MS / 1000
SEEN_SECONDS = EXPIRY_AFTER_SLOT_MS / 1000  # for how long after its slot a cohort is listed
AFTER_PUSHES_SECONDS = 5.0  # of the platform's last seconds: for the report, the claim and the shards
WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,20})?", re.ASCII)  # as many digits as a program prints


def _number(default: float, least: float, most: float) -> float:
    return field(default=float(default), metadata={"least": least, "most": most})


def _unset(least: float, most: float) -> float | None:
    return field(default=None, metadata={"least": least, "most": most})


def _count(default: int, least: int, most: int) -> int:
    return field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True, slots=True)
class Limits:
    """docs/protocol.md, section 8. Each is RECAP_ and its name in capitals in the environment."""

    user_deadline_seconds: float = _number(480, 1, 840)
    user_lease_seconds: float = _number(660, 1, MAX_LEASE_SECONDS)
    push_deadline_seconds: float = _number(30, 0.1, 120)
    store_timeout_seconds: float = _number(60, 0.1, 300)
    sending_stale_seconds: float = _number(120, 1, 900)
    shard_lease_seconds: float = _number(180, 1, MAX_LEASE_SECONDS)
    shard_renew_seconds: float = _number(30, 0.1, 300)
    shard_retry_min_seconds: float = _number(60, 0.001, 900)
    shard_retry_max_seconds: float = _number(300, 0.001, 1800)
    item_retry_seconds: float = _number(60, 0.001, 1800)
    provider_retry_seconds: float = _number(60, 0.001, 1800)
    push_retry_seconds: float = _number(60, 0.001, 1800)
    refused_retry_seconds: float = _number(1800, 0.001, 1800)
    catch_up_seconds: float = _number(7200, 1, SEEN_SECONDS)
    grace_seconds: float = _number(1200, 1, SEEN_SECONDS)
    sweep_seconds: float = _number(600, 0.001, 3600)
    watchdog_seconds: float = _number(90, 5, 3600)
    redis_timeout_seconds: float = _number(2, 0.05, 60)
    stop_seconds: float = _number(10, 6, 600)
    start_gap_seconds: float = _number(0.004, 0.0001, 1)
    look_back_hours: int = _count(24, 0, 48)
    min_words: int = _count(30, 0, 10_000)
    quiet_after_minutes: int = _count(30, 0, 1440)
    max_prompt_tokens: int = _count(60_000, 1_000, 2_000_000)
    max_parts: int = _count(12, 1, 50)
    daily_budget_usd: float | None = _unset(0.000001, 1_000_000)
    price_in_usd_per_mtok: float | None = _unset(0, 10_000)
    price_out_usd_per_mtok: float | None = _unset(0, 10_000)
    max_item_failures: int = _count(3, 1, 100)
    max_crashes: int = _count(4, 1, 100)
    max_pushes: int = _count(3, 1, 20)
    max_provider_failures: int = _count(10, 1, 1000)
    concurrency: int = _count(128, 1, 2000)
    shards: int = _count(1, 1, 62)
    shards_at_once: int = _count(8, 1, 62)
    page_size: int = _count(300, 1, 1000)
    ledger_retention_days: int = _count(30, 1, 3650)

    def __post_init__(self) -> None:
        for one in fields(self):
            value, least, most = getattr(self, one.name), one.metadata["least"], one.metadata["most"]
            if value is not None and not least <= value <= most:
                raise ConfigFault(f"{_variable(one.name)} is {value:.12g}; set it to {_wish(one)}.")
        for fits, sentence in self._agreements():
            if not fits:
                raise ConfigFault(sentence)

    @property
    def stop_push_seconds(self) -> float:
        """How long a push may still take once the run is told to stop."""
        return self.stop_seconds - AFTER_PUSHES_SECONDS

    @property
    def rules(self) -> Rules:
        """How long a slot is served."""
        return Rules(self.span("catch_up"), self.span("grace"))

    @property
    def look_back(self) -> timedelta:
        """How long before the last recap's slot a conversation may have begun that could not be read then."""
        return timedelta(hours=self.look_back_hours)

    @property
    def ledger_rules(self) -> LedgerRules:
        """The numbers that a ledger's transitions need."""
        from notifications.domain.delivery import LedgerRules

        return LedgerRules(self.span("sending_stale"), self.max_pushes, timedelta(days=self.ledger_retention_days))

    def _agreements(self) -> list[tuple[bool, str]]:
        sending = self.push_deadline_seconds + self.store_timeout_seconds
        whole_turn = self.user_deadline_seconds + sending + self.store_timeout_seconds
        served = self.catch_up_seconds + self.grace_seconds
        return [
            (
                self.user_lease_seconds > whole_turn,
                f"RECAP_USER_LEASE_SECONDS is {self.user_lease_seconds:.12g}; it must be over "
                "RECAP_USER_DEADLINE_SECONDS + RECAP_PUSH_DEADLINE_SECONDS + 2 x RECAP_STORE_TIMEOUT_SECONDS "
                f"= {whole_turn:.12g}, or a claim ends while its user is still being served.",
            ),
            (
                self.sending_stale_seconds > sending,
                f"RECAP_SENDING_STALE_SECONDS is {self.sending_stale_seconds:.12g}; it must be over "
                f"RECAP_PUSH_DEADLINE_SECONDS + RECAP_STORE_TIMEOUT_SECONDS = {sending:.12g}, "
                "or a live sender is taken for a dead one.",
            ),
            (
                self.shard_renew_seconds < self.shard_lease_seconds / 3,
                f"RECAP_SHARD_RENEW_SECONDS is {self.shard_renew_seconds:.12g}; it must be under a third of "
                f"RECAP_SHARD_LEASE_SECONDS = {self.shard_lease_seconds:.12g}, "
                "so that two lost renewals cost no shard.",
            ),
            (
                self.shard_retry_min_seconds <= self.shard_retry_max_seconds,
                "RECAP_SHARD_RETRY_MIN_SECONDS is over RECAP_SHARD_RETRY_MAX_SECONDS; swap them.",
            ),
            (
                served <= SEEN_SECONDS - self.shard_retry_max_seconds,
                f"RECAP_CATCH_UP_SECONDS + RECAP_GRACE_SECONDS is {served:.12g}; it may be {SEEN_SECONDS:.12g} - "
                f"RECAP_SHARD_RETRY_MAX_SECONDS = {SEEN_SECONDS - self.shard_retry_max_seconds:.12g} at most, "
                "since a slot is seen for three hours.",
            ),
            (
                (self.price_in_usd_per_mtok is None) == (self.price_out_usd_per_mtok is None),
                "RECAP_PRICE_IN_USD_PER_MTOK and RECAP_PRICE_OUT_USD_PER_MTOK go together; set both, or neither.",
            ),
        ]

    def span(self, name: str) -> timedelta:
        """A duration by its name without the unit: span("user_lease")."""
        return timedelta(seconds=getattr(self, f"{name}_seconds"))


def _variable(name: str) -> str:
    return f"RECAP_{name.upper()}"


def _wish(one: object) -> str:
    metadata, default = one.metadata, one.default  # type: ignore[attr-defined]
    kind = "a whole number" if isinstance(default, int) else "a number"
    return f"{kind} from {metadata['least']:g} to {metadata['most']:g}"


def limits(env: Mapping[str, str]) -> Limits:
    """The numbers that the environment changes. Raises ConfigFault: one sentence that names the variable."""
    given: dict[str, float | int] = {}
    for one in fields(Limits):
        text = env.get(_variable(one.name))
        if text is None:
            continue
        whole = isinstance(one.default, int)
        if not (WHOLE if whole else DECIMAL).fullmatch(text):
            raise ConfigFault(f"{_variable(one.name)} is {printable(text, 40)!r}; set it to {_wish(one)}.")
        given[one.name] = int(text) if whole else float(text)
    return Limits(**given)  # type: ignore[arg-type]
