"""The calls to Firestore, the documents' places, and its errors in our words.

The library gives the channel, the credentials and the messages; the calls go over its channel
without its wrappers. What only reads is tried again by gRPC itself; a commit never is, since
nobody knows whether it happened: that is for the caller, by the ledger's own `by` and `seq`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1 import types
from google.protobuf.empty_pb2 import Empty

from notifications.adapters.stores.firestore.queries import Query
from notifications.adapters.stores.firestore.values import get_all, instant
from notifications.domain.delivery import LedgerRules
from notifications.domain.errors import ConfigFault, StoreDown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVICE = "google.firestore.v1.Firestore"
READS = ("RunQuery", "BatchGetDocuments", "ListDocuments")
RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "INTERNAL"],
}
CALLS = {"methodConfig": [{"name": [{"service": SERVICE, "method": read} for read in READS], "retryPolicy": RETRY}]}
OPTIONS = (
    ("grpc.service_config", json.dumps(CALLS)),
    ("grpc.max_receive_message_length", -1),  # a page of large documents; this and the next as the library sets them
    ("grpc.keepalive_time_ms", 30_000),
)
ROLLBACK_SECONDS = 1.0
CALLS_IN_STORE_TIMEOUT = 4  # one that hangs leaves time to ask again
CHANGED = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND)
REFUSED = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)

GetRequest, GetResponse = types.BatchGetDocumentsRequest.pb(), types.BatchGetDocumentsResponse.pb()
QueryResponse = types.RunQueryResponse.pb()
ListRequest, ListResponse = types.ListDocumentsRequest.pb(), types.ListDocumentsResponse.pb()
CommitRequest, CommitResponse = types.CommitRequest.pb(), types.CommitResponse.pb()
RollbackRequest = types.RollbackRequest.pb()
Write = types.Write.pb()


@dataclass(frozen=True, slots=True)
class Found:
    """One document as read; `doc` is None where there is none."""

    name: str
    doc: dict[str, Any] | None
    version: Any = None  # its update time, for a precondition
    created: datetime | None = None
    read_time: datetime | None = None

    @property
    def id(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]

    @property
    def updated(self) -> datetime | None:
        """When it was last written."""
        return instant(self.version) if self.version is not None else None


class FirestoreClient:
    """What every part of the store shares."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        project: str,
        metadata: tuple[tuple[str, str], ...],
        where: str,
        rules: LedgerRules,
        store_timeout: timedelta,
    ) -> None:
        self._channel = channel
        self._database = f"projects/{project}/databases/(default)"
        self._root = f"{self._database}/documents"
        self._metadata = (("google-cloud-resource-prefix", self._database), *metadata)
        self._where = where
        self._rules = rules
        self._call_seconds = store_timeout.total_seconds() / CALLS_IN_STORE_TIMEOUT
        self._page_seconds = store_timeout.total_seconds()  # no user's deadline waits for a page
        self._run_query = _method(channel.unary_stream, "RunQuery", Query, QueryResponse)
        self._batch_get = _method(channel.unary_stream, "BatchGetDocuments", GetRequest, GetResponse)
        self._list_documents = _method(channel.unary_unary, "ListDocuments", ListRequest, ListResponse)
        self._commit_call = _method(channel.unary_unary, "Commit", CommitRequest, CommitResponse)
        self._rollback_call = _method(channel.unary_unary, "Rollback", RollbackRequest, Empty)
        self.reads = 0
        self.writes = 0

    @asynccontextmanager
    async def _asking(self, seconds: float | None = None) -> AsyncIterator[None]:
        """One operation: bounded as a whole, gRPC's own retries included; its errors in our words."""
        try:
            async with asyncio.timeout(seconds or self._call_seconds):
                yield
        except grpc.aio.AioRpcError as cause:
            code = cause.code()
            if code in REFUSED:
                raise ConfigFault(
                    f"{self._where} refuses our credentials ({code.name}); see GOOGLE_APPLICATION_CREDENTIALS."
                ) from None
            if code is grpc.StatusCode.FAILED_PRECONDITION and "index" in (cause.details() or ""):
                raise ConfigFault(
                    f"{self._where} lacks an index that a query needs; deploy deploy/firestore.indexes.json."
                ) from None
            raise StoreDown(
                "firestore", f"{self._where} does not serve ({code.name}); check it and the network."
            ) from cause
        except (GoogleAuthError, OSError) as cause:
            raise StoreDown(
                "firestore", f"{self._where} does not serve ({type(cause).__name__}); check it and the network."
            ) from cause

    def _user(self, uid: str) -> str:
        return f"{self._root}/users/{uid}"

    def _ledger(self, uid: str, day: date) -> str:
        return f"{self._user(uid)}/recap_deliveries/{day.isoformat()}"

    def _summary(self, uid: str, key: str) -> str:
        return f"{self._user(uid)}/daily_summaries/{key}"

    async def _list(self, query: Any, seconds: float | None = None) -> list[Found]:
        """What a query finds. An empty answer is billed as one read too."""
        async with self._asking(seconds):
            answers = [answer async for answer in self._run_query(query, metadata=self._metadata)]
        found = [_found(answer.document) for answer in answers if answer.HasField("document")]
        self.reads += max(1, len(found))
        return found

    async def _whole(self, parent: str, collection: str, fields: Iterable[str], limit: int) -> list[Found]:
        """A small collection without conditions: a plain call costs half of a query's stream."""
        request = ListRequest(parent=parent, collection_id=collection, page_size=limit)
        request.mask.field_paths.extend(fields)
        found: list[Found] = []
        async with self._asking():
            while len(found) < limit:
                answer = await self._list_documents(request, metadata=self._metadata)
                found += map(_found, answer.documents)
                request.page_token = answer.next_page_token
                if not request.page_token:  # a page may be short, even empty, and not the last
                    break
        self.reads += max(1, len(found))
        return found[:limit]

    async def _get(self, name: str, fields: Sequence[str] = ()) -> Found:
        request = GetRequest(database=self._database, documents=[name])
        if fields:  # an empty mask would mean no field at all
            request.mask.field_paths.extend(fields)
        async with self._asking():
            _, [found] = await self._read(request)
        return found

    async def _read(self, request: Any) -> tuple[bytes, list[Found]]:
        """Documents by name, in no order, and the transaction that the request asked for."""
        transaction, found = b"", []
        async for answer in self._batch_get(request, metadata=self._metadata):
            transaction = transaction or answer.transaction
            match answer.WhichOneof("result"):
                case "found":
                    found.append(_found(answer.found, instant(answer.read_time)))
                case "missing":
                    found.append(Found(answer.missing, None, read_time=instant(answer.read_time)))
        self.reads += len(found)
        return transaction, found

    async def _commit(self, writes: Iterable[Any], transaction: bytes = b"") -> None:
        request = CommitRequest(database=self._database, writes=writes, transaction=transaction)
        await self._commit_call(request, metadata=self._metadata)

    async def _if_unchanged(self, write: Any) -> bool:
        async with self._asking():
            try:
                await self._commit([write])
            except grpc.aio.AioRpcError as refused:
                if refused.code() in CHANGED:
                    return False
                raise
        return True

    async def _roll_back(self, transaction: bytes) -> None:
        """Let go of the locks of a transaction that will not end; else the server keeps them for a minute."""
        request = RollbackRequest(database=self._database, transaction=transaction)
        with suppress(grpc.aio.AioRpcError):
            await self._rollback_call(request, metadata=self._metadata, timeout=ROLLBACK_SECONDS)

    async def aclose(self) -> None:
        """Close the channel."""
        await self._channel.close()


def _found(document: Any, read_time: datetime | None = None) -> Found:
    created = instant(document.create_time) if document.HasField("create_time") else None
    return Found(document.name, get_all(document.fields), document.update_time, created, read_time)


def _method(kind: Any, name: str, request: Any, response: Any) -> Any:
    return kind(
        f"/{SERVICE}/{name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
    )
