"""The document: the draft's words, and what comes from the data alone."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from notifications.domain.model import ActionItem, Cited, Conversation, Draft, Place, Recap, Stop, Task
from notifications.recap.document import compose, recap_to, text_hash, text_to_deliver
from notifications.recap.material import Material

DATA = Path(__file__).parents[1] / "data"
DAY = date(2026, 5, 1)
AT = datetime(2026, 5, 1, 9, tzinfo=UTC)
DRAFT = Draft("Head", (Cited("Over"),), "🌤️")


def talk(key: str, *tasks: ActionItem, **changes: Any) -> Conversation:
    given: dict[str, Any] = {"started_at": AT, "finished_at": AT + timedelta(minutes=30), "overview": "They met."}
    return Conversation(key, AT, action_items=tasks, **(given | changes))


def composed(*talks: Conversation, zone: str = "UTC") -> Recap:
    return compose(Material(DAY, talks, None, zone), DRAFT, AT)


def test_a_recap_is_composed_whole() -> None:
    home = Place(48.2, 16.4, "Ring 1,\u202e Wien")
    talks = (talk("a", ActionItem("Buy seeds"), place=home), talk("b", started_at=None))
    recap = composed(*talks, zone="Europe/Vienna")
    assert recap == Recap(
        id=str(uuid.UUID(recap.id, version=4)),  # nobody else's, and not to be guessed
        date=DAY,
        created_at=AT,
        draft=DRAFT,
        total_conversations=2,
        total_duration_minutes=30,
        action_items=(Task("Buy seeds", False, "a"),),
        locations=(Stop(Place(48.2, 16.4, "Ring 1, Wien"), "a", "11:00"),),
        text_hash=text_hash(recap_to(recap)),
    )


STORED = json.loads((DATA / "recap_document.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["headline", "overview", "day_emoji", "highlights", "action_items", "decisions_made"])
def test_a_text_that_was_rewritten_has_another_hash(name: str) -> None:
    rewritten = STORED | {name: "other" if isinstance(STORED[name], str) else STORED[name][:-1]}
    assert len({text_hash(STORED), text_hash(rewritten), text_hash({})}) == 3


def test_what_is_not_delivered_does_not_change_the_hash() -> None:
    seen = STORED | {"visibility": "shared", "stats": {}, "metadata": {}}
    assert text_hash(seen) == text_hash(STORED)


def test_what_is_delivered_is_the_stored_text_without_the_conversations_own_words() -> None:
    assert text_to_deliver(STORED) == {
        "headline": "Head",
        "overview": "Over. And 2 more.",
        "day_emoji": "🌤️",
        "highlights": [
            {
                "topic": "T",
                "emoji": "💬",
                "items": [
                    {"text": "S", "conversation_ids": ["t1"]},
                    {"text": "R.", "conversation_ids": ["t2"]},
                ],
            }
        ],
        "action_items": [
            {"description": "Call", "completed": False, "conversation_id": "t1"},
            {"description": "Buy", "completed": True, "conversation_id": "t2"},
        ],
        "unresolved_questions": [{"text": "Q?", "conversation_ids": ["t1"]}],
        "decisions_made": [{"text": "D.", "conversation_ids": ["t2", "t1"]}],
        "knowledge_nuggets": [{"text": "K.", "conversation_ids": []}],
    }


def test_open_tasks_come_first_each_once_and_done_where_it_was_done_at_last() -> None:
    first = talk("a", ActionItem("Paint", completed=True), ActionItem("Call"), ActionItem("Buy"))
    later = talk("b", ActionItem("Buy", completed=True), ActionItem("Sell"), ActionItem(" \u200b"))
    assert composed(first, later).action_items == (
        Task("Call", False, "a"),
        Task("Sell", False, "b"),
        Task("Paint", True, "a"),
        Task("Buy", True, "a"),
    )


def test_tasks_are_cleaned_and_bounded_since_people_and_servers_wrote_them() -> None:
    long, hostile = ActionItem("word " * 200_000), ActionItem("Call \x1b[2J\n\u202eher <b>now</b>")
    many = tuple(ActionItem(f"Item {n}") for n in range(2_000))
    items = composed(talk("a", long, hostile, *many)).action_items
    assert (len(items), len(items[0].description) <= 400, items[1].description) == (10, True, "Call her now")


def test_a_day_has_fifty_places_at_most() -> None:
    talks = [talk(str(n), place=Place(1.0, 2.0, "x" * 999)) for n in range(60)]
    locations = composed(*talks).locations
    assert (len(locations), len(locations[0].place.address)) == (50, 200)
