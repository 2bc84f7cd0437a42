"""What the job itself writes: recaps and ledgers, to and from their documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:  # it takes 80 ms to load, and most runs keep nothing
    from pydantic import TypeAdapter

from notifications.adapters.stores.documents import Doc, moment
from notifications.domain.model import Cited, Ledger, State, Summary
from notifications.domain.text import clean

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
    """The ledger; UNREADABLE where its state, or a field that decides, is none of ours: never guessed at.

    What can be read of its window, and of what it told, still counts for the days around it.
    """
    try:
        return _ledger(day, doc)
    except (ValueError, TypeError, AttributeError):
        given = doc if isinstance(doc, Mapping) else {}
        told, (start, end) = given.get("told"), (moment(given.get(name)) for name in ("window_start", "window_end"))
        told = told if isinstance(told, str) else None
        return Ledger(date=day, state=State.UNREADABLE, window_start=start, window_end=end, told=told)


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
    state = State(doc.get("state", ""))
    if state is State.UNREADABLE or (state is State.SENDING and given["sending_at"] is None):
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
