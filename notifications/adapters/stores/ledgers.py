"""The ledger's verbs (docs/protocol.md, section 4) over any store that runs one decision in one transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any

from notifications.adapters.stores.documents import Facts, created_at, kept_from
from notifications.adapters.stores.imports import check_user
from notifications.adapters.stores.layout import LEDGERS, Layout, value_at
from notifications.domain import delivery
from notifications.domain.delivery import Decision, LedgerRules, Opening, Snapshot
from notifications.domain.model import Cited, DayState, Draft, Ledger, Recap, Summary, User
from notifications.domain.recording import PushReport, record_pushes

Decide = Callable[[Snapshot], Decision]


def neighbour_dates(layout: Layout, op: Opening | None, account: object) -> list[date]:
    """The neighbouring ledgers that the text depends on; `account` is the user's document."""
    if op is None:
        return []
    known = isinstance(account, Mapping)
    moved = known and (value_at(account, layout.time_zone), value_at(account, layout.hour)) != (op.zone, op.hour)
    return [*op.neighbours.earlier, *(op.neighbours.later if op.resend or moved else ())]


class TransactionalLedger(ABC):
    """The ledger's verbs, each one transaction; and an LLM's paid work, kept beside the ledger."""

    _rules: LedgerRules
    _layout: Layout
    reads: int = 0  # documents, as a store that bills them counts
    writes: int = 0

    @property
    def user_path(self) -> str:
        return f"{self._layout.users}/{{uid}}"

    @property
    def ledger_path(self) -> str:
        return f"{self.user_path}/{LEDGERS}/{{day}}"

    @abstractmethod
    async def _transact(
        self, uid: str, day: date, decide: Decide, *, user: bool, summary: bool = False, rests_on: Opening | None = None
    ) -> Decision:
        """Read the ledger, and the user and the summary if asked for; write the decision in the same transaction.

        `rests_on`: the neighbours that `neighbour_dates` names are read too. Unknown fields of the ledger stay.
        """

    @abstractmethod
    async def _read_kept(self, uid: str, day: date, key: str) -> object:
        """The document that was kept beside the ledger; None if there is none, or it has expired."""

    @abstractmethod
    async def _write_kept(self, uid: str, day: date, key: str, kind: Any, paid: object) -> None:
        """Keep it for PART_KEPT, if the user is there and wants recaps."""

    def check(self, uid: str, user: Any, devices: Any, conversations: Any) -> tuple[User, list[datetime]]:
        checked, _, talks = check_user(self._layout, uid, user, devices, conversations)
        return checked, list(filter(None, (created_at(self._layout, doc) for doc in talks.values())))

    async def part(self, uid: str, day: date, key: str) -> tuple[Cited, ...] | None:
        return kept_from(Facts, await self._read_kept(uid, day, key))

    async def put_part(self, uid: str, day: date, key: str, facts: Sequence[Cited]) -> None:
        await self._write_kept(uid, day, key, Facts, tuple(facts))

    async def kept_draft(self, uid: str, day: date, key: str) -> Draft | None:
        return kept_from(Draft, await self._read_kept(uid, day, key))

    async def keep_draft(self, uid: str, day: date, key: str, draft: Draft) -> None:
        await self._write_kept(uid, day, key, Draft, draft)

    async def end_day(self, op: Opening, state: DayState, outcome: str) -> Decision:
        return await self._transact(
            op.uid,
            op.date,
            lambda seen: delivery.end_day(op, state, outcome, seen, self._rules),
            user=True,
            rests_on=op,
        )

    async def end_as_legacy(self, op: Opening, summary: Summary) -> Decision:
        return await self._transact(
            op.uid, op.date, lambda seen: delivery.end_as_legacy(op, summary, seen, self._rules), user=True
        )

    async def begin(self, op: Opening, recap: Recap, *, has_targets: bool, replaces: Ledger | None) -> Decision:
        def decide(seen: Snapshot) -> Decision:
            return delivery.begin(op, recap, seen, self._rules, has_targets=has_targets, replaces=replaces)

        return await self._transact(op.uid, op.date, decide, user=True, summary=True, rests_on=op)

    async def take(self, uid: str, day: date, by: str) -> Decision:
        return await self._transact(uid, day, lambda seen: delivery.take(by, seen, self._rules), user=False)

    async def record_pushes(self, uid: str, day: date, report: PushReport, opened: Decision | None = None) -> Decision:
        """Record the pushes' results: without a read if the ledger is still as `opened` wrote it."""
        record = partial(record_pushes, report, self._rules)
        if opened is not None and opened.ledger is not None and opened.version is not None:
            decision = record(opened.ledger)
            if await self._commit_unchanged(uid, opened.ledger, opened.version, decision):
                return decision
        return await self._transact(uid, day, lambda seen: record(seen.ledger), user=False)

    async def _commit_unchanged(self, uid: str, ledger: Ledger, version: object, decision: Decision) -> bool:
        """Write a decision without a read. False if the ledger has changed, or the store can't."""
        return False

    async def sweep(self, uid: str, day: date, by: str, *, over: bool) -> Decision:
        return await self._transact(uid, day, lambda seen: delivery.sweep(by, seen, self._rules, over=over), user=True)

    async def resend(self, uid: str, day: date, *, claim_live: bool, again: bool = True) -> Decision:
        def decide(seen: Snapshot) -> Decision:
            return delivery.resend(seen, self._rules, claim_live=claim_live, again=again)

        return await self._transact(uid, day, decide, user=True)
