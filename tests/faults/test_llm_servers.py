"""Servers that speak the chat completions API in their own way serve everybody, a long day included."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimState
from notifications.domain.schedule import latest_slot
from tests.support.jobs import Stage, latest_hour, on_sqlite
from tests.support.llm_servers import BLOCKED, VENDORS, Vendor, VendorLLM
from tests.support.servers import free_port
from tests.support.worlds import Doc, talk

TALKS = 28  # of a thousand bytes each


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[VendorLLM]:
    made = VendorLLM(request.param)
    yield made
    made.stop()


def long_day(stage: Stage, uid: str) -> dict[str, Doc]:
    slot = latest_slot("UTC", latest_hour("UTC", stage.now), stage.now)
    words = (f"who={uid} talked about the garden and the fence, and about all that belongs to it. " * 20)[:950]
    at = slot.at - timedelta(hours=9)
    structured = {"title": "A talk", "overview": words}
    return {f"t{n:02}": {"created_at": at + timedelta(minutes=5 * n), "structured": structured} for n in range(TALKS)}


@pytest.mark.parametrize("server", VENDORS, indirect=True, ids=lambda one: one.name)
@on_sqlite
def test_a_server_of_its_own_ways_serves_two_users_and_a_long_day(stage: Stage, server: VendorLLM) -> None:
    vendor: Vendor = server.vendor
    slots = {uid: stage.add_user(uid) for uid in ("ann", "bob")}
    slots["zoe"] = stage.add_user("zoe", talks=long_day(stage, "zoe"))
    if vendor.blocked:
        slots[BLOCKED] = stage.add_user(
            BLOCKED, talks={"t1": talk(BLOCKED, slots["ann"].at - timedelta(hours=1), started_at=None)}
        )
    stage.settings |= {"RECAP_MAX_PROMPT_TOKENS": "5000", "RECAP_CONCURRENCY": "1", "OPENAI_MODEL": "gpt-6-luna"}
    stage.settings |= vendor.settings
    finished = stage.run(OPENAI_BASE_URL=f"{server.url}/v1")
    assert finished.code == 0, finished.err
    tick = finished.event("tick.finished")
    assert (tick["sent"], tick["extracts"], tick["defects"]) == (len(slots), bool(vendor.blocked), 0), finished.err
    for uid in ("ann", "bob", "zoe"):
        [summary] = stage.world.summaries(uid).values()
        whole = TALKS if uid == "zoe" else 2
        assert summary["metadata"]["source"] == "llm"
        assert "draft" not in summary["headline"]
        assert summary["coverage"] == {"whole": whole, "part": 0, "extract": 0}
        assert summary["checks"]["verified"] is True
    assert (server.calls["ann"], server.calls["bob"]) == (1 + vendor.refusals, 1)
    assert (server.looks["ann"], server.looks["bob"]) == (1, 1)
    asked = server.calls["zoe"] + server.looks["zoe"]
    too_long = asked - server.answered["zoe"] if vendor.too_long else server.cut
    assert too_long == vendor.halvings
    # in the order of the request, which is no matter of the vendor's
    assert sorted(event["fields"] for event in finished.named("llm.takes_no")) == sorted(vendor.takes_no)
    forms = [event["form"] for event in finished.named("llm.answers_otherwise")]
    assert forms[-1:] == ([vendor.form] if vendor.form else [])
    assert [event["reason"] for event in finished.named("recap.extract")] == (
        [vendor.why_blocked] if vendor.blocked else []
    )
    assert len(finished.named("llm.cuts_prompts")) == (0 if vendor.too_long else 1)
    assert "garden" not in finished.err


@on_sqlite
def test_nobody_at_the_address_and_an_unknown_model_are_told_in_one_sentence(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.settings |= {"RECAP_PROVIDER_RETRY_SECONDS": "0.001"}
    port = free_port()
    finished = stage.run("--user", "ann", OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1")
    told = f"The LLM at 127.0.0.1:{port} refuses the connection; check OPENAI_BASE_URL, and whether the server runs."
    assert (finished.code, finished.err.splitlines()[-1]) == (4, told)

    async def no_model(who: str) -> web.Response:
        error = {"message": "model 'llama9' not found", "type": "not_found_error", "param": None, "code": None}
        return web.json_response({"error": error}, status=404)

    stage.llm.script = no_model
    finished = stage.run("--user", "ann", OPENAI_MODEL="llama9")
    told = f"The LLM at 127.0.0.1:{stage.llm.port} answers 404 for model 'llama9': \"model 'llama9' not found\"; check "
    assert (finished.code, finished.err.splitlines()[-1][: len(told)]) == (3, told)
    assert (stage.record("ann", slot).state, stage.record("ann", slot).failures) == (ClaimState.IDLE, 0)
