"""The stored recap, read as the app's own data model has it: these shapes, these types, and no other."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tests.support.jobs import Stage
from tests.support.web import completion, recap_answer
from tests.support.worlds import talk

Text = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """No number for a text, no text for a number; what is new stands beside it."""

    model_config = ConfigDict(strict=True)


class Highlight(Strict):
    topic: Text
    emoji: str
    summary: str
    conversation_ids: Annotated[list[Text], Field(min_length=1)]


class ActionItem(Strict):
    description: Text
    completed: bool
    priority: Literal["high", "medium"]
    source_conversation_id: Text


class Question(Strict):
    question: Text
    conversation_id: Text


class Decision(Strict):
    decision: Text
    conversation_id: Text


class Nugget(Strict):
    insight: Text
    conversation_id: Text


class Location(Strict):
    latitude: float
    longitude: float
    address: str
    conversation_id: Text
    time: Annotated[str, Field(pattern=r"^\d\d:\d\d$")]


class Stats(Strict):
    total_conversations: int
    total_duration_minutes: int
    action_items_count: int


class DailySummary(Strict):
    """As the app reads users/{uid}/daily_summaries/{date}."""

    id: Text
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    created_at: Any
    headline: Text
    overview: Text
    day_emoji: str
    stats: Stats
    highlights: Annotated[list[Highlight], Field(max_length=4)]
    action_items: Annotated[list[ActionItem], Field(max_length=10)]
    unresolved_questions: Annotated[list[Question], Field(max_length=3)]
    decisions_made: Annotated[list[Decision], Field(max_length=3)]
    knowledge_nuggets: Annotated[list[Nugget], Field(max_length=3)]
    locations: list[Location]


@pytest.mark.parametrize("by", ["llm", "extract"])
def test_a_stored_recap_is_what_the_app_reads(stage: Stage, by: str) -> None:
    slot = stage.add_user("ann", talks={})
    at = slot.at - timedelta(hours=2)
    told = talk("ann", at)
    told["structured"] |= {
        "overview": "who=ann talked about the garden. They agreed to paint the fence for 40 euros. "
        "The seeds cost 12 euros. Who buys the paint?",
        "action_items": [{"description": "Buy seeds", "completed": False}, {"description": "Call", "completed": True}],
    }
    stage.world.put_talk("ann", "t1", told | {"geolocation": {"latitude": 52.5, "longitude": 13.4, "address": "Park"}})

    async def whole(who: str) -> Any:
        sentence = {"text": "They agreed to paint the fence for 40 euros.", "notes": [1]}
        question = {"text": "Who buys the paint?", "notes": [1]}
        lists = {"decisions_made": [sentence], "knowledge_nuggets": [sentence], "unresolved_questions": [question]}
        return completion(json.dumps(recap_answer(who, **lists)))

    stage.llm.script = whole
    assert stage.run(RECAP_SUMMARIZER="extract" if by == "extract" else "auto").code == 0
    [doc] = stage.world.summaries("ann").values()
    read = DailySummary.model_validate(doc)
    assert [len(one) for one in (read.highlights, read.decisions_made, read.knowledge_nuggets)] == [1, 1, 1]
    assert [(one.priority, one.source_conversation_id) for one in read.action_items] == [
        ("high", "t1"),
        ("medium", "t1"),
    ]
    assert (read.unresolved_questions[0].question, read.locations[0].address) == ("Who buys the paint?", "Park")
    assert (read.stats.total_conversations, doc["metadata"]["source"]) == (1, by)
    assert doc["decisions_made"][0]["conversation_ids"] == ["t1"]
