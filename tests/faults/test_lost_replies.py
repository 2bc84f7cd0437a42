"""An answer that is lost, a device that fails, an app that writes meanwhile: one recap, one visible push."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimState
from tests.faults.proxies import COMMIT
from tests.faults.stage import FaultStage, record
from tests.support.jobs import on_firestore
from tests.support.web import fcm_error, scripted
from tests.support.worlds import FirestoreWorld


def test_a_run_goes_on_when_the_answer_to_its_claim_is_lost(staged: FaultStage) -> None:
    """The claim's answer is dropped: the same run goes on, and nothing is charged."""
    staged.add_users("ann")
    trace = staged.count()
    at = max(n for n in range(trace.index("llm ann")) if trace[n] == "redis")
    staged.anew("ann")
    finished = staged.stage.end(staged.strike(at, "after", "cut"))
    assert finished.code == 0, finished.err
    assert (record(staged, "ann").crashes, finished.event("tick.finished")["claimed"]) == (0, 1)
    staged.check_delivered()


@on_firestore
def test_a_lost_reply_to_begin_is_known_as_ones_own(staged: FaultStage) -> None:
    """Firestore's answer to begin is dropped: the run knows its own `sending`, and does not wait."""
    staged.add_users("ann")
    finished = staged.stage.end(staged.strike(COMMIT, "after", "cut"))
    assert finished.code == 0, finished.err
    staged.check_delivered()
    assert staged.ledger("ann")["tries"] == 1


@on_firestore
def test_a_lost_reply_to_report_gives_the_try_back_once(staged: FaultStage) -> None:
    """The reply to report is dropped with a device still open: its try is given back once."""
    staged.add_users("ann")
    busy = True
    staged.fcm_rule = scripted(lambda _: fcm_error(429, "QUOTA_EXCEEDED", **{"Retry-After": "600"}) if busy else None)
    staged.stage.end(staged.strike(COMMIT, "after", "cut", nth=1))
    assert (staged.ledger("ann")["state"], staged.ledger("ann")["tries"]) == ("pending", 0)
    busy = False
    staged.run_until_settled()
    staged.check_delivered()


def test_a_lost_answer_of_fcm_is_pushed_again_and_seen_once(staged: FaultStage) -> None:
    """FCM accepts, then the connection is reset: pushed twice, seen once, and the try is recorded."""
    staged.add_users("ann")
    cut = iter([True])
    original = staged.stage.fcm.after

    async def lose(token: str) -> web.Response | None:
        if next(cut, False):
            raise ConnectionResetError
        return await original(token) if original else None

    staged.stage.fcm.after = lose
    assert staged.stage.run().code == 4  # FCM never once answered
    assert (staged.ledger("ann")["state"], staged.ledger("ann")["unanswered"]) == ("pending", 1)
    staged.run_until_settled()
    staged.check_delivered(twice=frozenset({"token-ann-0"}))
    assert staged.ledger("ann")["unanswered"] == 1
    assert len(set(staged.stage.fcm.phones["token-ann-0"].tags)) == 1


@pytest.mark.short
def test_the_device_that_has_it_is_not_pushed_with_the_one_that_failed(staged: FaultStage) -> None:
    """Device 2 answers 503 through one run: each device is pushed exactly once."""
    staged.add_users("ann", devices=2)
    down = True
    staged.fcm_rule = scripted(lambda token: fcm_error(503, "UNAVAILABLE") if down and token == "token-ann-1" else None)
    staged.stage.run()
    assert (staged.ledger("ann")["state"], staged.pushes()) == ("pending", {"token-ann-0": 1})
    assert staged.stage.record("ann", staged.slots["ann"]).state is ClaimState.IDLE
    down = False
    staged.run_until_settled()
    staged.check_delivered()


def test_a_device_that_stays_pending_is_pushed_at_its_due_time(staged: FaultStage) -> None:
    """One device stays pending: the user is not complete, and is delivered at the due time."""
    staged.add_users("ann", devices=2)
    closed = True

    async def rule(token: str) -> web.Response | None:
        refused = fcm_error(429, "QUOTA_EXCEEDED", **{"Retry-After": "300"})
        return refused if closed and token == "token-ann-1" else None

    staged.fcm_rule = rule
    staged.stage.run()
    found = record(staged, "ann")
    assert (found.state, found.failures, staged.ledger("ann")["state"]) == (ClaimState.IDLE, 0, "pending")
    with staged.redis() as client:
        now = int(datetime.now(UTC).timestamp() * 1000)
        assert client.time()
        assert 290_000 < found.until - now <= 300_000
    closed = False
    assert staged.stage.run().event("tick.finished")["idle"] is True
    staged.run_until_settled()
    staged.check_delivered()


@pytest.mark.parametrize("deed", ["update", "replace", "delete"])
def test_an_app_that_touches_the_summary_causes_no_second_push(staged: FaultStage, deed: str) -> None:
    """The app touches the summary between FCM's answer and the report."""
    staged.add_users("ann")
    world, day = staged.stage.world, staged.slots["ann"].recap_date.isoformat()

    async def touch(token: str) -> web.Response | None:
        [(key, stored)] = world.summaries("ann").items()
        if deed == "delete":
            world.delete_summary("ann", key)
        else:
            old = stored if deed == "update" else {"date": day}
            world.put_summary("ann", key, {**old, "date": day, "read": True})
        return None

    if isinstance(world, FirestoreWorld):
        staged.fcm_rule = touch
        staged.run_until_settled()
    else:
        process = staged.strike("fcm token-ann-0", "after", "freeze")
        asyncio.run(touch("token-ann-0"))
        staged.thaw(process)
    assert staged.pushes() == {"token-ann-0": 1}
    assert staged.ledger("ann")["state"] == "sent"


def test_a_summary_that_appears_meanwhile_stands(staged: FaultStage) -> None:
    """A summary for the date appears during the LLM call: ours is thrown away, nothing is pushed."""
    staged.add_users("ann")
    day = staged.slots["ann"].recap_date.isoformat()
    theirs = {"id": "on-demand", "date": day, "created_at": datetime.now(UTC), "headline": "Theirs", "overview": "O"}
    process = staged.strike("llm ann", "before", "freeze")
    staged.stage.world.put_summary("ann", "on-demand", theirs)
    finished = staged.thaw(process)
    assert finished.code == 0, finished.err
    ledger = staged.ledger("ann")
    assert (ledger["state"], ledger["outcome"], staged.pushes()) == ("sent", "legacy", {})
    assert [doc["headline"] for doc in staged.stage.world.summaries("ann").values()] == ["Theirs"]
    assert finished.event("tick.finished")["skipped_by_reason"] == {"legacy": 1}
