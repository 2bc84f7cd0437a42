"""Slots, dates and windows in odd zones; the end of the catch-up; slots that nobody served."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis import Redis

from notifications.domain.claim import ClaimState, since_key
from notifications.domain.schedule import slot_on
from tests.faults.stage import FaultStage, closing, on_sqlite, record
from tests.support.jobs import JOB, Stage
from tests.support.web import fcm_error, llm_error
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
def test_one_instant_may_be_two_dates(stage: Stage) -> None:
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
def test_each_conversation_is_in_exactly_one_recap(stage: Stage, name: str) -> None:
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
    assert (record(staged, "ann").state, record(staged, "bob").state) == (ClaimState.MISSED, ClaimState.SENT)
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
    assert (record(staged, "ann").state, finished.event("tick.finished")["gave_up"]) == (ClaimState.DEAD, 1)


@on_sqlite
def test_slots_that_no_run_served_are_seen_by_the_next_run_and_by_the_audit(stage: Stage) -> None:
    slot = datetime(2026, 5, 1, 20, tzinfo=UTC)
    put(stage, "ann", "UTC", 20, slot - timedelta(hours=2))
    late = slot + timedelta(hours=2, minutes=30)
    remembers = int((datetime.now(UTC) - timedelta(hours=5)).timestamp() * 1000)
    with Redis(port=stage.redis.port) as client:
        key = since_key(stage.world.environment)
        client.set(key, f'{{"s":"complete","t":"","u":{remembers}}}', px=3_600_000)
    finished = stage.run("--now", late.isoformat())
    told = finished.event("slots.unserved")
    assert finished.code == 5
    assert told["first"] <= slot.isoformat() <= told["last"]
    audited = stage.run("--now", late.isoformat(), "audit", "--date", "2026-05-01", "--json")
    accounts = audited.accounts
    assert (audited.code, accounts["counts"]["unserved"], accounts["uids"]["unserved"]) == (1, 1, ["ann"])


@on_sqlite
def test_the_audit_of_a_good_day_exits_0(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.add_user("silent", talks={})
    stage.run()
    audited = stage.run("audit", "--date", slot.recap_date.isoformat(), "--json")
    accounts = audited.accounts
    assert audited.code == 0, audited.out
    assert accounts["counts"] == {"due": 2, "sent": 1, "skipped": 1, "stored": 1}


@on_sqlite
def test_the_audit_finds_a_second_summary(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.run()
    day = slot.recap_date.isoformat()
    stage.world.put_summary("ann", "another", {"date": day, "headline": "Again"})
    audited = stage.run("audit", "--date", day, "--json")
    assert (audited.code, audited.accounts["uids"]["duplicate_summaries"]) == (1, ["ann"])
