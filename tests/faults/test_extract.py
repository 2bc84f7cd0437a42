"""Never nothing: where the LLM fails, everybody gets the day's own words, once."""

from __future__ import annotations

from typing import Any

import pytest

from notifications.domain.claim import ClaimState
from tests.faults.stage import FaultStage, closing, record
from tests.support.jobs import on_sqlite
from tests.support.web import completion, llm_error, scripted

ANSWERS = {
    "truncated": lambda: completion('{"headline": "A', finish="length"),
    "invalid": lambda: completion("no recap"),
    "refused": lambda: completion(None, refusal="no"),
    "filtered": lambda: completion("", finish="content_filter"),
    "flagged": lambda: llm_error(400, "invalid_prompt"),
}


def check_extracts(staged: FaultStage, *uids: str) -> None:
    """One recap each, pushed once to each device, and marked as what it is."""
    for uid in uids:
        [summary] = staged.stage.world.summaries(uid).values()
        assert summary["metadata"]["source"] == "extract"
        assert summary["overview"] == f"who={uid} talked about the garden. And 1 more conversation."
        assert (staged.ledger(uid)["state"], record(staged, uid).state) == ("sent", ClaimState.SENT)
        assert staged.pushes()[f"token-{uid}-0"] == 1


@pytest.mark.short
@pytest.mark.parametrize("kind", ANSWERS)
@on_sqlite
def test_a_day_that_the_llm_can_not_do_is_sent_from_its_own_words_at_once(staged: FaultStage, kind: str) -> None:
    staged.add_users("ann", "bob")
    staged.llm_rule = scripted(lambda who: ANSWERS[kind]() if who == "ann" else None)
    finished = staged.stage.run()
    event = finished.event("tick.finished")
    assert (finished.code, event["sent"], event["extracts"]) == (0, 2, 1), finished.err
    assert staged.stage.llm.calls["ann"] == (2 if kind in ("truncated", "invalid") else 1)
    check_extracts(staged, "ann")
    assert staged.stage.world.summaries("bob").popitem()[1]["metadata"]["source"] == "llm"


@on_sqlite
def test_when_every_answer_is_useless_the_asking_stops_and_nobody_is_charged(staged: FaultStage) -> None:
    users = [f"user-{n:02}" for n in range(14)]
    staged.add_users(*users)
    staged.llm_rule = scripted(lambda _: completion("no recap"))
    finished = staged.stage.run()
    event = finished.event("tick.finished")
    assert (finished.code, event["sent"], event["extracts"], event["llm_calls"]) == (4, 9, 9, 20), finished.err
    assert {(one.failures, one.crashes) for one in (record(staged, uid) for uid in users)} == {(0, 0)}
    staged.llm_rule = None
    staged.run_until_settled()
    assert staged.pushes() == {f"token-{uid}-0": 1 for uid in users}
    check_extracts(staged, *users[:9])


def down_all_evening(staged: FaultStage) -> dict[str, str]:
    """The LLM refuses connections through the catch-up; the settings of its end."""
    staged.llm_rule = scripted(lambda _: llm_error(503, "down"))
    assert staged.stage.run().event("tick.finished")["sent"] == 0
    staged.age()
    return closing(staged)


def test_an_llm_that_is_down_all_evening_leaves_nobody_without_a_recap(staged: FaultStage) -> None:
    staged.add_users("ann", "bob")
    settings = down_all_evening(staged)
    calls = staged.stage.llm.calls.total()
    finished = staged.stage.run(**settings)
    event = finished.event("tick.finished")
    assert (finished.code, event["sent"], event["extracts"], event["missed"]) == (0, 2, 2, 0), finished.err
    check_extracts(staged, "ann", "bob")
    assert staged.stage.llm.calls.total() == calls
    assert not staged.open_shards()


@pytest.mark.timeout(300)
def test_a_closing_pass_killed_at_any_message_sends_each_extract_once(staged: FaultStage, record_property: Any) -> None:
    staged.add_users("ann", "bob")
    settings = down_all_evening(staged)
    staged.under_test |= settings
    trace = staged.count()
    check_extracts(staged, "ann", "bob")
    for at in range(len(trace)):
        staged.anew("ann", "bob")
        staged.under_test |= closing(staged)
        process = staged.strike(at)
        process.kill()
        staged.stage.end(process)
        staged.stage.settings |= closing(staged)
        staged.run_until_settled()
        pushed = staged.pushes()
        twice = {token for token, count in pushed.items() if count == 2}
        assert set(pushed) == {"token-ann-0", "token-bob-0"}, trace[at]
        assert all(count <= 2 for count in pushed.values()), trace[at]
        assert len(twice) <= 1, trace[at]
        for uid in ("ann", "bob"):
            assert len(staged.stage.fcm.phones[f"token-{uid}-0"].visible) == 1
            assert staged.ledger(uid)["state"] == "sent"
    record_property("closing_kills_survived", len(trace))
