"""What the LLM answered: read, cited, cleaned and bounded, or refused."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime
from typing import Any

import pytest
from notifications.recap.checks import Checks

from notifications.domain.errors import ItemFault, ItemReason
from notifications.domain.model import Cited, Conversation, Draft, Highlight
from notifications.recap.answer import MAX_ANSWER_CHARS, read_answer
from notifications.recap.material import Material
from tests.support.web import recap_answer

AT = datetime(2026, 5, 1, 9, tzinfo=UTC)
SAID = "They met and ate soup, food and words, and they want to paint and fly. It costs 40. Who pays? The twentieth."
FOUND = Material(date(2026, 5, 1), tuple(Conversation(key, AT, overview=SAID) for key in "ab"), None)
WHOLE = {
    "headline": "A day",
    "overview": [{"text": "They met.", "notes": [1, 2, 1]}, {"text": "They ate.", "notes": [2]}],
    "day_emoji": "🌤️ sunny",
    "highlights": [{"topic": "Food", "emoji": "🍲", "summary": "Soup.", "notes": [2]}],
    "unresolved_questions": [{"text": "Who pays?", "notes": [1]}],
    "decisions_made": [{"text": "To paint.", "notes": [2]}],
    "knowledge_nuggets": [{"text": "It costs 40.", "notes": [1, 2]}],
}


def checks() -> Checks:
    return Checks(FOUND, [1, 2], "These are the instructions.", "q7k3x")


def read(**changes: Any) -> Draft:
    return read_answer(json.dumps(WHOLE | changes), checks())


def cited(text: str, *notes: Any) -> dict[str, Any]:
    return {"text": text, "notes": list(notes)}


def test_an_answer_is_read_whole() -> None:
    assert read_answer(json.dumps(WHOLE), checks()) == Draft(
        headline="A day",
        overview="They met. They ate.",
        day_emoji="🌤️",
        highlights=(Highlight("Food", "🍲", "Soup.", ("b",)),),
        unresolved_questions=(Cited("Who pays?", ("a",)),),
        decisions_made=(Cited("To paint.", ("b",)),),
        knowledge_nuggets=(Cited("It costs 40.", ("a", "b")),),
        checks={"kept": 6},
    )


@pytest.mark.parametrize("notes", [[], [0], [3], [-1], [1_234_567_890], [True], ["1"], [1.0]])
def test_a_sentence_without_a_citation_that_exists_is_dropped_and_counted(notes: list[Any]) -> None:
    draft = read(
        overview=[cited("They met.", 1), cited("They flew.", *notes)],
        decisions_made=[cited("To fly.", *notes)],
        highlights=[{"topic": "T", "emoji": "", "summary": "S", "notes": notes}],
    )
    assert (draft.overview, draft.decisions_made, draft.highlights) == ("They met.", (), ())
    assert draft.checks == {"kept": 3, "uncited": 3}


def test_a_citation_counts_where_one_of_its_numbers_exists() -> None:
    assert read(decisions_made=[cited("To paint.", 9, 2, 1, 2)]).decisions_made == (Cited("To paint.", ("b", "a")),)


def test_lists_and_texts_are_bounded_by_code() -> None:
    draft = read(
        headline="soup " * 100,
        overview=[cited("word " * 200, 1)] * 9,
        highlights=[{"topic": "food, " * 99, "emoji": "no", "summary": "soup " * 999, "notes": [1]}] * 6,
        knowledge_nuggets=[cited("", 1), *[cited("soup " * 200, 1)] * 5],
    )
    assert (len(draft.headline) <= 120, len(draft.overview) <= 1_500, draft.overview[-1]) == (True, True, "…")
    assert [(len(h.topic) <= 80, len(h.summary) <= 600, h.emoji) for h in draft.highlights] == [(True, True, "")] * 4
    assert [len(one.text) for one in draft.knowledge_nuggets] == [400] * 3


def test_a_list_without_end_is_read_to_its_twentieth() -> None:
    draft = read(decisions_made=[cited("", 1)] * 19 + [cited("The twentieth.", 1), cited("Beyond.", 1)])
    assert draft.decisions_made == (Cited("The twentieth.", ("a",)),)


def test_a_highlight_without_a_topic_is_named_by_its_summary_and_an_empty_one_is_none() -> None:
    untold = {"topic": "", "emoji": "💬", "summary": "", "notes": [1]}
    assert read(highlights=[untold, untold | {"summary": "Soup."}]).highlights == (
        Highlight("Soup.", "💬", "Soup.", ("a",)),
    )


def test_an_answer_may_be_as_long_as_no_recap_is() -> None:
    text = json.dumps(WHOLE)
    assert read_answer(text + " " * (MAX_ANSWER_CHARS - len(text)), checks()).headline == "A day"
    with pytest.raises(ItemFault, match="ValueError"):
        read_answer(text + " " * (MAX_ANSWER_CHARS - len(text) + 1), checks())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "JSONDecodeError"),
        ("not json", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("null", "TypeError"),
        ("{}", "no 'overview'"),
        (json.dumps(recap_answer("x", overview=[])), "ValueError"),
        (json.dumps(recap_answer("x", overview="They met.")), "TypeError"),
        (json.dumps(recap_answer("x", overview=[{"text": 7, "notes": [1]}])), "TypeError"),
        (json.dumps(recap_answer("x", highlights=[1])), "TypeError"),
        (json.dumps(recap_answer("secret words", decisions_made="none")), "TypeError"),
        (json.dumps(recap_answer("x") | {"headline": "A day \ud83d"}), "UnicodeEncodeError"),
        ("[" * 100_000, "RecursionError"),
    ],
)
def test_an_answer_off_the_schema_is_an_item_fault_that_quotes_nothing(text: str, why: str) -> None:
    with pytest.raises(ItemFault) as caught:
        read_answer(text, checks())
    assert str(caught.value) == f"The LLM's answer does not follow the recap's schema ({why})."
    assert caught.value.reason is ItemReason.INVALID_ANSWER


DRAFT = json.dumps(WHOLE | {"headline": "The draft", "overview": [cited("They flew.", 1)]})
THINKS = f"<think>Perhaps {DRAFT}, or {{this}}</think>"
TALK = "{so} " * 60


@pytest.mark.parametrize(
    "text",
    [
        f"{THINKS}\n{json.dumps(WHOLE)}",
        f"<THINK>Perhaps {DRAFT}</Think>\n```json\n{json.dumps(WHOLE)}\n```",
        f"Perhaps {DRAFT}\n</think>{json.dumps(WHOLE)}",  # what began it stands in the server's own template
        f"{THINKS}again: {THINKS}{json.dumps(WHOLE)} That is all.",
        f"{THINKS}{json.dumps(WHOLE)}<think>Was that right? {DRAFT}",
        f"◁think▷{DRAFT}◁/think▷{json.dumps(WHOLE)}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|channel|>final<|message|>{json.dumps(WHOLE)}",
        f"First {DRAFT}, then better {json.dumps(WHOLE)}.",
        f"{TALK}{json.dumps(WHOLE)}{TALK}",
        json.dumps([WHOLE]),
        json.dumps({"answer": WHOLE}),
        f"{json.dumps(WHOLE)} and {{}}, {{'a': 1}}, " + '{"facts": []}',
    ],
)
def test_what_counts_follows_the_thoughts_and_is_the_last_that_fits(text: str) -> None:
    assert read_answer(text, checks()).overview == "They met. They ate."


def test_an_answer_that_speaks_of_thoughts_is_left_as_it_is() -> None:
    said = read(overview=[cited("They met.", 1), cited("They ate </think> soup.", 1)])
    assert said.overview.startswith("They met. They ate")


@pytest.mark.parametrize("text", [f"<think>Perhaps {DRAFT}", f" \n<thinking>{DRAFT} </thin", f"{THINKS}<think>{DRAFT}"])
def test_thoughts_that_never_end_are_no_answer_but_one_that_was_cut(text: str) -> None:
    with pytest.raises(ItemFault) as caught:
        read_answer(text, checks())
    assert (caught.value.reason, "draft" in str(caught.value)) == (ItemReason.TRUNCATED, False)


@pytest.mark.parametrize("piece", ["{", "{x} ", '{"a":', '{"a":1}', "[{", '{"a":"', "<think>", "</think>"])
def test_no_answer_takes_longer_than_its_length_is_worth(piece: str) -> None:
    begun = time.process_time()
    with pytest.raises(ItemFault):
        read_answer(piece * (MAX_ANSWER_CHARS // len(piece)), checks())
    assert time.process_time() - begun < 1
