"""Documents, the app's and the job's own, to and from the domain's classes. Datetimes may be ISO 8601 texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from notifications.adapters.stores.conversation_text import (
    TRANSCRIPT,
    is_encrypted,
    maps,
    summary_text,
    text,
    transcript,
)
from notifications.adapters.stores.layout import Layout, value_at
from notifications.domain.errors import Malformed
from notifications.domain.model import (
    FIRST_YEAR,
    LAST_YEAR,
    ActionItem,
    Cited,
    Conversation,
    DayState,
    Ledger,
    OpenTarget,
    Place,
    Summary,
    Turn,
    User,
    day_of,
)
from notifications.domain.schedule import zone
from notifications.domain.text import clean, language_tag
from notifications.domain.told_once import Candidates
from notifications.ports import UserDocument

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Doc = Mapping[str, Any]
T = TypeVar("T")
Facts = tuple[Cited, ...]  # what the LLM noted of one part of a long day

UNDER_WAY = ("in_progress", "processing")  # `status` while the app still writes it; a `deferred` one may stay so
EPOCH, MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
MAX_WORDS = 20_000  # characters of a text in a summary not written by this job
MAX_FIGURE = 10**12  # no real number in a ledger is higher
MAX_ID = 300  # characters of a summary's id that a push carries
PART_KEPT = timedelta(days=3)  # after that the day is over, and no recap needs it
LEDGER_FIELDS = frozenset(field.name for field in fields(Ledger))


def user_from(layout: Layout, uid: str, doc: Doc) -> User:
    """The user. Raises Malformed if the query can't see this document, and says why."""
    hour, enabled, name = (value_at(doc, field) for field in (layout.hour, layout.enabled, layout.time_zone))
    where = f"{layout.users}/{uid}"
    if not isinstance(enabled, bool):
        raise Malformed(f"{where}: {layout.enabled} is {_missing(enabled)}not true or false.")
    if isinstance(hour, bool) or not isinstance(hour, int | float) or hour not in range(24):
        raise Malformed(f"{where}: {layout.hour} is {_missing(hour)}not a whole number from 0 to 23.")
    if not isinstance(name, str):
        raise Malformed(f"{where}: {layout.time_zone} is missing or no text.")
    try:
        zone(name)
    except Malformed as cause:
        raise Malformed(f"{where}: {layout.time_zone}: {cause}") from None
    return User(uid, name, int(hour), enabled, language_tag(text(value_at(doc, layout.language))))


def _missing(value: object) -> str:
    return "missing, or " if value is None else ""


def user_document_from(
    layout: Layout, uid: str, doc: object, created: datetime | None = None, updated: datetime | None = None
) -> UserDocument:
    """The user, or why the job can't use this document."""
    user, flaw = None, ""
    try:
        if not isinstance(doc, Mapping):
            raise Malformed(f"{layout.users}/{uid} is not a map of fields.")
        user = user_from(layout, uid, doc)
    except Malformed as malformed:
        flaw = str(malformed)
    except UnicodeEncodeError:
        flaw = f"{layout.users}/{uid} holds half of a surrogate pair."
    return UserDocument(uid, user, flaw, created, updated, active(layout, doc))


def active(layout: Layout, doc: object) -> bool:
    """Whether the account exists and has recaps switched on."""
    return value_at(doc, layout.enabled) is True


def created_at(layout: Layout, doc: object) -> datetime | None:
    """When a conversation was made; None if that is missing, or of another type than the layout says."""
    value = value_at(doc, layout.created_at)
    if layout.created_at_is == "timestamp":
        return moment(value)
    try:
        return moment(EPOCH + value * MS) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except (OverflowError, ValueError):
        return None


def stored_instant(layout: Layout, instant: datetime) -> datetime | float:
    """An instant as `created_at` holds it."""
    return instant if layout.created_at_is == "timestamp" else (instant - EPOCH) / MS


def conversation_from(layout: Layout, key: str, doc: object) -> Conversation | None:
    """The conversation; None if the app's own fields leave it out (discarded, locked, deleted). Raises Malformed."""
    if not isinstance(doc, Mapping):
        raise Malformed(f"conversation {key} is not a map.")
    if any(value_at(doc, name) is True for name in layout.leave_out):
        return None
    structured = doc.get("structured") or {}
    created = created_at(layout, doc)
    if not isinstance(structured, Mapping) or created is None:
        raise Malformed(f"conversation {key}: `structured` is not a map, or `{layout.created_at}` is no time.")
    try:
        return _conversation(layout, key, doc, structured, created)
    except (UnicodeEncodeError, OverflowError) as cause:
        raise Malformed(f"conversation {key}: a time or a text of it can't be ({type(cause).__name__}).") from None


def conversations_from(
    layout: Layout, rows: Iterable[tuple[str, object]], candidates: Candidates
) -> tuple[list[Conversation], int]:
    """The conversations of (key, document) that are not under way, and how many documents were malformed."""
    conversations, malformed = [], 0
    for key, doc in rows:
        try:
            conversation = conversation_from(layout, key, doc)
        except Malformed:
            malformed += 1
        else:
            conversations += [conversation] if conversation and not candidates.is_for_next_recap(conversation) else []
    return conversations, malformed


def _conversation(layout: Layout, key: str, doc: Doc, structured: Doc, created: datetime) -> Conversation:
    overview, cut = summary_text(doc, structured, [value_at(doc, name) for name in layout.text])
    segments = None if overview else doc.get(TRANSCRIPT)
    encrypted = is_encrypted(segments)
    turns: tuple[Turn, ...] = ()
    if segments and not encrypted:
        turns, cut = transcript(key, segments)
    return Conversation(
        id=key,
        created_at=created,
        started_at=_strict_moment(doc.get("started_at")),
        finished_at=_strict_moment(doc.get("finished_at")),
        title=text(doc.get("user_title")) or text(value_at(doc, layout.title)),
        overview=overview,
        category=text(structured.get("category")),
        action_items=tuple(
            ActionItem(description, item.get("completed") is True)
            for item in maps(structured.get("action_items"))
            if item.get("deleted") is not True and (description := text(item.get("description")))
        ),
        events=tuple(title for item in maps(structured.get("events")) if (title := text(item.get("title")))),
        turns=turns,
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
    if not (_is_degrees(latitude, 90) and _is_degrees(longitude, 180)):
        return None
    return Place(float(latitude), float(longitude), text(value.get("address")))  # type: ignore[arg-type]


def _is_degrees(value: object, limit: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -limit <= value <= limit


def moment(value: object) -> datetime | None:
    """An aware instant from a datetime or ISO 8601 text; None for anything else, also for one without a zone."""
    try:
        return _strict_moment(value)
    except OverflowError:
        return None


def _strict_moment(value: object) -> datetime | None:
    """As `moment`, but raises OverflowError for an impossible year."""
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(parsed, datetime) or parsed.tzinfo is None:
        return None
    if not FIRST_YEAR <= parsed.year <= LAST_YEAR:
        raise OverflowError(parsed.year)
    return datetime.fromtimestamp(parsed.timestamp(), UTC).replace(microsecond=parsed.microsecond)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def kept_to(kind: Any, paid: T, expire_at: datetime) -> dict[str, Any]:
    """An LLM's work, kept so that it is not paid for twice: the facts of a part of a long day, or a draft."""
    return {"paid": _adapter(kind).dump_python(paid, mode="json"), "expire_at": expire_at}


def kept_from(kind: type[T], doc: object) -> T | None:
    """Read what an LLM was paid for; None if it can't be read: then the LLM is asked again."""
    try:
        paid: T = _adapter(cast(Any, kind)).validate_python(doc["paid"])  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        return None
    return paid


def summary_from(key: str, doc: Doc) -> Summary:
    """A summary that was not written by this job; missing fields are empty."""
    created = doc.get("created_at")
    if isinstance(created, str):  # the app stores a text without an offset, and means UTC
        created = moment(created) or f"{created}+00:00"
    return Summary(
        id=_words(doc.get("id"))[:MAX_ID] or key,
        created_at=moment(created),
        headline=_words(doc.get("headline")),
        overview=_words(doc.get("overview")),
        day_emoji=_words(doc.get("day_emoji")),
    )


def is_summary(doc: object) -> bool:
    """Whether it may be a summary: it has a day, and no text of one that is none."""
    given = doc if isinstance(doc, Mapping) else {}
    texts = all(isinstance(given.get(name, ""), str) for name in ("headline", "overview"))
    return texts and isinstance(day := given.get("date"), str) and day_of(day) is not None


def _words(value: object) -> str:
    return clean(value[:MAX_WORDS]) if isinstance(value, str) else ""


def ledger_to(entry: Ledger) -> dict[str, Any]:
    """A ledger document: every field that is set. `date` is for the audit's query over all users."""
    doc = {field.name: getattr(entry, field.name) for field in fields(entry)}
    doc |= {"date": entry.date.isoformat(), "state": entry.state.value, "devices": dict(entry.devices)}
    doc["targets"] = {name: asdict(target) for name, target in entry.targets.items()} or None
    return {name: value for name, value in doc.items() if value is not None and (value != "" or name == "told")}


def unknown_fields(doc: object) -> dict[str, Any]:
    """The fields that this version does not know, from a later version or another writer. A write keeps them."""
    return {key: value for key, value in doc.items() if key not in LEDGER_FIELDS} if isinstance(doc, Mapping) else {}


def ledger_changes(before: Ledger | None, after: Ledger) -> dict[str, Any]:
    """The fields that differ, with their new values; None for a field to delete."""
    old, new = ledger_to(before) if before else {}, ledger_to(after)
    return {name: new.get(name) for name in {**old, **new} if old.get(name) != new.get(name)}


def ledger_from(day: date, doc: object) -> Ledger:
    """The ledger; UNREADABLE if its state, or a field that decides, is unknown: then only its window counts."""
    try:
        return _ledger(day, doc)
    except (ValueError, TypeError, AttributeError):
        given = doc if isinstance(doc, Mapping) else {}
        told = given.get("told")
        return Ledger(
            date=day,
            state=DayState.UNREADABLE,
            window_start=moment(given.get("window_start")),
            window_end=moment(given.get("window_end")),
            told=told if isinstance(told, str) else None,
        )


def _ledger(day: date, doc: object) -> Ledger:
    if not isinstance(doc, Mapping):
        raise TypeError("no map")
    state = DayState(doc.get("state", ""))
    if state is DayState.UNREADABLE or (state is DayState.SENDING and doc.get("sending_at") is None):
        raise ValueError(state)
    given = {name: LEDGER_READERS[name](value) for name, value in doc.items() if name in LEDGER_READERS}
    return Ledger(date=day, state=state, **given)


def _devices(value: Any) -> dict[str, str]:
    return {_text(key): _text(code) for key, code in value.items()} if value else {}


def _open_targets(value: object) -> dict[str, OpenTarget]:
    """The open targets; one that can't be read is left out, and so due at once: they only space the tries."""
    found = {}
    for name, kept in value.items() if isinstance(value, Mapping) else ():
        tries, code = (kept.get("tries"), kept.get("code")) if isinstance(kept, Mapping) else (None, None)
        if isinstance(name, str) and type(tries) is int and 0 <= tries <= MAX_FIGURE:
            found[name] = OpenTarget(tries, moment(kept.get("due")), code if isinstance(code, str) else "")
    return found


def _instant(value: object) -> datetime | None:
    """The instant; None if it is not set. Raises ValueError for anything but an instant of a possible year."""
    instant = moment(value)
    if instant is None and value is not None:
        raise ValueError("no instant")
    return instant


def _figure(value: object) -> float | None:
    """The number; None for anything else. Raises ValueError for one that can't be added up."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if not 0 <= value <= MAX_FIGURE:  # NaN fails this, too
        raise ValueError("no figure")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("no count")
    if not 0 <= value <= MAX_FIGURE:
        raise ValueError("no count")
    return value


READERS: Mapping[str, Callable[[Any], Any]] = {  # by the annotation of Ledger's field
    "datetime | None": _instant,
    "int": _count,
    "str": _text,
    "str | None": lambda value: None if value is None else _text(value),
    "float | None": _figure,
    "bool | None": lambda value: value if isinstance(value, bool) else None,  # only the audit reads it
    "Mapping[str, str]": _devices,
    "Mapping[str, OpenTarget]": _open_targets,
}
LEDGER_READERS = {
    field.name: READERS[str(field.type)] for field in fields(Ledger) if field.name not in ("date", "state")
}
