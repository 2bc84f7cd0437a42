"""Two environments on one Redis: neither ends the other's cohorts, takes its sweeps or spends its money."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from notifications.domain.claim import ClaimState, since_key, sweep_key, user_key
from notifications.domain.schedule import cohorts_between, tzdata_version
from tests.faults.stage import on_sqlite
from tests.integration.test_trouble import one_sentence
from tests.support.jobs import Stage
from tests.support.worlds import FirestoreWorld, SqliteWorld, World


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
