"""A Redis that others use too: another environment's keys, and odd values under our own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from notifications.domain import claim
from notifications.domain.claim import ClaimState, since_key, sweep_key, user_key
from notifications.domain.money import spend_key
from notifications.domain.schedule import cohorts_between, tzdata_version
from tests.support.jobs import Stage, on_sqlite, one_sentence
from tests.support.worlds import FirestoreWorld, SqliteWorld, World, talk


@pytest.fixture
def other(stage: Stage, tmp_path: Path) -> Iterator[World]:
    """Another environment of the same kind."""
    here = stage.world
    there = FirestoreWorld(here.host) if isinstance(here, FirestoreWorld) else SqliteWorld(tmp_path / "other")
    yield there
    there.close()


def in_the_other(stage: Stage, other: World, uid: str) -> str:
    """The same stage, and this user in the other environment; the day that is due."""
    here, stage.world = stage.world, other
    slot = stage.add_user(uid)
    stage.world = here
    return slot.recap_date.isoformat()


def test_each_environment_serves_its_own_users(stage: Stage, other: World) -> None:
    day = stage.add_user("ann").recap_date.isoformat()
    in_the_other(stage, other, "bob")
    assert stage.run().event("tick.finished")["sent"] == 1
    assert stage.run(**other.env()).event("tick.finished")["sent"] == 1
    assert (stage.world.ledgers("ann")[day]["state"], other.ledgers("bob")[day]["state"]) == ("sent", "sent")
    with Redis(port=stage.redis.port) as client:
        kept = [
            client.exists(key(world.environment)) for key in (sweep_key, since_key) for world in (stage.world, other)
        ]
    assert kept == [1, 1, 1, 1]
    assert [stage.run().event("tick.finished")["idle"], stage.run(**other.env()).event("tick.finished")["idle"]] == [
        True,
        True,
    ]


@on_sqlite
def test_a_claim_that_is_sent_without_a_ledger_is_told_and_a_resend_makes_the_day(stage: Stage, other: World) -> None:
    """The same uid in both: the second finds the first's claim. A tick leaves it alone."""
    slot = stage.add_user("ann")
    day = in_the_other(stage, other, "ann")
    assert stage.run().event("tick.finished")["sent"] == 1
    assert stage.run(**other.env()).event("tick.finished")["done_before"] == 1
    asked = stage.run("--user", "ann", **other.env())
    assert asked.code == 1
    assert "no ledger" in one_sentence(asked.err)
    assert f"resend ann {day}" in one_sentence(asked.err)
    assert (other.ledgers("ann"), stage.record("ann", slot).state) == ({}, ClaimState.SENT)
    resent = stage.run("resend", "ann", day, **other.env())
    assert (resent.code, "another environment" in resent.out) == (0, True), resent.err
    assert (other.ledgers("ann")[day]["state"], stage.fcm.accepted["token-ann-0"]) == ("sent", 2)
    assert stage.run("--user", "ann", **other.env()).code == 0


@on_sqlite
def test_with_a_prefix_not_even_users_keys_are_shared(stage: Stage, other: World) -> None:
    day = stage.add_user("ann").recap_date.isoformat()
    in_the_other(stage, other, "ann")
    apart = other.env() | {"RECAP_KEY_PREFIX": "staging:"}
    assert stage.run().event("tick.finished")["sent"] == 1
    assert stage.run(**apart).event("tick.finished")["sent"] == 1
    assert (stage.world.ledgers("ann")[day]["state"], other.ledgers("ann")[day]["state"]) == ("sent", "sent")
    with Redis(port=stage.redis.port) as client:
        keys = {key.decode() for key in client.scan_iter("staging:*")}
    assert f"staging:users:ann:daily_summary_lock:{day}" in keys
    assert f"staging:{sweep_key(other.environment)}" in keys
    shown = stage.run("inspect", "--json", **apart)
    assert '"uid": "ann"' in shown.out
    assert '"key": "staging:users:ann' in stage.run("inspect", "--keys", "--json", **apart).out


@pytest.mark.parametrize("age", ["1.0", "now"])
@on_sqlite
def test_slots_that_the_former_version_ended_are_scanned_again_and_not_unserved(stage: Stage, age: str) -> None:
    """An upgrade in the middle of an evening; what another environment of today's version ended says nothing."""
    slot = stage.add_user("ann")
    with Redis(port=stage.redis.port) as client:
        for cohort in cohorts_between(stage.now - timedelta(hours=3), stage.now + timedelta(minutes=2)):
            place = "0of1" if age == "1.0" else "another-one:0of1"
            key = f"daily_summary:cohort:v2:{cohort.slot:%Y-%m-%dT%H:%M:%SZ}:{cohort.hour}:{tzdata_version()}:{place}"
            client.set(key, '{"s":"complete","t":""}', px=3_600_000)
        client.set(
            since_key(stage.world.environment),
            f'{{"s":"complete","t":"","u":{int((stage.now - timedelta(days=1)).timestamp() * 1000)}}}',
            px=3_600_000,
        )
    finished = stage.run()
    assert finished.event("tick.finished")["sent"] == 1
    assert len(finished.named("slots.unserved")) == (0 if age == "1.0" else 1)
    with Redis(port=stage.redis.port) as client:
        assert client.exists(user_key("ann", slot.recap_date)) == 1


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
