"""One function for each question; each runs in the thread that owns the connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import islice
from typing import TypeVar

from notifications.adapters.stores import documents
from notifications.adapters.stores.documents import (
    PART_KEPT,
    kept_from,
    kept_to,
    ledger_from,
    ledger_to,
    summary_from,
    unknown_fields,
)
from notifications.adapters.stores.ledgers import Decide, read_again
from notifications.adapters.stores.mending import mended
from notifications.adapters.stores.sqlite.file import from_json, from_micros, immediate, micros, put_user, to_json
from notifications.domain.delivery import Decision, Opening, Seen
from notifications.domain.errors import Malformed
from notifications.domain.model import Conversation, Device, Ledger, Summary, day_of
from notifications.domain.shards import Range
from notifications.domain.told import Candidates
from notifications.ports import Decided, Listed, Mended
from notifications.recap.bounds import MAX_READ
from notifications.recap.document import recap_to

T = TypeVar("T")
USER = "uid, doc, created_at, updated_at"


def due_users(
    db: sqlite3.Connection, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int
) -> list[Listed]:
    """Enabled users of these zones and this hour, by id: as the columns have it, which a document may contradict."""
    marks = ",".join("?" * len(zones))
    rows = db.execute(
        f"SELECT {USER} FROM users INDEXED BY users_by_hour "  # noqa: S608 - only question marks go in
        f"WHERE hour = ? AND uid > ? AND uid >= ? AND (? IS NULL OR uid < ?) AND enabled = 1 AND zone IN ({marks}) "
        "ORDER BY uid LIMIT ?",
        (hour, after or "", ids.start or "", ids.end, ids.end, *zones, limit),
    )
    found = [_listed(row) for row in rows]
    return [one if _agrees(one, zones, hour) else replace(one, user=None, flaw=_contradiction(one)) for one in found]


def _agrees(one: Listed, zones: Sequence[str], hour: int) -> bool:
    return one.user is not None and one.user.enabled and one.user.hour == hour and one.user.zone in zones


def _contradiction(one: Listed) -> str:
    return one.flaw or f"users/{one.uid}: its columns and its document disagree; write the document anew."


def _listed(row: tuple[str, str, int | None, int | None]) -> Listed:
    uid, doc, created, updated = row
    return documents.listed(uid, from_json(doc), from_micros(created), from_micros(updated))


def user(db: sqlite3.Connection, uid: str) -> Listed | None:
    """One user; None where there is no such document."""
    row = db.execute(f"SELECT {USER} FROM users WHERE uid = ?", (uid,)).fetchone()  # noqa: S608 - a constant
    return _listed(row) if row else None


def user_doc(db: sqlite3.Connection, uid: str) -> object:
    """The user document as it is; None where there is none, or no JSON in it."""
    row = db.execute("SELECT doc FROM users WHERE uid = ?", (uid,)).fetchone()
    return from_json(row[0]) if row else None


def conversations_in(db: sqlite3.Connection, uid: str, candidates: Candidates) -> tuple[list[Conversation], int]:
    """What a recap may be made of, oldest first, and how many were malformed."""
    rows = db.execute(
        "SELECT id, doc FROM conversations WHERE uid = ? AND created_at >= ? AND created_at < ? "
        "ORDER BY created_at DESC",
        (uid, micros(candidates.since), micros(candidates.until)),
    )
    untold = islice((row for row in rows if not candidates.leave_out(uid, row[0])), MAX_READ)
    found, malformed = [], 0
    for key, doc in reversed(list(untold)):
        try:
            conversation = documents.conversation_from(key, from_json(doc))
        except Malformed:
            malformed += 1
        else:
            found += [conversation] if conversation and not candidates.under_way(conversation) else []
    return found, malformed


def devices(db: sqlite3.Connection, uid: str) -> tuple[list[Device], int]:
    """The devices, each token once, and how many were malformed."""
    rows = db.execute("SELECT key, doc FROM devices WHERE uid = ? ORDER BY key", (uid,)).fetchall()
    found, malformed = documents.devices_from((key, from_json(doc), doc) for key, doc in rows)
    return documents.chosen(found, user_doc(db, uid)), malformed


def forget_device(db: sqlite3.Connection, uid: str, device: Device) -> bool:
    """Delete a token, if its document is unchanged."""
    if device.key is not None:
        gone = db.execute(
            "DELETE FROM devices WHERE uid = ? AND key = ? AND doc = ?", (uid, device.key, device.version)
        )
        return gone.rowcount == 1
    field = f"$.{documents.LEGACY_TOKEN}"
    gone = db.execute(
        "UPDATE users SET doc = json_remove(doc, ?) WHERE uid = ? AND json_extract(doc, ?) = ?",
        (field, uid, field, device.version),
    )
    return gone.rowcount == 1


def ledgers_between(db: sqlite3.Connection, uid: str, first: date, last: date) -> dict[date, Ledger]:
    """The ledgers of a range of dates."""
    rows = db.execute(
        "SELECT date, doc FROM ledgers WHERE uid = ? AND date BETWEEN ? AND ?",
        (uid, first.isoformat(), last.isoformat()),
    )
    days = ((day_of(key), from_json(doc)) for key, doc in rows)
    return {day: ledger_from(day, doc) for day, doc in days if day is not None}


def open_ledgers(db: sqlite3.Connection, after: tuple[str, date] | None, limit: int) -> list[tuple[str, Ledger]]:
    """Those in sending and pending of everybody, by uid and date."""
    uid, day = (after[0], after[1].isoformat()) if after else ("", "")
    rows = db.execute(
        "SELECT uid, date, doc FROM ledgers INDEXED BY ledgers_open "
        "WHERE state IN ('sending', 'pending') AND (uid, date) > (?, ?) ORDER BY uid, date LIMIT ?",
        (uid, day, limit),
    )
    found = ((uid, day_of(key), from_json(doc)) for uid, key, doc in rows)
    return [(uid, ledger_from(day, doc)) for uid, day, doc in found if day is not None]


def summary_on(db: sqlite3.Connection, uid: str, day: date) -> Summary | None:
    """A summary whose `date` is that day."""
    row = db.execute(
        "SELECT id, doc FROM summaries WHERE uid = ? AND date = ? LIMIT 1", (uid, day.isoformat())
    ).fetchone()
    return summary_from(row[0], _map(from_json(row[1]))) if row else None


def kept(db: sqlite3.Connection, kind: type[T], uid: str, day: date, key: str) -> T | None:
    """What an LLM made and was paid for; None where nobody asked it, or long ago."""
    asked = "SELECT doc FROM parts WHERE uid = ? AND date = ? AND key = ? AND expire_at > ?"
    row = db.execute(asked, (uid, day.isoformat(), key, micros(datetime.now(UTC)))).fetchone()
    return kept_from(kind, from_json(row[0])) if row else None


def keep(db: sqlite3.Connection, kind: type[T], uid: str, day: date, key: str, paid: T) -> None:
    """Keep it for some days, of who is there and wants recaps; what has had its time goes."""
    now = datetime.now(UTC)
    doc = to_json(kept_to(kind, paid, now + PART_KEPT))
    with immediate(db):
        db.execute("DELETE FROM parts WHERE expire_at < ?", (micros(now),))
        if not documents.active(user_doc(db, uid)):
            return
        row = (uid, day.isoformat(), key, doc, micros(now + PART_KEPT))
        db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?)", row)


def summary_document(db: sqlite3.Connection, uid: str, day: date, key: str = "") -> documents.Doc | None:
    """The summary of that id, else one whose `date` is that day, as it is stored, whoever wrote it."""
    row = db.execute(
        "SELECT doc FROM summaries WHERE uid = ? AND date = ? ORDER BY id != ? LIMIT 1", (uid, day.isoformat(), key)
    ).fetchone()
    return _map(from_json(row[0])) if row else None


def _map(doc: object) -> documents.Doc:
    return doc if isinstance(doc, Mapping) else {}


def everybody(db: sqlite3.Connection, after: str | None, limit: int) -> list[Listed]:
    """User documents by id."""
    asked = f"SELECT {USER} FROM users WHERE uid > ? ORDER BY uid LIMIT ?"  # noqa: S608 - a constant
    return [_listed(row) for row in db.execute(asked, (after or "", limit))]


def ledgers_on(db: sqlite3.Connection, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
    """The ledgers of one date, by uid."""
    rows = db.execute(
        "SELECT uid, doc FROM ledgers WHERE date = ? AND uid > ? ORDER BY uid LIMIT ?",
        (day.isoformat(), after or "", limit),
    )
    return [(uid, ledger_from(day, from_json(doc))) for uid, doc in rows]


def summaries_on(db: sqlite3.Connection, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
    """uid and id of the summaries of one date."""
    uid, _, key = (after or "").rpartition("/")
    rows = db.execute(
        "SELECT uid, id FROM summaries WHERE date = ? AND (uid, id) > (?, ?) ORDER BY uid, id LIMIT ?",
        (day.isoformat(), uid, key, limit),
    )
    return list(rows)


def mend(db: sqlite3.Connection, uid: str, decided: Decided | None = None, *, write: bool = True) -> Mended:
    """Mend an invisible user; an account that was erased meanwhile stays erased."""
    with immediate(db):
        found = user(db, uid)
        if found is None or found.user is not None:
            return Mended({})
        doc = _map(user_doc(db, uid))
        told = mended(doc, decided)
        if write and told.changes:
            put_user(db, uid, {**doc, **{name: new for name, (_, new) in told.changes.items()}})
    return told


def transaction(
    db: sqlite3.Connection,
    uid: str,
    day: date,
    decide: Decide,
    *,
    user: bool,
    summary: bool = False,
    rests_on: Opening | None = None,
) -> Decision:
    """Read, decide and write in one transaction."""
    with immediate(db):
        now = datetime.now(UTC)
        stored = _ledger_doc(db, uid, day)
        account = user_doc(db, uid) if user else None
        again = read_again(rests_on, account)
        ledgers = ledgers_between(db, uid, min(again), max(again)) if again else {}
        seen = Seen(
            ledger=None if stored is None else ledger_from(day, from_json(stored)),
            read_time=now,
            active=documents.active(account) if user else True,
            summary=summary_on(db, uid, day) if summary else None,
            around={one: ledgers.get(one) for one in again},
        )
        decision = decide(seen)
        entry = decision.to_store(now)
        if entry is None:
            return decision
        db.execute(
            "INSERT OR REPLACE INTO ledgers (uid, date, doc) VALUES (?, ?, ?)",
            (uid, day.isoformat(), to_json(unknown_fields(from_json(stored)) | ledger_to(entry))),
        )
        if decision.recap is not None:
            doc = recap_to(decision.recap)
            db.execute(
                "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?)",
                (uid, decision.recap.date.isoformat(), decision.recap.id, to_json(doc)),
            )
    return replace(decision, entry=entry)


def _ledger_doc(db: sqlite3.Connection, uid: str, day: date) -> object:
    row = db.execute("SELECT doc FROM ledgers WHERE uid = ? AND date = ?", (uid, day.isoformat())).fetchone()
    return row[0] if row else None
