"""Users, conversations, summaries, devices and ledgers in Firestore, by Google's own asynchronous client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.firestore import AsyncClient, AsyncDocumentReference, DocumentSnapshot

from notifications.adapters.google_tokens import GoogleTokens, default_credentials
from notifications.adapters.stores import documents
from notifications.adapters.stores.documents import PART_KEPT, Facts, kept_to, ledger_changes, ledger_from
from notifications.adapters.stores.firestore.reading import RETRY, Reading
from notifications.adapters.stores.imports import checked, mended
from notifications.adapters.stores.ledgers import Decide, TransactionalLedger, read_again
from notifications.domain.backoff import jittered
from notifications.domain.delivery import Decision, LedgerRules, Opening, Snapshot
from notifications.domain.errors import ConfigFault, ItemFault, ItemReason, StoreDown
from notifications.domain.model import Cited, Device, Draft, Ledger, Summary
from notifications.ports import Decided, Mended
from notifications.recap.document import recap_to

TRIES, ROLLBACK_SECONDS = 4, 0.3
BACK_OFF = timedelta(milliseconds=400)  # jittered, where a read was aborted


class Transaction(firestore.AsyncTransaction):  # type: ignore[misc]
    """The client's own, but for its rollback: that lets go of the locks, and must neither hang nor hide the cause."""

    has_read = False  # so that what is refused from then on is its commit

    async def _rollback(self) -> None:
        with suppress(exceptions.GoogleAPIError, TimeoutError, ValueError):  # a ValueError: nothing was begun
            async with asyncio.timeout(ROLLBACK_SECONDS):
                await super()._rollback()


AT_ONCE = 400  # documents of one commit


class _Changed(Exception):
    """A document is not as this transaction read it: the whole of it is tried again."""


class FirestoreStore(Reading, TransactionalLedger):
    """The Store port over one database of a project. It belongs to one event loop."""

    async def put(
        self, uid: str, user: documents.Doc, fcm_tokens: Mapping[str, Any], conversations: Mapping[str, Any]
    ) -> None:
        """One user's documents, the user's own last, in bounded commits. Raises Malformed, and nothing is written."""
        found = checked(uid, user, fcm_tokens, conversations)
        below = [(name, key, doc) for name, collection in found.items() for key, doc in collection.items()]
        while True:
            batch = self._client.batch()
            for name, key, doc in below[:AT_ONCE]:
                batch.set(self._user(uid).collection(name).document(key), dict(doc))
            below = below[AT_ONCE:]
            if not below:
                batch.set(self._user(uid), dict(user))
            await self._ask(batch.commit)
            if not below:
                break

    async def remove(self, uid: str) -> None:
        await self._ask(lambda: self._client.recursive_delete(self._user(uid)), self._page_seconds)

    async def empty(self) -> bool:
        return not await self._found(self._client.collection("users").limit(1))

    async def _transact(
        self, uid: str, day: date, decide: Decide, *, user: bool, summary: bool = False, rests_on: Opening | None = None
    ) -> Decision:
        """Documents only, no query: in a transaction a query would conflict with every other user's.

        So another writer's summary for the date is looked for just before, whatever its id. Each try is a whole
        transaction, which reads the ledger anew and writes on condition that it is still as it was read.
        """
        other = await self.summary(uid, day) if summary else None

        async def asked() -> Decision:
            for tries_left in reversed(range(TRIES)):
                try:
                    return await self._once(uid, day, decide, other, user=user, rests_on=rests_on)
                except _Changed as changed:
                    if not tries_left:
                        raise self._down(exceptions.Aborted("")) from changed
                except exceptions.Aborted:
                    if not tries_left:
                        raise
                    await asyncio.sleep(jittered(BACK_OFF, 0.5, 1.5).total_seconds())
                except (exceptions.InvalidArgument, UnicodeEncodeError) as cause:
                    if tries_left < TRIES - 1:  # the first may be of a transaction that ended meanwhile
                        raise ItemFault(ItemReason.UNSTORABLE, f"{self._where} refuses this document.") from cause
            raise AssertionError("every try returns or raises")

        return await self._ask(asked)

    async def _once(
        self, uid: str, day: date, decide: Decide, other: Summary | None, *, user: bool, rests_on: Opening | None
    ) -> Decision:
        """One transaction, which the client repeats by itself where its commit was aborted."""
        ledger, account = self._ledger(uid, day), self._user(uid)

        @firestore.async_transactional  # type: ignore[untyped-decorator]
        async def decided(transaction: firestore.AsyncTransaction) -> Decision:
            if not transaction.id:  # a commit without one would be no transaction: no fence
                raise StoreDown("firestore", f"{self._where} began no transaction; check that it is Firestore.")

            async def read(references: list[AsyncDocumentReference]) -> dict[str, DocumentSnapshot]:
                asked = self._client.get_all(references, transaction=transaction, retry=RETRY)
                found = {snapshot.reference.path: snapshot async for snapshot in asked}
                self.reads += len(found)
                transaction.has_read = True
                return found

            expected = {one: self._ledger(uid, one) for one in read_again(rests_on, None)}
            found = await read([ledger, *([account] if user else []), *expected.values()])
            theirs = found[account.path].to_dict() if user else None
            if late := [one for one in read_again(rests_on, theirs) if one not in expected]:  # zone or hour changed
                expected |= {one: self._ledger(uid, one) for one in late}
                found |= await read([expected[one] for one in late])
            entry = found[ledger.path]
            stored = _ledger_of(entry, day)
            decision = decide(
                Snapshot(
                    ledger=stored,
                    read_time=entry.read_time,
                    active=documents.active(theirs) if user else True,
                    summary=other,
                    around={one: _ledger_of(found[reference.path], one) for one, reference in expected.items()},
                )
            )
            changes = _changes(stored, decision)
            if stored is None and changes:
                transaction.create(ledger, changes)
            elif changes:
                unchanged = self._client.write_option(last_update_time=entry.update_time)
                transaction.update(ledger, changes, option=unchanged)
            if decision.recap is not None:
                transaction.create(self._summary(uid, decision.recap.id), recap_to(decision.recap))
            return replace(decision, version=entry.update_time)

        transaction = Transaction(self._client)
        try:
            decision: Decision = await decided(transaction)
        except (exceptions.AlreadyExists, exceptions.FailedPrecondition) as cause:
            if transaction.has_read:
                raise _Changed from cause
            raise
        except ValueError as cause:  # what the client makes of the last of its tries
            if isinstance(cause.__cause__, exceptions.Aborted):
                raise cause.__cause__ from None
            raise
        self.writes += len(transaction.write_results)
        first = next(iter(transaction.write_results), None)  # the ledger's
        return replace(decision, version=first.update_time) if first else decision

    async def _commit_unchanged(self, uid: str, left: Ledger, version: object, decision: Decision) -> bool:
        changes = _changes(left, decision)
        if not changes:
            return False
        as_left = self._client.write_option(last_update_time=version)
        update = self._ledger(uid, left.date).update
        done = await self._if_unchanged(lambda: update(changes, option=as_left, retry=None))
        self.writes += done
        return done

    async def put_part(self, uid: str, day: date, key: str, facts: Sequence[Cited]) -> None:
        await self._keep(uid, day, key, kept_to(Facts, tuple(facts), datetime.now(UTC) + PART_KEPT))

    async def keep_draft(self, uid: str, day: date, key: str, draft: Draft) -> None:
        await self._keep(uid, day, key, kept_to(Draft, draft, datetime.now(UTC) + PART_KEPT))

    async def _keep(self, uid: str, day: date, key: str, doc: dict[str, Any]) -> None:
        """Store what is paid, of who is there and wants recaps. Its end is of the worker's clock, and days away."""

        @firestore.async_transactional  # type: ignore[untyped-decorator]
        async def kept(transaction: firestore.AsyncTransaction) -> None:
            account = await self._user(uid).get([documents.USER_ENABLED], transaction=transaction, retry=RETRY)
            self.reads += 1
            if documents.active(account.to_dict()):
                transaction.set(self._part(uid, day, key), doc)

        async def asked() -> None:
            transaction = Transaction(self._client)
            try:
                await kept(transaction)
            except ValueError as cause:  # what the client makes of the last of its tries
                raise StoreDown("firestore", f"{self._where} does not keep what an LLM was paid for.") from cause
            self.writes += len(transaction.write_results)

        await self._ask(asked)

    async def forget_device(self, uid: str, device: Device) -> bool:
        """Delete a token, if its document is unchanged; the legacy field, if it still holds this token."""
        if device.key is not None:
            token = self._user(uid).collection("fcm_tokens").document(device.key)
            as_read = self._client.write_option(last_update_time=device.version)
            return await self._if_unchanged(lambda: token.delete(option=as_read, retry=None))
        found = await self._read(self._user(uid), [documents.LEGACY_TOKEN])
        holds = (found.to_dict() or {}).get(documents.LEGACY_TOKEN) == device.version
        return holds and await self._update(found, {documents.LEGACY_TOKEN: firestore.DELETE_FIELD})

    async def mend(self, uid: str, decided: Decided | None = None, *, write: bool = True) -> Mended:
        """Mend an invisible user, unless the document changes meanwhile."""
        found = await self._read(self._user(uid))
        told = mended(found.to_dict() or {}, decided) if found.exists else Mended({})
        new = {name: value for name, (_, value) in told.changes.items()}
        return told if not write or not new or await self._update(found, new) else Mended({})

    async def _update(self, found: firestore.DocumentSnapshot, changes: dict[str, Any]) -> bool:
        as_read = self._client.write_option(last_update_time=found.update_time)
        return await self._if_unchanged(lambda: found.reference.update(changes, option=as_read, retry=None))


def _ledger_of(found: DocumentSnapshot, day: date) -> Ledger | None:
    return ledger_from(day, found.to_dict()) if found.exists else None


def _changes(before: Ledger | None, decision: Decision) -> dict[str, Any]:
    """The fields to write: what this version does not know stays. Two are filled in by the server's clock."""
    if not decision.write or decision.entry is None:
        return {}
    changes = ledger_changes(before, decision.entry)
    stamped = {"sending_at": decision.stamp_sending, "sent_at": decision.stamp_sent}
    stamps = {name: firestore.SERVER_TIMESTAMP for name, asked in stamped.items() if asked}
    return {name: firestore.DELETE_FIELD if value is None else value for name, value in changes.items()} | stamps


async def connect(
    project: str, database: str, emulator: str | None, rules: LedgerRules, store_timeout: timedelta
) -> FirestoreStore:
    """The project's database; `emulator` (host:port) needs no credentials. Raises ConfigFault or DependencyDown."""
    named = "" if database == "(default)" else f", database {database}"
    where = f"Firestore ({f'emulator at {emulator}' if emulator else f'project {project}'}{named})"
    if emulator:
        return FirestoreStore(AsyncClient(project, database=database), None, where, rules, store_timeout)
    os.environ.pop("FIRESTORE_EMULATOR_HOST", None)  # set and empty, it means none to us and one to the client
    try:
        credentials, _ = await asyncio.to_thread(default_credentials, AsyncClient.SCOPE)
    except ConfigFault as fault:
        raise ConfigFault(f"{where}: {fault}") from fault
    tokens = GoogleTokens(credentials, where)
    await tokens.token()  # nothing is claimed yet: who gets none says so at once
    return FirestoreStore(AsyncClient(project, credentials, database), tokens, where, rules, store_timeout)
