"""The file: its tables, its transactions, and what writes one user into it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from notifications.adapters.local.private_files import PRIVATE_FILE, private_folder
from notifications.adapters.stores import documents
from notifications.adapters.stores.documents import Doc
from notifications.adapters.stores.layout import Layout, value_at

Docs = Mapping[str, Doc]  # by their ids
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


def open_file(path: Path, layout: Layout) -> sqlite3.Connection:
    """Open the file, or create it with its tables; only its owner can read it. Its columns are as the layout says."""
    private_folder(path.parent)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_FILE))  # SQLite gives the files beside it the same mode
    with suppress(PermissionError):  # another user's file: only its owner can correct it
        path.chmod(PRIVATE_FILE)
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # the ledger is the truth: it must outlive a power cut
    if any(_missing_columns(db)):  # who only reads needs no lock, whatever another process writes
        with immediate(db):
            for table, column in list(_missing_columns(db)):
                db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    db.executescript(SCHEMA)
    if db.execute("PRAGMA user_version").fetchone()[0] != layout.version:
        with immediate(db):
            _rebuild_columns(db, layout)
    return db


def _missing_columns(db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Columns that files of earlier versions lack: times of the user documents, and the ledgers' state."""
    for table, columns in (("users", ("created_at INTEGER", "updated_at INTEGER")), ("ledgers", (STATE,))):
        existing = [column[1] for column in db.execute(f"PRAGMA table_xinfo({table})")]
        yield from ((table, column) for column in columns if existing and column.split()[0] not in existing)


def _rebuild_columns(db: sqlite3.Connection, layout: Layout) -> None:
    """What the documents say under the names of another layout. Inside a transaction of the caller's."""
    for uid, doc in db.execute("SELECT uid, doc FROM users").fetchall():
        row = (*_user_columns(layout, from_json(doc)), uid)
        db.execute("UPDATE users SET hour = ?, zone = ?, enabled = ? WHERE uid = ?", row)
    for uid, was, key in db.execute("SELECT uid, created_at, id FROM conversations").fetchall():
        place = (uid, was, key)
        [doc] = db.execute(
            "SELECT doc FROM conversations WHERE uid = ? AND created_at = ? AND id = ?", place
        ).fetchone()
        row = (_created_micros(layout, from_json(doc)), *place)
        db.execute("UPDATE conversations SET created_at = ? WHERE uid = ? AND created_at = ? AND id = ?", row)
    db.execute(f"PRAGMA user_version = {layout.version}")


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


def put(db: sqlite3.Connection, layout: Layout, uid: str, user: Doc, devices: Docs, conversations: Docs) -> None:
    """One user, with devices and conversations, in one commit. A field that `user` does not name stays as it is."""
    with immediate(db):
        stored = db.execute("SELECT doc FROM users WHERE uid = ?", (uid,)).fetchone()
        before = from_json(stored[0]) if stored else None
        put_user(db, layout, uid, {**(before if isinstance(before, dict) else {}), **user})
        for key, doc in devices.items():
            db.execute("INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", (uid, key, to_json(doc)))
        put_conversations(db, layout, uid, conversations)


def put_user(db: sqlite3.Connection, layout: Layout, uid: str, user: Doc) -> None:
    """The document, with the columns that the query for due users reads."""
    now = micros(datetime.now(UTC))
    db.execute(
        "INSERT INTO users (uid, hour, zone, enabled, doc, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (uid) DO UPDATE SET hour = excluded.hour, zone = excluded.zone, enabled = excluded.enabled, "
        "doc = excluded.doc, updated_at = excluded.updated_at",
        (uid, *_user_columns(layout, user), to_json(user), now, now),
    )


def _user_columns(layout: Layout, user: object) -> tuple[float | None, str | None, int]:
    """Hour, zone and switch."""
    hour, zone = value_at(user, layout.hour), value_at(user, layout.time_zone)
    hour = hour if isinstance(hour, int | float) and not isinstance(hour, bool) else None
    return hour, zone if isinstance(zone, str) else None, int(documents.active(layout, user))


def put_conversations(db: sqlite3.Connection, layout: Layout, uid: str, conversations: Docs) -> None:
    """Conversations of one user; inside a transaction of the caller's."""
    for key, doc in conversations.items():
        # A row of the same id may have another time.
        db.execute("DELETE FROM conversations WHERE uid = ? AND id = ?", (uid, key))
        row = (uid, _created_micros(layout, doc), key, to_json(doc))
        db.execute("INSERT OR REPLACE INTO conversations VALUES (?, ?, ?, ?)", row)


def _created_micros(layout: Layout, doc: object) -> int:
    created = documents.created_at(layout, doc)
    return micros(created) if created else 0


def micros(moment: datetime) -> int:
    """The instant in microseconds since the epoch, as the columns hold it."""
    return int(moment.timestamp() * 1_000_000)


def to_json(doc: Mapping[str, Any]) -> str:
    """A document as it is stored; datetimes as ISO 8601 in UTC."""
    return json.dumps(doc, default=_iso, ensure_ascii=False, separators=(",", ":"))


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")


def from_json(text: object) -> object:
    """What is stored; None for what is no JSON, or nested too deep."""
    try:
        return json.loads(text) if isinstance(text, str | bytes) else None
    except (ValueError, RecursionError):
        return None
