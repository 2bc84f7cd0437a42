"""Slots, dates and windows in odd zones; the end of the catch-up; slots that nobody served."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimState
from tests.faults.stage import FaultStage, closing, on_sqlite, record
from tests.support.jobs import JOB, Stage
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
