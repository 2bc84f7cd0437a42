"""What the job itself writes: recaps and ledgers, to and from their documents."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Any

from notifications.documents import Doc, moment, text
from notifications.domain.errors import Malformed
from notifications.domain.model import Ledger, Recap, State, Summary

LEDGER_INSTANTS = ("sending_at", "created_at", "window_start", "window_end", "sent_at", "expire_at")


def recap_to(recap: Recap) -> dict[str, Any]:
    """A summary document."""
    draft = recap.draft
    return {
        "id": recap.id,
        "date": recap.date.isoformat(),
        "created_at": recap.created_at,
        "headline": draft.headline,
        "overview": draft.overview,
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
            }
            for h in draft.highlights
        ],
        "action_items": [{"description": i.description, "completed": i.completed} for i in recap.action_items],
        "unresolved_questions": list(draft.unresolved_questions),
        "decisions_made": list(draft.decisions_made),
        "knowledge_nuggets": list(draft.knowledge_nuggets),
        "metadata": dict(draft.metadata),
    }


def summary_from(key: str, doc: Doc) -> Summary:
    """A summary that another hand wrote; what it lacks is empty, and its time the epoch."""
    return Summary(
        id=text(doc.get("id")) or key,
        created_at=moment(doc.get("created_at")) or datetime.fromtimestamp(0, UTC),
        headline=text(doc.get("headline")),
        overview=text(doc.get("overview")),
        day_emoji=text(doc.get("day_emoji")),
    )


def ledger_to(entry: Ledger) -> dict[str, Any]:
    """A ledger document: every field that is set. `date` serves the audit's query over all users."""
    doc = {one.name: getattr(entry, one.name) for one in fields(entry)}
    doc |= {"date": entry.date.isoformat(), "state": entry.state.value, "devices": dict(entry.devices)}
    return {name: value for name, value in doc.items() if value is not None and value != ""}


def ledger_from(day: date, doc: Doc) -> Ledger:
    """The ledger. Raises Malformed where its state is none of ours: never guessed at."""
    try:
        state = State(doc.get("state", ""))
    except ValueError:
        raise Malformed(f"recap_deliveries/{day}: its state is none that this version knows.") from None
    known = {one.name for one in fields(Ledger)} - {"date", "state", *LEDGER_INSTANTS}
    given: dict[str, Any] = {name: doc[name] for name in known if name in doc}
    given |= {name: moment(doc.get(name)) for name in LEDGER_INSTANTS}
    return Ledger(date=day, state=state, **given)
