"""Which adapter serves each port, by the settings. The only place that names adapters.

Each is imported when it is opened: an idle tick loads Redis and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import structlog

from notifications.domain.claim import environment_of
from notifications.domain.push import Message, PushText
from notifications.ports import Claims, Heartbeat, Push, Sample, Store, Summarizer, Telemetry
from notifications.run.state import Services
from notifications.settings import Settings

log = structlog.get_logger()
Show = Callable[[Message, str], None]


class BootClock:
    """CLOCK_BOOTTIME, which also counts while the machine sleeps; CLOCK_MONOTONIC where there is none."""

    _which = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def seconds(self) -> float:
        """Seconds since some start; comparable within one process."""
        return time.clock_gettime(self._which)


def is_untouched(settings: Settings) -> bool:
    """Whether everything is local, and no run has made anything yet."""
    return settings.project is None and not (settings.data_dir / "recap.sqlite3").exists()


def served_since(settings: Settings) -> datetime | None:
    """When a data folder was first filled: no user was due there before. None where an app's own users are served."""
    if settings.project is not None:
        return None
    from notifications.adapters.local import samples

    return samples.created(settings.data_dir) or datetime.max.replace(tzinfo=UTC)


def sample_users(now: datetime) -> list[Sample]:
    """Sample users that are due around `now`, with what belongs to them."""
    from notifications.adapters.local import samples

    return samples.samples(now)


def heartbeat(settings: Settings) -> Heartbeat | None:
    """The service that is told of each tick; None where none is set."""
    if settings.heartbeat_url is None:
        return None
    from notifications.adapters.telemetry.heartbeat import HttpHeartbeat

    return HttpHeartbeat(settings.heartbeat_url)


@asynccontextmanager
async def redis_url(settings: Settings) -> AsyncIterator[str]:
    """The Redis to claim in: the one that is set, else the data folder's own, held while in use."""
    if settings.redis_url is not None:
        yield settings.redis_url
        return
    from notifications.adapters.local.embedded_redis import EmbeddedRedis

    async with EmbeddedRedis(settings.data_dir) as embedded:
        yield embedded.url


async def environment(settings: Settings) -> str:
    """Whose keys these are on a Redis that others may share. Raises DependencyDown where the data folder can't be used.

    Of Firestore: the project, the database, and whether it is an emulator's. Not the emulator's address, since one
    emulator has many (localhost, a container's name). Of a data folder: an id of its own, which moves along with it.
    """
    if settings.project is not None:
        kind = "emulator" if settings.firestore_emulator else "firestore"
        return environment_of(kind, settings.project, settings.firestore_database)
    from notifications.adapters.local.private_files import id_of

    return environment_of("folder", await id_of(settings.data_dir))


@asynccontextmanager
async def open_claims(settings: Settings) -> AsyncIterator[Claims]:
    """Claims, with a pool sized from the concurrency: one script takes under 0.1 ms of a connection."""
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
    fills: bool,
    sends: bool,
) -> AsyncIterator[Services]:
    """Everything a run with work needs, closed in reverse order.

    `fills`: put sample users into a new data folder. `sends`: where it serves a pretended time, they talk then, too.
    """
    async with AsyncExitStack() as stack:
        store = await _store(settings, claims, offset, fills=fills, sends=sends)
        stack.push_async_callback(store.aclose)
        summarizer = verifier = None
        if settings.openai:
            summarizer = verifier = _llm(settings, settings.openai_model)
            stack.push_async_callback(summarizer.aclose)
            if settings.verify and settings.verify_model not in (None, settings.openai_model):
                verifier = _llm(settings, settings.verify_model)
                stack.push_async_callback(verifier.aclose)
        push = await _push(settings, show)
        stack.push_async_callback(push.aclose)
        from notifications.adapters.sentences import sentences

        yield Services(
            claims=claims,
            store=store,
            summarizer=summarizer,
            push=push,
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
    """Metrics and traces of one run, where a collector is set. Whatever is wrong with them stops no run."""
    if not settings.telemetry:
        return Telemetry()
    try:
        from notifications.adapters.telemetry.otlp import OtlpTelemetry

        return OtlpTelemetry()
    except ModuleNotFoundError as missing:
        mend = "install requirements-otel.txt, or unset OTEL_EXPORTER_OTLP_ENDPOINT"
        log.warning("telemetry.failed", reason=f"{missing.name} is not installed; {mend}.")
    except Exception as cause:  # noqa: BLE001 - the SDK raises what it likes for a setting of its own
        log.warning("telemetry.failed", reason=f"OpenTelemetry refuses a setting ({type(cause).__name__}); see OTEL_….")
    return Telemetry()


async def _store(settings: Settings, claims: Claims, offset: timedelta, *, fills: bool, sends: bool) -> Store:
    """Firestore where a project is set, else SQLite in the data folder."""
    limits, rules = settings.limits, settings.limits.ledger_rules
    if settings.project is not None:
        from notifications.adapters.stores import firestore

        emulator, timeout = settings.firestore_emulator, limits.duration("store_timeout")
        return await firestore.connect(settings.project, settings.firestore_database, emulator, rules, timeout)
    from notifications.adapters.local import samples
    from notifications.adapters.local.sqlite import SqliteStore

    store = SqliteStore(settings.data_dir / "recap.sqlite3", rules)
    if fills and not settings.on_platform and samples.created(settings.data_dir) is None:
        await samples.fill(store, settings.data_dir, await claims.now() + offset)
    elif offset and sends:
        await samples.talk(store, await claims.now() + offset)
    return store


def _llm(settings: Settings, model: str) -> Summarizer:
    """One model of the LLM's server. The prices that are set are those of the model that writes."""
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


async def _push(settings: Settings, show: Show) -> Push:
    if settings.fcm:
        from notifications.adapters.channels import fcm

        authorized = settings.credentials_file is not None or not settings.fcm_is_loopback
        at_once = settings.limits.concurrency
        return await fcm.connect(settings.fcm_base_url, settings.project, at_once, authorized=authorized)
    from notifications.adapters.local.outbox import Outbox

    return Outbox(settings.data_dir / "outbox.jsonl", show)
