"""A heartbeat for each tick of a scheduler: its start, its exit code, its summary; and no run waits or fails for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.support.jobs import Stage
from tests.support.watchers import Beats
from tests.support.web import llm_error, scripted

pytestmark = pytest.mark.parametrize("world", ["sqlite"], indirect=True)  # where the users are makes no difference
SECRET = "/ping/0b1c-secret"


@pytest.fixture
def beats(stage: Stage) -> Iterator[Beats]:
    server = Beats()
    stage.settings["RECAP_HEARTBEAT_URL"] = f"{server.url}{SECRET}"
    yield server
    server.stop()


def test_a_tick_tells_its_start_its_code_and_its_summary(stage: Stage, beats: Beats) -> None:
    stage.add_user("ann")
    finished = stage.run()
    assert finished.code == 0
    assert beats.told == [(f"{SECRET}/start", ""), (f"{SECRET}/0", finished.out.strip())]
    assert "1 sent" in finished.out
    stage.run()
    assert len(beats.runs) == 4
    assert beats.runs[0] == beats.runs[1] != beats.runs[2] == beats.runs[3]


def test_an_idle_tick_tells_it_too(stage: Stage, beats: Beats) -> None:
    stage.run()
    stage.nothing_is_due()
    beats.told.clear()
    finished = stage.run()
    assert beats.told == [(f"{SECRET}/start", ""), (f"{SECRET}/0", finished.out.strip())]
    assert "nothing to do" in finished.out


def test_a_query_stays_behind_the_path(stage: Stage, beats: Beats) -> None:
    stage.settings["RECAP_HEARTBEAT_URL"] += "/?create=1"
    stage.run()
    assert [path for path, _ in beats.told] == [f"{SECRET}/start?create=1", f"{SECRET}/0?create=1"]


def test_a_refused_key_is_3(stage: Stage, beats: Beats) -> None:
    stage.add_user("ann")
    stage.llm.script = scripted(lambda _: llm_error(401, "invalid_api_key"))
    assert _code(stage, beats) == 3


def test_a_server_that_is_away_is_4(stage: Stage, beats: Beats) -> None:
    assert _code(stage, beats, REDIS_URL="redis://127.0.0.1:1/0") == 4


def test_an_unreadable_ledger_is_1(stage: Stage, beats: Beats) -> None:
    slot = stage.add_user("ann")
    stage.world.put_ledger("ann", slot.recap_date.isoformat(), {"date": slot.recap_date.isoformat(), "state": "?"})
    assert _code(stage, beats) == 1


def test_a_day_that_was_lost_is_5(stage: Stage, beats: Beats) -> None:
    slot = stage.add_user("ann")
    late = (datetime.now(UTC) - slot.at).total_seconds()
    gone = {"RECAP_CATCH_UP_SECONDS": str(max(1.0, late - 1)), "RECAP_GRACE_SECONDS": "3600", "RECAP_FALLBACK": "none"}
    assert _code(stage, beats, **gone) == 5


def _code(stage: Stage, beats: Beats, **changes: str) -> int:
    """The exit code of a tick, which is also told."""
    finished = stage.run(**changes)
    assert [path for path, _ in beats.told] == [f"{SECRET}/start", f"{SECRET}/{finished.code}"], finished.err
    assert beats.told[1][1]
    return finished.code


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--user", "ann"), ("audit",), ("inspect",)])
def test_what_no_scheduler_starts_has_none(stage: Stage, beats: Beats, arguments: tuple[str, ...]) -> None:
    stage.add_user("ann")
    stage.run(*arguments)
    assert beats.told == []


@pytest.mark.parametrize("hangs", [("start",), ("0",), ("start", "0")])
def test_a_server_that_hangs_holds_up_no_run(stage: Stage, beats: Beats, hangs: tuple[str, ...]) -> None:
    stage.run()
    plain = _seconds(stage)
    beats.told.clear()
    beats.hangs = hangs
    assert _seconds(stage) < plain + 3 + 5  # three seconds, and what a busy machine takes more than before
    assert [path for path, _ in beats.told] == [f"{SECRET}/start", f"{SECRET}/0"]


def _seconds(stage: Stage) -> float:
    begun = time.monotonic()
    assert stage.run().code == 0
    return time.monotonic() - begun


@pytest.mark.parametrize("status", [404, 500, 302])
def test_a_refusal_is_told_and_fails_nothing(stage: Stage, beats: Beats, status: int) -> None:
    beats.status = status
    finished = stage.run()
    assert finished.code == 0
    assert finished.event("heartbeat.failed")["reason"] == f"RECAP_HEARTBEAT_URL (127.0.0.1): HTTPError {status}."
    assert SECRET not in finished.err + finished.out
    assert len(beats.told) == 2  # a redirect is not followed


def test_a_server_that_is_away_fails_nothing(stage: Stage) -> None:
    finished = stage.run(RECAP_HEARTBEAT_URL=f"http://127.0.0.1:1{SECRET}")
    assert finished.code == 0
    assert finished.event("heartbeat.failed")["reason"] == "RECAP_HEARTBEAT_URL (127.0.0.1): URLError."
    assert SECRET not in finished.err
