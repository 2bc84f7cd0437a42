"""Settings from the environment: addresses, keys, choices and limits, checked together at the start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from notifications.domain.errors import ConfigFault
from notifications.domain.text import LOOPBACK, is_loopback
from notifications.limits import Limits, limits
from notifications.variables import (
    DEFAULT_DATABASE,
    Variables,
    database,
    email_from,
    key_prefix,
    redis_url,
    smtp_url,
    style,
)

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
TIERS = ("auto", "default", "flex", "priority")
CHANNELS = ("fcm", "webhook", "email")
MIN_SECRET_LENGTH = 32
ON_A_PLATFORM = ("CLOUD_RUN_JOB", "K_SERVICE", "KUBERNETES_SERVICE_HOST")


@dataclass(frozen=True)
class Settings:
    """All settings, with the limits."""

    limits: Limits = field(default_factory=Limits)
    redis_url: str | None = field(default=None, repr=False)
    key_prefix: str = ""  # before every key in Redis
    project: str | None = None
    firestore_emulator: str | None = None
    firestore_database: str = DEFAULT_DATABASE
    openai_key: str | None = field(default=None, repr=False)
    openai_base_url: str | None = None
    openai_model: str = "gpt-6-luna"
    verify_model: str | None = None  # the model of the second look; None: the same as openai_model
    verify: bool = True
    style: str = ""  # the operator's instruction for every recap
    reasoning_effort: str | None = None
    service_tier: str | None = None
    summarizer: str = "auto"
    fallback: str = "extract"
    push_text: str = "recap"  # what a push shows: recap, headline or none
    layout: Path | None = None  # of the app's documents; None: that of docs/documents.md
    store: str = "auto"  # sqlite: users in the data folder, also on a platform
    fcm_base_url: str = "https://fcm.googleapis.com"
    credentials_file: str | None = None
    named_channels: tuple[str, ...] = ()  # of RECAP_CHANNELS; empty: those that are set
    webhook_url: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    smtp_url: str | None = field(default=None, repr=False)  # set: recaps also go out by mail
    email_from: str = ""  # an address, or `name <address>`
    unsubscribe_url: str = ""
    unsubscribe_secret: str = field(default="", repr=False)
    task_index: int = 0
    task_count: int = 1
    data_dir: Path = Path(".recap")
    log_format: str = "auto"
    heartbeat_url: str | None = field(default=None, repr=False)  # secret: whoever knows it can report that all is well
    telemetry: bool = False  # metrics and traces by OTLP; OpenTelemetry itself reads the other OTEL_… variables
    on_platform: bool = False

    @property
    def firestore(self) -> bool:
        """Whether users live in Firestore; else in the data folder's SQLite."""
        return self.project is not None

    @property
    def openai(self) -> bool:
        """Whether an LLM writes the recaps; if not, they are extracts."""
        return self.summarizer != "extract" and (self.openai_key is not None or self.openai_base_url is not None)

    @property
    def fcm_is_loopback(self) -> bool:
        """Whether FCM_BASE_URL is on this machine: an http:// loopback address needs no credentials."""
        return is_loopback(self.fcm_base_url)

    @property
    def fcm(self) -> bool:
        """Whether pushes go to FCM, which comes with a project; if not, into the data folder's outbox."""
        real = self.firestore_emulator is None or bool(self.credentials_file)
        return self.fcm_is_loopback or (self.firestore and real)

    @property
    def store_is_local(self) -> bool:
        """Whether the store is local or an emulator's. Only then may `--now` really send."""
        return not self.firestore or self.firestore_emulator is not None

    @property
    def _chosen(self) -> dict[str, str | None]:
        """The channels besides FCM that RECAP_CHANNELS names, else those that have a server; and their servers."""
        servers = {"webhook": self.webhook_url, "email": self.smtp_url}
        named = self.named_channels or [name for name, server in servers.items() if server]
        return {name: server for name, server in servers.items() if name in named}

    def channels(self, *, pretends_time: bool) -> tuple[str, ...]:
        """The channels in use, in their order; never none. The outbox stands in for FCM where that is not set.

        `pretends_time`: with `--now`. See `may_reach_out` for channels to other machines.
        """
        found = ["fcm" if self.fcm else "outbox"] if "fcm" in (self.named_channels or CHANNELS) else []
        for name, server in self._chosen.items():
            is_here = server is not None and urlsplit(server).hostname in LOOPBACK
            if is_here or self.may_reach_out(name, pretends_time=pretends_time):
                found.append(name)
        return tuple(found) or ("outbox",)

    def withheld(self, *, pretends_time: bool) -> dict[str, str]:
        """The channels that are set, and still not used; and why."""
        used = self.channels(pretends_time=pretends_time)
        unused = [name for name, server in self._chosen.items() if server and name not in used]
        return {name: self._kept_here(name, pretends_time=pretends_time) for name in unused}

    def why_unused(self, channel: str, *, pretends_time: bool) -> str:
        """Why a channel that is not in use sends nothing, also to an address in a user's own document."""
        if channel == "email" and self.smtp_url is None:
            return "it is not set here: set RECAP_SMTP_URL (docs/email.md)"
        if self.named_channels and channel not in self.named_channels:
            return f"RECAP_CHANNELS leaves it out: set {self._naming(channel)}"
        return self._kept_here(channel, pretends_time=pretends_time)

    def _kept_here(self, channel: str, *, pretends_time: bool) -> str:
        named = f"set {self._naming(channel)}, for users that are local"
        return f"a channel to another machine: {'it is never used with --now' if pretends_time else named}"

    def _naming(self, channel: str) -> str:
        """RECAP_CHANNELS with this channel beside those that are named, or else set."""
        names = {channel, *(self.named_channels or ("fcm", *self._chosen))}
        return f"RECAP_CHANNELS={','.join(name for name in CHANNELS if name in names)}"

    def may_reach_out(self, channel: str, *, pretends_time: bool) -> bool:
        """Whether a channel may reach other machines, as those that users chose: from a local store only if named."""
        return not pretends_time and (channel in self.named_channels or not self.store_is_local)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment. Raises ConfigFault: one sentence that names the variable."""
    values = os.environ if environ is None else environ
    env = Variables({name: value.strip() for name, value in values.items() if value.strip()})
    env.reject_unknown_names()
    env.reject_quotes()
    settings = Settings(
        limits=limits(env),
        redis_url=redis_url(env.get("REDIS_URL")),
        key_prefix=key_prefix(env.get("RECAP_KEY_PREFIX", "")),
        project=env.header("GOOGLE_CLOUD_PROJECT"),
        firestore_emulator=env.header("FIRESTORE_EMULATOR_HOST"),
        firestore_database=database(env.get("FIRESTORE_DATABASE", DEFAULT_DATABASE)),
        openai_key=env.header("OPENAI_API_KEY"),
        openai_base_url=env.http_url("OPENAI_BASE_URL"),
        openai_model=env.header("OPENAI_MODEL") or Settings.openai_model,
        verify_model=env.header("OPENAI_VERIFY_MODEL"),
        verify=env.choice("RECAP_VERIFY", ("on", "off")) != "off",
        style=style(env.get("RECAP_STYLE", "")),
        reasoning_effort=env.choice("OPENAI_REASONING_EFFORT", EFFORTS),
        service_tier=env.choice("OPENAI_SERVICE_TIER", TIERS),
        fallback=env.choice("RECAP_FALLBACK", ("extract", "none")) or Settings.fallback,
        push_text=env.choice("RECAP_PUSH_TEXT", ("recap", "headline", "none")) or Settings.push_text,
        summarizer=env.choice("RECAP_SUMMARIZER", ("auto", "extract")) or Settings.summarizer,
        store=env.choice("RECAP_STORE", ("auto", "sqlite")) or Settings.store,
        layout=Path(env["RECAP_LAYOUT"]) if "RECAP_LAYOUT" in env else None,
        fcm_base_url=env.http_url("FCM_BASE_URL") or Settings.fcm_base_url,
        credentials_file=env.get("GOOGLE_APPLICATION_CREDENTIALS"),
        named_channels=env.names("RECAP_CHANNELS", CHANNELS),
        webhook_url=env.get("RECAP_WEBHOOK_URL") if env.http_url("RECAP_WEBHOOK_URL") else None,
        webhook_secret=env.get("RECAP_WEBHOOK_SECRET"),
        smtp_url=smtp_url(env.header("RECAP_SMTP_URL")),
        email_from=email_from(env.get("RECAP_EMAIL_FROM", "")),
        unsubscribe_url=env["RECAP_UNSUBSCRIBE_URL"] if env.http_url("RECAP_UNSUBSCRIBE_URL") else "",
        unsubscribe_secret=env.header("RECAP_UNSUBSCRIBE_SECRET") or "",
        task_index=env.whole("CLOUD_RUN_TASK_INDEX", default=env.get("JOB_COMPLETION_INDEX", "0")),
        task_count=env.whole("CLOUD_RUN_TASK_COUNT", default="1", minimum=1),
        data_dir=Path(env.get("RECAP_DATA_DIR", ".recap")),
        log_format=env.choice("RECAP_LOG_FORMAT", ("auto", "json", "console")) or Settings.log_format,
        heartbeat_url=env.http_url("RECAP_HEARTBEAT_URL"),
        telemetry=env.http_url("OTEL_EXPORTER_OTLP_ENDPOINT") is not None,
        on_platform=is_on_platform(env),
    )
    _check_together(settings)
    _check_email(settings)
    return settings


def is_on_platform(env: Mapping[str, str]) -> bool:
    """Whether the job runs on Cloud Run or Kubernetes, where stdout and stderr go to one log."""
    return any(name in env for name in ON_A_PLATFORM)


def _check_together(settings: Settings) -> None:
    if settings.firestore_emulator and not settings.project:
        raise ConfigFault("FIRESTORE_EMULATOR_HOST is set without GOOGLE_CLOUD_PROJECT; set both, any name will do.")
    if settings.firestore_database != DEFAULT_DATABASE and not settings.project:
        raise ConfigFault("FIRESTORE_DATABASE is set without GOOGLE_CLOUD_PROJECT; set the project that it is in.")
    if settings.store == "sqlite" and settings.project:
        raise ConfigFault("RECAP_STORE=sqlite and GOOGLE_CLOUD_PROJECT are both set; unset the one that is not meant.")
    if settings.verify_model and not settings.verify:
        raise ConfigFault("OPENAI_VERIFY_MODEL is set with RECAP_VERIFY=off; unset the one that is not meant.")
    if settings.task_index >= settings.task_count:
        raise ConfigFault(
            f"CLOUD_RUN_TASK_INDEX is {settings.task_index} of CLOUD_RUN_TASK_COUNT = {settings.task_count}; "
            "the first index is 0."
        )
    _check_encrypted("FCM_BASE_URL", settings.fcm_base_url)
    if settings.fcm_base_url != Settings.fcm_base_url and not settings.fcm:
        raise ConfigFault("FCM_BASE_URL is set without GOOGLE_CLOUD_PROJECT; set the project whose devices these are.")
    if (settings.webhook_url is None) is not (settings.webhook_secret is None):
        raise ConfigFault("Of RECAP_WEBHOOK_URL and RECAP_WEBHOOK_SECRET one is set; set both, or neither.")
    _check_encrypted("RECAP_WEBHOOK_URL", settings.webhook_url or "")
    if "email" in settings.named_channels and settings.smtp_url is None:
        raise ConfigFault("RECAP_CHANNELS names email, and RECAP_SMTP_URL is not set; set the relay, or leave it out.")
    mail_is_left_out = settings.smtp_url is not None and "email" not in settings.named_channels
    if "webhook" in settings.named_channels and settings.webhook_url is None and mail_is_left_out:
        meant = ",".join("email" if name == "webhook" else name for name in settings.named_channels)
        raise ConfigFault(
            "RECAP_CHANNELS names webhook, and RECAP_WEBHOOK_URL is not set, while mail is set and not named; set "
            f"RECAP_CHANNELS={meant}, or {','.join(settings.named_channels)},email where users have webhooks "
            "of their own."
        )
    real = settings.firestore and settings.firestore_emulator is None
    if not real and not settings.on_platform:
        return
    place = "on Cloud Run or Kubernetes" if settings.on_platform else "with a real GOOGLE_CLOUD_PROJECT"
    project = "GOOGLE_CLOUD_PROJECT (or RECAP_STORE=sqlite, for users in the data folder)"
    llm = "OPENAI_API_KEY or OPENAI_BASE_URL (or RECAP_SUMMARIZER=extract, for recaps without an LLM)"
    required = {
        "REDIS_URL": settings.redis_url,
        project: settings.project or settings.store == "sqlite",
        llm: settings.openai or settings.summarizer == "extract",
    }
    if missing := [names for names, is_set in required.items() if not is_set]:
        raise ConfigFault(f"{', '.join(missing)} must be set {place}, where nothing falls back to this machine.")
    if settings.firestore and not settings.fcm:
        raise ConfigFault("FCM_BASE_URL or GOOGLE_APPLICATION_CREDENTIALS must be set to push from beside an emulator.")


def _check_encrypted(name: str, url: str, why: str = "where others can read along") -> None:
    """An http:// address may be on this machine alone."""
    if urlsplit(url).scheme == "http" and not is_loopback(url):
        raise ConfigFault(f"{name} is http:// to another machine, {why}; write https://.")


def _check_email(settings: Settings) -> None:
    needed = {
        "RECAP_SMTP_URL": settings.smtp_url,
        "RECAP_EMAIL_FROM": settings.email_from,
        "RECAP_UNSUBSCRIBE_URL": settings.unsubscribe_url,
        "RECAP_UNSUBSCRIBE_SECRET": settings.unsubscribe_secret,
    }
    missing = [name for name, value in needed.items() if not value]
    if 0 < len(missing) < len(needed):
        them = "that" if len(missing) == 1 else "them"
        raise ConfigFault(f"Mails also need {', '.join(missing)}; set {them} too (docs/email.md), or none of them.")
    _check_encrypted("RECAP_UNSUBSCRIBE_URL", settings.unsubscribe_url, "which mailboxes do not ask")
    if 0 < len(settings.unsubscribe_secret) < MIN_SECRET_LENGTH:
        raise ConfigFault(f"RECAP_UNSUBSCRIBE_SECRET is too short; make one of {MIN_SECRET_LENGTH} characters or more.")
