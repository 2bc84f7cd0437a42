"""What is read outside transactions: users, conversations, devices, ledgers around a date, summaries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from notifications.adapters.stores import documents
from notifications.adapters.stores.delivery_documents import ledger_from, summary_from
from notifications.adapters.stores.firestore.client import FirestoreClient, Found
from notifications.adapters.stores.firestore.queries import DESCENDING, NAME, Select
from notifications.domain.errors import Malformed
from notifications.domain.model import Conversation, Device, Ledger, State, Summary, Window, day_of
from notifications.domain.recap import MAX_READ
from notifications.domain.shards import Range
from notifications.ports import Listed

MAX_DEVICES = 200
USER_FIELDS = (documents.USER_ZONE, documents.USER_ENABLED, documents.USER_HOUR, "language")


class Reading(FirestoreClient):
    """The Users, Conversations and Devices ports, and the ledger's two look-ups."""

    async def due_users(
        self, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int
    ) -> list[Listed]:
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
        return [_listed(found) for found in page]

    async def user(self, uid: str) -> Listed | None:
        """One user, whatever their switch says; None where there is no such document."""
        found = await self._get(self._user(uid))
        return _listed(found) if found.doc is not None else None

    async def conversations_in(self, uid: str, window: Window) -> tuple[list[Conversation], int]:
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

    async def devices(self, uid: str) -> tuple[list[Device], int]:
        """The user's devices, each token once, and how many documents were malformed."""
        listed = await self._whole(self._user(uid), "fcm_tokens", ["token"], MAX_DEVICES)
        found, malformed = documents.devices_from((one.id, one.doc or {}, one.version) for one in listed)
        if found:
            return documents.chosen(found, None), malformed
        legacy = (await self._get(self._user(uid), [documents.LEGACY_TOKEN])).doc
        return documents.chosen([], legacy), malformed

    async def ledgers_between(self, uid: str, first: date, last: date) -> dict[date, Ledger]:
        """The ledgers of first … last, one range query."""
        query = (
            Select(self._user(uid), "recap_deliveries")
            .where(NAME, ">=", self._ledger(uid, first))
            .where(NAME, "<=", self._ledger(uid, last))
        )
        days = [(day_of(found.id), found.doc or {}) for found in await self._list(query.request)]
        return {day: ledger_from(day, doc) for day, doc in days if day is not None}

    async def open_ledgers(self, after: tuple[str, date] | None, limit: int) -> list[tuple[str, Ledger]]:
        """Ledgers in sending and pending of everybody, by uid and date: one query over all users."""
        query = (
            Select(self._root, "recap_deliveries", everywhere=True)
            .where("state", "in", [state.value for state in State if state.open])
            .order_by(NAME)
            .after(None if after is None else self._ledger(*after))
            .limit(limit)
        )
        listed = [(one, day_of(one.id)) for one in await self._list(query.request)]
        return [(owner(one.name), ledger_from(day, one.doc or {})) for one, day in listed if day is not None]

    async def summary(self, uid: str, day: date) -> Summary | None:
        """A summary whose `date` is that day."""
        query = Select(self._user(uid), "daily_summaries").where("date", "==", day.isoformat()).limit(1)
        found = await self._list(query.request)
        return summary_from(found[0].id, found[0].doc or {}) if found else None


def owner(name: str) -> str:
    """The uid in …/users/{uid}/{collection}/{id}."""
    return name.split("/")[-3]


def _listed(found: Found) -> Listed:
    return documents.listed(found.id, found.doc or {}, found.created, found.updated)
