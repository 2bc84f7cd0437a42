"""What is read outside transactions: users, conversations, devices, ledgers around a date, summaries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from google.cloud.firestore_v1.base_query import FieldFilter

from notifications import documents
from notifications.adapters.firestore.client import MAX_DEVICES, NAME, USER_FIELDS, FirestoreClient
from notifications.domain.errors import Malformed
from notifications.domain.model import Conversation, Device, Ledger, Summary, User, Window
from notifications.domain.recap import MAX_READ
from notifications.ports import Range

if TYPE_CHECKING:
    pass


class Reading(FirestoreClient):
    """The Users, Conversations and Devices ports, and the ledger's two look-ups."""

    async def page(self, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int) -> list[User]:
        """Enabled users of these zones (30 at most) and this hour, by id."""
        users = self._client.collection("users")
        query = (
            users.where(filter=FieldFilter(documents.USER_ENABLED, "==", True))
            .where(filter=FieldFilter(documents.USER_HOUR, "==", hour))
            .where(filter=FieldFilter(documents.USER_ZONE, "in", list(zones)))
            .order_by(NAME)
            .select(USER_FIELDS)
            .limit(limit)
        )
        if ids.start is not None:
            query = query.where(filter=FieldFilter(NAME, ">=", users.document(ids.start)))
        if ids.end is not None:
            query = query.where(filter=FieldFilter(NAME, "<", users.document(ids.end)))
        if after is not None:
            query = query.start_after({NAME: users.document(after)})
        return [documents.user_from(found.id, found.to_dict()) for found in await self._list(query)]

    async def user(self, uid: str) -> User | None:
        """One user, whatever their switch says; None where missing or malformed."""
        found = await self._get(self._user(uid))
        try:
            return documents.user_from(uid, found.to_dict()) if found.exists else None
        except Malformed:
            return None

    async def between(self, uid: str, window: Window) -> tuple[list[Conversation], int]:
        """The conversations of a window, oldest first, and how many were malformed.

        Transcripts are large: they are read only where a conversation tells nothing without.
        """
        query = (
            self._user(uid)
            .collection("conversations")
            .where(filter=FieldFilter("created_at", ">=", window.start))
            .where(filter=FieldFilter("created_at", "<", window.end))
            .order_by("created_at", direction="DESCENDING")
            .select(documents.CONVERSATION_FIELDS)
            .limit(MAX_READ)
        )
        kept: list[Conversation] = []
        malformed = 0
        for found in reversed(await self._list(query)):
            doc = found.to_dict()
            try:
                conversation = documents.conversation_from(found.id, doc)
                if conversation and not conversation.tells_something:
                    conversation = documents.conversation_from(found.id, doc | await self._transcript(found.reference))
            except Malformed:
                malformed += 1
            else:
                kept += [conversation] if conversation else []
        return kept, malformed

    async def _transcript(self, conversation: Any) -> dict[str, Any]:
        found = await self._get(conversation, [documents.TRANSCRIPT])
        return found.to_dict() or {}

    async def devices(self, uid: str) -> list[Device]:
        """The user's devices, each token once."""
        query = self._user(uid).collection("fcm_tokens").select(["token"]).limit(MAX_DEVICES)
        listed = [documents.device_from(d.id, d.to_dict(), d.update_time) for d in await self._list(query)]
        found = [device for device in listed if device]
        if found:
            return documents.chosen(found, None)
        user = await self._get(self._user(uid), [documents.LEGACY_TOKEN])
        return documents.chosen([], user.to_dict())

    async def around(self, uid: str, first: date, last: date) -> dict[date, Ledger]:
        """The ledgers of first … last, one range query."""
        ledgers = self._user(uid).collection("recap_deliveries")
        query = ledgers.where(filter=FieldFilter(NAME, ">=", ledgers.document(first.isoformat()))).where(
            filter=FieldFilter(NAME, "<=", ledgers.document(last.isoformat()))
        )
        days = [(date.fromisoformat(found.id), found.to_dict()) for found in await self._list(query)]
        return {day: documents.ledger_from(day, doc) for day, doc in days}

    def _summaries(self, uid: str, day: date) -> Any:
        summaries = self._user(uid).collection("daily_summaries")
        return summaries.where(filter=FieldFilter("date", "==", day.isoformat())).limit(1)

    async def summary(self, uid: str, day: date) -> Summary | None:
        """A summary whose `date` is that day."""
        found = await self._list(self._summaries(uid, day))
        return documents.summary_from(found[0].id, found[0].to_dict()) if found else None
