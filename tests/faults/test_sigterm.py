"""SIGTERM: what has begun is finished, the rest released, in ten seconds."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimState
from tests.faults.proxies import CLOCK
from tests.faults.stage import PATIENT, FaultStage, record
from tests.support.jobs import on_firestore, on_sqlite
from tests.support.servers import wait_for


@pytest.mark.timeout(600)
def test_sigterm_at_any_effect_ends_in_time_and_charges_nobody(staged: FaultStage) -> None:
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
        assert found.state is not ClaimState.CLAIMED
        assert staged.stage.run().code == 0  # at once: what was released is due now
        assert staged.pushes() == {"token-ann-0": 1}
        assert (staged.ledger("ann")["state"], record(staged, "ann").crashes) == ("sent", 0)


@pytest.mark.parametrize(("message", "claimed"), [(CLOCK, 0), ("firestore", 1)])
@on_firestore
def test_sigterm_while_a_page_hangs_frees_the_shard(staged: FaultStage, message: str, claimed: int) -> None:
    """SIGTERM while the store does not answer: the run ends in time, and its shard is free for the next.

    Where it is asked for its time nothing is claimed yet.
    """
    staged.under_test = PATIENT
    staged.add_users("ann")
    finished = staged.stage.end(staged.strike(message, "before", "hold"))
    staged.director.thawed.set()
    assert finished.code == 0, finished.err
    assert len(finished.named("shard.stopped")) == claimed
    assert staged.stage.run().code == 0
    staged.check_delivered()


@on_sqlite
def test_sigterm_waits_for_fcm_as_long_as_the_platform_allows(staged: FaultStage) -> None:
    staged.stage.settings |= {
        "RECAP_STOP_SECONDS": "20",
        "RECAP_PUSH_DEADLINE_SECONDS": "15",
        "RECAP_SENDING_STALE_SECONDS": "25",
        "RECAP_USER_LEASE_SECONDS": "60",
    }
    staged.add_users("ann")
    asked = asyncio.Event()

    async def slow(token: str) -> web.Response | None:
        asked.set()
        await asyncio.sleep(7)  # the fault itself
        return None

    staged.fcm_rule = slow
    process = staged.stage.start()
    wait_for(asked.is_set, "push")
    process.send_signal(signal.SIGTERM)
    finished = staged.stage.end(process)
    assert finished.code == 0, finished.err
    staged.check_delivered()
