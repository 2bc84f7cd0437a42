"""Users, their devices and conversations: an existing app's documents, to the domain's nouns.

Datetimes stay datetimes here; a store that has no type for them writes ISO 8601 and may
hand that back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from notifications.domain.errors import Malformed
from notifications.domain.model import ActionItem, Conversation, Device, User
from notifications.domain.recap import MAX_TRANSCRIPT_CHARS
from notifications.domain.schedule import zone
from notifications.ports import Listed

Doc = Mapping[str, Any]

USER_ZONE, USER_ENABLED, USER_HOUR = "time_zone", "daily_summary_enabled", "daily_summary_hour_local"
LEGACY_TOKEN = "fcm_token"  # noqa: S105 - a field's name
CONVERSATION_FIELDS = (
    "created_at",
    "started_at",
    "finished_at",
    "discarded",
    "is_locked",
    "language",
    "structured",
)
TRANSCRIPT = "transcript_segments"


def user_from(uid: str, doc: Doc) -> User:
    """The user, or Malformed: why the query can't see this document."""
    hour, enabled, name = doc.get(USER_HOUR), doc.get(USER_ENABLED), doc.get(USER_ZONE)
    if not isinstance(enabled, bool):
        raise Malformed(f"users/{uid}: {USER_ENABLED} is not true or false.")
    if isinstance(hour, bool) or not isinstance(hour, int | float) or hour not in range(24):
        raise Malformed(f"users/{uid}: {USER_HOUR} is not a whole number from 0 to 23.")
    if not isinstance(name, str):
        raise Malformed(f"users/{uid}: {USER_ZONE} is missing or no text.")
    zone(name)
    return User(uid, name, int(hour), enabled, text(doc.get("language")) or None)


def listed(uid: str, doc: Doc) -> Listed:
    """The user, or why the job's query can't see this document."""
    try:
        return Listed(uid, user_from(uid, doc))
    except Malformed as flaw:
        return Listed(uid, None, str(flaw))


def mended(doc: Doc) -> dict[str, Any]:
    """What a document that the query can't see lacks, with the stated defaults: hour 22, enabled, UTC."""
    hour, name = doc.get(USER_HOUR), doc.get(USER_ZONE)
    changes: dict[str, Any] = {}
    if not isinstance(doc.get(USER_ENABLED), bool):
        changes[USER_ENABLED] = True
    if isinstance(hour, bool) or not isinstance(hour, int | float) or hour not in range(24):
        changes[USER_HOUR] = 22
    try:
        zone(name if isinstance(name, str) else "")
    except Malformed:
        changes[USER_ZONE] = "UTC"
    return changes


def active(doc: Doc | None) -> bool:
    """Whether recaps are still wanted: the account is there and switched on."""
    return doc is not None and doc.get(USER_ENABLED) is True


def conversation_from(key: str, doc: Doc) -> Conversation | None:
    """The conversation; None where it is discarded or locked. Raises Malformed."""
    if not isinstance(doc, Mapping):
        raise Malformed(f"conversation {key} is not a map.")
    if doc.get("discarded") is True or doc.get("is_locked") is True:
        return None
    structured = doc.get("structured") or {}
    created = moment(doc.get("created_at"))
    if not isinstance(structured, Mapping) or created is None:
        raise Malformed(f"conversation {key}: `structured` is not a map, or `created_at` is no time.")
    overview = text(structured.get("overview"))
    return Conversation(
        id=key,
        created_at=created,
        started_at=moment(doc.get("started_at")),
        finished_at=moment(doc.get("finished_at")),
        title=text(structured.get("title")),
        overview=overview,
        category=text(structured.get("category")),
        action_items=tuple(_action_items(structured.get("action_items"))),
        events=tuple(_titles(structured.get("events"))),
        transcript="" if overview else _transcript(doc.get(TRANSCRIPT)),
        language=text(doc.get("language")) or None,
    )


def _action_items(value: object) -> list[ActionItem]:
    found = (item for item in _maps(value) if text(item.get("description")))
    return [ActionItem(text(item["description"]), item.get("completed") is True) for item in found]


def _titles(value: object) -> list[str]:
    return [title for item in _maps(value) if (title := text(item.get("title")))]


def _transcript(value: object) -> str:
    lines: list[str] = []
    room = MAX_TRANSCRIPT_CHARS
    for segment in _maps(value):
        line = text(segment.get("text"))
        lines.append(line)
        room -= len(line)
        if room < 0:
            break
    return "\n".join(line for line in lines if line)


def _maps(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def text(value: object) -> str:
    """Stripped text; empty for anything else."""
    return value.strip() if isinstance(value, str) else ""


def moment(value: object) -> datetime | None:
    """An aware instant from a datetime or ISO 8601 text; None for anything else, naive ones included."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(found, datetime) or found.tzinfo is None:
        return None
    return datetime.fromtimestamp(found.timestamp(), UTC).replace(microsecond=found.microsecond)


def device_from(key: str, doc: Doc, version: object) -> Device | None:
    """The device; None where the document holds no token."""
    token = text(doc.get("token"))
    return Device(token, key, version) if token else None


def chosen(devices: list[Device], user: Doc | None) -> list[Device]:
    """Each token once; the legacy field of the user document only where no device document has one."""
    legacy = text((user or {}).get(LEGACY_TOKEN))
    if not devices and legacy:
        return [Device(legacy, None, legacy)]
    return list({device.token: device for device in devices}.values())
