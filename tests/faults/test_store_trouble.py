"""A store that refuses, blips, takes no writes, or will never take a document: nobody is charged, nothing is lost."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator

import grpc
import pytest
from aiohttp import web

from notifications.adapters.stores.layout import read_layout
from notifications.domain.claim import ClaimState
from tests.faults.stage import FaultStage
from tests.support.between import DOWN, Between, Refusal
from tests.support.jobs import on_firestore, on_sqlite
from tests.support.web import fcm_error, scripted
from tests.support.worlds import FirestoreWorld, SqliteWorld

REFUSED: Refusal = (grpc.StatusCode.PERMISSION_DENIED, "no")
NO_INDEX: Refusal = (grpc.StatusCode.FAILED_PRECONDITION, "The query requires an index.")


@pytest.fixture
def between(staged: FaultStage) -> Iterator[Between]:
    assert isinstance(staged.stage.world, FirestoreWorld)
    made = Between(staged.stage.world.host)
    staged.stage.settings |= made.env()
    yield made
    made.stop()


@pytest.mark.parametrize(("refusal", "told"), [(REFUSED, "refuses our credentials"), (NO_INDEX, "lacks an index")])
@on_firestore
def test_a_store_that_refuses_after_the_claim_charges_nobody(
    staged: FaultStage, between: Between, refusal: Refusal, told: str
) -> None:
    """Four runs would have ended everybody's day: four leases that lapsed."""
    staged.add_users("ann", "bob")
    between.rule = lambda method, request: refusal if b"recap_deliveries" in request and method == "RunQuery" else None
    for _ in range(4):
        staged.age()
        finished = staged.stage.run()
        assert (finished.code, told in finished.err) == (3, True), finished.err
    records = [staged.stage.record(uid, staged.slots[uid]) for uid in ("ann", "bob")]
    assert [
        (record.state, record.failures, record.crashes, record.reason)
        for record in records
        if record.state is not ClaimState.ABSENT
    ] == [(ClaimState.IDLE, 0, 0, "configuration")]
    between.rule = lambda method, request: None
    staged.run_until_settled()
    staged.check_delivered()


@on_firestore
def test_a_store_that_takes_no_writes_stops_the_claiming(staged: FaultStage, between: Between) -> None:
    """Reads that work don't hide it: ten failed writes in a row, and no further LLM call is paid."""
    users = [f"user-{n:02}" for n in range(40)]
    staged.add_users(*users)
    staged.stage.settings["RECAP_CONCURRENCY"] = "4"
    between.rule = lambda method, request: DOWN if method == "Commit" and b"collapse_id" in request else None
    finished = staged.stage.run()
    assert finished.code == 4, finished.err
    assert staged.stage.llm.calls.total() == 4
    between.rule = lambda method, request: None
    staged.stage.settings["RECAP_CONCURRENCY"] = "16"
    staged.run_until_settled()
    assert {staged.ledger(uid)["state"] for uid in users} == {"sent"}
    assert set(staged.stage.fcm.accepted.values()) == {1}


def test_a_store_that_is_away_after_the_push_is_waited_for(staged: FaultStage) -> None:
    """The store goes away after FCM accepted, for longer than three quick tries: one push, and the ledger says sent."""
    staged.stage.settings |= {
        "RECAP_STORE_TIMEOUT_SECONDS": "60",
        "RECAP_SENDING_STALE_SECONDS": "120",
        "RECAP_USER_LEASE_SECONDS": "300",
    }
    staged.add_users("ann")
    world = staged.stage.world
    if isinstance(world, FirestoreWorld):
        between = Between(world.host)
        staged.stage.settings |= between.env()
        back: list[float] = []

        async def away(token: str) -> web.Response | None:
            back.append(time.monotonic() + 10)  # the fault itself
            return None

        between.rule = lambda method, request: (
            DOWN if back and time.monotonic() < back[0] and b"recap_deliveries" in request else None
        )
        staged.fcm_rule = away
        finished = staged.stage.run()
        between.stop()
    else:
        assert isinstance(world, SqliteWorld)

        async def lock(token: str) -> web.Response | None:
            held = sqlite3.connect(world.folder / "recap.sqlite3", isolation_level=None, check_same_thread=False)
            held.execute("BEGIN EXCLUSIVE")
            threading.Timer(10, held.close).start()  # the fault itself
            return None

        staged.fcm_rule = lock
        finished = staged.stage.run()
    assert finished.code == 0, finished.err
    staged.check_delivered()


@on_firestore
def test_a_document_that_the_store_never_takes_is_the_items_fault(staged: FaultStage, between: Between) -> None:
    """It is charged to its item and ends dead with its reason: no LLM call each minute all evening."""
    staged.add_users("ann", "bob")
    too_large: Refusal = (grpc.StatusCode.INVALID_ARGUMENT, "Document exceeds the maximum allowed size")
    between.rule = lambda method, request: (
        too_large if method == "Commit" and b"users/ann/daily_summaries" in request else None
    )
    staged.run_until_settled()
    ann = staged.ledger("ann")
    assert (ann["state"], ann["failures"], ann["reason"]) == ("dead", 3, "unstorable")
    assert (staged.ledger("bob")["state"], staged.stage.llm.calls["ann"]) == ("sent", 3)


@on_firestore
def test_the_deletion_of_dead_tokens_stops_at_the_first_trouble(staged: FaultStage, between: Between) -> None:
    """The store goes away after the work: one call, not one for each token and its time-out."""
    staged.add_users(*(f"user-{n}" for n in range(8)))
    deletions: list[bytes] = []

    def rule(method: str, request: bytes) -> Refusal | None:
        if method == "Commit" and b"fcm_tokens" in request:
            deletions.append(request)
            return DOWN
        return None

    between.rule, staged.fcm_rule = rule, scripted(lambda _: fcm_error(404, "UNREGISTERED"))
    finished = staged.stage.run()
    event = finished.event("tick.finished")
    assert (finished.code, event["no_devices"], event["tokens_deleted"], len(deletions)) == (1, 8, 0, 1), finished.err


@on_sqlite
def test_doctor_mends_no_account_back_to_life(staged: FaultStage) -> None:
    """The account is erased between the listing and the mend."""
    import asyncio
    from datetime import timedelta

    from notifications.adapters.local.sqlite import SqliteStore
    from notifications.domain.delivery import LedgerRules
    from notifications.ports import Mended

    world = staged.stage.world
    assert isinstance(world, SqliteWorld)
    world.put_user("gone", {"time_zone": "mars"}, {}, {})

    async def mend() -> object:
        store = SqliteStore(
            world.folder / "recap.sqlite3", LedgerRules(timedelta(120), 3, timedelta(30)), read_layout(None)
        )
        [listed] = await store.all_users(None, 9)
        world.delete_user(listed.uid)
        mended = await store.mend(listed.uid)
        await store.aclose()
        return mended

    assert asyncio.run(mend()) == Mended({})
    assert world.user("gone") is None
