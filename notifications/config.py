"""Settings: where everything is, from the environment, checked at the start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from notifications.domain.errors import ConfigFault
from notifications.numbers import Numbers, numbers

ON_A_PLATFORM = ("CLOUD_RUN_JOB", "K_SERVICE", "KUBERNETES_SERVICE_HOST")


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
        numbers=numbers(env),
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
