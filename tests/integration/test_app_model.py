"""The app's documents read, and the stored recap as the app's own data model has it: these shapes, and no other."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import pytest
from google.cloud.firestore import FieldFilter
from pydantic import BaseModel, ConfigDict, Field

from notifications.testing.answers import item, recap_answer
from tests.support import app_documents as app
from tests.support.jobs import Finished, Stage
from tests.support.web import completion, scripted
from tests.support.worlds import FirestoreWorld, talk

Text = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """No number for a text, no text for a number; what is new stands beside it."""

    model_config = ConfigDict(strict=True)


class Item(Strict):
    """A sentence, and the words that it rests on: new, beside what the app reads."""

    text: Text
    conversation_id: Text
    quote: Text


class Highlight(Strict):
    topic: Text
    emoji: str
    summary: str
    conversation_ids: Annotated[list[Text], Field(min_length=1)]
    items: Annotated[list[Item], Field(min_length=1)]


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
    overview_items: Annotated[list[Item], Field(min_length=1)]
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

    lists = {
        "decisions": [item("Ann and Tom paint the fence for 40 euros.", "agreed to paint the fence for 40 euros")],
        "worth_knowing": [item("Seeds cost 12 euros.", "The seeds cost 12 euros.")],
        "open_questions": [item("Who buys the paint?", "Who buys the paint?")],
    }
    stage.llm.script = scripted(lambda who: completion(json.dumps(recap_answer(who) | lists)))
    assert stage.run(RECAP_SUMMARIZER="extract" if by == "extract" else "auto").code == 0
    [doc] = stage.world.summaries("ann").values()
    read = DailySummary.model_validate(doc)
    found = (read.highlights, read.decisions_made, read.unresolved_questions, read.knowledge_nuggets)
    assert [len(one) for one in found] == [by == "llm"] * 4  # an extract of so short a day says all in its overview
    assert [(one.priority, one.source_conversation_id) for one in read.action_items] == [
        ("high", "t1"),
        ("medium", "t1"),
    ]
    assert read.locations[0].address == "Park"
    assert (read.stats.total_conversations, doc["metadata"]["source"]) == (1, by)
    overview = [(one.text, one.conversation_id, one.quote) for one in read.overview_items]
    if by == "extract":
        assert overview[0] == ("who=ann talked about the garden.", "t1", "who=ann talked about the garden.")
        return
    garden = "talked about the garden"
    assert overview == [("You talked about ann and more.", "t1", garden), ("It went well.", "t1", garden)]
    assert [(one.text, one.quote) for one in read.highlights[0].items] == [("A good one.", garden)]
    assert doc["decisions_made"][0]["conversation_ids"] == ["t1"]
    assert read.unresolved_questions[0].question == "Who buys the paint?"
    assert read.knowledge_nuggets[0].insight == "Seeds cost 12 euros."


BERLIN = ZoneInfo("Europe/Berlin")
NOTES = """\
## What was decided

**The heat pump** costs 14,200 euros, and the family takes it.

### Next steps
- The *grant* has to be asked for before the order is signed
- Fitters come in [the second week of March](https://example.com/x)

| who | what |
|---|---|
| Maya | signs `the order` |
"""


LONG_TALK = (
    "who=ann talked for long with Noah about the house by the sea, the old boat, the new school, the harvest, "
    "and what the summer will bring to all of them after so much rain."
)


@dataclass
class Evening:
    """One user of such an app, and the job that is run for their days one after another."""

    stage: Stage
    day: date

    def at(self, hour: int, minute: int = 0, days: int = 0) -> datetime:
        """A local time of the first day, or of one after it."""
        local = datetime(self.day.year, self.day.month, self.day.day, hour, minute, tzinfo=BERLIN)
        return (local + timedelta(days=days)).astimezone(UTC)

    def write(self, key: str, at: datetime, minutes: int = 20, **fields: Any) -> None:
        self.stage.world.put_talk("ann", key, app.conversation(key, at, minutes, **fields))

    def write_overview(self, key: str, at: datetime, overview: str, minutes: int = 20, **fields: Any) -> None:
        self.write(key, at, minutes, structured=app.structured(overview=overview), **fields)

    def run(self, days: int = 0) -> Finished:
        """The job at five past the user's hour."""
        return self.stage.run("--now", self.at(21, 5, days).isoformat(), "--user", "ann")

    def summary(self, days: int = 0) -> DailySummary:
        """As the app finds it: by its `date`."""
        assert isinstance(self.stage.world, FirestoreWorld)
        asked = FieldFilter("date", "==", (self.day + timedelta(days=days)).isoformat())
        found = self.stage.world.db.collection("users/ann/daily_summaries").where(filter=asked).limit(2).get()
        [doc] = [one.to_dict() for one in found]
        return DailySummary.model_validate(doc)

    def notes(self) -> list[str]:
        """What the LLM was last shown, note by note, without the marker."""
        assert self.stage.llm.prompts is not None
        written = [prompt for prompt in self.stage.llm.prompts if "The marker of this day: " in prompt]
        head, *notes = written[-1].split("\n\n")
        marker = head.rsplit(" ", 1)[-1]
        return ["\n".join(line.removeprefix(f"{marker} ") for line in note.splitlines()) for note in notes]


@pytest.fixture
def evening(firestore_world: FirestoreWorld, redis: Any, llm: Any, fcm: Any, tmp_path: Any) -> Any:
    stage = Stage(firestore_world, redis, llm, fcm, tmp_path)
    stage.llm.prompts = []
    found = Evening(stage, (datetime.now(UTC) + timedelta(days=2)).date())
    firestore_world.put_user("ann", app.user(), {"phone": "token-ann"}, {})
    firestore_world.put_user("bob", {key: value for key, value in app.user().items() if key != "time_zone"}, {}, {})
    yield found
    stage.stop_all()


def test_a_day_of_an_apps_own_documents_becomes_a_recap_that_the_app_reads(evening: Evening) -> None:
    at = evening.at(9)
    spoken = app.segments("who=ann met Tom at the allotment.", "The fence costs 40 euros.", "We paint it on Sunday.")
    tasks = [
        app.task("Ask the bank about the grant", at),
        app.task("Forget me", at, deleted=True),
        app.task("Call the fitters", at, completed=True, completed_at=at),
    ]
    superseded = app.structured(title="A generated title", overview="Superseded words.", action_items=tasks)
    evening.write(
        "heating",
        at,
        user_title="Heating, as I call it",
        structured=superseded,
        apps_results=[{"app_id": None, "content": "  "}, {"app_id": "notes", "content": NOTES}],
        geolocation={"latitude": 52.5, "longitude": 13.4, "address": "Park", "google_place_id": None},
    )
    evening.write(
        "garden", evening.at(11), transcript_segments=app.compressed(spoken), structured=app.structured(title="G")
    )
    sections = [
        {"heading": "Aside", "body_markdown": "The hall was cold.", "kind": "side_notes"},
        {"heading": "Programme", "body_markdown": "1. Bach first\n2. Then Brahms", "source_segment_ids": []},
        {"heading": "Nothing below", "body_markdown": ""},
    ]
    evening.write("choir", evening.at(12), structured=app.structured(sections=sections))
    older = [{"plugin_id": "p", "content": "An older app wrote this of the boat."}]
    evening.write("old", evening.at(13), apps_results=[], plugins_results=older)
    # an upload has the time of its recording: the evening before, after the hour
    evening.write_overview("upload", evening.at(22, days=-1), "A late walk.")
    # nothing can be read of the first; of the second its overview can: only transcripts are encrypted
    encrypted: dict[str, Any] = {"data_protection_level": "enhanced", "transcript_segments": app.encrypted(spoken)}
    evening.write("secret", at, **encrypted)
    evening.write_overview("half", evening.at(14), "The dentist said all is well.", **encrypted)
    evening.write("broken", at, transcript_segments=b"\x00 no zlib")
    evening.write_overview("thrown", at, "Discarded words.", discarded=True)
    evening.write_overview("locked", at, "Locked words.", is_locked=True)
    # what an upload was joined into another as is marked, and stays
    evening.write_overview("joined", at, "Twice told.", deleted=True, sync_merged_into="garden")
    stub = app.live_stub("stub", evening.at(9, 30))
    evening.stage.world.put_talk("ann", "stub", stub)
    run = evening.run()
    assert (run.code, evening.stage.llm.calls["ann"], evening.stage.fcm.accepted["token-ann"]) == (0, 1, 1)
    assert (run.event("conversations.encrypted")["count"], run.event("conversations.malformed")["count"]) == (1, 1)
    figures = run.event("tick.finished")
    assert [figures[name] for name in ("sent", "encrypted", "malformed", "defects")] == [1, 1, 1, 0]

    yesterday = f"{evening.at(22, days=-1).astimezone(BERLIN):%A %Y-%m-%d} 22:00"
    assert evening.notes() == [
        f"[1] {yesterday}, 20 min.\nA late walk.",
        "[2] 09:00, 20 min. Heating, as I call it\nWhat was decided:\n"
        "The heat pump costs 14,200 euros, and the family takes it.\nNext steps:\n"
        "The grant has to be asked for before the order is signed\nFitters come in the second week of March\n"
        "who; what\nMaya; signs the order\n- to do: Ask the bank about the grant\n- done: Call the fitters",
        "[3] 11:00, 20 min. G\nYou: who=ann met Tom at the allotment.\nSpeaker 1: The fence costs 40 euros.\n"
        "You: We paint it on Sunday.",
        "[4] 12:00, 20 min.\nProgramme:\nBach first\nThen Brahms\nAside:\nThe hall was cold.",
        "[5] 13:00, 20 min.\nAn older app wrote this of the boat.",
        "[6] 14:00, 20 min.\nThe dentist said all is well.",
    ]
    read = evening.summary()
    stats = (read.stats.total_conversations, read.stats.total_duration_minutes, read.stats.action_items_count)
    assert stats == (6, 120, 2)
    assert [(one.description, one.completed) for one in read.action_items] == [
        ("Ask the bank about the grant", False),
        ("Call the fitters", True),
    ]
    assert [(one.address, one.time, one.conversation_id) for one in read.locations] == [("Park", "09:00", "heating")]
    why = evening.stage.run("--now", evening.at(21, 6).isoformat(), "why", "ann")
    assert "1 malformed and left out, 1 encrypted" in " ".join(why.out.split())
    assert (evening.stage.world.summaries("bob"), evening.stage.world.ledgers("bob")) == ({}, {})

    # the next day: the stub has ended, a phone has uploaded what it recorded yesterday, and nothing is told twice
    evening.write_overview("stub", evening.at(9, 30), LONG_TALK, 300)
    evening.write_overview("recorder", evening.at(15), "The recorder was offline.")
    evening.write_overview("today", evening.at(10, days=1), "Tea with the choir.")
    second_run = evening.run(1)
    assert second_run.event("tick.finished")["sent"] == 1, second_run.err
    dated = f"{evening.at(9).astimezone(BERLIN):%A %Y-%m-%d}"
    assert evening.notes() == [
        f"[1] {dated} 09:30, 300 min.\n{LONG_TALK}",
        f"[2] {dated} 15:00, 20 min.\nThe recorder was offline.",
        "[3] 10:00, 20 min.\nTea with the choir.",
    ]
    first, second = evening.summary(), evening.summary(1)
    assert (second.stats.total_conversations, uuid.UUID(second.id).version, first.id != second.id) == (3, 4, True)
    assert evening.stage.fcm.messages[-1]["data"]["navigate_to"] == f"/daily-summary/{second.id}"

    # a day that the app made on demand is not made again
    theirs = {**evening.stage.world.summaries("ann")[second.id], "id": str(uuid.uuid4()), "headline": "The app's own"}
    day = (evening.day + timedelta(days=2)).isoformat()
    theirs |= {"date": day, "created_at": evening.at(19, days=2).replace(tzinfo=None).isoformat()}  # as text, in UTC
    evening.stage.world.put_summary("ann", theirs["id"], theirs)
    evening.write_overview("late", evening.at(10, days=2), "who=ann spoke.")
    assert evening.run(2).event("tick.finished")["skipped_by_reason"] == {"legacy": 1}
    assert (evening.summary(2).headline, evening.stage.llm.calls["ann"]) == ("The app's own", 2)
    assert evening.stage.fcm.accepted["token-ann"] == 2


def test_headings_and_list_marks_end_a_sentence_of_the_extract(evening: Evening) -> None:
    evening.write_overview("heating", evening.at(9), NOTES)
    evening.stage.settings["RECAP_SUMMARIZER"] = "extract"
    assert evening.run().code == 0
    assert evening.summary().overview == (
        "The heat pump costs 14,200 euros, and the family takes it. "
        "The grant has to be asked for before the order is signed. "
        "Fitters come in the second week of March. Maya; signs the order"
    )
