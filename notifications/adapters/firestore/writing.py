"""What is written: the ledger's transactions, and dead tokens."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as errors
from google.cloud.firestore_v1 import DELETE_FIELD, SERVER_TIMESTAMP, async_transactional

from notifications import documents
from notifications.adapters.firestore.reading import Reading
from notifications.domain.delivery import Verdict
from notifications.domain.model import Device
from notifications.ledger import Decision, Seen, TransactionalLedger

if TYPE_CHECKING:
    pass


class Writing(Reading, TransactionalLedger):
    """The Ledgers port, and the deletion of devices."""

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
            self.reads += len(asked)
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
        self.writes += verdict.write + (verdict.recap is not None)
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


def _instant(moment: datetime) -> datetime:
    return datetime.fromtimestamp(moment.timestamp(), UTC)
