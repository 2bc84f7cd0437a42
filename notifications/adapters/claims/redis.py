"""Claims in Redis 6.2 or later, or a cluster: one Lua file a verb, run with one key (docs/protocol.md, section 3)."""

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

TRIES = 3  # of one call, with the same token
SCAN_BATCH = 500
READ_BATCH = 1_000
SETTLE = -1  # in place of a budget
LONGEST_MS = 10 * 366 * 86_400_000


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
        seconds, micros = await self._retry(self._client.time)
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)

    async def read(self, keys: Sequence[str]) -> list[Record]:
        """The records of these keys, in order; FOREIGN for what can't be read as one."""
        records: list[Record] = []
        for start in range(0, len(keys), READ_BATCH):
            batch = [self._prefix + key for key in keys[start : start + READ_BATCH]]
            records += await self._retry(partial(self._get, batch))
        return records

    async def _get(self, keys: Sequence[str | bytes]) -> list[Record]:
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.get(key)
        values = await pipe.execute(raise_on_error=False)
        for value in values:
            if isinstance(value, Exception) and not str(value).startswith("WRONGTYPE"):  # not written by this job
                raise value
        return [Record(ClaimState.FOREIGN) if isinstance(value, Exception) else parse(value) for value in values]

    async def claim(self, terms: ClaimTerms, token: str, lane: int) -> Reply:
        return await self._run(Verb.CLAIM, terms, token, lane, terms.max_crashes)

    async def renew(self, terms: ClaimTerms, token: str) -> Reply:
        return await self._run(Verb.RENEW, terms, token)

    async def complete(self, terms: ClaimTerms, token: str, outcome: ClaimState) -> Reply:
        return await self._run(Verb.COMPLETE, terms, token, outcome.value)

    async def free(self, terms: ClaimTerms, token: str) -> Reply:
        return await self._run(Verb.FREE, terms, token)

    async def fail(self, terms: ClaimTerms, token: str, wait: timedelta, counts: int, reason: str) -> Reply:
        """Give the own claim back, to be tried after `wait` (30 min at most)."""
        wait_ms = max(0, wait // timedelta(milliseconds=1))
        args = (wait_ms, counts, terms.max_failures, terms.until_ms, reason_code(reason))
        return await self._run(Verb.FAIL, terms, token, *args)

    async def forget(self, key: str, only: Record | None = None) -> bool:
        if only is None:
            await self._retry(lambda: self._client.delete(self._prefix + key))
            return True
        reply = await self._run(Verb.FORGET, ClaimTerms(key, 0, 0, 0), only.token, only.state.value)
        return reply.answer is ClaimAnswer.OK

    async def add_names(self, key: str, names: Collection[str], expire_ms: int) -> None:
        """Add to the set under this key, which expires at that time. Raises KeyTrouble for another type."""
        ordered = sorted(names)

        async def add() -> None:
            pipe = self._client.pipeline(transaction=False)
            for start in range(0, len(ordered), READ_BATCH):
                pipe.sadd(self._prefix + key, *ordered[start : start + READ_BATCH])
            pipe.pexpireat(self._prefix + key, expire_ms)
            await pipe.execute()

        await self._retry(add)

    async def names(self, key: str) -> frozenset[str]:
        """The set under this key; empty where there is none. Raises KeyTrouble for another type."""
        return frozenset(map(decode, await self._retry(lambda: self._client.smembers(self._prefix + key))))

    async def take_turn(self, key: str, every: timedelta, at: datetime) -> bool:
        """Whether this run may do what is done once in that time over all processes."""
        value = turn_value(new_token(), int(at.timestamp() * 1000))
        if await self._retry(lambda: self._client.set(self._prefix + key, value, nx=True, px=_ms(every))):
            return True
        stored = await self._retry(lambda: self._client.get(self._prefix + key))
        return stored is not None and decode(stored) == value  # set by a try whose reply was lost

    async def set_once(self, key: str, at: datetime, kept: timedelta) -> bool:
        """Store that instant unless there is one, and keep it for so long from now. Returns whether it is new."""
        if await self.take_turn(key, kept, at):
            return True
        await self._retry(lambda: self._client.pexpire(self._prefix + key, kept))
        return False

    async def set_pause(self, key: str, rest: timedelta) -> None:
        """Pause all processes for that long, unless a longer pause is set."""
        if await self.pause_left(key) < rest:
            await self._retry(lambda: self._client.set(self._prefix + key, "1", px=_ms(rest)))

    async def pause_left(self, key: str) -> timedelta:
        ttl = await self._retry(lambda: self._client.pttl(self._prefix + key))
        return ttl_of(max(0, ttl))

    async def reserve(self, key: str, token: str, amount: int, most: int) -> bool:
        return await self._spend(key, token, amount, most) == 1

    async def settle(self, key: str, token: str, amount: int) -> None:
        await self._spend(key, token, amount, SETTLE)

    async def _spend(self, key: str, token: str, amount: int, most: int) -> int:
        args = (self._prefix + key, token, amount, most, SPEND_KEPT_SECONDS)
        return int(await self._retry(partial(self._evaluate, *_script("spend"), *args)))

    async def _matching(self, pattern: str) -> AsyncIterator[str | bytes]:
        """Every key that matches. SCAN, never KEYS."""
        try:
            async for key in self._client.scan_iter(match=self._prefix + pattern, count=SCAN_BATCH):
                yield key
        except TRANSLATED as cause:
            raise translate(cause, self._where) from cause

    async def scan(self, pattern: str) -> AsyncIterator[ScannedKey]:
        async for key in self._matching(pattern):
            [record] = await self._retry(partial(self._get, [key]))
            yield ScannedKey(display(key[len(self._prefix) :]), record, await self._retry(partial(self._ttl, key)))

    async def keys(self, pattern: str) -> AsyncIterator[RawKey]:
        """Every key that matches, whole, with its value and TTL: a hash as JSON, of other types the type's name."""
        async for key in self._matching(pattern):
            kind, value = await self._retry(partial(self._raw_value, key))
            if kind != "none":  # it has expired meanwhile
                yield RawKey(display(key), value, await self._retry(partial(self._ttl, key)))

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
        return ttl_of(ttl) if ttl >= 0 else None

    async def warnings(self) -> list[str]:
        """What is wrong with the server's settings, a sentence each."""
        try:
            memory = await self._info("memory")
            persistence = await self._info("persistence")
        except (ConfigFault, KeyTrouble):
            return []  # a server may hide its settings
        warnings = []
        if (policy := memory.get("maxmemory_policy", "noeviction")) != "noeviction":
            warnings.append(
                f"{self._where} evicts keys (maxmemory-policy {policy}): a lost claim costs a second LLM call; "
                "set maxmemory-policy noeviction."
            )
        if not int(persistence.get("aof_enabled", 1)):
            warnings.append(
                f"{self._where} keeps no append-only file: a restart forgets every claim; "
                "set appendonly yes and appendfsync everysec."
            )
        return warnings

    async def _info(self, section: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = await self._retry(lambda: self._client.info(section))
        nodes = [node for node in answer.values() if isinstance(node, dict) and "used_memory" in node]
        return nodes[0] if nodes else answer  # a cluster answers for each node

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _run(self, verb: Verb, terms: ClaimTerms, token: str, *args: str | int) -> Reply:
        args = (self._prefix + terms.key, token, terms.lease_ms, terms.expire_ms, *args)
        return parse_reply(await self._retry(partial(self._evaluate, *script(verb), *args)))

    async def _evaluate(self, source: str, sha: str, *args: str | int) -> Any:
        try:
            return await self._client.evalsha(sha, 1, *args)
        except errors.NoScriptError:
            return await self._client.eval(source, 1, *args)

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, and repeat it where the answer was lost: every verb is idempotent under its token."""
        for attempt in range(1, TRIES + 1):
            try:
                with preserve_cancellation():
                    async with self._free:
                        return await call()
            except NOT_RETRIED as cause:
                raise translate(cause, self._where) from cause
            except UNREACHABLE as cause:
                if attempt == TRIES:
                    raise translate(cause, self._where) from cause
            except TRANSLATED as cause:
                if _lacks_a_command(cause) and await self._is_sentinel():
                    raise ConfigFault(
                        f"{self._where} is a Sentinel, which keeps no data; REDIS_URL wants the server that it watches."
                    ) from None
                raise translate(cause, self._where) from cause
        raise AssertionError("unreachable")

    async def _is_sentinel(self) -> bool:
        with suppress(*TRANSLATED):
            info = await self._client.info("server")
            return "sentinel" in (info.get("redis_mode"), info.get("server_mode"))  # Redis' name for it, and Valkey's
        return False


@contextmanager
def preserve_cancellation() -> Iterator[None]:
    """Raise CancelledError if cancelled inside: Python 3.11's `wait_for` may return instead (cpython issue 86296)."""
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

    `timeout_seconds` bounds connecting, each answer, and the wait for a connection. The client's own retries are off:
    a retry that hides a lost answer can't keep its token. No handshake either: it would cost an idle tick round trips.
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    where = f"Redis at {host}:{parts.port or 6379}" if host else f"Redis at {parts.path}"
    where += OVER_TLS if parts.scheme == "rediss" else ""
    query = parse_qs(parts.query)
    cluster = query.pop("cluster", ["false"])[-1].lower() in ("1", "true", "yes")
    plain_url = urlunsplit(parts._replace(query=urlencode(query, doseq=True)))
    common: dict[str, Any] = {"protocol": 2, "driver_info": None, "retry": Retry(NoBackoff(), 0)}
    common |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), timeout_seconds)
    try:
        if cluster:
            client: Any = RedisCluster.from_url(plain_url, max_connections=connections, **common)
        else:
            common |= {"max_connections": connections, "timeout": timeout_seconds}
            client = Redis.from_pool(BlockingConnectionPool.from_url(plain_url, **common))
    except (ValueError, errors.RedisError, errors.RedisClusterException):  # their texts may quote it
        raise ConfigFault("REDIS_URL is malformed; write redis://host:6379/0.") from None
    return RedisClaims(client, where, connections, environment, prefix)


def script(verb: Verb) -> tuple[str, str]:
    """The verb's Lua source, after the shared functions for records, and its SHA1."""
    return _script("record", verb.value)


@cache
def _script(*names: str) -> tuple[str, str]:
    folder = Path(__file__).parent / "lua"
    source = "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)
    return source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def parse_reply(raw: list[Any]) -> Reply:
    """The answer of a verb."""
    word, detail, failures, crashes, now, reason = raw
    answer = ClaimAnswer(decode(word))
    return Reply(
        answer=answer,
        now=datetime.fromtimestamp(now // 1000, UTC) + timedelta(milliseconds=now % 1000),
        wait=ttl_of(0 if answer is ClaimAnswer.DONE else int(detail)),
        final=ClaimState(decode(detail)) if answer is ClaimAnswer.DONE else None,
        failures=failures,
        crashes=crashes,
        reason=decode(reason),
    )


def _ms(span: timedelta) -> int:
    return max(1, span // timedelta(milliseconds=1))


def ttl_of(milliseconds: int) -> timedelta:
    """A TTL as a timedelta, which holds less than Redis does."""
    return timedelta(milliseconds=min(milliseconds, LONGEST_MS))


def display(value: str | bytes) -> str:
    """A value for a person: bytes that are no text are escaped."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def decode(value: str | bytes) -> str:
    """A reply as text."""
    return value.decode() if isinstance(value, bytes) else value


SERVER_ERRORS: dict[type[Exception], str] = {  # before the classes that these derive from
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
UNAUTHENTICATED = "unauthenticated"  # a call of more than ten words without a login: an error without a code
OVER_TLS = " over TLS"
NOT_RETRIED = (errors.BusyLoadingError, *REFUSED)  # connection errors by their class, but a second try fails too


def translate(cause: Exception, where: str) -> Exception:
    """ClaimsDown where claiming has to stop, ConfigFault for a wrong setting, KeyTrouble for a key of another type."""
    text = str(cause)
    if isinstance(cause, REFUSED) or UNAUTHENTICATED in text:
        return ConfigFault(f"{where} refuses the user or password in REDIS_URL; correct them.")
    if isinstance(cause, errors.NoPermissionError):
        return ConfigFault(f"{where} does not permit this user what claims need; correct its ACL.")
    if isinstance(cause, errors.AskError):  # MOVED is one too
        return ConfigFault(f"{where} is a Redis Cluster; add ?cluster=true to REDIS_URL.")
    for kind, code in SERVER_ERRORS.items():
        if isinstance(cause, kind):
            return _down(f"{where} answers {code}; nothing is claimed until it serves again.")
    kind_name = type(cause).__name__
    if isinstance(cause, CLUSTER):
        sentence = f"is no whole Redis Cluster ({kind_name}); check its nodes, or take ?cluster=true out of REDIS_URL."
        return _down(f"{where} {sentence}")
    if isinstance(cause, UNREACHABLE):
        why = kind_name + ("; a server without TLS wants redis://" if where.endswith(OVER_TLS) else "")
        return _down(f"{where} does not answer ({why}); check REDIS_URL and the server.")
    if not isinstance(cause, errors.ResponseError):
        return _down(f"{where} does not speak as Redis does ({kind_name}); check REDIS_URL and the server.")
    code = text.split(" ", 1)[0]
    if "DB index is out of range" in text:  # the one answer to SELECT that has no code
        return ConfigFault(f"{where} has no database of the number in REDIS_URL; most have 0 to 15.")
    if code == "DENIED":
        return ConfigFault(f"{where} is in protected mode and takes nobody from here; give it a password, or bind it.")
    if _lacks_a_command(cause):
        return ConfigFault(
            f"{where} lacks a command that claims need; it is a Sentinel or a proxy, or rename-command hides EVALSHA."
        )
    if code == "WRONGTYPE":
        return KeyTrouble(f"{where} holds another type under one key ({code}).")
    code = code if code.isalnum() else "an error without a code"
    return _down(f"{where} answers {code}; nothing is claimed until it serves again.")


def _lacks_a_command(cause: Exception) -> bool:
    return isinstance(cause, errors.ResponseError) and "unknown command" in str(cause)


def _down(sentence: str) -> ClaimsDown:
    return ClaimsDown("redis", sentence)
