"""Slots and dates in odd zones, the end of the catch-up, and a Redis whose clock is wrong or jumps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis import Redis

from notifications.domain.claim import ClaimState
from tests.faults.stage import FaultStage, closing, record
from tests.support.jobs import JOB, Stage, on_sqlite, one_sentence
from tests.support.shifted import ShiftedRedis
from tests.support.web import fcm_error, llm_error, scripted
from tests.support.worlds import talk


def pretend(stage: Stage, now: datetime, *arguments: str) -> Any:
    finished = stage.run("--now", now.isoformat(), *arguments)
    assert finished.code == 0, finished.err
    return finished


def put(stage: Stage, uid: str, zone: str, hour: int, *talks: datetime) -> None:
    doc = {"time_zone": zone, "daily_summary_enabled": True, "daily_summary_hour_local": hour}
    stage.world.put_user(uid, doc, {"d": f"token-{uid}"}, {f"t-{at:%m%d%H%M}": talk(uid, at) for at in talks})


GAPS = [
    ("America/Nuuk", 23, datetime(2026, 3, 29, 1, tzinfo=UTC), date(2026, 3, 28)),
    ("Antarctica/Troll", 2, datetime(2026, 3, 29, 1, tzinfo=UTC), date(2026, 3, 28)),
    ("Asia/Kathmandu", 22, datetime(2026, 3, 28, 16, 15, tzinfo=UTC), date(2026, 3, 28)),
    ("Australia/Eucla", 22, datetime(2026, 3, 28, 13, 15, tzinfo=UTC), date(2026, 3, 28)),
    ("Pacific/Chatham", 11, datetime(2026, 3, 27, 21, 15, tzinfo=UTC), date(2026, 3, 27)),
]


@pytest.mark.parametrize(("zone", "hour", "slot", "day"), GAPS)
@on_sqlite
def test_slots_in_gaps_and_at_quarter_hours_are_served_at_their_instant(
    stage: Stage, zone: str, hour: int, slot: datetime, day: date
) -> None:
    put(stage, "ann", zone, hour, slot - timedelta(hours=2))
    assert pretend(stage, slot - timedelta(seconds=30)).event("tick.finished")["due"] == 0
    assert pretend(stage, slot + timedelta(seconds=5)).event("tick.finished")["sent"] == 1
    [ledger] = stage.world.ledgers("ann").items()
    assert (ledger[0], ledger[1]["window_end"]) == (day.isoformat(), slot)


@on_sqlite
def test_a_workers_clock_decides_nothing(stage: Stage, tmp_path: Path) -> None:
    """A worker whose clock is five minutes fast: the slot that is three minutes ahead is not due yet."""
    soon = datetime.now(UTC) + timedelta(minutes=3)
    put(stage, "ann", "UTC", 20, datetime(2026, 5, 1, 18, tzinfo=UTC))
    program = (
        "import sys, freezegun, datetime, runpy\n"
        "fast = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)\n"
        "with freezegun.freeze_time(fast, tick=True, real_asyncio=True, ignore=['redis', 'threading']):\n"
        f"    sys.argv = ['job.py', '--dry-run']; runpy.run_path({str(JOB)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=stage.env(PYTHONPATH=str(JOB.parent)), capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = datetime.strptime(done.stdout.splitlines()[-1][:20], "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    assert told < soon  # the run's own "now" is Redis TIME, not the fast clock


def test_the_closing_pass_pushes_what_is_open_and_tells_what_is_missed(staged: FaultStage) -> None:
    """At the catch-up's end: the user without a ledger is missed, the one with a ledger is pushed."""
    staged.stage.settings["RECAP_FALLBACK"] = "none"
    staged.add_users("ann", "bob")
    closed = True

    async def rule(token: str) -> web.Response | None:
        return fcm_error(503, "UNAVAILABLE") if closed and token == "token-bob-0" else None

    staged.fcm_rule, staged.llm_rule = rule, scripted(lambda who: llm_error(503, "down") if who == "ann" else None)
    staged.stage.run()
    assert (staged.ledger("bob")["state"], staged.ledger("ann")) == ("pending", {})
    closed = False
    calls = dict(staged.stage.llm.calls)
    staged.age()
    finished = staged.stage.run(**closing(staged))
    assert finished.event("tick.finished")["missed"] == 1
    ann, bob = staged.ledger("ann"), staged.ledger("bob")
    assert (ann["state"], "window_end" in ann, bob["state"]) == ("missed", False, "sent")
    assert (record(staged, "ann").state, record(staged, "bob").state) == (ClaimState.MISSED, ClaimState.SENT)
    assert staged.stage.llm.calls == calls
    assert staged.pushes() == {"token-bob-0": 1}
    assert not staged.open_shards()


@on_sqlite
def test_the_audit_finds_a_second_summary(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.run()
    day = slot.recap_date.isoformat()
    stage.world.put_summary("ann", "another", {"date": day, "headline": "Again"})
    audited = stage.run("audit", "--date", day, "--json")
    assert (audited.code, audited.accounts["uids"]["duplicate_summaries"]) == (1, ["ann"])


DAY = 86_400


@pytest.fixture
def shifted(stage: Stage) -> Iterator[ShiftedRedis]:
    """Redis as every process of this stage sees it."""
    made = ShiftedRedis(stage.redis.port)
    stage.settings["REDIS_URL"] = made.url
    yield made
    made.stop()


def keys_of(stage: Stage) -> int:
    with Redis(port=stage.redis.port) as client:
        return int(client.dbsize())


@pytest.mark.parametrize(("shift", "told"), [(DAY, "24 h 0 min ahead of"), (-3 * DAY, "3 days behind")])
def test_a_clock_that_is_days_off_claims_nothing_and_writes_nothing(
    stage: Stage, shifted: ShiftedRedis, shift: int, told: str
) -> None:
    """Tomorrow would be skipped for everybody who is due in it; of the days before nobody knows any more."""
    stage.add_user("ann")
    shifted.shift = shift
    finished = stage.run()
    said = one_sentence(finished.err)
    assert (finished.code, f"Redis' clock is {told} the store's; set the wrong clock right" in said) == (4, True), (
        finished.err
    )
    assert (stage.world.ledgers("ann"), keys_of(stage)) == ({}, 0)
    assert finished.named("slots.unserved") == []
    shifted.shift = 0
    assert stage.run().event("tick.finished")["sent"] == 1


def test_a_clock_that_is_behind_is_told_where_every_tick_would_be_idle(stage: Stage, shifted: ShiftedRedis) -> None:
    stage.nothing_is_due()
    assert stage.run().event("tick.finished")["idle"] is False  # the first sweep
    shifted.shift = -600
    before = keys_of(stage)
    finished = stage.run()
    assert (finished.code, "10 min behind the store's" in one_sentence(finished.err)) == (4, True), finished.err
    assert keys_of(stage) == before
    shifted.shift = -240  # as clocks may differ
    assert stage.run().event("tick.finished")["documents_read"] == 0


@pytest.mark.parametrize("jump", [DAY, -DAY])
@on_sqlite
def test_a_claim_won_by_a_clock_that_jumped_is_given_back_before_it_is_used(
    stage: Stage, shifted: ShiftedRedis, jump: int
) -> None:
    """Ann is being served when it jumps; bob's claim says so."""
    stage.settings["RECAP_CONCURRENCY"] = "1"
    slots = {uid: stage.add_user(uid) for uid in ("ann", "bob")}

    async def jumps(who: str) -> web.Response | None:
        shifted.shift = jump
        return None

    stage.llm.script = jumps
    finished = stage.run()
    assert (finished.code, "has jumped" in finished.err.splitlines()[-1]) == (4, True), finished.err
    assert [len(stage.world.ledgers(uid)) for uid in ("ann", "bob")] == [1, 0]
    bob = stage.record("bob", slots["bob"])
    assert (bob.state, bob.failures, bob.crashes, bob.reason) == (ClaimState.IDLE, 0, 0, "clock")
    stage.llm.script, shifted.shift = None, 0
    with Redis(port=stage.redis.port) as client:  # the shards rest for a minute
        for key in client.scan_iter("daily_summary:cohort:*"):
            client.delete(key)
    event = stage.run().event("tick.finished")
    assert (event["sent"], event["extracts"]) == (1, 0)
    assert stage.llm.calls == {"ann": 1, "bob": 1}


@on_sqlite
def test_who_asks_by_hand_is_told_too(stage: Stage, shifted: ShiftedRedis) -> None:
    slot = stage.add_user("ann")
    assert "ok    the clocks of Redis, the store and this machine" in stage.run("doctor").out
    shifted.shift = -DAY
    for command in (("--user", "ann"), ("resend", "ann", slot.recap_date.isoformat())):
        finished = stage.run(*command)
        assert (finished.code, "24 h 0 min behind" in one_sentence(finished.err)) == (4, True), finished.err
    assert stage.world.ledgers("ann") == {}
    examined = stage.run("doctor")
    assert examined.code == 1
    assert "Redis' clock is 24 h 0 min behind the store's" in " ".join(examined.out.split())
    assert keys_of(stage) == 0
