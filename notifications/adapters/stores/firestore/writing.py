"""What is written: the ledger's transactions, and dead tokens."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import Any

import grpc

from notifications.adapters.stores import documents
from notifications.adapters.stores.delivery_documents import ledger_from, ledger_to, recap_to, summary_from
from notifications.adapters.stores.firestore.client import Found, GetRequest, Write
from notifications.adapters.stores.firestore.reading import Reading
from notifications.adapters.stores.firestore.values import put_all
from notifications.adapters.stores.ledgers import Decide, Seen, TransactionalLedger
from notifications.domain.delivery import Decision
from notifications.domain.errors import ItemFault, ItemReason, StoreDown
from notifications.domain.model import Device, Summary
from notifications.domain.waits import jittered

TRANSACTION_TRIES = 5
BACK_OFF = timedelta(milliseconds=200)  # doubled by each try, jittered
REQUEST_TIME = 1  # DocumentTransform.FieldTransform.ServerValue
ENDS_TRANSACTION = (
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
)


class Writing(Reading, TransactionalLedger):
    """The Ledgers port, and the deletion of devices."""

    async def _transact(self, uid: str, day: date, decide: Decide, *, user: bool, summary: bool) -> Decision:
        """Documents only, no query: in a transaction a query would conflict with every other user's.

        So a summary for the date is looked for twice: under any id just before, and under the id
        that the layout gives it by the commit itself, which creates that document or is refused.
        Only then is it read.
        """
        other = await self.summary(uid, day) if summary else None
        names = [self._ledger(uid, day), *([self._user(uid)] if user else [])]
        ours = self._summary(uid, day.isoformat())
        async with self._asking():
            for attempt in range(TRANSACTION_TRIES):
                try:
                    return await self._once(uid, day, decide, names, other)
                except UnicodeEncodeError as cause:
                    raise self._unstorable() from cause
                except grpc.aio.AioRpcError as refused:
                    last = attempt + 1 == TRANSACTION_TRIES
                    code = refused.code()
                    if code is grpc.StatusCode.ALREADY_EXISTS and ours not in names and not last:
                        names.append(ours)
                    elif code is grpc.StatusCode.ABORTED and not last:
                        await asyncio.sleep(jittered(BACK_OFF * 2**attempt, 0.5, 1.5).total_seconds())
                    elif code is not grpc.StatusCode.INVALID_ARGUMENT:
                        raise
                    elif attempt:  # not a transaction that ended meanwhile: the document itself
                        raise self._unstorable() from refused
        raise AssertionError("every try returns or raises")

    def _unstorable(self) -> ItemFault:
        return ItemFault(ItemReason.UNSTORABLE, f"{self._where} refuses what is to be stored.")

    async def _once(self, uid: str, day: date, decide: Decide, names: list[str], other: Summary | None) -> Decision:
        """One transaction: begun by its reads, ended by its commit, which is empty where nothing is to do."""
        request = GetRequest(database=self._database, documents=names)
        request.new_transaction.read_write.SetInParent()
        transaction, found = await self._read(request)
        if not transaction:  # a commit without one would be no transaction: no fence
            raise StoreDown("firestore", f"{self._where} began no transaction; check that it is a Firestore server.")
        try:
            decision, writes = self._decided(uid, day, decide, found, other)
            await self._commit(writes, transaction)
        except BaseException as cause:  # cancellation too: the locks are let go, and the cause goes on
            if not (isinstance(cause, grpc.aio.AioRpcError) and cause.code() in ENDS_TRANSACTION):
                await self._roll_back(transaction)
            raise
        self.writes += len(writes)
        return decision

    def _decided(
        self, uid: str, day: date, decide: Decide, found: list[Found], other: Summary | None
    ) -> tuple[Decision, list[Any]]:
        read = {one.name: one for one in found}
        ledger, account = read[self._ledger(uid, day)], read.get(self._user(uid))
        assert ledger.read_time is not None  # noqa: S101 - the server always says
        theirs = read.get(self._summary(uid, day.isoformat()))
        if theirs is not None and theirs.doc is not None:
            other = summary_from(theirs.id, theirs.doc)
        decision = decide(
            Seen(
                ledger=ledger_from(day, ledger.doc) if ledger.doc is not None else None,
                read_time=ledger.read_time,
                active=account is None or documents.active(account.doc),
                summary=other,
            )
        )
        return decision, self._writes(uid, day, decision, replaces=theirs is not None)

    def _writes(self, uid: str, day: date, decision: Decision, *, replaces: bool) -> list[Any]:
        if not decision.write or decision.entry is None:
            return []
        ledger = Write()
        ledger.update.name = self._ledger(uid, day)
        put_all(ledger.update.fields, ledger_to(decision.entry))
        for field, stamped in (("sending_at", decision.stamp_sending), ("sent_at", decision.stamp_sent)):
            if stamped:
                ledger.update_transforms.add(field_path=field, set_to_server_value=REQUEST_TIME)
        if decision.recap is None:
            return [ledger]
        summary = Write()
        summary.update.name = self._summary(uid, decision.recap.id)
        put_all(summary.update.fields, recap_to(decision.recap))
        if not replaces:
            summary.current_document.exists = False
        return [ledger, summary]

    async def forget_device(self, uid: str, device: Device) -> bool:
        """Delete a token, if its document is unchanged; the legacy field, if it still holds this token."""
        if device.key is None:
            return await self._forget_legacy(uid, device)
        write = Write(delete=f"{self._user(uid)}/fcm_tokens/{device.key}")
        write.current_document.update_time.CopyFrom(device.version)
        return await self._if_unchanged(write)

    async def _forget_legacy(self, uid: str, device: Device) -> bool:
        found = await self._get(self._user(uid), [documents.LEGACY_TOKEN])
        if found.doc is None or found.doc.get(documents.LEGACY_TOKEN) != device.version:
            return False
        write = Write()
        write.update.name = found.name
        write.update_mask.field_paths.append(documents.LEGACY_TOKEN)  # named and not given: deleted
        write.current_document.update_time.CopyFrom(found.version)
        return await self._if_unchanged(write)
