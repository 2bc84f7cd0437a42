"""Answers in the forms of other vendors, over HTTP: read, learnt, or the item's; what they cost, and what is told."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog
from aiohttp import web

from notifications.adapters.llm.openai import Service, connect
from notifications.domain.errors import ItemFault, ItemReason, ProviderFault
from notifications.domain.money import Spent
from notifications.limits import Limits
from tests.contract.conftest import Connect
from tests.contract.test_summarizers import answering, question, refusing
from tests.support.servers import free_port
from tests.support.web import FakeLLM, completion

DEADLINE = timedelta(seconds=20)
SAID = '{"headline": "x"}'


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": SAID[:4]}, {"type": "text", "text": SAID[4:]}], SAID),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "no"}]}, {"type": "text", "text": SAID}], SAID),
        ([{"type": "reasoning", "text": "no"}, {"type": "output_text", "text": SAID}], SAID),
        ([SAID[:4], {"text": SAID[4:]}, {"type": "text", "text": 7}, 7, None], SAID),
        ([], ""),
        (7, ""),
        ({"no": "text"}, ""),
    ],
)
async def test_an_answer_in_parts_is_what_is_said_in_it(
    llm: FakeLLM, connected: Connect, content: Any, text: str
) -> None:
    answering(llm, completion(content))
    answer = await connected().ask(question(), DEADLINE)
    assert (answer.text, answer.ended) == (text, None)


@pytest.mark.parametrize(
    ("usage", "spent"),
    [
        ({"prompt_tokens": 100.2, "completion_tokens": "20"}, Spent(1, 101, 0, 20, 0, 181)),
        ({"prompt_tokens": "100", "completion_tokens": -1}, Spent(1, 100, 0, 0, 0, None)),
        ({"prompt_tokens": -5, "completion_tokens": 20}, Spent(1, 0, 0, 20, 0, None)),
        ({"prompt_tokens": True, "completion_tokens": "many"}, Spent(1, 0, 0, 0, 0, None)),
        ({"prompt_tokens": 10**400, "completion_tokens": [20]}, Spent(1, 0, 0, 0, 0, None)),
        ({"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": []}, Spent(1, 100, 0, 20, 0, 180)),
        ({"prompt_tokens": 100, "completion_tokens": 20, "prompt_cache_hit_tokens": 64}, Spent(1, 100, 64, 20, 0, 180)),
        *((odd, Spent(1, micro_usd=None)) for odd in ("none", {"total_tokens": 1})),
        ([], Spent(1, micro_usd=None)),
    ],
)
async def test_usage_in_any_writing_is_read_or_not_known(
    llm: FakeLLM, connected: Connect, usage: Any, spent: Spent
) -> None:
    choice = {"message": {"content": SAID}, "finish_reason": "stop"}
    answering(llm, web.json_response({"choices": [choice], "usage": usage, "model": 7, "service_tier": None}))
    answer = await connected(price_in=1.0, price_out=4.0).ask(question(), DEADLINE)
    assert (answer.text, answer.spent) == (SAID, spent)


@pytest.mark.parametrize(
    ("body", "ended"),
    [
        ({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}, ItemReason.CONTENT_POLICY),
        ({"choices": None, "prompt_filter_results": [{}]}, ItemReason.CONTENT_POLICY),
        ({"choices": [{"finish_reason": "content_filter: PROHIBITED_CONTENT"}]}, ItemReason.CONTENT_POLICY),
        ({"choices": [{"finish_reason": "SAFETY", "message": None}]}, ItemReason.CONTENT_POLICY),
        ({"choices": [{"finish_reason": "model_length", "message": {"content": "{"}}]}, ItemReason.TRUNCATED),
        ({"choices": [{"finish_reason": "MAX_TOKENS"}]}, ItemReason.TRUNCATED),
        ({"choices": [{"finish_reason": "length", "message": {"content": "{"}}]}, ItemReason.TRUNCATED),
        ({"choices": [{"finish_reason": "content_filter", "message": {"content": ""}}]}, ItemReason.CONTENT_POLICY),
        ({"choices": [{"message": {"content": None, "refusal": "I can't say SECRET"}}]}, ItemReason.REFUSAL),
        ({"choices": [{"finish_reason": "stop", "message": {"content": None}}]}, None),
        ({"choices": [{"finish_reason": 7, "message": {"content": SAID}}], "error": None}, None),
    ],
)
async def test_how_an_answer_ended_is_told_in_other_vendors_words(
    llm: FakeLLM, connected: Connect, body: Any, ended: ItemReason | None
) -> None:
    answering(llm, web.json_response(body))
    assert (await connected().ask(question(), DEADLINE)).ended is ended


@pytest.mark.parametrize("body", [{}, {"id": "1"}, {"choices": "none"}, {"choices": [7]}, [], "no"])
async def test_what_has_no_choices_at_all_is_another_server(llm: FakeLLM, connected: Connect, body: Any) -> None:
    answering(llm, web.json_response(body))
    with pytest.raises(ProviderFault, match=f"The LLM at 127.0.0.1:{llm.port} does not answer like an OpenAI-comp"):
        await connected().ask(question(), DEADLINE)


def failing(code: Any, message: str = "Provider returned error", **more: Any) -> web.Response:
    return web.json_response({"error": {"message": message, "code": code} | more, "user_id": "user_1"})


@pytest.mark.parametrize(
    ("answer", "told", "flags"),
    [
        (
            lambda: failing(429),
            "answers 429; wait, or lower RECAP_CONCURRENCY, or have the limit raised.",
            (False, False, True),
        ),
        (lambda: failing("503", "No provider"), 'answers 503: "No provider"; wait, and', (False, False, True)),
        (lambda: failing(None), 'answers 502: "Provider returned error"; wait', (False, False, False)),
        (
            lambda: failing("rate_limit_exceeded", "Slow"),
            'answers 502 (rate_limit_exceeded): "Slow"',
            (False, False, False),
        ),
        (
            lambda: failing(402, "Insufficient credits"),
            "answers 402; the account has no credit: add",
            (True, False, True),
        ),
        (lambda: failing(401, "No auth"), "answers 401 for model 'test-model': \"No auth\"; check", (True, True, True)),
        (lambda: web.json_response({"error": "overloaded"}), 'answers 502: "overloaded"; wait', (False, False, False)),
        (
            lambda: completion("{", finish="error"),
            "answers 502; wait, and check its status page if it lasts.",
            (False, False, False),
        ),
        (
            lambda: web.json_response({"choices": [{"error": {"code": 503, "message": "gone"}}]}),
            'answers 503: "gone"; wait',
            (False, False, True),
        ),
    ],
)
async def test_an_error_with_a_status_of_200_is_that_error(
    llm: FakeLLM, connected: Connect, answer: Any, told: str, flags: tuple[bool, bool, bool]
) -> None:
    answering(llm, answer())
    with pytest.raises(ProviderFault) as caught:
        await connected().ask(question(), DEADLINE)
    assert f"The LLM at 127.0.0.1:{llm.port} {told}" in str(caught.value)
    assert (caught.value.final, caught.value.config, caught.value.unpaid) == flags


async def test_an_error_with_a_status_of_200_may_be_the_items_or_teach(llm: FakeLLM, connected: Connect) -> None:
    summarizer = connected()
    answering(llm, failing(400, "This endpoint's maximum context length is 8192 tokens."))
    with pytest.raises(ItemFault) as caught:
        await summarizer.ask(question(), DEADLINE)
    assert caught.value.reason is ItemReason.CONTEXT_LENGTH
    answering(llm, failing(400, "property 'store' is unsupported"), None)
    await summarizer.ask(question(), DEADLINE)
    assert ["store" in body for body in llm.bodies] == [True, True, False]


LONG = replace(question(), notes=question().notes + "q7k3x word\n" * 4_000)  # some 45 KB


def read_of(prompt: int, **more: Any) -> web.Response:
    return completion(SAID, usage={"prompt_tokens": prompt, "completion_tokens": 5, **more})


async def test_a_prompt_that_was_cut_in_silence_is_too_long_and_told_once(llm: FakeLLM, connected: Connect) -> None:
    summarizer = connected(price_in=1.0, price_out=4.0)
    half = replace(LONG, notes=LONG.notes[:12_000])
    # A window of 2,050 tokens: the long prompt, one that fills it alike, one that fits, and the long one again.
    answering(llm, read_of(2_050), read_of(2_051), read_of(1_900), read_of(2_050))
    with structlog.testing.capture_logs() as logs:
        answers = [await summarizer.ask(one, DEADLINE) for one in (LONG, half, half, LONG)]
    ended = [answer.ended for answer in answers]
    assert ended == [ItemReason.CONTEXT_LENGTH, ItemReason.CONTEXT_LENGTH, None, ItemReason.CONTEXT_LENGTH]
    assert [answer.spent.micro_usd for answer in answers] == [2_070, 2_071, 1_920, 2_070]  # it was paid
    [event] = logs
    assert event["event"] == "llm.cuts_prompts"
    assert "OLLAMA_CONTEXT_LENGTH" in event["reason"]
    assert "RECAP_MAX_PROMPT_TOKENS" in event["reason"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda: read_of(100, prompt_tokens_details={"cached_tokens": 9_000}),  # what was read before is told apart
        lambda: read_of(100, cache_read_input_tokens=9_000),
        lambda: read_of(5_000),
        lambda: read_of(0),
        lambda: completion(SAID, usage={"total_tokens": 3}),
    ],
)
async def test_a_prompt_that_was_read_or_of_which_nothing_is_told_was_not_cut(
    llm: FakeLLM, connected: Connect, answer: Any
) -> None:
    answering(llm, answer())
    assert (await connected().ask(LONG, DEADLINE)).ended is None
    answering(llm, read_of(1))
    assert (await connected().ask(question(), DEADLINE)).ended is None  # a short one is cut by nobody


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("gpt-6-luna", True),
        ("gpt-5.6", True),
        ("openai/gpt-5.10-sol", True),
        ("gpt-10", True),
        ("gpt-5.5", False),
        ("gpt-5-mini", False),
        ("gpt-4o", False),
        ("gemini-6", False),
    ],
)
async def test_a_model_that_bills_what_it_keeps_is_told_to_keep_nothing(
    llm: FakeLLM, connected: Connect, model: str, sent: bool
) -> None:
    await connected(model).ask(question(), DEADLINE)
    assert llm.bodies[0].get("prompt_cache_options") == ({"mode": "explicit"} if sent else None)


async def test_what_is_kept_for_a_later_call_is_priced_and_its_refusal_learnt(llm: FakeLLM, connected: Connect) -> None:
    summarizer = connected("gpt-6-luna")
    refusing(llm, "prompt_cache_options")
    for _ in range(2):
        await summarizer.ask(question(), DEADLINE)
    assert ["prompt_cache_options" in body for body in llm.bodies] == [True, False, False]
    details = {"cached_tokens": 100_000, "cache_write_tokens": 800_000}
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 100_000, "prompt_tokens_details": details}
    answering(llm, completion(SAID, usage=usage))
    spent = (await summarizer.ask(question(), DEADLINE)).spent
    assert spent.micro_usd == 10_000 + 1_000 + 100_000 + 50_000  # 0.1 new, 0.01 read before, 0.125 kept, 0.5 out


async def test_the_worst_cost_of_such_a_model_is_of_a_prompt_that_is_kept(llm: FakeLLM, connected: Connect) -> None:
    asked = question()
    sent = len(asked.instructions_with_schema.encode()) + len(asked.notes.encode()) + 100
    prices = {"price_in": 1.0, "price_out": 4.0, "daily_budget": 1.0}
    assert await connected("gpt-6-luna", effort="none", **prices).worst_cost(asked) == -(-sent * 5 // 4) + 4 * 4_000
    assert await connected("gpt-5-mini", effort="none", **prices).worst_cost(asked) == sent + 4 * 4_000


@pytest.mark.parametrize("tier", ["flex", "priority"])
async def test_a_tier_that_the_model_has_not_is_learnt_and_told_once(
    llm: FakeLLM, connected: Connect, tier: str
) -> None:
    summarizer = connected("gpt-6-luna", tier=tier)

    async def script(who: str) -> web.Response | None:
        if "service_tier" not in llm.bodies[-1]:
            return None
        error = {"message": f"Service tier '{tier}' is not supported for this model.", "code": None, "param": None}
        return web.json_response({"error": error}, status=400)

    llm.script = script
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert (await summarizer.ask(question(), DEADLINE)).tier == "default"
    assert ["service_tier" in body for body in llm.bodies] == [True, False, False, False]
    assert [(one["event"], one["fields"]) for one in logs] == [("llm.takes_no", "service_tier")]


async def test_a_system_message_that_the_model_has_not_goes_before_the_notes(llm: FakeLLM, connected: Connect) -> None:
    summarizer = connected()
    answering(llm, web.json_response({"object": "error", "message": "System role not supported"}, status=400), None)
    llm.needs_system = False
    await summarizer.ask(question(), DEADLINE)
    [message] = llm.bodies[1]["messages"]
    assert message["role"] == "user"
    assert message["content"].startswith("You write one person's daily recap")
    assert "who=ann met SECRET friends." in message["content"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:{port}/v1", "127.0.0.1:{port} refuses the connection; check OPENAI_BASE_URL"),
        ("https://[::1]:{port}/v1", "[::1]:{port} refuses the connection; check OPENAI_BASE_URL"),
        ("https://nowhere.invalid/v1", "nowhere.invalid:443 has no address that is known here; check OPENAI_BASE_URL"),
    ],
)
async def test_nobody_at_the_address_is_told_with_host_and_port(url: str, told: str) -> None:
    port = free_port()
    nowhere = connect(None, url.format(port=port), Service("m"), Limits(concurrency=1))
    with pytest.raises(ProviderFault) as caught:
        await nowhere.ask(question(), DEADLINE)
    await nowhere.aclose()
    assert f"The LLM at {told.format(port=port)}" in str(caught.value)
    assert caught.value.unpaid


async def test_notes_that_an_error_repeats_are_in_no_sentence(llm: FakeLLM, connected: Connect) -> None:
    for status in (400, 401, 403, 404, 500, 503):

        async def echo(who: str, status: int = status) -> web.Response:
            return web.json_response({"error": f"Bad: {json.dumps(llm.bodies[-1])}"}, status=status)

        llm.script = echo
        with pytest.raises((ProviderFault, ItemFault)) as caught:
            await connected().ask(question(), DEADLINE)
        assert "SECRET" not in str(caught.value), status
        assert "friends" not in str(caught.value), status
