"""One client, its documents' places, and its errors in our words."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core import exceptions as errors
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1 import AsyncClient
from google.cloud.firestore_v1.field_path import FieldPath

from notifications import documents
from notifications.domain.delivery import Terms
from notifications.domain.errors import ConfigFault, StoreDown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAME = FieldPath.document_id()
USER_FIELDS = (documents.USER_ZONE, documents.USER_ENABLED, documents.USER_HOUR, "language")
MAX_DEVICES = 200
REFUSED = (errors.PermissionDenied, errors.Unauthenticated, errors.Forbidden, errors.Unauthorized)


class FirestoreClient:
    """What every part of the store shares."""

    def __init__(self, client: AsyncClient, where: str, terms: Terms, timeout_seconds: float) -> None:
        self._client = client
        self._where = where
        self._terms = terms
        self._timeout = timeout_seconds
        self.reads = 0
        self.writes = 0

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
        """What a query finds. An empty answer is billed as one read too."""
        async with self._asking():
            found = list(await query.get())
        self.reads += max(1, len(found))
        return found

    async def _get(self, reference: Any, fields: list[str] | None = None) -> Any:
        async with self._asking():
            found = await reference.get(fields)
        self.reads += 1
        return found

    async def aclose(self) -> None:
        """Close the channel."""
        api = self._client._firestore_api_internal  # the client has no public close
        if api is not None:
            await api.transport.close()
