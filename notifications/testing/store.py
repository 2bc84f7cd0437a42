"""The Store port in memory, and its documents for tests to fill and read."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

from notifications.adapters.stores import documents, recipients
from notifications.adapters.stores.documents import (
    PART_KEPT,
    kept_to,
    ledger_from,
    ledger_to,
    summary_from,
    unknown_fields,
)
from notifications.adapters.stores.field_types import types_of
from notifications.adapters.stores.imports import check_user, mend_user
from notifications.adapters.stores.layout import LEDGERS, LEGACY_TOKEN, PARTS, read_layout
from notifications.adapters.stores.ledgers import Decide, TransactionalLedger, neighbour_dates
from notifications.domain.delivery import Decision, LedgerRules, Opening, Snapshot
from notifications.domain.model import Conversation, Device, Ledger, Summary, day_of
from notifications.domain.shards import Range
from notifications.domain.told_once import Candidates
from notifications.ports import Decided, FieldTypes, Mended, UserDocument
from notifications.recap.bounds import MAX_READ
from notifications.recap.document import recap_to
from notifications.testing.claims import ENVIRONMENT, Now, wall_clock
from notifications.testing.world import LONG_AGO, Doc


@dataclass
class Kept:
    """One document, and when it was created and last updated."""

    doc: Doc
    created: datetime
    updated: datetime


@dataclass
class MemoryDocuments:
    """users/{uid} and the collections below it, which several stores may share."""

    clock: Now = wall_clock
    users: dict[str, Kept] = field(default_factory=dict)
    below: dict[tuple[str, str], dict[str, Kept]] = field(default_factory=dict)

    def collection(self, uid: str, name: str) -> dict[str, Kept]:
        return self.below.setdefault((uid, name), {})

    def put(self, place: dict[str, Kept], key: str, doc: Mapping[str, Any], at: datetime | None = None) -> None:
        now = at or self.clock()
        created = place[key].created if key in place else now
        place[key] = Kept(copy.deepcopy(dict(doc)), created, now)


class MemoryStore(TransactionalLedger):
    """The Store port over the documents in memory."""

    def __init__(self, documents: MemoryDocuments, rules: LedgerRules) -> None:
        self._kept = documents
        self._rules = rules
        self._layout = read_layout(None)

    def _user_document(self, uid: str) -> UserDocument:
        kept = self._kept.users[uid]
        return documents.user_document_from(self._layout, uid, copy.deepcopy(kept.doc), kept.created, kept.updated)

    async def count_due(self, zones: Sequence[str], hour: int, ids: Range) -> int:
        return len(await self.due_users(zones, hour, ids, None, len(self._kept.users)))

    async def due_users(
        self, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int
    ) -> list[UserDocument]:
        def due(uid: str) -> bool:
            doc = self._kept.users[uid].doc
            given = doc.get(self._layout.hour)
            return (
                uid > (after or "")
                and uid >= (ids.start or "")
                and (ids.end is None or uid < ids.end)
                and documents.active(self._layout, doc)
                and not isinstance(given, bool)
                and given == hour
                and doc.get(self._layout.time_zone) in zones
            )

        return [self._user_document(uid) for uid in sorted(filter(due, self._kept.users))[:limit]]

    async def now(self) -> datetime:
        return self._kept.clock()

    async def user_document(self, uid: str) -> UserDocument | None:
        return self._user_document(uid) if uid in self._kept.users else None

    async def conversations_in(self, uid: str, candidates: Candidates) -> tuple[list[Conversation], int]:
        dated = [
            (taken_in, key, kept.doc)
            for key, kept in self._kept.collection(uid, "conversations").items()
            if (taken_in := documents.moment(kept.doc.get("created_at")))
            and candidates.first_untold <= taken_in < candidates.until
            and not candidates.is_told(uid, key)
        ]
        newest = sorted(dated, key=lambda one: one[:2])[-MAX_READ:]
        return documents.conversations_from(self._layout, ((key, doc) for _, key, doc in newest), candidates)

    async def devices(self, uid: str) -> tuple[list[Device], int]:
        kept = sorted(self._kept.collection(uid, "fcm_tokens").items())
        found, malformed = recipients.devices_from(
            self._layout, ((key, document.doc, document.updated) for key, document in kept)
        )
        user = self._kept.users.get(uid)
        return recipients.select_devices(found, user.doc if user else None), malformed

    async def forget_device(self, uid: str, device: Device) -> bool:
        if device.key is not None:
            tokens = self._kept.collection(uid, "fcm_tokens")
            unchanged = device.key in tokens and tokens[device.key].updated == device.version
            if unchanged:
                del tokens[device.key]
            return unchanged
        user = self._kept.users.get(uid)
        if user is None or user.doc.get(LEGACY_TOKEN) != device.version:
            return False
        del user.doc[LEGACY_TOKEN]
        return True

    async def addresses(self, uid: str, changes: Mapping[str, Any] = {}) -> dict[str, dict[str, str]]:
        user = self._kept.users.get(uid)
        return recipients.addresses_from(user.doc if user else None, changes)

    def _ledgers(self, uid: str) -> dict[date, Ledger]:
        kept = self._kept.collection(uid, LEDGERS)
        days = ((day_of(key), document.doc) for key, document in kept.items())
        return {day: ledger_from(day, doc) for day, doc in days if day is not None}

    async def ledgers_between(self, uid: str, first: date, last: date) -> dict[date, Ledger]:
        return {day: entry for day, entry in self._ledgers(uid).items() if first <= day <= last}

    async def open_ledgers(self, after: tuple[str, date] | None, limit: int) -> list[tuple[str, Ledger]]:
        owners = sorted(uid for uid, name in self._kept.below if name == LEDGERS)
        found = [(uid, entry) for uid in owners for _, entry in sorted(self._ledgers(uid).items())]
        later = [(uid, ledger) for uid, ledger in found if after is None or (uid, ledger.date) > after]
        return [(uid, ledger) for uid, ledger in later if ledger.state.open][:limit]

    async def summary(self, uid: str, day: date) -> Summary | None:
        kept = sorted(self._kept.collection(uid, "daily_summaries").items())
        return next(
            (summary_from(key, summary.doc) for key, summary in kept if summary.doc.get("date") == str(day)), None
        )

    async def _transact(
        self, uid: str, day: date, decide: Decide, *, user: bool, summary: bool = False, rests_on: Opening | None = None
    ) -> Decision:
        now = self._kept.clock()
        kept = self._kept.users.get(uid)
        account = kept.doc if kept and user else None
        ledgers = self._ledgers(uid)
        decision = decide(
            Snapshot(
                ledger=ledgers.get(day),
                read_time=now,
                active=documents.active(self._layout, account) if user else True,
                summary=await self.summary(uid, day) if summary else None,
                nearby={date: ledgers.get(date) for date in neighbour_dates(self._layout, rests_on, account)},
            )
        )
        entry = decision.to_store(now)
        if entry is None:
            return decision
        place = self._kept.collection(uid, LEDGERS)
        stored = place.get(day.isoformat())
        self._kept.put(place, day.isoformat(), unknown_fields(stored.doc if stored else None) | ledger_to(entry))
        if decision.recap is not None:
            summaries = self._kept.collection(uid, "daily_summaries")
            self._kept.put(summaries, decision.recap.id, recap_to(decision.recap))
        return replace(decision, ledger=entry)

    async def summary_document(self, uid: str, day: date, key: str = "") -> Doc | None:
        kept = self._kept.collection(uid, "daily_summaries")
        found = [kept[key].doc] if key in kept else [summary.doc for summary in kept.values()]
        return next((copy.deepcopy(doc) for doc in found if doc.get("date") == day.isoformat()), None)

    async def _read_kept(self, uid: str, day: date, key: str) -> object:
        kept = self._kept.collection(uid, f"{LEDGERS}/{day}/{PARTS}").get(key)
        return kept.doc if kept else None

    async def _write_kept(self, uid: str, day: date, key: str, kind: Any, paid: object) -> None:
        account = self._kept.users.get(uid)
        if account is None or not documents.active(self._layout, account.doc):
            return
        place = self._kept.collection(uid, f"{LEDGERS}/{day}/{PARTS}")
        self._kept.put(place, key, kept_to(kind, paid, self._kept.clock() + PART_KEPT))

    async def all_users(self, after: str | None, limit: int) -> list[UserDocument]:
        return [
            self._user_document(uid) for uid in sorted(uid for uid in self._kept.users if uid > (after or ""))[:limit]
        ]

    async def ledgers_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
        owners = sorted(uid for uid, name in self._kept.below if name == LEDGERS and uid > (after or ""))
        return [(uid, found[day]) for uid in owners if day in (found := self._ledgers(uid))][:limit]

    async def summaries_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
        uid, _, key = (after or "").rpartition("/")
        found = sorted(
            (owner, name)
            for (owner, collection), kept in self._kept.below.items()
            if collection == "daily_summaries"
            for name, one in kept.items()
            if one.doc.get("date") == day.isoformat()
        )
        return [row for row in found if row > (uid, key)][:limit]

    async def mend(self, uid: str, decided: Decided | None = None, *, write: bool = True) -> Mended:
        kept = self._kept.users.get(uid)
        told = mend_user(self._layout, kept.doc, decided) if kept else Mended({})
        if kept and told.changes and write:
            new = {name: value for name, (_, value) in told.changes.items()}
            self._kept.put(self._kept.users, uid, kept.doc | new)
        return told

    async def field_types(self, users: int) -> list[FieldTypes]:
        layout, found = self._layout, list[tuple[str, object]]()
        for uid in sorted(self._kept.users)[:users]:
            found.append((layout.users, self._kept.users[uid].doc))
            for place in (layout.devices, layout.conversations):
                found += [(place, kept.doc) for kept in self._kept.collection(uid, place).values()]
        return types_of(layout, found)

    async def put(
        self, uid: str, user: Mapping[str, Any], devices: Mapping[str, Any], conversations: Mapping[str, Any]
    ) -> None:
        _, *found = check_user(self._layout, uid, user, devices, conversations)
        before = self._kept.users[uid].doc if uid in self._kept.users else {}
        self._kept.put(self._kept.users, uid, before | dict(user))
        for name, collection in zip((self._layout.devices, self._layout.conversations), found, strict=True):
            for key, doc in collection.items():
                self._kept.put(self._kept.collection(uid, name), key, dict(doc))

    async def remove(self, uid: str) -> None:
        self._kept.users.pop(uid, None)
        for owner, name in [*self._kept.below]:
            if owner == uid:
                del self._kept.below[owner, name]

    async def aclose(self) -> None:
        """Nothing is open."""


class MemoryWorld:
    """The World protocol: the documents for tests to fill and read."""

    name = "memory"
    environment = ENVIRONMENT

    def __init__(self, clock: Now = wall_clock, long_ago: datetime = LONG_AGO) -> None:
        self.documents = MemoryDocuments(clock)
        self._long_ago = long_ago

    def env(self) -> dict[str, str]:
        raise AssertionError("no other process sees what is in this one's memory")

    def put_user(self, uid: str, doc: Doc, tokens: Mapping[str, str], talks: Mapping[str, Doc]) -> None:
        self.documents.put(self.documents.users, uid, doc, self._long_ago)
        for key, token in tokens.items():
            self.put_token(uid, key, token)
        for key, one in talks.items():
            self.put_talk(uid, key, one)

    def update_user(self, uid: str, changes: Doc) -> None:
        self.documents.put(self.documents.users, uid, (self.user(uid) or {}) | changes)

    def delete_user(self, uid: str) -> None:
        self.documents.users.pop(uid, None)

    def user(self, uid: str) -> Doc | None:
        kept = self.documents.users.get(uid)
        return copy.deepcopy(kept.doc) if kept else None

    def _all(self, uid: str, name: str) -> dict[str, Doc]:
        return {key: copy.deepcopy(kept.doc) for key, kept in self.documents.collection(uid, name).items()}

    def tokens(self, uid: str) -> dict[str, Doc]:
        return self._all(uid, "fcm_tokens")

    def put_token(self, uid: str, key: str, token: str) -> None:
        self.put_device(uid, key, {"token": token})

    def put_device(self, uid: str, key: str, doc: Doc) -> None:
        self._put(uid, "fcm_tokens", key, doc)

    def ledgers(self, uid: str) -> dict[str, Doc]:
        return self._all(uid, LEDGERS)

    def summaries(self, uid: str) -> dict[str, Doc]:
        return self._all(uid, "daily_summaries")

    def put_summary(self, uid: str, key: str, doc: Doc) -> None:
        self._put(uid, "daily_summaries", key, doc)

    def delete_summary(self, uid: str, key: str) -> None:
        self.documents.collection(uid, "daily_summaries").pop(key, None)

    def put_ledger(self, uid: str, day: str, doc: Doc) -> None:
        self._put(uid, LEDGERS, day, doc)

    def delete_ledger(self, uid: str, day: str) -> None:
        self.documents.collection(uid, LEDGERS).pop(day, None)

    def put_talk(self, uid: str, key: str, doc: Doc) -> None:
        self._put(uid, "conversations", key, doc)

    def _put(self, uid: str, name: str, key: str, doc: Doc) -> None:
        self.documents.put(self.documents.collection(uid, name), key, doc)

    def close(self) -> None:
        """Nothing is open."""
