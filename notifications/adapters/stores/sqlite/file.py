"""The file: its tables, its transactions, and how documents are written into it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from notifications.adapters.private_files import private_folder
from notifications.adapters.stores import documents

BUSY_TIMEOUT_SECONDS = 30
PRIVATE = 0o600
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
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE))  # what SQLite puts beside it gets the same mode
    with suppress(PermissionError):  # another's file, which its owner has to mend
        path.chmod(PRIVATE)
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
    db.execute(
        "INSERT INTO users (uid, hour, zone, enabled, doc, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (uid) DO UPDATE SET hour = excluded.hour, zone = excluded.zone, enabled = excluded.enabled, "
        "doc = excluded.doc, updated_at = excluded.updated_at",
        (
            uid,
            hour if isinstance(hour, int | float) and not isinstance(hour, bool) else None,
            zone if isinstance(zone, str) else None,
            1 if documents.active(user) else 0,
            to_json(user),
            now,
            now,
        ),
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
