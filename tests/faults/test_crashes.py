"""A process that dies or freezes: the next finishes what it began, once."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from aiohttp import web

from notifications.domain import claim
from notifications.domain.claim import ClaimState
from tests.faults.proxies import COMMIT, CONVERSATIONS
from tests.faults.stage import PATIENT, SCALED, FaultStage, closing, killed, record
from tests.support.jobs import on_firestore, on_sqlite
from tests.support.servers import RedisServer, wait_for


def test_the_next_tick_finishes_what_a_killed_run_had_claimed(staged: FaultStage) -> None:
    """Killed after the claim: the first run with work that begins after the user's lease delivers, in real time.

    How many begin before is the scheduler's: the shard's lease ends first, and is asked again at most every
    RECAP_SHARD_RETRY_MAX_SECONDS.
    """
    staged.add_users("ann")
    begun = time.monotonic()
    killed(staged, "llm ann", "before")
    lease_ends = staged.stage.record("ann", staged.slots["ann"]).until / 1000
    held = staged.stage.run()
    assert held.event("tick.finished")["idle"] is True  # the shard's lease is still live
    after_the_lease = 0
    while staged.open_shards():
        with staged.redis() as client:
            seconds, micros = client.time()
        told = staged.stage.run().event("tick.finished")
        if not told["idle"]:
            assert told["held"] + told["sent"] == 1
            after_the_lease += seconds + micros / 1e6 >= lease_ends
        assert time.monotonic() < begun + 60
    assert after_the_lease <= 1
    staged.check_delivered(llm={"ann": 2})


def test_a_takeover_leaves_the_shard_open_for_a_user_who_is_still_held(staged: FaultStage) -> None:
    """A dies; its shard's lease ends before its user's: B leaves the shard open, C delivers."""
    staged.add_users("ann")
    killed(staged, "llm ann", "after")
    with staged.redis() as client:
        [shard] = [key for key in client.scan_iter("daily_summary:*") if b'"claimed"' in client.get(key)]
        client.delete(shard)
    b = staged.stage.run()
    assert b.event("tick.finished")["held"] == 1
    assert b.event("shard.open")["done"] == 0
    staged.run_until_settled()
    staged.check_delivered(llm={"ann": 2})


def test_ten_kills_in_a_row_lose_nobody(staged: FaultStage) -> None:
    """Killed at its first page ten times: the eleventh run delivers everybody; the shard is never dead."""
    staged.add_users("ann", "bob")
    for _ in range(10):
        staged.age()
        if staged.stage.world.name == "firestore":
            killed(staged, "firestore", "after")
        else:
            killed(staged, "redis", "after", nth=5)  # TIME, GETs, TIME, INFO twice, then the shard's claim
    staged.age()
    assert staged.stage.run().code == 0
    staged.check_delivered()


@pytest.mark.timeout(300)
@on_sqlite
def test_a_user_who_kills_every_run_ends_alone_and_dead(staged: FaultStage) -> None:
    """One user kills every process that serves it: 63 are delivered, one is dead, no innocent is charged twice."""
    innocent = [f"user-{n:02}" for n in range(63)]
    staged.add_users(*innocent, "poison")
    staged.stage.settings["RECAP_CONCURRENCY"] = "16"
    running: list[Any] = []

    async def rule(who: str) -> web.Response | None:
        if who == "poison":
            running[-1].send_signal(signal.SIGKILL)
            raise ConnectionResetError
        return None

    staged.llm_rule = rule
    for _ in range(20):
        staged.age()
        running.append(staged.stage.start())
        running[-1].wait()
        staged.stage.end(running[-1])
        if not staged.open_shards():
            break
    assert not staged.open_shards()
    assert {uid: staged.ledger(uid)["state"] for uid in innocent} == dict.fromkeys(innocent, "sent")
    assert (staged.ledger("poison")["state"], staged.ledger("poison")["outcome"]) == ("dead", "crashes")
    assert (staged.ledger("poison")["crashes"], record(staged, "poison").state) == (4, ClaimState.DEAD)
    assert staged.stage.llm.calls["poison"] == 4
    assert max(staged.ledger(uid)["crashes"] for uid in innocent) <= 2
    assert staged.pushes() == {f"token-{uid}-0": 1 for uid in innocent}


@on_firestore  # SQLite's reads are no messages; there the contract suite shows close and take meeting
def test_a_closing_run_takes_the_ledger_that_a_killed_one_began(staged: FaultStage) -> None:
    """B's closing pass reads no ledger; A begins and is killed; B closes: B takes A's ledger and pushes."""
    staged.under_test = PATIENT
    staged.add_users("ann")
    a = staged.strike("llm ann", "before", "freeze")
    staged.director.struck.clear()
    staged.age()
    # B freezes when it has seen no ledger, and has not closed the day yet.
    second = FaultStage(staged.stage)
    try:
        second.slots = staged.slots
        second.director.aim(CONVERSATIONS, "before", "freeze")
        env = closing(staged) | second.behind_proxies()
        b = staged.stage.start(**env)
        second.director.process = b
        wait_for(second.director.struck.is_set, "B's close", 60)
        staged.stage.llm.script = staged._llm
        staged.stage.fcm.script = staged._fcm
        staged.stage.fcm.after = staged._fcm_after
        staged.director.aim("fcm token-ann-0", "before", "kill")
        a.send_signal(signal.SIGCONT)
        staged.director.thawed.set()
        a.wait()
        staged.stage.end(a)
        assert staged.ledger("ann")["state"] == "sending"
        second.thaw(b)
    finally:
        second.stop()
    staged.age()
    staged.stage.run(**closing(staged))
    assert staged.ledger("ann")["state"] == "sent"
    assert staged.pushes() == {"token-ann-0": 1}


def test_the_last_permitted_crash_after_begin_is_given_up_once_stale(staged: FaultStage) -> None:
    """The last permitted crash comes after begin: given up once stale, the shard open until then."""
    staged.add_users("ann")
    for n in range(4):
        staged.age()
        killed(staged, "fcm token-ann-0", "before") if n == 3 else killed(staged, "llm ann", "before")
    assert staged.ledger("ann")["state"] == "sending"
    with staged.redis() as client:  # the leases end; `sending` is still fresh
        key = claim.user_key("ann", staged.slots["ann"].recap_date)
        found = claim.parse(client.get(key))
        client.set(key, f'{{"s":"claimed","t":"{found.token}","u":1,"f":0,"c":{found.crashes}}}', keepttl=True)
        for shard in client.scan_iter("daily_summary:*"):
            if b'"claimed"' in client.get(shard):
                client.delete(shard)
    staged.stage.run()
    assert (record(staged, "ann").state, staged.ledger("ann")["state"]) == (ClaimState.DEAD, "sending")
    assert staged.open_shards()
    staged.run_until_settled()
    assert (staged.ledger("ann")["state"], staged.pushes()) == ("gave_up", {})


def test_a_run_frozen_in_its_llm_call_pushes_nothing_of_its_own(staged: FaultStage) -> None:
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
def test_a_run_frozen_past_stale_before_its_push_pushes_nothing(staged: FaultStage) -> None:
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
def test_a_push_deadline_that_passed_sends_nothing_and_charges_no_try(staged: FaultStage) -> None:
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
