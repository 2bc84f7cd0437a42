"""The summary document, as the app's own data model has it; what is new stands beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from notifications.domain.model import Cited, Recap


def recap_to(recap: Recap) -> dict[str, Any]:
    """A summary document."""
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
    """A sentence, and the words of a conversation that it rests on, so that an app can show them."""
    return {
        "text": one.text,
        "conversation_id": one.conversation_ids[0] if one.conversation_ids else "",
        "quote": one.quote,
    }


def _cited(name: str, sentences: Iterable[Cited]) -> list[dict[str, Any]]:
    """As the app reads them: an object each, with its first conversation; all of them stand beside it."""
    return [
        {
            name: one.text,
            **{key: value for key, value in _item(one).items() if key != "text"},
            "conversation_ids": list(one.conversation_ids),
        }
        for one in sentences
    ]
