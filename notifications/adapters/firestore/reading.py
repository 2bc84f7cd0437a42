"""What is read outside transactions: users, conversations, devices, ledgers around a date, summaries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from notifications import documents
from notifications.adapters.firestore.client import FirestoreClient
from notifications.adapters.firestore.queries import DESCENDING, NAME, Select
from notifications.delivery_documents import ledger_from, summary_from
from notifications.domain.errors import Malformed
from notifications.domain.model import Conversation, Device, Ledger, Summary, User, Window
from notifications.domain.recap import MAX_READ
from notifications.ports import Range

MAX_DEVICES = 200
USER_FIELDS = (documents.USER_ZONE, documents.USER_ENABLED, documents.USER_HOUR, "language")


class Reading(FirestoreClient):
    """The Users, Conversations and Devices ports, and the ledger's two look-ups."""

    async def page(self, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int) -> list[User]:
        """Enabled users of these zones (30 at most) and this hour, by id."""
        query = (
            Select(self._root, "users")
            .where(documents.USER_ENABLED, "==", True)
            .where(documents.USER_HOUR, "==", hour)
            .where(documents.USER_ZONE, "in", zones)
            .order_by(NAME)
            .after(None if after is None else self._user(after))
            .fields(USER_FIELDS)
            .limit(limit)
        )
        if ids.start is not None:
            query.where(NAME, ">=", self._user(ids.start))
        if ids.end is not None:
            query.where(NAME, "<", self._user(ids.end))
        page = await self._list(query.request, self._page_seconds)
        return [documents.user_from(found.id, found.doc or {}) for found in page]

    async def user(self, uid: str) -> User | None:
        """One user, whatever their switch says; None where missing or malformed."""
        found = await self._get(self._user(uid))
        try:
            return documents.user_from(uid, found.doc) if found.doc is not None else None
        except Malformed:
            return None

    async def between(self, uid: str, window: Window) -> tuple[list[Conversation], int]:
        """The conversations of a window, oldest first, and how many were malformed.

        Transcripts are large: they are read only where a conversation tells nothing without.
        """
        query = (
            Select(self._user(uid), "conversations")
            .where("created_at", ">=", window.start)
            .where("created_at", "<", window.end)
            .order_by("created_at", DESCENDING)
            .fields(documents.CONVERSATION_FIELDS)
            .limit(MAX_READ)
        )
        kept: list[Conversation] = []
        malformed = 0
        for found in reversed(await self._list(query.request)):
            doc = found.doc or {}
            try:
                conversation = documents.conversation_from(found.id, doc)
                if conversation and not conversation.tells_something:
                    conversation = documents.conversation_from(found.id, doc | await self._transcript(found.name))
            except Malformed:
                malformed += 1
            else:
                kept += [conversation] if conversation else []
        return kept, malformed

    async def _transcript(self, conversation: str) -> dict[str, Any]:
        return (await self._get(conversation, [documents.TRANSCRIPT])).doc or {}

    async def devices(self, uid: str) -> list[Device]:
        """The user's devices, each token once."""
        listed = [
            documents.device_from(found.id, found.doc or {}, found.version)
            for found in await self._whole(self._user(uid), "fcm_tokens", ["token"], MAX_DEVICES)
        ]
        found = [device for device in listed if device]
        if found:
            return documents.chosen(found, None)
        return documents.chosen([], (await self._get(self._user(uid), [documents.LEGACY_TOKEN])).doc)

    async def around(self, uid: str, first: date, last: date) -> dict[date, Ledger]:
        """The ledgers of first … last, one range query."""
        query = (
            Select(self._user(uid), "recap_deliveries")
            .where(NAME, ">=", self._ledger(uid, first))
            .where(NAME, "<=", self._ledger(uid, last))
        )
        days = [(date.fromisoformat(found.id), found.doc or {}) for found in await self._list(query.request)]
        return {day: ledger_from(day, doc) for day, doc in days}

    async def summary(self, uid: str, day: date) -> Summary | None:
        """A summary whose `date` is that day."""
        query = Select(self._user(uid), "daily_summaries").where("date", "==", day.isoformat()).limit(1)
        found = await self._list(query.request)
        return summary_from(found[0].id, found[0].doc or {}) if found else None
