"""Checks a user's documents before an import, mends those that the query can't see, and makes those of samples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from typing import Any

from notifications.adapters.stores import documents, recipients
from notifications.adapters.stores.conversation_text import TRANSCRIPT
from notifications.adapters.stores.documents import Doc
from notifications.adapters.stores.layout import FID, LEGACY_TOKEN, Layout, value_at, with_value
from notifications.domain.errors import Malformed
from notifications.domain.model import User
from notifications.domain.schedule import zone_names
from notifications.domain.text import is_document_id, printable
from notifications.ports import Decided, Mended

INSTANTS = ("created_at", "started_at", "finished_at")
STRUCTURED = ("title", "overview", "sections", "category", "action_items", "events")
LISTS = {"apps_results": "content", "plugins_results": "content", TRANSCRIPT: "text"}
LISTS_OF_STRUCTURED = {"action_items": "description", "events": "title", "sections": "body_markdown"}
# Likely names of texts that the job does not read.
UNREAD = (
    *("text", "transcript", "summary", "overview", "title"),
    *("content", "messages", "segments", "action_items", "events"),
)
UNREAD_STRUCTURED = ("summary", "text", "content", "transcript")  # likely names in place of `overview`
SIMILARITY = 0.8  # a name this similar to a known one counts as misspelled
HOW = "write it with its UTC offset, as 2026-11-25T20:00:00Z"

Collection = dict[str, Doc]


def check_user(
    layout: Layout, uid: str, user: Doc, devices: Mapping[str, object], conversations: Mapping[str, object]
) -> tuple[User, Collection, Collection]:
    """The user, and the devices and conversations with their instants parsed.

    Raises Malformed with the field and what to write.
    """
    listed = documents.user_document_from(layout, uid, user)
    if listed.user is None:
        raise Malformed(listed.flaw)
    _refuse_near_misses(f"{layout.users}/{uid}", user, _tops([*layout.user_fields, LEGACY_TOKEN]))
    return (
        listed.user,
        {key: _device(layout, where, doc) for where, key, doc in _listed(layout.devices, devices)},
        {
            key: _conversation(layout, uid, where, doc)
            for where, key, doc in _listed(layout.conversations, conversations)
        },
    )


def _tops(names: Iterable[str]) -> list[str]:
    """The fields of the document itself."""
    return list(dict.fromkeys(name.partition(".")[0] for name in names))


@cache
def _fields_of_conversation(layout: Layout) -> list[str]:
    return _tops([*layout.conversation_fields, TRANSCRIPT, *filter(None, [layout.owner])])


def _listed(name: str, docs: Mapping[str, object]) -> Iterator[tuple[str, str, Doc]]:
    for key, doc in docs.items():
        where = f"{name}/{key}"
        if not is_document_id(key):
            raise Malformed(f"{where}: the key is no id of a document.")
        if not isinstance(doc, Mapping):
            raise Malformed(f"{where} is not a map of fields.")
        yield where, key, doc


def _parsed(where: str, doc: Doc, names: Iterable[str]) -> Doc:
    for name in names:
        if (value := value_at(doc, name)) is not None:
            if (instant := documents.moment(value)) is None:
                raise Malformed(f"{where}: {name} is no time; {HOW}.")
            doc = with_value(doc, name, instant)
    return doc


def _device(layout: Layout, where: str, doc: Doc) -> Doc:
    if not recipients.devices_from(layout, [("", doc, None)])[0]:
        raise Malformed(f"{where}: {layout.token} is missing, or is no token, and there is no {FID}.")
    return _parsed(where, doc, INSTANTS)


def _conversation(layout: Layout, uid: str, where: str, doc: Doc) -> Doc:
    in_ms = layout.created_at_is == "ms"
    doc = _parsed(where, doc, [*INSTANTS[1:], *([] if in_ms else [layout.created_at])])
    _refuse_near_misses(where, doc, _fields_of_conversation(layout))
    if documents.created_at(layout, doc) is None:
        how = "write it in milliseconds since 1970" if in_ms else HOW
        raise Malformed(f"{where}: {layout.created_at} is missing{', or is no number' if in_ms else ''}; {how}.")
    if layout.owner and value_at(doc, layout.owner) != uid:
        raise Malformed(f"{where}: {layout.owner} is not the uid of its user.")
    _refuse_other_lists(f"{where}: ", doc, LISTS)
    try:
        documents.conversation_from(layout, "", doc)
    except Malformed:
        raise Malformed(f"{where}: structured is not a map, or a text of it is no Unicode.") from None
    structured = doc.get("structured") or {}
    texts = _tops(layout.text)
    if not doc.keys() & {"structured", *texts, *LISTS}:
        _refuse_unread(where, doc, UNREAD, f"{', '.join(texts) or 'structured'} and {TRANSCRIPT} are")
    if not structured.keys() & {"overview", "sections"}:
        _refuse_unread(f"{where}: structured", structured, UNREAD_STRUCTURED, "overview is")
    _refuse_near_misses(f"{where}: structured", structured, STRUCTURED)
    _refuse_other_lists(f"{where}: structured.", structured, LISTS_OF_STRUCTURED)
    return doc


def _refuse_other_lists(where: str, doc: Doc, lists: Mapping[str, str]) -> None:
    for name, key in lists.items():
        items = doc.get(name) or []
        if not isinstance(items, list) or not all(isinstance(item, Mapping) and key in item for item in items):
            raise Malformed(f"{where}{name} is not a list of {{{key!r}: text}}.")


def _refuse_unread(where: str, doc: Doc, unread: Sequence[str], read: str) -> None:
    """A text in another field would be missing in the recap."""
    for name in doc:
        if name in unread:
            raise Malformed(f"{where}: {name!r} is no field that is read; {read}.")


def _refuse_near_misses(where: str, doc: Doc, known: Sequence[str]) -> None:
    """An app may have fields of its own; a name similar to a known one is a mistake."""
    for name in doc:
        if name in known:
            continue
        near = [field for field in known if field == str(name).casefold()]
        near = near or [field for field in get_close_matches(str(name), known, 1, SIMILARITY) if field not in doc]
        if near:
            raise Malformed(f"{where}: {printable(str(name), 60)!r} is no field that is read; {near[0]} is.")


DROPPED = {  # names that tzdata once had in its file `backward`, and what they stood for
    "US/Pacific-New": "America/Los_Angeles",
    "Canada/East-Saskatchewan": "America/Regina",
}
HOUR = re.compile(r"\s*([0-9]{1,2})\s*", re.ASCII)
SWITCHES = {"true": True, "false": False}
NO_ZONE, ODD_ZONE = "no time zone", "an unknown time zone"
NO_HOUR, ODD_HOUR = "no hour", "an invalid hour"
NO_SWITCH, ODD_SWITCH = "no switch", "an invalid switch"


def mend_user(layout: Layout, doc: Doc, decided: Decided | None = None) -> Mended:
    """The changes that have one right answer, and the others only if they are decided.

    A zone, an hour and a switch are the app's to know: it writes a zone only if there is none, so a guess would
    stay. `GMT+03:00` is an offset, not a place: Etc/GMT-3 is the same today, and wrong in most places that have it
    after the next change of clocks.
    """
    decided = decided or Decided()
    names = layout.time_zone, layout.enabled, layout.hour
    found = [value_at(doc, name) for name in names]
    zone, switch, hour = found
    mended = (_zone(zone, decided.zone), _switch(switch, enable=decided.enable), _hour(hour, decided.hour))
    changes = {
        name: (old, value)
        for name, old, (value, _) in zip(names, found, mended, strict=True)
        if value is not None and (value != old or type(value) is not type(old))
    }
    return Mended(changes, tuple(flaw for _, flaw in mended if flaw))


def _zone(value: Any, decided: str | None) -> tuple[str | None, str]:
    if not isinstance(value, str) or not value.strip():
        return decided, "" if decided else NO_ZONE
    name = DROPPED.get(value.strip(), value.strip())
    if name in zone_names():
        return name, ""
    similar = [known for known in zone_names() if known.casefold() == name.casefold()]
    if len(similar) == 1:  # no two zones differ in case alone
        return similar[0], ""
    return decided, "" if decided else ODD_ZONE


def _switch(value: Any, *, enable: bool) -> tuple[bool | None, str]:
    if isinstance(value, bool):
        return value, ""
    if isinstance(value, str) and value.strip().lower() in SWITCHES:
        return SWITCHES[value.strip().lower()], ""
    if value is None:
        return (True, "") if enable else (None, NO_SWITCH)
    return None, ODD_SWITCH


def _hour(value: Any, decided: int | None) -> tuple[int | None, str]:
    if isinstance(value, str) and (digits := HOUR.fullmatch(value)):
        value = int(digits[1])
    if isinstance(value, int | float) and not isinstance(value, bool) and value in range(24):
        return int(value), ""
    return decided, "" if decided is not None else NO_HOUR if value is None else ODD_HOUR


def document_of(values: Iterable[tuple[str, object]]) -> dict[str, Any]:
    """A document of values at dotted names."""
    doc: dict[str, Any] = {}
    for name, value in values:
        doc = with_value(doc, name, value)
    return doc


def user_to(layout: Layout, name: str, enabled: bool, hour: int, language: str) -> dict[str, Any]:
    """A user's document, as the app writes it."""
    return document_of(zip(layout.user_fields, (name, enabled, hour, language), strict=True))


def conversation_to(
    layout: Layout,
    uid: str,
    begun: datetime,
    ended: datetime,
    title: str,
    turns: Iterable[tuple[str, str]],
    **structured: object,
) -> dict[str, Any]:
    """A conversation, as the app writes it. `turns`: who says what; an empty name is the user."""
    values = [
        (layout.created_at, documents.stored_instant(layout, ended)),
        ("started_at", begun),
        ("finished_at", ended),
    ]
    said = [{"text": text, "is_user": not name} | ({"speaker_name": name} if name else {}) for name, text in turns]
    named = [(layout.title, title), (TRANSCRIPT, said)]
    out = [*((name, False) for name in layout.leave_out), *([(layout.owner, uid)] if layout.owner else [])]
    return document_of([*values, *named, *out, *((f"structured.{name}", value) for name, value in structured.items())])
