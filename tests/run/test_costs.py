"""What the calls of a day have cost is in its ledger, however the day ends (docs/protocol.md, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from notifications.commands.resend import resend
from notifications.domain.errors import ProviderFault, RecapError
from notifications.domain.question import Question
from notifications.recap.verify import NAME as SECOND_LOOK
from tests.run.test_second_look import EMPTY, kept, one_of, with_a_draft
from tests.support.days import ledger, summary
from tests.support.evening import Evening, outcomes

TOKENS, USD, SECONDS = 120, 50e-6, 2.0  # of one call

Script = Callable[[Question], Exception | str | None]


def costs(evening: Evening) -> tuple[int, float, float]:
    """Tokens, USD and the LLM's seconds in ann's ledger, in calls."""
    ledger = evening.ledger("ann")
    assert isinstance(ledger["llm_seconds"], float), ledger
    return ledger["tokens"] / TOKENS, round(ledger["usd"] / USD, 3), ledger["llm_seconds"] / SECONDS


def answering(evening: Evening, script: Script) -> None:
    """Each call takes two seconds."""

    def answer(question: Question) -> Exception | str | None:
        evening.now += timedelta(seconds=SECONDS)
        return script(question)

    evening.summarizer.script = answer


def useless(question: Question) -> str:
    return "no recap"


def well(question: Question) -> None:
    return None


def theirs(evening: Evening) -> None:
    """Another writer's summary of the day appears."""
    summary(evening.slots["ann"].recap_date.isoformat(), overview="O")(evening)


def ann(**changes: int) -> Evening:
    evening = Evening(**changes)
    evening.has_fallback = False
    evening.add("ann")
    return evening


async def dead(evening: Evening) -> None:
    """ann's day, after three tries of two calls each."""
    answering(evening, useless)
    for wait in (0, 6, 12):
        await evening.later(minutes=wait)
    assert evening.state("ann") == "dead failures"


async def test_a_day_that_ends_dead_has_the_seconds_of_its_calls_too() -> None:
    evening = ann()
    await dead(evening)
    assert costs(evening) == (6, 6, 6)


async def test_a_day_that_is_missed_has_what_its_tries_have_cost() -> None:
    evening = ann()
    answering(evening, useless)
    await evening.tick()
    await evening.later(hours=2)
    assert (evening.state("ann"), costs(evening)) == ("missed closed", (2, 2, 2))


async def test_a_paid_draft_that_another_writers_summary_replaces_is_counted() -> None:
    evening = ann()

    def appears(question: Question) -> None:
        theirs(evening)

    answering(evening, appears)
    assert outcomes(await evening.tick()) == {"skipped": 1}
    assert (evening.state("ann"), costs(evening)) == ("sent legacy", (1, 1, 1))


async def test_what_failed_tries_have_cost_is_counted_where_another_writer_then_makes_the_day() -> None:
    evening = ann()
    answering(evening, useless)
    assert outcomes(await evening.tick()) == {"waiting": 1}
    theirs(evening)
    assert outcomes(await evening.later(minutes=6)) == {"skipped": 1}
    assert (evening.state("ann"), costs(evening)) == ("sent legacy", (2, 2, 2))


@pytest.mark.parametrize("then", ["legacy", "more was said", "closing", "answered", "down again"])
async def test_a_draft_that_waits_for_its_second_look_is_counted_once_whatever_becomes_of_it(then: str) -> None:
    """Its try made three calls, of which the two for the second look brought nothing and cost nothing."""
    evening = await with_a_draft()
    answering(evening, well)
    if then == "legacy":
        theirs(evening)
    if then == "more was said":
        at = evening.slots["ann"].at - timedelta(hours=3)
        evening.world.put_talk(
            "ann", "late", {"created_at": at, "structured": {"overview": "Tom talked of the fence."}}
        )
    if then == "down again":
        answering(evening, one_of(SECOND_LOOK, ProviderFault("It answers 503.", retry_after=timedelta(0))))
        assert outcomes(await evening.later(minutes=6)) == {"waiting": 1}
        answering(evening, well)
    await evening.later(**({"hours": 2} if then == "closing" else {"minutes": 6}))
    paid = evening.summarizer.tokens
    assert (evening.ledger("ann")["state"], evening.ledger("ann")["tokens"]) == ("sent", paid)
    assert paid == {"legacy": 1, "more was said": 3, "closing": 1, "answered": 2, "down again": 2}[then] * TOKENS
    assert kept(evening)


@pytest.mark.parametrize("failed_at", [None, 1, 2])
async def test_a_day_that_a_resend_makes_keeps_what_it_had_cost_before(failed_at: int | None) -> None:
    """Once, also where an earlier resend failed, and what it had paid is kept beside the ledger alone."""
    evening = ann()
    await dead(evening)
    if failed_at:
        quota = ProviderFault("No quota.", code="insufficient_quota", final=True, unpaid=True)
        answers = iter(["no recap"] * (failed_at - 1) + [quota])
        answering(evening, lambda question: next(answers))
        with pytest.raises(RecapError):
            await resend("ann", evening.slots["ann"].recap_date, evening.context())
    answering(evening, well)
    await resend("ann", evening.slots["ann"].recap_date, evening.context())
    paid = evening.summarizer.tokens // TOKENS
    assert (evening.state("ann"), costs(evening)[0], paid) == ("sent", paid, 8 if failed_at == 2 else 7)


async def test_a_resend_of_a_skipped_day_keeps_what_its_answer_had_cost() -> None:
    evening = ann()
    answering(evening, lambda question: EMPTY)
    assert outcomes(await evening.tick()) == {"skipped": 1}
    answering(evening, well)
    await resend("ann", evening.slots["ann"].recap_date, evening.context())
    assert (evening.state("ann"), costs(evening)) == ("sent", (2, 2, 2))


async def test_a_draft_that_is_thrown_away_since_another_run_has_begun_is_counted_by_who_takes_over() -> None:
    """The other run died while it pushed; Redis has lost its claim."""
    evening = ann()
    begun = ledger("sending", -3, tokens=240, usd=1e-4, llm_seconds=4.0)

    def begins(question: Question) -> None:
        begun(evening)

    answering(evening, begins)
    assert outcomes(await evening.tick()) == {"sent": 1}
    assert (evening.ledger("ann")["tries"], costs(evening), evening.got()) == (2, (3, 3, 3), {"ann-0": 1})
