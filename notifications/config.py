"""Settings: from the environment, checked at the start, every number with its unit in its name."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from notifications.domain.claim import MAX_LEASE_MS
from notifications.domain.errors import ConfigFault

MAX_LEASE_SECONDS = MAX_LEASE_MS / 1000
ON_A_PLATFORM = ("CLOUD_RUN_JOB", "K_SERVICE", "KUBERNETES_SERVICE_HOST")


def _number(default: float, least: float = 0.0) -> float:
    return field(default=type(least)(default), metadata={"least": least})


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
    ramp_up_seconds: float = _number(2)
    max_item_failures: int = _count(3)
    max_crashes: int = _count(4)
    max_pushes: int = _count(3)
    max_provider_failures: int = _count(10)
    concurrency: int = _count(64)
    shards: int = _count(1)
    shards_at_once: int = _count(8)
    page_size: int = _count(300)
    ledger_retention_days: int = _count(30)

    def __post_init__(self) -> None:
        for one in fields(self):
            value, least = getattr(self, one.name), one.metadata["least"]
            if not least <= value < math.inf or (least == 0.0 and value == 0.0):
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
        ]

    def span(self, name: str) -> timedelta:
        """A duration by its name without the unit: span("user_lease")."""
        return timedelta(seconds=getattr(self, f"{name}_seconds"))


@dataclass(frozen=True)
class Settings:
    """Where everything is, and the numbers."""

    numbers: Numbers = field(default_factory=Numbers)
    redis_url: str | None = field(default=None, repr=False)
    project: str | None = None
    firestore_emulator: str | None = None
    openai_key: str | None = field(default=None, repr=False)
    openai_base_url: str | None = None
    openai_model: str = "gpt-5-mini"
    fcm_base_url: str = "https://fcm.googleapis.com"
    credentials_file: str | None = None
    task_index: int = 0
    task_count: int = 1
    data_dir: Path = Path(".recap")
    log_format: str = "auto"
    on_platform: bool = False

    @property
    def firestore(self) -> bool:
        """Whether users live in Firestore; else in the data folder's SQLite."""
        return self.project is not None

    @property
    def openai(self) -> bool:
        """Whether an LLM is asked; else the offline summarizer."""
        return self.openai_key is not None or self.openai_base_url is not None

    @property
    def fcm_is_loopback(self) -> bool:
        """An http:// loopback address needs no credentials."""
        parts = urlsplit(self.fcm_base_url)
        return parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")

    @property
    def fcm(self) -> bool:
        """Whether pushes go to FCM; else into the data folder's outbox."""
        return (
            self.fcm_is_loopback or (self.firestore and self.firestore_emulator is None) or bool(self.credentials_file)
        )

    @property
    def store_is_local(self) -> bool:
        """Whether a pretended time may really send: only away from a real project's store."""
        return not self.firestore or self.firestore_emulator is not None


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment. Raises ConfigFault: one sentence that names the variable."""
    env = {name: value.strip() for name, value in (os.environ if environ is None else environ).items() if value.strip()}
    settings = Settings(
        numbers=_numbers(env),
        redis_url=_redis_url(env.get("REDIS_URL")),
        project=env.get("GOOGLE_CLOUD_PROJECT"),
        firestore_emulator=env.get("FIRESTORE_EMULATOR_HOST"),
        openai_key=env.get("OPENAI_API_KEY"),
        openai_base_url=_http_url("OPENAI_BASE_URL", env.get("OPENAI_BASE_URL")),
        openai_model=env.get("OPENAI_MODEL", Settings.openai_model),
        fcm_base_url=_http_url("FCM_BASE_URL", env.get("FCM_BASE_URL")) or Settings.fcm_base_url,
        credentials_file=env.get("GOOGLE_APPLICATION_CREDENTIALS"),
        task_index=_whole(
            "CLOUD_RUN_TASK_INDEX", env.get("CLOUD_RUN_TASK_INDEX", env.get("JOB_COMPLETION_INDEX", "0"))
        ),
        task_count=_whole("CLOUD_RUN_TASK_COUNT", env.get("CLOUD_RUN_TASK_COUNT", "1"), least=1),
        data_dir=Path(env.get("RECAP_DATA_DIR", ".recap")),
        log_format=_one_of("RECAP_LOG_FORMAT", env.get("RECAP_LOG_FORMAT", "auto"), ("auto", "json", "console")),
        on_platform=any(name in env for name in ON_A_PLATFORM),
    )
    _require_what_belongs_together(settings)
    return settings


def _require_what_belongs_together(settings: Settings) -> None:
    if settings.firestore_emulator and not settings.project:
        raise ConfigFault("FIRESTORE_EMULATOR_HOST is set without GOOGLE_CLOUD_PROJECT; set both, any name will do.")
    if not settings.on_platform:
        return
    missing = [
        name
        for name, there in (
            ("REDIS_URL", settings.redis_url),
            ("GOOGLE_CLOUD_PROJECT", settings.project),
            ("OPENAI_API_KEY or OPENAI_BASE_URL", settings.openai),
        )
        if not there
    ]
    if missing:
        raise ConfigFault(
            f"{', '.join(missing)} must be set on Cloud Run or Kubernetes, where nothing falls back to this machine."
        )
    if not settings.fcm:
        raise ConfigFault("FCM_BASE_URL or GOOGLE_APPLICATION_CREDENTIALS must be set to push from beside an emulator.")


def _variable(name: str) -> str:
    return f"RECAP_{name.upper()}"


def _at_least(least: float) -> str:
    return "a number above 0" if least == 0.0 else f"a whole number from {least:g} on"


def _numbers(env: Mapping[str, str]) -> Numbers:
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


def _whole(name: str, text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ConfigFault(f"{name} is {text!r}; set it to a whole number from {least} on.")
    return int(text)


def _one_of(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ConfigFault(f"{name} is {text!r}; set it to one of {', '.join(choices)}.")
    return text


def _redis_url(url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("redis", "rediss", "unix") and (parts.hostname or parts.path) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ConfigFault("REDIS_URL is malformed; write redis://host:6379/0, rediss://… for TLS, or unix:///path.")
    return url


def _http_url(name: str, url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ConfigFault(f"{name} is malformed; write https://host or http://host:port.")
    return url.rstrip("/")
