"""One user's documents from outside: checked before anything is written, mended where the query can't see them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
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
USER_FIELDS = (documents.USER_ZONE, documents.USER_ENABLED, documents.USER_HOUR, "language", documents.LEGACY_TOKEN)
STRUCTURED = ("title", "overview", "sections", "category", "action_items", "events")
LISTS = {"apps_results": "content", "plugins_results": "content", TRANSCRIPT: "text"}
LISTS_OF_STRUCTURED = {"action_items": "description", "events": "title", "sections": "body_markdown"}
READ = ("structured", *LISTS)  # where words are looked for
WORDS = (
    *("text", "transcript", "summary", "overview", "title"),
    *("content", "messages", "segments", "action_items", "events"),
)
TOLD_WORDS = ("summary", "text", "content", "transcript")  # of `structured`, where no overview is
NEAR = 0.8  # how much alike a name is that nobody meant
HOW = "write it with its UTC offset, as 2026-11-25T20:00:00Z"

Collection = dict[str, documents.Doc]


def checked(
    uid: str, user: documents.Doc, fcm_tokens: Mapping[str, object], conversations: Mapping[str, object]
) -> dict[str, Collection]:
    """The two collections, with instants in place of their text. Raises Malformed: where, and what to write."""
    flaw = documents.listed(uid, user).flaw
    if flaw:
        raise Malformed(flaw)
    _refuse_near_misses(f"users/{uid}", user, USER_FIELDS)
    return {
        "fcm_tokens": _collection("fcm_tokens", fcm_tokens, _device),
        "conversations": _collection("conversations", conversations, _conversation),
    }


def _collection(name: str, found: Mapping[str, object], check: Callable[[str, documents.Doc], None]) -> Collection:
    made: Collection = {}
    for key, doc in found.items():
        where = f"{name}/{key}"
        if not is_document_id(key):
            raise Malformed(f"{where}: the key is no id of a document.")
        if not isinstance(doc, Mapping):
            raise Malformed(f"{where} is not a map of fields.")
        made[key] = {**doc, **_instants(where, doc)}
        check(where, made[key])
    return made


def _instants(where: str, doc: documents.Doc) -> dict[str, datetime | None]:
    found = {name: documents.moment(doc[name]) for name in INSTANTS if doc.get(name) is not None}
    for name in (name for name, moment in found.items() if moment is None):
        raise Malformed(f"{where}: {name} is no time; {HOW}.")
    return found


def _device(where: str, doc: documents.Doc) -> None:
    if not documents.devices_from([("", doc, None)])[0]:
        raise Malformed(f"{where}: token is missing, or is no token, and there is no fid.")


def _conversation(where: str, doc: documents.Doc) -> None:
    _refuse_near_misses(where, doc, (*documents.CONVERSATION_FIELDS, TRANSCRIPT))
    if "created_at" not in doc:
        raise Malformed(f"{where}: created_at is missing; {HOW}.")
    _refuse_other_lists(f"{where}: ", doc, LISTS)
    try:
        documents.conversation_from("", doc)
    except Malformed:
        raise Malformed(f"{where}: structured is not a map, or a text of it is no Unicode.") from None
    structured = doc.get("structured") or {}
    if not doc.keys() & {*READ}:
        _refuse_unread(where, doc, WORDS, f"structured and {TRANSCRIPT} are")
    if not structured.keys() & {"overview", "sections"}:
        _refuse_unread(f"{where}: structured", structured, TOLD_WORDS, "overview is")
    _refuse_near_misses(f"{where}: structured", structured, STRUCTURED)
    _refuse_other_lists(f"{where}: structured.", structured, LISTS_OF_STRUCTURED)


def _refuse_other_lists(where: str, doc: documents.Doc, lists: Mapping[str, str]) -> None:
    for name, key in lists.items():
        found = doc.get(name) or []
        if not isinstance(found, list) or not all(isinstance(one, Mapping) and key in one for one in found):
            raise Malformed(f"{where}{name} is not a list of {{{key!r}: text}}.")


def _refuse_unread(where: str, doc: documents.Doc, words: Sequence[str], read: str) -> None:
    """What was said, under a name that nobody reads: the recap would be made without it."""
    for name in doc:
        if name in words:
            raise Malformed(f"{where}: {name!r} is no field that is read; {read}.")


def _refuse_near_misses(where: str, doc: documents.Doc, known: Sequence[str]) -> None:
    """An app's own fields are its own; one that is nearly ours is a mistake."""
    for name in doc:
        if name in known:
            continue
        near = [one for one in known if one == str(name).casefold()]
        near = near or [one for one in get_close_matches(str(name), known, 1, NEAR) if one not in doc]
        if near:
            raise Malformed(f"{where}: {printable(str(name), 60)!r} is no field that is read; {near[0]} is.")


DROPPED = {  # links that tzdata once had in its file `backward`, and where they led
    "US/Pacific-New": "America/Los_Angeles",
    "Canada/East-Saskatchewan": "America/Regina",
}
HOUR = re.compile(r"\s*([0-9]{1,2})\s*", re.ASCII)
SWITCHES = {"true": True, "false": False}
NO_ZONE, ODD_ZONE = "no time zone", "a time zone that is none"
NO_HOUR, ODD_HOUR = "no hour", "an hour that is none"
NO_SWITCH, ODD_SWITCH = "no switch", "a switch that is neither on nor off"


def mended(doc: Doc, decided: Decided | None = None) -> Mended:
    """What changes: what has one right answer, and the rest only where it is decided.

    A zone, an hour and a switch are the app's to know: it writes a zone only where there is none, so that a guess of
    ours would stay for good. `GMT+03:00` is an offset of some day, not a place: Etc/GMT-3 is the same today, and wrong
    after the next change of clocks in most places that have it.
    """
    decided = decided or Decided()
    found = {
        USER_ZONE: _zone(doc.get(USER_ZONE), decided.zone),
        USER_ENABLED: _switch(doc.get(USER_ENABLED), enable=decided.enable),
        USER_HOUR: _hour(doc.get(USER_HOUR), decided.hour),
    }
    changes = {
        name: (doc.get(name), value)
        for name, (value, _) in found.items()
        if value is not None and (value != doc.get(name) or type(value) is not type(doc.get(name)))
    }
    return Mended(changes, tuple(kind for _, kind in found.values() if kind))


def _zone(told: Any, decided: str | None) -> tuple[str | None, str]:
    if not isinstance(told, str) or not told.strip():
        return decided, "" if decided else NO_ZONE
    name = told.strip()
    name = DROPPED.get(name, name)
    if name in zone_names():
        return name, ""
    alike = [one for one in zone_names() if one.casefold() == name.casefold()]
    if len(alike) == 1:  # names that differ in case alone are never two zones
        return alike[0], ""
    return decided, "" if decided else ODD_ZONE


def _switch(told: Any, *, enable: bool) -> tuple[bool | None, str]:
    if isinstance(told, bool):
        return told, ""
    if isinstance(told, str) and told.strip().lower() in SWITCHES:
        return SWITCHES[told.strip().lower()], ""
    if told is None:
        return (True, "") if enable else (None, NO_SWITCH)
    return None, ODD_SWITCH


def _hour(told: Any, decided: int | None) -> tuple[int | None, str]:
    if isinstance(told, str) and (digits := HOUR.fullmatch(told)):
        told = int(digits[1])
    if isinstance(told, int | float) and not isinstance(told, bool) and told in range(24):
        return int(told), ""
    return decided, "" if decided is not None else NO_HOUR if told is None else ODD_HOUR
