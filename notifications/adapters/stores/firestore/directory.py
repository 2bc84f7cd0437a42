"""Everybody, in the order of their ids: for audit and doctor."""

from __future__ import annotations

from datetime import date

from google.cloud.firestore import AsyncQuery, FieldFilter

from notifications.adapters.stores import documents
from notifications.adapters.stores.delivery_documents import ledger_from
from notifications.adapters.stores.firestore.client import NAME, FirestoreClient
from notifications.adapters.stores.firestore.reading import USER_FIELDS, listed, owner
from notifications.domain.model import Ledger
from notifications.ports import Listed


class Reporting(FirestoreClient):
    """The Directory port: one query a page over all users."""

    async def everybody(self, after: str | None, limit: int) -> list[Listed]:
        """User documents by id."""
        query = self._client.collection("users").order_by(NAME).select(USER_FIELDS).limit(limit)
        if after is not None:
            query = query.start_after({NAME: self._user(after)})
        return [listed(found) for found in await self._found(query)]

    async def ledgers_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
        """The ledgers of one date, by uid: one query over all users."""
        query = self._on(day, "recap_deliveries", limit)
        if after is not None:
            query = query.start_after({NAME: self._ledger(after, day)})
        return [(owner(found), ledger_from(day, found.to_dict())) for found in await self._found(query)]

    async def summaries_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
        """uid and id of the summaries of one date, by uid; `after` is `uid/id`."""
        query = self._on(day, "daily_summaries", limit).select(["date"])
        if after is not None:
            uid, _, key = after.rpartition("/")
            query = query.start_after({NAME: self._summary(uid, key)})
        return [(owner(found), found.id) for found in await self._found(query)]

    def _on(self, day: date, collection: str, limit: int) -> AsyncQuery:
        everywhere = self._client.collection_group(collection)
        return everywhere.where(filter=FieldFilter("date", "==", day.isoformat())).order_by(NAME).limit(limit)

    async def mend(self, uid: str) -> bool:
        """Give an invisible user the stated defaults, unless the document changes meanwhile."""
        found = await self._read(self._user(uid))
        if not found.exists or not (changes := documents.mended(found.to_dict() or {})):
            return False
        as_read = self._client.write_option(last_update_time=found.update_time)
        return await self._if_unchanged(lambda: found.reference.update(changes, option=as_read, retry=None))
