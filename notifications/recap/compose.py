"""The document that is stored: the draft's words, and figures, action items and places from the data."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from itertools import islice

from notifications.domain.model import Draft, Recap, Stop, Task
from notifications.domain.schedule import zone
from notifications.domain.text import bounded, plain
from notifications.recap.bounds import MAX_LISTED
from notifications.recap.material import Material, held_at

MAX_TASKS, MAX_READ_TASKS = 10, 500
MAX_STOPS, MAX_ADDRESS = 50, 200


def compose(m: Material, draft: Draft, made_at: datetime) -> Recap:
    """The recap of this material, under an id that nobody else's has and nobody can guess: links are made of it."""
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
    """Open ones first, each once: people, and a server before us, wrote them."""
    said = [(item, c.id) for c in m.conversations for item in c.action_items][:MAX_READ_TASKS]
    tasks: dict[str, Task] = {}
    for item, key in said:
        words = bounded(plain(item.description, 4 * MAX_LISTED), MAX_LISTED)
        done = item.completed or (words in tasks and tasks[words].completed)
        if words:
            tasks[words] = Task(words, done, tasks[words].conversation_id if words in tasks else key)
    return sorted(tasks.values(), key=lambda task: task.completed)[:MAX_TASKS]


def _stops(m: Material) -> Iterable[Stop]:
    tz = zone(m.zone)
    for c in m.conversations:
        if c.place is not None:
            address = bounded(plain(c.place.address, 4 * MAX_ADDRESS), MAX_ADDRESS)
            yield Stop(replace(c.place, address=address), c.id, f"{held_at(c).astimezone(tz):%H:%M}")
