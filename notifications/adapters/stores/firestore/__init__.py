"""Users, conversations, summaries, devices and ledgers in Firestore, by Google's own asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from google.api_core import exceptions
from google.cloud import firestore
from google.cloud.firestore import AsyncDocumentReference, AsyncQuery, DocumentSnapshot, FieldFilter
from google.cloud.firestore_v1.field_path import FieldPath

from notifications.adapters.stores import documents, recipients
from notifications.adapters.stores.conversation_text import TRANSCRIPT
from notifications.adapters.stores.documents import Doc, ledger_from
from notifications.adapters.stores.field_types import types_of
from notifications.adapters.stores.firestore.client import RETRY, Changed, Transaction, open_database
from notifications.adapters.stores.firestore.places import NAME, Places
from notifications.adapters.stores.imports import check_user, mend_user
from notifications.adapters.stores.layout import CLOCK, FID, LEDGERS, LEGACY_TOKEN, Layout, read_layout
from notifications.adapters.stores.ledgers import Decide, TransactionalLedger, neighbour_dates
from notifications.domain.backoff import jittered
from notifications.domain.delivery import Decision, LedgerRules, Opening, Snapshot
from notifications.domain.errors import ConfigFault, ItemFault, ItemReason, Malformed, StoreDown
from notifications.domain.model import Conversation, DayState, Device, Ledger, Summary, day_of
from notifications.domain.shards import Range
from notifications.domain.text import is_document_id
from notifications.domain.told_once import Candidates
from notifications.ports import Decided, FieldTypes, Mended, UserDocument
from notifications.recap.bounds import MAX_READ
from notifications.recap.document import recap_to

MAX_ATTEMPTS = 4  # per transaction
BACK_OFF = timedelta(milliseconds=400)  # jittered wait after an aborted read
DOCUMENTS_A_COMMIT = 400
CONVERSATIONS_A_PAGE = 500
MAX_DEVICES = 200
SUMMARIES_LOOKED_AT = EXAMPLES_OF_A_USER = 10


class FirestoreStore(Places, TransactionalLedger):
    """The Store port over one database of a project. It belongs to one event loop."""

    async def _if_unchanged(self, write: Callable[[], Awaitable[Any]]) -> bool:
        """Run a conditional write. Returns whether it was done."""

        async def tried() -> bool:
            try:
                await write()
            except (exceptions.FailedPrecondition, exceptions.NotFound):
                return False
            return True

        return await self._call(tried)

    async def _update(self, document: AsyncDocumentReference, changes: dict[str, Any], version: object) -> bool:
        as_read = self._client.write_option(last_update_time=version)
        return await self._if_unchanged(lambda: document.update(changes, option=as_read, retry=None))

    async def aclose(self) -> None:
        await self._database.close()

    async def now(self) -> datetime:
        """Firestore's clock: the read time of a document, which need not exist."""
        read: datetime = (await self._read(self._client.document(CLOCK), [NAME])).read_time
        return read

    def _due(self, zones: Sequence[str], hour: int, ids: Range) -> AsyncQuery:
        query = (  # enabled users of these zones (30 at most) and this hour
            self._users.where(filter=FieldFilter(self._layout.enabled, "==", True))
            .where(filter=FieldFilter(self._layout.hour, "==", hour))
            .where(filter=FieldFilter(self._layout.time_zone, "in", list(zones)))
            .select(self._layout.user_fields)
        )
        if ids.start is not None:
            query = query.where(filter=FieldFilter(NAME, ">=", self._user(ids.start)))
        if ids.end is not None:
            query = query.where(filter=FieldFilter(NAME, "<", self._user(ids.end)))
        return query

    async def count_due(self, zones: Sequence[str], hour: int, ids: Range) -> int:
        [[counted]] = await self._call(lambda: self._due(zones, hour, ids).count().get(retry=RETRY))
        self.reads += 1 + int(counted.value) // 1_000  # as it is billed
        return int(counted.value)

    async def due_users(
        self, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int
    ) -> list[UserDocument]:
        last = None if after is None else self._user(after)
        page = await self._page(self._due(zones, hour, ids), last, limit, self._database.page_seconds)
        return [self._user_document(user) for user in page]

    async def all_users(self, after: str | None, limit: int) -> list[UserDocument]:
        query = self._users.select(self._layout.user_fields)
        last = None if after is None else self._user(after)
        return [self._user_document(user) for user in await self._page(query, last, limit)]

    async def user_document(self, uid: str) -> UserDocument | None:
        user = await self._read(self._user(uid))
        return self._user_document(user) if user.exists else None

    def _user_document(self, user: DocumentSnapshot) -> UserDocument:
        doc = user.to_dict() or {}
        return documents.user_document_from(self._layout, user.id, doc, user.create_time, user.update_time)

    async def conversations_in(self, uid: str, candidates: Candidates) -> tuple[list[Conversation], int]:
        """See the port. Reads page by page, newest first, and a transcript only if there is no overview."""
        layout = self._layout
        first, until = (documents.stored_instant(layout, at) for at in (candidates.first_untold, candidates.until))
        newest_first = (
            self._conversations(uid)
            .where(filter=FieldFilter(layout.created_at, ">=", first))
            .where(filter=FieldFilter(layout.created_at, "<", until))
            .order_by(layout.created_at, AsyncQuery.DESCENDING)
            .select(layout.conversation_fields)
            .limit(CONVERSATIONS_A_PAGE)
        )
        page = await self._query(newest_first, self._database.page_seconds)
        newest = [snapshot for snapshot in page if not candidates.is_told(uid, snapshot.id)]
        while len(page) == CONVERSATIONS_A_PAGE and len(newest) < MAX_READ:
            page = await self._query(newest_first.start_after(page[-1]), self._database.page_seconds)
            newest += [snapshot for snapshot in page if not candidates.is_told(uid, snapshot.id)]
        conversations: list[Conversation] = []
        malformed = 0
        for snapshot in reversed(newest[:MAX_READ]):
            doc = snapshot.to_dict() or {}
            try:
                conversation = documents.conversation_from(layout, snapshot.id, doc)
                if conversation is None or candidates.is_for_next_recap(conversation):
                    continue
                if not conversation.overview:
                    transcript = await self._read(snapshot.reference, [TRANSCRIPT])
                    conversation = documents.conversation_from(layout, snapshot.id, doc | (transcript.to_dict() or {}))
            except Malformed:
                malformed += 1
            else:
                conversations += [conversation] if conversation else []
        return conversations, malformed

    async def devices(self, uid: str) -> tuple[list[Device], int]:
        place = self._user(uid).collection(self._layout.devices).select([self._layout.token, FID])
        rows = ((token.id, token.to_dict(), token.update_time) for token in await self._query(place.limit(MAX_DEVICES)))
        devices, malformed = recipients.devices_from(self._layout, rows)
        legacy = None if devices else (await self._read(self._user(uid), [LEGACY_TOKEN])).to_dict()
        return recipients.select_devices(devices, legacy), malformed

    async def forget_device(self, uid: str, device: Device) -> bool:
        """Delete a token, if its document is unchanged; the legacy field, if it still holds this token."""
        if device.key is not None:
            token = self._user(uid).collection(self._layout.devices).document(device.key)
            as_read = self._client.write_option(last_update_time=device.version)
            return await self._if_unchanged(lambda: token.delete(option=as_read, retry=None))
        user = await self._read(self._user(uid), [LEGACY_TOKEN])
        unchanged = (user.to_dict() or {}).get(LEGACY_TOKEN) == device.version
        removal = {LEGACY_TOKEN: firestore.DELETE_FIELD}
        return unchanged and await self._update(user.reference, removal, user.update_time)

    async def addresses(self, uid: str, changes: Mapping[str, Any] = {}) -> dict[str, dict[str, str]]:
        user = await self._read(self._user(uid), recipients.ADDRESS_FIELDS)
        return recipients.addresses_from(user.to_dict(), changes)

    async def ledgers_between(self, uid: str, first: date, last: date) -> dict[date, Ledger]:
        query = (
            self._user(uid)
            .collection(LEDGERS)
            .where(filter=FieldFilter(NAME, ">=", self._ledger(uid, first)))
            .where(filter=FieldFilter(NAME, "<=", self._ledger(uid, last)))
        )
        days = [(day_of(ledger.id), ledger.to_dict()) for ledger in await self._query(query)]
        return {day: ledger_from(day, doc) for day, doc in days if day is not None}

    async def open_ledgers(self, after: tuple[str, date] | None, limit: int) -> list[tuple[str, Ledger]]:
        still_open = FieldFilter("state", "in", [state.value for state in DayState if state.open])
        query = self._below_users(LEDGERS).where(filter=still_open)
        page = await self._page(query, None if after is None else self._ledger(*after), limit)
        days = [(_owner(entry), day_of(entry.id), entry.to_dict()) for entry in page]
        return [(uid, ledger_from(day, doc)) for uid, day, doc in days if day is not None]

    async def ledgers_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
        last = None if after is None else self._ledger(after, day)
        page = await self._page(self._dated(day, LEDGERS), last, limit)
        return [(_owner(entry), ledger_from(day, entry.to_dict())) for entry in page]

    async def summaries_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
        """uid and id of the summaries of one date, by uid; `after` is `uid/id`."""
        uid, _, key = (after or "").rpartition("/")
        last = None if after is None else self._summary(uid, key)
        page = await self._page(self._dated(day, self._layout.summaries).select(["date"]), last, limit)
        return [(_owner(summary), summary.id) for summary in page]

    def _dated(self, day: date, collection: str) -> AsyncQuery:
        return self._below_users(collection).where(filter=FieldFilter("date", "==", day.isoformat()))

    async def refuse_foreign_summaries(self) -> None:
        """Raise ConfigFault if the collection that the layout names for summaries holds other documents."""
        some = self._below_users(self._layout.summaries).order_by(NAME).limit(SUMMARIES_LOOKED_AT)
        if not all(documents.is_summary(found.to_dict()) for found in await self._query(some)):
            name = self._layout.summaries
            raise ConfigFault(f"The collection {name!r} holds what is no summary; set another in [summaries].")

    async def summary(self, uid: str, day: date) -> Summary | None:
        summary = await self._summary_on(uid, day)
        return documents.summary_from(summary.id, summary.to_dict() or {}) if summary else None

    async def summary_document(self, uid: str, day: date, key: str = "") -> Doc | None:
        summary = await self._read(self._summary(uid, key)) if is_document_id(key) else None
        if summary is None or not summary.exists:
            summary = await self._summary_on(uid, day)
        return summary.to_dict() if summary else None

    async def _summary_on(self, uid: str, day: date) -> DocumentSnapshot | None:
        summaries = self._user(uid).collection(self._layout.summaries)
        same_date = FieldFilter("date", "==", day.isoformat())
        return next(iter(await self._query(summaries.where(filter=same_date).limit(1))), None)

    async def field_types(self, users: int) -> list[FieldTypes]:
        layout, found = self._layout, list[tuple[str, object]]()
        for user in await self._query(self._users.select(layout.user_fields).limit(users)):
            talks = self._conversations(user.id).select(layout.conversation_fields)
            devices = user.reference.collection(layout.devices).select([layout.token, FID])
            found.append((layout.users, user.to_dict()))
            for place, query in ((layout.devices, devices), (layout.conversations, talks)):
                found += [(place, one.to_dict()) for one in await self._query(query.limit(EXAMPLES_OF_A_USER))]
        return types_of(layout, found)

    async def put(self, uid: str, user: Doc, devices: Mapping[str, Any], conversations: Mapping[str, Any]) -> None:
        """One user's documents, the user's own last, in bounded commits. Raises Malformed first.

        A field of the user's document that is not named stays as it is.
        """
        account, layout = self._user(uid), self._layout
        _, devices, conversations = check_user(layout, uid, user, devices, conversations)
        talks = (self._client if layout.owner else account).collection(layout.conversations)
        docs = [(account.collection(layout.devices).document(key), doc) for key, doc in devices.items()]
        docs += [(talks.document(key), doc) for key, doc in conversations.items()]
        for start in range(0, len(docs) + 1, DOCUMENTS_A_COMMIT):
            batch = self._client.batch()
            for reference, doc in docs[start : start + DOCUMENTS_A_COMMIT]:
                batch.set(reference, dict(doc))
            if start + DOCUMENTS_A_COMMIT > len(docs):
                batch.set(account, dict(user), merge=[FieldPath(name) for name in user])
            await self._call(batch.commit)

    async def remove(self, uid: str) -> None:
        for talk in await self._query(self._conversations(uid).select([])) if self._layout.owner else []:
            await self._call(talk.reference.delete)
        await self._call(lambda: self._client.recursive_delete(self._user(uid)), self._database.page_seconds)

    async def mend(self, uid: str, decided: Decided | None = None, *, write: bool = True) -> Mended:
        """Correct an invisible user, unless the document has changed since it was read."""
        user = await self._read(self._user(uid))
        result = mend_user(self._layout, user.to_dict() or {}, decided) if user.exists else Mended({})
        new = {name: value for name, (_, value) in result.changes.items()}
        done = not write or not new or await self._update(user.reference, new, user.update_time)
        return result if done else Mended({})

    async def _read_kept(self, uid: str, day: date, key: str) -> object:
        return (await self._read(self._part(uid, day, key))).to_dict()

    async def _write_kept(self, uid: str, day: date, key: str, kind: Any, paid: object) -> None:
        doc = documents.kept_to(kind, paid, datetime.now(UTC) + documents.PART_KEPT)  # the host's clock is exact enough

        async def keep(transaction: Transaction) -> None:
            account = await self._user(uid).get([self._layout.enabled], transaction=transaction, retry=RETRY)
            self.reads += 1
            if documents.active(self._layout, account.to_dict()):
                transaction.set(self._part(uid, day, key), doc)

        async def tried() -> None:
            transaction = Transaction(self._client)
            try:
                await transaction.run(keep)
            except (ValueError, exceptions.Aborted) as cause:
                raise StoreDown("firestore", f"{self._where} does not keep what an LLM was paid for.") from cause
            self.writes += len(transaction.write_results)

        await self._call(tried)

    async def _transact(
        self, uid: str, day: date, decide: Decide, *, user: bool, summary: bool = False, rests_on: Opening | None = None
    ) -> Decision:
        """Documents only, no query: in a transaction a query would conflict with every other user's.

        So another writer's summary for the date, whatever its id, is read just before. Each attempt is a transaction
        of its own: it reads the ledger again, and writes only if the ledger is still as it was read.
        """
        other = await self.summary(uid, day) if summary else None

        async def tried() -> Decision:
            for tries_left in reversed(range(MAX_ATTEMPTS)):
                try:
                    return await self._transact_once(uid, day, decide, other, user=user, rests_on=rests_on)
                except Changed as changed:
                    if not tries_left:
                        raise self._database.down(exceptions.Aborted("")) from changed
                except exceptions.Aborted:
                    if not tries_left:
                        raise
                    await asyncio.sleep(jittered(BACK_OFF, 0.5, 1.5).total_seconds())
                except (exceptions.InvalidArgument, UnicodeEncodeError) as cause:
                    if tries_left < MAX_ATTEMPTS - 1:  # the first may only mean that a transaction had ended before
                        raise ItemFault(ItemReason.UNSTORABLE, f"{self._where} refuses this document.") from cause
            raise AssertionError("every try returns or raises")

        return await self._call(tried)

    async def _transact_once(
        self, uid: str, day: date, decide: Decide, other: Summary | None, *, user: bool, rests_on: Opening | None
    ) -> Decision:
        """Run one transaction. Raises Changed or the client's errors."""
        ledger, account = self._ledger(uid, day), self._user(uid)

        async def decided(transaction: Transaction) -> Decision:
            if not transaction.id:  # a commit without an id would be no transaction, so no fence
                raise StoreDown("firestore", f"{self._where} began no transaction; check that it is Firestore.")
            nearby = {date: self._ledger(uid, date) for date in neighbour_dates(self._layout, rests_on, None)}
            read = await transaction.read([ledger, *([account] if user else []), *nearby.values()])
            account_doc = read[account.path].to_dict() if user else None
            dates = neighbour_dates(self._layout, rests_on, account_doc)
            late = {date: self._ledger(uid, date) for date in dates if date not in nearby}
            if late:
                nearby |= late  # the user's zone or hour has changed
                read |= await transaction.read([*late.values()])
            self.reads += len(read)
            entry = read[ledger.path]
            stored = _ledger_of(entry, day)
            snapshot = Snapshot(
                ledger=stored,
                read_time=entry.read_time,
                active=documents.active(self._layout, account_doc) if user else True,
                summary=other,
                nearby={date: _ledger_of(read[reference.path], date) for date, reference in nearby.items()},
            )
            decision = decide(snapshot)
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
        decision = await transaction.run(decided)
        self.writes += len(transaction.write_results)
        first = next(iter(transaction.write_results), None)  # the ledger's
        return replace(decision, version=first.update_time) if first else decision

    async def _commit_unchanged(self, uid: str, ledger: Ledger, version: object, decision: Decision) -> bool:
        changes = _changes(ledger, decision)
        if not changes:
            return False
        done = await self._update(self._ledger(uid, ledger.date), changes, version)
        self.writes += done
        return done


def _ledger_of(snapshot: DocumentSnapshot, day: date) -> Ledger | None:
    return ledger_from(day, snapshot.to_dict()) if snapshot.exists else None


def _owner(snapshot: DocumentSnapshot) -> str:
    """The uid of a document in a collection below a user."""
    return str(snapshot.reference.parent.parent.id)


def _changes(before: Ledger | None, decision: Decision) -> dict[str, Any]:
    """The fields to write: unknown ones stay. Two are filled in by the server's clock."""
    if not decision.write or decision.ledger is None:
        return {}
    changes = documents.ledger_changes(before, decision.ledger)
    stamped = {"sending_at": decision.stamp_sending, "sent_at": decision.stamp_sent}
    stamps = {name: firestore.SERVER_TIMESTAMP for name, wanted in stamped.items() if wanted}
    return {name: firestore.DELETE_FIELD if value is None else value for name, value in changes.items()} | stamps


async def connect(
    project: str, database: str, emulator: str | None, rules: LedgerRules, store_timeout: timedelta, layout: Layout
) -> FirestoreStore:
    """The project's database; `emulator` (host:port) needs no credentials. Raises ConfigFault or DependencyDown."""
    store = FirestoreStore(await open_database(project, database, emulator, store_timeout), rules, layout)
    if layout.summaries != read_layout(None).summaries:
        await store.refuse_foreign_summaries()
    return store
