"""`audit`: one date's accounts. Every due user's day ends in exactly one ledger, or is listed here."""

from __future__ import annotations

import json
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from notifications.commands.context import Context
from notifications.commands.reasons import bracketed
from notifications.commands.terminal import Table, first_of, say, say_wrapped, several
from notifications.commands.user_days import OPEN_STATES, UNKNOWN, Costs, DayQuery, UserDay, UserDays, queries, slot_of
from notifications.domain.text import printable

MAX_UID = 60  # characters of a uid in the table
UIDS_SHOWN = 20  # per kind in the table; --json has them all
TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
NEXT, NOTES, WORDS = TABLES["next"], TABLES["notes"], TABLES["words"]
WRONG = tuple(NEXT)
NOT_WELL = ("waiting", "held", "no_devices", *NOTES)  # nothing to do at once, but not all is well
LISTED = (*WRONG, *NOT_WELL, UNKNOWN)  # kinds whose uids are printed
RESEND = "python job.py resend --date {day} --where {kind} makes and pushes them (--dry-run counts them first)"


@dataclass(slots=True)
class Account:
    """Counts by kind, the first uids of each, and what the recaps cost."""

    day: date
    counts: Counter[str] = field(default_factory=Counter)
    uids: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)  # of those that are open
    oldest: datetime | None = None  # slot of those that wait
    free_at: datetime | None = None  # when the last of those that are held is free
    costs: Costs = field(default_factory=Costs)

    def add(self, row: UserDay) -> None:
        self.costs.add(row)
        for kind in row.kinds:
            self.counts[kind] += 1
            shown = self.uids.setdefault(kind, [])
            if len(shown) < UIDS_SHOWN:
                shown.append(row.uid)
        slot = slot_of(row.listed, self.day)
        if row.state not in OPEN_STATES or slot is None:
            return
        self.reasons.setdefault(row.state, Counter())[row.reason] += 1
        if row.state == "held":
            self.free_at = max(filter(None, (self.free_at, row.until)), default=None)
        else:
            self.oldest = min(slot.at, self.oldest or slot.at)

    @property
    def is_wrong(self) -> bool:
        """Whether a person should look."""
        return any(self.counts[kind] for kind in WRONG)

    def why_open(self, kind: str, now: datetime) -> str:
        """Why the days of this kind are open, and since or until when; in brackets, empty for any other kind."""
        more = f"free at {self.free_at:%H:%M} UTC" if kind == "held" and self.free_at else ""
        if kind != "held" and self.oldest is not None:
            more = f"oldest {round((now - self.oldest).total_seconds() / 60)} min"
        return bracketed(self.reasons[kind], more) if kind in self.reasons else ""

    def verdict(self, now: datetime) -> str:
        """`all well` only where nothing is open, was an extract for a fault, lost a device, or may be a repeat."""
        if self.is_wrong:
            return "something is wrong"
        parts = [f"{self.counts[kind]:,} {WORDS.get(kind, kind)}{self.why_open(kind, now)}" for kind in NOT_WELL]
        parts = [part for kind, part in zip(NOT_WELL, parts, strict=True) if self.counts[kind]]
        if faults := Counter({reason: count for reason, count in self.costs.extract_reasons.items() if reason}):
            parts.append(several(faults.total(), "extract") + bracketed(faults))
        return f"not all well: {', '.join(parts)}" if parts else "all well"


async def audit(day: date | None, context: Context, *, as_json: bool) -> int:
    """Audit a date, by default yesterday in UTC; on a terminal also today so far. Returns 1 if something is wrong.

    As JSON: users, then the counts.
    """
    wrong = False
    async with context.open_services() as services:
        for query in await queries(day, context, services, today=sys.stdout.isatty() and not as_json):
            days = UserDays(services, query)
            account = await _account(days, query.day, _say_row if as_json else None)
            if as_json:
                say(json.dumps(_totals(query.day, account, days.documents_read)))
            else:
                _say_account(query, account, days.documents_read, services.store.ledger_path)
            wrong = wrong or account.is_wrong
    return 1 if wrong else 0


async def _account(days: UserDays, day: date, say_row: Callable[[UserDay], None] | None) -> Account:
    """The sums of a date; `say_row` is called with each row that is counted."""
    account = Account(day)
    async with aclosing(days.rows()) as rows:
        async for row in rows:
            account.add(row)
            if say_row is not None and row.kinds:
                say_row(row)
    return account


def _say_row(row: UserDay) -> None:
    facts: dict[str, Any] = {"uid": row.uid, "kinds": row.kinds}
    if row.ledger is not None:
        facts |= {"outcome": row.ledger.outcome, "reason": row.ledger.reason, "source": row.ledger.source}
        facts |= {"extract_reason": row.ledger.extract_reason, "unverified": row.ledger.verified is False}
    if row.state in OPEN_STATES:
        facts |= {"reason": row.reason, "until": row.until.isoformat() if row.until else ""}
    say(json.dumps({name: value for name, value in facts.items() if value}))


def _totals(day: date, account: Account, read: int) -> dict[str, Any]:
    return {
        "date": str(day),
        "counts": account.counts,
        "documents_read": read,
        "sources": account.costs.sources,
        "tokens": account.costs.tokens,
        "usd": round(account.costs.usd, 6),
        "lost_tokens": account.costs.lost_tokens,
        "lost_usd": round(account.costs.lost_usd, 6),
        "without_a_price": account.costs.unpriced,
        "unverified": account.costs.unverified,
    }


def _say_account(query: DayQuery, account: Account, read: int, path: str) -> None:
    day = f"{query.day}{' so far' if query.day >= query.now.date() else ''}"
    table = Table(("KIND", 19), ("USERS", 9), last="UIDS")
    for kind, count in sorted(account.counts.items()):
        uids = [printable(uid, MAX_UID) for uid in account.uids.get(kind, [])] if kind in LISTED else []
        why = account.why_open(kind, query.now).strip(" ()")
        table.row(kind, f"{count:,}", f"{why}{': ' if why else ''}{first_of(uids, count) if uids else ''}")
    if account.costs.in_words:
        say_wrapped(f"{day}: {account.costs.in_words}.")
    for kind in filter(account.counts.get, (*WRONG, *NOTES)):
        resend = RESEND.format(day=query.day, kind=kind)
        ledger = path.format(uid="UID", day=query.day)
        what = (NEXT | NOTES)[kind].format(day=query.day, resend=resend, ledger=ledger)
        head = f"next, {kind}" if kind in NEXT else f"{kind.replace('_', ' ')}, {account.counts[kind]:,}"
        say_wrapped(f"{head}: {what}.", "    ", "")
    say_wrapped(f"{day}: {account.verdict(query.now)}; {read:,} documents read.")
