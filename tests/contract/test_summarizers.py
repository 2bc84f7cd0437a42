"""The official client over HTTP against a loopback server: one answer, or one readable fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import get_args

import pytest
from aiohttp import web
from openai.types.shared import ReasoningEffort

from notifications.adapters.llm.openai import OpenAISummarizer, Service, connect
from notifications.commands.reasons import cure_of, in_words
from notifications.domain.errors import ConfigFault, ItemFault, ItemReason, ProviderFault
from notifications.domain.model import Conversation
from notifications.domain.money import Spent
from notifications.domain.question import Question
from notifications.limits import Limits
from notifications.ports import Answer, Summarizer
from notifications.recap.material import Material
from notifications.recap.plan import plan
from notifications.recap.prompt import recap_question
from notifications.settings import EFFORTS, Settings
from notifications.testing import LLMTrouble, MemorySummarizer, SummarizerSuite, answered
from tests.contract.conftest import Connect
from tests.support.web import ASKED, FakeLLM, completion, llm_error, recap_answer

AT = datetime(2026, 5, 1, 9, tzinfo=UTC)
FOUND = Material(date(2026, 5, 1), (Conversation("c1", AT, overview="who=ann met SECRET friends."),), None)
DEADLINE = timedelta(seconds=20)
DEFAULT_MODEL = Settings.openai_model


def question() -> Question:
    [notes] = plan(FOUND, 60_000, 12, lambda c: "").parts
    return recap_question(FOUND, notes)


@pytest.fixture
def summarizer(connected: Connect) -> OpenAISummarizer:
    return connected()


def answering(llm: FakeLLM, *answers: web.Response | None) -> None:
    """These in turn; None means a good recap."""
    queue = list(answers)

    async def script(who: str) -> web.Response | None:
        return queue.pop(0)

    llm.script = script


async def test_an_answer_with_its_usage(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 8}}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, **details}
    answering(llm, completion("the text", usage=usage, service_tier="priority"))
    answer = await summarizer.ask(question(), DEADLINE)
    assert (answer.text, answer.model, answer.tier, answer.ended) == ("the text", "fake-model", "priority", None)
    assert answer.spent == Spent(1, 100, 64, 20, 8, None)  # nobody knows what a test-model costs
    assert (summarizer.calls, summarizer.tokens, llm.calls) == (1, 120, {"ann": 1})
    [body] = llm.bodies
    assert {"model", "messages", "response_format", "max_completion_tokens", "store"} == set(body)


@pytest.mark.parametrize(
    ("code", "reason", "unpaid"),
    [
        ("context_length_exceeded", ItemReason.CONTEXT_LENGTH, True),
        ("exceed_context_size_error", ItemReason.CONTEXT_LENGTH, True),
        ("content_policy_violation", ItemReason.CONTENT_POLICY, True),
        ("json_validate_failed", ItemReason.INVALID_ANSWER, False),  # useless JSON was paid all the same
    ],
)
async def test_an_items_own_fault_is_named(
    llm: FakeLLM, summarizer: OpenAISummarizer, code: str, reason: ItemReason, unpaid: bool
) -> None:
    answering(llm, llm_error(400, code))
    with pytest.raises(ItemFault) as caught:
        await summarizer.ask(question(), DEADLINE)
    assert (caught.value.reason, caught.value.unpaid, "SECRET" in str(caught.value)) == (reason, unpaid, False)
    assert llm.calls["ann"] == 1


@pytest.mark.parametrize(
    ("status", "code", "flags"),
    [
        *((status, "busy", (False, False, False)) for status in (500, 502)),
        *((status, "busy", (False, False, True)) for status in (503, 429, 418)),
        (429, "insufficient_quota", (True, False, True)),  # opens the breaker at once
        *((status, "no_access", (True, True, True)) for status in (401, 403, 404)),
    ],
)
async def test_a_failure_is_the_providers_fault(
    llm: FakeLLM, summarizer: OpenAISummarizer, status: int, code: str, flags: tuple[bool, bool, bool]
) -> None:
    answering(llm, llm_error(status, code, **{"Retry-After": "7"}))
    with pytest.raises(ProviderFault, match=rf"The LLM at 127.0.0.1:{llm.port} answers {status}") as caught:
        await summarizer.ask(question(), DEADLINE)
    fault = caught.value
    assert (fault.final, fault.config, fault.unpaid, fault.cheap) == (*flags, False)
    assert ("check OPENAI_API_KEY, OPENAI_MODEL and OPENAI_BASE_URL" in str(fault)) is fault.config
    assert "very-secret" not in str(fault)
    assert (in_words(fault.reason) == "llm account has no credit") is (code == "insufficient_quota")
    assert bool(cure_of([fault.reason])) is (fault.config or status == 429)
    assert (fault.retry_after, llm.calls["ann"]) == (None if fault.config else timedelta(seconds=7), 1)


async def test_a_server_of_another_kind_is_named(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    answering(llm, web.Response(text="<html>", content_type="text/html"))
    with pytest.raises(ProviderFault, match="does not answer like an OpenAI-compatible server"):
        await summarizer.ask(question(), DEADLINE)


def refusing(llm: FakeLLM, *fields: str, status: int = 400) -> None:
    """As a server that does not know these fields of the API; `json_schema` is the form of the answer."""

    async def script(who: str) -> web.Response | None:
        body = ASKED.get()
        for name in fields:
            form = body.get("response_format", {}).get("type")
            if name in body or name == form:
                error = {"message": f"Unrecognized request argument supplied: {name}", "type": "invalid_request_error"}
                return web.json_response({"error": error | {"param": None, "code": None}}, status=status)
        return None

    llm.script = script


@pytest.mark.parametrize("status", [400, 422])
async def test_a_server_without_schemas_gets_them_in_words_and_is_asked_once_a_run(
    llm: FakeLLM, connected: Connect, status: int
) -> None:
    summarizer = connected()
    refusing(llm, "json_schema", status=status)
    for _ in range(2):
        assert json.loads((await summarizer.ask(question(), DEADLINE)).text)["day_emoji"] == "🌤️"
    forms = [body["response_format"]["type"] for body in llm.bodies]
    assert forms == ["json_schema", "json_object", "json_object"]
    assert '"additionalProperties":false' in llm.bodies[-1]["messages"][0]["content"]
    refusing(llm, "json_schema", "json_object", status=status)
    await summarizer.ask(question(), DEADLINE)
    assert ["response_format" in body for body in llm.bodies] == [True, True, True, True, False]


async def test_what_a_server_does_not_know_is_left_out_for_the_rest_of_the_run(
    llm: FakeLLM, connected: Connect
) -> None:
    summarizer = connected(DEFAULT_MODEL, tier="flex")
    refusing(llm, "service_tier", "reasoning_effort", "store")
    for _ in range(2):
        await summarizer.ask(question(), DEADLINE)
    assert [sorted({"service_tier", "reasoning_effort", "store"} & set(body)) for body in llm.bodies] == [
        ["reasoning_effort", "service_tier", "store"],
        ["reasoning_effort", "store"],
        ["store"],
        [],
        [],
    ]


async def test_an_older_server_takes_the_room_by_its_old_name(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    llm.needs_room = False
    refusing(llm, "max_completion_tokens")
    await summarizer.ask(question(), DEADLINE)
    assert [(body.get("max_completion_tokens"), body.get("max_tokens")) for body in llm.bodies] == [
        (4_000, None),
        (None, 4_000),
    ]


async def test_a_refusal_that_names_nothing_to_leave_out_is_told(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    answering(llm, llm_error(400, "bad_value"))
    with pytest.raises(ProviderFault, match=r"answers 400 \(bad_value\)"):
        await summarizer.ask(question(), DEADLINE)
    assert llm.calls["ann"] == 1


@pytest.mark.parametrize(
    ("model", "effort", "sent", "room"),
    [
        ("test-model", None, None, 4_000),
        (DEFAULT_MODEL, None, "low", 6_000),
        ("o4-mini", "high", "high", 6_000),
        ("gpt-5-chat-latest", None, None, 4_000),
        ("gpt-4o-mini", None, None, 4_000),
        (DEFAULT_MODEL, "none", "none", 4_000),
    ],
)
async def test_a_model_that_reasons_gets_room_for_it(
    llm: FakeLLM, connected: Connect, model: str, effort: str | None, sent: str | None, room: int
) -> None:
    summarizer = connected(model, effort=effort)
    await summarizer.ask(question(), DEADLINE)
    assert (llm.bodies[0].get("reasoning_effort"), llm.bodies[0]["max_completion_tokens"]) == (sent, room)


def test_each_effort_that_the_api_knows_can_be_set() -> None:
    [known, _none] = get_args(ReasoningEffort)
    assert get_args(known) == EFFORTS


async def test_flex_without_capacity_says_that_the_other_tier_may_be_asked(llm: FakeLLM, connected: Connect) -> None:
    summarizer = connected(tier="flex")

    async def script(who: str) -> web.Response | None:
        return llm_error(429, "resource_unavailable") if llm.bodies[-1].get("service_tier") == "flex" else None

    llm.script = script
    with pytest.raises(ProviderFault) as caught:
        await summarizer.ask(question(), DEADLINE)
    assert (caught.value.cheap, caught.value.unpaid) == (True, True)
    assert (await summarizer.ask(question(), DEADLINE, cheap=False)).tier == "default"
    assert ["service_tier" in body for body in llm.bodies] == [True, False]


async def test_flex_that_is_too_slow_says_so_and_nobody_knows_what_it_cost(llm: FakeLLM, connected: Connect) -> None:
    summarizer = connected(tier="flex")
    llm.latency = 30
    with pytest.raises(ProviderFault) as caught:
        await summarizer.ask(question(), timedelta(seconds=0.2))
    assert (caught.value.cheap, caught.value.unpaid) == (True, False)


async def test_half_the_price_where_flex_served(llm: FakeLLM, connected: Connect) -> None:
    summarizer = connected(tier="flex", price_in=1.0, price_out=4.0)
    cheap = await summarizer.ask(question(), DEADLINE)
    dear = await summarizer.ask(question(), DEADLINE, cheap=False)
    assert (cheap.tier, dear.tier) == ("flex", "default")
    assert cheap.spent.micro_usd is not None
    assert dear.spent.micro_usd is not None
    assert abs(cheap.spent.micro_usd * 2 - dear.spent.micro_usd) <= 8  # the two answers differ by a letter or two
    assert (cheap.spent.micro_usd + dear.spent.micro_usd) / 1_000_000 == pytest.approx(llm.billed, abs=2e-6)


async def test_the_worst_cost_is_of_every_byte_and_the_whole_room(llm: FakeLLM, connected: Connect) -> None:
    summarizer = connected(price_in=1.0, price_out=4.0, daily_budget=1.0)
    asked = question()
    worst = await summarizer.worst_cost(asked)
    assert worst == len(asked.instructions_with_schema.encode()) + len(asked.notes.encode()) + 100 + 4 * 4_000
    assert (await summarizer.ask(asked, DEADLINE)).spent.micro_usd < worst  # type: ignore[operator]
    assert await connected(price_in=1.0, price_out=4.0).worst_cost(asked) is None


async def test_a_budget_for_a_model_of_unknown_price_is_refused(llm: FakeLLM, connected: Connect) -> None:
    summarizer = connected(daily_budget=1.0)
    with pytest.raises(ConfigFault, match="RECAP_PRICE_IN_USD_PER_MTOK"):
        await summarizer.worst_cost(question())


async def test_a_server_that_leaves_out_what_it_may_is_understood(llm: FakeLLM, summarizer: OpenAISummarizer) -> None:
    content = json.dumps(recap_answer("ann"))
    bare = {"choices": [{"message": {"content": content}}], "usage": {"prompt_tokens": None}}
    answering(llm, web.json_response(bare), web.json_response({"choices": bare["choices"]}))
    for _ in range(2):
        answer = await summarizer.ask(question(), DEADLINE)
        assert (answer.text, answer.spent, answer.model) == (content, Spent(1, micro_usd=None), "test-model")
    assert summarizer.tokens == 0


@pytest.mark.parametrize(
    ("description", "day"),
    [
        ({"shutdown_date": "2026-12-11"}, date(2026, 12, 11)),
        ({"shutdown_date": None}, None),
        ({"shutdown_date": "soon\x1b[2J"}, None),
        ({"shutdown_date": 1}, None),
        ([1], None),
    ],
)
async def test_a_models_last_day_is_what_its_server_says_of_it(
    llm: FakeLLM, summarizer: OpenAISummarizer, description: object, day: date | None
) -> None:
    llm.description = description
    assert [await summarizer.last_day() for _ in range(2)] == [day, day]
    assert llm.described == ["test-model"]


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "model_not_found", "The model `x` does not exist or you do not have access to it."),
        (400, "model_decommissioned", "The model `x` has been decommissioned and is no longer supported."),
        (404, None, "The model `x` has been deprecated, learn more here."),
        (410, None, "Model x was retired."),
    ],
)
async def test_a_model_that_is_gone_is_told_from_other_refusals(
    llm: FakeLLM, connected: Connect, status: int, code: str | None, message: str
) -> None:
    error = {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}}
    for description, told in (
        (None, f"answers {status} for model 'test-model': .*; check OPENAI_API_KEY, OPENAI_MODEL and OPENAI_BASE_URL"),
        ({"shutdown_date": "2026-01-01"}, "the model 'test-model' was shut down on 2026-01-01; set OPENAI_MODEL to"),
    ):
        llm.description = description
        answering(llm, web.json_response(error, status=status))
        with pytest.raises(ProviderFault, match=told) as caught:
            await connected().ask(question(), DEADLINE)
        assert (caught.value.config, caught.value.unpaid) == (True, True)


@pytest.mark.parametrize(
    ("refused", "answer", "found"),
    [
        ((), json.dumps(recap_answer("ann")), "answers by the schema"),
        (("json_schema",), json.dumps(recap_answer("ann")), "answers in JSON"),
        (("json_schema", "json_object"), json.dumps(recap_answer("ann")), "answers in plain text"),
        ((), f"Here it is:\n{json.dumps(recap_answer('ann'))}", "answers with JSON amid other words"),
        ((), "You had a good day at the harbour.", ""),
        ((), "{}", ""),
    ],
)
async def test_the_form_of_a_small_recap_is_told_and_what_is_none_too(
    llm: FakeLLM, summarizer: OpenAISummarizer, refused: tuple[str, ...], answer: str, found: str
) -> None:
    async def script(who: str) -> web.Response:
        form = llm.bodies[-1].get("response_format", {}).get("type")
        if form in refused:
            error = {"message": f"response_format {form} is not supported", "code": None, "param": "response_format"}
            return web.json_response({"error": error}, status=400)
        return completion(answer)

    llm.script = script
    told = await summarizer.check()
    assert told.found.partition(",")[0] == found
    assert await summarizer.last_day() is None  # a server without a list of models
    assert ("is no recap (invalid_answer)" in told.trouble, "harbour" in told.trouble) == (not found, False)


async def test_users_who_are_refused_alike_give_a_form_up_once(llm: FakeLLM, connected: Connect) -> None:
    """Their questions were on their way when the first refusal came."""
    summarizer = connected()
    refusing(llm, "json_schema")
    llm.latency = 0.2
    answers = await asyncio.gather(*(summarizer.ask(question(), DEADLINE) for _ in range(6)))
    assert all(json.loads(answer.text) for answer in answers)
    forms = [body["response_format"]["type"] for body in llm.bodies]
    assert (forms[:6], forms[6:]) == (["json_schema"] * 6, ["json_object"] * 6)


async def test_the_worst_cost_is_of_the_dearest_tier_that_may_answer(llm: FakeLLM, connected: Connect) -> None:
    worst = [
        await connected(DEFAULT_MODEL, tier=tier, daily_budget=1.0).worst_cost(question())
        for tier in (None, "flex", "auto", "priority")
    ]
    default, flex, auto, priority = (one or 0 for one in worst)
    assert default == flex < auto == priority


TROUBLES: dict[LLMTrouble, Callable[[], web.Response]] = {
    LLMTrouble.DOWN: lambda: llm_error(503, "busy"),
    LLMTrouble.REFUSES_US: lambda: llm_error(401, "invalid_api_key"),
    LLMTrouble.TOO_LONG: lambda: llm_error(400, "context_length_exceeded"),
    LLMTrouble.CUT: lambda: completion('{"headline": "', finish="length"),
}


class TestOpenAISummarizer(SummarizerSuite):
    llm: FakeLLM

    @pytest.fixture(autouse=True)
    def _served(self, llm: FakeLLM) -> None:
        self.llm = llm

    @asynccontextmanager
    async def make(self) -> AsyncIterator[Summarizer]:
        service = Service("test-model", price_in=1.0, price_out=4.0, daily_budget=1.0)
        summarizer = connect("sk-very-secret", f"{self.llm.url}/v1", service, Limits(concurrency=8))
        yield summarizer
        await summarizer.aclose()

    def cause(self, trouble: LLMTrouble) -> None:
        if trouble is LLMTrouble.SLOW:
            self.llm.latency = 30
            return

        async def script(who: str) -> web.Response:
            return TROUBLES[trouble]()

        self.llm.script = script


FAULTS: dict[LLMTrouble, Callable[[], Exception | Answer]] = {
    LLMTrouble.DOWN: lambda: ProviderFault("It is down."),
    LLMTrouble.REFUSES_US: lambda: ProviderFault("It refuses the key.", config=True),
    LLMTrouble.TOO_LONG: lambda: ItemFault(ItemReason.CONTEXT_LENGTH, "It is too long."),
    LLMTrouble.CUT: lambda: answered('{"headline": "', ItemReason.TRUNCATED),
}


class TestMemorySummarizer(SummarizerSuite):
    @asynccontextmanager
    async def make(self) -> AsyncIterator[Summarizer]:
        self.made = MemorySummarizer()
        yield self.made

    def cause(self, trouble: LLMTrouble) -> None:
        if trouble not in FAULTS:
            super().cause(trouble)
        self.made.script = lambda question: FAULTS[trouble]()
