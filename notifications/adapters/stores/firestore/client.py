"""The client, the documents' places, and Firestore's errors in our words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Any, TypeVar

from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore import AsyncClient, AsyncDocumentReference, AsyncQuery, DocumentSnapshot

from notifications.adapters.google_tokens import GoogleTokens
from notifications.domain.delivery import LedgerRules
from notifications.domain.errors import ConfigFault, DependencyDown, StoreDown

T = TypeVar("T")

CALLS_IN_STORE_TIMEOUT = 4  # one that hangs leaves time to ask again
CHANGED = (exceptions.FailedPrecondition, exceptions.NotFound)  # what a condition of a write answers
REFUSED = (exceptions.Forbidden, exceptions.Unauthorized)
NAME = "__name__"  # a document's own, as a field of queries


class FirestoreClient:
    """What every part of the store shares. `reads` and `writes` count documents, as they are billed."""

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
        """One operation, bounded as a whole, the client's own retries included; its errors in our words.

        A token is fetched before it is needed, where its errors can still be told apart; one that the server
        refuses is replaced once, since it may have ended since it was given out.
        """
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
        except REFUSED as cause:
            raise ConfigFault(
                f"{self._where} refuses our credentials ({_code(cause)}); see GOOGLE_APPLICATION_CREDENTIALS."
            ) from None
        except exceptions.FailedPrecondition as cause:
            if "index" in cause.message:
                raise ConfigFault(
                    f"{self._where} lacks an index that a query needs; deploy deploy/firestore.indexes.json."
                ) from None
            raise self._down(cause) from cause
        except (exceptions.GoogleAPIError, GoogleAuthError, OSError) as cause:
            raise self._down(cause) from cause

    async def _token(self, refused: str | None = None) -> str | None:
        try:
            return await self._tokens.token(refused) if self._tokens else None
        except DependencyDown as cause:
            raise StoreDown("firestore", str(cause)) from cause

    def _down(self, cause: Exception) -> StoreDown:
        return StoreDown("firestore", f"{self._where} does not serve ({_code(cause)}); check it and the network.")

    def _user(self, uid: str) -> AsyncDocumentReference:
        return self._client.collection("users").document(uid)

    def _ledger(self, uid: str, day: date) -> AsyncDocumentReference:
        return self._user(uid).collection("recap_deliveries").document(day.isoformat())

    def _summary(self, uid: str, key: str) -> AsyncDocumentReference:
        return self._user(uid).collection("daily_summaries").document(key)

    async def _found(self, query: AsyncQuery, seconds: float | None = None) -> list[DocumentSnapshot]:
        """What a query finds, in one page: no stream is held open across other work. An empty one is billed too."""
        found: list[DocumentSnapshot] = await self._ask(query.get, seconds)
        self.reads += max(1, len(found))
        return found

    async def _read(self, document: AsyncDocumentReference, fields: list[str] | None = None) -> DocumentSnapshot:
        """One document; these fields alone."""
        snapshot = await self._ask(lambda: document.get(field_paths=fields))
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


def _code(cause: Exception) -> str:
    """The status that gRPC gives it, else the error's class."""
    status = getattr(cause, "grpc_status_code", None)
    return status.name if status is not None else type(cause).__name__
