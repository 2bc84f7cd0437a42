"""The official client over HTTP against a loopback server: one draft, or one readable fault."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from notifications.adapters.summarizers.openai import OpenAISummarizer, connect
from notifications.adapters.summarizers.openai_wire import budgets
from notifications.domain.errors import ItemFault, ItemReason, ProviderFault
from notifications.domain.model import Conversation
from notifications.domain.pace import Budget
from notifications.domain.recap.material import Material
from notifications.limits import Limits
from tests.support.servers import free_port
from tests.support.web import FakeLLM, completion, llm_error, recap_answer

AT = datetime(2026, 5, 1, 9, tzinfo=UTC)
FOUND = Material(date(2026, 5, 1), (Conversation("c1", AT, overview="who=ann met SECRET friends."),), None)
DEADLINE = timedelta(seconds=20)


@pytest.fixture
async def summarizer(llm: FakeLLM) -> AsyncIterator[OpenAISummarizer]:
    made = connect("sk-very-secret", f"{llm.url}/v1", "test-model", Limits(concurrency=4))
    yield made
    await made.aclose()


def answering(llm: FakeLLM, *answers: web.Response | None) -> None:
    """These in turn; None means a good recap."""
    queue = list(answers)

    async def script(who: str) -> web.Response | None:
        return queue.pop(0)

    llm.script = script


async def test_a_draft_with_its_usage(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    draft = await summarizer.summarize(FOUND, DEADLINE)
    assert draft.headline == "A day of ann (take 1)"
    assert draft.highlights[0].conversation_ids == ("c1",)
    used = {"prompt_tokens": 100, "completion_tokens": 20}
    assert draft.metadata == {"model": "fake-model", "source": "llm", "offline": False} | used
    assert (draft.coverage, draft.checks) == ({"whole": 1, "part": 0, "extract": 0}, {"kept": 4, "uncited": 0})
    assert (summarizer.calls, summarizer.tokens, llm.calls) == (1, 120, {"ann": 1})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: completion(None, refusal="I can't say SECRET"), ItemReason.REFUSAL),
        (lambda: completion("", finish="content_filter"), ItemReason.CONTENT_POLICY),
        (lambda: llm_error(400, "context_length_exceeded"), ItemReason.CONTEXT_LENGTH),
        (lambda: llm_error(400, "content_policy_violation"), ItemReason.CONTENT_POLICY),
    ],
)
async def test_an_items_own_fault_is_never_tried_twice(
    llm: FakeLLM, summarizer: OpenAISummarizer, answer: Any, reason: ItemReason
) -> None:
    answering(llm, answer())
    with pytest.raises(ItemFault) as caught:
        await summarizer.summarize(FOUND, DEADLINE)
    assert caught.value.reason is reason
    assert "SECRET" not in str(caught.value)
    assert llm.calls["ann"] == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: completion('{"headline": "SECRET', finish="length"), ItemReason.TRUNCATED),
        (lambda: completion("no json SECRET"), ItemReason.INVALID_ANSWER),
        (lambda: completion(None), ItemReason.INVALID_ANSWER),
        (lambda: completion(json.dumps(recap_answer("x", overview=[]))), ItemReason.INVALID_ANSWER),
    ],
)
async def test_a_useless_answer_is_asked_for_once_more(
    llm: FakeLLM, summarizer: OpenAISummarizer, answer: Any, reason: ItemReason
) -> None:
    answering(llm, answer(), None)
    assert (await summarizer.summarize(FOUND, DEADLINE)).headline == "A day of ann (take 2)"
    answering(llm, answer(), answer())
    with pytest.raises(ItemFault) as caught:
        await summarizer.summarize(FOUND, DEADLINE)
    assert (caught.value.reason, "SECRET" in str(caught.value), llm.calls["ann"]) == (reason, False, 4)


async def test_a_truncated_answer_gets_twice_the_room(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    """Hidden reasoning counts against it."""
    answering(llm, completion("{", finish="length"), None)
    await summarizer.summarize(FOUND, DEADLINE)
    answering(llm, completion("no json"), None)
    await summarizer.summarize(FOUND, DEADLINE)
    assert llm.rooms == [2_000, 4_000, 2_000, 2_000]


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_a_passing_failure_is_tried_once_more(llm: FakeLLM, summarizer: OpenAISummarizer, status: int) -> None:
    answering(llm, llm_error(status, "busy", **{"Retry-After": "0"}), None)
    assert (await summarizer.summarize(FOUND, DEADLINE)).headline == "A day of ann (take 2)"
    assert (summarizer.calls, llm.calls["ann"]) == (2, 2)


async def test_two_failures_are_the_providers_fault(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    answering(llm, llm_error(503, "down", **{"Retry-After": "0"}), llm_error(503, "down"))
    with pytest.raises(ProviderFault, match=r"The LLM at 127.0.0.1 answers 503 \(down\)") as caught:
        await summarizer.summarize(FOUND, DEADLINE)
    assert (caught.value.opens, caught.value.config, llm.calls["ann"]) == (False, False, 2)


@pytest.mark.parametrize("header", ["10800", "Fri, 01 May 2026 12:00:00 GMT"])
async def test_a_wait_beyond_the_deadline_is_left_to_the_claim(
    llm: FakeLLM, summarizer: OpenAISummarizer, header: str
) -> None:
    date_now = {"Date": "Fri, 01 May 2026 09:00:00 GMT"}
    answering(llm, llm_error(429, "rate_limit_exceeded", **{"Retry-After": header}, **date_now))
    with pytest.raises(ProviderFault) as caught:
        await summarizer.summarize(FOUND, DEADLINE)
    assert caught.value.retry_after == timedelta(hours=3)
    assert llm.calls["ann"] == 1


async def test_a_used_up_quota_opens_the_breaker_at_once(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    answering(llm, llm_error(429, "insufficient_quota"))
    with pytest.raises(ProviderFault) as caught:
        await summarizer.summarize(FOUND, DEADLINE)
    assert (caught.value.opens, caught.value.config, llm.calls["ann"]) == (True, False, 1)


@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (403, "forbidden"), (404, "model_not_found")])
async def test_a_configuration_fault_names_what_to_check_and_no_secret(
    llm: FakeLLM, summarizer: OpenAISummarizer, status: int, code: str
) -> None:
    answering(llm, llm_error(status, code))
    with pytest.raises(ProviderFault, match="check OPENAI_API_KEY, OPENAI_MODEL and OPENAI_BASE_URL") as caught:
        await summarizer.summarize(FOUND, DEADLINE)
    assert caught.value.config
    assert "very-secret" not in str(caught.value)


async def test_a_server_of_another_kind_is_named(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    answering(llm, *(web.Response(text="<html>", content_type="text/html") for _ in range(2)))
    with pytest.raises(ProviderFault, match="does not answer like an OpenAI-compatible server"):
        await summarizer.summarize(FOUND, DEADLINE)


async def test_an_unreachable_server_is_named() -> None:
    nowhere = connect(None, f"http://127.0.0.1:{free_port()}/v1", "m", Limits(concurrency=1))
    with pytest.raises(ProviderFault, match="does not answer"):
        await nowhere.summarize(FOUND, DEADLINE)
    await nowhere.aclose()


async def test_a_slow_server_ends_at_the_deadline(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    llm.latency = 30
    with pytest.raises(ProviderFault, match=r"does not (end its )?answer"):
        await summarizer.summarize(FOUND, timedelta(seconds=0.3))
    assert summarizer.calls in (1, 2)


def test_the_announced_budgets_are_read_in_the_providers_own_writing() -> None:
    told = {
        "x-ratelimit-limit-requests": "5000",
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-reset-requests": "12ms",
        "x-ratelimit-limit-tokens": "160000",
        "x-ratelimit-remaining-tokens": "159976",
        "x-ratelimit-reset-tokens": "1h6m0.5s",
    }
    assert budgets(told) == {
        "requests": Budget(5000, 4999, timedelta(milliseconds=12)),
        "tokens": Budget(160_000, 159_976, timedelta(hours=1, minutes=6, seconds=0.5)),
    }
    bare = {"x-ratelimit-reset-requests": "30"}
    assert budgets(told | bare)["requests"].reset == timedelta(seconds=30)


@pytest.mark.parametrize("reset", ["", "99999999999999999", "soon", "1x", "1m soon", "..s"])
def test_a_budget_that_is_not_understood_is_none(reset: str) -> None:
    told = {f"x-ratelimit-{kind}-requests": "10" for kind in ("limit", "remaining")}
    assert budgets(told | {"x-ratelimit-reset-requests": reset}) == {}
    assert budgets({"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1"}) == {}


def test_a_limit_beyond_any_measure_is_none() -> None:
    told = {f"x-ratelimit-{kind}-requests": "9" * 400 for kind in ("limit", "remaining")}
    assert budgets(told | {"x-ratelimit-reset-requests": "1s"}) == {}


async def test_half_a_surrogate_pair_is_an_invalid_answer(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    answer = recap_answer("ann")
    half = json.dumps(answer | {"headline": "A day \ud83d"})
    answering(llm, completion(half), completion(half))
    with pytest.raises(ItemFault) as caught:
        await summarizer.summarize(FOUND, DEADLINE)
    assert caught.value.reason is ItemReason.INVALID_ANSWER


async def test_a_server_that_leaves_out_what_it_may_is_understood(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    content = json.dumps(recap_answer("ann"))
    bare = {"choices": [{"message": {"content": content}}], "usage": {"prompt_tokens": None}}
    answering(llm, web.json_response(bare))
    assert (await summarizer.summarize(FOUND, DEADLINE)).metadata["prompt_tokens"] == 0
    assert summarizer.tokens == 0


async def test_a_filtered_answer_without_a_message_is_the_items_fault(
    llm: FakeLLM, summarizer: OpenAISummarizer
) -> None:
    answering(llm, web.json_response({"choices": [{"finish_reason": "content_filter"}]}))
    with pytest.raises(ItemFault) as caught:
        await summarizer.summarize(FOUND, DEADLINE)
    assert caught.value.reason is ItemReason.CONTENT_POLICY
