"""The sweep: an open delivery whose user is in no cohort any more is finished, once."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from redis import Redis

from notifications.domain.claim import ClaimState, sweep_key
from tests.faults.proxies import COMMIT
from tests.faults.stage import PATIENT, FaultStage, make_old, sweep_is_due
from tests.support.jobs import on_firestore, on_sqlite
from tests.support.web import fcm_error, scripted

MOVES: dict[str, dict[str, Any]] = {
    "zone": {"time_zone": "Pacific/Honolulu"},
    "broken zone": {"time_zone": "mars"},
    "hour": {"daily_summary_hour_local": 3},
}


def leave_pending(staged: FaultStage, *uids: str) -> None:
    """FCM is busy through one run; then everything of it has aged."""
    staged.add_users(*uids)
    staged.fcm_rule = scripted(lambda _: fcm_error(503, "UNAVAILABLE"))
    staged.stage.run()
    assert {staged.ledger(uid)["state"] for uid in uids} == {"pending"}
    staged.fcm_rule = None
    make_old(staged, *uids)


def close_shards(staged: FaultStage) -> None:
    """No cohort holds anybody any more."""
    with staged.redis() as client:
        for key in client.scan_iter("daily_summary:cohort:*"):
            client.set(key, '{"s":"complete","t":""}', px=3_600_000)


@pytest.mark.short
@pytest.mark.parametrize("move", MOVES)
def test_an_open_delivery_of_who_moved_away_is_finished_once(staged: FaultStage, move: str) -> None:
    leave_pending(staged, "ann", "bob")
    hour = staged.stage.world.user("ann")["daily_summary_hour_local"]  # type: ignore[index]
    changes = MOVES[move] if move != "hour" else {"daily_summary_hour_local": (hour + 12) % 24}
    for uid in ("ann", "bob"):
        staged.stage.world.update_user(uid, changes)
    close_shards(staged)
    finished = staged.stage.run()
    assert staged.pushes() == {"token-ann-0": 1, "token-bob-0": 1}
    assert finished.code == 0, finished.err
    event = finished.event("tick.finished")
    assert (event["swept"], event["sent"], event["due"]) == (2, 2, 2)
    assert {staged.ledger(uid)["state"] for uid in ("ann", "bob")} == {"sent"}
    assert {staged.stage.record(uid, staged.slots[uid]).state for uid in ("ann", "bob")} == {ClaimState.SENT}
    again = staged.stage.run()
    assert again.event("tick.finished")["idle"] is True  # ten minutes must pass


@pytest.mark.parametrize("gone", ["off", "erased"])
def test_an_open_delivery_of_who_is_gone_or_off_is_given_up_without_a_push(staged: FaultStage, gone: str) -> None:
    leave_pending(staged, "ann")
    if gone == "off":
        staged.stage.world.update_user("ann", {"daily_summary_enabled": False})
    else:
        staged.stage.world.delete_user("ann")
    close_shards(staged)
    finished = staged.stage.run()
    assert (finished.code, finished.event("tick.finished")["gave_up"]) == (5, 1)
    assert (staged.ledger("ann")["state"], staged.ledger("ann")["outcome"]) == ("gave_up", "user_gone_or_off")
    assert staged.pushes() == {}


def test_an_open_delivery_is_given_up_once_its_time_is_over(staged: FaultStage) -> None:
    leave_pending(staged, "ann")
    staged.stage.world.update_user("ann", {"time_zone": "Pacific/Honolulu"})
    close_shards(staged)
    late = (datetime.now(UTC) - staged.slots["ann"].at).total_seconds()
    finished = staged.stage.run(RECAP_CATCH_UP_SECONDS=f"{max(1.0, late - 20):.3f}", RECAP_GRACE_SECONDS="1")
    assert finished.code == 5, finished.err
    assert (staged.ledger("ann")["state"], staged.ledger("ann")["outcome"]) == ("gave_up", "undelivered")
    assert staged.pushes() == {}


@pytest.mark.short
def test_two_sweeps_at_once_push_once(staged: FaultStage) -> None:
    uids = [f"user-{n}" for n in range(6)]
    leave_pending(staged, *uids)
    for uid in uids:
        staged.stage.world.update_user(uid, {"time_zone": "Pacific/Honolulu"})
    close_shards(staged)
    staged.stage.settings["RECAP_SWEEP_SECONDS"] = "0.001"
    for process in [staged.stage.start() for _ in range(4)]:
        assert staged.stage.end(process).code == 0
    sweep_is_due(staged)
    assert staged.stage.run().code == 0
    assert staged.pushes() == {f"token-{uid}-0": 1 for uid in uids}
    assert {staged.ledger(uid)["state"] for uid in uids} == {"sent"}


@on_firestore  # SQLite commits between two visible messages
@pytest.mark.parametrize("at", [COMMIT, "fcm token-ann-0"])
def test_a_sweep_beside_a_frozen_run_pushes_once(staged: FaultStage, at: str) -> None:
    """A run freezes after begin, before or after its push; its claim is gone; the sweep takes the ledger; it thaws."""
    staged.under_test = PATIENT | {"RECAP_PUSH_DEADLINE_SECONDS": "3"}
    staged.add_users("ann")
    process = staged.strike(at, "after", "freeze")
    staged.stage.world.update_user("ann", {"time_zone": "Pacific/Honolulu"})
    with staged.redis() as client:
        client.flushall()
    close_shards(staged)
    staged.complete_other_shards_of_nobody()
    make_old(staged, "ann")
    staged.wait_for_locks()
    assert staged.stage.run().code == 0
    assert staged.ledger("ann")["state"] == "sent"
    body = staged.ledger("ann")["body"]
    time.sleep(3.2)  # the fault itself: past the push deadline, as whoever meets a stale sender finds it
    staged.thaw(process)
    accepted_before = at != COMMIT
    assert staged.pushes() == {"token-ann-0": 2 if accepted_before else 1}
    assert staged.stage.fcm.phones["token-ann-0"].visible == {staged.ledger("ann")["collapse_id"]: body}
    assert staged.ledger("ann")["state"] == "sent"


@on_sqlite
def test_a_sweep_that_can_not_push_gives_way(staged: FaultStage) -> None:
    """One by one, each with its push deadline, it took hours in which other slots waited; its turn is given back."""
    uids = [f"user-{n}" for n in range(5)]
    leave_pending(staged, *uids)
    for uid in uids:
        staged.stage.world.update_user(uid, {"time_zone": "Pacific/Honolulu"})
    close_shards(staged)

    async def cut(token: str) -> web.Response:
        raise ConnectionResetError

    staged.fcm_rule = cut
    asked = staged.stage.fcm.asked.total()
    finished = staged.stage.run()
    assert (finished.code, finished.event("tick.finished")["swept"]) == (4, 1), finished.err
    assert staged.stage.fcm.asked.total() - asked == 1
    with Redis(port=staged.stage.redis.port) as client:
        assert client.exists(sweep_key(staged.stage.world.environment)) == 0
    staged.fcm_rule = None
    staged.age()
    assert staged.stage.run().code == 0
    assert {staged.ledger(uid)["state"] for uid in uids} == {"sent"}
