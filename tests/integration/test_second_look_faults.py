"""A second look that fails, by real runs: no recap that is paid is lost, and none is paid twice."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimState
from notifications.domain.schedule import Slot
from tests.support.jobs import Stage, on_sqlite
from tests.support.web import Script, llm_error
from tests.support.worlds import Doc

pytestmark = on_sqlite

COUNTS = "2 conversations, 1 thing to do"


@pytest.fixture(autouse=True)
def fast(stage: Stage) -> None:
    stage.settings |= {"RECAP_PROVIDER_RETRY_SECONDS": "0.001", "RECAP_SHARD_RETRY_MIN_SECONDS": "0.001"}


def failing(status: int, code: str = "server_error", **headers: str) -> Script:
    async def script(who: str) -> web.Response:
        return llm_error(status, code, **{name.replace("_", "-"): value for name, value in headers.items()})

    return script


async def hangs(who: str) -> None:
    await asyncio.sleep(60)


def calls(stage: Stage) -> tuple[int, int]:
    """Writings and second looks of ann's day."""
    return stage.llm.calls["ann"], stage.llm.looks["ann"]


def check_sent(stage: Stage, uid: str = "ann", *, verified: bool = False) -> Doc:
    """The LLM's own text; unverified, the push says nothing of it but the counts."""
    [doc], [entry] = stage.world.summaries(uid).values(), stage.world.ledgers(uid).values()
    assert (doc["metadata"]["source"], doc["headline"]) == ("llm", f"A day of {uid}, first take")
    assert doc["checks"] == {"kept": 4, "verified": verified}
    assert (entry["state"], entry["source"], entry["verified"]) == ("sent", "llm", verified)
    body = f"You talked about {uid}, first take and more." if verified else COUNTS
    assert stage.fcm.phones[f"token-{uid}-0"].bodies == [body]
    return doc


def check_waits(stage: Stage, slot: Slot) -> float:
    """A draft is stored; the user is charged nothing and told nothing. Returns the seconds until it is due again."""
    record = stage.record("ann", slot)
    assert (record.state, record.reason, record.failures) == (ClaimState.IDLE, "provider_second_look", 0)
    assert (stage.world.summaries("ann"), stage.world.ledgers("ann"), dict(stage.fcm.asked)) == ({}, {}, {})
    return record.until / 1000 - time.time()


@pytest.mark.parametrize(
    ("broken", "looks"),
    [(failing(503), 2), (failing(429, "rate_limit_exceeded", Retry_After="1"), 2), (hangs, 1)],
    ids=["503", "429", "hangs"],
)
def test_a_draft_waits_for_a_second_look_that_is_down_and_the_next_run_pays_that_alone(
    stage: Stage, broken: Script, looks: int
) -> None:
    slot = stage.add_user("ann")
    stage.llm.look_script = broken
    deadline = {"RECAP_USER_DEADLINE_SECONDS": "6"} if broken is hangs else {}  # of which the writing has 70 %
    finished = stage.run(**deadline)
    assert (finished.code, stage.llm.calls["ann"]) == (4, 1), finished.err  # nothing of the LLM's was of use
    if broken is not hangs:
        assert stage.llm.looks["ann"] == looks
    time.sleep(max(0.0, check_waits(stage, slot)) + 0.01)
    looked = stage.llm.looks["ann"]
    stage.llm.look_script = None
    assert stage.run().code == 0
    assert calls(stage) == (1, looked + 1)
    assert check_sent(stage, verified=True)["metadata"]["calls"] >= looks + 2


def test_a_long_pause_that_the_second_look_asks_for_is_the_claims_own_wait(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.llm.look_script = failing(429, "rate_limit_exceeded", Retry_After="40")
    stage.run()
    assert 35 < check_waits(stage, slot) < 61
    stage.run()
    assert calls(stage) == (1, 1)


@pytest.mark.parametrize(("left", "looks"), [(200, 4), (-300, 2)], ids=["the last pass", "the closing pass"])
def test_a_second_look_that_is_down_until_no_pass_is_left_is_gone_without(stage: Stage, left: int, looks: int) -> None:
    slot = stage.add_user("ann")
    stage.llm.look_script = failing(500)
    stage.run()
    late = (slot.at + timedelta(seconds=7_200 - left)).isoformat()
    finished = stage.run("--now", late)
    assert (finished.code, calls(stage)) == (0, (1, looks)), finished.err
    check_sent(stage)
    account = stage.run("--now", late, "audit", "--date", str(slot.recap_date), "--json").accounts
    assert (account["unverified"], account["tokens"]) == (1, stage.llm.tokens)


def test_a_draft_that_another_writer_overtakes_while_it_waits_is_in_the_accounts(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.llm.look_script = failing(503)
    stage.run()
    check_waits(stage, slot)
    day = str(slot.recap_date)
    audit = ("audit", "--date", day, "--json")
    assert stage.run(*audit).accounts["tokens"] == stage.llm.tokens > 0
    stage.world.put_summary("ann", "theirs", {"date": day, "headline": "H", "overview": "O"})
    stage.run("--now", (slot.at + timedelta(minutes=20)).isoformat())
    [ledger] = stage.world.ledgers("ann").values()
    assert (ledger["state"], ledger["outcome"], ledger["tokens"]) == ("sent", "legacy", stage.llm.tokens)
    assert ledger["llm_seconds"] > 0
    account = stage.run(*audit).accounts
    assert (account["tokens"], account["lost_tokens"]) == (stage.llm.tokens, stage.llm.tokens)


def test_a_verify_model_that_is_refused_ends_second_looks_once_and_loudly(stage: Stage) -> None:
    """It is asked by its own name; the style is for the writing alone."""
    uids = ("ann", "bob", "cat")
    for uid in uids:
        stage.add_user(uid)
    stage.llm.look_script = failing(404, "model_not_found")
    style = "Write like an old captain, dry and short."
    finished = stage.run(
        OPENAI_MODEL="a-writer", OPENAI_VERIFY_MODEL="a-judge", RECAP_STYLE=style, RECAP_CONCURRENCY="1"
    )
    assert finished.code == 3
    assert "OPENAI_VERIFY_MODEL" in finished.event("second_look.ended")["reason"]
    assert (stage.llm.calls, stage.llm.looks.total()) == (dict.fromkeys(uids, 1), 1)
    asked = {
        body["response_format"]["json_schema"]["name"]: (body["model"], style in body["messages"][0]["content"])
        for body in stage.llm.bodies
    }
    assert asked == {"daily_recap": ("a-writer", True), "second_look": ("a-judge", False)}
    for uid in uids:
        check_sent(stage, uid)
    event = finished.event("tick.finished")
    assert (event["sent"], event["stopped_early"], event["llm_calls"]) == (3, False, 4)


def test_without_second_looks_none_is_asked_for(stage: Stage) -> None:
    stage.add_user("ann")
    assert stage.run(RECAP_VERIFY="off").code == 0
    assert calls(stage) == (1, 0)
    check_sent(stage)
