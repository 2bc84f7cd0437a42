"""Users, conversations, summaries, devices and ledgers in one SQLite file (the embedded profile).

The host's clock, read inside BEGIN IMMEDIATE, stands for the store's. One thread owns the
connection, so the event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from notifications import documents
from notifications.domain.delivery import Terms, Verdict
from notifications.domain.errors import Malformed, StoreDown
from notifications.domain.model import Conversation, Device, Ledger, Summary, User, Window
from notifications.domain.recap import MAX_READ
from notifications.ledger import Decision, Seen, TransactionalLedger
from notifications.ports import Listed, Range

P = ParamSpec("P")
T = TypeVar("T")

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


class SqliteStore(TransactionalLedger):
    """The Store port over one file; several processes may share it."""

    def __init__(self, path: Path, terms: Terms) -> None:
        self._path = path
        self._terms = terms
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._db: sqlite3.Connection | None = None

    async def _do(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: self._guarded(work, *args, **kwargs))

    def _guarded(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            if self._db is None:
                self._db = open_file(self._path)
            return work(self._db, *args, **kwargs)
        except sqlite3.Error as cause:
            full = cause.sqlite_errorcode == sqlite3.SQLITE_FULL if hasattr(cause, "sqlite_errorcode") else False
            mend = "the disk is full; make room" if full else f"{cause}; check the file and its folder"
            raise StoreDown("sqlite", f"{self._path}: {mend}.") from cause

    async def page(self, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int) -> list[User]:
        """Enabled users of these zones and this hour, by id."""
        return await self._do(_page, zones, hour, ids, after, limit)

    async def user(self, uid: str) -> User | None:
        """One user, whatever their switch says; None where missing or malformed."""
        doc = await self._do(_user_doc, uid)
        try:
            return documents.user_from(uid, doc) if doc is not None else None
        except Malformed:
            return None

    async def between(self, uid: str, window: Window) -> tuple[list[Conversation], int]:
        """The conversations of a window, oldest first, and how many were malformed."""
        return await self._do(_between, uid, window)

    async def devices(self, uid: str) -> list[Device]:
        """The user's devices, each token once."""
        return await self._do(_devices, uid)

    async def forget_device(self, uid: str, device: Device) -> bool:
        """Delete a token, if its document is unchanged."""
        return await self._do(_forget_device, uid, device)

    async def around(self, uid: str, first: date, last: date) -> dict[date, Ledger]:
        """The ledgers of first … last, one range query."""
        return await self._do(_around, uid, first, last)

    async def summary(self, uid: str, day: date) -> Summary | None:
        """A summary whose `date` is that day."""
        return await self._do(_summary, uid, day)

    async def _transact(self, uid: str, day: date, decide: Decision, *, user: bool, summary: bool) -> Verdict:
        return await self._do(_transaction, uid, day, decide, user=user, summary=summary)

    async def everybody(self, after: str | None, limit: int) -> list[Listed]:
        """User documents by id."""
        return await self._do(_everybody, after, limit)

    async def ledgers_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
        """The ledgers of one date, by uid."""
        return await self._do(_ledgers_on, day, after, limit)

    async def summaries_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
        """uid and id of the summaries of one date, by uid; `after` is `uid/id`."""
        return await self._do(_summaries_on, day, after, limit)

    async def mend(self, uid: str) -> None:
        """Give an invisible user the stated defaults."""
        await self._do(_mend, uid)

    async def put(self, uid: str, user: documents.Doc, **collections: Mapping[str, documents.Doc]) -> None:
        """Write a user document and its `fcm_tokens` and `conversations`: sample data, and what tests need."""
        await self._do(put, uid, user, collections)

    async def empty(self) -> bool:
        """Whether there is no user at all."""
        return await self._do(lambda db: db.execute("SELECT 1 FROM users LIMIT 1").fetchone() is None)

    async def aclose(self) -> None:
        """Close the file."""
        if self._db is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown(wait=False)


def open_file(path: Path) -> sqlite3.Connection:
    """The file, created with its tables where it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # the ledger is the truth: it must outlive a power cut
    db.executescript(SCHEMA)
    return db


def _page(
    db: sqlite3.Connection, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int
) -> list[User]:
    marks = ",".join("?" * len(zones))
    rows = db.execute(
        f"SELECT uid, doc FROM users INDEXED BY users_by_hour "  # noqa: S608 - only question marks go in
        f"WHERE hour = ? AND uid > ? AND uid >= ? AND (? IS NULL OR uid < ?) AND enabled = 1 AND zone IN ({marks}) "
        "ORDER BY uid LIMIT ?",
        (hour, after or "", ids.start or "", ids.end, ids.end, *zones, limit),
    )
    return [documents.user_from(uid, json.loads(doc)) for uid, doc in rows]


def _user_doc(db: sqlite3.Connection, uid: str) -> documents.Doc | None:
    row = db.execute("SELECT doc FROM users WHERE uid = ?", (uid,)).fetchone()
    return json.loads(row[0]) if row else None


def _between(db: sqlite3.Connection, uid: str, window: Window) -> tuple[list[Conversation], int]:
    rows = db.execute(
        "SELECT id, doc FROM conversations WHERE uid = ? AND created_at >= ? AND created_at < ? "
        "ORDER BY created_at DESC LIMIT ?",
        (uid, _micros(window.start), _micros(window.end), MAX_READ),
    ).fetchall()
    found, malformed = [], 0
    for key, doc in reversed(rows):
        try:
            conversation = documents.conversation_from(key, json.loads(doc))
        except Malformed:
            malformed += 1
        else:
            found += [conversation] if conversation else []
    return found, malformed


def _devices(db: sqlite3.Connection, uid: str) -> list[Device]:
    rows = db.execute("SELECT key, doc FROM devices WHERE uid = ? ORDER BY key", (uid,)).fetchall()
    found = [documents.device_from(key, json.loads(doc), doc) for key, doc in rows]
    return documents.chosen([device for device in found if device], _user_doc(db, uid))


def _forget_device(db: sqlite3.Connection, uid: str, device: Device) -> bool:
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


def _around(db: sqlite3.Connection, uid: str, first: date, last: date) -> dict[date, Ledger]:
    rows = db.execute(
        "SELECT date, doc FROM ledgers WHERE uid = ? AND date BETWEEN ? AND ?",
        (uid, first.isoformat(), last.isoformat()),
    )
    days = ((date.fromisoformat(day), json.loads(doc)) for day, doc in rows)
    return {day: documents.ledger_from(day, doc) for day, doc in days}


def _summary(db: sqlite3.Connection, uid: str, day: date) -> Summary | None:
    row = db.execute(
        "SELECT id, doc FROM summaries WHERE uid = ? AND date = ? LIMIT 1", (uid, day.isoformat())
    ).fetchone()
    return documents.summary_from(row[0], json.loads(row[1])) if row else None


def _everybody(db: sqlite3.Connection, after: str | None, limit: int) -> list[Listed]:
    rows = db.execute("SELECT uid, doc FROM users WHERE uid > ? ORDER BY uid LIMIT ?", (after or "", limit))
    return [documents.listed(uid, json.loads(doc)) for uid, doc in rows]


def _ledgers_on(db: sqlite3.Connection, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
    rows = db.execute(
        "SELECT uid, doc FROM ledgers WHERE date = ? AND uid > ? ORDER BY uid LIMIT ?",
        (day.isoformat(), after or "", limit),
    )
    return [(uid, documents.ledger_from(day, json.loads(doc))) for uid, doc in rows]


def _summaries_on(db: sqlite3.Connection, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
    uid, _, key = (after or "").rpartition("/")
    rows = db.execute(
        "SELECT uid, id FROM summaries WHERE date = ? AND (uid, id) > (?, ?) ORDER BY uid, id LIMIT ?",
        (day.isoformat(), uid, key, limit),
    )
    return list(rows)


def _mend(db: sqlite3.Connection, uid: str) -> None:
    doc = _user_doc(db, uid) or {}
    put(db, uid, {**doc, **documents.mended(doc)}, {})


@contextmanager
def _immediate(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _transaction(
    db: sqlite3.Connection, uid: str, day: date, decide: Decision, *, user: bool, summary: bool
) -> Verdict:
    with _immediate(db):
        now = datetime.now(UTC)
        seen = Seen(
            ledger=_around(db, uid, day, day).get(day),
            read_time=now,
            active=documents.active(_user_doc(db, uid)) if user else True,
            summary=_summary(db, uid, day) if summary else None,
        )
        verdict = decide(seen)
        if not verdict.write or verdict.entry is None:
            return verdict
        entry = replace(
            verdict.entry,
            sending_at=now if verdict.stamp_sending else verdict.entry.sending_at,
            sent_at=now if verdict.stamp_sent else verdict.entry.sent_at,
        )
        db.execute(
            "INSERT OR REPLACE INTO ledgers VALUES (?, ?, ?)",
            (uid, day.isoformat(), _json(documents.ledger_to(entry))),
        )
        if verdict.recap is not None:
            doc = documents.recap_to(verdict.recap)
            db.execute(
                "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?)",
                (uid, verdict.recap.date.isoformat(), verdict.recap.id, _json(doc)),
            )
    return replace(verdict, entry=entry)


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
    with _immediate(db):
        db.execute("INSERT OR REPLACE INTO users VALUES (?, ?, ?, ?, ?)", (uid, *columns, _json(user)))
        for key, doc in collections.get("fcm_tokens", {}).items():
            db.execute("INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", (uid, key, _json(doc)))
        for key, doc in collections.get("conversations", {}).items():
            taken_in = documents.moment(doc.get("created_at"))
            row = (uid, _micros(taken_in) if taken_in else 0, key, _json(doc))
            db.execute("INSERT OR REPLACE INTO conversations VALUES (?, ?, ?, ?)", row)


def _micros(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _json(doc: Mapping[str, Any]) -> str:
    return json.dumps(doc, default=_iso, ensure_ascii=False, separators=(",", ":"))


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")
