"""Users, conversations, summaries, devices and ledgers in Firestore.

One AsyncClient, which belongs to one event loop. Pages are separate queries by document
id: no stream is held open across LLM work, since a stream has a deadline and no resume.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core import exceptions as errors
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1 import DELETE_FIELD, SERVER_TIMESTAMP, AsyncClient, async_transactional
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.field_path import FieldPath

from notifications import documents
from notifications.domain.delivery import Terms, Verdict
from notifications.domain.errors import ConfigFault, Malformed, StoreDown
from notifications.domain.model import Conversation, Device, Ledger, Summary, User, Window
from notifications.domain.recap import MAX_READ
from notifications.ledger import Decision, Seen, TransactionalLedger
from notifications.ports import Listed, Range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAME = FieldPath.document_id()
USER_FIELDS = (documents.USER_ZONE, documents.USER_ENABLED, documents.USER_HOUR, "language")
MAX_DEVICES = 200
REFUSED = (errors.PermissionDenied, errors.Unauthenticated, errors.Forbidden, errors.Unauthorized)


class FirestoreStore(TransactionalLedger):
    """The Store port over one project's default database."""

    def __init__(self, client: AsyncClient, where: str, terms: Terms, timeout_seconds: float) -> None:
        self._client = client
        self._where = where
        self._terms = terms
        self._timeout = timeout_seconds

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """One operation: bounded as a whole, the library's own retries included; its errors in our words."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except (*REFUSED, GoogleAuthError) as cause:
            raise ConfigFault(
                f"{self._where} refuses our credentials ({type(cause).__name__}); see GOOGLE_APPLICATION_CREDENTIALS."
            ) from cause
        except (errors.GoogleAPIError, grpc.aio.AioRpcError, ValueError, OSError) as cause:
            if isinstance(cause, errors.FailedPrecondition) and "index" in str(cause):
                raise ConfigFault(
                    f"{self._where} lacks the index of the query for users; deploy deploy/firestore.indexes.json."
                ) from cause
            raise StoreDown(
                "firestore", f"{self._where} does not serve ({type(cause).__name__}); check it and the network."
            ) from cause

    def _user(self, uid: str) -> Any:
        return self._client.collection("users").document(uid)

    def _ledger(self, uid: str, day: date) -> Any:
        return self._user(uid).collection("recap_deliveries").document(day.isoformat())

    async def _list(self, query: Any) -> list[Any]:
        async with self._asking():
            return list(await query.get())

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
        async with self._asking():
            found = await self._user(uid).get()
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
        async with self._asking():
            found = await conversation.get([documents.TRANSCRIPT])
        return found.to_dict() or {}

    async def devices(self, uid: str) -> list[Device]:
        """The user's devices, each token once."""
        query = self._user(uid).collection("fcm_tokens").select(["token"]).limit(MAX_DEVICES)
        listed = [documents.device_from(d.id, d.to_dict(), d.update_time) for d in await self._list(query)]
        found = [device for device in listed if device]
        if found:
            return documents.chosen(found, None)
        async with self._asking():
            user = await self._user(uid).get([documents.LEGACY_TOKEN])
        return documents.chosen([], user.to_dict())

    async def forget_device(self, uid: str, device: Device) -> bool:
        """Delete a token, if its document is unchanged; the legacy field, if it still holds this token."""
        async with self._asking():
            if device.key is None:
                return await self._forget_legacy(uid, device)
            unchanged = self._client.write_option(last_update_time=device.version)
            try:
                await self._user(uid).collection("fcm_tokens").document(device.key).delete(option=unchanged)
            except (errors.FailedPrecondition, errors.NotFound):
                return False
            return True

    async def _forget_legacy(self, uid: str, device: Device) -> bool:
        reference = self._user(uid)

        @async_transactional  # type: ignore[untyped-decorator]
        async def once(transaction: Any) -> bool:
            found = await reference.get([documents.LEGACY_TOKEN], transaction=transaction)
            same = found.exists and (found.to_dict() or {}).get(documents.LEGACY_TOKEN) == device.version
            if same:
                transaction.update(reference, {documents.LEGACY_TOKEN: DELETE_FIELD})
            return bool(same)

        return bool(await once(self._client.transaction()))

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

    async def _transact(self, uid: str, day: date, decide: Decision, *, user: bool, summary: bool) -> Verdict:
        """Documents only, no query: in a transaction a query would conflict with every other user's.

        So a summary for the date is looked for twice: under any id just before, and in the
        transaction under the id that the layout gives it.
        """
        account, ledger = self._user(uid), self._ledger(uid, day)
        ours = account.collection("daily_summaries").document(day.isoformat())
        asked = [ledger, *([account] if user else []), *([ours] if summary else [])]
        other = await self.summary(uid, day) if summary else None

        @async_transactional  # type: ignore[untyped-decorator]
        async def once(transaction: Any) -> Verdict:
            documents_of = self._client.get_all(asked, transaction=transaction)  # its own get_all awaits a generator
            read = {found.reference.path: found async for found in documents_of}
            mine, theirs = read[ledger.path], read.get(ours.path)
            seen = Seen(
                ledger=documents.ledger_from(day, mine.to_dict()) if mine.exists else None,
                read_time=_instant(mine.read_time),
                active=documents.active(read[account.path].to_dict()) if user else True,
                summary=documents.summary_from(theirs.id, theirs.to_dict()) if theirs and theirs.exists else other,
            )
            verdict = decide(seen)
            self._write(transaction, account, ledger, verdict)
            return verdict

        async with self._asking():
            verdict: Verdict = await once(self._client.transaction())
        return verdict

    def _write(self, transaction: Any, account: Any, ledger: Any, verdict: Verdict) -> None:
        if not verdict.write or verdict.entry is None:
            return
        doc = documents.ledger_to(verdict.entry)
        if verdict.stamp_sending:
            doc["sending_at"] = SERVER_TIMESTAMP
        if verdict.stamp_sent:
            doc["sent_at"] = SERVER_TIMESTAMP
        transaction.set(ledger, doc)
        if verdict.recap is not None:
            summary = account.collection("daily_summaries").document(verdict.recap.id)
            transaction.set(summary, documents.recap_to(verdict.recap))

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
        async with self._asking():
            found = await self._user(uid).get()
            if found.exists and (changes := documents.mended(found.to_dict())):
                unchanged = self._client.write_option(last_update_time=found.update_time)
                await self._user(uid).update(changes, option=unchanged)

    async def aclose(self) -> None:
        """Close the channel."""
        api = self._client._firestore_api_internal  # the client has no public close
        if api is not None:
            await api.transport.close()


def _owner(found: Any) -> str:
    """The uid in the path users/{uid}/…"""
    return str(found.reference.parent.parent.id)


def _instant(moment: datetime) -> datetime:
    return datetime.fromtimestamp(moment.timestamp(), UTC)


def connect(project: str, emulator: str | None, terms: Terms, timeout_seconds: float) -> FirestoreStore:
    """A store for the project; `emulator` (host:port) needs no credentials.

    The client library finds the emulator by FIRESTORE_EMULATOR_HOST itself.
    """
    where = f"Firestore ({f'emulator at {emulator}' if emulator else f'project {project}'})"
    try:
        client = AsyncClient(project=project, credentials=AnonymousCredentials() if emulator else None)
    except GoogleAuthError as cause:
        raise ConfigFault(
            f"{where}: there are no usable credentials ({type(cause).__name__}); set GOOGLE_APPLICATION_CREDENTIALS."
        ) from cause
    return FirestoreStore(client, where, terms, timeout_seconds)
