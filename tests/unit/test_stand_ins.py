"""What stands in for the parts of a draft that did not stand."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from notifications.domain.model import ActionItem, Cited, Conversation, Draft, Highlight
from notifications.domain.phrases import PHRASES
from notifications.recap.material import Material
from notifications.recap.stand_ins import counts_of, fill_in
from tests.support.rows import rows

AT = datetime(2026, 5, 1, 9, tzinfo=UTC)
A = Conversation("a", AT, title="Rent with Clara", action_items=(ActionItem("Pay"), ActionItem("Call", completed=True)))
B = Conversation("b", AT, started_at=AT + timedelta(minutes=90), overview="x")
C = Conversation("c", AT, title="t" * 81, overview="x")
M = Material(AT.date(), (A, B, C), "en", "Europe/Vienna")
COUNTS = "3 conversations, 1 thing to do"

RENT = Cited("You pay the rent on Friday.", ("a",), "rent on Friday")
FENCE = Cited("Tom paints the garden fence blue.", ("b",), "garden fence")
ILL = Cited("Clara fears that she is ill.", ("a",), "ill", private=True)
DRAFT = Draft(
    "Rent and fence",
    (RENT, FENCE),
    "🌤️",
    (Highlight("The rent", "🏠", (RENT,)), Highlight("The fence", "🎨", (FENCE,))),
    checks={"kept": 4, "verified": True},
    push="Tom paints your fence.",
)
SECRET = Highlight("Clara's illness", "🩺", (RENT, ILL))


def test_a_draft_that_stood_whole_is_left_as_it_is() -> None:
    assert fill_in(DRAFT, M) == DRAFT


def test_an_overview_that_fell_is_the_first_sentence_of_each_highlight() -> None:
    highlights = (Highlight("The rent", "🏠", (RENT, FENCE)), Highlight("Health", "🩺", (ILL,)))
    assert fill_in(replace(DRAFT, overview=(), highlights=highlights), M).overview == (RENT, ILL)


@pytest.mark.parametrize(("first", "topic"), [("a", "Rent with Clara"), ("b", "12:30"), ("c", "11:00")])
def test_a_topic_that_fell_is_its_conversations_title_else_its_time(first: str, topic: str) -> None:
    highlight = Highlight("", "🏠", (replace(RENT, conversation_ids=(first, "a")),))
    assert [one.topic for one in fill_in(replace(DRAFT, highlights=(highlight,)), M).highlights] == [topic]


@pytest.mark.parametrize(
    ("topics", "headline"),
    [
        (("The rent", "The fence", "More"), "The rent · The fence"),
        (("The rent",), "The rent"),
        (("r" * 80, "f" * 37), f"{'r' * 80} · {'f' * 37}"),
        (("r" * 80, "f" * 38), "r" * 80),
        (("", "The fence"), "Rent with Clara · The fence"),
        ((), COUNTS),
    ],
)
def test_a_headline_that_fell_is_the_first_two_topics_else_the_counts(topics: tuple[str, ...], headline: str) -> None:
    highlights = tuple(Highlight(topic, "", (RENT,)) for topic in topics)
    assert fill_in(replace(DRAFT, headline="", highlights=highlights), M).headline == headline


@pytest.mark.parametrize(
    ("overview", "push"),
    [
        ((RENT, FENCE), RENT.text),
        ((ILL, FENCE), FENCE.text),
        ((Cited("x" * 141), Cited("y" * 140)), "y" * 140),
        ((Cited("x" * 141), ILL), COUNTS),
        ((ILL,), COUNTS),
    ],
)
def test_a_push_that_fell_is_the_first_sentence_that_fits_else_the_counts(
    overview: tuple[Cited, ...], push: str
) -> None:
    assert fill_in(replace(DRAFT, push="", overview=overview), M).push == push


def test_a_push_that_fell_may_be_made_of_what_stands_in_for_the_overview() -> None:
    draft = fill_in(replace(DRAFT, push="", overview=(), highlights=(SECRET,)), M)
    assert (draft.overview, draft.push) == ((RENT,), RENT.text)


@pytest.mark.parametrize(
    ("highlights", "headline"),
    [
        ((SECRET,), COUNTS),
        ((SECRET, *DRAFT.highlights), "The rent · The fence"),
        ((Highlight("", "🩺", (ILL,)),), COUNTS),
    ],
)
def test_nothing_confided_stands_in_for_a_headline_or_a_push(highlights: tuple[Highlight, ...], headline: str) -> None:
    draft = fill_in(replace(DRAFT, headline="", push="", overview=(ILL,), highlights=highlights), M)
    assert (draft.headline, draft.push) == (headline, COUNTS)


@pytest.mark.parametrize("checks", [{"kept": 4}, {"kept": 4, "verified": False}, {}])
def test_a_push_that_nobody_looked_at_is_the_counts_below_the_headline(checks: dict[str, int | bool]) -> None:
    draft = fill_in(replace(DRAFT, checks=checks), M)
    assert (draft.headline, draft.push) == (DRAFT.headline, COUNTS)


LOST = "On Friday Tom paints your garden fence with Clara."


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        ("Tom paints the garden fence.", False),  # Tom, paints, garden, fence
        ("Painting a garden fence with Tom", False),  # what two forms of a word begin with
        ("Tom paints a garden.", True),
        ("You will pay, and Clara is glad.", True),
    ],
)
def test_a_headline_or_push_that_says_what_was_dropped_falls_with_it(text: str, stands: bool) -> None:
    draft = fill_in(replace(DRAFT, headline=text, push=text, dropped=("Nothing much.", LOST)), M)
    assert (draft.headline, draft.push) == ((text, text) if stands else ("The rent · The fence", RENT.text))


@pytest.mark.parametrize(("language", "lost", "text", "stands"), rows("languages", "dropped"))
def test_what_was_dropped_is_known_again_in_any_language(
    language: str | None, lost: str, text: str, stands: bool
) -> None:
    m = replace(M, language=language)
    assert (fill_in(replace(DRAFT, headline=text, dropped=(lost,)), m).headline == text) is stands


def test_only_what_is_left_to_do_is_counted_and_each_thing_once() -> None:
    tasks = (ActionItem("Pay"), ActionItem(" Pay "), ActionItem("**Pay**"), ActionItem("\u200b"))
    m = Material(AT.date(), (replace(A, action_items=tasks),), "en")
    assert counts_of(m) == "1 conversation, 1 thing to do"
    assert counts_of(replace(m, conversations=(B,))) == "1 conversation"
    assert counts_of(replace(m, conversations=())) == "Your recap is ready."


@pytest.mark.parametrize("language", sorted(PHRASES))
def test_counts_and_fallbacks_fit_where_they_stand_in_each_language(language: str) -> None:
    many = Material(AT.date(), tuple(replace(A, id=f"c{n}") for n in range(999)), language)
    draft = fill_in(Draft("", (ILL,), ""), many)
    assert draft.headline == draft.push == counts_of(many)
    assert len(draft.push) <= 60


@pytest.mark.parametrize("push", ["Clara fears that she is ill.", "Clara fears she is very ill now."])
def test_what_is_confided_is_neither_push_nor_headline_though_the_llm_wrote_it_there(push: str) -> None:
    """The same sentence is not confided in the overview: what is so once is so everywhere."""
    told = replace(ILL, private=False)
    draft = replace(DRAFT, overview=(told, FENCE), highlights=(SECRET,), push=push, headline="Clara fears she is ill")
    made = fill_in(draft, M)
    assert (made.headline, made.push) == (COUNTS, FENCE.text)


def test_things_to_do_of_any_length_are_counted_in_time() -> None:
    tasks = tuple(ActionItem(f"{n} {'Pay the <b rent ' * 1_200}") for n in range(200))
    begun = time.process_time()
    assert counts_of(Material(AT.date(), (replace(A, action_items=tasks),), "en")) == "1 conversation, 200 things to do"
    assert time.process_time() - begun < 1
