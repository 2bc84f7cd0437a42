"""The contract of the claims: each verb by the table (docs/protocol.md, section 3), money, names and turns."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

import pytest

from notifications.domain import claim
from notifications.domain.claim import (
    ABSENT,
    FOREIGN,
    Call,
    ClaimAnswer,
    ClaimState,
    Record,
    Verb,
    decide,
    new_token,
    parse,
)
from notifications.ports import Claims, ClaimTerms
from notifications.testing.base import Suite

HOUR = 3_600_000
KEY = "users:ann:daily_summary_lock:2026-05-01"
SPENT = "daily_summary:spend:2026-05-01"


class RedisCommands(Protocol):
    """Redis' own commands, which only the tests use, past the adapter."""

    async def get(self, key: str) -> Any: ...
    async def set(self, key: str, value: str, *, px: int | None = None) -> Any: ...
    async def pttl(self, key: str) -> Any: ...
    async def hset(self, key: str, name: str, value: str) -> Any: ...
    async def hgetall(self, key: str) -> Any: ...


async def terms(claims: Claims, key: str = KEY, **changes: Any) -> ClaimTerms:
    """A user's terms from now on, with changes."""
    now = int((await claims.now()).timestamp() * 1000)
    base = ClaimTerms(
        key, lease_ms=600_000, expire_ms=now + 3 * HOUR, until_ms=now + 2 * HOUR, max_crashes=4, max_failures=3
    )
    return replace(base, **changes)


Operation = Callable[[Claims, ClaimTerms, str], Any]
LONG, LAPSED = 10 * 60_000, -1
OPERATIONS: list[tuple[str, Call, Operation]] = [
    ("claim in lane 0", Call(Verb.CLAIM, "", 0, LONG, lane=0, max_crashes=4), lambda c, t, k: c.claim(t, k, 0)),
    (
        "claim that lapses at once, in lane 2",
        Call(Verb.CLAIM, "", 0, LAPSED, lane=2, max_crashes=4),
        lambda c, t, k: c.claim(replace(t, lease_ms=LAPSED), k, 2),
    ),
    ("renew", Call(Verb.RENEW, "", 0, LONG), lambda c, t, k: c.renew(t, k)),
    ("complete", Call(Verb.COMPLETE, "", 0, LONG), lambda c, t, k: c.complete(t, k, ClaimState.SENT)),
    ("free", Call(Verb.FREE, "", 0, LONG), lambda c, t, k: c.free(t, k)),
    (
        "fail that counts, due at once",
        Call(Verb.FAIL, "", 0, LONG, added_failures=1, max_failures=3, reason="truncated"),
        lambda c, t, k: c.fail(t, k, timedelta(0), 1, "truncated"),
    ),
    (
        "fail that waits",
        Call(Verb.FAIL, "", 0, LONG, wait=HOUR, max_failures=3, reason="provider_503"),
        lambda c, t, k: c.fail(t, k, timedelta(hours=1), 0, "provider_503"),
    ),
]


def normal(record: Record, now: int) -> tuple[Any, ...]:
    """What the table distinguishes in a record: its times only as past, near or far."""
    near = 0 if record.until <= now else 1
    return (record.state, record.token, near, record.failures, record.crashes, record.reason)


FOREIGN_VALUES: list[Any] = [
    "1",
    "",
    "null",
    "[]",
    "{}",
    "not json",
    '{"s":"claimed"}',
    '{"s":"claimed","t":"x","u":"y"}',
    '{"s":"unheard","t":"x"}',
    '"text"',
    "7",
    '{"s":"sent","t":"x","u":1e999}',
    '{"s":"sent","t":"x","u":1e300}',
    '{"s":"idle","t":"x","u":0,"f":9007199254740994}',
    '{"s":"idle","t":"x","u":0,"c":1.5}',
    '{"s":"idle","t":"x","u":NaN}',
    '{"s":"idle","t":"x","u":true}',
    "[" * 100_000,
    "x" * 1_000_000,
]


class ClaimsSuite(Suite):
    """Compares every verb with the table of `notifications.domain.claim`, also with two runs at once."""

    def make(self) -> AbstractAsyncContextManager[Claims]:
        """Claims over an empty Redis."""
        raise NotImplementedError

    def commands(self, claims: Any) -> RedisCommands:
        """Redis' own commands on the server of those claims."""
        raise NotImplementedError

    async def _put(self, claims: Claims, value: str | None) -> None:
        await claims.delete(KEY)
        if value is not None:
            await self.commands(claims).set(KEY, value, px=HOUR)

    async def _raw(self, claims: Claims) -> str | None:
        value = await self.commands(claims).get(KEY)
        return value.decode() if value is not None else None

    async def test_every_sequence_of_five_operations_by_two_tokens_follows_the_table(self, claims: Claims) -> None:
        """Breadth first over the states that five operations reach: each (state, operation) once is every sequence."""
        base = await terms(claims)
        moves = list(itertools.product(("a", "b"), OPERATIONS))
        states: dict[tuple[Any, ...], str | None] = {("absent",): None}
        seen = set(states)
        compared = 0
        for _ in range(5):
            reached: dict[tuple[Any, ...], str | None] = {}
            for value in states.values():
                for token, (name, ask, call) in moves:
                    await self._put(claims, value)
                    reply = await call(claims, base, token)
                    now = int(reply.now.timestamp() * 1000 + 0.5)
                    transition = decide(replace(ask, token=token, now=now, until=base.until_ms), parse(value))
                    [stored] = await claims.read([KEY])
                    context = f"{name} by {token} on {value}"
                    assert (reply.answer, stored) == (transition.answer, transition.after), context
                    if transition.answer in (ClaimAnswer.HELD, ClaimAnswer.FOREIGN, ClaimAnswer.WAIT):
                        assert reply.wait == timedelta(milliseconds=transition.wait), context
                    if transition.answer is ClaimAnswer.DONE:
                        assert reply.final is transition.after.state, context
                    compared += 1
                    key = normal(stored, now)
                    if key not in seen:
                        seen.add(key)
                        reached[key] = await self._raw(claims)
            states = reached
        assert compared > 12 * 30

    @pytest.mark.parametrize("steps_back", [claim.MAX_LEASE_MS + 60_000])
    async def test_a_clock_that_stepped_back_frees_what_it_froze(self, claims: Claims, steps_back: int) -> None:
        t = await terms(claims)
        now = int((await claims.now()).timestamp() * 1000)
        await self._put(claims, f'{{"s":"claimed","t":"x","u":{now + steps_back},"f":0,"c":0}}')
        assert (await claims.claim(t, "me", 1)).answer is ClaimAnswer.WON
        await self._put(claims, f'{{"s":"idle","t":"x","u":{now + 2 * steps_back},"f":0,"c":0}}')
        assert (await claims.claim(t, "me", 0)).answer is ClaimAnswer.WON

    async def test_every_write_has_an_expiry_of_three_hours_after_the_slot(self, claims: Claims) -> None:
        t = await terms(claims)
        calls: list[Callable[[], Any]] = [
            lambda: claims.claim(t, "me", 0),
            lambda: claims.fail(t, "me", timedelta(0), 0, "why"),
            lambda: claims.claim(t, "you", 0),
            lambda: claims.complete(t, "you", ClaimState.SKIPPED),
        ]
        for call in calls:
            reply = await call()
            assert reply.answer in (ClaimAnswer.WON, ClaimAnswer.OK)
            left = await self.commands(claims).pttl(KEY)
            now = int((await claims.now()).timestamp() * 1000)
            assert abs(now + left - t.expire_ms) < 1000
        late = replace(t, expire_ms=0)
        await claims.delete(KEY)
        await claims.claim(late, "me", 0)
        assert 19 * 60_000 < await self.commands(claims).pttl(KEY) <= 20 * 60_000  # lease + 10 min

    @pytest.mark.parametrize("value", FOREIGN_VALUES)
    async def test_another_makers_value_is_held_and_never_touched(self, claims: Claims, value: str) -> None:
        t = await terms(claims)
        assert parse(value) == FOREIGN
        await self.commands(claims).set(KEY, value)
        reply = await claims.claim(t, "me", 0)
        assert (reply.answer, reply.wait) == (ClaimAnswer.FOREIGN, timedelta(hours=2))
        assert 7_190_000 < await self.commands(claims).pttl(KEY) <= 7_200_000  # it had no TTL, so it gets one
        await self.commands(claims).set(KEY, value, px=60_000)
        assert (await claims.claim(t, "me", 0)).wait <= timedelta(minutes=1)
        for verb in (
            claims.renew(t, "me"),
            claims.complete(t, "me", ClaimState.SENT),
            claims.fail(t, "me", timedelta(0), 1, "why"),
        ):
            assert (await verb).answer is ClaimAnswer.LOST
        assert await self._raw(claims) == value

    async def test_a_hash_under_our_key_is_held(self, claims: Claims) -> None:
        await self.commands(claims).hset(KEY, "a", "b")
        assert (await claims.claim(await terms(claims), "me", 0)).answer is ClaimAnswer.FOREIGN
        assert await claims.read([KEY, "nothing"]) == [FOREIGN, ABSENT]
        assert await self.commands(claims).hgetall(KEY) == {b"a": b"b"}

    async def test_a_record_is_deleted_only_while_it_is_the_one_that_was_read(self, claims: Claims) -> None:
        t = await terms(claims)
        await claims.claim(t, "me", 0)
        [mine] = await claims.read([KEY])
        for other in (replace(mine, token="you"), replace(mine, state=ClaimState.SENT), ABSENT):
            assert not await claims.delete_if_unchanged(KEY, other)
            assert await claims.read([KEY]) == [mine]
        assert await claims.delete_if_unchanged(KEY, mine)
        assert await claims.delete_if_unchanged(KEY, mine)  # a repeat, whose answer was lost
        assert await claims.read([KEY]) == [ABSENT]

    async def test_names_are_kept_together_until_their_time(self, claims: Claims) -> None:
        now = int((await claims.now()).timestamp() * 1000)
        assert await claims.members("daily_summary:skipped:x") == frozenset()
        await claims.add_members("daily_summary:skipped:x", {f"user-{n}" for n in range(1_200)}, now + HOUR)
        await claims.add_members("daily_summary:skipped:x", {"user-0", "émile"}, now + HOUR)
        assert await claims.members("daily_summary:skipped:x") == {*(f"user-{n}" for n in range(1_200)), "émile"}
        [found] = [key async for key in claims.keys("daily_summary:skipped:*")]
        assert found.ttl is not None
        assert timedelta(minutes=59) < found.ttl <= timedelta(hours=1)

    async def test_a_turn_and_a_pause_are_an_environments_own(self, claims: Claims) -> None:
        now = await claims.now()
        for place in ("e1", "e2"):
            assert await claims.take_turn(claim.sweep_key(place), timedelta(minutes=10), now)
        await claims.set_pause(claim.pause_key("e1"), timedelta(seconds=9))
        assert await claims.pause_left(claim.pause_key("e2")) == timedelta(0)

    async def test_since_when_redis_remembers_is_written_once_and_kept(self, claims: Claims) -> None:
        key, now = claim.since_key("e1"), await claims.now()
        assert await claims.set_once(key, now, timedelta(minutes=1))
        assert not await claims.set_once(key, now + timedelta(hours=1), timedelta(days=30))
        [record] = await claims.read([key])
        assert (record.until, record.state) == (int(now.timestamp() * 1000), ClaimState.COMPLETE)
        [found] = [scanned async for scanned in claims.scan(key)]
        assert found.ttl is not None
        assert timedelta(days=29) < found.ttl <= timedelta(days=30)

    async def test_one_of_many_wins(self, claims: Claims) -> None:
        t = await terms(claims)
        replies = await asyncio.gather(*(claims.claim(t, new_token(), 0) for _ in range(50)))
        assert [reply.answer for reply in replies].count(ClaimAnswer.WON) == 1
        assert [reply.answer for reply in replies].count(ClaimAnswer.HELD) == 49

    async def test_a_failed_item_rests_half_an_hour_at_most_and_never_past_its_catch_up(self, claims: Claims) -> None:
        t = await terms(claims)
        await claims.claim(t, "me", 0)
        reply = await claims.fail(t, "me", timedelta(hours=3), 0, "why")
        [record] = await claims.read([KEY])
        now = int(reply.now.timestamp() * 1000 + 0.5)
        assert record.until == now + 30 * 60_000
        short = replace(t, until_ms=now + 1000)
        await claims.delete(KEY)
        await claims.claim(short, "me", 0)
        await claims.fail(short, "me", timedelta(hours=3), 0, "why")
        assert (await claims.read([KEY]))[0].until == now + 1000

    async def test_an_item_is_dead_at_its_third_failure(self, claims: Claims) -> None:
        t = await terms(claims)
        answers = []
        for token in ("a", "b", "c"):
            assert (await claims.claim(t, token, 0)).answer is ClaimAnswer.WON
            answers.append((await claims.fail(t, token, timedelta(0), 1, "why")).answer)
            answers.append((await claims.fail(t, token, timedelta(0), 1, "why")).answer)  # a repeat counts once
        assert answers == [ClaimAnswer.OK] * 4 + [ClaimAnswer.DONE] * 2
        reply = await claims.claim(t, "d", 2)
        assert (reply.answer, reply.final, reply.failures) == (ClaimAnswer.DONE, ClaimState.DEAD, 3)

    async def test_crashes_narrow_the_lane_and_end_in_dead(self, claims: Claims) -> None:
        lapsing = await terms(claims, lease_ms=LAPSED)
        told = []
        for crash, lane in enumerate((0, 1, 2, 2, 2)):
            reply = await claims.claim(lapsing, f"t{crash}", max(0, lane - 1))
            if reply.answer is ClaimAnswer.LATER:
                reply = await claims.claim(lapsing, f"t{crash}", lane)
            told.append((reply.answer, reply.crashes))
        assert told == [
            (ClaimAnswer.WON, 0),
            (ClaimAnswer.WON, 1),
            (ClaimAnswer.WON, 2),
            (ClaimAnswer.WON, 3),
            (ClaimAnswer.DONE, 4),
        ]

    async def test_a_shard_is_never_dead(self, claims: Claims) -> None:
        lapsing = await terms(claims, lease_ms=LAPSED, max_crashes=0)
        replies = [await claims.claim(lapsing, str(n), 2) for n in range(12)]
        assert {reply.answer for reply in replies} == {ClaimAnswer.WON}
        assert replies[-1].crashes == 11

    async def test_scan_joins_records_with_their_ttl(self, claims: Claims) -> None:
        for uid in ("ann", "bob"):
            t = await terms(claims, key=f"users:{uid}:daily_summary_lock:2026-05-01")
            await claims.claim(t, uid, 0)
        found = {scanned.key: scanned async for scanned in claims.scan("users:*:daily_summary_lock:*")}
        assert sorted(found) == [f"users:{uid}:daily_summary_lock:2026-05-01" for uid in ("ann", "bob")]
        assert {scanned.record.state for scanned in found.values()} == {ClaimState.CLAIMED}
        assert all(scanned.ttl is not None and scanned.ttl > timedelta(hours=2) for scanned in found.values())

    async def test_keys_are_shown_with_value_and_ttl_whatever_their_type(self, claims: Claims) -> None:
        key = "users:ann:daily_summary_lock:2026-05-01"
        await claims.claim(await terms(claims, key=key), "ann's", 0)
        assert await claims.reserve(SPENT, "a", 60, 100)
        [claimed] = [key async for key in claims.keys("users:*:daily_summary_lock:*")]
        assert (claimed.key, json.loads(claimed.value)["t"]) == (key, "ann's")
        assert claimed.ttl is not None
        assert claimed.ttl > timedelta(hours=2)
        [spent] = [key async for key in claims.keys("daily_summary:*")]
        assert (spent.key, json.loads(spent.value)) == (SPENT, {"a": "60", "total": "60"})
        assert [key async for key in claims.keys("nobody:*")] == []

    async def test_money_is_taken_before_it_is_spent_and_settled_after(self, claims: Claims) -> None:
        assert await claims.reserve(SPENT, "a", 60, 100)
        assert not await claims.reserve(SPENT, "b", 41, 100)
        assert await claims.reserve(SPENT, "c", 40, 100)
        await claims.settle(SPENT, "a", 5)
        assert not await claims.reserve(SPENT, "d", 56, 100)
        assert await claims.reserve(SPENT, "d", 55, 100)

    async def test_a_repeat_neither_takes_nor_settles_twice(self, claims: Claims) -> None:
        for _ in range(3):
            assert await claims.reserve(SPENT, "a", 60, 100)
        for _ in range(3):
            await claims.settle(SPENT, "a", 10)
        await claims.settle(SPENT, "nobody's", 70)
        assert await claims.reserve(SPENT, "b", 90, 100)
        assert not await claims.reserve(SPENT, "c", 1, 100)

    async def test_a_hundred_at_once_take_no_more_than_there_is(self, claims: Claims) -> None:
        taken = await asyncio.gather(*(claims.reserve(SPENT, f"t{n}", 7, 100) for n in range(100)))
        assert sum(taken) == 14

    async def test_a_cancelled_call_ends_cancelled_at_whichever_step_it_comes(self, claims: Claims) -> None:
        """If the client swallowed a cancellation, its caller would wait for ever."""
        await claims.pause_left(KEY)
        steps = 0
        while True:
            asking = asyncio.create_task(claims.pause_left(KEY))
            for _ in range(steps):
                await asyncio.sleep(0)
            if asking.done():
                break
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled(), steps
            steps += 1
