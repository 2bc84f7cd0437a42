"""The Claims port in memory: the claim table of domain.claim over a dict."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from notifications.domain import claim
from notifications.domain.claim import Call, ClaimAnswer, ClaimState, Record, Verb, decide, new_token, reason_code
from notifications.domain.money import SPEND_KEPT_SECONDS
from notifications.ports import ClaimTerms, RawKey, Reply, ScannedKey

ENVIRONMENT = "memory"
Now = Callable[[], datetime]


def wall_clock() -> datetime:
    """This machine's time, in UTC."""
    return datetime.now(UTC)


class MemoryRedis:
    """The Redis commands over one dict that older deployments and tests use."""

    def __init__(self, clock: Now = wall_clock) -> None:
        self.clock = clock
        self.values: dict[str, tuple[Any, int | None]] = {}  # key -> value, expiry in ms

    @property
    def ms(self) -> int:
        return int(self.clock().timestamp() * 1000)

    def look(self, key: str) -> Any:
        value, ends = self.values.get(key, (None, None))
        if ends is not None and ends <= self.ms:
            del self.values[key]
            return None
        return value

    def ends(self, key: str) -> int | None:
        return self.values[key][1] if self.look(key) is not None else None

    async def get(self, key: str) -> bytes | None:
        value = self.look(key)
        return value.encode() if value is not None else None

    async def set(self, key: str, value: str, *, px: int | None = None) -> None:
        self.values[key] = (value, None if px is None else self.ms + px)

    async def pttl(self, key: str) -> int:
        ends = self.ends(key)
        return -1 if ends is None else ends - self.ms

    async def hset(self, key: str, name: str, value: str) -> None:
        self.values[key] = ({name.encode(): value.encode()}, None)

    async def hgetall(self, key: str) -> Any:
        return self.look(key)


class MemoryClaims:
    """The Claims port over a dict, for one process."""

    def __init__(self, redis: MemoryRedis | None = None) -> None:
        self._client = redis or MemoryRedis()
        self.warning_sentences: list[str] = []
        self.environment = ENVIRONMENT

    async def now(self) -> datetime:
        return self._client.clock()

    async def read(self, keys: Sequence[str]) -> list[Record]:
        return [self._record(key) for key in keys]

    def _record(self, key: str) -> Record:
        value = self._client.look(key)
        return claim.FOREIGN if isinstance(value, dict) else claim.parse(value)

    async def claim(self, terms: ClaimTerms, token: str, lane: int) -> Reply:
        return self._carry_out(Call(Verb.CLAIM, token, self._client.ms, terms.lease_ms, lane, terms.max_crashes), terms)

    async def renew(self, terms: ClaimTerms, token: str) -> Reply:
        return self._carry_out(Call(Verb.RENEW, token, self._client.ms, terms.lease_ms), terms)

    async def complete(self, terms: ClaimTerms, token: str, outcome: ClaimState) -> Reply:
        return self._carry_out(Call(Verb.COMPLETE, token, self._client.ms, outcome=outcome), terms)

    async def fail(self, terms: ClaimTerms, token: str, wait: timedelta, added_failures: int, reason: str) -> Reply:
        ask = Call(
            Verb.FAIL,
            token,
            self._client.ms,
            wait=max(0, wait // timedelta(milliseconds=1)),
            added_failures=added_failures,
            max_failures=terms.max_failures,
            until=terms.until_ms,
            reason=reason_code(reason),
        )
        return self._carry_out(ask, terms)

    def _carry_out(self, ask: Call, terms: ClaimTerms) -> Reply:
        before = self._record(terms.key)
        transition = decide(ask, before)
        after, wait = transition.after, transition.wait
        if wait == claim.WAIT_IS_TTL:  # a foreign value
            ends = self._client.ends(terms.key)
            if ends is None:
                value, _ = self._client.values[terms.key]
                ends = ask.now + claim.FOREIGN_TTL_MS
                self._client.values[terms.key] = (value, ends)
            wait = ends - ask.now
        elif after.state is ClaimState.ABSENT:
            self._client.values.pop(terms.key, None)
        elif after != before or after.state is ClaimState.CLAIMED:
            self._store(terms, ask.now, after)
        return Reply(
            answer=transition.answer,
            now=datetime.fromtimestamp(ask.now // 1000, UTC) + timedelta(milliseconds=ask.now % 1000),
            wait=timedelta(milliseconds=wait),
            final=after.state if transition.answer is ClaimAnswer.DONE else None,
            failures=after.failures,
            crashes=after.crashes,
            reason=self._why_held(terms.key, before) if ask.verb is Verb.CLAIM else after.reason,
        )

    def _why_held(self, key: str, before: Record) -> str:
        if before.state is not ClaimState.FOREIGN:
            return before.reason
        return claim.FOREIGN_TYPE if isinstance(self._client.look(key), dict) else claim.FOREIGN_TEXT

    def _store(self, terms: ClaimTerms, now: int, record: Record) -> None:
        fields = {
            "s": record.state.value,
            "t": record.token,
            "u": record.until,
            "f": record.failures,
            "c": record.crashes,
            "r": record.reason,
        }
        short = {name: value for name, value in fields.items() if name in "st" or value}
        ends = max(terms.expire_ms, now + terms.lease_ms + claim.EXPIRY_AFTER_LEASE_MS)
        self._client.values[terms.key] = (json.dumps(short), ends)

    async def free(self, terms: ClaimTerms, token: str) -> Reply:
        return self._carry_out(Call(Verb.FREE, token, self._client.ms), terms)

    async def delete(self, key: str) -> None:
        self._client.values.pop(key, None)

    async def delete_if_unchanged(self, key: str, record: Record) -> bool:
        call = Call(Verb.FORGET, record.token, self._client.ms, outcome=record.state)
        return self._carry_out(call, ClaimTerms(key, 0, 0, 0)).answer is ClaimAnswer.OK

    async def add_members(self, key: str, members: Collection[str], expire_ms: int) -> None:
        self._client.values[key] = (frozenset({*(self._client.look(key) or ()), *members}), expire_ms)

    async def members(self, key: str) -> frozenset[str]:
        return self._client.look(key) or frozenset()

    async def take_turn(self, key: str, every: timedelta, at: datetime) -> bool:
        if self._client.look(key) is not None:
            return False
        await self._client.set(key, claim.turn_value(new_token(), int(at.timestamp() * 1000)), px=_ms(every))
        return True

    async def set_once(self, key: str, at: datetime, kept: timedelta) -> bool:
        if await self.take_turn(key, kept, at):
            return True
        value, _ = self._client.values[key]
        self._client.values[key] = (value, self._client.ms + _ms(kept))
        return False

    async def set_pause(self, key: str, duration: timedelta) -> None:
        if await self.pause_left(key) < duration:
            await self._client.set(key, "1", px=_ms(duration))

    async def pause_left(self, key: str) -> timedelta:
        return timedelta(milliseconds=max(0, await self._client.pttl(key)))

    async def reserve(self, key: str, token: str, micro_usd: int, budget_micro_usd: int) -> bool:
        spent: dict[str, int] = self._client.look(key) or {"total": 0}
        if token in spent:
            return True
        if spent["total"] + micro_usd > budget_micro_usd:
            return False
        updated = spent | {"total": spent["total"] + micro_usd, token: micro_usd}
        self._client.values[key] = (updated, self._client.ms + SPEND_KEPT_SECONDS * 1000)
        return True

    async def settle(self, key: str, token: str, micro_usd: int) -> None:
        spent: dict[str, int] = self._client.look(key) or {}
        if token in spent:
            spent["total"] += micro_usd - spent.pop(token)

    async def scan(self, pattern: str) -> AsyncIterator[ScannedKey]:
        for key in sorted(self._client.values):
            if fnmatch.fnmatchcase(key, pattern) and self._client.look(key) is not None:
                ends = self._client.ends(key)
                ttl = None if ends is None else timedelta(milliseconds=ends - self._client.ms)
                yield ScannedKey(key, self._record(key), ttl)

    async def keys(self, pattern: str) -> AsyncIterator[RawKey]:
        for scanned in [scanned async for scanned in self.scan(pattern)]:
            value = self._client.look(scanned.key)
            if isinstance(value, dict):
                value = json.dumps({name: str(amount) for name, amount in sorted(value.items())})
            yield RawKey(scanned.key, "(set)" if isinstance(value, frozenset) else value, scanned.ttl)

    async def warnings(self) -> list[str]:
        return self.warning_sentences

    async def aclose(self) -> None:
        """Nothing is open."""


def _ms(duration: timedelta) -> int:
    return max(1, duration // timedelta(milliseconds=1))
