"""The recap of a draft, and its summary document: the app's own fields, and those that the job adds."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

from notifications.domain.model import Cited, Draft, Recap, Stop, Task
from notifications.domain.plain import plain
from notifications.domain.schedule import zone
from notifications.domain.text import bounded
from notifications.recap.bounds import MAX_LISTED
from notifications.recap.material import Material, held_at

MAX_TASKS, MAX_READ_TASKS = 10, 500
MAX_STOPS, MAX_ADDRESS = 50, 200
LISTS = {"unresolved_questions": "question", "decisions_made": "decision", "knowledge_nuggets": "insight"}
TEXT_FIELDS = ("headline", "overview", "day_emoji", "highlights", "action_items", *LISTS)  # of a summary document


def compose(material: Material, draft: Draft, made_at: datetime) -> Recap:
    """The recap of this material. Its id is random, so that a link with it can't be guessed."""
    recap = Recap(
        id=str(uuid.uuid4()),
        date=material.date,
        created_at=made_at,
        draft=draft,
        total_conversations=len(material.conversations),
        total_duration_minutes=round(sum(conversation.minutes for conversation in material.conversations)),
        action_items=tuple(_tasks(material)),
        locations=tuple(islice(_stops(material), MAX_STOPS)),
    )
    return replace(recap, text_hash=text_hash(recap_to(recap)))


def _tasks(material: Material) -> list[Task]:
    """The tasks, each once, the open ones first."""
    items = ((item, conversation.id) for conversation in material.conversations for item in conversation.action_items)
    tasks: dict[str, Task] = {}
    for item, conversation_id in islice(items, MAX_READ_TASKS):
        if text := bounded(plain(item.description, 4 * MAX_LISTED), MAX_LISTED):
            first = tasks.get(text, Task(text, item.completed, conversation_id))
            tasks[text] = replace(first, completed=first.completed or item.completed)
    return sorted(tasks.values(), key=lambda task: task.completed)[:MAX_TASKS]


def _stops(material: Material) -> Iterable[Stop]:
    tz = zone(material.zone)
    for conversation in material.conversations:
        if conversation.place is not None:
            address = bounded(plain(conversation.place.address, 4 * MAX_ADDRESS), MAX_ADDRESS)
            time = f"{held_at(conversation).astimezone(tz):%H:%M}"
            yield Stop(replace(conversation.place, address=address), conversation.id, time)


def recap_to(recap: Recap) -> dict[str, Any]:
    """The summary document of a recap."""
    draft = recap.draft
    return {
        "id": recap.id,
        "date": recap.date.isoformat(),
        "created_at": recap.created_at,
        "headline": draft.headline,
        "overview": draft.text,
        "overview_items": [_item(sentence) for sentence in draft.overview],
        "day_emoji": draft.day_emoji,
        "stats": {
            "total_conversations": recap.total_conversations,
            "total_duration_minutes": recap.total_duration_minutes,
            "action_items_count": len(recap.action_items),
        },
        "highlights": [
            {
                "topic": highlight.topic,
                "emoji": highlight.emoji,
                "summary": highlight.summary,
                "conversation_ids": list(highlight.conversation_ids),
                "items": [_item(sentence) for sentence in highlight.items],
            }
            for highlight in draft.highlights
        ],
        "action_items": [
            {
                "description": task.description,
                "completed": task.completed,
                "priority": "medium" if task.completed else "high",
                "source_conversation_id": task.conversation_id,
            }
            for task in recap.action_items
        ],
        **{name: _cited(called, getattr(draft, name)) for name, called in LISTS.items()},
        "locations": [
            {
                "latitude": stop.place.latitude,
                "longitude": stop.place.longitude,
                "address": stop.place.address,
                "conversation_id": stop.conversation_id,
                "time": stop.time,
            }
            for stop in recap.locations
        ],
        "coverage": dict(draft.coverage),
        "checks": dict(draft.checks),
        "metadata": dict(draft.metadata),
    }


def _item(sentence: Cited) -> dict[str, str]:
    """A sentence and its quote, so that an app can show where it comes from."""
    return {
        "text": sentence.text,
        "conversation_id": sentence.conversation_ids[0] if sentence.conversation_ids else "",
        "quote": sentence.quote,
    }


def _cited(name: str, sentences: Iterable[Cited]) -> list[dict[str, Any]]:
    """Sentences as the app reads them: the text is called `name`, and all conversations are listed."""
    items = (
        {**_item(sentence), name: sentence.text, "conversation_ids": list(sentence.conversation_ids)}
        for sentence in sentences
    )
    return [{key: value for key, value in item.items() if key != "text"} for item in items]


def text_hash(document: Mapping[str, Any]) -> str:
    """A summary document's text in 32 hex digits: whether it is still what was stored."""
    fields = {name: document.get(name) for name in TEXT_FIELDS}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:32]


def text_to_deliver(document: Mapping[str, Any]) -> dict[str, Any]:
    """The text of a summary document of ours, as channels deliver it: without the conversations' own words."""
    lists = {
        name: [{"text": item[called], "conversation_ids": item["conversation_ids"]} for item in document[name]]
        for name, called in LISTS.items()
    }
    return {
        **{name: document[name] for name in ("headline", "overview", "day_emoji")},
        "highlights": [
            {
                **{name: highlight[name] for name in ("topic", "emoji")},
                "items": [
                    {"text": item["text"], "conversation_ids": [item["conversation_id"]]} for item in highlight["items"]
                ],
            }
            for highlight in document["highlights"]
        ],
        "action_items": [
            {
                **{name: item[name] for name in ("description", "completed")},
                "conversation_id": item["source_conversation_id"],
            }
            for item in document["action_items"]
        ],
        **lists,
    }
