"""Settings from the environment: addresses, keys, choices and limits, checked at the start."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from notifications.domain.errors import ConfigFault
from notifications.domain.text import LOOPBACK, clean, is_loopback, printable
from notifications.limits import WHOLE, Limits, limits

REDIS_OPTIONS = ("cluster",)
TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0")
REDIS_CHOICES = {  # the allowed values: the client would misread others, or fail on them
    "cluster": (*TRUE, *FALSE),
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": (*TRUE, *FALSE),
}
REDIS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
REDIS_TLS_OPTIONS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
DEFAULT_DATABASE = "(default)"
DATABASE = re.compile(r"[a-z][a-z0-9-]{2,61}[a-z0-9]", re.ASCII)  # as Firestore names them
KEY_PREFIX = re.compile(r"[A-Za-z0-9_:-]{0,64}", re.ASCII)
MAX_TASKS = 10_000
MAX_STYLE_LENGTH = 500  # characters of RECAP_STYLE
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
TIERS = ("auto", "default", "flex", "priority")
CHANNELS = ("fcm", "webhook", "email")
OTHER_RECAP_SETTINGS = (
    *("RECAP_DATA_DIR", "RECAP_LOG_FORMAT", "RECAP_SUMMARIZER", "RECAP_FALLBACK"),
    *("RECAP_HEARTBEAT_URL", "RECAP_STORE", "RECAP_PUSH_TEXT", "RECAP_KEY_PREFIX", "RECAP_STYLE", "RECAP_VERIFY"),
    *("RECAP_CHANNELS", "RECAP_WEBHOOK_URL", "RECAP_WEBHOOK_SECRET"),
)
OUR_PREFIXES = (  # of the variables that this job reads
    *("RECAP_", "OPENAI_", "REDIS_URL", "GOOGLE_", "FIRESTORE_", "FCM_", "GCE_METADATA_"),
    *("CLOUD_RUN_TASK_", "JOB_COMPLETION_INDEX", "OTEL_EXPORTER_OTLP_ENDPOINT", "SSL_CERT_", "SSLKEYLOGFILE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
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
    store: str = "auto"  # sqlite: users in the data folder, also on a platform
    fcm_base_url: str = "https://fcm.googleapis.com"
    credentials_file: str | None = None
    named_channels: tuple[str, ...] = ()  # of RECAP_CHANNELS; empty: those that are set
    webhook_url: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
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

    def channels(self, *, pretends_time: bool) -> tuple[str, ...]:
        """The channels in use, in their order; never none. The outbox stands in for FCM where that is not set.

        `pretends_time`: with `--now`. See `may_reach_out` for channels to other machines.
        """
        found = ["fcm" if self.fcm else "outbox"] if "fcm" in (self.named_channels or CHANNELS) else []
        for name, server in {"webhook": self.webhook_url}.items():
            is_chosen = name in self.named_channels or (not self.named_channels and server is not None)
            is_here = server is not None and urlsplit(server).hostname in LOOPBACK
            if is_chosen and (is_here or self.may_reach_out(name, pretends_time=pretends_time)):
                found.append(name)
        return tuple(found) or ("outbox",)

    def may_reach_out(self, channel: str, *, pretends_time: bool) -> bool:
        """Whether a channel may reach other machines, as those that users chose: from a local store only if named."""
        return not pretends_time and (channel in self.named_channels or not self.store_is_local)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment. Raises ConfigFault: one sentence that names the variable."""
    values = os.environ if environ is None else environ
    env = _Env({name: value.strip() for name, value in values.items() if value.strip()})
    env.reject_unknown_names()
    env.reject_quotes()
    settings = Settings(
        limits=limits(env),
        redis_url=_redis_url(env.get("REDIS_URL")),
        key_prefix=_key_prefix(env.get("RECAP_KEY_PREFIX", "")),
        project=env.header("GOOGLE_CLOUD_PROJECT"),
        firestore_emulator=env.header("FIRESTORE_EMULATOR_HOST"),
        firestore_database=_database(env.get("FIRESTORE_DATABASE", DEFAULT_DATABASE)),
        openai_key=env.header("OPENAI_API_KEY"),
        openai_base_url=env.http_url("OPENAI_BASE_URL"),
        openai_model=env.header("OPENAI_MODEL") or Settings.openai_model,
        verify_model=env.header("OPENAI_VERIFY_MODEL"),
        verify=env.choice("RECAP_VERIFY", ("on", "off")) != "off",
        style=_style(env.get("RECAP_STYLE", "")),
        reasoning_effort=env.choice("OPENAI_REASONING_EFFORT", EFFORTS),
        service_tier=env.choice("OPENAI_SERVICE_TIER", TIERS),
        fallback=env.choice("RECAP_FALLBACK", ("extract", "none")) or Settings.fallback,
        push_text=env.choice("RECAP_PUSH_TEXT", ("recap", "headline", "none")) or Settings.push_text,
        summarizer=env.choice("RECAP_SUMMARIZER", ("auto", "extract")) or Settings.summarizer,
        store=env.choice("RECAP_STORE", ("auto", "sqlite")) or Settings.store,
        fcm_base_url=env.http_url("FCM_BASE_URL") or Settings.fcm_base_url,
        credentials_file=env.get("GOOGLE_APPLICATION_CREDENTIALS"),
        named_channels=env.names("RECAP_CHANNELS", CHANNELS),
        webhook_url=env.get("RECAP_WEBHOOK_URL") if env.http_url("RECAP_WEBHOOK_URL") else None,
        webhook_secret=env.get("RECAP_WEBHOOK_SECRET"),
        task_index=env.whole("CLOUD_RUN_TASK_INDEX", default=env.get("JOB_COMPLETION_INDEX", "0")),
        task_count=env.whole("CLOUD_RUN_TASK_COUNT", default="1", minimum=1),
        data_dir=Path(env.get("RECAP_DATA_DIR", ".recap")),
        log_format=env.choice("RECAP_LOG_FORMAT", ("auto", "json", "console")) or Settings.log_format,
        heartbeat_url=env.http_url("RECAP_HEARTBEAT_URL"),
        telemetry=env.http_url("OTEL_EXPORTER_OTLP_ENDPOINT") is not None,
        on_platform=is_on_platform(env),
    )
    _check_together(settings)
    return settings


def is_on_platform(env: Mapping[str, str]) -> bool:
    """Whether the job runs on Cloud Run or Kubernetes, where stdout and stderr go to one log."""
    return any(name in env for name in ON_A_PLATFORM)


class _Env(dict[str, str]):
    """The environment variables that are set, and methods that parse them. Each method raises ConfigFault."""

    def reject_unknown_names(self) -> None:
        """A typo would silently keep the default."""
        known = [*(f"RECAP_{limit.name.upper()}" for limit in fields(Limits)), *OTHER_RECAP_SETTINGS]
        for name in self:
            if name.startswith("RECAP_") and name not in known:
                nearest = difflib.get_close_matches(name, known, 1, 0.0)[0]
                raise ConfigFault(f"{printable(name, 60)} is no setting; did you mean {nearest}?")

    def reject_quotes(self) -> None:
        """Reject quoted values: docker's --env-file keeps quotes that a shell removes. No value is shown."""
        for name, value in self.items():
            if name.startswith(OUR_PREFIXES) and len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                reason = "has quotes around its value, which an env file may keep; write it without them."
                raise ConfigFault(f"{name} {reason}")

    def whole(self, name: str, *, default: str, minimum: int = 0) -> int:
        text = self.get(name, default)
        if not WHOLE.fullmatch(text) or not minimum <= int(text) <= MAX_TASKS:
            wish = f"a whole number from {minimum} to {MAX_TASKS}"
            raise ConfigFault(f"{name} is {printable(text, 40)!r}; set it to {wish}.")
        return int(text)

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        text = self.get(name)
        if text is not None and text not in choices:
            raise ConfigFault(f"{name} is {printable(text, 40)!r}; set it to one of {', '.join(choices)}.")
        return text

    def names(self, name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(part.strip() for part in self[name].split(",")) if name in self else ()
        if not set(found) <= set(choices):
            raise ConfigFault(
                f"{name} is {printable(self[name], 40)!r}; set it to some of {', '.join(choices)}, with commas between."
            )
        return found

    def header(self, name: str) -> str | None:
        """Read a value that is sent in a header or an address: visible ASCII on one line. It is never shown."""
        text = self.get(name)
        if text is not None and not _is_visible_ascii(text):
            raise ConfigFault(
                f"{name} holds a space, a line break or a letter beyond ASCII; copy it again, without them."
            )
        return text

    def http_url(self, name: str) -> str | None:
        url = self.get(name)
        if url is None:
            return None
        parts = _split(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigFault(f"{name} is malformed; write https://host or http://host:port.")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ConfigFault(f"{name} holds a user, a password or a fragment; write the address alone.")
        return url.rstrip("/")


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
    if urlsplit(settings.fcm_base_url).scheme == "http" and not settings.fcm_is_loopback:
        raise ConfigFault("FCM_BASE_URL is http:// to another machine, where others can read along; write https://.")
    if settings.fcm_base_url != Settings.fcm_base_url and not settings.fcm:
        raise ConfigFault("FCM_BASE_URL is set without GOOGLE_CLOUD_PROJECT; set the project whose devices these are.")
    if (settings.webhook_url is None) is not (settings.webhook_secret is None):
        raise ConfigFault("Of RECAP_WEBHOOK_URL and RECAP_WEBHOOK_SECRET one is set; set both, or neither.")
    if (
        settings.webhook_url
        and urlsplit(settings.webhook_url).scheme == "http"
        and not is_loopback(settings.webhook_url)
    ):
        raise ConfigFault(
            "RECAP_WEBHOOK_URL is http:// to another machine, where others can read along; write https://."
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


def _database(name: str) -> str:
    if name != DEFAULT_DATABASE and not DATABASE.fullmatch(name):
        raise ConfigFault(
            f"FIRESTORE_DATABASE is {printable(name, 70)!r}, which is no database id; "
            "it has 4 to 63 lower-case letters, digits and hyphens."
        )
    return name


def _style(text: str) -> str:
    """Check the operator's instruction and make it one line. It is never shown in errors."""
    words = clean(text)
    if len(words) > MAX_STYLE_LENGTH:
        raise ConfigFault(f"RECAP_STYLE has {len(words)} characters; it may have {MAX_STYLE_LENGTH}.")
    return words


def _key_prefix(prefix: str) -> str:
    if not KEY_PREFIX.fullmatch(prefix):
        raise ConfigFault(
            f"RECAP_KEY_PREFIX is {printable(prefix, 40)!r}; set it to 64 letters, digits, -, _ and : at most."
        )
    return prefix


def _redis_url(url: str | None) -> str | None:
    """Check that the client can use the URL. No part of it is shown: any may belong to a password not encoded."""
    if url is None:
        return None
    parts = _split(url)
    after_host = url
    if parts is not None:
        after_host = "" if parts.scheme == "unix" else f"{parts.path}?{parts.query}"
    if "#" in url or "@" in after_host:
        raise ConfigFault("REDIS_URL can't be read; write a # / ? or @ of its password as %23, %2F, %3F or %40.")
    if parts is None or not _names_a_server(parts):
        raise ConfigFault("REDIS_URL is malformed; write redis://host:6379/0, rediss://… for TLS, or unix:///path.")
    _check_redis_options(parts)
    return url


def _names_a_server(parts: SplitResult) -> bool:
    if parts.scheme == "unix":
        return parts.hostname is None and len(parts.path) > 1
    return parts.scheme in ("redis", "rediss") and parts.hostname is not None


def _check_redis_options(parts: SplitResult) -> None:
    known = (*REDIS_OPTIONS, *(REDIS_TLS_OPTIONS if parts.scheme == "rediss" else ()))
    given = {name: values[-1].lower() for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if "ssl" in given:
        raise ConfigFault("REDIS_URL has ?ssl=…; write rediss:// for TLS.")
    if not given.keys() <= set(known):
        raise ConfigFault(
            f"REDIS_URL has an option that means nothing here; it may have {', '.join(known)}, "
            "and a ? of its password is written %3F."
        )
    for name, choices in REDIS_CHOICES.items():
        if given.get(name, choices[0]) not in choices:
            raise ConfigFault(f"The option {name} of REDIS_URL has a wrong value; set it to {' or '.join(choices)}.")
    for name, [path] in parse_qs(parts.query).items():
        if name in REDIS_FILES and not os.access(path, os.R_OK):
            raise ConfigFault(f"The option {name} of REDIS_URL names a file that can't be read; check the file.")
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise ConfigFault("REDIS_URL has an ssl_keyfile without an ssl_certfile; name both, or neither.")
    if parts.scheme != "unix" and parts.path not in ("", "/") and not WHOLE.fullmatch(parts.path[1:]):
        raise ConfigFault("REDIS_URL names a database that is no number; most have 0 to 15.")
    if given.get("cluster") not in TRUE:
        return
    if parts.scheme == "unix":
        raise ConfigFault("REDIS_URL has ?cluster=true and a unix:// socket; a Redis Cluster is reached by redis://.")
    if parts.path.strip("/0"):
        raise ConfigFault("REDIS_URL has ?cluster=true and a database; a Redis Cluster has database 0 alone.")


def _split(url: str) -> SplitResult | None:
    """Split a URL; None if it is malformed, not visible ASCII, or has an impossible port."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 and _is_visible_ascii(url) else None
    except ValueError:
        return None


def _is_visible_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
