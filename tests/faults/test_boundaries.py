"""Old deployments, moving zones, resends under way, erased accounts, servers that are down."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from notifications.domain import claim
from notifications.domain.claim import Stored
from notifications.domain.schedule import slot_on
from tests.faults.harness import FaultStage, on_firestore, on_sqlite
from tests.support.jobs import JOB, Stage
from tests.support.servers import free_port
from tests.support.web import fcm_error
from tests.support.worlds import talk

# An overlap keeps the protocol's own numbers.
REAL = {
    "RECAP_USER_DEADLINE_SECONDS": "480",
    "RECAP_USER_LEASE_SECONDS": "660",
    "RECAP_PUSH_DEADLINE_SECONDS": "30",
    "RECAP_STORE_TIMEOUT_SECONDS": "60",
    "RECAP_SENDING_STALE_SECONDS": "120",
}


def key_of(faults: FaultStage, uid: str) -> str:
    return claim.user_key(uid, faults.slots[uid].recap_date)


# --- an operator ------------------------------------------------------------------


@on_firestore
def test_stale_resend(staged: FaultStage) -> None:
    """Refused while a push is under way; hours later exactly one new push."""
    staged.stage.settings |= REAL
    staged.add_users("ann")
    day = staged.slots["ann"].recap_date.isoformat()
    process = staged.strike("fcm token-ann-0", "after", "freeze")
    refused = staged.stage.run("resend", "ann", day)
    assert (refused.code, "try again in 2 min" in refused.err) == (2, True)
    with staged.redis() as client:
        client.delete(key_of(staged, "ann"))
    assert staged.stage.run("resend", "ann", day).code == 2  # the ledger alone refuses it too
    staged.thaw(process)
    assert staged.pushes() == {"token-ann-0": 1}
    with staged.redis() as client:
        client.flushall()
    later = (datetime.now(UTC) + timedelta(hours=5)).isoformat()
    done = staged.stage.run("--now", later, "resend", "ann", day)
    assert done.code == 0, done.err
    assert (staged.pushes(), staged.ledger("ann")["seq"]) == ({"token-ann-0": 2}, 2)
    assert len(staged.stage.fcm.phones["token-ann-0"].visible) == 1


def test_a_resend_makes_a_missed_recap(staged: FaultStage) -> None:
    staged.add_users("ann")
    day = staged.slots["ann"].recap_date.isoformat()
    late = (datetime.now(UTC) - staged.slots["ann"].at).total_seconds()
    staged.stage.run(RECAP_CATCH_UP_SECONDS=str(late - 1), RECAP_GRACE_SECONDS="3600")
    assert staged.ledger("ann")["state"] == "missed"
    done = staged.stage.run("resend", "ann", day)
    assert done.code == 0, done.err
    assert (staged.ledger("ann")["state"], staged.ledger("ann")["seq"], staged.pushes()) == (
        "sent", 2, {"token-ann-0": 1},
    )  # fmt: skip


# --- beside an older deployment -----------------------------------------------------


@on_sqlite
def test_upgrade_old_lock(staged: FaultStage) -> None:
    """An older deployment's plain lock is in place: no push, no LLM call."""
    staged.add_users("ann")
    with staged.redis() as client:
        assert client.set(key_of(staged, "ann"), "1", nx=True, ex=7200)
    assert staged.stage.run().event("tick.finished")["held"] == 1
    assert (staged.pushes(), dict(staged.stage.llm.calls)) == ({}, {})


@on_sqlite
def test_upgrade_rollback(staged: FaultStage) -> None:
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
def test_upgrade_an_older_deployment_stored_its_summary_and_was_stopped(staged: FaultStage) -> None:
    staged.add_users("ann")
    slot = staged.slots["ann"]
    theirs = {"id": "old", "date": slot.recap_date.isoformat(), "created_at": slot.at, "headline": "H", "overview": "O"}
    staged.stage.world.put_summary("ann", "old", theirs)
    staged.run_until_settled()
    assert (staged.ledger("ann")["outcome"], staged.pushes()) == ("legacy", {})


@on_sqlite
def test_upgrade_tzdata(staged: FaultStage) -> None:
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


def claim_version() -> bytes:
    from notifications.domain.schedule import tzdata_version

    return tzdata_version().encode()


# --- time -------------------------------------------------------------------------


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
def test_time_slots_of_gaps_and_quarter_hours(stage: Stage, zone: str, hour: int, slot: datetime, day: date) -> None:
    put(stage, "ann", zone, hour, slot - timedelta(hours=2))
    assert pretend(stage, slot - timedelta(seconds=30)).event("tick.finished")["due"] == 0
    assert pretend(stage, slot + timedelta(seconds=5)).event("tick.finished")["sent"] == 1
    [ledger] = stage.world.ledgers("ann").items()
    assert (ledger[0], ledger[1]["window_end"]) == (day.isoformat(), slot)


@on_sqlite
def test_time_one_instant_two_dates(stage: Stage) -> None:
    """Kiritimati and Honolulu share the instant, not the date."""
    slot = datetime(2026, 5, 2, 8, tzinfo=UTC)
    for uid, zone in (("kiri", "Pacific/Kiritimati"), ("hono", "Pacific/Honolulu")):
        put(stage, uid, zone, 22, slot - timedelta(hours=3))
    assert pretend(stage, slot + timedelta(minutes=1)).event("tick.finished")["sent"] == 2
    days = {uid: list(stage.world.ledgers(uid)) for uid in ("kiri", "hono")}
    assert days == {"kiri": ["2026-05-02"], "hono": ["2026-05-01"]}


Stay = tuple[str, int, date]
JOURNEYS: dict[str, list[Stay]] = {
    "hour 11 to 12": [("UTC", 11, date(2026, 5, 1)), ("UTC", 12, date(2026, 5, 2))],
    "hour 22 to 8": [("UTC", 22, date(2026, 5, 1)), ("UTC", 8, date(2026, 5, 3))],
    "Honolulu to Tokyo": [("Pacific/Honolulu", 22, date(2026, 5, 1)), ("Asia/Tokyo", 22, date(2026, 5, 3))],
    "Tokyo to Honolulu": [("Asia/Tokyo", 22, date(2026, 5, 1)), ("Pacific/Honolulu", 22, date(2026, 5, 2))],
}


@pytest.mark.parametrize("name", JOURNEYS)
@on_sqlite
def test_time_each_conversation_is_in_exactly_one_recap(stage: Stage, name: str) -> None:
    """Every three hours one conversation; the prompts' windows cut them into exactly one recap each."""
    (zone, hour, first), (next_zone, next_hour, second) = JOURNEYS[name]
    one, two = slot_on(zone, first, hour), slot_on(next_zone, second, next_hour)
    start = one.previous
    talks = [start + timedelta(hours=3 * n) for n in range(int((two.at - start).total_seconds() // 10_800) + 1)]
    put(stage, "ann", zone, hour, *[at for at in talks if at < two.at])
    pretend(stage, one.at + timedelta(minutes=1))
    stage.world.update_user("ann", {"time_zone": next_zone, "daily_summary_hour_local": next_hour})
    late = one.at - timedelta(minutes=30)  # recorded before the first slot, taken in after it
    stage.world.put_talk("ann", "late", talk("ann", one.at + timedelta(minutes=30), started_at=late, finished_at=late))
    pretend(stage, two.at + timedelta(minutes=1))
    recaps = stage.world.summaries("ann").values()
    told = sorted((ledger["window_start"], ledger["window_end"]) for ledger in stage.world.ledgers("ann").values())
    assert told == [(one.previous, one.at), (one.at, two.at)]
    total = sum(recap["stats"]["total_conversations"] for recap in recaps)
    assert total == len([at for at in talks if at < two.at]) + 1


@on_sqlite
def test_time_a_workers_clock_decides_nothing(stage: Stage, tmp_path: Path) -> None:
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


# --- privacy ------------------------------------------------------------------------


def test_privacy_erased(staged: FaultStage) -> None:
    """The user's document is deleted during the LLM call: no summary, no ledger, no push."""
    staged.add_users("ann")
    process = staged.strike("llm ann", "before", "freeze")
    staged.stage.world.delete_user("ann")
    finished = staged.thaw(process)
    assert finished.code == 0, finished.err
    assert (staged.stage.world.ledgers("ann"), staged.stage.world.summaries("ann"), staged.pushes()) == ({}, {}, {})
    assert staged.stage.record("ann", staged.slots["ann"]).state is Stored.SKIPPED


def test_privacy_switched_off(staged: FaultStage) -> None:
    """Switched off between page and begin: no push, nothing written."""
    staged.add_users("ann")
    process = staged.strike("llm ann", "before", "freeze")
    staged.stage.world.update_user("ann", {"daily_summary_enabled": False})
    staged.thaw(process)
    assert (staged.stage.world.ledgers("ann"), staged.stage.world.summaries("ann"), staged.pushes()) == ({}, {}, {})


def test_privacy_no_content_no_token_no_key_in_what_is_logged(staged: FaultStage) -> None:
    staged.add_users("ann", devices=2)
    answers = iter([fcm_error(400, "INVALID_ARGUMENT"), fcm_error(404, "UNREGISTERED")])

    async def rule(token: str) -> web.Response | None:
        return next(answers, None)

    staged.fcm_rule = rule
    finished = staged.stage.run()
    said = finished.err + finished.out
    for secret in ("garden", "Buy seeds", "A day of", "token-ann", "test-key"):
        assert secret not in said


@pytest.mark.parametrize(("status", "code"), [(403, "SENDER_ID_MISMATCH"), (400, "INVALID_ARGUMENT")])
@on_sqlite
def test_tokens_wrong_project(staged: FaultStage, status: int, code: str) -> None:
    """FCM refuses everybody: no token is deleted, nobody is lost once a person has mended it."""
    users = [f"user-{n}" for n in range(6)]
    staged.add_users(*users)
    broken = True

    async def rule(token: str) -> web.Response | None:
        return fcm_error(status, code) if broken else None

    staged.fcm_rule = rule
    finished = staged.stage.run()
    assert finished.event("tick.finished")["tokens_deleted"] == 0
    assert len(finished.named("push.refused")) == 6
    broken = False
    staged.run_until_settled()
    staged.check_delivered()


# --- servers that are down -------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("name", ["redis", "firestore", "llm", "fcm"])
@on_firestore
def test_down_at_start(staged: FaultStage, name: str) -> None:
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
def test_down_midway(staged: FaultStage, name: str) -> None:
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


# --- the scheduler was down --------------------------------------------------------------


@on_sqlite
def test_slots_that_no_run_served_are_seen_by_the_next_run_and_by_the_audit(stage: Stage) -> None:
    slot = datetime(2026, 5, 1, 20, tzinfo=UTC)
    put(stage, "ann", "UTC", 20, slot - timedelta(hours=2))
    late = slot + timedelta(hours=2, minutes=30)
    told = pretend(stage, late).event("slots.unserved")
    assert told["first"] <= slot.isoformat() <= told["last"]
    audited = stage.run("--now", late.isoformat(), "audit", "--date", "2026-05-01", "--json")
    accounts = json.loads(audited.out)
    assert (audited.code, accounts["counts"]["unserved"], accounts["uids"]["unserved"]) == (1, 1, ["ann"])


@on_sqlite
def test_the_audit_of_a_good_day_exits_0(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.add_user("silent", talks={})
    stage.run()
    audited = stage.run("audit", "--date", slot.recap_date.isoformat(), "--json")
    accounts = json.loads(audited.out)
    assert audited.code == 0, audited.out
    assert accounts["counts"] == {"due": 2, "sent": 1, "skipped": 1, "stored": 1}


@on_sqlite
def test_the_audit_finds_a_second_summary(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.run()
    day = slot.recap_date.isoformat()
    stage.world.put_summary("ann", "another", {"date": day, "headline": "Again"})
    audited = stage.run("audit", "--date", day, "--json")
    assert (audited.code, json.loads(audited.out)["uids"]["duplicate_summaries"]) == (1, ["ann"])
