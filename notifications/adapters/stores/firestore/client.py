"""The client, the documents' places, and Firestore's errors in our words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Any, TypeVar

from google.api_core import exceptions
from google.api_core.retry import AsyncRetry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore import AsyncClient, AsyncDocumentReference, AsyncQuery, DocumentSnapshot

from notifications.adapters.google_tokens import GoogleTokens
from notifications.domain.delivery import LedgerRules
from notifications.domain.errors import ConfigFault, DependencyDown, StoreDown

T = TypeVar("T")

CALLS_IN_STORE_TIMEOUT = 4  # one that hangs leaves time to ask again
CHANGED = (exceptions.FailedPrecondition, exceptions.NotFound)  # what a condition of a write answers
AWAY = if_exception_type(exceptions.ServiceUnavailable, exceptions.InternalServerError)
RETRY = AsyncRetry(AWAY, initial=0.1, maximum=1.0, timeout=3.0)  # of reads; who needs it asks again later
API = "firestore.googleapis.com"
NAME = "__name__"  # a document's own, as a field of queries


class FirestoreClient:
    """What reading and writing share. `reads` and `writes` count documents, as they are billed."""

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
        """The next so many documents by name."""
        query = query.order_by(NAME).limit(limit)
        return await self._found(query.start_after({NAME: after}) if after else query, seconds)

    async def _read(self, document: AsyncDocumentReference, fields: list[str] | None = None) -> DocumentSnapshot:
        """One document; these fields alone."""
        snapshot = await self._ask(lambda: document.get(field_paths=fields, retry=RETRY))
        self.reads += 1
        return snapshot

    async def _if_unchanged(self, write: Callable[[], Awaitable[Any]]) -> bool:
        """Whether a write's own condition held."""

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


def refusal(cause: exceptions.GoogleAPICallError) -> str:
    """What a person has to mend, or nothing where waiting may. Firestore's own words are read, and never shown.

    A document that is missing is no error to Firestore, and a write's own condition is answered before this: a
    NOT_FOUND, which may come without a word, is of the database.
    """
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
