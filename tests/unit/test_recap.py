"""The prompt, the answer's schema, and the document."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.adapters.summarizers.offline import OfflineSummarizer
from notifications.domain.errors import ItemFault, ItemReason
from notifications.domain.model import ActionItem, Conversation, Draft, Highlight
from notifications.domain.recap.answer import read_answer
from notifications.domain.recap.material import MAX_CONVERSATIONS, Material, compose, material
from notifications.domain.recap.prompt import MAX_PROMPT_CHARS, prompt
from tests.support.web import recap_answer

DAY = date(2026, 5, 1)
AT = datetime(2026, 5, 1, 9, tzinfo=UTC)


def talk(key: str, overview: str = "They met.", **changes: Any) -> Conversation:
    given: dict[str, Any] = {"started_at": AT, "finished_at": AT + timedelta(minutes=30)} | changes
    return Conversation(key, AT, title=f"Title {key}", overview=overview, **given)


def test_a_day_of_titles_alone_has_nothing_to_say() -> None:
    assert material(DAY, [talk("a", "")], None) is None
    assert material(DAY, [], "en") is None


@pytest.mark.parametrize(
    "told", [{"action_items": (ActionItem("Call"),)}, {"events": ("Dinner",)}, {"transcript": "Hello."}]
)
def test_anything_beyond_a_title_is_worth_a_recap(told: dict[str, Any]) -> None:
    assert material(DAY, [talk("a", "", **told)], None) is not None


def test_the_language_is_the_users_else_the_conversations() -> None:
    talks = [talk("a", language="de"), talk("b", language="de"), talk("c", language="fr")]
    assert material(DAY, talks, "pt").language == "pt"  # type: ignore[union-attr]
    assert material(DAY, talks, None).language == "de"  # type: ignore[union-attr]
    assert "language of the notes" in prompt(Material(DAY, (talk("a"),), None))


def test_a_prompt_stays_bounded_and_keeps_the_newest() -> None:
    talks = tuple(talk(str(n), "x" * 1500) for n in range(200))
    found = material(DAY, talks, None)
    assert found is not None
    assert len(found.conversations) == MAX_CONVERSATIONS
    text = prompt(found)
    assert len(text) < MAX_PROMPT_CHARS + 1000
    assert "Title 199" in text
    assert "Title 100\n" not in text


FOUND = Material(DAY, (talk("a", action_items=(ActionItem("Buy seeds"),)), talk("b")), None)


def test_an_answer_becomes_a_document_with_figures_from_the_data() -> None:
    answer = recap_answer(
        "x", highlights=[{"topic": "T", "emoji": "💬", "summary": "S", "conversations": [2, 2, 9]}] * 6
    )
    draft = read_answer(json.dumps(answer), FOUND, {"model": "m"})
    recap = compose(FOUND, draft, AT)
    assert draft.highlights == (Highlight("T", "💬", "S", ("b",)),) * 4
    assert (recap.id, recap.total_conversations, recap.total_duration_minutes) == ("2026-05-01", 2, 60)
    assert recap.action_items == (ActionItem("Buy seeds"),)


def test_action_items_are_cleaned_and_bounded_since_people_and_servers_wrote_them() -> None:
    long = ActionItem("word " * 200_000)
    hostile = ActionItem("Call \x1b[2J\n\u202eher <b>now</b>")
    many = tuple(ActionItem(f"Item {n}") for n in range(200))
    recap = compose(Material(DAY, (talk("a", action_items=(long, hostile, *many)),), None), draft_of(), AT)
    assert len(recap.action_items) == 50
    assert len(recap.action_items[0].description) <= 400
    assert recap.action_items[1].description == "Call her now"


def draft_of() -> Draft:
    return read_answer(json.dumps(recap_answer("x")), FOUND, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "null",
        "{}",
        json.dumps(recap_answer("x", headline="")),
        json.dumps(recap_answer("x", overview=7)),
        json.dumps(recap_answer("x", highlights=[1])),
        json.dumps(recap_answer("secret words", decisions_made="none")),
    ],
)
def test_an_answer_off_the_schema_is_an_item_fault_that_quotes_nothing(text: str) -> None:
    with pytest.raises(ItemFault, match="does not follow the recap's schema") as caught:
        read_answer(text, FOUND, {})
    assert caught.value.reason is ItemReason.INVALID_ANSWER
    assert "secret" not in str(caught.value)


async def test_the_offline_recap_is_readable_and_says_that_it_is_offline() -> None:
    talks = (talk("a", "We agreed to paint it blue. Who buys the paint?"), talk("b", "", transcript="It costs 40."))
    draft = await OfflineSummarizer().summarize(Material(DAY, talks, None), timedelta(seconds=1))
    assert draft.headline == "Title a and Title b"
    assert draft.overview == "We agreed to paint it blue. It costs 40."
    assert draft.unresolved_questions == ("Who buys the paint?",)
    assert draft.decisions_made == ("We agreed to paint it blue.",)
    assert draft.knowledge_nuggets == ("It costs 40.",)
    assert draft.metadata == {"model": "extractive", "offline": True}
