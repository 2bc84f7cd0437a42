"""Servers that are down, slow or forgetful: nobody is charged, and the run says which."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimState
from tests.faults.stage import FaultStage, record
from tests.support.jobs import on_firestore, on_sqlite
from tests.support.servers import free_port
from tests.support.web import completion, fcm_error, llm_error, scripted


@pytest.mark.short
@pytest.mark.parametrize("name", ["redis", "firestore", "llm", "fcm"])
@on_firestore
def test_a_server_that_is_down_at_the_start_is_named(staged: FaultStage, name: str) -> None:
    """Refuses connections at start: exit 4 says which; no LLM call without a claim; the next run recovers."""
    staged.add_users("ann")
    nowhere = free_port()
    env = {
        "redis": {"REDIS_URL": f"redis://127.0.0.1:{nowhere}/0"},
        "firestore": {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{nowhere}"},
        "llm": {"OPENAI_BASE_URL": f"http://127.0.0.1:{nowhere}/v1"},
        "fcm": {"FCM_BASE_URL": f"http://127.0.0.1:{nowhere}"},
    }[name]
    begun = time.monotonic()
    finished = staged.stage.run(**env)
    assert finished.code == 4, finished.err
    assert {"redis": "Redis", "firestore": "Firestore", "llm": "LLM", "fcm": "FCM"}[name] in finished.err
    assert dict(staged.stage.llm.calls) == ({"ann": 1} if name == "fcm" else {})
    assert time.monotonic() - begun < 40
    staged.run_until_settled()
    staged.check_delivered()


@pytest.mark.parametrize("name", ["redis", "firestore", "llm", "fcm"])
@on_firestore
def test_a_server_that_dies_midway_costs_no_call_without_a_claim(staged: FaultStage, name: str) -> None:
    """Dies in the middle of the run, and stays down until its end."""
    staged.add_users("ann", "bob")
    dead = False

    async def rule(_: str) -> web.Response | None:
        if dead:
            raise ConnectionResetError
        return None

    async def die(who: str) -> web.Response | None:
        nonlocal dead
        if name == "redis" and not dead:
            staged.stage.redis.kill()
        if name == "firestore" and not dead:
            staged.proxies[1].target = free_port()
            staged.proxies[1].cut_all()
        if name == "llm" and who == "bob":
            raise ConnectionResetError
        dead = True
        return None

    staged.llm_rule = die
    if name == "fcm":
        staged.fcm_rule = rule
    finished = staged.stage.end(staged.start())
    assert finished.code in ((4,) if name != "llm" else (0, 4)), finished.err
    if name == "redis":
        staged.stage.redis.start()
    staged.llm_rule = staged.fcm_rule = None
    calls = dict(staged.stage.llm.calls)
    assert calls.get("bob", 0) <= 2
    staged.run_until_settled()
    for uid in ("ann", "bob"):
        assert staged.ledger(uid)["state"] == "sent"
        assert len(staged.stage.fcm.phones[f"token-{uid}-0"].visible) == 1
    if name != "fcm":
        assert staged.pushes() == {"token-ann-0": 1, "token-bob-0": 1}


def _pages_before(faults: FaultStage) -> int:
    """Empty pages that come before the one with UTC in it."""
    from notifications.domain.schedule import cohorts_between

    slot = next(iter(faults.slots.values()))
    hour = faults.stage.world.user("a1")["daily_summary_hour_local"]  # type: ignore[index]
    [cohort] = [c for c in cohorts_between(slot.at - timedelta(seconds=1), slot.at) if c.hour == hour]
    return sorted(cohort.zones).index("UTC") // 30


@on_firestore
def test_a_page_that_fails_leaves_the_shard_open(staged: FaultStage) -> None:
    """The second page fails: the shard stays open, and the next run delivers it."""
    staged.stage.settings["RECAP_PAGE_SIZE"] = "2"
    staged.add_users("a1", "a2", "b1", "b2")
    finished = staged.stage.end(staged.strike("firestore", "before", "down", nth=_pages_before(staged) + 1))
    staged.director.thawed.set()
    assert [event["event"] for event in finished.events if "page_failed" in event["event"]] == ["shard.page_failed"]
    assert finished.event("shard.open")["wait_seconds"] == 0.2
    staged.run_until_settled()
    staged.check_delivered()


@pytest.mark.short
@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (404, "model_not_found")])
@on_sqlite
def test_a_refused_key_ends_the_run_at_once_and_charges_nobody(staged: FaultStage, status: int, code: str) -> None:
    staged.add_users("ann", "bob")
    staged.llm_rule = scripted(lambda _: llm_error(status, code))
    finished = staged.stage.run()
    assert (finished.code, "check OPENAI_" in finished.err, "test-key" in finished.err) == (3, True, False)
    assert (staged.stage.llm.calls.total(), record(staged, "ann").failures, record(staged, "bob").failures) == (1, 0, 0)
    staged.llm_rule = None
    staged.run_until_settled()
    staged.check_delivered(llm={"ann": 2})


@on_sqlite
def test_a_provider_that_is_down_charges_nobody(staged: FaultStage) -> None:
    """The LLM answers 503 again and again: nobody is charged, all are delivered once it is back."""
    staged.add_users("ann", "bob", "cat")
    staged.llm_rule = scripted(lambda _: llm_error(503, "overloaded", **{"Retry-After": "0"}))
    for _ in range(6):
        staged.age(timedelta(seconds=5))
        assert staged.stage.run().code == 4
    assert [record(staged, uid).failures for uid in staged.slots] == [0, 0, 0]
    staged.llm_rule = None
    calls = dict(staged.stage.llm.calls)
    staged.run_until_settled()
    staged.check_delivered(llm={uid: count + 1 for uid, count in calls.items()})


@on_sqlite
def test_a_long_retry_after_costs_a_probe_each_half_hour(staged: FaultStage) -> None:
    """Retry-After 3 h costs one probe each 30 min; FCM's 429 for more than three tries gives nothing up."""
    staged.add_users("ann", "bob")

    wait = {"Retry-After": "10800"}
    staged.llm_rule = scripted(lambda who: llm_error(429, "rate_limit_exceeded", **wait) if who == "ann" else None)
    staged.fcm_rule = scripted(lambda _: fcm_error(429, "QUOTA_EXCEEDED", **{"Retry-After": "600"}))
    staged.stage.run()
    found = record(staged, "ann")
    now = int(datetime.now(UTC).timestamp() * 1000)
    assert (found.state, found.failures) == (ClaimState.IDLE, 0)
    assert found.until - now <= 30 * 60_000
    for _ in range(5):
        staged.age(timedelta(minutes=31))
        staged.stage.run()
    assert (staged.ledger("bob")["state"], staged.ledger("bob")["tries"]) == ("pending", 0)
    staged.llm_rule = staged.fcm_rule = None
    calls = staged.stage.llm.calls["ann"]
    staged.run_until_settled()
    staged.check_delivered(llm={"ann": calls + 1})


@on_sqlite
def test_an_item_that_failed_once_is_delivered_at_its_due_time(staged: FaultStage) -> None:
    """The LLM refuses one item once: delivered at its due time, and no key blocks it before."""
    staged.stage.settings["RECAP_FALLBACK"] = "none"
    staged.add_users("ann", "bob")
    refusing = True
    staged.llm_rule = scripted(lambda who: completion(None, refusal="no") if refusing and who == "ann" else None)
    staged.stage.run()
    assert (record(staged, "ann").state, record(staged, "ann").failures) == (ClaimState.IDLE, 1)
    refusing = False
    staged.settle_in_real_time()
    staged.check_delivered(llm={"ann": 2})


@pytest.mark.short
@pytest.mark.parametrize(("status", "code"), [(403, "SENDER_ID_MISMATCH"), (400, "INVALID_ARGUMENT")])
@on_sqlite
def test_a_wrong_project_deletes_no_token_and_loses_nobody(staged: FaultStage, status: int, code: str) -> None:
    """FCM refuses everybody: no token is deleted, nobody is lost once a person has mended it."""
    users = [f"user-{n}" for n in range(6)]
    staged.add_users(*users)
    broken = True
    staged.fcm_rule = scripted(lambda _: fcm_error(status, code) if broken else None)
    finished = staged.stage.run()
    assert finished.event("tick.finished")["tokens_deleted"] == 0
    assert len(finished.named("push.refused")) == 6
    broken = False
    staged.run_until_settled()
    staged.check_delivered()


@pytest.mark.parametrize("loss", ["old_rdb", "evicted", "failover"])
def test_a_redis_that_forgets_costs_no_second_push(staged: FaultStage, loss: str) -> None:
    """It restarts from an older dump, evicts, or a replica that lagged is promoted: one push, the old token refused."""
    staged.add_users("ann")
    redis = staged.stage.redis
    process = staged.strike("llm ann", "before", "freeze")
    before = staged.stage.record("ann", staged.slots["ann"])
    assert before.state is ClaimState.CLAIMED
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
        said = " ".join(staged.stage.run("doctor").out.split())  # it is wrapped at 80 columns
        assert "maxmemory-policy allkeys-lru" in said
    sent = staged.stage.record("ann", staged.slots["ann"])
    assert sent.state is ClaimState.SENT
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
