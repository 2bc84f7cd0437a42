"""The document: the draft's words, and what comes from the data alone."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

from notifications.domain.model import ActionItem, Cited, Conversation, Draft, Place, Recap, Stop, Task
from notifications.recap.document import compose
from notifications.recap.material import Material

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
    )


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
