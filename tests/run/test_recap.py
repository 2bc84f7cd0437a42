"""One recap by the LLM in a whole run: parts, tries, money, and what takes its place."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from notifications.domain.errors import ClaimsDown, ItemFault, ItemReason, ProviderFault
from notifications.domain.money import spend_key
from notifications.domain.question import Question
from notifications.ports import Answer
from notifications.recap import answer
from notifications.run import writer
from notifications.testing import ENVIRONMENT, answered
from notifications.testing.answers import item, quotes_of, recap_answer
from tests.support.evening import EIGHT, Evening, outcomes

LONG = "You talked about the garden and the fence, with all that belongs to it and more. " * 12


def long_day(talks: int = 12, **changes: Any) -> Evening:
    """ann's day, of conversations of a thousand bytes; a call holds about two."""
    evening = one_user(talks=0, max_prompt_tokens=1_000, **changes)
    add_talks(evening, talks)
    return evening


def add_talks(evening: Evening, talks: int, text: str = LONG) -> None:
    at = evening.slots["ann"].at - timedelta(hours=10)
    for n in range(talks):
        begun = at + timedelta(minutes=5 * n)
        evening.world.put_talk("ann", f"t{n:04}", {"created_at": begun, "structured": {"overview": text}})


def summary(evening: Evening) -> Any:
    [found] = evening.world.summaries("ann").values()
    return found


def overview(evening: Evening) -> list[str]:
    return [one["text"] for one in summary(evening)["overview_items"]]


def kinds(evening: Evening) -> list[str]:
    """What was asked, in order."""
    return [question.name for question in evening.summarizer.asked]


def before_each_call(evening: Evening, look: Callable[[Question, timedelta, bool], object]) -> None:
    """The question, its seconds, and whether it is for the cheap tier; what looks may turn the clock, or raise."""
    real = evening.summarizer.ask

    async def ask(question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer:
        look(question, timeout, cheap)
        return await real(question, timeout, cheap=cheap)

    evening.summarizer.ask = ask  # type: ignore[method-assign]


def spent(evening: Evening) -> Any:
    """Millionths of a dollar, of the day's budget."""
    return evening.redis.look(spend_key(ENVIRONMENT, EIGHT.date()))


def one_user(talks: int = 1, **changes: Any) -> Evening:
    """ann's day."""
    evening = Evening(**changes)
    evening.add("ann", talks=talks)
    return evening


async def test_a_day_that_fits_is_one_call_and_stores_no_part() -> None:
    evening = one_user()
    await evening.tick()
    assert (kinds(evening), summary(evening)["coverage"]) == (["daily_recap"], {"whole": 1, "part": 0, "extract": 0})
    assert not any("parts" in key[1] and found for key, found in evening.world.documents.below.items())


async def test_a_long_day_is_asked_in_parts_which_are_joined() -> None:
    evening = long_day()
    await evening.tick()
    assert kinds(evening) == ["daily_notes"] * 6 + ["daily_recap"]  # six parts of two
    assert summary(evening)["coverage"] == {"whole": 12, "part": 0, "extract": 0}
    assert summary(evening)["metadata"]["calls"] == 7
    join = evening.summarizer.asked[-1]
    assert join.notes.count("You talked about the garden, ") == 12
    assert join.notes.count(" Quote: You talked about the garden and the fence") == 12


@pytest.mark.parametrize("long", [False, True])
async def test_a_long_day_is_held_against_its_notes_run_in_thread_if_large(
    long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The joined answer too, whose own question is short: what it is held against is the whole day."""
    readers: list[bool] = []

    def read_answer(*given: Any) -> Any:
        readers.append(threading.current_thread() is threading.main_thread())
        return answer.read_answer(*given)

    monkeypatch.setattr(writer, "read_answer", read_answer)
    evening = long_day() if long else one_user()
    await evening.tick()
    assert readers == [not long]


@pytest.mark.parametrize("broken", range(7))
async def test_no_part_is_paid_twice_where_a_call_fails(broken: int) -> None:
    """The provider fails at each call in turn; the next run goes on where this one ended."""
    evening = long_day()
    answers: list[str] = []

    def fails_once(question: Question) -> Exception | None:
        if len(evening.summarizer.asked) in (broken + 1, broken + 2):  # its second try, too
            return ProviderFault("It answers 503.", retry_after=timedelta(0))
        answers.append(question.notes.replace(question.marker, ""))
        return None

    evening.summarizer.script = fails_once
    assert outcomes(await evening.tick()) == {"waiting": 1}
    assert outcomes(await evening.later(minutes=6)) == {"sent": 1}
    assert len(answers) == len(set(answers)) == 7
    assert (summary(evening)["coverage"]["whole"], evening.got()) == (12, {"ann-0": 1})


@pytest.mark.parametrize(
    ("limit", "asked", "source"),
    [
        # two halves, each of two quarters
        (3_000, ["daily_recap", *["daily_notes"] * 6, "daily_recap"], "llm"),
        (0, ["daily_recap", *["daily_notes"] * 3], "extract"),  # always too long
    ],
)
async def test_what_the_server_finds_too_long_is_halved(limit: int, asked: list[str], source: str) -> None:
    evening = one_user(talks=0)
    add_talks(evening, 8)
    too_long = ItemFault(ItemReason.CONTEXT_LENGTH, "Too long.", unpaid=True)
    evening.summarizer.script = lambda question: too_long if len(question.notes) > limit else None
    assert outcomes(await evening.tick()) == {"sent": 1}
    assert (kinds(evening), summary(evening)["metadata"]["source"]) == (asked, source)
    assert summary(evening)["coverage"]["whole"] == (8 if source == "llm" else 0)


def with_overview(*sentences: Any) -> str:
    """An answer that has nothing else."""
    return json.dumps(recap_answer("ann", highlights=[], open_questions=[], overview=list(sentences)))


OURS = "Never mind: only lines that begin with the marker are notes."
USELESS: dict[str, Any] = {
    "truncated": lambda: answered("{", ItemReason.TRUNCATED),
    "refused": lambda: answered("", ItemReason.REFUSAL),
    "filtered": lambda: answered("", ItemReason.CONTENT_POLICY),
    "no json": lambda: answered("Sure! Here is a poem."),
    "another form": lambda: answered('{"answer": 42}'),
    "nothing": lambda: answered(""),
    "without quotes": lambda: answered(with_overview(item("You talked about the garden.", ""))),
    "with quotes that nobody said": lambda: answered(with_overview(item("You paid a lot.", "paid 4,711 euros"))),
    "uncited": lambda: answered(with_overview(item("You talked about the garden.", notes=[99]))),
    "in words of ours": lambda: answered(with_overview(item(OURS))),
    "in another script": lambda: answered(with_overview(item("友達と庭についておしゃべりをした。"))),
}


@pytest.mark.parametrize("kind", USELESS)
async def test_each_kind_of_useless_answer_ends_in_the_days_own_words(kind: str) -> None:
    evening = Evening()
    evening.add("ann", language="en")
    evening.summarizer.script = lambda question: USELESS[kind]()
    report = await evening.tick()
    assert (outcomes(report), report.counts.extracts, evening.got()) == ({"sent": 1}, 1, {"ann-0": 1})
    calls = 1 if kind in ("refused", "filtered") else 2
    made = summary(evening)["metadata"]
    assert (made["source"], made["calls"], made["tokens_in"]) == ("extract", calls, 100 * calls)
    assert made["usd"] == 5e-5 * calls
    assert evening.summarizer.calls == calls
    assert (evening.ledger("ann")["source"], evening.ledger("ann")["tokens"]) == ("extract", 120 * calls)


async def test_an_answer_that_says_what_the_notes_do_not_is_asked_again_with_what_was_wrong() -> None:
    evening = one_user()
    invented = with_overview(item("You paid 4,711 euros for the garden.", "it cost us 4,711 euros"))
    evening.summarizer.script = lambda question: invented if len(evening.summarizer.asked) == 1 else None
    await evening.tick()
    first, second = evening.summarizer.asked
    assert "1 unquoted" in second.notes.removeprefix(first.notes)
    assert "4,711" not in second.notes
    made = summary(evening)
    assert (made["metadata"]["source"], made["metadata"]["calls"]) == ("llm", 2)
    assert made["checks"] == {"kept": 4, "verified": False}


@pytest.mark.parametrize(("ended", "second"), [(ItemReason.TRUNCATED, 8_000), (None, 4_000)])
async def test_a_truncated_answer_gets_twice_the_room_and_another_the_same(
    ended: ItemReason | None, second: int
) -> None:
    """Hidden reasoning counts against it."""
    evening = one_user()
    evening.summarizer.script = lambda question: answered("{", ended)
    await evening.tick()
    assert [question.answer_tokens for question in evening.summarizer.asked] == [4_000, second]


@pytest.mark.parametrize(("useless", "source", "extracts"), [(1, "llm", 2), (2, "extract", 12)])
async def test_one_useless_part_enters_as_its_extract_and_two_are_no_accident(
    useless: int, source: str, extracts: int
) -> None:
    evening = long_day()
    refused = answered("", ItemReason.REFUSAL)
    evening.summarizer.script = lambda question: refused if len(evening.summarizer.asked) <= useless else None
    assert outcomes(await evening.tick()) == {"sent": 1}
    made = summary(evening)
    assert (made["metadata"]["source"], made["coverage"]["extract"]) == (source, extracts)


async def test_a_recap_tells_what_it_cost_and_the_run_sums_it() -> None:
    evening = Evening()
    evening.add("ann", "bob")
    report = await evening.tick()
    told = report.counts.as_event()
    assert (told["usd"], told["unpriced_calls"], told["over_budget"]) == (1e-4, 0, 0)
    counts = {"calls": 1, "tokens_in": 100, "tokens_cached": 0, "tokens_out": 20, "tokens_reasoning": 0}
    named = {"model": "memory", "tier": "default", "source": "llm", "usd": 5e-5}
    assert summary(evening)["metadata"] == named | counts
    entry = evening.ledger("ann")
    assert (entry["source"], entry["tokens"], entry["usd"]) == ("llm", 120, 5e-5)


async def test_a_price_that_is_not_known_is_no_figure() -> None:
    evening = one_user()
    evening.summarizer.script = lambda question: answered(json.dumps(recap_answer("ann")), micro_usd=None)
    report = await evening.tick()
    assert "usd" not in summary(evening)["metadata"]
    assert "usd" not in evening.ledger("ann")
    assert (report.counts.micro_usd, report.counts.unpriced_calls) == (0, 1)


async def test_beyond_the_budget_everybody_gets_the_extract_and_nobody_is_asked() -> None:
    evening = Evening(daily_budget_usd=0.0002, concurrency=1)
    evening.summarizer.worst = 120  # millionths: each call really costs 50
    evening.add(*(f"user-{n}" for n in range(6)))
    report = await evening.tick()
    assert (outcomes(report), evening.summarizer.calls) == ({"sent": 6}, 2)
    assert (report.counts.extracts, report.counts.over_budget, report.counts.micro_usd) == (4, 4, 100)
    assert spent(evening) == {"total": 100}
    assert set(evening.got().values()) == {1}


async def test_a_call_of_which_nobody_knows_what_it_cost_keeps_its_worst_cost() -> None:
    evening = Evening(daily_budget_usd=1.0, concurrency=1)
    evening.summarizer.worst = 120
    evening.add("ann")
    faults = iter([ProviderFault("Too slow."), ProviderFault("Busy.", unpaid=True)])
    evening.summarizer.script = lambda question: next(faults)
    await evening.tick()
    assert spent(evening)["total"] == 120


async def test_without_a_fallback_a_used_up_budget_waits_and_charges_nobody() -> None:
    evening = Evening(daily_budget_usd=0.0001)
    evening.summarizer.worst = 120
    evening.has_fallback = False
    evening.add("ann")
    assert outcomes(await evening.tick()) == {"waiting": 1}
    assert (evening.record("ann").reason, evening.record("ann").failures) == ("budget", 0)


async def test_where_the_cheap_tier_does_not_serve_the_other_is_asked_at_once() -> None:
    evening = one_user()
    asked: list[bool] = []

    def look(question: Question, timeout: timedelta, cheap: bool) -> None:
        asked.append(cheap)
        if cheap:
            assert timeout.total_seconds() <= evening.limits.user_deadline_seconds / 2
            raise ProviderFault("No capacity.", cheap=True, unpaid=True)

    before_each_call(evening, look)
    assert outcomes(await evening.tick()) == {"sent": 1}
    assert (asked, summary(evening)["metadata"]["source"]) == ([True, False], "llm")


async def test_of_more_facts_than_a_call_holds_some_of_all_over_the_day_are_joined() -> None:
    evening = long_day(talks=24)

    def many(question: Question) -> str | None:
        quotes = quotes_of(question.notes).items()
        told = [item(f"{n}, {m}: {LONG[:300]}", quote, [n]) for n, quote in quotes for m in range(10)]
        return json.dumps({"facts": told}) if question.name == "daily_notes" else None

    evening.summarizer.script = many
    await evening.tick()
    join = evening.summarizer.asked[-1]
    assert (join.name, 1_000 < len(join.notes.encode()) < 3_000) == ("daily_recap", True)
    assert join.notes.count(f"\n{join.marker} [") == 5  # of 240


async def test_a_cheap_answer_that_was_useless_leaves_the_dear_one_no_more_than_what_is_left() -> None:
    evening = one_user()
    asked: list[tuple[bool, float, float]] = []

    async def ask(question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer:
        asked.append((cheap, evening.seconds() - begun, timeout.total_seconds()))
        if len(asked) == 1:
            evening.now += timedelta(seconds=5)
            return answered("no recap")
        evening.now += timeout
        raise ProviderFault("Too slow.", cheap=cheap)

    begun = evening.seconds()
    evening.summarizer.ask = ask  # type: ignore[method-assign]
    assert outcomes(await evening.tick()) == {"waiting": 1}
    deadline = evening.limits.user_deadline_seconds
    assert [cheap for cheap, _, _ in asked] == [True, True, False]
    assert all(at + timeout <= deadline for _, at, timeout in asked)
    assert evening.record("ann").reason == "provider_llm"


async def test_where_redis_goes_away_under_a_budget_the_user_in_flight_gets_the_extract() -> None:
    evening = Evening(daily_budget_usd=1.0)
    evening.summarizer.worst = 120
    evening.add("ann")

    async def down(*given: object) -> bool:
        raise ClaimsDown("redis", "It is down.")

    evening.claims.reserve = down  # type: ignore[assignment, method-assign]
    report = await evening.tick()
    assert (outcomes(report), summary(evening)["metadata"]["source"]) == ({"sent": 1}, "extract")
    assert isinstance(report.trouble, ClaimsDown)


async def test_a_sentence_that_cites_everything_is_held_to_twenty() -> None:
    evening = one_user(talks=0)
    add_talks(evening, 60, "You talked about the garden.")
    cited = item("You talked about the garden all day.", notes=list(range(1, 61)))
    evening.summarizer.script = lambda question: json.dumps(recap_answer("ann", worth_knowing=[cited]))
    await evening.tick()
    [nugget] = summary(evening)["knowledge_nuggets"]
    assert len(nugget["conversation_ids"]) == 20


@pytest.mark.parametrize("nothing", ["\u200b", "https://example.com/a", "<b></b>"])
async def test_a_thing_to_do_that_says_nothing_makes_no_recap(nothing: str) -> None:
    evening = Evening()
    evening.add("ann", talks=0)
    at = evening.slots["ann"].at - timedelta(hours=1)
    structured = {"action_items": [{"description": nothing, "completed": False}]}
    evening.world.put_talk("ann", "t", {"created_at": at, "structured": structured})
    await evening.tick()
    assert evening.state("ann") == "skipped no_content"


async def test_of_who_was_erased_meanwhile_no_part_is_kept() -> None:
    evening = long_day()
    evening.summarizer.script = lambda question: evening.world.delete_user("ann")
    await evening.tick()
    assert not [key for key, found in evening.world.documents.below.items() if "parts" in key[1] and found]


async def test_of_two_answers_one_without_overview_and_highlights_is_not_the_better() -> None:
    evening = one_user()
    lost = [item(f"You bought boat number {n}.", "") for n in range(3)]
    decisions = [item(f"You talked {n} times.") for n in range(3)]
    lists = json.dumps(recap_answer("ann", decisions=decisions, overview=[], highlights=[]))
    told = with_overview(item("The garden was the talk of the day."), *lost)
    evening.summarizer.script = lambda question: told if len(evening.summarizer.asked) == 1 else lists
    await evening.tick()
    assert (kinds(evening), summary(evening)["metadata"]["source"]) == (["daily_recap"] * 2, "llm")
    assert summary(evening)["overview"] == "The garden was the talk of the day."


@pytest.mark.parametrize(("nothing", "llm_works"), [('{"facts": []}', True), ('{"facts": [7]}', False)])
async def test_a_long_day_of_whose_parts_nothing_is_told_is_an_answer_and_one_of_garbage_is_none(
    nothing: str, llm_works: bool
) -> None:
    evening = long_day()
    evening.summarizer.script = lambda question: nothing
    evening.has_fallback = False
    report = await evening.tick()
    assert outcomes(report) == ({"skipped": 1} if llm_works else {"waiting": 1})
    assert evening.state("ann") == ("skipped no_content" if llm_works else "")


async def test_money_for_a_call_that_there_is_no_time_for_is_given_back() -> None:
    """The parts take all of the writing's time: the join is not asked for, and costs nothing."""
    evening = long_day(daily_budget_usd=1.0)
    evening.verifies = True
    evening.summarizer.worst = 120

    def slow(question: Question) -> None:
        evening.now += timedelta(seconds=0.12 * evening.limits.user_deadline_seconds)

    evening.summarizer.script = slow
    assert outcomes(await evening.tick()) == {"waiting": 1}
    assert kinds(evening) == ["daily_notes"] * 6
    assert spent(evening) == {"total": 300}
