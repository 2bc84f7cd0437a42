"""Checks a user's documents before an import, and mends user documents that the query for due users can't see."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from notifications.adapters.stores import documents
from notifications.adapters.stores.conversation_text import TRANSCRIPT
from notifications.adapters.stores.documents import USER_ENABLED, USER_HOUR, USER_ZONE, Doc
from notifications.domain.errors import Malformed
from notifications.domain.schedule import zone_names
from notifications.domain.text import is_document_id, printable
from notifications.ports import Decided, Mended

INSTANTS = ("created_at", "started_at", "finished_at")
USER_FIELDS = (USER_ZONE, USER_ENABLED, USER_HOUR, "language", documents.LEGACY_TOKEN)
STRUCTURED = ("title", "overview", "sections", "category", "action_items", "events")
LISTS = {"apps_results": "content", "plugins_results": "content", TRANSCRIPT: "text"}
LISTS_OF_STRUCTURED = {"action_items": "description", "events": "title", "sections": "body_markdown"}
TEXT_FIELDS = ("structured", *LISTS)  # the fields that are read
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
    uid: str, user: Doc, fcm_tokens: Mapping[str, object], conversations: Mapping[str, object]
) -> dict[str, Collection]:
    """The two collections with their instants parsed. Raises Malformed with the field and what to write."""
    if flaw := documents.user_document_from(uid, user).flaw:
        raise Malformed(flaw)
    _refuse_near_misses(f"users/{uid}", user, USER_FIELDS)
    return {
        "fcm_tokens": _collection("fcm_tokens", fcm_tokens, _device),
        "conversations": _collection("conversations", conversations, _conversation),
    }


def _collection(name: str, docs: Mapping[str, object], check: Callable[[str, Doc], None]) -> Collection:
    parsed: Collection = {}
    for key, doc in docs.items():
        where = f"{name}/{key}"
        if not is_document_id(key):
            raise Malformed(f"{where}: the key is no id of a document.")
        if not isinstance(doc, Mapping):
            raise Malformed(f"{where} is not a map of fields.")
        instants = {field: documents.moment(doc[field]) for field in INSTANTS if doc.get(field) is not None}
        for field, instant in instants.items():
            if instant is None:
                raise Malformed(f"{where}: {field} is no time; {HOW}.")
        parsed[key] = {**doc, **instants}
        check(where, parsed[key])
    return parsed


def _device(where: str, doc: Doc) -> None:
    if not documents.devices_from([("", doc, None)])[0]:
        raise Malformed(f"{where}: token is missing, or is no token, and there is no fid.")


def _conversation(where: str, doc: Doc) -> None:
    _refuse_near_misses(where, doc, (*documents.CONVERSATION_FIELDS, TRANSCRIPT))
    if "created_at" not in doc:
        raise Malformed(f"{where}: created_at is missing; {HOW}.")
    _refuse_other_lists(f"{where}: ", doc, LISTS)
    try:
        documents.conversation_from("", doc)
    except Malformed:
        raise Malformed(f"{where}: structured is not a map, or a text of it is no Unicode.") from None
    structured = doc.get("structured") or {}
    if not doc.keys() & {*TEXT_FIELDS}:
        _refuse_unread(where, doc, UNREAD, f"structured and {TRANSCRIPT} are")
    if not structured.keys() & {"overview", "sections"}:
        _refuse_unread(f"{where}: structured", structured, UNREAD_STRUCTURED, "overview is")
    _refuse_near_misses(f"{where}: structured", structured, STRUCTURED)
    _refuse_other_lists(f"{where}: structured.", structured, LISTS_OF_STRUCTURED)


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


def mend_user(doc: Doc, decided: Decided | None = None) -> Mended:
    """The changes that have one right answer, and the others only if they are decided.

    A zone, an hour and a switch are the app's to know: it writes a zone only if there is none, so a guess would
    stay. `GMT+03:00` is an offset, not a place: Etc/GMT-3 is the same today, and wrong in most places that have it
    after the next change of clocks.
    """
    decided = decided or Decided()
    fields = {
        USER_ZONE: _zone(doc.get(USER_ZONE), decided.zone),
        USER_ENABLED: _switch(doc.get(USER_ENABLED), enable=decided.enable),
        USER_HOUR: _hour(doc.get(USER_HOUR), decided.hour),
    }
    changes = {
        name: (doc.get(name), value)
        for name, (value, _) in fields.items()
        if value is not None and (value != doc.get(name) or type(value) is not type(doc.get(name)))
    }
    return Mended(changes, tuple(flaw for _, flaw in fields.values() if flaw))


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
