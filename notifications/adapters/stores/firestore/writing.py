"""What is written: the ledger's transactions, and dead tokens."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from google.api_core import exceptions
from google.cloud.firestore import (
    DELETE_FIELD,
    SERVER_TIMESTAMP,
    AsyncDocumentReference,
    AsyncTransaction,
    async_transactional,
)

from notifications.adapters.stores import documents
from notifications.adapters.stores.delivery_documents import ledger_from, ledger_to, recap_to, summary_from
from notifications.adapters.stores.firestore.reading import Reading
from notifications.adapters.stores.ledgers import Decide, Seen, TransactionalLedger
from notifications.domain.delivery import Decision
from notifications.domain.errors import ItemFault, ItemReason, StoreDown
from notifications.domain.model import Device, Summary
from notifications.domain.waits import jittered

TRIES = 4
BACK_OFF = timedelta(milliseconds=400)  # jittered, where a read was aborted
ROLLBACK_SECONDS = 1.0


class Transaction(AsyncTransaction):  # type: ignore[misc]
    """The client's own, but for its rollback: that lets go of the locks, and must neither hang nor hide the cause."""

    async def _rollback(self) -> None:
        with suppress(exceptions.GoogleAPIError, TimeoutError, ValueError):  # a ValueError: nothing was begun
            async with asyncio.timeout(ROLLBACK_SECONDS):
                await super()._rollback()


class Writing(Reading, TransactionalLedger):
    """The Ledgers port, and the deletion of devices."""

    async def _transact(self, uid: str, day: date, decide: Decide, *, user: bool, summary: bool) -> Decision:
        """Documents only, no query: in a transaction a query would conflict with every other user's.

        So a summary for the date is looked for twice: under any id just before, and under the id
        that the layout gives it by the commit itself, which creates that document or is refused.
        Only then is it read.
        """
        other = await self.summary(uid, day) if summary else None
        references = [self._ledger(uid, day), *([self._user(uid)] if user else [])]
        ours = self._summary(uid, day.isoformat())

        async def persistently() -> Decision:
            for tries_left in reversed(range(TRIES)):
                try:
                    return await self._once(uid, day, decide, references, other)
                except UnicodeEncodeError as cause:
                    raise self._unstorable() from cause
                except exceptions.AlreadyExists:
                    if ours in references:
                        raise
                    references.append(ours)
                except exceptions.InvalidArgument as cause:  # once it may be a transaction that ended meanwhile
                    if tries_left < TRIES - 1:
                        raise self._unstorable() from cause
                except exceptions.Aborted:
                    if not tries_left:
                        raise
                    await asyncio.sleep(jittered(BACK_OFF, 0.5, 1.5).total_seconds())
            raise AssertionError("every try returns or raises")

        return await self._ask(persistently)

    def _unstorable(self) -> ItemFault:
        return ItemFault(ItemReason.UNSTORABLE, f"{self._where} refuses what is to be stored.")

    async def _once(
        self,
        uid: str,
        day: date,
        decide: Decide,
        references: list[AsyncDocumentReference],
        other: Summary | None,
    ) -> Decision:
        """One transaction, which the client repeats by itself where its commit was aborted."""
        ledger, account, ours = self._ledger(uid, day), self._user(uid), self._summary(uid, day.isoformat())

        @async_transactional  # type: ignore[untyped-decorator]
        async def decided(transaction: AsyncTransaction) -> Decision:
            if not transaction.id:  # a commit without one would be no transaction: no fence
                raise StoreDown("firestore", f"{self._where} began no transaction; check that it is Firestore.")
            asked = self._client.get_all(references, transaction=transaction)
            found = {snapshot.reference.path: snapshot async for snapshot in asked}
            self.reads += len(found)
            entry, theirs = found[ledger.path], found.get(ours.path)
            decision = decide(
                Seen(
                    ledger=ledger_from(day, entry.to_dict()) if entry.exists else None,
                    read_time=entry.read_time,
                    active=account.path not in found or documents.active(found[account.path].to_dict()),
                    summary=summary_from(theirs.id, theirs.to_dict()) if theirs and theirs.exists else other,
                )
            )
            if decision.write and decision.entry is not None:
                transaction.set(ledger, ledger_to(decision.entry) | _stamps(decision))
            if decision.recap is not None:
                write = transaction.create if theirs is None else transaction.set
                write(ours, recap_to(decision.recap))
            return decision if decision.write else replace(decision, version=entry.update_time)

        transaction = Transaction(self._client)
        try:
            decision: Decision = await decided(transaction)
        except ValueError as cause:  # what the client makes of the last of its tries
            if isinstance(cause.__cause__, exceptions.Aborted):
                raise cause.__cause__ from None
            raise
        self.writes += len(transaction.write_results)
        if decision.write:
            return replace(decision, version=transaction.write_results[0].update_time)
        return decision

    async def _commit_unchanged(self, uid: str, day: date, opened: Decision, decision: Decision) -> bool:
        """Write what changes, on condition that nobody has written the ledger since."""
        assert opened.entry is not None  # noqa: S101
        assert decision.entry is not None  # noqa: S101 - both decisions are of a ledger
        before, after = ledger_to(opened.entry), ledger_to(decision.entry)
        changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        changes = {name: after.get(name, DELETE_FIELD) for name in changed} | _stamps(decision)
        as_left = self._client.write_option(last_update_time=opened.version)
        update = self._ledger(uid, day).update
        done = await self._if_unchanged(lambda: update(changes, option=as_left, retry=None))
        self.writes += done
        return done

    async def forget_device(self, uid: str, device: Device) -> bool:
        """Delete a token, if its document is unchanged; the legacy field, if it still holds this token."""
        if device.key is None:
            return await self._forget_legacy(uid, device)
        token = self._user(uid).collection("fcm_tokens").document(device.key)
        as_read = self._client.write_option(last_update_time=device.version)
        return await self._if_unchanged(lambda: token.delete(option=as_read, retry=None))

    async def _forget_legacy(self, uid: str, device: Device) -> bool:
        found = await self._read(self._user(uid), [documents.LEGACY_TOKEN])
        if not found.exists or (found.to_dict() or {}).get(documents.LEGACY_TOKEN) != device.version:
            return False
        as_read = self._client.write_option(last_update_time=found.update_time)
        field = {documents.LEGACY_TOKEN: DELETE_FIELD}
        return await self._if_unchanged(lambda: found.reference.update(field, option=as_read, retry=None))


def _stamps(decision: Decision) -> dict[str, Any]:
    """The fields that the server's clock fills in."""
    stamped = {"sending_at": decision.stamp_sending, "sent_at": decision.stamp_sent}
    return {name: SERVER_TIMESTAMP for name, asked in stamped.items() if asked}
