"""Whole days: a thousand conversations, all accounted for, and no part of them paid twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from notifications.domain.schedule import latest_slot
from tests.faults.stage import FaultStage
from tests.support.jobs import latest_hour, on_sqlite
from tests.support.worlds import Doc, FirestoreWorld

TALKS = 1_000
MOST_CALLS = 14  # 12 parts, their join, and its second look


def long_day(staged: FaultStage, uid: str, talks: int = TALKS) -> dict[str, Doc]:
    """Conversations of a thousand characters each, over eight hours."""
    slot = latest_slot("UTC", latest_hour("UTC", staged.stage.now), staged.stage.now)
    words = f"who={uid} talked about the garden and the fence, and about all that belongs to it. "
    told = (words * 20)[:1_000]
    at = slot.at - timedelta(hours=9)
    return {
        f"t{n:04}": {
            "created_at": at + timedelta(seconds=29 * n),
            "structured": {"title": f"No. {n}", "overview": told},
        }
        for n in range(talks)
    }


def check_whole(staged: FaultStage, uid: str, talks: int = TALKS) -> Any:
    [summary] = staged.stage.world.summaries(uid).values()
    assert summary["metadata"]["source"] == "llm"
    assert summary["coverage"] == {"whole": talks, "part": 0, "extract": 0}
    assert staged.ledger(uid)["state"] == "sent"
    assert staged.pushes()[f"token-{uid}-0"] == 1
    return summary


def test_a_day_of_a_million_characters_is_all_accounted_for(staged: FaultStage) -> None:
    talks = long_day(staged, "ann")
    staged.add_users("ann", talks={})
    for key, one in talks.items():
        if not isinstance(staged.stage.world, FirestoreWorld):
            staged.stage.world.put_talk("ann", key, one)
    if isinstance(staged.stage.world, FirestoreWorld):
        writer = staged.stage.world.db.bulk_writer()
        place = staged.stage.world.db.collection("users").document("ann").collection("conversations")
        for key, one in talks.items():
            writer.create(place.document(key), one)
        writer.close()
    finished = staged.stage.run(RECAP_USER_DEADLINE_SECONDS="60", RECAP_USER_LEASE_SECONDS="80")
    assert finished.code == 0, finished.err
    summary = check_whole(staged, "ann")
    llm = staged.stage.llm
    calls = llm.calls.total() + llm.looks.total()
    assert (calls, summary["metadata"]["calls"], calls <= MOST_CALLS) == (10, 10, True)
    assert summary["checks"]["verified"] is True


@on_sqlite
@pytest.mark.timeout(300)
def test_killed_at_each_call_no_part_is_paid_twice(staged: FaultStage, record_property: Any) -> None:
    staged.stage.settings |= {"RECAP_MAX_PROMPT_TOKENS": "6000", "RECAP_USER_DEADLINE_SECONDS": "60"}
    staged.stage.settings |= {"RECAP_USER_LEASE_SECONDS": "80"}

    async def look(who: str) -> None:
        await staged.director.answer(await staged.director.message(f"llm {who}"))

    staged.stage.llm.look_script = look
    calls, struck = 0, -1
    while struck < calls:
        uid = f"ann-{struck}"
        with staged.redis() as client:
            client.flushall()
        staged.slots.clear()
        staged.add_users(uid, talks=long_day(staged, uid, 100))
        staged.stage.llm.paid.clear()
        if struck >= 0:  # the first run is struck by nobody: it counts
            process = staged.strike("llm", "before", "kill", nth=struck)
            process.wait()
            staged.stage.end(process)
        staged.run_until_settled()
        check_whole(staged, uid, 100)
        calls = calls or len(staged.stage.llm.paid)
        assert len(set(staged.stage.llm.paid)) == calls == 10, struck
        # the join is kept by nobody who was killed while it was looked at a second time
        assert len(staged.stage.llm.paid) == calls + (struck == calls - 1), struck
        struck += 1
    record_property("paid_once_survived", struck)
