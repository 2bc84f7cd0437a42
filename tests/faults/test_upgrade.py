"""Beside, before and after other versions, and another maker's values."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from notifications.domain import claim
from notifications.domain.claim import ClaimState, user_key
from tests.faults.stage import FaultStage, key_of
from tests.support.jobs import Stage, on_sqlite


@on_sqlite
def test_an_older_deployment_that_comes_back_is_kept_out(staged: FaultStage) -> None:
    """The older deployment comes back: its SET NX is not acquired against our record, open or ended."""
    staged.add_users("ann")
    process = staged.strike("llm ann", "before", "freeze")
    with staged.redis() as client:
        assert client.set(key_of(staged, "ann"), "1", nx=True, ex=7200) is None
    staged.thaw(process)
    with staged.redis() as client:
        assert client.set(key_of(staged, "ann"), "1", nx=True, ex=7200) is None
    staged.check_delivered()


@on_sqlite
def test_a_summary_of_an_older_deployment_counts_as_sent(staged: FaultStage) -> None:
    staged.add_users("ann")
    slot = staged.slots["ann"]
    theirs = {"id": "old", "date": slot.recap_date.isoformat(), "created_at": slot.at, "headline": "H", "overview": "O"}
    staged.stage.world.put_summary("ann", "old", theirs)
    staged.run_until_settled()
    assert (staged.ledger("ann")["outcome"], staged.pushes()) == ("legacy", {})


def claim_version() -> bytes:
    from notifications.domain.schedule import tzdata_version

    return tzdata_version().encode()


@on_sqlite
def test_a_newer_tzdata_repeats_nobody(staged: FaultStage) -> None:
    """A newer tzdata scans its cohorts anew: every user once all the same."""
    staged.add_users("ann", "bob")
    staged.run_until_settled()
    with staged.redis() as client:
        for key in client.scan_iter("daily_summary:cohort:*"):
            client.rename(key, key.replace(claim_version(), b"2020.1"))
    staged.complete_other_shards()
    finished = staged.stage.run()
    assert finished.event("tick.finished")["done_before"] == 2
    staged.check_delivered()


@pytest.mark.parametrize("value", ["1", "", "null", "[]", "{}", "hash", "no-ttl"])
@on_sqlite
def test_another_makers_value_is_held_and_touches_nobody_else(staged: FaultStage, value: str) -> None:
    """Another maker's value under a user's key is held, and one of another type told; the other users are untouched."""
    staged.add_users("ann", "bob")
    key = claim.user_key("ann", staged.slots["ann"].recap_date)
    with staged.redis() as client:
        if value == "hash":
            client.hset(key, "a", "b")
        else:
            client.set(key, "1" if value == "no-ttl" else value, px=None if value == "no-ttl" else 60_000)
    finished = staged.stage.run()
    event, by_type = finished.event("tick.finished"), int(value == "hash")
    assert (finished.code, event["held"], event["failed"]) == (by_type, 1 - by_type, by_type)
    assert [key in told["reason"] for told in finished.named("recap.trouble")] == [True] * by_type
    assert staged.pushes() == {"token-bob-0": 1}
    with staged.redis() as client:
        left = client.pttl(key)
        assert left <= 60_000 if value not in ("hash", "no-ttl") else 7_100_000 < left <= 7_200_000


def test_a_user_with_odd_fields_is_delivered_or_counted_never_neither(staged: FaultStage) -> None:
    """Delivered, or counted by the audit: never neither."""
    stage = staged.stage
    staged.add_users("good")
    hour = stage.world.user("good")["daily_summary_hour_local"]  # type: ignore[index]
    whole = {"time_zone": "UTC", "daily_summary_enabled": True, "daily_summary_hour_local": hour}
    flawed: dict[str, dict[str, Any]] = {
        "no-hour": {"daily_summary_hour_local": None},
        "no-switch": {"daily_summary_enabled": None},
        "no-zone": {"time_zone": None},
        "small-zone": {"time_zone": "america/new_york"},
        "text-hour": {"daily_summary_hour_local": str(hour)},
        "late-hour": {"daily_summary_hour_local": 24},
    }
    for uid, changes in flawed.items():
        doc = {name: value for name, value in (whole | changes).items() if value is not None}
        stage.world.put_user(uid, doc, {}, {})
    stage.world.put_user("null-zone", whole | {"time_zone": None}, {}, {})
    staged.add_users("float-hour", daily_summary_hour_local=float(hour))
    staged.run_until_settled()
    staged.check_delivered()
    day = staged.slots["good"].recap_date.isoformat()
    audited = stage.run("audit", "--date", day, "--json")
    told = audited.accounts
    assert (audited.code, told["counts"]["sent"]) == (1, 2)
    assert told["uids"]["invisible"] == sorted([*flawed, "null-zone"])
    decided = ("--zone", "UTC", "--hour", str(hour), "--enable")
    assert stage.run("doctor", "--fix", *decided).code in (0, 1)
    after = stage.run("audit", "--date", day, "--json").accounts
    assert "invisible" not in after["counts"]


@on_sqlite
def test_an_old_ledger_that_holds_too_much_is_pushed_all_the_same(staged: FaultStage) -> None:
    """4,097 bytes and more, stored by an earlier version."""
    staged.add_users("ann")
    staged.run_until_settled()
    day, ledger = staged.slots["ann"].recap_date.isoformat(), staged.ledger("ann")
    staged.stage.world.put_ledger("ann", day, ledger | {"title": "T" * 6_300, "body": "words " * 900})
    staged.age(sent=True)
    done = staged.stage.run("resend", "ann", day)
    assert done.code == 0, done.err
    assert staged.pushes() == {"token-ann-0": 2}


def test_a_neighbouring_ledger_of_another_version_is_skipped(stage: Stage) -> None:
    slot = stage.add_user("ann")
    before = (slot.recap_date - timedelta(days=1)).isoformat()
    stage.world.put_ledger("ann", before, {"state": "from-the-future", "date": before})
    finished = stage.run()
    assert (finished.code, finished.event("tick.finished")["sent"]) == (0, 1)
    audited = stage.run("audit", "--date", before, "--json")
    assert (audited.code, audited.accounts["uids"]["unreadable"]) == (1, ["ann"])
    assert stage.run("inspect").code == 0


def test_todays_ledger_of_another_version_charges_nobody_and_is_listed(stage: Stage) -> None:
    slot = stage.add_user("ann")
    day = slot.recap_date.isoformat()
    stage.world.put_ledger("ann", day, {"state": "from-the-future", "date": day})
    fast = {"RECAP_PROVIDER_RETRY_SECONDS": "0.001", "RECAP_SHARD_RETRY_MIN_SECONDS": "0.001"}
    for _ in range(5):
        finished = stage.run(**fast)
        assert finished.code == 1, finished.err
    record = stage.record("ann", slot)
    assert (record.state, record.failures, record.crashes, record.reason) == (ClaimState.IDLE, 0, 0, "malformed")
    assert stage.world.ledgers("ann")[day] == {"state": "from-the-future", "date": day}
    audited = stage.run("audit", "--date", day, "--json")
    assert (audited.code, audited.accounts["uids"]["unreadable"]) == (1, ["ann"])
    shown = stage.run("inspect", "--json")
    assert (shown.code, json.loads(shown.out)["ledger"]) == (0, "unreadable")


def test_a_dead_claim_beside_a_ledger_of_another_version_keeps_nobody_from_theirs(stage: Stage) -> None:
    """As a rollback from a later version leaves it: nobody else's run may end by it."""
    slots = {uid: stage.add_user(uid) for uid in ("ann", "bad", "cat")}
    slot = slots["bad"]
    stage.world.put_ledger("bad", slot.recap_date.isoformat(), {"state": "from-the-future"})
    with Redis(port=stage.redis.port) as client:
        client.set(user_key("bad", slot.recap_date), '{"s":"dead","t":"","f":0,"c":4}', px=3_600_000)
    finished = stage.run()
    event = finished.event("tick.finished")
    assert (finished.code, event["due"], event["sent"], event["failed"]) == (1, 3, 2, 1), finished.err
    assert set(stage.fcm.accepted) == {"token-ann-0", "token-cat-0"}
