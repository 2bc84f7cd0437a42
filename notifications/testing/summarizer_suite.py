"""The contract of a summarizer: it answers in time, or raises the fault of the item or of the provider."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

import pytest

from notifications.domain.errors import ItemFault, ItemReason, ProviderFault
from notifications.domain.model import Conversation
from notifications.ports import Summarizer
from notifications.recap.answer import read_answer, read_facts
from notifications.recap.evidence import Evidence
from notifications.recap.material import Material
from notifications.recap.plan import plan
from notifications.recap.prompt import part_question, recap_question
from notifications.testing.base import Suite

SAID = "who=ann and Noah met at the old harbour and talked about the garden."
CONVERSATION = Conversation("c1", datetime(2026, 5, 1, 9, tzinfo=UTC), overview=SAID)
MATERIAL = Material(date(2026, 5, 1), (CONVERSATION,), None)
[NOTES] = plan(MATERIAL, 60_000, 12, lambda conversation: "").parts
DEADLINE, SHORT = timedelta(seconds=20), timedelta(seconds=0.3)


class LLMTrouble(StrEnum):
    """What a service may do instead of answering."""

    SLOW = "slow"  # it needs longer than the question's time
    DOWN = "down"  # it answers that it does not serve now, or not at all
    REFUSES_US = "refuses us"  # a wrong key or an unknown model: only an operator can correct it
    TOO_LONG = "too long"  # the notes are more than it reads
    CUT = "cut"  # its answer stops in the middle


class SummarizerSuite(Suite):
    """For every summarizer; what its service can't do wrong is skipped."""

    def make(self) -> AbstractAsyncContextManager[Summarizer]:
        """A summarizer whose service is well."""
        raise NotImplementedError

    def cause(self, trouble: LLMTrouble) -> None:
        """Let the service do so from now on; leave out what it can't do."""
        pytest.skip(f"a service that is never {trouble}")

    async def test_a_recap_has_sentences_with_their_evidence(self, llm: Summarizer) -> None:
        question = recap_question(MATERIAL, NOTES)
        answer = await llm.ask(question, DEADLINE)
        assert answer.ended is None
        draft = read_answer(answer.text, Evidence(MATERIAL, NOTES, question.marker))
        assert [sentence.conversation_ids for sentence in draft.overview][:1] == [("c1",)]

    async def test_a_part_of_a_long_day_has_facts_with_their_evidence(self, llm: Summarizer) -> None:
        question = part_question(MATERIAL, NOTES)
        answer = await llm.ask(question, DEADLINE)
        facts = read_facts(answer.text, Evidence(MATERIAL, NOTES, question.marker))
        assert [fact.conversation_ids for fact in facts][:1] == [("c1",)]

    async def test_what_was_spent_is_counted(self, llm: Summarizer) -> None:
        for calls in (1, 2):
            tokens = llm.tokens
            answer = await llm.ask(recap_question(MATERIAL, NOTES), DEADLINE, cheap=calls == 1)
            assert (answer.spent.calls, llm.calls, llm.tokens - tokens) == (1, calls, answer.spent.tokens)
            assert answer.model != ""

    async def test_each_of_many_at_once_has_an_answer_of_its_own(self, llm: Summarizer) -> None:
        questions = [recap_question(MATERIAL, NOTES) for _ in range(8)]  # each with another marker
        answers = await asyncio.gather(*(llm.ask(question, DEADLINE) for question in questions))
        assert [answer.ended for answer in answers] == [None] * 8
        assert llm.calls == 8

    async def test_a_call_ends_in_its_time(self, llm: Summarizer) -> None:
        self.cause(LLMTrouble.SLOW)
        started = time.monotonic()
        with pytest.raises(ProviderFault) as caught:
            await llm.ask(recap_question(MATERIAL, NOTES), SHORT)
        assert time.monotonic() - started < SHORT.total_seconds() + 3
        assert (caught.value.config, caught.value.unpaid) == (False, False)  # its cost is unknown

    async def test_a_cancelled_call_ends_cancelled(self, llm: Summarizer) -> None:
        self.cause(LLMTrouble.SLOW)
        asking = asyncio.create_task(llm.ask(recap_question(MATERIAL, NOTES), DEADLINE))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.wait([asking], timeout=5)
        assert asking.cancelled()

    @pytest.mark.parametrize(("trouble", "config"), [(LLMTrouble.DOWN, False), (LLMTrouble.REFUSES_US, True)])
    async def test_the_providers_fault_is_not_the_users(
        self, llm: Summarizer, trouble: LLMTrouble, config: bool
    ) -> None:
        self.cause(trouble)
        with pytest.raises(ProviderFault) as caught:
            await llm.ask(recap_question(MATERIAL, NOTES), DEADLINE)
        assert (caught.value.config, caught.value.final) == (config, config)
        assert_one_sentence_without_notes(str(caught.value))

    @pytest.mark.parametrize(
        ("trouble", "reason"),
        [(LLMTrouble.TOO_LONG, ItemReason.CONTEXT_LENGTH), (LLMTrouble.CUT, ItemReason.TRUNCATED)],
    )
    async def test_an_items_own_fault_is_named(self, llm: Summarizer, trouble: LLMTrouble, reason: ItemReason) -> None:
        self.cause(trouble)
        try:
            ended = (await llm.ask(recap_question(MATERIAL, NOTES), DEADLINE)).ended
        except ItemFault as fault:
            ended = fault.reason
            assert_one_sentence_without_notes(str(fault))
        assert ended is reason

    async def test_a_call_costs_no_more_than_the_worst_that_was_said(self, llm: Summarizer) -> None:
        worst = await llm.worst_cost(recap_question(MATERIAL, NOTES))
        cost = (await llm.ask(recap_question(MATERIAL, NOTES), DEADLINE)).spent.micro_usd
        assert worst is None or cost is None or 0 <= cost <= worst

    async def test_a_check_of_what_serves_says_what_it_saw(self, llm: Summarizer) -> None:
        seen = await llm.check()
        assert (seen.trouble, seen.found != "") == ("", True)
        last_day = await llm.last_day()
        assert last_day is None or isinstance(last_day, date)

    @pytest.mark.parametrize("trouble", [LLMTrouble.DOWN, LLMTrouble.REFUSES_US])
    async def test_a_check_of_what_does_not_serve_says_so_in_a_sentence(
        self, llm: Summarizer, trouble: LLMTrouble
    ) -> None:
        self.cause(trouble)
        seen = await llm.check()
        assert_one_sentence_without_notes(seen.trouble)
        assert await llm.last_day() is None

    async def test_it_names_itself(self, llm: Summarizer) -> None:
        for name in (llm.where, llm.named_by, llm.model):
            assert name == name.strip() != ""
            assert "\n" not in name


def assert_one_sentence_without_notes(sentence: str) -> None:
    """What a person reads in a log never quotes a conversation."""
    assert sentence.strip() != ""
    assert "\n" not in sentence
    assert "harbour" not in sentence
