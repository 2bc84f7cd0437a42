"""Claims in Redis 6.2+ or Redis Cluster: each verb is one Lua script on one key (docs/protocol.md, section 3)."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from redis import exceptions as errors
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from notifications.domain.claim import ClaimAnswer, ClaimState, Record, Verb, new_token, parse, reason_code, turn_value
from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble
from notifications.domain.money import SPEND_KEPT_SECONDS
from notifications.ports import ClaimTerms, RawKey, Reply, ScannedKey

T = TypeVar("T")

MAX_ATTEMPTS = 3  # per call; repeating a verb is safe, since its token makes it idempotent
SCAN_BATCH = 500
READ_BATCH = 1_000
SETTLE_MODE = -1  # passed as the budget, it makes spend.lua settle a reservation instead of taking one
MAX_TTL_MS = 10 * 366 * 86_400_000  # a foreign key's TTL may be larger than a timedelta can hold
OVER_TLS = " over TLS"

# These derive from classes that to_domain_error() handles later, so they are checked before those.
SERVER_ERRORS: dict[type[Exception], str] = {
    errors.OutOfMemoryError: "OOM",
    errors.ReadOnlyError: "READONLY",
    errors.BusyLoadingError: "LOADING",
    errors.MasterDownError: "MASTERDOWN",
    errors.ClusterDownError: "CLUSTERDOWN",
    errors.TryAgainError: "TRYAGAIN",
}
REFUSED = (errors.AuthenticationError, errors.AuthorizationError, errors.AuthenticationWrongNumberOfArgsError)
UNREACHABLE = (errors.ConnectionError, errors.TimeoutError, OSError)
CLUSTER = (errors.RedisClusterException, errors.ClusterError)
TRANSLATED = (errors.RedisError, errors.RedisClusterException, OSError, ValueError)
NOT_RETRIED = (errors.BusyLoadingError, *REFUSED)  # most are subclasses of ConnectionError, but retrying can't help
# Redis rejects long commands before AUTH with "unauthenticated multibulk length", not NOAUTH.
UNAUTHENTICATED = "unauthenticated"


class RedisClaims:
    """The Claims port. One instance belongs to one event loop."""

    def __init__(
        self, client: Any, server_name: str, connections: int, environment: str = "", prefix: str = ""
    ) -> None:
        self._client = client  # Redis or RedisCluster; their annotations share no protocol, hence Any
        self._server_name = server_name
        self.environment = environment
        self._prefix = prefix  # prepended to every key
        # The pool of a single server waits for a free connection; a cluster's raises, so calls wait here.
        self._connections = asyncio.Semaphore(connections)

    async def now(self) -> datetime:
        """Redis TIME."""
        seconds, micros = await self._call(self._client.time)
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)

    async def read(self, keys: Sequence[str]) -> list[Record]:
        """The records of these keys, in order; FOREIGN for what can't be read as one."""
        records: list[Record] = []
        for start in range(0, len(keys), READ_BATCH):
            batch = [self._prefix + key for key in keys[start : start + READ_BATCH]]
            records += await self._call(partial(self._read_records, batch))
        return records

    async def _read_records(self, keys: Sequence[str | bytes]) -> list[Record]:
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.get(key)
        values = await pipe.execute(raise_on_error=False)
        for value in values:
            # WRONGTYPE: the key holds another type, so it counts as FOREIGN below.
            if isinstance(value, Exception) and not str(value).startswith("WRONGTYPE"):
                raise value
        return [Record(ClaimState.FOREIGN) if isinstance(value, Exception) else parse(value) for value in values]

    async def claim(self, terms: ClaimTerms, token: str, lane: int) -> Reply:
        return await self._call_script(Verb.CLAIM, terms, token, lane, terms.max_crashes)

    async def renew(self, terms: ClaimTerms, token: str) -> Reply:
        return await self._call_script(Verb.RENEW, terms, token)

    async def complete(self, terms: ClaimTerms, token: str, outcome: ClaimState) -> Reply:
        return await self._call_script(Verb.COMPLETE, terms, token, outcome.value)

    async def free(self, terms: ClaimTerms, token: str) -> Reply:
        return await self._call_script(Verb.FREE, terms, token)

    async def fail(self, terms: ClaimTerms, token: str, wait: timedelta, added_failures: int, reason: str) -> Reply:
        """Release our claim; it may be claimed again after `wait` (at most 30 min)."""
        wait_ms = max(0, wait // timedelta(milliseconds=1))
        args = (wait_ms, added_failures, terms.max_failures, terms.until_ms, reason_code(reason))
        return await self._call_script(Verb.FAIL, terms, token, *args)

    async def delete(self, key: str) -> None:
        await self._call(lambda: self._client.delete(self._prefix + key))

    async def delete_if_unchanged(self, key: str, record: Record) -> bool:
        """Delete the key if it still holds this record. Returns whether the key is gone."""
        terms = ClaimTerms(key, lease_ms=0, expire_ms=0, until_ms=0)
        reply = await self._call_script(Verb.FORGET, terms, record.token, record.state.value)
        return reply.answer is ClaimAnswer.OK

    async def add_members(self, key: str, members: Collection[str], expire_ms: int) -> None:
        """Add to the set under this key, and let it expire at `expire_ms`. Raises KeyTrouble for another type."""
        ordered = sorted(members)

        async def add() -> None:
            pipe = self._client.pipeline(transaction=False)
            for start in range(0, len(ordered), READ_BATCH):
                pipe.sadd(self._prefix + key, *ordered[start : start + READ_BATCH])
            pipe.pexpireat(self._prefix + key, expire_ms)
            await pipe.execute()

        await self._call(add)

    async def members(self, key: str) -> frozenset[str]:
        """The set under this key; empty if the key is absent. Raises KeyTrouble for another type."""
        return frozenset(map(decode, await self._call(lambda: self._client.smembers(self._prefix + key))))

    async def take_turn(self, key: str, every: timedelta, at: datetime) -> bool:
        """Try to take this interval's turn. Returns True for one process per `every`."""
        value = turn_value(new_token(), int(at.timestamp() * 1000))
        if await self._call(lambda: self._client.set(self._prefix + key, value, nx=True, px=_ms(every))):
            return True
        stored = await self._call(lambda: self._client.get(self._prefix + key))
        return stored is not None and decode(stored) == value  # set by an attempt whose reply was lost

    async def set_once(self, key: str, at: datetime, kept: timedelta) -> bool:
        """Store `at` unless the key has a value, and let it expire `kept` from now. Returns whether it was stored."""
        if await self.take_turn(key, kept, at):
            return True
        await self._call(lambda: self._client.pexpire(self._prefix + key, kept))
        return False

    async def set_pause(self, key: str, duration: timedelta) -> None:
        """Pause all processes for `duration`, unless a longer pause is set."""
        # Not atomic: of two pauses set at once the shorter may stay; the provider's next refusal then sets a new one.
        if await self.pause_left(key) < duration:
            await self._call(lambda: self._client.set(self._prefix + key, "1", px=_ms(duration)))

    async def pause_left(self, key: str) -> timedelta:
        ttl = await self._call(lambda: self._client.pttl(self._prefix + key))
        return duration_from_ms(max(0, ttl))

    async def reserve(self, key: str, token: str, micro_usd: int, budget_micro_usd: int) -> bool:
        return await self._spend(key, token, micro_usd, budget_micro_usd) == 1

    async def settle(self, key: str, token: str, micro_usd: int) -> None:
        await self._spend(key, token, micro_usd, SETTLE_MODE)

    async def _spend(self, key: str, token: str, micro_usd: int, budget_micro_usd: int) -> int:
        args = (self._prefix + key, token, micro_usd, budget_micro_usd, SPEND_KEPT_SECONDS)
        return int(await self._call(partial(self._evalsha, *_load_script("spend"), *args)))

    async def _scan_keys(self, pattern: str) -> AsyncIterator[str | bytes]:
        """Every matching key, by SCAN: KEYS would block the server."""
        try:
            async for key in self._client.scan_iter(match=self._prefix + pattern, count=SCAN_BATCH):
                yield key
        except TRANSLATED as cause:
            raise to_domain_error(cause, self._server_name) from cause

    async def scan(self, pattern: str) -> AsyncIterator[ScannedKey]:
        async for key in self._scan_keys(pattern):
            [record] = await self._call(partial(self._read_records, [key]))
            yield ScannedKey(display(key[len(self._prefix) :]), record, await self._call(partial(self._ttl, key)))

    async def keys(self, pattern: str) -> AsyncIterator[RawKey]:
        """Every matching key with its prefix, value and TTL. Hashes as JSON; other types as their name."""
        async for key in self._scan_keys(pattern):
            kind, value = await self._call(partial(self._raw_value, key))
            if kind != "none":  # "none": expired since the SCAN
                yield RawKey(display(key), value, await self._call(partial(self._ttl, key)))

    async def _raw_value(self, key: str | bytes) -> tuple[str, str]:
        kind = display(await self._client.type(key))
        if kind == "string":
            return kind, display(await self._client.get(key) or "")
        if kind == "hash":
            fields = await self._client.hgetall(key)
            return kind, json.dumps({display(name): display(value) for name, value in sorted(fields.items())})
        return kind, f"({kind})"

    async def _ttl(self, key: str | bytes) -> timedelta | None:
        ttl = await self._client.pttl(key)
        return duration_from_ms(ttl) if ttl >= 0 else None

    async def warnings(self) -> list[str]:
        """One sentence for each setting of the server that endangers claims."""
        try:
            memory = await self._info("memory")
            persistence = await self._info("persistence")
        except (ConfigFault, KeyTrouble):
            return []  # a server may hide its settings
        warnings = []
        if (policy := memory.get("maxmemory_policy", "noeviction")) != "noeviction":
            warnings.append(
                f"{self._server_name} evicts keys (maxmemory-policy {policy}): a lost claim costs a second LLM call; "
                "set maxmemory-policy noeviction."
            )
        if not int(persistence.get("aof_enabled", 1)):
            warnings.append(
                f"{self._server_name} keeps no append-only file: a restart forgets every claim; "
                "set appendonly yes and appendfsync everysec."
            )
        return warnings

    async def _info(self, section: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = await self._call(lambda: self._client.info(section))
        nodes = [node for node in answer.values() if isinstance(node, dict) and "used_memory" in node]
        return nodes[0] if nodes else answer  # a cluster answers for each node

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _call_script(self, verb: Verb, terms: ClaimTerms, token: str, *args: str | int) -> Reply:
        arguments = (self._prefix + terms.key, token, terms.lease_ms, terms.expire_ms, *args)
        return parse_reply(await self._call(partial(self._evalsha, *verb_script(verb), *arguments)))

    async def _evalsha(self, source: str, sha: str, *args: str | int) -> Any:
        try:
            return await self._client.evalsha(sha, 1, *args)
        except errors.NoScriptError:
            return await self._client.eval(source, 1, *args)

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, and repeat it if its answer was lost. Raises the errors of to_domain_error()."""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                with preserve_cancellation():
                    async with self._connections:
                        return await call()
            except NOT_RETRIED as cause:
                raise to_domain_error(cause, self._server_name) from cause
            except UNREACHABLE as cause:
                if attempt == MAX_ATTEMPTS:
                    raise to_domain_error(cause, self._server_name) from cause
            except TRANSLATED as cause:
                if _lacks_a_command(cause) and await self._is_sentinel():
                    problem = f"{self._server_name} is a Sentinel, which keeps no data"
                    raise ConfigFault(f"{problem}; REDIS_URL must name the server that it monitors.") from None
                raise to_domain_error(cause, self._server_name) from cause
        raise AssertionError("unreachable")

    async def _is_sentinel(self) -> bool:
        with suppress(*TRANSLATED):
            info = await self._client.info("server")
            return "sentinel" in (info.get("redis_mode"), info.get("server_mode"))  # Redis' name for it, and Valkey's
        return False


@contextmanager
def preserve_cancellation() -> Iterator[None]:
    """Raise CancelledError if cancelled inside; Python 3.11's `wait_for` may return instead (cpython issue 86296)."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


def connect(
    url: str, *, connections: int, timeout_seconds: float, environment: str = "", prefix: str = ""
) -> RedisClaims:
    """Claims over a pool of at most `connections`; a caller waits for a free one.

    `timeout_seconds` bounds connecting, each answer, and the wait for a connection.
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    server_name = f"Redis at {host}:{parts.port or 6379}" if host else f"Redis at {parts.path}"
    server_name += OVER_TLS if parts.scheme == "rediss" else ""
    query = parse_qs(parts.query)
    cluster = query.pop("cluster", ["false"])[-1].lower() in ("1", "true", "yes")
    plain_url = urlunsplit(parts._replace(query=urlencode(query, doseq=True)))
    common: dict[str, Any] = {
        "protocol": 2,  # RESP 3 would begin with HELLO: another round trip in every idle tick
        "driver_info": None,  # no CLIENT SETINFO, for the same reason
        "retry": Retry(NoBackoff(), 0),  # _call() retries: attempts, and the time they take, are bounded in one place
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
    }
    try:
        if cluster:
            client: Any = RedisCluster.from_url(plain_url, max_connections=connections, **common)
        else:
            common |= {"max_connections": connections, "timeout": timeout_seconds}
            client = Redis.from_pool(BlockingConnectionPool.from_url(plain_url, **common))
    except (ValueError, errors.RedisError, errors.RedisClusterException):
        # `from None`: the messages may contain the URL, and with it the password.
        raise ConfigFault("REDIS_URL is malformed; write redis://host:6379/0.") from None
    return RedisClaims(client, server_name, connections, environment, prefix)


def verb_script(verb: Verb) -> tuple[str, str]:
    """The verb's Lua source, after the shared functions for records, and its SHA1."""
    return _load_script("record", verb.value)


@cache
def _load_script(*names: str) -> tuple[str, str]:
    folder = Path(__file__).parent / "lua"
    source = "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)
    return source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def parse_reply(raw: list[Any]) -> Reply:
    """Parse the six-element array that every verb's script returns."""
    word, detail, failures, crashes, now, reason = raw
    answer = ClaimAnswer(decode(word))
    return Reply(
        answer=answer,
        now=datetime.fromtimestamp(now // 1000, UTC) + timedelta(milliseconds=now % 1000),
        wait=duration_from_ms(0 if answer is ClaimAnswer.DONE else int(detail)),
        final=ClaimState(decode(detail)) if answer is ClaimAnswer.DONE else None,
        failures=failures,
        crashes=crashes,
        reason=decode(reason),
    )


def _ms(duration: timedelta) -> int:
    return max(1, duration // timedelta(milliseconds=1))


def duration_from_ms(milliseconds: int) -> timedelta:
    """A TTL or wait as a timedelta, cut to MAX_TTL_MS."""
    return timedelta(milliseconds=min(milliseconds, MAX_TTL_MS))


def display(value: str | bytes) -> str:
    """A value to print; invalid UTF-8 is escaped."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def decode(value: str | bytes) -> str:
    """A reply as text."""
    return value.decode() if isinstance(value, bytes) else value


def to_domain_error(cause: Exception, server_name: str) -> Exception:
    """Return the job's error: ConfigFault for a wrong setting, KeyTrouble for another type, else ClaimsDown."""
    text = str(cause)
    if isinstance(cause, REFUSED) or UNAUTHENTICATED in text:
        return ConfigFault(f"{server_name} refuses the user or password in REDIS_URL; correct them.")
    if isinstance(cause, errors.NoPermissionError):
        return ConfigFault(f"{server_name} does not permit this user what claims need; correct its ACL.")
    if isinstance(cause, errors.AskError):  # MOVED is one too
        return ConfigFault(f"{server_name} is a Redis Cluster; add ?cluster=true to REDIS_URL.")
    for kind, code in SERVER_ERRORS.items():
        if isinstance(cause, kind):
            return _claims_down(f"{server_name} answers {code}; nothing is claimed until it serves again.")
    kind_name = type(cause).__name__
    if isinstance(cause, CLUSTER):
        problem = f"{server_name} is not a complete Redis Cluster ({kind_name})"
        return _claims_down(f"{problem}; check its nodes, or remove ?cluster=true from REDIS_URL.")
    if isinstance(cause, UNREACHABLE):
        hint = "; use redis:// for a server without TLS" if server_name.endswith(OVER_TLS) else ""
        return _claims_down(f"{server_name} does not answer ({kind_name}{hint}); check REDIS_URL and the server.")
    if not isinstance(cause, errors.ResponseError):
        problem = f"{server_name} does not speak the Redis protocol ({kind_name})"
        return _claims_down(f"{problem}; check REDIS_URL and the server.")
    code = text.split(" ", 1)[0]
    if "DB index is out of range" in text:  # SELECT's only error without a code
        return ConfigFault(f"{server_name} has no database with the number in REDIS_URL; most have 0 to 15.")
    if code == "DENIED":
        problem = f"{server_name} is in protected mode and refuses connections from this host"
        return ConfigFault(f"{problem}; give it a password, or bind it.")
    if _lacks_a_command(cause):
        problem = f"{server_name} lacks a command that claims need"
        return ConfigFault(f"{problem}; it is a Sentinel or a proxy, or rename-command hides EVALSHA.")
    if code == "WRONGTYPE":
        return KeyTrouble(f"{server_name} holds another type under one key ({code}).")
    code = code if code.isalnum() else "an error without a code"
    return _claims_down(f"{server_name} answers {code}; nothing is claimed until it serves again.")


def _lacks_a_command(cause: Exception) -> bool:
    return isinstance(cause, errors.ResponseError) and "unknown command" in str(cause)


def _claims_down(sentence: str) -> ClaimsDown:
    return ClaimsDown("redis", sentence)
