"""All documents in one SQLite file, owned by one thread. The host's clock stands for the store's."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from notifications.adapters.local.sqlite import file
from notifications.adapters.stores import documents
from notifications.adapters.stores.documents import Facts
from notifications.adapters.stores.imports import checked
from notifications.adapters.stores.ledgers import TransactionalLedger
from notifications.domain.delivery import LedgerRules
from notifications.domain.errors import ItemFault, ItemReason, StoreDown
from notifications.domain.model import Cited, Draft

P = ParamSpec("P")
T = TypeVar("T")

TALKS_AT_ONCE = 5_000  # conversations of one commit: some 0.1 s
LET_IN_SECONDS = 0.12  # between two commits: who waits for the file looks every 0.1 s
BUSY = f"it is busy: another process has been writing for {file.BUSY_TIMEOUT_SECONDS} s; try again when that has ended"
MENDS = {sqlite3.SQLITE_FULL: "the disk is full; make room", sqlite3.SQLITE_BUSY: BUSY, sqlite3.SQLITE_LOCKED: BUSY}


def _in_thread(
    work: Callable[Concatenate[sqlite3.Connection, P], T],
) -> Callable[Concatenate[SqliteStore, P], Coroutine[Any, Any, T]]:
    """A method that does the work in the thread that owns the connection."""

    async def method(store: SqliteStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store._do(work, *args, **kwargs)

    return method


class SqliteStore(TransactionalLedger):
    """The Store port over one file; several processes may share it."""

    def __init__(self, path: Path, rules: LedgerRules) -> None:
        self._path = path
        self._rules = rules
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._db: sqlite3.Connection | None = None

    async def _do(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: self._guarded(work, *args, **kwargs))

    def _guarded(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            if self._db is None:
                self._db = file.open_file(self._path)
            return work(self._db, *args, **kwargs)
        except OSError as cause:
            raise StoreDown("sqlite", f"{self._path}: {cause.strerror}; check the folder and its disk.") from cause
        except (sqlite3.DataError, OverflowError, UnicodeEncodeError) as cause:
            raise ItemFault(
                ItemReason.UNSTORABLE, f"SQLite can't hold what is to be stored ({type(cause).__name__})."
            ) from cause
        except sqlite3.Error as cause:
            code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the primary one
            mend = MENDS.get(code, f"{cause}; check the file and its folder")
            raise StoreDown("sqlite", f"{self._path}: {mend}.") from cause

    async def now(self) -> datetime:
        """The host's clock, which stands for the store's."""
        return datetime.now(UTC)

    due_users = _in_thread(file.due_users)
    user = _in_thread(file.user)
    conversations_in = _in_thread(file.conversations_in)
    devices = _in_thread(file.devices)
    forget_device = _in_thread(file.forget_device)
    ledgers_between = _in_thread(file.ledgers_between)
    open_ledgers = _in_thread(file.open_ledgers)
    summary = _in_thread(file.summary_on)
    summary_document = _in_thread(file.summary_document)
    all_users = _in_thread(file.all_users)
    ledgers_on = _in_thread(file.ledgers_on)
    summaries_on = _in_thread(file.summaries_on)
    mend = _in_thread(file.mend)
    add_talks = _in_thread(file.add_talks)  # more conversations of a user who is there; of nobody else
    remove = _in_thread(file.remove)
    _transact = _in_thread(file.transaction)

    async def part(self, uid: str, day: date, key: str) -> tuple[Cited, ...] | None:
        return await self._do(file.kept, Facts, uid, day, key)

    async def put_part(self, uid: str, day: date, key: str, facts: Sequence[Cited]) -> None:
        await self._do(file.keep, Facts, uid, day, key, tuple(facts))

    async def kept_draft(self, uid: str, day: date, key: str) -> Draft | None:
        return await self._do(file.kept, Draft, uid, day, key)

    async def keep_draft(self, uid: str, day: date, key: str, draft: Draft) -> None:
        await self._do(file.keep, Draft, uid, day, key, draft)

    async def put(
        self, uid: str, user: documents.Doc, fcm_tokens: Mapping[str, Any], conversations: Mapping[str, Any]
    ) -> None:
        """One user's documents in one commit, of many conversations the first ones before. Raises Malformed."""
        found = checked(uid, user, fcm_tokens, conversations)
        talks = list(found["conversations"].items())
        while len(talks) > TALKS_AT_ONCE:
            await self._do(file.put_talks, uid, dict(talks[:TALKS_AT_ONCE]))
            talks = talks[TALKS_AT_ONCE:]
            await asyncio.sleep(LET_IN_SECONDS)
        await self._do(file.put, uid, user, found | {"conversations": dict(talks)})

    async def empty(self) -> bool:
        return await self._do(lambda db: db.execute("SELECT 1 FROM users LIMIT 1").fetchone() is None)

    async def aclose(self) -> None:
        if self._db is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown(wait=False)
