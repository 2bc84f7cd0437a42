"""Never twice: G1 under freezes, lost answers, an older Redis, a busy app."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from notifications.domain.claim import Stored
from tests.faults.harness import COMMIT, PATIENT, SCALED, FaultStage, on_firestore
from tests.support.servers import RedisServer
from tests.support.web import fcm_error
from tests.support.worlds import FirestoreWorld


def test_once_frozen_in_llm(staged: FaultStage) -> None:
    """Frozen for longer than its lease inside the LLM call; another run does the day; thawed."""
    staged.under_test = PATIENT
    staged.add_users("ann")
    process = staged.strike("llm ann", "before", "freeze")
    staged.run_until_settled()
    text = staged.ledger("ann")["body"]
    staged.thaw(process)
    assert staged.ledger("ann")["body"] == text
    staged.check_delivered(llm={"ann": 2})


@on_firestore
def test_once_frozen_before_push(staged: FaultStage) -> None:
    """Frozen past stale between begin and the push: it refuses by itself."""
    staged.add_users("ann")
    process = staged.strike(COMMIT, "after", "freeze")
    with staged.redis() as client:
        client.flushall()
    staged.complete_other_shards()
    staged.settle_in_real_time()
    staged.thaw(process)
    staged.check_delivered()


@on_firestore
def test_once_deadline_passed(staged: FaultStage) -> None:
    """Frozen past the push deadline three times: no try is charged, then it is pushed."""
    staged.add_users("ann")
    for _ in range(3):
        staged.age()
        process = staged.strike(COMMIT, "after", "freeze")  # of begin, then of take
        time.sleep(float(SCALED["RECAP_PUSH_DEADLINE_SECONDS"]) + 0.2)  # this is the fault itself
        staged.thaw(process)
        ledger = staged.ledger("ann")
        assert (ledger["state"], ledger["tries"]) == ("pending", 0)
    staged.run_until_settled()
    staged.check_delivered()
    assert staged.ledger("ann")["tries"] == 1


def test_once_answer_lost(staged: FaultStage) -> None:
    """FCM accepts, then the connection is reset: pushed twice, seen once, and the try is recorded."""
    staged.add_users("ann")
    cut = iter([True])
    original = staged.stage.fcm.after

    async def lose(token: str) -> web.Response | None:
        if next(cut, False):
            raise ConnectionResetError
        return await original(token) if original else None

    staged.stage.fcm.after = lose
    assert staged.stage.run().code == 4  # FCM never once answered
    assert (staged.ledger("ann")["state"], staged.ledger("ann")["tries"]) == ("pending", 1)
    staged.run_until_settled()
    staged.check_delivered(twice=frozenset({"token-ann-0"}))
    assert staged.ledger("ann")["tries"] == 2
    assert len(set(staged.stage.fcm.phones["token-ann-0"].tags)) == 1


@pytest.mark.short
def test_once_two_devices(staged: FaultStage) -> None:
    """Device 2 answers 503 through one run: each device is pushed exactly once."""
    staged.add_users("ann", devices=2)
    down = True

    async def rule(token: str) -> web.Response | None:
        return fcm_error(503, "UNAVAILABLE") if down and token == "token-ann-1" else None

    staged.fcm_rule = rule
    staged.stage.run()
    assert (staged.ledger("ann")["state"], staged.pushes()) == ("pending", {"token-ann-0": 1})
    assert staged.stage.record("ann", staged.slots["ann"]).state is Stored.IDLE
    down = False
    staged.run_until_settled()
    staged.check_delivered()


@pytest.mark.parametrize("deed", ["update", "replace", "delete"])
def test_once_app_writes(staged: FaultStage, deed: str) -> None:
    """The app touches the summary between FCM's answer and the report."""
    staged.add_users("ann")
    world, day = staged.stage.world, staged.slots["ann"].recap_date.isoformat()

    async def touch(token: str) -> web.Response | None:
        if deed == "delete":
            world.delete_summary("ann", day)
        else:
            old = world.summaries("ann")[day] if deed == "update" else {"date": day}
            world.put_summary("ann", day, {**old, "date": day, "read": True})
        return None

    if isinstance(world, FirestoreWorld):
        staged.fcm_rule = touch
        staged.run_until_settled()
    else:
        process = staged.strike("fcm token-ann-0", "after", "freeze")
        asyncio.run(touch("token-ann-0"))
        staged.thaw(process)
    assert staged.pushes() == {"token-ann-0": 1}
    assert staged.ledger("ann")["state"] == "sent"


@on_firestore
def test_once_commit_reply_lost(staged: FaultStage) -> None:
    """Firestore's answer to begin is dropped: the run knows its own `sending`, and does not wait."""
    staged.add_users("ann")
    finished = staged.stage.end(staged.strike(COMMIT, "after", "cut"))
    assert finished.code == 0, finished.err
    staged.check_delivered()
    assert staged.ledger("ann")["tries"] == 1


@on_firestore
def test_once_report_reply_lost(staged: FaultStage) -> None:
    """The reply to report is dropped with a device still open: its try is given back once."""
    staged.add_users("ann")
    busy = True

    async def rule(token: str) -> web.Response | None:
        return fcm_error(429, "QUOTA_EXCEEDED", **{"Retry-After": "600"}) if busy else None

    staged.fcm_rule = rule
    staged.stage.end(staged.strike(COMMIT, "after", "cut", nth=1))
    assert (staged.ledger("ann")["state"], staged.ledger("ann")["tries"]) == ("pending", 0)
    busy = False
    staged.run_until_settled()
    staged.check_delivered()


def test_once_summary_meanwhile(staged: FaultStage) -> None:
    """A summary for the date appears during the LLM call: ours is thrown away, nothing is pushed."""
    staged.add_users("ann")
    day = staged.slots["ann"].recap_date.isoformat()
    theirs = {"id": "on-demand", "date": day, "created_at": datetime.now(UTC), "headline": "Theirs", "overview": "O"}
    process = staged.strike("llm ann", "before", "freeze")
    staged.stage.world.put_summary("ann", "on-demand", theirs)
    finished = staged.thaw(process)
    assert finished.code == 0, finished.err
    ledger = staged.ledger("ann")
    assert (ledger["state"], ledger["outcome"], staged.pushes()) == ("sent", "legacy", {})
    assert [doc["headline"] for doc in staged.stage.world.summaries("ann").values()] == ["Theirs"]
    assert finished.event("tick.finished")["skipped_by_reason"] == {"legacy": 1}


def test_once_tag_on_the_wire(staged: FaultStage) -> None:
    """A uid of 1,500 bytes: the fake FCM refuses tags that differ or are longer than 64 bytes."""
    uid = "u" * 1500
    staged.add_users(uid)
    staged.run_until_settled()
    ledger = staged.ledger(uid)
    [message] = staged.stage.fcm.messages
    assert message["android"]["notification"]["tag"] == ledger["collapse_id"]
    assert len(ledger["collapse_id"]) == 32


@pytest.mark.parametrize("loss", ["old_rdb", "evicted", "failover"])
def test_once_when_redis_forgets(staged: FaultStage, loss: str) -> None:
    """It restarts from an older dump, evicts, or a replica that lagged is promoted: one push, the old token refused."""
    staged.add_users("ann")
    redis = staged.stage.redis
    process = staged.strike("llm ann", "before", "freeze")
    before = staged.stage.record("ann", staged.slots["ann"])
    assert before.state is Stored.CLAIMED
    with staged.redis() as client:
        client.delete(f"users:ann:daily_summary_lock:{staged.slots['ann'].recap_date}")
        if loss != "evicted":  # the shard's record was not in the dump, or not yet replicated, either
            client.flushall()
            staged.complete_other_shards()
        else:
            client.config_set("maxmemory-policy", "allkeys-lru")
    if loss == "old_rdb":
        redis.kill()
        redis.start()
    other = staged.stage.run("--user", "ann")
    assert other.code == 0, other.err
    if loss == "evicted":
        assert "maxmemory-policy allkeys-lru" in staged.stage.run("doctor").out
    sent = staged.stage.record("ann", staged.slots["ann"])
    assert sent.state is Stored.SENT
    staged.thaw(process)
    assert staged.stage.record("ann", staged.slots["ann"]) == sent
    assert staged.pushes() == {"token-ann-0": 1}
    assert (staged.ledger("ann")["state"], len(staged.stage.world.summaries("ann"))) == ("sent", 1)
    assert staged.ledger("ann")["by"] == sent.token != before.token


def test_the_start_up_warns_about_eviction(staged: FaultStage) -> None:
    staged.add_users("ann")
    with staged.redis() as client:
        client.config_set("maxmemory-policy", "volatile-ttl")
    finished = staged.stage.run()
    [warning] = finished.named("redis.settings")
    assert "maxmemory-policy volatile-ttl" in warning["reason"]


def test_a_thawed_sender_of_the_same_day_changes_nothing_of_a_newer_redis(staged: FaultStage, tmp_path: Any) -> None:
    """The whole Redis is replaced by an empty one meanwhile (a failover to nothing)."""
    staged.under_test = PATIENT
    staged.add_users("ann")
    process = staged.strike("llm ann", "before", "freeze")
    fresh = RedisServer(tmp_path / "fresh")
    try:
        finished = staged.stage.run("--user", "ann", REDIS_URL=fresh.url)
        assert finished.code == 0, finished.err
        staged.thaw(process)
        assert staged.pushes() == {"token-ann-0": 1}
        assert staged.stage.llm.calls["ann"] == 2
    finally:
        fresh.kill()
