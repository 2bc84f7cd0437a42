"""Users, conversations, summaries, devices and ledgers in one SQLite file (the embedded profile).

The host's clock, read inside BEGIN IMMEDIATE, stands for the store's. One thread owns the
connection, so the event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from notifications.adapters.stores import documents
from notifications.adapters.stores.documents import Facts
from notifications.adapters.stores.imports import checked
from notifications.adapters.stores.ledgers import Decide, TransactionalLedger
from notifications.adapters.stores.sqlite import file, rows
from notifications.domain.delivery import Decision, LedgerRules, Opening
from notifications.domain.errors import ItemFault, ItemReason, StoreDown
from notifications.domain.model import Cited, Conversation, Device, Draft, Ledger, Summary
from notifications.domain.shards import Range
from notifications.domain.told import Candidates
from notifications.ports import Decided, Listed, Mended

P = ParamSpec("P")
T = TypeVar("T")

TALKS_AT_ONCE = 5_000  # conversations of one commit: some 0.1 s
LET_IN_SECONDS = 0.12  # between two commits: who waits for the file looks every 0.1 s
BUSY = f"it is busy: another process has been writing for {file.BUSY_TIMEOUT_SECONDS} s; try again when that has ended"
MENDS = {
    sqlite3.SQLITE_FULL: "the disk is full; make room",
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
}


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

    async def due_users(
        self, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int
    ) -> list[Listed]:
        """Enabled users of these zones and this hour, by id."""
        return await self._do(rows.due_users, zones, hour, ids, after, limit)

    async def user(self, uid: str) -> Listed | None:
        """One user, whatever their switch says; None where there is no such document."""
        return await self._do(rows.user, uid)

    async def conversations_in(self, uid: str, candidates: Candidates) -> tuple[list[Conversation], int]:
        """What a recap may be made of, oldest first, and how many were malformed."""
        return await self._do(rows.conversations_in, uid, candidates)

    async def devices(self, uid: str) -> tuple[list[Device], int]:
        """The user's devices, each token once, and how many documents were malformed."""
        return await self._do(rows.devices, uid)

    async def forget_device(self, uid: str, device: Device) -> bool:
        """Delete a token, if its document is unchanged."""
        return await self._do(rows.forget_device, uid, device)

    async def ledgers_between(self, uid: str, first: date, last: date) -> dict[date, Ledger]:
        """The ledgers of first … last, one range query."""
        return await self._do(rows.ledgers_between, uid, first, last)

    async def open_ledgers(self, after: tuple[str, date] | None, limit: int) -> list[tuple[str, Ledger]]:
        """Ledgers in sending and pending, by uid and date."""
        return await self._do(rows.open_ledgers, after, limit)

    async def summary(self, uid: str, day: date) -> Summary | None:
        """A summary whose `date` is that day."""
        return await self._do(rows.summary_on, uid, day)

    async def summary_document(self, uid: str, day: date, key: str = "") -> documents.Doc | None:
        """The summary of that id, else one whose `date` is that day, as it is stored."""
        return await self._do(rows.summary_document, uid, day, key)

    async def part(self, uid: str, day: date, key: str) -> tuple[Cited, ...] | None:
        """What an LLM made of a part of a long day."""
        return await self._do(rows.kept, Facts, uid, day, key)

    async def put_part(self, uid: str, day: date, key: str, facts: Sequence[Cited]) -> None:
        """Keep it for some days."""
        await self._do(rows.keep, Facts, uid, day, key, tuple(facts))

    async def kept_draft(self, uid: str, day: date, key: str) -> Draft | None:
        """A draft that waits for its second look."""
        return await self._do(rows.kept, Draft, uid, day, key)

    async def keep_draft(self, uid: str, day: date, key: str, draft: Draft) -> None:
        """Keep it for some days."""
        await self._do(rows.keep, Draft, uid, day, key, draft)

    async def _transact(
        self, uid: str, day: date, decide: Decide, *, user: bool, summary: bool = False, rests_on: Opening | None = None
    ) -> Decision:
        return await self._do(rows.transaction, uid, day, decide, user=user, summary=summary, rests_on=rests_on)

    async def everybody(self, after: str | None, limit: int) -> list[Listed]:
        """User documents by id."""
        return await self._do(rows.everybody, after, limit)

    async def ledgers_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
        """The ledgers of one date, by uid."""
        return await self._do(rows.ledgers_on, day, after, limit)

    async def summaries_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
        """uid and id of the summaries of one date, by uid; `after` is `uid/id`."""
        return await self._do(rows.summaries_on, day, after, limit)

    async def mend(self, uid: str, decided: Decided | None = None, *, write: bool = True) -> Mended:
        """Give an invisible user the stated defaults; nothing where that was not needed any more."""
        return await self._do(rows.mend, uid, decided, write=write)

    async def put(
        self, uid: str, user: documents.Doc, fcm_tokens: Mapping[str, Any], conversations: Mapping[str, Any]
    ) -> None:
        """Write one user's documents. Raises Malformed for what the job could not read, and nothing is written.

        In one commit; of more conversations than that the first go in before, so that no other process waits for long.
        """
        found = checked(uid, user, fcm_tokens, conversations)
        talks = list(found["conversations"].items())
        while len(talks) > TALKS_AT_ONCE:
            await self._do(file.put_talks, uid, dict(talks[:TALKS_AT_ONCE]))
            talks = talks[TALKS_AT_ONCE:]
            await asyncio.sleep(LET_IN_SECONDS)
        await self._do(file.put, uid, user, found | {"conversations": dict(talks)})

    async def add_talks(self, uid: str, conversations: Mapping[str, documents.Doc]) -> None:
        """More conversations of a user who is there; of nobody else."""
        await self._do(file.add_talks, uid, conversations)

    async def remove(self, uid: str) -> None:
        """Delete a user, and all that lies below."""
        await self._do(file.remove, uid)

    async def empty(self) -> bool:
        """Whether there is no user at all."""
        return await self._do(lambda db: db.execute("SELECT 1 FROM users LIMIT 1").fetchone() is None)

    async def aclose(self) -> None:
        """Close the file."""
        if self._db is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown(wait=False)
