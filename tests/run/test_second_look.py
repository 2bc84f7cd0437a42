"""The second look in a whole run: what it costs a recap, and what its own faults do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from notifications.domain.errors import ConfigFault, ItemFault, ItemReason, ProviderFault
from notifications.domain.question import Question
from notifications.ports import Answer
from notifications.recap import verify
from notifications.recap.verify import NAME, QUOTE
from notifications.run.termination import Termination
from notifications.testing.answers import Refuses, item, recap_answer, verdicts_answer
from tests.run.test_recap import add_talks, before_each_call, kinds, long_day, overview, spent, summary, with_overview
from tests.support.evening import Evening, outcomes

DOWN = ProviderFault("It answers 503.", retry_after=timedelta(0))
TOO_LONG = ItemFault(ItemReason.CONTEXT_LENGTH, "Too long.", unpaid=True)
RECAP = "daily_recap"
Script = Callable[[Question], Exception | str | None]
COUNTS = "1 conversation, 1 thing to do"
EMPTY = json.dumps(recap_answer("ann", highlights=[], open_questions=[], overview=[], headline="", push=""))


def looked_at(uids: tuple[str, ...] = ("ann",), **changes: Any) -> Evening:
    """An evening whose recaps are looked at a second time."""
    evening = Evening(**changes)
    evening.verifies = True
    evening.add(*uids)
    return evening


def verdicts(question: Question, refuses: Refuses) -> str:
    """What a judge answers who says no to what it is told to, and knows a quote when it sees one."""
    return json.dumps(verdicts_answer(question.notes, lambda role, text: role != QUOTE and refuses(role, text)))


def refusing(refuses: Refuses) -> Script:
    """That judge, beside an LLM that writes as ever."""
    return lambda question: verdicts(question, refuses) if question.name == NAME else None


def writing(answer: Any) -> Script:
    """That recap, and a judge who lets all pass."""
    return lambda question: json.dumps(answer) if question.name != NAME else None


def one_of(name: str, fault: Exception) -> Script:
    """Questions of that name fail."""
    return lambda question: fault if question.name == name else None


def kept(evening: Evening) -> list[Any]:
    """What is stored beside ann's day, so that it is not paid twice."""
    found = evening.world.documents.collection("ann", f"recap_deliveries/{evening.slots['ann'].recap_date}/recap_parts")
    return [one.doc["paid"] for one in found.values()]


async def with_a_draft(**changes: Any) -> Evening:
    """ann's recap is written, and waits for a second look that is down."""
    evening = looked_at(**changes)
    evening.summarizer.script = one_of(NAME, DOWN)
    assert outcomes(await evening.tick()) == {"waiting": 1}
    return evening


def check_sent_unverified(evening: Evening) -> None:
    """The draft as it is, and a push that says nothing of it but the counts."""
    made = summary(evening)
    assert (made["metadata"]["source"], made["headline"]) == ("llm", "A day of memory")
    assert made["checks"] == {"kept": 4, "verified": False}
    assert evening.push.got["ann-0"][0].body == COUNTS
    assert evening.ledger("ann")["verified"] is False


async def test_an_ordinary_day_is_one_answer_and_one_second_look() -> None:
    evening = looked_at()
    report = await evening.tick()
    assert (kinds(evening), report.llm_calls, kept(evening)) == ([RECAP, NAME], 2, [])
    made = summary(evening)
    assert made["checks"] == {"kept": 4, "verified": True}
    assert (made["metadata"]["calls"], made["metadata"]["verify_model"], made["metadata"]["usd"]) == (2, "memory", 1e-4)
    assert (evening.ledger("ann")["tokens"], evening.ledger("ann")["usd"]) == (240, 1e-4)
    assert evening.push.got["ann-0"][0].body == "You talked about memory and more."


async def test_a_long_day_has_one_second_look_more() -> None:
    evening = long_day()
    evening.verifies = True
    await evening.tick()
    assert kinds(evening) == [*["daily_notes"] * 6, RECAP, NAME]
    assert "Quote:" not in evening.summarizer.asked[-1].notes  # a part's facts are no evidence for themselves
    assert summary(evening)["checks"]["verified"] is True


def asked(evening: Evening, name: str) -> int:
    return kinds(evening).count(name)


def refuses_most_at_first(evening: Evening) -> Script:
    return refusing(lambda role, text: asked(evening, RECAP) == 1 and text != "A good one.")


def refuses_more_of_the_second(evening: Evening) -> Script:
    return refusing(
        lambda role, text: text != "A good one." and (asked(evening, RECAP) == 2 or text != "It went well.")
    )


def unquoted_at_first(evening: Evening) -> Script:
    no = refusing(lambda role, text: True)
    first = with_overview(item("You talked.", ""))
    return lambda question: first if len(evening.summarizer.asked) == 1 else no(question)


def poor_twice(evening: Evening) -> Script:
    lost = [item(f"You bought boat number {n}.", "") for n in range(3)]
    found = [item("The garden was the talk of the day."), item("Somebody talked about the garden.")]
    answers = {1: with_overview(*found, *lost), 2: with_overview(found[0], *lost)}
    return lambda question: answers.get(len(evening.summarizer.asked))


def lists_alone_again(evening: Evening) -> Script:
    no = refusing(lambda role, text: text != "It went well." and "times" not in text)
    lists: dict[str, Any] = {
        "decisions": [item(f"You talked {n} times.") for n in range(3)],
        "overview": [item("You bought a boat.")],
    }
    answer = json.dumps(recap_answer("ann", **lists, highlights=[], push="", headline=""))
    return lambda question: answer if question.name != NAME and asked(evening, RECAP) == 2 else no(question)


SAID_TWICE = "Noah paints the tall garden fence on Sunday."
ALL = ["You talked about memory and more.", "It went well."]
# What is asked, what the overview then says, and the counts; None: the day's own words are sent.
ANSWERS: dict[str, tuple[Callable[[Evening], Script], list[str], list[str] | None, dict[str, Any]]] = {
    "one is refused": (
        lambda evening: refusing(lambda role, text: text == "It went well."),
        *([RECAP, NAME], ALL[:1], {"kept": 4, "unsupported": 1}),
    ),
    "most is refused, and the second is better": (refuses_most_at_first, [RECAP, NAME] * 2, ALL, {"kept": 4}),
    "the second is worse": (
        refuses_more_of_the_second,
        *([RECAP, NAME] * 2, ["It went well."], {"kept": 4, "unsupported": 5}),
    ),
    "nothing is left of both": (
        lambda evening: refusing(lambda role, text: True),
        *([RECAP, NAME] * 2, None, {}),
    ),
    "no third time": (unquoted_at_first, [RECAP, RECAP, NAME], None, {}),
    "the one with more evidence": (
        poor_twice,
        [RECAP, RECAP, NAME],
        ["The garden was the talk of the day.", "Somebody talked about the garden."],
        {"kept": 2, "unquoted": 3},
    ),
    "lists alone are not better": (
        lists_alone_again,
        [RECAP, NAME] * 2,
        ["It went well."],
        {"kept": 4, "unsupported": 6},
    ),
    "an empty answer is an answer": (lambda evening: lambda question: EMPTY, [RECAP], None, {}),
    "a sentence twice": (
        lambda evening: writing(recap_answer("ann", worth_knowing=[item(SAID_TWICE)] * 2, push=SAID_TWICE)),
        *([RECAP, NAME], ["You talked about ann and more.", "It went well."], {"kept": 5, "twice": 1}),
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_of_one_or_two_writings_the_one_with_more_evidence_is_kept(name: str) -> None:
    """At most four paid answers an ordinary day."""
    script, questions, texts, checks = ANSWERS[name]
    evening = looked_at()
    evening.summarizer.script = script(evening)
    assert outcomes(await evening.tick()) == {"sent": 1}
    made = summary(evening)
    assert (kinds(evening), made["metadata"]["calls"]) == (questions, len(questions))
    assert made["metadata"]["source"] == ("extract" if texts is None else "llm")
    if texts is not None:
        assert (overview(evening), made["checks"]) == (texts, checks | {"verified": True})
    if name.startswith("most"):
        assert "most of its sentences do not follow" in evening.summarizer.asked[2].notes
    if name == "a sentence twice":
        assert evening.push.got["ann-0"][0].body == SAID_TWICE


@pytest.mark.parametrize(
    "fault",
    [DOWN, ProviderFault("No quota.", final=True), ItemFault(ItemReason.REFUSAL, "No.")],
    ids=["down", "no quota", "refused"],
)
@pytest.mark.parametrize("broken", [RECAP, NAME])
async def test_no_fault_of_a_second_writing_costs_the_first(fault: Exception, broken: str) -> None:
    evening = looked_at()

    def second_fails(question: Question) -> Exception | str | None:
        if kinds(evening).count(RECAP) == 2 and question.name == broken:
            return fault
        return refusing(lambda role, text: text != "It went well.")(question)

    evening.summarizer.script = second_fails
    assert outcomes(await evening.tick()) == {"sent": 1}
    assert (overview(evening), kept(evening)) == (["It went well."], [])
    assert summary(evening)["checks"]["verified"] is True


async def test_an_empty_answer_to_a_day_that_tells_nothing_is_no_content() -> None:
    evening = Evening(min_words=0)
    evening.add("ann", talks=0)
    add_talks(evening, 1, "it was all right then.")
    evening.summarizer.script = lambda question: EMPTY
    assert outcomes(await evening.tick()) == {"skipped": 1}
    assert (kinds(evening), evening.state("ann"), evening.got()) == ([RECAP], "skipped no_content", {})


async def test_a_draft_waits_for_its_second_look_and_is_not_written_twice() -> None:
    evening = await with_a_draft()
    assert (evening.record("ann").reason, evening.record("ann").failures) == ("provider_second_look", 0)
    [draft] = [one for one in kept(evening) if one["headline"]]  # beside it is what the try has cost
    assert (draft["headline"], evening.world.summaries("ann"), evening.got()) == ("A day of memory", {}, {})
    evening.summarizer.script = lambda question: None
    assert outcomes(await evening.later(minutes=6)) == {"sent": 1}
    assert kinds(evening) == [RECAP, NAME, NAME, NAME]
    made = summary(evening)
    assert (made["checks"]["verified"], made["metadata"]["calls"], made["metadata"]["tokens_in"]) == (True, 4, 200)


async def test_a_draft_of_another_days_material_is_not_taken() -> None:
    evening = await with_a_draft()
    at = evening.slots["ann"].at - timedelta(hours=3)
    evening.world.put_talk("ann", "late", {"created_at": at, "structured": {"overview": "Tom talked of the fence."}})
    evening.summarizer.script = lambda question: None
    await evening.later(minutes=6)
    assert kinds(evening) == [RECAP, NAME, NAME, RECAP, NAME]


async def test_who_is_erased_before_the_second_look_has_no_draft_kept() -> None:
    evening = looked_at()

    def erases(question: Question) -> Exception | None:
        if question.name == NAME:
            evening.world.delete_user("ann")
            return DOWN
        return None

    evening.summarizer.script = erases
    await evening.tick()
    assert kept(evening) == []


async def test_what_a_draft_lost_costs_its_push_in_the_next_run_too() -> None:
    """A push that shares four content words with a sentence that had no evidence falls with it."""
    evening = looked_at()
    lost = item("Tom sold the yellow sailing boat in Hamburg.", "")
    answer = recap_answer("ann", worth_knowing=[lost], push="Tom sold his yellow sailing boat.")
    waits = iter([True, True])
    evening.summarizer.script = lambda question: (
        writing(answer)(question) or (DOWN if next(waits, False) else None)  # of the second look alone
    )
    assert outcomes(await evening.tick()) == {"waiting": 1}
    assert outcomes(await evening.later(minutes=6)) == {"sent": 1}
    assert kinds(evening).count(RECAP) == 1
    assert evening.push.got["ann-0"][0].body == "You talked about ann and more."


async def test_a_defect_of_the_second_look_loses_no_recap(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*given: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(verify, "second_look", breaks)
    evening = looked_at()
    report = await evening.tick()
    assert (outcomes(report), report.defects, kinds(evening)) == ({"sent": 1}, 1, [RECAP])
    check_sent_unverified(evening)


REFUSED = ItemFault(ItemReason.REFUSAL, "No.", unpaid=True)


@pytest.mark.parametrize(
    ("budget", "fault", "asked", "over", "total"),
    [
        (0.0002, None, [], 3, 0),  # enough for one writing, and not for its second look
        (0.00035, None, [RECAP, NAME] * 2, 1, 200),  # settled by what they cost
        (1.0, REFUSED, [RECAP] * 3, 0, 0),  # no second look: what was reserved for it is given back
    ],
)
async def test_both_worst_costs_are_reserved_before_the_first_call(
    budget: float, fault: Exception | None, asked: list[str], over: int, total: int
) -> None:
    evening = looked_at(("ann", "bob", "cem"), daily_budget_usd=budget, concurrency=1)
    evening.summarizer.worst = 120
    evening.summarizer.script = lambda question: fault
    report = await evening.tick()
    assert (outcomes(report), kinds(evening)) == ({"sent": 3}, asked)
    assert (report.counts.over_budget, spent(evening)) == (over, {"total": total})


async def test_where_no_money_is_left_for_the_second_look_alone_the_draft_goes_without() -> None:
    evening = await with_a_draft(daily_budget_usd=0.00035)
    evening.summarizer.worst = 400
    assert outcomes(await evening.later(minutes=6)) == {"sent": 1}
    assert kinds(evening) == [RECAP, NAME, NAME]
    check_sent_unverified(evening)


async def test_a_verify_model_that_is_refused_ends_second_looks_once_and_every_recap_is_sent() -> None:
    evening = looked_at(tuple(f"user-{n}" for n in range(6)))
    refused = ProviderFault("OPENAI_VERIFY_MODEL is unknown there.", config=True, unpaid=True)
    evening.summarizer.script = one_of(NAME, refused)
    report = await evening.tick()
    assert (outcomes(report), report.stopped_early) == ({"sent": 6}, False)
    assert (kinds(evening).count(RECAP), kinds(evening).count(NAME)) == (6, 1)
    assert isinstance(report.trouble, ConfigFault)
    for uid in evening.slots:
        [made] = evening.world.summaries(uid).values()
        assert (made["metadata"]["source"], made["checks"]["verified"]) == ("llm", False)
        assert evening.push.got[f"{uid}-0"][0].body == COUNTS


async def test_the_operators_style_stands_in_what_writes_the_recap_and_nowhere_else() -> None:
    style = "Write like a dry old captain and always mention the weather first."
    for evening in (looked_at(), long_day()):
        evening.style, evening.verifies = style, True
        await evening.tick()
        assert {one.name: style in one.instructions for one in evening.summarizer.asked} == {
            name: name == RECAP for name in set(kinds(evening))
        }


async def test_a_recap_may_repeat_the_operators_own_words() -> None:
    evening = looked_at()
    evening.style = "End every overview with: and that was the garden as it stood today, dear reader."
    sentence = "And that was the garden as it stood today, dear reader."
    evening.summarizer.script = writing(recap_answer("ann", overview=[item(sentence)]))
    await evening.tick()
    assert summary(evening)["overview"] == sentence


async def test_a_draft_is_found_again_after_its_next_run_was_stopped() -> None:
    """The claim's reason is then another; what was paid is paid all the same."""
    evening = await with_a_draft()
    real = evening.summarizer.ask

    async def never(question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer:
        evening.terminated.set()
        evening.summarizer.asked.append(question)
        await asyncio.sleep(3_600)
        raise AssertionError("unreachable")

    evening.summarizer.ask = never  # type: ignore[method-assign]
    assert outcomes(await evening.later(minutes=6)) == {"stopped": 1}
    assert (evening.record("ann").reason, evening.record("ann").failures) == ("stopped", 0)
    evening.summarizer.ask = real  # type: ignore[method-assign]
    evening.summarizer.script, evening.terminated = lambda question: None, Termination()
    assert outcomes(await evening.later(minutes=1)) == {"sent": 1}
    assert kinds(evening) == [RECAP, NAME, NAME, NAME, NAME]


@pytest.mark.parametrize("has_fallback", [True, False])
async def test_the_closing_pass_sends_a_draft_that_waits_and_asks_no_llm(has_fallback: bool) -> None:
    evening = await with_a_draft()
    evening.has_fallback = has_fallback
    calls = evening.summarizer.calls
    assert outcomes(await evening.later(hours=2, minutes=5)) == {"sent": 1}
    assert evening.summarizer.calls == calls
    check_sent_unverified(evening)


async def test_without_a_draft_the_closing_pass_of_a_run_without_a_fallback_misses_the_day() -> None:
    evening = looked_at()
    evening.has_fallback = False
    evening.summarizer.script = one_of(RECAP, DOWN)
    assert outcomes(await evening.tick()) == {"waiting": 1}
    await evening.later(hours=2, minutes=5)
    assert (evening.state("ann"), evening.got()) == ("missed closed", {})


async def test_where_no_pass_is_left_a_draft_is_sent_without_its_second_look() -> None:
    evening = await with_a_draft()
    assert outcomes(await evening.later(hours=1, minutes=52)) == {"waiting": 1}
    assert outcomes(await evening.later(minutes=2)) == {"sent": 1}
    assert kinds(evening).count(RECAP) == 1
    check_sent_unverified(evening)


async def test_the_writing_ends_at_seventy_percent_of_the_deadline_and_the_second_look_has_the_rest() -> None:
    """Each call is slow, and uses up what it is given but for a second."""
    evening = looked_at()
    given: dict[str, list[tuple[float, float]]] = {RECAP: [], NAME: []}
    begun = evening.seconds()

    def slow(question: Question, timeout: timedelta, cheap: bool) -> None:
        given[question.name].append((evening.seconds() - begun, timeout.total_seconds()))
        evening.now += timeout - timedelta(seconds=1)

    before_each_call(evening, slow)
    assert outcomes(await evening.tick()) == {"sent": 1}
    whole = 0.95 * evening.limits.user_deadline_seconds
    [(at, seconds)], [(later, rest)] = given[RECAP], given[NAME]
    assert (at, round(seconds, 3)) == (0, round(0.7 * whole / 2, 3))  # the second half is for the second try
    assert round(later + 2 * rest, 3) == round(whole, 3)
    assert summary(evening)["checks"]["verified"] is True


async def test_a_writing_that_takes_all_of_its_time_leaves_the_rest_unused_and_charges_nobody() -> None:
    evening = looked_at()
    begun = evening.seconds()

    def hangs(question: Question, timeout: timedelta, cheap: bool) -> None:
        evening.summarizer.asked.append(question)
        evening.now += timeout
        raise ProviderFault("Too slow.")

    before_each_call(evening, hangs)
    assert outcomes(await evening.tick()) == {"waiting": 1}
    assert set(kinds(evening)) == {RECAP}
    assert evening.seconds() - begun <= 0.7 * 0.95 * evening.limits.user_deadline_seconds
    assert (evening.record("ann").reason, evening.record("ann").failures) == ("provider_llm", 0)


async def test_no_second_writing_is_begun_with_less_than_forty_percent_of_the_deadline() -> None:
    evening = looked_at()

    def slow(question: Question) -> Exception | str | None:
        evening.now += timedelta(seconds=0.31 * evening.limits.user_deadline_seconds)
        return refusing(lambda role, text: text != "It went well.")(question)

    evening.summarizer.script = slow
    assert outcomes(await evening.tick()) == {"sent": 1}
    assert (kinds(evening), overview(evening)) == ([RECAP, NAME], ["It went well."])


async def test_a_second_look_that_the_server_finds_too_long_is_asked_for_in_less() -> None:
    evening = looked_at(())
    evening.add("ann", talks=0)
    add_talks(evening, 6)
    evening.summarizer.script = lambda question: (
        TOO_LONG if question.name == NAME and len(question.notes) > 1_600 else None
    )
    await evening.tick()
    assert (kinds(evening)[0], set(kinds(evening)[1:])) == (RECAP, {NAME})
    sizes = [len(one.notes) for one in evening.summarizer.asked[1:]]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[-1] <= 1_600, summary(evening)["checks"]["verified"]) == (True, True)


async def test_a_second_look_that_is_too_long_whatever_is_left_out_costs_nobody_the_recap() -> None:
    evening = looked_at()
    evening.summarizer.script = one_of(NAME, TOO_LONG)
    assert outcomes(await evening.tick()) == {"sent": 1}
    assert kinds(evening) == [RECAP, *[NAME] * 4]
    check_sent_unverified(evening)
