"""The file: its tables, its transactions, and one function for each question, in the thread that owns it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from notifications.adapters.local.private_files import PRIVATE_FILE, private_folder
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
from notifications.adapters.stores.imports import mended
from notifications.adapters.stores.ledgers import Decide, read_again
from notifications.domain.delivery import Decision, Opening, Snapshot
from notifications.domain.errors import Malformed
from notifications.domain.model import Conversation, Device, Ledger, Summary, day_of
from notifications.domain.shards import Range
from notifications.domain.told import Candidates
from notifications.ports import Decided, Listed, Mended
from notifications.recap.bounds import MAX_READ
from notifications.recap.document import recap_to

BUSY_TIMEOUT_SECONDS = 30
STATE = "state TEXT AS (CASE WHEN json_valid(doc) THEN json_extract(doc, '$.state') END)"
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS users (
    uid TEXT PRIMARY KEY, hour, zone, enabled, doc TEXT NOT NULL, created_at INTEGER, updated_at INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS users_by_hour ON users (hour, uid, zone, enabled);
CREATE TABLE IF NOT EXISTS devices (
    uid TEXT, key TEXT, doc TEXT NOT NULL, PRIMARY KEY (uid, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conversations (
    uid TEXT, created_at INTEGER, id TEXT, doc TEXT NOT NULL, PRIMARY KEY (uid, created_at, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS conversations_by_id ON conversations (uid, id);
CREATE TABLE IF NOT EXISTS summaries (
    uid TEXT, date TEXT, id TEXT, doc TEXT NOT NULL, PRIMARY KEY (uid, date, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledgers (
    uid TEXT, date TEXT, doc TEXT NOT NULL, {STATE}, PRIMARY KEY (uid, date)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
    uid TEXT, date TEXT, key TEXT, doc TEXT NOT NULL, expire_at INTEGER, PRIMARY KEY (uid, date, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS parts_by_end ON parts (expire_at);
CREATE INDEX IF NOT EXISTS ledgers_by_date ON ledgers (date, uid);
CREATE INDEX IF NOT EXISTS summaries_by_date ON summaries (date, uid);
CREATE INDEX IF NOT EXISTS ledgers_open ON ledgers (uid, date) WHERE state IN ('sending', 'pending');
"""


def open_file(path: Path) -> sqlite3.Connection:
    """The file, created with its tables where it is new; readable for its owner alone."""
    private_folder(path.parent)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_FILE))  # what SQLite puts beside it gets the same mode
    with suppress(PermissionError):  # another's file, which its owner has to mend
        path.chmod(PRIVATE_FILE)
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # the ledger is the truth: it must outlive a power cut
    with immediate(db):
        _upgrade(db)
    db.executescript(SCHEMA)
    return db


def _upgrade(db: sqlite3.Connection) -> None:
    """Files of earlier versions have no times of the user documents, and no column of the ledgers' state."""
    for table, columns in (("users", ("created_at INTEGER", "updated_at INTEGER")), ("ledgers", (STATE,))):
        have = [column[1] for column in db.execute(f"PRAGMA table_xinfo({table})")]
        for column in columns:
            if have and column.split()[0] not in have:
                db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")


@contextmanager
def immediate(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction that may write from its start."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def put_talks(db: sqlite3.Connection, uid: str, conversations: Mapping[str, documents.Doc]) -> None:
    """Some of the conversations that belong to a user who is put last."""
    with immediate(db):
        _put_talks(db, uid, conversations)


def put(
    db: sqlite3.Connection, uid: str, user: documents.Doc, collections: Mapping[str, Mapping[str, documents.Doc]]
) -> None:
    """One user and what belongs to them, in one commit."""
    with immediate(db):
        put_user(db, uid, user)
        for key, doc in collections.get("fcm_tokens", {}).items():
            db.execute("INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", (uid, key, to_json(doc)))
        _put_talks(db, uid, collections.get("conversations", {}))


def add_talks(db: sqlite3.Connection, uid: str, conversations: Mapping[str, documents.Doc]) -> None:
    """More conversations of a user who is there; of nobody else."""
    with immediate(db):
        if db.execute("SELECT 1 FROM users WHERE uid = ?", (uid,)).fetchone():
            _put_talks(db, uid, conversations)


def _put_talks(db: sqlite3.Connection, uid: str, conversations: Mapping[str, documents.Doc]) -> None:
    for key, doc in conversations.items():
        db.execute("DELETE FROM conversations WHERE uid = ? AND id = ?", (uid, key))  # of another `created_at`
        taken_in = documents.moment(doc.get("created_at"))
        row = (uid, micros(taken_in) if taken_in else 0, key, to_json(doc))
        db.execute("INSERT OR REPLACE INTO conversations VALUES (?, ?, ?, ?)", row)


def remove(db: sqlite3.Connection, uid: str) -> None:
    """A user and all that lies below, in one commit."""
    with immediate(db):
        for table in ("users", "devices", "conversations", "summaries", "ledgers", "parts"):
            db.execute(f"DELETE FROM {table} WHERE uid = ?", (uid,))  # noqa: S608 - our own names


def put_user(db: sqlite3.Connection, uid: str, user: documents.Doc) -> None:
    """The document, with the columns that the query for users goes by; inside a transaction of the caller's."""
    hour, zone, now = user.get(documents.USER_HOUR), user.get(documents.USER_ZONE), micros(datetime.now(UTC))
    hour = hour if isinstance(hour, int | float) and not isinstance(hour, bool) else None
    zone = zone if isinstance(zone, str) else None
    db.execute(
        "INSERT INTO users (uid, hour, zone, enabled, doc, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (uid) DO UPDATE SET hour = excluded.hour, zone = excluded.zone, enabled = excluded.enabled, "
        "doc = excluded.doc, updated_at = excluded.updated_at",
        (uid, hour, zone, 1 if documents.active(user) else 0, to_json(user), now, now),
    )


def micros(moment: datetime) -> int:
    """The instant in microseconds since the epoch: how the tables order conversations."""
    return int(moment.timestamp() * 1_000_000)


def from_micros(stored: int | None) -> datetime | None:
    """The instant that a column holds."""
    return None if stored is None else datetime.fromtimestamp(stored / 1_000_000, UTC)


def to_json(doc: Mapping[str, Any]) -> str:
    """A document as it is stored; datetimes as ISO 8601 in UTC."""
    return json.dumps(doc, default=_iso, ensure_ascii=False, separators=(",", ":"))


def from_json(text: object) -> object:
    """What is stored; None for what is no JSON, or too deep to be a document of ours."""
    try:
        return json.loads(text) if isinstance(text, str | bytes) else None
    except (ValueError, RecursionError):
        return None


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")


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
    return [_if_it_agrees(_listed(row), zones, hour) for row in rows]


def _if_it_agrees(one: Listed, zones: Sequence[str], hour: int) -> Listed:
    if one.user is not None and one.user.enabled and one.user.hour == hour and one.user.zone in zones:
        return one
    flaw = one.flaw or f"users/{one.uid}: its columns and its document disagree; write the document anew."
    return replace(one, user=None, flaw=flaw)


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


def all_users(db: sqlite3.Connection, after: str | None, limit: int) -> list[Listed]:
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
        row = db.execute("SELECT doc FROM ledgers WHERE uid = ? AND date = ?", (uid, day.isoformat())).fetchone()
        stored = row[0] if row else None
        account = user_doc(db, uid) if user else None
        again = read_again(rests_on, account)
        ledgers = ledgers_between(db, uid, min(again), max(again)) if again else {}
        seen = Snapshot(
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
