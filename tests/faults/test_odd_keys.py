"""Values under the job's own keys that it never wrote: each told and named, and nobody else's day lost for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis

from notifications.domain import claim
from notifications.domain.claim import ClaimState
from notifications.domain.money import spend_key
from notifications.domain.schedule import tzdata_version
from tests.faults.stage import on_sqlite
from tests.support.jobs import Stage
from tests.support.worlds import talk

RECORD = '{{"s":"complete","t":"","u":{}}}'
ODD: dict[str, Any] = {
    "a list": ["x"],
    "a hash": {"total": "x", "s": "complete"},
    "a set": {"x"},
    "bytes that are no text": b"\xff\xfe\x00",
    "an empty text": "",
    "a huge number": RECORD.format("9" * 400),
    "a number of another magnitude": RECORD.format("9" * 20),
    "a number beyond numbers": RECORD.format("1e999"),
    "a float": RECORD.format("1.5"),
    "no number": RECORD.format("NaN"),
    "a megabyte": "x" * 1_000_000,
    "deep JSON": "[" * 100_000,
}
BY_TYPE = ("a list", "a hash", "a set")  # no older deployment's lock


def put(client: Redis, key: str, value: Any) -> None:
    client.delete(key)
    match value:
        case list():
            client.rpush(key, *value)
        case dict():
            client.hset(key, mapping=value)
        case set():
            client.sadd(key, *value)
        case _:
            client.set(key, value)
    client.pexpire(key, 3_600_000)


@pytest.mark.parametrize("kind", ODD)
@on_sqlite
def test_whatever_stands_under_the_jobs_keys_is_told_and_costs_nobody_elses_day(stage: Stage, kind: str) -> None:
    """At once: under the sweep's key, since's, a cohort's, a user's, the day's money and the LLM's pause."""
    slot = stage.add_user("ann")
    stage.add_user("held")
    elsewhere = stage.add_user("bob", zone="Asia/Kolkata")
    place = stage.world.environment
    hour = stage.world.user("bob")["daily_summary_hour_local"]  # type: ignore[index]
    sweep, since, pause = claim.sweep_key(place), claim.since_key(place), claim.pause_key(place)
    cohort = claim.shard_key(elsewhere.at, hour, tzdata_version(), place, 0, 1)
    held = claim.user_key("held", slot.recap_date)
    with Redis(port=stage.redis.port) as client:
        for key in (sweep, since, pause, cohort, held, spend_key(place, stage.now.date())):
            put(client, key, ODD[kind])
        client.pexpire(pause, 2_000)  # for as long as it waits
        finished = stage.run(
            RECAP_DAILY_BUDGET_USD="1", RECAP_PRICE_IN_USD_PER_MTOK="0", RECAP_PRICE_OUT_USD_PER_MTOK="0"
        )
        replaced = [json.loads(client.get(key) or "{}").get("s") for key in (sweep, since)]
    assert finished.code == 1, finished.err
    assert [event["key"] for event in finished.named("redis.key_replaced")] == [sweep, since]
    assert replaced == ["complete", "complete"]
    [trouble] = finished.named("shard.key_trouble")
    assert (trouble["key"], cohort in trouble["reason"]) == (cohort, True)
    event = finished.event("tick.finished")
    by_type = kind in BY_TYPE
    assert (event["sent"], event["held"], event["failed"]) == (1, 1 - by_type, int(by_type))
    assert [held in told["reason"] for told in finished.named("recap.trouble")] == [True] * by_type
    assert (stage.record("ann", slot).state, stage.world.ledgers("bob")) == (ClaimState.SENT, {})
    assert event["defects"] == 1 + by_type
    over = finished.named("llm.over_budget")
    assert [spend_key(place, stage.now.date()) in told["reason"] for told in over] == [True] * len(over)
    assert len(over) == 1


@pytest.mark.parametrize("until", [-5, 0, 2**53, 2**60])
@on_sqlite
def test_since_of_a_time_that_can_not_be_is_as_good_as_absent(stage: Stage, until: int) -> None:
    stage.nothing_is_due()
    key = claim.since_key(stage.world.environment)
    with Redis(port=stage.redis.port) as client:
        client.set(key, RECORD.format(until), px=3_600_000)
        finished = stage.run()
        kept = json.loads(client.get(key))["u"]
    assert (finished.code, [event["key"] for event in finished.named("redis.key_replaced")]) == (0, [key])
    assert abs(kept / 1000 - stage.now.timestamp()) < 60


@on_sqlite
def test_a_pause_that_nobody_of_us_wrote_keeps_nobody_waiting_for_long(stage: Stage) -> None:
    """And a key that lives longer than a time span holds is no trouble either."""
    slot = stage.add_user("ann")
    stage.add_user("held", talks={"t": talk("held", slot.at)})
    with Redis(port=stage.redis.port) as client:
        client.set(claim.user_key("held", slot.recap_date), "1", px=2**62)
        client.set(claim.pause_key(stage.world.environment), "1", px=300)
        event = stage.run().event("tick.finished")
    assert (event["sent"], event["held"], event["defects"]) == (1, 1, 0)
