"""What is read outside transactions: one user's day, and everybody page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from google.api_core import exceptions
from google.api_core.retry import AsyncRetry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore import AsyncClient, AsyncDocumentReference, AsyncQuery, DocumentSnapshot, FieldFilter

from notifications.adapters.google_tokens import GoogleTokens
from notifications.adapters.stores import documents
from notifications.adapters.stores.conversation_text import TRANSCRIPT
from notifications.adapters.stores.documents import Facts, kept_from, ledger_from, summary_from
from notifications.domain.delivery import LedgerRules
from notifications.domain.errors import ConfigFault, DependencyDown, Malformed, StoreDown
from notifications.domain.model import Cited, Conversation, DayState, Device, Draft, Ledger, Summary, day_of
from notifications.domain.shards import Range
from notifications.domain.told import Candidates
from notifications.ports import Listed
from notifications.recap.bounds import MAX_READ

T = TypeVar("T")

CALLS_IN_STORE_TIMEOUT = 4  # one that hangs leaves time to ask again
CHANGED = (exceptions.FailedPrecondition, exceptions.NotFound)  # what a condition of a write answers
TRANSIENT = if_exception_type(exceptions.ServiceUnavailable, exceptions.InternalServerError)
RETRY = AsyncRetry(TRANSIENT, initial=0.1, maximum=1.0, timeout=3.0)  # of reads; who needs it asks again later
API = "firestore.googleapis.com"
NAME = "__name__"  # a document's own, as a field of queries
CLOCK = ("recap_clock", "now")  # nobody writes it
MAX_DEVICES = 200
TALKS_A_PAGE = 500
USER_FIELDS = (documents.USER_ZONE, documents.USER_ENABLED, documents.USER_HOUR, "language")


class Reading:
    """The half of the Store port that only looks. `reads` and `writes` count documents, as they are billed."""

    def __init__(
        self, client: AsyncClient, tokens: GoogleTokens | None, where: str, rules: LedgerRules, store_timeout: timedelta
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._where = where
        self._rules = rules
        self._call_seconds = store_timeout.total_seconds() / CALLS_IN_STORE_TIMEOUT
        self._page_seconds = store_timeout.total_seconds()  # no user's deadline waits for a page
        self.reads = 0
        self.writes = 0

    async def _ask(self, call: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """One operation, bounded as a whole; its errors in our words. A token that is refused is replaced once."""
        try:
            async with asyncio.timeout(seconds or self._call_seconds):
                token = await self._token()
                try:
                    return await call()
                except exceptions.Unauthorized:
                    if self._tokens is None:
                        raise
                    await self._token(refused=token)
                    return await call()
        except (
            exceptions.Forbidden,
            exceptions.Unauthorized,
            exceptions.NotFound,
            exceptions.FailedPrecondition,
        ) as cause:
            if sentence := refusal(cause):
                raise ConfigFault(f"{self._where} {sentence}.") from None
            raise self._down(cause) from cause
        except (exceptions.GoogleAPIError, GoogleAuthError, OSError) as cause:
            raise self._down(cause) from cause

    async def _token(self, refused: str | None = None) -> str | None:
        try:
            return await self._tokens.token(refused) if self._tokens else None
        except DependencyDown as cause:  # here its errors can be told apart: inside a call all are UNAVAILABLE
            raise StoreDown("firestore", str(cause)) from cause

    def _down(self, cause: Exception) -> StoreDown:
        return StoreDown("firestore", f"{self._where} does not serve ({_code(cause)}); check it and the network.")

    def _user(self, uid: str) -> AsyncDocumentReference:
        return self._client.collection("users").document(uid)

    def _ledger(self, uid: str, day: date) -> AsyncDocumentReference:
        return self._user(uid).collection("recap_deliveries").document(day.isoformat())

    def _part(self, uid: str, day: date, key: str) -> AsyncDocumentReference:
        return self._ledger(uid, day).collection("recap_parts").document(key)

    def _summary(self, uid: str, key: str) -> AsyncDocumentReference:
        return self._user(uid).collection("daily_summaries").document(key)

    async def _found(self, query: AsyncQuery, seconds: float | None = None) -> list[DocumentSnapshot]:
        """What a query finds: no stream is held open across other work. An empty answer is billed too."""
        found: list[DocumentSnapshot] = await self._ask(lambda: query.get(retry=RETRY), seconds)
        self.reads += max(1, len(found))
        return found

    async def _page(
        self, query: AsyncQuery, after: AsyncDocumentReference | None, limit: int, seconds: float | None = None
    ) -> list[DocumentSnapshot]:
        query = query.order_by(NAME).limit(limit)
        return await self._found(query.start_after({NAME: after}) if after else query, seconds)

    async def _read(self, document: AsyncDocumentReference, fields: list[str] | None = None) -> DocumentSnapshot:
        snapshot = await self._ask(lambda: document.get(field_paths=fields, retry=RETRY))
        self.reads += 1
        return snapshot

    async def _if_unchanged(self, write: Callable[[], Awaitable[Any]]) -> bool:
        async def asked() -> bool:
            try:
                await write()
            except CHANGED:
                return False
            return True

        return await self._ask(asked)

    async def aclose(self) -> None:
        """Close the channel: the client has no public way to."""
        if self._client._firestore_api_internal is not None:
            await self._client._transport.close()

    async def now(self) -> datetime:
        """Firestore's clock: the read time of a document, which need not be there."""
        read: datetime = (await self._read(self._client.document(*CLOCK), [NAME])).read_time
        return read

    async def due_users(
        self, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int
    ) -> list[Listed]:
        """Enabled users of these zones (30 at most) and this hour, by id."""
        query = (
            self._client.collection("users")
            .where(filter=FieldFilter(documents.USER_ENABLED, "==", True))
            .where(filter=FieldFilter(documents.USER_HOUR, "==", hour))
            .where(filter=FieldFilter(documents.USER_ZONE, "in", list(zones)))
            .select(USER_FIELDS)
        )
        if ids.start is not None:
            query = query.where(filter=FieldFilter(NAME, ">=", self._user(ids.start)))
        if ids.end is not None:
            query = query.where(filter=FieldFilter(NAME, "<", self._user(ids.end)))
        last = None if after is None else self._user(after)
        return [_listed(found) for found in await self._page(query, last, limit, self._page_seconds)]

    async def user(self, uid: str) -> Listed | None:
        found = await self._read(self._user(uid))
        return _listed(found) if found.exists else None

    async def conversations_in(self, uid: str, candidates: Candidates) -> tuple[list[Conversation], int]:
        """As the port says, page by page, the newest first. A transcript is read only where nothing was written."""
        newest_first = (
            self._user(uid)
            .collection("conversations")
            .where(filter=FieldFilter("created_at", ">=", candidates.since))
            .where(filter=FieldFilter("created_at", "<", candidates.until))
            .order_by("created_at", AsyncQuery.DESCENDING)
            .select(documents.CONVERSATION_FIELDS)
            .limit(TALKS_A_PAGE)
        )
        page = await self._found(newest_first, self._page_seconds)
        untold = [one for one in page if not candidates.leave_out(uid, one.id)]
        while len(page) == TALKS_A_PAGE and len(untold) < MAX_READ:
            page = await self._found(newest_first.start_after(page[-1]), self._page_seconds)
            untold += [one for one in page if not candidates.leave_out(uid, one.id)]
        kept: list[Conversation] = []
        malformed = 0
        for found in reversed(untold[:MAX_READ]):
            doc = found.to_dict() or {}
            try:
                conversation = documents.conversation_from(found.id, doc)
                if conversation is None or candidates.under_way(conversation):
                    continue
                if not conversation.overview:
                    whole = await self._read(found.reference, [TRANSCRIPT])
                    conversation = documents.conversation_from(found.id, doc | (whole.to_dict() or {}))
            except Malformed:
                malformed += 1
            else:
                kept += [conversation] if conversation else []
        return kept, malformed

    async def devices(self, uid: str) -> tuple[list[Device], int]:
        fields = list(documents.DEVICE_FIELDS)
        tokens = await self._found(self._user(uid).collection("fcm_tokens").select(fields).limit(MAX_DEVICES))
        found, malformed = documents.devices_from((one.id, one.to_dict(), one.update_time) for one in tokens)
        if found:
            return documents.chosen(found, None), malformed
        legacy = await self._read(self._user(uid), [documents.LEGACY_TOKEN])
        return documents.chosen([], legacy.to_dict()), malformed

    async def ledgers_between(self, uid: str, first: date, last: date) -> dict[date, Ledger]:
        query = (
            self._user(uid)
            .collection("recap_deliveries")
            .where(filter=FieldFilter(NAME, ">=", self._ledger(uid, first)))
            .where(filter=FieldFilter(NAME, "<=", self._ledger(uid, last)))
        )
        days = [(day_of(found.id), found.to_dict()) for found in await self._found(query)]
        return {day: ledger_from(day, doc) for day, doc in days if day is not None}

    async def open_ledgers(self, after: tuple[str, date] | None, limit: int) -> list[tuple[str, Ledger]]:
        still_open = FieldFilter("state", "in", [state.value for state in DayState if state.open])
        query = self._client.collection_group("recap_deliveries").where(filter=still_open)
        found = await self._page(query, None if after is None else self._ledger(*after), limit)
        days = [(_owner(one), day_of(one.id), one.to_dict()) for one in found]
        return [(uid, ledger_from(day, doc)) for uid, day, doc in days if day is not None]

    async def summary(self, uid: str, day: date) -> Summary | None:
        found = await self._summary_of(uid, day)
        return summary_from(found.id, found.to_dict() or {}) if found else None

    async def summary_document(self, uid: str, day: date, key: str = "") -> Mapping[str, Any] | None:
        named = await self._read(self._summary(uid, key)) if _can_be_a_name(key) else None
        found = named if named is not None and named.exists else await self._summary_of(uid, day)
        return found.to_dict() if found else None

    async def _summary_of(self, uid: str, day: date) -> DocumentSnapshot | None:
        summaries = self._user(uid).collection("daily_summaries")
        found = await self._found(summaries.where(filter=FieldFilter("date", "==", day.isoformat())).limit(1))
        return found[0] if found else None

    async def part(self, uid: str, day: date, key: str) -> tuple[Cited, ...] | None:
        return kept_from(Facts, (await self._read(self._part(uid, day, key))).to_dict())

    async def kept_draft(self, uid: str, day: date, key: str) -> Draft | None:
        return kept_from(Draft, (await self._read(self._part(uid, day, key))).to_dict())

    async def all_users(self, after: str | None, limit: int) -> list[Listed]:
        query = self._client.collection("users").select(USER_FIELDS)
        return [
            _listed(found) for found in await self._page(query, None if after is None else self._user(after), limit)
        ]

    async def ledgers_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
        last = None if after is None else self._ledger(after, day)
        found = await self._page(self._on(day, "recap_deliveries"), last, limit)
        return [(_owner(one), ledger_from(day, one.to_dict())) for one in found]

    async def summaries_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
        """uid and id of the summaries of one date, by uid; `after` is `uid/id`."""
        uid, _, key = (after or "").rpartition("/")
        last = None if after is None else self._summary(uid, key)
        found = await self._page(self._on(day, "daily_summaries").select(["date"]), last, limit)
        return [(_owner(one), one.id) for one in found]

    def _on(self, day: date, collection: str) -> AsyncQuery:
        return self._client.collection_group(collection).where(filter=FieldFilter("date", "==", day.isoformat()))


def refusal(cause: exceptions.GoogleAPICallError) -> str:
    """What a person has to mend; empty where waiting may. A NOT_FOUND that comes here is of the database."""
    said = cause.message.lower()
    match cause:
        case exceptions.NotFound():
            return "does not exist; set FIRESTORE_DATABASE to a database of this project, or create it"
        case exceptions.FailedPrecondition() if "not available for" in said and "datastore" in said:
            return "is in Datastore mode; set FIRESTORE_DATABASE to a database in Native mode"
        case exceptions.FailedPrecondition() if "index" in said:
            return "lacks an index that a query needs, or still builds it; run deploy/setup.sh"
        case exceptions.Forbidden() if cause.reason == "SERVICE_DISABLED" or "or it is disabled" in said:
            return "is not served, since the Cloud Firestore API is off; run gcloud services enable " + API
        case exceptions.Forbidden() if cause.reason == "BILLING_DISABLED":
            return "is not served, since the project's billing is off; enable it"
        case exceptions.Forbidden() if cause.reason == "CONSUMER_INVALID":
            return "is of a project that does not exist; correct GOOGLE_CLOUD_PROJECT"
        case exceptions.Forbidden() | exceptions.Unauthorized():
            return f"refuses our credentials ({_code(cause)}); see GOOGLE_APPLICATION_CREDENTIALS"
    return ""


def _code(cause: Exception) -> str:
    """The status that gRPC gives it, else the error's class; of what the client gave up, its last cause's."""
    last = getattr(cause, "cause", None) or cause
    status = getattr(last, "grpc_status_code", None)
    return status.name if status is not None else type(last).__name__


def _can_be_a_name(key: str) -> bool:
    """Whether a document can have this id. What another writer calls a summary inside it may be any text."""
    return key not in ("", ".", "..") and "/" not in key and not (key.startswith("__") and key.endswith("__"))


def _owner(found: DocumentSnapshot) -> str:
    """The uid of users/{uid}/{collection}/{id}."""
    return str(found.reference.parent.parent.id)


def _listed(found: DocumentSnapshot) -> Listed:
    return documents.listed(found.id, found.to_dict() or {}, found.create_time, found.update_time)
