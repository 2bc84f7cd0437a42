"""All documents in one SQLite file, which several processes may share. The store's clock is the host's."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from notifications.adapters.local.sqlite import file
from notifications.adapters.local.sqlite.file import from_json, immediate, micros, to_json
from notifications.adapters.stores import documents, recipients
from notifications.adapters.stores.documents import Doc, ledger_from
from notifications.adapters.stores.field_types import types_of
from notifications.adapters.stores.imports import check_user, mend_user
from notifications.adapters.stores.layout import LEGACY_TOKEN, Layout, with_value
from notifications.adapters.stores.ledgers import Decide, TransactionalLedger, neighbour_dates
from notifications.domain.delivery import Decision, LedgerRules, Opening, Snapshot
from notifications.domain.errors import ItemFault, ItemReason, StoreDown
from notifications.domain.model import Conversation, Device, Ledger, Summary, day_of
from notifications.domain.shards import Range
from notifications.domain.told_once import Candidates
from notifications.ports import Decided, FieldTypes, Mended, UserDocument
from notifications.recap.bounds import MAX_READ
from notifications.recap.document import recap_to

P = ParamSpec("P")
T = TypeVar("T")

BUSY = (
    f"it is busy: another process has been writing for {file.BUSY_TIMEOUT_SECONDS} s; try again when that has ended: "
    'docs/runbook.md, "The SQLite file is locked"'
)
ADVICE = {sqlite3.SQLITE_FULL: "the disk is full; make room", sqlite3.SQLITE_BUSY: BUSY, sqlite3.SQLITE_LOCKED: BUSY}
BUSY_AGAIN_SECONDS = 0.1  # after a call that waited for BUSY_TIMEOUT_SECONDS in vain, until one has written
CONVERSATIONS_A_COMMIT = 5_000  # some 0.1 s
YIELD_SECONDS = 0.12  # between two commits: a process that waits for the file looks every 0.1 s
USER_COLUMNS = "uid, doc, created_at, updated_at"


def _in_thread(
    work: Callable[Concatenate[SqliteStore, P], T],
) -> Callable[Concatenate[SqliteStore, P], Coroutine[Any, Any, T]]:
    """Make a coroutine of a method: it runs in the thread that owns the connection, and its errors are translated."""

    async def method(store: SqliteStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(store._thread, lambda: store._guarded(work, *args, **kwargs))

    return method


class SqliteStore(TransactionalLedger):
    """The Store port over one file."""

    def __init__(self, path: Path, rules: LedgerRules, layout: Layout) -> None:
        self._path = path
        self._rules = rules
        self._layout = layout
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._changes_when_busy: int | None = None  # rows that this process had changed when it waited in vain

    @cached_property
    def _db(self) -> sqlite3.Connection:
        db = file.open_file(self._path, self._layout)
        db.row_factory = self._count_row
        return db

    def _count_row(self, _: object, row: tuple[Any, ...]) -> tuple[Any, ...]:
        self.reads += 1
        return row

    def _guarded(self, work: Callable[Concatenate[SqliteStore, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            done = work(self, *args, **kwargs)
            if self._changes_when_busy is not None and self._db.total_changes > self._changes_when_busy:
                self._wait_for_others(file.BUSY_TIMEOUT_SECONDS)
                self._changes_when_busy = None
            return done
        except OSError as cause:
            raise StoreDown("sqlite", f"{self._path}: {cause.strerror}; check the folder and its disk.") from cause
        except (sqlite3.DataError, OverflowError, UnicodeEncodeError) as cause:
            raise ItemFault(
                ItemReason.UNSTORABLE, f"SQLite can't hold what is to be stored ({type(cause).__name__})."
            ) from cause
        except sqlite3.Error as cause:
            code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the primary one
            if code == sqlite3.SQLITE_BUSY and "_db" in self.__dict__:
                # All calls share the thread: each would wait as long, one after the other.
                self._wait_for_others(BUSY_AGAIN_SECONDS)
                self._changes_when_busy = self._db.total_changes
            advice = ADVICE.get(code, f"{cause}; check the file and its folder")
            raise StoreDown("sqlite", f"{self._path}: {advice}.") from cause

    def _wait_for_others(self, seconds: float) -> None:
        """How long a call waits for another process that writes."""
        self._db.execute(f"PRAGMA busy_timeout = {round(seconds * 1_000)}")

    async def now(self) -> datetime:
        return datetime.now(UTC)

    async def aclose(self) -> None:
        if "_db" in self.__dict__:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown(wait=False)

    @_in_thread
    def count_due(self, zones: Sequence[str], hour: int, ids: Range) -> int:
        marks = ",".join("?" * len(zones))
        found = self._db.execute(
            "SELECT count(*) FROM users INDEXED BY users_by_hour "  # noqa: S608 - only question marks go in
            f"WHERE hour = ? AND uid >= ? AND (? IS NULL OR uid < ?) AND enabled = 1 AND zone IN ({marks})",
            (hour, ids.start or "", ids.end, ids.end, *zones),
        )
        return int(found.fetchone()[0])

    @_in_thread
    def due_users(
        self, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int
    ) -> list[UserDocument]:
        """Select by the columns. A document that contradicts its columns is a flaw."""
        marks = ",".join("?" * len(zones))
        rows = self._db.execute(
            f"SELECT {USER_COLUMNS} FROM users INDEXED BY users_by_hour "  # noqa: S608 - only question marks go in
            f"WHERE hour = ? AND uid > ? AND uid >= ? AND (? IS NULL OR uid < ?) AND enabled = 1 AND zone IN ({marks}) "
            "ORDER BY uid LIMIT ?",
            (hour, after or "", ids.start or "", ids.end, ids.end, *zones, limit),
        )
        return [self._matching(self._user_document(row), zones, hour) for row in rows]

    def _user(self, uid: str) -> UserDocument | None:
        query = f"SELECT {USER_COLUMNS} FROM users WHERE uid = ?"  # noqa: S608 - a constant
        row = self._db.execute(query, (uid,)).fetchone()
        return self._user_document(row) if row else None

    def _user_document(self, row: tuple[str, str, int | None, int | None]) -> UserDocument:
        uid, doc, *times = row
        created, updated = (None if time is None else datetime.fromtimestamp(time / 1_000_000, UTC) for time in times)
        return documents.user_document_from(self._layout, uid, from_json(doc), created, updated)

    def _matching(self, listed: UserDocument, zones: Sequence[str], hour: int) -> UserDocument:
        """The user if the document agrees with the columns that were queried, else the flaw."""
        user = listed.user
        if user is not None and user.enabled and user.hour == hour and user.zone in zones:
            return listed
        path = self.user_path.format(uid=listed.uid)
        flaw = listed.flaw or f"{path}: its columns and its document disagree; write the document again."
        return replace(listed, user=None, flaw=flaw)

    user_document = _in_thread(_user)

    def _user_doc(self, uid: str) -> object:
        """The user document as stored; None if there is none, or if it is not JSON."""
        row = self._db.execute("SELECT doc FROM users WHERE uid = ?", (uid,)).fetchone()
        return from_json(row[0]) if row else None

    @_in_thread
    def all_users(self, after: str | None, limit: int) -> list[UserDocument]:
        query = f"SELECT {USER_COLUMNS} FROM users WHERE uid > ? ORDER BY uid LIMIT ?"  # noqa: S608 - a constant
        return [self._user_document(row) for row in self._db.execute(query, (after or "", limit))]

    @_in_thread
    def empty(self) -> bool:
        """Whether there is no user yet."""
        return self._db.execute("SELECT 1 FROM users LIMIT 1").fetchone() is None

    @_in_thread
    def conversations_in(self, uid: str, candidates: Candidates) -> tuple[list[Conversation], int]:
        rows = self._db.execute(
            "SELECT id, doc FROM conversations WHERE uid = ? AND created_at >= ? AND created_at < ? "
            "ORDER BY created_at DESC",
            (uid, micros(candidates.first_untold), micros(candidates.until)),
        )
        newest = list(islice((row for row in rows if not candidates.is_told(uid, row[0])), MAX_READ))
        parsed = ((key, from_json(doc)) for key, doc in reversed(newest))
        return documents.conversations_from(self._layout, parsed, candidates)

    @_in_thread
    def devices(self, uid: str) -> tuple[list[Device], int]:
        rows = self._db.execute("SELECT key, doc FROM devices WHERE uid = ? ORDER BY key", (uid,)).fetchall()
        devices, malformed = recipients.devices_from(self._layout, ((key, from_json(doc), doc) for key, doc in rows))
        return recipients.select_devices(devices, self._user_doc(uid)), malformed

    @_in_thread
    def forget_device(self, uid: str, device: Device) -> bool:
        """Delete a token, if its document is unchanged."""
        if device.key is not None:
            gone = self._db.execute(
                "DELETE FROM devices WHERE uid = ? AND key = ? AND doc = ?", (uid, device.key, device.version)
            )
            return gone.rowcount == 1
        field = f"$.{LEGACY_TOKEN}"
        gone = self._db.execute(
            "UPDATE users SET doc = json_remove(doc, ?) WHERE uid = ? AND json_extract(doc, ?) = ?",
            (field, uid, field, device.version),
        )
        return gone.rowcount == 1

    @_in_thread
    def addresses(self, uid: str, changes: Mapping[str, Any] = {}) -> dict[str, dict[str, str]]:
        return recipients.addresses_from(self._user_doc(uid), changes)

    def _ledgers_between(self, uid: str, first: date, last: date) -> dict[date, Ledger]:
        rows = self._db.execute(
            "SELECT date, doc FROM ledgers WHERE uid = ? AND date BETWEEN ? AND ?",
            (uid, first.isoformat(), last.isoformat()),
        )
        days = ((day_of(key), from_json(doc)) for key, doc in rows)
        return {day: ledger_from(day, doc) for day, doc in days if day is not None}

    ledgers_between = _in_thread(_ledgers_between)

    @_in_thread
    def ledgers_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
        rows = self._db.execute(
            "SELECT uid, doc FROM ledgers WHERE date = ? AND uid > ? ORDER BY uid LIMIT ?",
            (day.isoformat(), after or "", limit),
        )
        return [(uid, ledger_from(day, from_json(doc))) for uid, doc in rows]

    @_in_thread
    def open_ledgers(self, after: tuple[str, date] | None, limit: int) -> list[tuple[str, Ledger]]:
        uid, day = (after[0], after[1].isoformat()) if after else ("", "")
        rows = self._db.execute(
            "SELECT uid, date, doc FROM ledgers INDEXED BY ledgers_open "
            "WHERE state IN ('sending', 'pending') AND (uid, date) > (?, ?) ORDER BY uid, date LIMIT ?",
            (uid, day, limit),
        )
        days = ((uid, day_of(key), from_json(doc)) for uid, key, doc in rows)
        return [(uid, ledger_from(day, doc)) for uid, day, doc in days if day is not None]

    def _summary(self, uid: str, day: date) -> Summary | None:
        query = "SELECT id, doc FROM summaries WHERE uid = ? AND date = ? LIMIT 1"
        row = self._db.execute(query, (uid, day.isoformat())).fetchone()
        return documents.summary_from(row[0], _map(from_json(row[1]))) if row else None

    summary = _in_thread(_summary)

    @_in_thread
    def summary_document(self, uid: str, day: date, key: str = "") -> Doc | None:
        query = "SELECT doc FROM summaries WHERE uid = ? AND date = ? ORDER BY id != ? LIMIT 1"
        row = self._db.execute(query, (uid, day.isoformat(), key)).fetchone()
        return _map(from_json(row[0])) if row else None

    @_in_thread
    def summaries_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
        """uid and id of the summaries of one date; `after` is `uid/id`."""
        uid, _, key = (after or "").rpartition("/")
        rows = self._db.execute(
            "SELECT uid, id FROM summaries WHERE date = ? AND (uid, id) > (?, ?) ORDER BY uid, id LIMIT ?",
            (day.isoformat(), uid, key, limit),
        )
        return list(rows)

    @_in_thread
    def _transact(
        self, uid: str, day: date, decide: Decide, *, user: bool, summary: bool = False, rests_on: Opening | None = None
    ) -> Decision:
        query = "SELECT doc FROM ledgers WHERE uid = ? AND date = ?"
        with immediate(self._db):
            now = datetime.now(UTC)
            row = self._db.execute(query, (uid, day.isoformat())).fetchone()
            stored = from_json(row[0]) if row else None
            account = self._user_doc(uid) if user else None
            again = neighbour_dates(self._layout, rests_on, account)
            ledgers = self._ledgers_between(uid, min(again), max(again)) if again else {}
            snapshot = Snapshot(
                ledger=ledger_from(day, stored) if row else None,
                read_time=now,
                active=documents.active(self._layout, account) if user else True,
                summary=self._summary(uid, day) if summary else None,
                nearby={neighbour: ledgers.get(neighbour) for neighbour in again},
            )
            decision = decide(snapshot)
            entry = decision.to_store(now)
            if entry is None:
                return decision
            doc = documents.unknown_fields(stored) | documents.ledger_to(entry)
            self.writes += 1 if decision.recap is None else 2
            self._db.execute(
                "INSERT OR REPLACE INTO ledgers (uid, date, doc) VALUES (?, ?, ?)",
                (uid, day.isoformat(), to_json(doc)),
            )
            if (recap := decision.recap) is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?)",
                    (uid, recap.date.isoformat(), recap.id, to_json(recap_to(recap))),
                )
        return replace(decision, ledger=entry)

    @_in_thread
    def _read_kept(self, uid: str, day: date, key: str) -> object:
        query = "SELECT doc FROM parts WHERE uid = ? AND date = ? AND key = ? AND expire_at > ?"
        row = self._db.execute(query, (uid, day.isoformat(), key, micros(datetime.now(UTC)))).fetchone()
        return from_json(row[0]) if row else None

    @_in_thread
    def _write_kept(self, uid: str, day: date, key: str, kind: Any, paid: object) -> None:
        now = datetime.now(UTC)
        expires = now + documents.PART_KEPT
        with immediate(self._db):
            self._db.execute("DELETE FROM parts WHERE expire_at < ?", (micros(now),))
            if documents.active(self._layout, self._user_doc(uid)):
                doc = to_json(documents.kept_to(kind, paid, expires))
                row = (uid, day.isoformat(), key, doc, micros(expires))
                self._db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?)", row)

    @_in_thread
    def mend(self, uid: str, decided: Decided | None = None, *, write: bool = True) -> Mended:
        with immediate(self._db):
            listed = self._user(uid)
            if listed is None or listed.user is not None:
                return Mended({})
            doc = _map(self._user_doc(uid))
            result = mend_user(self._layout, doc, decided)
            if write and result.changes:
                for name, (_, new) in result.changes.items():
                    doc = with_value(doc, name, new)
                file.put_user(self._db, self._layout, uid, doc)
        return result

    @_in_thread
    def field_types(self, users: int) -> list[FieldTypes]:
        layout, found = self._layout, list[tuple[str, object]]()
        for uid, doc in self._db.execute("SELECT uid, doc FROM users LIMIT ?", (users,)).fetchall():
            found.append((layout.users, from_json(doc)))
            for place, table in ((layout.devices, "devices"), (layout.conversations, "conversations")):
                rows = self._db.execute(f"SELECT doc FROM {table} WHERE uid = ? LIMIT 10", (uid,))  # noqa: S608 - our own
                found += [(place, from_json(doc)) for (doc,) in rows]
        return types_of(layout, found)

    async def put(self, uid: str, user: Doc, devices: Mapping[str, Any], conversations: Mapping[str, Any]) -> None:
        """One user's documents, the user's own last; many conversations in several commits. Raises Malformed."""
        _, devices, conversations = check_user(self._layout, uid, user, devices, conversations)
        rest = list(conversations.items())
        while len(rest) > CONVERSATIONS_A_COMMIT:
            await self._put_conversations(uid, dict(rest[:CONVERSATIONS_A_COMMIT]))
            rest = rest[CONVERSATIONS_A_COMMIT:]
            await asyncio.sleep(YIELD_SECONDS)
        await self._put(uid, user, devices, dict(rest))

    @_in_thread
    def _put(self, uid: str, user: Doc, devices: Mapping[str, Doc], conversations: Mapping[str, Doc]) -> None:
        file.put(self._db, self._layout, uid, user, devices, conversations)

    @_in_thread
    def _put_conversations(self, uid: str, conversations: Mapping[str, Doc]) -> None:
        with immediate(self._db):
            file.put_conversations(self._db, self._layout, uid, conversations)

    @_in_thread
    def add_talks(self, uid: str, conversations: Mapping[str, Doc]) -> None:
        """More conversations of a user, if there is one."""
        with immediate(self._db):
            if self._user(uid) is not None:
                file.put_conversations(self._db, self._layout, uid, conversations)

    @_in_thread
    def remove(self, uid: str) -> None:
        with immediate(self._db):
            for table in ("users", "devices", "conversations", "summaries", "ledgers", "parts"):
                self._db.execute(f"DELETE FROM {table} WHERE uid = ?", (uid,))  # noqa: S608 - our own names


def _map(doc: object) -> Doc:
    return doc if isinstance(doc, Mapping) else {}
