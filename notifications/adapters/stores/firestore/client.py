"""A database's client: how it is opened and called, its transactions, and what its errors mean."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

from google.api_core import exceptions
from google.api_core.retry import AsyncRetry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.cloud import firestore
from google.cloud.firestore import AsyncClient, AsyncDocumentReference, DocumentSnapshot

from notifications.adapters.google_tokens import GoogleTokens, default_tokens
from notifications.domain.errors import ConfigFault, DependencyDown, StoreDown

T = TypeVar("T")

CALLS_IN_STORE_TIMEOUT = 4  # if one hangs, there is time for another
TRANSIENT = if_exception_type(exceptions.ServiceUnavailable, exceptions.InternalServerError)
RETRY = AsyncRetry(TRANSIENT, initial=0.1, maximum=1.0, timeout=3.0)  # for reads; callers retry later
ROLLBACK_SECONDS = 0.3
API = "firestore.googleapis.com"


class Database:
    """A client with time-outs and translated errors. `where` names the database in a sentence."""

    def __init__(self, client: AsyncClient, where: str, tokens: GoogleTokens | None, store_timeout: timedelta) -> None:
        self.client = client
        self.where = where
        self._tokens = tokens
        self._call_seconds = store_timeout.total_seconds() / CALLS_IN_STORE_TIMEOUT
        self.page_seconds = store_timeout.total_seconds()  # pages are read outside any user's deadline

    async def call(self, call: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """Run one operation within the store's time-out. A token that is refused is replaced once."""
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
        except (exceptions.GoogleAPIError, GoogleAuthError, OSError) as cause:
            if isinstance(cause, exceptions.GoogleAPICallError) and (sentence := refusal(cause)):
                raise ConfigFault(f"{self.where} {sentence}.") from None
            raise self.down(cause) from cause

    async def _token(self, refused: str | None = None) -> str | None:
        try:
            return await self._tokens.token(refused) if self._tokens else None
        except DependencyDown as cause:  # raised inside a call it would become UNAVAILABLE
            raise StoreDown("firestore", str(cause)) from cause

    def down(self, cause: Exception) -> StoreDown:
        """The error for a database that does not serve."""
        return StoreDown("firestore", f"{self.where} does not serve ({_code(cause)}); check it and the network.")

    async def close(self) -> None:
        """Close the channel, for which the client has no public method."""
        if self.client._firestore_api_internal is not None:
            await self.client._transport.close()


class Changed(Exception):
    """A document has changed since this transaction read it: the transaction must be repeated."""


class Transaction(firestore.AsyncTransaction):  # type: ignore[misc]
    """The client's transaction with a rollback, which releases the locks, that neither hangs nor hides the cause."""

    _has_read = False  # errors after the reads come from the commit

    async def run(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Do `work`; the client repeats it if the commit was aborted. Raises Changed; Aborted after the last try."""
        try:
            result: T = await firestore.async_transactional(work)(self)
        except (exceptions.AlreadyExists, exceptions.FailedPrecondition) as cause:
            if self._has_read:
                raise Changed from cause
            raise
        except ValueError as cause:  # the client raises it after its last try
            if isinstance(cause.__cause__, exceptions.Aborted):
                raise cause.__cause__ from None
            raise
        return result

    async def read(self, references: Sequence[AsyncDocumentReference]) -> dict[str, DocumentSnapshot]:
        """Documents by their paths."""
        snapshots = self._client.get_all(references, transaction=self, retry=RETRY)
        by_path = {snapshot.reference.path: snapshot async for snapshot in snapshots}
        self._has_read = True
        return by_path

    async def _rollback(self) -> None:
        with suppress(exceptions.GoogleAPIError, TimeoutError, ValueError):  # ValueError: the transaction had not begun
            async with asyncio.timeout(ROLLBACK_SECONDS):
                await super()._rollback()


async def open_database(project: str, name: str, emulator: str | None, store_timeout: timedelta) -> Database:
    """The project's database; `emulator` (host:port) needs no credentials. Raises ConfigFault or DependencyDown."""
    named = "" if name == "(default)" else f", database {name}"
    where = f"Firestore ({f'emulator at {emulator}' if emulator else f'project {project}'}{named})"
    if emulator:
        return Database(AsyncClient(project, database=name), where, None, store_timeout)
    os.environ.pop("FIRESTORE_EMULATOR_HOST", None)  # if it is empty, the client would still take it for an emulator
    tokens, _ = await default_tokens(where, AsyncClient.SCOPE)
    await tokens.token()  # refused credentials are reported before anything is claimed
    return Database(AsyncClient(project, tokens.credentials, name), where, tokens, store_timeout)


def refusal(cause: exceptions.GoogleAPICallError) -> str:
    """What an operator has to correct; empty if waiting may help. A NOT_FOUND here means the database."""
    message = cause.message.lower()
    match cause:
        case exceptions.NotFound():
            return "does not exist; set FIRESTORE_DATABASE to a database of this project, or create it"
        case exceptions.FailedPrecondition() if "not available for" in message and "datastore" in message:
            return "is in Datastore mode; set FIRESTORE_DATABASE to a database in Native mode"
        case exceptions.FailedPrecondition() if "index" in message:
            return "lacks an index that a query needs, or still builds it; run deploy/setup.sh"
        case exceptions.Forbidden() if cause.reason == "SERVICE_DISABLED" or "or it is disabled" in message:
            return "is not served, since the Cloud Firestore API is off; run gcloud services enable " + API
        case exceptions.Forbidden() if cause.reason == "BILLING_DISABLED":
            return "is not served, since the project's billing is off; enable it"
        case exceptions.Forbidden() if cause.reason == "CONSUMER_INVALID":
            return "is of a project that does not exist; correct GOOGLE_CLOUD_PROJECT"
        case exceptions.Forbidden() | exceptions.Unauthorized():
            return f"refuses our credentials ({_code(cause)}); see GOOGLE_APPLICATION_CREDENTIALS"
    return ""


def _code(cause: Exception) -> str:
    """The status that gRPC gives it, else the error's class; if the client gave up retrying, its last error's."""
    last = getattr(cause, "cause", None) or cause
    status = getattr(last, "grpc_status_code", None)
    return status.name if status is not None else type(last).__name__
