"""`audit`: one date's accounts. Every due user's day ends in exactly one ledger, or is listed here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from notifications.commands.context import Context
from notifications.commands.terminal import Table, first_of, say, say_wrapped, several
from notifications.commands.user_days import UNKNOWN, Costs, DayQuery, UserDay, UserDays
from notifications.domain.schedule import ONE_DAY
from notifications.domain.text import printable

MAX_UID = 60  # characters of a uid in the table
UIDS_SHOWN = 20  # per kind in the table; --json has them all
WRONG = (
    *("missed", "dead", "gave_up", "unserved", "unfinished", "unreadable", "invisible"),
    *("duplicate_pushes", "duplicate_summaries"),
)
LISTED = (*WRONG, "waiting", UNKNOWN)  # kinds whose uids are printed
RESENDS = "python job.py resend --date {day} --where {kind} makes and pushes them (--dry-run counts them first)"
NEXT = {
    **dict.fromkeys(("missed", "dead"), f"python job.py why UID {{day}} says why; {RESENDS}"),
    "gave_up": f"the recap is stored, and at least one device did not get it; {RESENDS}",
    "unserved": f"no run came in time: check the scheduler; {RESENDS}",
    "unfinished": "the next runs end what a run left open; a resend that was stopped is ended by "
    "python job.py resend --date {day} --where unfinished; python job.py why UID {day} says which it is",
    "unreadable": "written by another version, or by hand: correct or delete {ledger}",
    "invisible": "the query can't see them: python job.py doctor --fix, or write their documents again",
    "duplicate_pushes": "an answer was lost, or a run froze: docs/guarantees.md says which; nothing to do",
    "duplicate_summaries": "another writer stored a second one; the app decides which it shows",
}


@dataclass(slots=True)
class Account:
    """Counts by kind, the first uids of each, and what the recaps cost."""

    counts: Counter[str] = field(default_factory=Counter)
    uids: dict[str, list[str]] = field(default_factory=dict)
    costs: Costs = field(default_factory=Costs)

    def add(self, row: UserDay) -> None:
        if row.ledger is not None:
            self.costs.add(row.ledger)
        for kind in row.kinds:
            self.counts[kind] += 1
            shown = self.uids.setdefault(kind, [])
            if len(shown) < UIDS_SHOWN:
                shown.append(row.uid)

    @property
    def is_wrong(self) -> bool:
        """Whether a person should look."""
        return any(self.counts[kind] for kind in WRONG)


async def audit(day: date | None, context: Context, *, as_json: bool) -> int:
    """Audit a date, by default yesterday in UTC. Returns 1 if something is wrong. As JSON: users, then the counts."""
    now = await context.claims.now() + context.offset
    which = day or now.date() - ONE_DAY
    async with context.open_services() as services:
        days = UserDays(services.store, DayQuery(which, now, services.limits.rules, context.since))
        account = await _account(days, _say_row if as_json else None)
    if as_json:
        say(json.dumps(_totals(which, account, days.documents_read)))
    else:
        _say_account(which, account, days.documents_read, services.store.ledger_path.format(uid="UID", day=which))
    return 1 if account.is_wrong else 0


async def _account(days: UserDays, say_row: Callable[[UserDay], None] | None) -> Account:
    """The sums of a date; `say_row` is called with each row that is counted."""
    account = Account()
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
        facts |= {"unverified": row.ledger.verified is False}
    say(json.dumps({name: value for name, value in facts.items() if value}))


def _totals(day: date, account: Account, read: int) -> dict[str, Any]:
    return {
        "date": str(day),
        "counts": account.counts,
        "documents_read": read,
        "sources": account.costs.sources,
        "tokens": account.costs.tokens,
        "usd": round(account.costs.usd, 6),
        "without_a_price": account.costs.unpriced,
        "unverified": account.costs.unverified,
    }


def _say_account(day: date, account: Account, read: int, ledger: str) -> None:
    table = Table(("KIND", 19), ("USERS", 9), last="UIDS")
    for kind, count in sorted(account.counts.items()):
        uids = [printable(uid, MAX_UID) for uid in account.uids.get(kind, [])] if kind in LISTED else []
        table.row(kind, f"{count:,}", first_of(uids, count) if uids else "")
    if account.costs.sources:
        words = {
            "llm": f"{account.costs.sources['llm']} by the LLM",
            "extract": several(account.costs.sources["extract"], "extract"),
        }
        by = ", ".join(word for source, word in words.items() if account.costs.sources[source])
        unknown = f" ({account.costs.unpriced} without a known price)" if account.costs.unpriced else ""
        unverified = f"; {account.costs.unverified} without a second look" if account.costs.unverified else ""
        say_wrapped(f"{day}: {by}{unverified}; {account.costs.tokens} tokens, {account.costs.usd:.4f} USD{unknown}.")
    for kind in WRONG:
        if account.counts[kind]:
            say_wrapped(f"next, {kind}: {NEXT[kind].format(day=day, kind=kind, ledger=ledger)}.", "    ", "")
    verdict = "something is wrong" if account.is_wrong else "all well"
    say_wrapped(f"{day}: {verdict}; {read} documents read.")
