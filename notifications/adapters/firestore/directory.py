"""Everybody, in the order of their ids: for audit and doctor."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from google.cloud.firestore_v1.base_query import FieldFilter

from notifications import documents
from notifications.adapters.firestore.client import NAME, USER_FIELDS, FirestoreClient
from notifications.domain.model import Ledger
from notifications.ports import Listed

if TYPE_CHECKING:
    pass


class Reporting(FirestoreClient):
    """The Directory port: one query a page over all users."""

    async def everybody(self, after: str | None, limit: int) -> list[Listed]:
        """User documents by id."""
        users = self._client.collection("users")
        query = users.order_by(NAME).select(USER_FIELDS).limit(limit)
        if after is not None:
            query = query.start_after({NAME: users.document(after)})
        return [documents.listed(found.id, found.to_dict()) for found in await self._list(query)]

    async def ledgers_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
        """The ledgers of one date, by uid: one query over all users."""
        last = self._ledger(after, day) if after is not None else None
        found = await self._list(self._on("recap_deliveries", day, last, limit))
        return [(_owner(one), documents.ledger_from(day, one.to_dict())) for one in found]

    async def summaries_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
        """uid and id of the summaries of one date, by uid; `after` is `uid/id`."""
        uid, _, key = (after or "").rpartition("/")
        last = self._user(uid).collection("daily_summaries").document(key) if after is not None else None
        found = await self._list(self._on("daily_summaries", day, last, limit).select(["date"]))
        return [(_owner(one), one.id) for one in found]

    def _on(self, collection: str, day: date, last: Any, limit: int) -> Any:
        query = self._client.collection_group(collection).where(filter=FieldFilter("date", "==", day.isoformat()))
        query = query.order_by(NAME).limit(limit)
        return query.start_after({NAME: last}) if last is not None else query

    async def mend(self, uid: str) -> None:
        """Give an invisible user the stated defaults."""
        found = await self._get(self._user(uid))
        async with self._asking():
            if found.exists and (changes := documents.mended(found.to_dict())):
                unchanged = self._client.write_option(last_update_time=found.update_time)
                await self._user(uid).update(changes, option=unchanged)


def _owner(found: Any) -> str:
    """The uid in the path users/{uid}/…"""
    return str(found.reference.parent.parent.id)
