"""The file: its tables, its transactions, and how documents are written into it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from notifications import documents

BUSY_TIMEOUT_SECONDS = 30
SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    uid TEXT PRIMARY KEY, hour, zone, enabled, doc TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS users_by_hour ON users (hour, uid, zone, enabled);
CREATE TABLE IF NOT EXISTS devices (
    uid TEXT, key TEXT, doc TEXT NOT NULL, PRIMARY KEY (uid, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conversations (
    uid TEXT, created_at INTEGER, id TEXT, doc TEXT NOT NULL, PRIMARY KEY (uid, created_at, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS summaries (
    uid TEXT, date TEXT, id TEXT, doc TEXT NOT NULL, PRIMARY KEY (uid, date, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledgers (
    uid TEXT, date TEXT, doc TEXT NOT NULL, PRIMARY KEY (uid, date)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ledgers_by_date ON ledgers (date, uid);
CREATE INDEX IF NOT EXISTS summaries_by_date ON summaries (date, uid);
"""


def open_file(path: Path) -> sqlite3.Connection:
    """The file, created with its tables where it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # the ledger is the truth: it must outlive a power cut
    db.executescript(SCHEMA)
    return db


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


def put(
    db: sqlite3.Connection, uid: str, user: documents.Doc, collections: Mapping[str, Mapping[str, documents.Doc]]
) -> None:
    """One user and what belongs to them, in one commit."""
    hour, zone = user.get(documents.USER_HOUR), user.get(documents.USER_ZONE)
    columns = (
        hour if isinstance(hour, int | float) and not isinstance(hour, bool) else None,
        zone if isinstance(zone, str) else None,
        1 if documents.active(user) else 0,
    )
    with immediate(db):
        db.execute("INSERT OR REPLACE INTO users VALUES (?, ?, ?, ?, ?)", (uid, *columns, to_json(user)))
        for key, doc in collections.get("fcm_tokens", {}).items():
            db.execute("INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", (uid, key, to_json(doc)))
        for key, doc in collections.get("conversations", {}).items():
            taken_in = documents.moment(doc.get("created_at"))
            row = (uid, micros(taken_in) if taken_in else 0, key, to_json(doc))
            db.execute("INSERT OR REPLACE INTO conversations VALUES (?, ?, ?, ?)", row)


def micros(moment: datetime) -> int:
    """The instant in microseconds since the epoch: how the tables order conversations."""
    return int(moment.timestamp() * 1_000_000)


def to_json(doc: Mapping[str, Any]) -> str:
    """A document as it is stored; datetimes as ISO 8601 in UTC."""
    return json.dumps(doc, default=_iso, ensure_ascii=False, separators=(",", ":"))


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")
