"""The ledger's verbs over any store that can run one decision in one transaction.

Both stores inherit them, so that docs/protocol.md, section 4 is carried out in one place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial

from notifications.adapters.stores.documents import USER_HOUR, USER_ZONE
from notifications.domain import delivery, delivery_report
from notifications.domain.delivery import Decision, LedgerRules, Opening
from notifications.domain.errors import Malformed
from notifications.domain.model import Ledger, Recap, State, Summary
from notifications.domain.push import Result


@dataclass(frozen=True, slots=True)
class Seen:
    """What a transaction read. `active`: the account is there and switched on."""

    ledger: Ledger | None
    read_time: datetime  # the store's own clock
    active: bool = True
    summary: Summary | None = None
    around: Mapping[date, Ledger | None] = field(default_factory=dict)  # those that the opening rests on, read again

    def __post_init__(self) -> None:
        if self.ledger is not None and self.ledger.state is State.UNREADABLE:
            raise Malformed(f"recap_deliveries/{self.ledger.date}: what is stored is none that this version knows.")


Decide = Callable[[Seen], Decision]


def read_again(op: Opening | None, account: object) -> list[date]:
    """The ledgers around whose change makes the text anew; `account` is the user's document."""
    if op is None:
        return []
    moved = isinstance(account, Mapping) and (account.get(USER_ZONE), account.get(USER_HOUR)) != (op.zone, op.hour)
    return [*op.neighbours.earlier, *(op.neighbours.later if op.operators or moved else ())]


class TransactionalLedger(ABC):
    """close, legacy, begin, take, report and resend, each one transaction."""

    _rules: LedgerRules
    reads: int = 0  # documents, as a store that bills them counts
    writes: int = 0

    @abstractmethod
    async def _transact(
        self, uid: str, day: date, decide: Decide, *, user: bool, summary: bool = False, rests_on: Opening | None = None
    ) -> Decision:
        """Read the ledger, and the user and the summary where asked; write what is decided, in one commit.

        `rests_on`: its neighbours are read again, as `read_again` says. Fields that this version does not know stay.
        """

    async def end_day(self, op: Opening, state: State, outcome: str) -> Decision:
        """End the day as skipped, missed or dead."""

        def decide(seen: Seen) -> Decision:
            return delivery.end_day(
                op,
                state,
                outcome,
                active=seen.active,
                found=seen.ledger,
                changed=op.neighbours.changed(seen.around),
                read_time=seen.read_time,
                rules=self._rules,
            )

        return await self._transact(op.uid, op.date, decide, user=True, rests_on=op)

    async def legacy(self, op: Opening, summary: Summary) -> Decision:
        """Another hand's summary: a ledger in `sent`, created only if absent."""

        def decide(seen: Seen) -> Decision:
            return delivery.legacy(op, summary, active=seen.active, found=seen.ledger, rules=self._rules)

        return await self._transact(op.uid, op.date, decide, user=True)

    async def begin(self, op: Opening, recap: Recap, *, has_devices: bool, replaces: Ledger | None) -> Decision:
        """Ledger and summary in one commit: the fence."""

        def decide(seen: Seen) -> Decision:
            return delivery.begin(
                op,
                recap,
                has_devices=has_devices,
                replaces=replaces,
                active=seen.active,
                found=seen.ledger,
                summary=seen.summary,
                changed=op.neighbours.changed(seen.around),
                read_time=seen.read_time,
                rules=self._rules,
            )

        return await self._transact(op.uid, op.date, decide, user=True, summary=True, rests_on=op)

    async def take(self, uid: str, day: date, by: str) -> Decision:
        """Become the sender of an open ledger."""

        def decide(seen: Seen) -> Decision:
            return delivery.take(by, found=seen.ledger, read_time=seen.read_time, rules=self._rules)

        return await self._transact(uid, day, decide, user=False)

    async def report(
        self,
        uid: str,
        day: date,
        by: str,
        seq: int,
        results: Mapping[str, Result],
        *,
        sent_nothing: bool,
        last_chance: bool,
        reason: str = "",
        opened: Decision | None = None,
    ) -> Decision:
        """Write down what came of the pushes: the short way where the ledger is still as `opened` left it."""
        answered = partial(
            delivery_report.report, by, seq, results, sent_nothing=sent_nothing, last_chance=last_chance, reason=reason
        )
        if opened is not None and opened.entry is not None and opened.version is not None:
            decision = answered(found=opened.entry)
            if await self._commit_unchanged(uid, opened.entry, opened.version, decision):
                return decision

        def decide(seen: Seen) -> Decision:
            return answered(found=seen.ledger)

        return await self._transact(uid, day, decide, user=False)

    async def _commit_unchanged(self, uid: str, left: Ledger, version: object, decision: Decision) -> bool:
        """Write a decision without a read, if the ledger is still as it was left. False: ask the transaction."""
        return False

    async def sweep(self, uid: str, day: date, by: str, *, over: bool) -> Decision:
        """Take, or give up, an open ledger that no cohort finds any more."""

        def decide(seen: Seen) -> Decision:
            return delivery_report.sweep(
                by, active=seen.active, over=over, found=seen.ledger, read_time=seen.read_time, rules=self._rules
            )

        return await self._transact(uid, day, decide, user=True)

    async def resend(self, uid: str, day: date, *, claim_live: bool, again: bool = True) -> Decision:
        """An operator's wish to push again."""

        def decide(seen: Seen) -> Decision:
            return delivery_report.resend(
                active=seen.active,
                found=seen.ledger,
                claim_live=claim_live,
                read_time=seen.read_time,
                rules=self._rules,
                again=again,
            )

        return await self._transact(uid, day, decide, user=True)
