"""Where each document lies in the database, by the layout; and how documents are read, and counted."""

from __future__ import annotations

from datetime import date

from google.cloud.firestore import AsyncDocumentReference, AsyncQuery, DocumentSnapshot, FieldFilter

from notifications.adapters.stores.firestore.client import RETRY, Database
from notifications.adapters.stores.layout import LEDGERS, PARTS, Layout
from notifications.domain.delivery import LedgerRules

NAME = "__name__"  # a document's own, as a field of queries
LEAST_ID = "__id-9223372036854775808__"  # sorts before every document's id


class Places:
    """The references and queries of one layout over one database."""

    reads: int

    def __init__(self, database: Database, rules: LedgerRules, layout: Layout) -> None:
        self._client = database.client
        self._call = database.call
        self._database = database
        self._where = database.where
        self._rules = rules
        self._layout = layout
        self._users = database.client.collection(layout.users)

    def _user(self, uid: str) -> AsyncDocumentReference:
        return self._users.document(uid)

    def _ledger(self, uid: str, day: date) -> AsyncDocumentReference:
        return self._user(uid).collection(LEDGERS).document(day.isoformat())

    def _part(self, uid: str, day: date, key: str) -> AsyncDocumentReference:
        return self._ledger(uid, day).collection(PARTS).document(key)

    def _summary(self, uid: str, key: str) -> AsyncDocumentReference:
        return self._user(uid).collection(self._layout.summaries).document(key)

    def _conversations(self, uid: str) -> AsyncQuery:
        layout = self._layout
        if not layout.owner:
            return self._user(uid).collection(layout.conversations)
        return self._client.collection(layout.conversations).where(filter=FieldFilter(layout.owner, "==", uid))

    def _below_users(self, collection: str) -> AsyncQuery:
        """All collections of a name below our users, and below no other app's: by the bounds of recursive()."""
        first, end = (self._client.document(f"{self._layout.users}{past}/{LEAST_ID}") for past in ("", "\0"))
        group = self._client.collection_group(collection).where(filter=FieldFilter(NAME, ">=", first))
        return group.where(filter=FieldFilter(NAME, "<", end))

    async def _query(self, query: AsyncQuery, seconds: float | None = None) -> list[DocumentSnapshot]:
        """All documents of a query: no stream is held open across other work. An empty answer is billed too."""
        snapshots: list[DocumentSnapshot] = await self._call(lambda: query.get(retry=RETRY), seconds)
        self.reads += max(1, len(snapshots))
        return snapshots

    async def _page(
        self, query: AsyncQuery, after: AsyncDocumentReference | None, limit: int, seconds: float | None = None
    ) -> list[DocumentSnapshot]:
        query = query.order_by(NAME).limit(limit)
        return await self._query(query.start_after({NAME: after}) if after else query, seconds)

    async def _read(self, document: AsyncDocumentReference, fields: list[str] | None = None) -> DocumentSnapshot:
        snapshot = await self._call(lambda: document.get(field_paths=fields, retry=RETRY))
        self.reads += 1
        return snapshot
