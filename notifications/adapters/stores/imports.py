"""One user's documents from outside, checked before anything is written: what the job could not read is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from notifications.adapters.stores import documents
from notifications.domain.errors import Malformed
from notifications.domain.text import is_document_id

INSTANTS = ("created_at", "started_at", "finished_at")
HOW = "write it with its UTC offset, as 2026-11-25T20:00:00Z"

Collection = dict[str, documents.Doc]


def checked(
    uid: str, user: documents.Doc, fcm_tokens: Mapping[str, object], conversations: Mapping[str, object]
) -> dict[str, Collection]:
    """The two collections, with instants in place of their text. Raises Malformed: where, and what to write."""
    flaw = documents.listed(uid, user).flaw
    if flaw:
        raise Malformed(flaw)
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


def _instants(where: str, doc: documents.Doc) -> dict[str, Any]:
    return {name: _instant(f"{where}: {name}", doc[name]) for name in INSTANTS if doc.get(name) is not None}


def _instant(where: str, told: object) -> datetime:
    found = documents.moment(told)
    if found is None:
        raise Malformed(f"{where} is no time; {HOW}.")
    return found


def _device(where: str, doc: documents.Doc) -> None:
    try:
        device = documents.device_from("", doc, None)
    except Malformed:
        device = None
    if device is None:
        raise Malformed(f"{where}: token is missing, or is no token.")


def _conversation(where: str, doc: documents.Doc) -> None:
    if "created_at" not in doc:
        raise Malformed(f"{where}: created_at is missing; {HOW}.")
    try:
        documents.conversation_from("", doc)
    except Malformed:
        raise Malformed(f"{where}: structured is not a map, or a text of it is no Unicode.") from None
