"""Never lost: G2 and G3 under kills, takeovers, outages, poison and an operator's resend."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from notifications.domain import claim
from notifications.domain.claim import Stored
from tests.faults.harness import COMMIT, CONVERSATIONS, PATIENT, FaultStage, on_firestore, on_sqlite
from tests.support.servers import wait_for
from tests.support.web import completion, fcm_error, llm_error


def record(faults: FaultStage, uid: str) -> claim.Record:
    return faults.stage.record(uid, faults.slots[uid])


def killed(faults: FaultStage, at: int | str, when: Any = "after", *arguments: str, nth: int = 0) -> None:
    process = faults.strike(at, when, "kill", *arguments, nth=nth)
    process.wait()
    faults.stage.end(process)


def test_lost_kill_next_tick(staged: FaultStage) -> None:
    """Killed after the claim: delivered within a user lease and two ticks, in real time."""
    staged.add_users("ann")
    begun = time.monotonic()
    killed(staged, "llm ann", "before")
    held = staged.stage.run()
    assert held.event("tick.finished")["idle"] is True  # the shard's lease is still live
    ticks = 0
    while staged.open_shards():
        ticks += staged.stage.run().event("tick.finished")["idle"] is False
        assert time.monotonic() < begun + 60
    assert ticks <= 2
    staged.check_delivered(llm={"ann": 2})


def test_lost_takeover_sees_held(staged: FaultStage) -> None:
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


def test_lost_ten_kills(staged: FaultStage) -> None:
    """Killed at its first page ten times: the eleventh run delivers everybody; the shard is never dead."""
    staged.add_users("ann", "bob")
    for _ in range(10):
        staged.age()
        if staged.stage.world.name == "firestore":
            killed(staged, "firestore", "after")
        else:
            killed(staged, "redis", "after", nth=4)  # TIME, GETs, INFO twice, then the shard's claim
    staged.age()
    assert staged.stage.run().code == 0
    staged.check_delivered()


@on_firestore
def test_lost_page_error(staged: FaultStage) -> None:
    """The second page fails: the shard stays open, and the next run delivers it."""
    staged.stage.settings["RECAP_PAGE_SIZE"] = "2"
    staged.add_users("a1", "a2", "b1", "b2")
    finished = staged.stage.end(staged.strike("firestore", "before", "down", nth=_pages_before(staged) + 1))
    staged.director.thawed.set()
    assert [event["event"] for event in finished.events if "page_failed" in event["event"]] == ["shard.page_failed"]
    assert finished.event("shard.open")["wait_seconds"] == 0.2
    staged.run_until_settled()
    staged.check_delivered()


def _pages_before(faults: FaultStage) -> int:
    """Empty pages that come before the one with UTC in it."""
    from notifications.domain.schedule import cohorts_between

    slot = next(iter(faults.slots.values()))
    hour = faults.stage.world.user("a1")["daily_summary_hour_local"]  # type: ignore[index]
    [cohort] = [c for c in cohorts_between(slot.at - timedelta(seconds=1), slot.at) if c.hour == hour]
    return sorted(cohort.zones).index("UTC") // 30


@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (404, "model_not_found")])
@on_sqlite
def test_lost_config_fault(staged: FaultStage, status: int, code: str) -> None:
    staged.add_users("ann", "bob")

    async def refuse(who: str) -> web.Response:
        return llm_error(status, code)

    staged.llm_rule = refuse
    assert staged.stage.run().code == 3
    assert (staged.stage.llm.calls.total(), record(staged, "ann").failures, record(staged, "bob").failures) == (1, 0, 0)
    staged.llm_rule = None
    staged.run_until_settled()
    staged.check_delivered(llm={"ann": 2})


def test_lost_two_devices_pending(staged: FaultStage) -> None:
    """One device stays pending: the user is not complete, and is delivered at the due time."""
    staged.add_users("ann", devices=2)
    closed = True

    async def rule(token: str) -> web.Response | None:
        refused = fcm_error(429, "QUOTA_EXCEEDED", **{"Retry-After": "300"})
        return refused if closed and token == "token-ann-1" else None

    staged.fcm_rule = rule
    staged.stage.run()
    found = record(staged, "ann")
    assert (found.state, found.failures, staged.ledger("ann")["state"]) == (Stored.IDLE, 0, "pending")
    with staged.redis() as client:
        now = int(datetime.now(UTC).timestamp() * 1000)
        assert client.time()
        assert 290_000 < found.until - now <= 300_000
    closed = False
    assert staged.stage.run().event("tick.finished")["idle"] is True
    staged.run_until_settled()
    staged.check_delivered()


@on_sqlite
def test_lost_provider_down(staged: FaultStage) -> None:
    """The LLM answers 503 again and again: nobody is charged, all are delivered once it is back."""
    staged.add_users("ann", "bob", "cat")

    async def down(who: str) -> web.Response:
        return llm_error(503, "overloaded", **{"Retry-After": "0"})

    staged.llm_rule = down
    for _ in range(6):
        staged.age(timedelta(seconds=5))
        assert staged.stage.run().code == 4
    assert [record(staged, uid).failures for uid in staged.slots] == [0, 0, 0]
    staged.llm_rule = None
    calls = dict(staged.stage.llm.calls)
    staged.run_until_settled()
    staged.check_delivered(llm={uid: count + 1 for uid, count in calls.items()})


@on_sqlite
def test_lost_retry_after(staged: FaultStage) -> None:
    """Retry-After 3 h costs one probe each 30 min; FCM's 429 for more than three tries gives nothing up."""
    staged.add_users("ann", "bob")

    async def wait(who: str) -> web.Response | None:
        return llm_error(429, "rate_limit_exceeded", **{"Retry-After": "10800"}) if who == "ann" else None

    async def quota(token: str) -> web.Response:
        return fcm_error(429, "QUOTA_EXCEEDED", **{"Retry-After": "600"})

    staged.llm_rule, staged.fcm_rule = wait, quota
    staged.stage.run()
    found = record(staged, "ann")
    now = int(datetime.now(UTC).timestamp() * 1000)
    assert (found.state, found.failures) == (Stored.IDLE, 0)
    assert found.until - now <= 30 * 60_000
    for _ in range(5):
        staged.age(timedelta(minutes=31))
        staged.stage.run()
    assert (staged.ledger("bob")["state"], staged.ledger("bob")["tries"]) == ("pending", 0)
    staged.llm_rule = staged.fcm_rule = None
    calls = staged.stage.llm.calls["ann"]
    staged.run_until_settled()
    staged.check_delivered(llm={"ann": calls + 1})


def closing(faults: FaultStage) -> dict[str, str]:
    """Settings under which our slot has just passed its catch-up."""
    late = (datetime.now(UTC) - next(iter(faults.slots.values())).at).total_seconds()
    return {"RECAP_CATCH_UP_SECONDS": str(late - 1), "RECAP_GRACE_SECONDS": "3600"}


def test_lost_closing_pass(staged: FaultStage) -> None:
    """At the catch-up's end: the user without a ledger is missed, the one with a ledger is pushed."""
    staged.add_users("ann", "bob")
    closed = True

    async def rule(token: str) -> web.Response | None:
        return fcm_error(503, "UNAVAILABLE") if closed and token == "token-bob-0" else None

    async def wait(who: str) -> web.Response | None:
        return llm_error(503, "down") if who == "ann" else None

    staged.fcm_rule, staged.llm_rule = rule, wait
    staged.stage.run()
    assert (staged.ledger("bob")["state"], staged.ledger("ann")) == ("pending", {})
    closed = False
    calls = dict(staged.stage.llm.calls)
    staged.age()
    finished = staged.stage.run(**closing(staged))
    assert finished.event("tick.finished")["missed"] == 1
    ann, bob = staged.ledger("ann"), staged.ledger("bob")
    assert (ann["state"], "window_end" in ann, bob["state"]) == ("missed", False, "sent")
    assert (record(staged, "ann").state, record(staged, "bob").state) == (Stored.MISSED, Stored.SENT)
    assert staged.stage.llm.calls == calls
    assert staged.pushes() == {"token-bob-0": 1}
    assert not staged.open_shards()


@on_sqlite
def test_a_push_that_never_got_through_is_given_up_at_the_end_of_the_grace(staged: FaultStage) -> None:
    staged.add_users("ann")

    async def down(token: str) -> web.Response:
        return fcm_error(503, "UNAVAILABLE")

    staged.fcm_rule = down
    staged.stage.run()
    staged.age()
    late = (datetime.now(UTC) - staged.slots["ann"].at).total_seconds()
    finished = staged.stage.run(RECAP_CATCH_UP_SECONDS=str(late - 1), RECAP_GRACE_SECONDS="4")
    assert (staged.ledger("ann")["state"], staged.ledger("ann")["outcome"]) == ("gave_up", "undelivered")
    assert (record(staged, "ann").state, finished.event("tick.finished")["gave_up"]) == (Stored.DEAD, 1)


@pytest.mark.timeout(300)
@on_sqlite
def test_lost_poison(staged: FaultStage) -> None:
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
    assert (staged.ledger("poison")["crashes"], record(staged, "poison").state) == (4, Stored.DEAD)
    assert staged.stage.llm.calls["poison"] == 4
    assert max(staged.ledger(uid)["crashes"] for uid in innocent) <= 2
    assert staged.pushes() == {f"token-{uid}-0": 1 for uid in innocent}


@on_firestore  # SQLite's reads are no messages; there the contract suite shows close and take meeting
def test_lost_closed_meanwhile(staged: FaultStage) -> None:
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


def test_lost_last_crash_after_begin(staged: FaultStage) -> None:
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
    assert (record(staged, "ann").state, staged.ledger("ann")["state"]) == (Stored.DEAD, "sending")
    assert staged.open_shards()
    staged.run_until_settled()
    assert (staged.ledger("ann")["state"], staged.pushes()) == ("gave_up", {})


@pytest.mark.timeout(300)
def test_lost_resend_killed(staged: FaultStage) -> None:
    """The operator's process is killed at each effect, then the same command again: exactly one new push."""
    staged.add_users("ann")
    staged.run_until_settled()
    day = staged.slots["ann"].recap_date.isoformat()
    staged.director.aim(None, "after", "kill")
    assert staged.stage.end(staged.start("resend", "ann", day)).code == 0
    trace = list(staged.director.trace)
    pushed = trace.index("fcm token-ann-0")
    reported = trace.index(COMMIT, pushed) if COMMIT in trace else pushed + 1
    assert (staged.ledger("ann")["seq"], staged.pushes()) == (2, {"token-ann-0": 2})
    for at in range(len(trace)):
        before, seq = staged.pushes()["token-ann-0"], staged.ledger("ann")["seq"]
        staged.age(sent=True)
        killed(staged, at, "after", "resend", "ann", day)
        if staged.ledger("ann")["state"] != "sent":
            audited = json.loads(staged.stage.run("audit", "--date", day, "--json").out)
            assert audited["uids"]["unfinished"] == ["ann"]
        staged.age()
        again = staged.stage.run("resend", "ann", day)
        over = again.code == 2 and "was resent just now" in again.err  # killed after its report
        assert over == (at >= reported), (at, again.err)
        assert over or again.code == 0, again.err
        twice = pushed <= at < reported  # FCM had accepted, and the ledger did not say so yet
        assert staged.pushes()["token-ann-0"] == before + (2 if twice else 1), (at, trace[at])
        assert (staged.ledger("ann")["seq"], staged.ledger("ann")["state"]) == (seq + 1, "sent")
    assert len(set(staged.stage.fcm.phones["token-ann-0"].tags)) == 1
    assert staged.stage.llm.calls["ann"] == 1


def test_lost_claim_reply(staged: FaultStage) -> None:
    """The claim's answer is dropped: the same run goes on, and nothing is charged."""
    staged.add_users("ann")
    trace = staged.count()
    at = max(n for n in range(trace.index("llm ann")) if trace[n] == "redis")
    staged.anew("ann")
    finished = staged.stage.end(staged.strike(at, "after", "cut"))
    assert finished.code == 0, finished.err
    assert (record(staged, "ann").crashes, finished.event("tick.finished")["claimed"]) == (0, 1)
    staged.check_delivered()


@pytest.mark.parametrize("value", ["1", "", "null", "[]", "{}", "hash", "no-ttl"])
@on_sqlite
def test_lost_foreign_values(staged: FaultStage, value: str) -> None:
    """Another maker's value under a user's key is held; the other users are untouched."""
    staged.add_users("ann", "bob")
    key = claim.user_key("ann", staged.slots["ann"].recap_date)
    with staged.redis() as client:
        if value == "hash":
            client.hset(key, "a", "b")
        else:
            client.set(key, "1" if value == "no-ttl" else value, px=None if value == "no-ttl" else 60_000)
    finished = staged.stage.run()
    assert (finished.code, finished.event("tick.finished")["held"]) == (0, 1)
    assert staged.pushes() == {"token-bob-0": 1}
    with staged.redis() as client:
        left = client.pttl(key)
        assert left <= 60_000 if value not in ("hash", "no-ttl") else 7_100_000 < left <= 7_200_000


def test_lost_missing_fields(staged: FaultStage) -> None:
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
    told = json.loads(audited.out)
    assert (audited.code, told["counts"]["sent"]) == (1, 2)
    assert told["uids"]["invisible"] == sorted([*flawed, "null-zone"])
    assert stage.run("doctor", "--fix").code in (0, 1)
    after = json.loads(stage.run("audit", "--date", day, "--json").out)
    assert "invisible" not in after["counts"]


@on_sqlite
def test_retry_item_failure(staged: FaultStage) -> None:
    """The LLM refuses one item once: delivered at its due time, and no key blocks it before."""
    staged.add_users("ann", "bob")
    refusing = True

    async def rule(who: str) -> web.Response | None:
        return completion(None, refusal="no") if refusing and who == "ann" else None

    staged.llm_rule = rule
    staged.stage.run()
    assert (record(staged, "ann").state, record(staged, "ann").failures) == (Stored.IDLE, 1)
    refusing = False
    staged.settle_in_real_time()
    staged.check_delivered(llm={"ann": 2})


@pytest.mark.timeout(600)
def test_retry_sigterm(staged: FaultStage) -> None:
    """SIGTERM at every effect: the run ends by itself in time, the next delivers, nothing is charged."""
    staged.add_users("ann")
    length = len(staged.count())
    for at in range(0, length, 1 if staged.stage.world.name == "sqlite" else 2):
        staged.anew("ann")
        begun = time.monotonic()
        finished = staged.stage.end(staged.strike(at, "after", "term"))
        assert (finished.code, time.monotonic() - begun < 12) == (0, True), finished.err
        found = record(staged, "ann")
        assert (found.failures, found.crashes) == (0, 0)
        assert found.state is not Stored.CLAIMED
        assert staged.stage.run().code == 0  # at once: what was released is due now
        assert staged.pushes() == {"token-ann-0": 1}
        assert (staged.ledger("ann")["state"], record(staged, "ann").crashes) == ("sent", 0)


@on_firestore
def test_retry_sigterm_in_a_page(staged: FaultStage) -> None:
    """SIGTERM while the store does not answer: the run ends in time, and its shard is free for the next."""
    staged.under_test = PATIENT
    staged.add_users("ann")
    finished = staged.stage.end(staged.strike("firestore", "before", "hold"))
    staged.director.thawed.set()
    assert finished.code == 0, finished.err
    assert len(finished.named("shard.stopped")) == 1
    assert staged.stage.run().code == 0
    staged.check_delivered()
