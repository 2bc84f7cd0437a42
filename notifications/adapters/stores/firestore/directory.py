"""Everybody, in the order of their ids: for audit and doctor."""

from __future__ import annotations

from datetime import date

from notifications.adapters.stores import documents
from notifications.adapters.stores.delivery_documents import ledger_from
from notifications.adapters.stores.firestore.client import FirestoreClient, Write
from notifications.adapters.stores.firestore.queries import NAME, Select
from notifications.adapters.stores.firestore.reading import USER_FIELDS, owner
from notifications.adapters.stores.firestore.values import put_all
from notifications.domain.model import Ledger
from notifications.ports import Listed


class Reporting(FirestoreClient):
    """The Directory port: one query a page over all users."""

    async def everybody(self, after: str | None, limit: int) -> list[Listed]:
        """User documents by id."""
        query = Select(self._root, "users").order_by(NAME).fields(USER_FIELDS).limit(limit)
        query.after(None if after is None else self._user(after))
        listed = await self._list(query.request)
        return [documents.listed(found.id, found.doc or {}, found.created, found.updated) for found in listed]

    async def ledgers_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
        """The ledgers of one date, by uid: one query over all users."""
        last = None if after is None else self._ledger(after, day)
        found = await self._list(self._on("recap_deliveries", day, last, limit).request)
        return [(owner(one.name), ledger_from(day, one.doc or {})) for one in found]

    async def summaries_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
        """uid and id of the summaries of one date, by uid; `after` is `uid/id`."""
        uid, _, key = (after or "").rpartition("/")
        last = None if after is None else self._summary(uid, key)
        found = await self._list(self._on("daily_summaries", day, last, limit).fields(["date"]).request)
        return [(owner(one.name), one.id) for one in found]

    def _on(self, collection: str, day: date, last: str | None, limit: int) -> Select:
        query = Select(self._root, collection, everywhere=True).where("date", "==", day.isoformat())
        return query.order_by(NAME).limit(limit).after(last)

    async def mend(self, uid: str) -> bool:
        """Give an invisible user the stated defaults, unless the document changes meanwhile."""
        found = await self._get(self._user(uid))
        if found.doc is None or not (changes := documents.mended(found.doc)):
            return False
        write = Write()
        write.update.name = found.name
        write.update_mask.field_paths.extend(changes)
        write.current_document.update_time.CopyFrom(found.version)
        put_all(write.update.fields, changes)
        return await self._if_unchanged(write)
