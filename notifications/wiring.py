"""Opens the adapter of each port, as the settings say. The only module that names adapters.

Adapters are imported when they are opened, so an idle tick loads only Redis.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import structlog

from notifications.domain.claim import environment_of
from notifications.domain.push import Message, PushText
from notifications.ports import Channel, Claims, Heartbeat, Sample, Store, Summarizer, Telemetry
from notifications.run.state import Services
from notifications.settings import Settings

log = structlog.get_logger()
Show = Callable[[Message, str], None]


class BootClock:
    """CLOCK_BOOTTIME, which also counts while the machine sleeps; CLOCK_MONOTONIC if the system lacks it."""

    _which = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def seconds(self) -> float:
        """Seconds since an arbitrary start; comparable only within one process."""
        return time.clock_gettime(self._which)


def is_untouched(settings: Settings) -> bool:
    """Whether everything is local, and no run has stored anything yet."""
    return settings.project is None and not (settings.data_dir / "recap.sqlite3").exists()


def served_since(settings: Settings) -> datetime | None:
    """When a data folder was first filled: no user was due there before. None if an app's own users are served."""
    if settings.project is not None:
        return None
    from notifications.adapters.local import private_files

    return private_files.created(settings.data_dir) or datetime.max.replace(tzinfo=UTC)


def sample_users(settings: Settings, now: datetime) -> list[Sample]:
    """Sample users that are due around `now`, with their devices and conversations."""
    from notifications.adapters.local import samples
    from notifications.adapters.stores import layout

    return samples.samples(layout.read_layout(settings.layout), now)


async def forget_pushes(settings: Settings, uids: list[str]) -> None:
    """Delete these users' lines in the outbox."""
    from notifications.adapters.local import outbox

    await outbox.forget(settings.data_dir / "outbox.jsonl", uids)


def describe_layout(settings: Settings) -> tuple[str, str]:
    """The layout in force as a file, and the indexes that it needs, as firestore.indexes.json."""
    from notifications.adapters.stores import indexes, layout

    used = layout.read_layout(settings.layout)
    return used.as_toml(), indexes.as_json(used)


def heartbeat(settings: Settings) -> Heartbeat | None:
    """The monitoring service that each tick is reported to; None if none is set."""
    if settings.heartbeat_url is None:
        return None
    from notifications.adapters.telemetry.heartbeat import HttpHeartbeat

    return HttpHeartbeat(settings.heartbeat_url)


@asynccontextmanager
async def redis_url(settings: Settings) -> AsyncIterator[str]:
    """The Redis to claim in: the configured one, else the data folder's own, which runs while the block does."""
    if settings.redis_url is not None:
        yield settings.redis_url
        return
    from notifications.adapters.local.embedded_redis import EmbeddedRedis

    async with EmbeddedRedis(settings.data_dir) as embedded:
        yield embedded.url


async def environment(settings: Settings) -> str:
    """The name of this environment in the keys of a Redis that several may share.

    For Firestore it is made of the project, the database, and whether it is an emulator, but not of the emulator's
    address, since one emulator has many (localhost, a container's name). A data folder has an id that moves along with
    it. Raises DependencyDown if the data folder can't be used.
    """
    if settings.project is not None:
        kind = "emulator" if settings.firestore_emulator else "firestore"
        return environment_of(kind, settings.project, settings.firestore_database)
    from notifications.adapters.local.private_files import id_of

    return environment_of("folder", await id_of(settings.data_dir))


@asynccontextmanager
async def open_claims(settings: Settings) -> AsyncIterator[Claims]:
    """Open the claims. The pool is small for the concurrency, since a script takes under 0.1 ms of a connection."""
    from notifications.adapters.claims.redis import connect

    limits = settings.limits
    async with redis_url(settings) as url:
        connections = limits.shards_at_once + max(4, limits.concurrency // 8)
        claims = connect(
            url,
            connections=connections,
            timeout_seconds=limits.redis_timeout_seconds,
            environment=await environment(settings),
            prefix=settings.key_prefix,
        )
        try:
            yield claims
        finally:
            await claims.aclose()


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    claims: Claims,
    show: Show,
    offset: timedelta,
    telemetry: Telemetry,
    can_add_samples: bool,
    can_send: bool,
    can_ask: bool,
) -> AsyncIterator[Services]:
    """Open everything that a run with work needs; it is closed in reverse order.

    `can_add_samples`: put sample users into a new data folder. `can_send`: with `--now`, also add conversations of the
    sample users at that time. `can_ask`: open the LLM's client, if one is set.
    """
    async with AsyncExitStack() as stack:
        store = await _store(settings, claims, offset, can_add_samples=can_add_samples, can_send=can_send)
        stack.push_async_callback(store.aclose)
        summarizer = verifier = None
        if settings.openai and can_ask:
            summarizer = verifier = _llm(settings, settings.openai_model)
            stack.push_async_callback(summarizer.aclose)
            if settings.verify and settings.verify_model not in (None, settings.openai_model):
                verifier = _llm(settings, settings.verify_model)
                stack.push_async_callback(verifier.aclose)
        channels, pretends_time = [], bool(offset)
        for name, reason in settings.withheld(pretends_time=pretends_time).items() if can_send else ():
            log.warning("channel.withheld", channel=name, reason=f"{reason}.")
        for name in settings.channels(pretends_time=pretends_time):
            channels.append(await CHANNELS[name](settings, show, pretends_time))
            stack.push_async_callback(channels[-1].aclose)
        from notifications.adapters.sentences import sentences

        yield Services(
            claims=claims,
            store=store,
            summarizer=summarizer,
            channels=tuple(channels),
            clock=BootClock(),
            limits=settings.limits,
            split_sentences=sentences,
            task_count=settings.task_count,
            has_fallback=settings.fallback == "extract",
            telemetry=telemetry,
            push_text=PushText(settings.push_text),
            verifier=verifier if settings.verify else None,
            style=settings.style,
        )


def telemetry(settings: Settings) -> Telemetry:
    """Metrics and traces of one run, if a collector is set. Errors of telemetry never stop a run."""
    if not settings.telemetry:
        return Telemetry()
    try:
        from notifications.adapters.telemetry.otlp import OtlpTelemetry

        return OtlpTelemetry()
    except ModuleNotFoundError as missing:
        mend = "install requirements-otel.txt, or unset OTEL_EXPORTER_OTLP_ENDPOINT"
        log.warning("telemetry.failed", reason=f"{missing.name} is not installed; {mend}.")
    except Exception as error:  # noqa: BLE001 - the SDK raises any kind of error for its own settings
        log.warning("telemetry.failed", reason=f"OpenTelemetry refuses a setting ({type(error).__name__}); see OTEL_….")
    return Telemetry()


async def _store(
    settings: Settings, claims: Claims, offset: timedelta, *, can_add_samples: bool, can_send: bool
) -> Store:
    """Open Firestore if a project is set, else SQLite in the data folder."""
    from notifications.adapters.stores import layout as layouts

    limits, rules = settings.limits, settings.limits.ledger_rules
    layout = layouts.read_layout(settings.layout)
    if settings.project is not None:
        from notifications.adapters.stores import firestore

        emulator, timeout = settings.firestore_emulator, limits.duration("store_timeout")
        return await firestore.connect(settings.project, settings.firestore_database, emulator, rules, timeout, layout)
    from notifications.adapters.local import private_files, samples
    from notifications.adapters.local.sqlite import SqliteStore

    store = SqliteStore(settings.data_dir / "recap.sqlite3", rules, layout)
    if can_add_samples and not settings.on_platform and private_files.created(settings.data_dir) is None:
        await samples.fill(store, layout, settings.data_dir, await claims.now() + offset)
    elif offset and can_send:
        await samples.talk(store, layout, await claims.now() + offset)
    return store


def _llm(settings: Settings, model: str) -> Summarizer:
    """Open one model of the LLM's server. The configured prices are those of the model that writes."""
    from notifications.adapters.llm import openai

    limits, writes = settings.limits, model == settings.openai_model
    service = openai.Service(
        model,
        settings.reasoning_effort,
        settings.service_tier,
        limits.price_in_usd_per_mtok if writes else None,
        limits.price_out_usd_per_mtok if writes else None,
        limits.daily_budget_usd,
        named_by="OPENAI_MODEL" if writes else "OPENAI_VERIFY_MODEL",
    )
    return openai.connect(settings.openai_key, settings.openai_base_url, service, limits)


async def _fcm(settings: Settings, show: Show, pretends_time: bool) -> Channel:
    from notifications.adapters.channels import fcm

    authorized = settings.credentials_file is not None or not settings.fcm_is_loopback
    at_once = settings.limits.concurrency
    return await fcm.connect(settings.fcm_base_url, settings.project, at_once, authorized=authorized)


async def _outbox(settings: Settings, show: Show, pretends_time: bool) -> Channel:
    from notifications.adapters.local.outbox import Outbox

    return Outbox(settings.data_dir / "outbox.jsonl", show)


async def _webhook(settings: Settings, show: Show, pretends_time: bool) -> Channel:
    from notifications.adapters.channels import webhook

    users = settings.may_reach_out("webhook", pretends_time=pretends_time)
    return webhook.connect(settings.webhook_url, settings.webhook_secret, settings.limits.concurrency, users=users)


async def _email(settings: Settings, show: Show, pretends_time: bool) -> Channel:
    from notifications.adapters.channels import email

    page, secret = settings.unsubscribe_url, settings.unsubscribe_secret
    return email.connect(settings.smtp_url or "", settings.email_from, page, secret)


CHANNELS = {"fcm": _fcm, "outbox": _outbox, "webhook": _webhook, "email": _email}
