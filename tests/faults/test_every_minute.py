"""An hour of `--every-minute` on a terminal, at a sped-up clock: Redis, the LLM and FCM go away and come back."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from notifications.domain.text import width_of
from tests.faults.stage import SCALED
from tests.support.jobs import Stage, on_sqlite
from tests.support.servers import wait_for
from tests.support.terminal import OnATerminal
from tests.support.web import fcm_error, llm_error, scripted
from tests.support.worlds import talk

START = datetime(2026, 5, 1, 19, 50, tzinfo=UTC)
TICKS, SECONDS = 60, 0.7
ZONES = (("UTC", 20, 10), ("Asia/Kathmandu", 2, 25), ("Asia/Kolkata", 2, 40))  # zone, hour, its slot's tick
ROOT = Path(__file__).parents[2]


@on_sqlite
@pytest.mark.timeout(180)
def test_an_hour_of_every_minute_with_servers_that_come_and_go(stage: Stage, tmp_path: Path) -> None:
    uids = []
    for zone, hour, tick in ZONES:
        for number in range(4):
            uid = f"{zone.rpartition('/')[2].lower()}-{number}"
            doc = {"time_zone": zone, "daily_summary_enabled": True, "daily_summary_hour_local": hour}
            said = {"t": talk(uid, START + timedelta(minutes=tick - 90))}
            stage.world.put_user(uid, doc, {"d": f"token-{uid}"}, said)
            uids.append(uid)
    down: set[str] = set()

    async def fcm(token: str) -> web.Response | None:
        return fcm_error(503, "UNAVAILABLE") if "fcm" in down else None

    stage.llm.script, stage.fcm.script = scripted(lambda _: llm_error(503, "away") if "llm" in down else None), fcm
    memory = tmp_path / "memory"
    settings = SCALED | {"TERM": "xterm", "PYTHONPATH": str(ROOT), "RECAP_LOG_FORMAT": "auto", "RECAP_CONCURRENCY": "4"}
    command = [sys.executable, "-m", "tests.support.hour", START.isoformat(), str(TICKS), str(SECONDS), str(memory)]

    def reached(tick: int) -> None:
        wait_for(lambda: memory.exists() and len(memory.read_text().splitlines()) >= tick, f"tick {tick}", 120)

    with OnATerminal(command, stage.env(**settings), ROOT) as running:
        reached(8)
        stage.redis.kill()  # over the first slot
        reached(14)
        stage.redis.start()
        reached(22)
        down.add("llm")  # over the second
        reached(28)
        down.clear()
        reached(38)
        down.add("fcm")  # over the third
        reached(43)
        down.clear()
        assert running.end(120) == 0, running.raw
    assert stage.fcm.accepted == {f"token-{uid}": 1 for uid in uids}
    answered = {uid: stage.llm.calls[uid] for uid in uids if not uid.startswith("kathmandu")}
    assert answered == dict.fromkeys(answered, 1)  # what FCM refused is not paid again
    states = {uid: [ledger["state"] for ledger in stage.world.ledgers(uid).values()] for uid in uids}
    assert states == {uid: ["sent"] for uid in uids}
    used = [int(line) for line in memory.read_text().splitlines()]
    assert len(used) == TICKS
    assert max(used[50:]) <= max(used[44:50]) * 1.02, used  # all that is imported late is there by then
    assert [line for line in running.lines if width_of(line) > 80] == []
    assert "Redis" in running.raw
    assert running.raw.count("nothing to do") > TICKS / 3
