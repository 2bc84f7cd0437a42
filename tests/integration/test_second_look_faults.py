"""A second look that fails, by real runs: no recap that is paid is lost, and none is paid twice."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimState
from notifications.domain.schedule import Slot
from tests.support.jobs import Finished, Stage, on_sqlite
from tests.support.web import ASKED, Script, llm_error
from tests.support.worlds import Doc

pytestmark = on_sqlite

FAST = {"RECAP_PROVIDER_RETRY_SECONDS": "0.001", "RECAP_SHARD_RETRY_MIN_SECONDS": "0.001"}
PRICED = {"RECAP_PRICE_IN_USD_PER_MTOK": "1", "RECAP_PRICE_OUT_USD_PER_MTOK": "4", "RECAP_CONCURRENCY": "1"}
COUNTS = "2 conversations, 1 thing to do"


@pytest.fixture(autouse=True)
def fast(stage: Stage) -> None:
    stage.preloaded = True
    stage.settings |= FAST


def failing(status: int, code: str = "server_error", **headers: str) -> Script:
    async def script(who: str) -> web.Response:
        return llm_error(status, code, **{name.replace("_", "-"): value for name, value in headers.items()})

    return script


def stored(stage: Stage, uid: str = "ann") -> Doc:
    [doc] = stage.world.summaries(uid).values()
    return doc


def ledger(stage: Stage, uid: str = "ann") -> Doc:
    [doc] = stage.world.ledgers(uid).values()
    return doc


def calls(stage: Stage, uid: str = "ann") -> tuple[int, int]:
    """Writings and second looks."""
    return stage.llm.calls[uid], stage.llm.looks[uid]


def check_sent_unverified(stage: Stage, uid: str = "ann") -> None:
    """The LLM's own text, no sentence less; and a push that says nothing of it but its headline and the counts."""
    doc, entry = stored(stage, uid), ledger(stage, uid)
    assert (doc["metadata"]["source"], doc["headline"]) == ("llm", f"A day of {uid}, first take")
    assert doc["checks"] == {"kept": 4, "verified": False}
    assert (entry["state"], entry["source"], entry["verified"]) == ("sent", "llm", False)
    assert stage.fcm.phones[f"token-{uid}-0"].bodies == [COUNTS]


def check_verified(stage: Stage, uid: str = "ann") -> None:
    doc, entry = stored(stage, uid), ledger(stage, uid)
    assert doc["checks"] == {"kept": 4, "verified": True}
    assert (entry["state"], entry["source"], entry["verified"]) == ("sent", "llm", True)
    assert stage.fcm.phones[f"token-{uid}-0"].bodies == [f"You talked about {uid}, first take and more."]


def check_waits(stage: Stage, slot: Slot) -> None:
    """A draft is stored; the user is charged nothing and told nothing."""
    record = stage.record("ann", slot)
    assert (record.state, record.reason, record.failures) == (ClaimState.IDLE, "provider_second_look", 0)
    assert (stage.world.summaries("ann"), stage.world.ledgers("ann"), dict(stage.fcm.asked)) == ({}, {}, {})


def until_due(stage: Stage, slot: Slot) -> None:
    """Wait until the claim may be taken again."""
    time.sleep(max(0.0, stage.record("ann", slot).until / 1000 - time.time()) + 0.01)


@pytest.mark.parametrize(
    "broken",
    [failing(500), failing(503), failing(429, "rate_limit_exceeded", Retry_After="1")],
    ids=["500", "503", "429"],
)
def test_a_draft_waits_for_a_second_look_that_is_down_and_the_next_run_pays_that_alone(
    stage: Stage, broken: Script
) -> None:
    slot = stage.add_user("ann")
    stage.llm.look_script = broken
    finished = stage.run()
    assert (finished.code, calls(stage)) == (4, (1, 2)), finished.err  # nothing of the LLM's was of use
    check_waits(stage, slot)
    stage.llm.look_script = None
    until_due(stage, slot)
    assert stage.run().code == 0
    assert calls(stage) == (1, 3)
    check_verified(stage)
    assert stored(stage)["metadata"]["calls"] == 4


def test_a_long_pause_that_the_second_look_asks_for_is_the_claims_own_wait(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.llm.look_script = failing(429, "rate_limit_exceeded", Retry_After="40")
    stage.run()
    assert calls(stage) == (1, 1)
    check_waits(stage, slot)
    assert 35 < stage.record("ann", slot).until / 1000 - time.time() < 61
    stage.run()
    assert calls(stage) == (1, 1)


def test_a_second_look_that_is_down_until_no_pass_is_left_is_gone_without(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.llm.look_script = failing(500)
    stage.run()
    late = (slot.at + timedelta(seconds=7_200 - 200)).isoformat()
    finished = stage.run("--now", late)
    assert (finished.code, calls(stage)) == (0, (1, 4)), finished.err
    assert "answers 500" in finished.event("second_look.failed")["reason"]
    check_sent_unverified(stage)
    audited = stage.run("--now", late, "audit", "--date", str(slot.recap_date), "--json")
    [account] = [json.loads(line) for line in audited.out.splitlines()[-1:]]
    assert (account["unverified"], account["tokens"]) == (1, stage.llm.tokens)


def test_the_closing_pass_sends_a_stored_draft_and_asks_nobody(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.llm.look_script = failing(500)
    stage.run()
    finished = stage.run("--now", (slot.at + timedelta(seconds=7_200 + 300)).isoformat())
    assert (finished.code, calls(stage)) == (0, (1, 2)), finished.err
    check_sent_unverified(stage)


def test_a_draft_waits_for_a_second_look_that_does_not_end_its_answer(stage: Stage) -> None:
    slot = stage.add_user("ann")

    async def hangs(who: str) -> None:
        await asyncio.sleep(60)

    stage.llm.look_script = hangs
    finished = stage.run(RECAP_USER_DEADLINE_SECONDS="6")  # of which the writing has 70 %
    assert (finished.code, stage.llm.calls["ann"]) == (4, 1), finished.err
    check_waits(stage, slot)
    stage.llm.look_script = None
    until_due(stage, slot)
    assert stage.run().code == 0
    assert stage.llm.calls["ann"] == 1
    check_verified(stage)


def test_where_no_money_is_left_for_the_second_look_alone_the_draft_goes_without(stage: Stage) -> None:
    stage.add_user("ann")
    stage.llm.look_script = failing(500)
    stage.run()
    finished = stage.run(RECAP_DAILY_BUDGET_USD="0.001", **PRICED)
    assert (finished.code, calls(stage)) == (0, (1, 2)), finished.err
    assert "RECAP_DAILY_BUDGET_USD" in finished.event("second_look.failed")["reason"]
    check_sent_unverified(stage)


@pytest.mark.parametrize(("status", "code"), [(404, "model_not_found"), (401, "invalid_api_key")])
def test_a_verify_model_that_is_refused_ends_second_looks_once_and_loudly(stage: Stage, status: int, code: str) -> None:
    uids = ("ann", "bob", "cat")
    for uid in uids:
        stage.add_user(uid)
    stage.llm.look_script = failing(status, code)
    finished = stage.run(OPENAI_VERIFY_MODEL="a-strict-one", RECAP_CONCURRENCY="1")
    assert finished.code == 3
    ended = finished.event("second_look.ended")
    assert ("OPENAI_VERIFY_MODEL" in ended["reason"] or status == 401, "test-key" in finished.err) == (True, False)
    assert (stage.llm.calls, stage.llm.looks.total()) == (dict.fromkeys(uids, 1), 1)
    for uid in uids:
        check_sent_unverified(stage, uid)
    told = finished.event("tick.finished")
    assert (told["sent"], told["stopped_early"]) == (3, False)


def test_without_second_looks_none_is_asked_for(stage: Stage) -> None:
    stage.add_user("ann")
    assert stage.run(RECAP_VERIFY="off").code == 0
    assert calls(stage) == (1, 0)
    check_sent_unverified(stage)


def asked(stage: Stage) -> dict[str, tuple[str, str]]:
    """The model and the instructions of each kind of question."""
    return {
        body["response_format"]["json_schema"]["name"]: (body["model"], body["messages"][0]["content"])
        for body in stage.llm.bodies
    }


def test_a_verify_model_is_asked_by_its_own_name_and_the_style_is_for_the_writing_alone(stage: Stage) -> None:
    stage.add_user("ann")
    style = "Write like an old captain, dry and short."
    finished = stage.run(OPENAI_MODEL="a-writer", OPENAI_VERIFY_MODEL="a-judge", RECAP_STYLE=style)
    assert finished.code == 0, finished.err
    found = asked(stage)
    assert {name: model for name, (model, _) in found.items()} == {"daily_recap": "a-writer", "second_look": "a-judge"}
    assert {name: style in told for name, (_, told) in found.items()} == {"daily_recap": True, "second_look": False}
    check_verified(stage)
    assert finished.event("tick.finished")["llm_calls"] == 2


def test_sigterm_during_the_second_look_gives_the_claim_back(stage: Stage) -> None:
    slot = stage.add_user("ann")
    running: list[Any] = []

    async def stops(who: str) -> None:
        assert ASKED.get()["messages"]
        running[0].send_signal(signal.SIGTERM)
        await asyncio.sleep(60)

    stage.llm.look_script = stops
    running.append(stage.start())
    finished: Finished = stage.end(running[0])
    record = stage.record("ann", slot)
    assert (record.state, record.reason, record.failures, record.crashes) == (ClaimState.IDLE, "stopped", 0, 0)
    assert (stage.world.summaries("ann"), dict(stage.fcm.asked)) == ({}, {})
    assert finished.event("tick.finished")["stopped"] == 1
    stage.llm.look_script = None
    assert stage.run().code == 0
    assert (stage.record("ann", slot).state, stage.fcm.accepted["token-ann-0"]) == (ClaimState.SENT, 1)
