"""The recap of a draft, and its summary document: the app's own fields, and those that the job adds."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

from notifications.domain.model import Cited, Draft, Recap, Stop, Task
from notifications.domain.schedule import zone
from notifications.domain.text import bounded, plain
from notifications.recap.bounds import MAX_LISTED
from notifications.recap.material import Material, held_at

MAX_TASKS, MAX_READ_TASKS = 10, 500
MAX_STOPS, MAX_ADDRESS = 50, 200


def compose(m: Material, draft: Draft, made_at: datetime) -> Recap:
    """The recap of this material. Its id is random, since links are made of it."""
    return Recap(
        id=str(uuid.uuid4()),
        date=m.date,
        created_at=made_at,
        draft=draft,
        total_conversations=len(m.conversations),
        total_duration_minutes=round(sum(c.minutes for c in m.conversations)),
        action_items=tuple(_tasks(m)),
        locations=tuple(islice(_stops(m), MAX_STOPS)),
    )


def _tasks(m: Material) -> list[Task]:
    """The things to do, each once, the open ones first."""
    items = [(item, c.id) for c in m.conversations for item in c.action_items][:MAX_READ_TASKS]
    tasks: dict[str, Task] = {}
    for item, source in items:
        if text := bounded(plain(item.description, 4 * MAX_LISTED), MAX_LISTED):
            first = tasks.get(text, Task(text, item.completed, source))
            tasks[text] = replace(first, completed=first.completed or item.completed)
    return sorted(tasks.values(), key=lambda task: task.completed)[:MAX_TASKS]


def _stops(m: Material) -> Iterable[Stop]:
    tz = zone(m.zone)
    for c in m.conversations:
        if c.place is not None:
            address = bounded(plain(c.place.address, 4 * MAX_ADDRESS), MAX_ADDRESS)
            yield Stop(replace(c.place, address=address), c.id, f"{held_at(c).astimezone(tz):%H:%M}")


def recap_to(recap: Recap) -> dict[str, Any]:
    """The summary document."""
    draft = recap.draft
    return {
        "id": recap.id,
        "date": recap.date.isoformat(),
        "created_at": recap.created_at,
        "headline": draft.headline,
        "overview": draft.text,
        "overview_items": [_item(one) for one in draft.overview],
        "day_emoji": draft.day_emoji,
        "stats": {
            "total_conversations": recap.total_conversations,
            "total_duration_minutes": recap.total_duration_minutes,
            "action_items_count": len(recap.action_items),
        },
        "highlights": [
            {
                "topic": h.topic,
                "emoji": h.emoji,
                "summary": h.summary,
                "conversation_ids": list(h.conversation_ids),
                "items": [_item(one) for one in h.items],
            }
            for h in draft.highlights
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
        "unresolved_questions": _cited("question", draft.unresolved_questions),
        "decisions_made": _cited("decision", draft.decisions_made),
        "knowledge_nuggets": _cited("insight", draft.knowledge_nuggets),
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


def _item(one: Cited) -> dict[str, str]:
    """A sentence and its quote, so that an app can show where it comes from."""
    return {
        "text": one.text,
        "conversation_id": one.conversation_ids[0] if one.conversation_ids else "",
        "quote": one.quote,
    }


def _cited(name: str, sentences: Iterable[Cited]) -> list[dict[str, Any]]:
    """Sentences as the app reads them, under their own name, with all their conversations besides."""
    items = ({**_item(one), name: one.text, "conversation_ids": list(one.conversation_ids)} for one in sentences)
    return [{key: value for key, value in item.items() if key != "text"} for item in items]
