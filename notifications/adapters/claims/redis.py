"""Claims in Redis: one Lua file per verb, run with one key (docs/protocol.md, section 3).

Redis 6.2 or later, alone or as a cluster (`?cluster=true` in the URL).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from redis import exceptions as errors
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from notifications.adapters.claims.redis_errors import (
    AT_ONCE,
    OURS_TO_TRANSLATE,
    OVER_TLS,
    UNREACHABLE,
    lacks_a_command,
    translated,
)
from notifications.adapters.claims.redis_scripts import (
    reply_of,
    script,
    shown,
    span_of,
    spend_script,
    text_of,
)
from notifications.domain.claim import ClaimAnswer, Record, Stored, Verb, new_token, parse, reason_code, turn
from notifications.domain.errors import ConfigFault, KeyTrouble
from notifications.domain.spending import SPEND_KEPT_SECONDS as SPEND_SECONDS
from notifications.ports import ClaimTerms, Found, Raw, Reply

T = TypeVar("T")

TRIES = 3  # the same call with the same token; then stop claiming
SCAN_BATCH = 500
READ_BATCH = 1_000
SETTLES = -1  # in place of a budget


class RedisClaims:
    """The Claims port. One instance belongs to one event loop."""

    def __init__(self, client: Any, where: str, connections: int, environment: str = "", prefix: str = "") -> None:
        self._client = client  # Redis or RedisCluster: the same commands, which their annotations don't say
        self._where = where
        self.environment = environment
        self._prefix = prefix  # of every key
        self._free = asyncio.Semaphore(connections)  # a cluster's pool raises where a single server's waits

    async def now(self) -> datetime:
        """Redis TIME."""
        seconds, micros = await self._patiently(self._client.time)
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)

    async def read(self, keys: Sequence[str]) -> list[Record]:
        """The records of these keys, in order; FOREIGN for what can't be read as one."""
        found: list[Record] = []
        for start in range(0, len(keys), READ_BATCH):
            named = [self._prefix + key for key in keys[start : start + READ_BATCH]]
            found += await self._patiently(partial(self._get, named))
        return found

    async def _get(self, keys: Sequence[str | bytes]) -> list[Record]:
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.get(key)
        values = await pipe.execute(raise_on_error=False)
        for value in values:
            if isinstance(value, Exception) and not _wrong_type(value):
                raise value
        return [Record(Stored.FOREIGN) if isinstance(value, Exception) else parse(value) for value in values]

    async def claim(self, terms: ClaimTerms, token: str, lane: int) -> Reply:
        """Take the key for one lease."""
        return await self._run(Verb.CLAIM, terms, token, lane, terms.max_crashes)

    async def renew(self, terms: ClaimTerms, token: str) -> Reply:
        """Extend the own live claim."""
        return await self._run(Verb.RENEW, terms, token)

    async def complete(self, terms: ClaimTerms, token: str, outcome: Stored) -> Reply:
        """End the own claim in a final state."""
        return await self._run(Verb.COMPLETE, terms, token, outcome.value)

    async def free(self, terms: ClaimTerms, token: str) -> Reply:
        """Delete the own claim: of a day that was skipped."""
        return await self._run(Verb.FREE, terms, token)

    async def fail(self, terms: ClaimTerms, token: str, wait: timedelta, counts: int, reason: str) -> Reply:
        """Give the own claim back, to be tried after `wait` (30 min at most)."""
        wait_ms = max(0, wait // timedelta(milliseconds=1))
        given = (wait_ms, counts, terms.max_failures, terms.until_ms, reason_code(reason))
        return await self._run(Verb.FAIL, terms, token, *given)

    async def forget(self, key: str, only: Record | None = None) -> bool:
        """Delete one key; with a record, only where the key still holds it. Says whether it is gone."""
        if only is None:
            await self._patiently(lambda: self._client.delete(self._prefix + key))
            return True
        reply = await self._run(Verb.FORGET, ClaimTerms(key, 0, 0, 0), only.token, only.state.value)
        return reply.answer is ClaimAnswer.OK

    async def add_names(self, key: str, names: Collection[str], expire_ms: int) -> None:
        """Put names into the set under this key, which ends at that time. Raises KeyTrouble for another type."""
        listed = sorted(names)

        async def added() -> None:
            pipe = self._client.pipeline(transaction=False)
            for start in range(0, len(listed), READ_BATCH):
                pipe.sadd(self._prefix + key, *listed[start : start + READ_BATCH])
            pipe.pexpireat(self._prefix + key, expire_ms)
            await pipe.execute()

        await self._patiently(added)

    async def names(self, key: str) -> frozenset[str]:
        """The set under this key; empty where there is none. Raises KeyTrouble for another type."""
        return frozenset(map(text_of, await self._patiently(lambda: self._client.smembers(self._prefix + key))))

    async def take_turn(self, key: str, every: timedelta, at: datetime) -> bool:
        """Whether it is this run's turn to do what is done once in that time over all processes."""
        value, span = turn(new_token(), int(at.timestamp() * 1000)), max(1, every // timedelta(milliseconds=1))
        taken = await self._patiently(lambda: self._client.set(self._prefix + key, value, nx=True, px=span))
        if taken:
            return True
        found = await self._patiently(lambda: self._client.get(self._prefix + key))
        return found is not None and text_of(found) == value  # our own reply was lost

    async def remember(self, key: str, at: datetime, kept: timedelta) -> bool:
        """Write down that instant where there is none yet, and keep it for so long from now. Says whether it is new."""
        if await self.take_turn(key, kept, at):
            return True
        await self._patiently(lambda: self._client.pexpire(self._prefix + key, kept))
        return False

    async def set_pause(self, key: str, rest: timedelta) -> None:
        """Tell every process to start nothing for that long, unless they were told to wait longer."""
        if await self.pause_left(key) >= rest:
            return
        span = max(1, rest // timedelta(milliseconds=1))
        await self._patiently(lambda: self._client.set(self._prefix + key, "1", px=span))

    async def pause_left(self, key: str) -> timedelta:
        """For how long nothing is to be started."""
        left = await self._patiently(lambda: self._client.pttl(self._prefix + key))
        return span_of(max(0, left))

    async def reserve(self, key: str, token: str, amount: int, most: int) -> bool:
        """Take an amount from what the key may hold in all; False where it does not fit any more."""
        return await self._spend(key, token, amount, most) == 1

    async def settle(self, key: str, token: str, amount: int) -> None:
        """Replace what was taken under this token by what was really spent."""
        await self._spend(key, token, amount, SETTLES)

    async def _spend(self, key: str, token: str, amount: int, most: int) -> int:
        given = (self._prefix + key, token, amount, most, SPEND_SECONDS)
        return int(await self._patiently(partial(self._evaluated, *spend_script(), *given)))

    async def scan(self, pattern: str) -> AsyncIterator[Found]:
        """Every key that matches, with its record and TTL. SCAN, never KEYS."""
        try:
            async for key in self._client.scan_iter(match=self._prefix + pattern, count=SCAN_BATCH):
                [record] = await self._patiently(partial(self._get, [key]))
                yield Found(shown(key[len(self._prefix) :]), record, await self._ttl(key))
        except OURS_TO_TRANSLATE as cause:
            raise translated(cause, self._where) from cause

    async def keys(self, pattern: str) -> AsyncIterator[Raw]:
        """Every key that matches, whole, with its value and TTL: a hash as JSON, of other types the type's name."""
        try:
            async for key in self._client.scan_iter(match=self._prefix + pattern, count=SCAN_BATCH):
                kind = shown(await self._client.type(key))
                if kind == "string":
                    value = shown(await self._client.get(key) or "")
                elif kind == "hash":
                    fields = await self._client.hgetall(key)
                    value = json.dumps({shown(name): shown(held) for name, held in sorted(fields.items())})
                else:
                    value = f"({kind})"
                if kind != "none":  # it ended meanwhile
                    yield Raw(shown(key), value, await self._ttl(key))
        except OURS_TO_TRANSLATE as cause:
            raise translated(cause, self._where) from cause

    async def _ttl(self, key: str | bytes) -> timedelta | None:
        left = await self._client.pttl(key)
        return span_of(left) if left >= 0 else None

    async def warnings(self) -> list[str]:
        """What is wrong with the server's settings, a sentence each."""
        try:
            memory = await self._info("memory")
            persistence = await self._info("persistence")
        except (ConfigFault, KeyTrouble):
            return []  # a server that hides its settings can't be judged
        said = []
        if (policy := memory.get("maxmemory_policy", "noeviction")) != "noeviction":
            said.append(
                f"{self._where} evicts keys (maxmemory-policy {policy}): a lost claim costs a second LLM call; "
                "set maxmemory-policy noeviction."
            )
        if not int(persistence.get("aof_enabled", 1)):
            said.append(
                f"{self._where} keeps no append-only file: a restart forgets every claim; "
                "set appendonly yes and appendfsync everysec."
            )
        return said

    async def _info(self, section: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = await self._patiently(lambda: self._client.info(section))
        nodes = [node for node in answer.values() if isinstance(node, dict) and "used_memory" in node]
        return nodes[0] if nodes else answer  # a cluster answers for each node

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _run(self, verb: Verb, terms: ClaimTerms, token: str, *args: str | int) -> Reply:
        given = (self._prefix + terms.key, token, terms.lease_ms, terms.expire_ms, *args)
        return reply_of(await self._patiently(partial(self._evaluated, *script(verb), *given)))

    async def _evaluated(self, source: str, sha: str, *given: str | int) -> Any:
        try:
            return await self._client.evalsha(sha, 1, *given)
        except errors.NoScriptError:
            return await self._client.eval(source, 1, *given)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call, again where its answer was lost: every verb is idempotent under its token."""
        for attempt in range(1, TRIES + 1):
            try:
                with cancellation_kept():
                    async with self._free:
                        return await call()
            except AT_ONCE as cause:
                raise translated(cause, self._where) from cause
            except UNREACHABLE as cause:
                if attempt == TRIES:
                    raise translated(cause, self._where) from cause
            except OURS_TO_TRANSLATE as cause:
                if lacks_a_command(cause) and await self._is_sentinel():
                    raise ConfigFault(
                        f"{self._where} is a Sentinel, which keeps no data; REDIS_URL wants the server that it watches."
                    ) from None
                raise translated(cause, self._where) from cause
        raise AssertionError("unreachable")

    async def _is_sentinel(self) -> bool:
        with suppress(*OURS_TO_TRANSLATE):
            told = await self._client.info("server")
            return "sentinel" in (told.get("redis_mode"), told.get("server_mode"))  # Redis' name for it, and Valkey's
        return False


@contextmanager
def cancellation_kept() -> Iterator[None]:
    """Cancelled inside means cancelled: Python 3.11's `wait_for`, which the client uses, may answer instead.

    Who waits for the cancelled task would wait forever (python/cpython issue 86296, mended in 3.12).
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


def _wrong_type(value: Exception) -> bool:
    """Whether a key holds another type than text: another maker's, and no trouble of the server's."""
    return isinstance(value, errors.ResponseError) and str(value).startswith("WRONGTYPE")


def connect(
    url: str, *, connections: int, timeout_seconds: float, environment: str = "", prefix: str = ""
) -> RedisClaims:
    """Claims over a pool of at most `connections`; a caller waits for a free one rather than fail.

    `timeout_seconds` bounds connecting, each answer, and the wait for a connection. `prefix` goes before every key.
    The client's own retries are off: a retry that hides a lost answer can't keep its token. No handshake either, since
    an idle tick is worth three round trips.
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    where = f"Redis at {host}:{parts.port or 6379}" if host else f"Redis at {parts.path}"
    where += OVER_TLS if parts.scheme == "rediss" else ""
    query = parse_qs(parts.query)
    cluster = query.pop("cluster", ["false"])[-1].lower() in ("1", "true", "yes")
    plain_url = urlunsplit(parts._replace(query=urlencode(query, doseq=True)))
    common: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "protocol": 2,
        "driver_info": None,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        if cluster:
            nodes = RedisCluster.from_url(plain_url, max_connections=connections, **common)
            return RedisClaims(nodes, where, connections, environment, prefix)
        pool = BlockingConnectionPool.from_url(
            plain_url, max_connections=connections, timeout=timeout_seconds, **common
        )
    except (ValueError, errors.RedisError, errors.RedisClusterException):  # what they say may quote it
        raise ConfigFault("REDIS_URL is malformed; write redis://host:6379/0.") from None
    return RedisClaims(Redis.from_pool(pool), where, connections, environment, prefix)
