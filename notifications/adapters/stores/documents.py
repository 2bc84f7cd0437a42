"""An existing app's documents, and ours, to the domain's nouns. Datetimes may come back as ISO 8601."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from notifications.adapters.stores.conversation_text import TRANSCRIPT, is_encrypted, maps, text, transcript, written
from notifications.domain.errors import Malformed
from notifications.domain.model import (
    FIRST_YEAR,
    LAST_YEAR,
    ActionItem,
    Cited,
    Conversation,
    DayState,
    Device,
    Ledger,
    Place,
    Summary,
    Turn,
    User,
)
from notifications.domain.schedule import zone
from notifications.domain.text import clean, language_tag
from notifications.ports import Listed

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Doc = Mapping[str, Any]

USER_ZONE, USER_ENABLED, USER_HOUR = "time_zone", "daily_summary_enabled", "daily_summary_hour_local"
LEGACY_TOKEN = "fcm_token"  # noqa: S105 - a field's name
DEVICE_FIELDS = ("token", "fid")
CONVERSATION_FIELDS = (
    *("created_at", "started_at", "finished_at", "discarded", "is_locked", "status", "deferred", "deleted"),
    *("language", "user_title", "structured", "apps_results", "plugins_results", "geolocation"),
)
UNDER_WAY = ("in_progress", "processing")  # `status` of what the app still fills; what is `deferred` may stay so
LEFT_OUT = ("discarded", "is_locked", "deleted")
MAX_TOKEN_LENGTH = 2_048  # real ones have some 160 characters


def user_from(uid: str, doc: Doc) -> User:
    """The user, or Malformed: why the query can't see this document."""
    hour, enabled, name = doc.get(USER_HOUR), doc.get(USER_ENABLED), doc.get(USER_ZONE)
    if not isinstance(enabled, bool):
        raise Malformed(f"users/{uid}: {USER_ENABLED} is {_missing(enabled)}not true or false.")
    if isinstance(hour, bool) or not isinstance(hour, int | float) or hour not in range(24):
        raise Malformed(f"users/{uid}: {USER_HOUR} is {_missing(hour)}not a whole number from 0 to 23.")
    if not isinstance(name, str):
        raise Malformed(f"users/{uid}: {USER_ZONE} is missing or no text.")
    zone(name)
    return User(uid, name, int(hour), enabled, language_tag(text(doc.get("language"))))


def _missing(value: object) -> str:
    return "missing, or " if value is None else ""


def listed(uid: str, doc: object, created: datetime | None = None, updated: datetime | None = None) -> Listed:
    """The user, or why the job can't use this document."""
    try:
        if not isinstance(doc, Mapping):
            raise Malformed(f"users/{uid} is not a map of fields.")
        return Listed(uid, user_from(uid, doc), "", created, updated, active(doc))
    except Malformed as flaw:
        return Listed(uid, None, str(flaw), created, updated, active(doc))
    except UnicodeEncodeError:
        return Listed(uid, None, f"users/{uid} holds half of a surrogate pair.", created, updated, active(doc))


def active(doc: object) -> bool:
    """Whether recaps are still wanted: the account is there and switched on."""
    return isinstance(doc, Mapping) and doc.get(USER_ENABLED) is True


def conversation_from(key: str, doc: object) -> Conversation | None:
    """The conversation; None where it is discarded, locked or deleted. Raises Malformed."""
    if not isinstance(doc, Mapping):
        raise Malformed(f"conversation {key} is not a map.")
    if any(doc.get(name) is True for name in LEFT_OUT):
        return None
    structured = doc.get("structured") or {}
    created = moment(doc.get("created_at"))
    if not isinstance(structured, Mapping) or created is None:
        raise Malformed(f"conversation {key}: `structured` is not a map, or `created_at` is no time.")
    try:
        return _conversation(key, doc, structured, created)
    except (UnicodeEncodeError, OverflowError) as cause:
        raise Malformed(f"conversation {key}: a time or a text of it can't be ({type(cause).__name__}).") from None


def _conversation(key: str, doc: Doc, structured: Doc, created: datetime) -> Conversation:
    overview, cut = written(doc, structured)
    segments = None if overview else doc.get(TRANSCRIPT)
    encrypted = is_encrypted(segments)
    said: tuple[Turn, ...] = ()
    if segments and not encrypted:
        said, cut = transcript(key, segments)
    return Conversation(
        id=key,
        created_at=created,
        started_at=_told_moment(doc.get("started_at")),
        finished_at=_told_moment(doc.get("finished_at")),
        title=text(doc.get("user_title")) or text(structured.get("title")),
        overview=overview,
        category=text(structured.get("category")),
        action_items=tuple(_action_items(structured.get("action_items"))),
        events=tuple(_titles(structured.get("events"))),
        turns=said,
        encrypted=encrypted,
        language=language_tag(text(doc.get("language"))),
        place=_place(doc.get("geolocation")),
        cut=cut,
        under_way=doc.get("status") in UNDER_WAY and doc.get("deferred") is not True,
    )


def _place(value: object) -> Place | None:
    if not isinstance(value, Mapping):
        return None
    latitude, longitude = value.get("latitude"), value.get("longitude")
    if not (_degrees(latitude, 90) and _degrees(longitude, 180)):
        return None
    return Place(float(latitude), float(longitude), text(value.get("address")))  # type: ignore[arg-type]


def _degrees(value: object, most: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -most <= value <= most


def _action_items(value: object) -> list[ActionItem]:
    found = (item for item in maps(value) if item.get("deleted") is not True and text(item.get("description")))
    return [ActionItem(text(item["description"]), item.get("completed") is True) for item in found]


def _titles(value: object) -> list[str]:
    return [title for item in maps(value) if (title := text(item.get("title")))]


def moment(value: object) -> datetime | None:
    """An aware instant from a datetime or ISO 8601 text; None for anything else, naive ones included."""
    try:
        return _told_moment(value)
    except OverflowError:
        return None


def _told_moment(value: object) -> datetime | None:
    """As `moment`, but an instant that no person lived through raises OverflowError."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(found, datetime) or found.tzinfo is None:
        return None
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise OverflowError(found.year)
    return datetime.fromtimestamp(found.timestamp(), UTC).replace(microsecond=found.microsecond)


def device_from(key: str, doc: object, version: object) -> Device | None:
    """The device; None where the document holds neither token nor fid. Raises Malformed."""
    if not isinstance(doc, Mapping):
        raise Malformed(f"device {key} is not a map.")
    names, flaw = {}, None
    for field in DEVICE_FIELDS:
        try:
            names[field] = _token(doc.get(field))
        except Malformed as malformed:
            flaw = malformed
    device = Device(names.get("token", ""), key, version, names.get("fid", ""))
    if flaw is not None and not device.ids:
        raise flaw
    return device if device.ids else None


def devices_from(found: Iterable[tuple[str, object, object]]) -> tuple[list[Device], int]:
    """The devices of (key, document, version), and how many were malformed: one can't hide the others."""
    devices, malformed = [], 0
    for key, doc, version in found:
        try:
            device = device_from(key, doc, version)
        except Malformed:
            malformed += 1
        else:
            devices += [device] if device else []
    return devices, malformed


def _token(value: object) -> str:
    try:
        token = text(value)
    except UnicodeEncodeError:
        raise Malformed("a device's token holds half of a surrogate pair.") from None
    if len(token) > MAX_TOKEN_LENGTH or not token.isprintable() or " " in token:
        raise Malformed("a device's token is no token.")
    return token


def chosen(devices: list[Device], user: object) -> list[Device]:
    """Each token and each fid once: the document with both counts, else the last; the legacy field only without any."""
    if devices:
        kept: dict[tuple[str, str], int] = {}
        whole_first = sorted(enumerate(devices), key=lambda one: (not (one[1].token and one[1].fid), -one[0]))
        for at, device in whole_first:
            names = [one for one in (("token", device.token), ("fid", device.fid)) if one[1]]
            if not any(name in kept for name in names):
                kept |= dict.fromkeys(names, at)
        return [devices[at] for at in sorted(set(kept.values()))]
    try:
        legacy = _token(user.get(LEGACY_TOKEN)) if isinstance(user, Mapping) else ""
    except Malformed:
        legacy = ""
    return [Device(legacy, None, legacy)] if legacy else []


T = TypeVar("T")
Facts = tuple[Cited, ...]  # of a part of a long day
MAX_WORDS = 20_000  # characters of another hand's text that are looked at
MOST = 10**12  # of any count or figure
MAX_ID = 300  # characters of a summary's id that a push carries
PART_KEPT = timedelta(days=3)  # nobody makes a recap of it later
LEDGER_COUNTS = ("seq", "tries", "repeats", "failures", "crashes", "tokens")
LEDGER_FIGURES = ("usd", "llm_seconds")  # for the accounts alone: what is none is left out
LEDGER_TEXTS = ("outcome", "by", "collapse_id", "title", "body", "summary_id", "reason", "source")
LEDGER_INSTANTS = ("sending_at", "created_at", "window_start", "window_end", "read_from", "sent_at", "expire_at")
LEDGER_FIELDS = frozenset(one.name for one in fields(Ledger))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def kept_to(kind: Any, paid: T, expire_at: datetime) -> dict[str, Any]:
    """What an LLM made, kept so that it is not paid twice: the facts of a part of a long day, or a draft."""
    return {"paid": _adapter(kind).dump_python(paid, mode="json"), "expire_at": expire_at}


def kept_from(kind: type[T], doc: object) -> T | None:
    """The same; None for what is none of ours: then it is asked for anew."""
    try:
        paid: T = _adapter(cast(Any, kind)).validate_python(doc["paid"])  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        return None
    return paid


def summary_from(key: str, doc: Doc) -> Summary:
    """A summary that another hand wrote; what it lacks is empty."""
    return Summary(
        id=_words(doc.get("id"))[:MAX_ID] or key,
        created_at=_written_at(doc.get("created_at")),
        headline=_words(doc.get("headline")),
        overview=_words(doc.get("overview")),
        day_emoji=_words(doc.get("day_emoji")),
    )


def _written_at(value: object) -> datetime | None:
    """When a summary was made: an app keeps it as text without an offset, and means UTC."""
    return moment(value) or (moment(f"{value}+00:00") if isinstance(value, str) else None)


def _words(value: object) -> str:
    return clean(value[:MAX_WORDS]) if isinstance(value, str) else ""


def ledger_to(entry: Ledger) -> dict[str, Any]:
    """A ledger document: every field that is set. `date` serves the audit's query over all users."""
    doc = {one.name: getattr(entry, one.name) for one in fields(entry)}
    doc |= {"date": entry.date.isoformat(), "state": entry.state.value, "devices": dict(entry.devices)}
    return {name: value for name, value in doc.items() if value is not None and (value != "" or name == "told")}


def unknown_fields(doc: object) -> dict[str, Any]:
    """What a later version, or another writer, has put into a ledger: whoever writes it keeps that."""
    return {key: one for key, one in doc.items() if key not in LEDGER_FIELDS} if isinstance(doc, Mapping) else {}


def ledger_changes(before: Ledger | None, after: Ledger) -> dict[str, Any]:
    """The fields that make one ledger of the other; None for a field that goes."""
    old, new = ledger_to(before) if before else {}, ledger_to(after)
    return {name: new.get(name) for name in {**old, **new} if old.get(name) != new.get(name)}


def ledger_from(day: date, doc: object) -> Ledger:
    """The ledger; UNREADABLE where its state, or a field that decides, is none of ours: only its window counts then."""
    try:
        return _ledger(day, doc)
    except (ValueError, TypeError, AttributeError):
        given = doc if isinstance(doc, Mapping) else {}
        told, (start, end) = given.get("told"), (moment(given.get(name)) for name in ("window_start", "window_end"))
        told = told if isinstance(told, str) else None
        return Ledger(date=day, state=DayState.UNREADABLE, window_start=start, window_end=end, told=told)


def _ledger(day: date, doc: object) -> Ledger:
    if not isinstance(doc, Mapping):
        raise TypeError("no map")
    given: dict[str, Any] = {name: _instant(doc.get(name)) for name in LEDGER_INSTANTS}
    given |= {name: _typed(doc[name], int) for name in LEDGER_COUNTS if name in doc}
    given |= {name: _typed(doc[name], str) for name in LEDGER_TEXTS if name in doc}
    devices = doc.get("devices") or {}
    given["devices"] = {_typed(key, str): _typed(value, str) for key, value in devices.items()}
    given |= {name: _figure(doc.get(name)) for name in LEDGER_FIGURES}
    given["verified"] = doc["verified"] if isinstance(doc.get("verified"), bool) else None  # for the accounts alone
    given["told"] = _typed(doc["told"], str) if doc.get("told") is not None else None
    state = DayState(doc.get("state", ""))
    if state is DayState.UNREADABLE or (state is DayState.SENDING and given["sending_at"] is None):
        raise ValueError(state)
    return Ledger(date=day, state=state, **given)


def _instant(value: object) -> datetime | None:
    """None where it is not set; what is set and no instant of any life, such as the year 9999, is an error."""
    found = moment(value)
    if found is None and value is not None:
        raise ValueError("no instant")
    return found


def _figure(value: object) -> float | None:
    """None for what is no number; a number that no account can sum up is an error."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if not 0 <= value <= MOST:  # nor is NaN
        raise ValueError("no figure")
    return float(value)


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(kind.__name__)
    if isinstance(value, int) and not 0 <= value <= MOST:
        raise ValueError("no count")
    return value
