"""`audit`: one date's accounts. Every due user's day ends in exactly one ledger, or is listed here."""

from __future__ import annotations

import json
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

from notifications.commands.context import OPEN_STATES, Context
from notifications.commands.reasons import DOCTOR, bracketed, cure_of
from notifications.commands.terminal import Table, first_of, minute, on_the_real_clock, say, say_wrapped, several
from notifications.commands.user_days import AT_WORK, UNKNOWN, Costs, DayQuery, UserDay, UserDays, queries, slot_of
from notifications.domain.schedule import ONE_DAY
from notifications.domain.text import printable

MAX_UID = 60  # characters of a uid in the table
UIDS_SHOWN = 20  # per kind in the table; --json has them all
TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
PERSON, WAITS, TOLD = "Who needs a person", "Who waits", "Of note"
NEXT, WORDS = TABLES["next"], TABLES["words"]
WRONG = tuple(NEXT)
LISTED = (*WRONG, *TABLES["waits"], *TABLES["mends"], *TABLES["told"])  # kinds whose uids are printed
NOT_WELL = tuple(kind for kind in LISTED if kind not in (*WRONG, "no_devices", UNKNOWN))
RESEND = "python job.py resend --date {day} --where {kind} makes and sends them (--dry-run counts them first)"


@dataclass(slots=True)
class Account:
    """Counts by kind, the first uids of each, and what the recaps cost."""

    query: DayQuery
    counts: Counter[str] = field(default_factory=Counter)
    uids: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)  # of those that are open
    oldest: dict[str, datetime] = field(default_factory=dict)  # by open state, the earliest slot
    free_at: datetime | None = None  # when the last of those that are held is free
    first_sent: datetime | None = None
    costs: Costs = field(default_factory=Costs)

    def add(self, row: UserDay) -> None:
        self.costs.add(row)
        for kind in row.kinds:
            self.counts[kind] += 1
            shown = self.uids.setdefault(kind, [])
            if len(shown) < UIDS_SHOWN:
                shown.append(row.uid)
        sent_at = row.ledger.sent_at if row.ledger is not None else None
        if sent_at is not None and (self.first_sent is None or sent_at < self.first_sent):
            self.first_sent = sent_at
        slot = slot_of(row.listed, self.query.day) if row.state in OPEN_STATES else None
        if row.state is None or slot is None:
            return
        self.reasons.setdefault(row.state, Counter())[row.reason] += 1
        self.oldest[row.state] = min(slot.at, self.oldest.get(row.state, slot.at))
        if row.state == "held":
            self.free_at = max(filter(None, (self.free_at, row.until)), default=None)

    @property
    def is_wrong(self) -> bool:
        """Whether a person should look."""
        return any(self.counts[kind] for kind in WRONG)

    @property
    def has_failures(self) -> bool:
        """Whether a person should look, or a run failed on somebody whose day may still be mended."""
        return self.is_wrong or bool(self.failures)

    @property
    def failures(self) -> set[str]:
        """The reasons of those that are open, but for those that end by themselves: a run at work, or one killed."""
        return {reason for reasons in self.reasons.values() for reason in reasons} - AT_WORK - {"killed_run"}

    def to_do(self, ledger_path: str) -> dict[str, list[str]]:
        """What to know and do about each kind, by who has to act. `ledger_path`: the store's."""
        lines: dict[str, list[str]] = {PERSON: [], WAITS: [], TOLD: []}
        day, counts = self.query.day, self.counts
        for who, table in ((PERSON, "next"), (WAITS, "waits"), (PERSON, "mends"), (TOLD, "told")):
            for kind in filter(counts.get, TABLES[table]):
                text = TABLES[table]
                if kind == "held" and (self.free_at is None or self.reasons[kind].keys() == {"killed_run"}):
                    text = TABLES["foreign" if self.free_at is None else "killed"]
                cure = cure_of(self.reasons.get(kind, {}))
                what = text[kind].format(
                    day=day,
                    resend=RESEND.format(day=day, kind=kind),
                    ledger=ledger_path.format(uid="UID", day=day),
                    free=minute(self.free_at) if self.free_at else "",
                    lost=minute(self.query.lost_at(self.oldest[kind])) if kind in self.oldest else "",
                )
                is_failing = who == WAITS and kind != "held" and self.failures.intersection(self.reasons[kind])
                head = f"next, {kind}" if kind in NEXT else f"{kind.replace('_', ' ')}, {counts[kind]:,}"
                needed = f"; {cure or DOCTOR}" if is_failing else ""
                lines[PERSON if needed and cure else who].append(f"{head}: {what}{needed}.")
        if faults := self.costs.faults:
            what = f"sent in the day's own words, since the LLM failed on them; {cure_of(faults) or DOCTOR}"
            lines[PERSON].append(f"{several(faults.total(), 'extract')}: {what}.")
        since, first = self.query.remembers, self.first_sent
        if first and not since:
            lines[TOLD].append(f"Redis: {TABLES['redis']['unknown']}.")
        if since and first and first < since < first + ONE_DAY:
            lines[TOLD].append(f"Redis: {TABLES['redis']['emptied'].format(since=since)}.")
        return lines

    def why_open(self, kind: str) -> str:
        """Why the days of this kind are open, since and until when; in brackets, empty for any other kind."""
        if kind not in self.reasons:
            return ""
        more = f"oldest {(self.query.now - self.oldest[kind]) // timedelta(minutes=1)} min"
        if kind == "held" and self.free_at:
            more += f", free at {minute(self.free_at)} UTC"
        return bracketed(self.reasons[kind], f"{more}, lost at {minute(self.query.lost_at(self.oldest[kind]))} UTC")

    @property
    def verdict(self) -> str:
        """`all well` only where nothing is open, was an extract for a fault, lost a device, or may be a repeat."""
        kinds = [kind for kind in (*WRONG, *NOT_WELL) if self.counts[kind]]
        parts = [f"{self.counts[kind]:,} {WORDS.get(kind, kind)}{self.why_open(kind)}" for kind in kinds]
        if faults := self.costs.faults:
            parts.append(several(faults.total(), "extract") + bracketed(faults))
        if parts:
            head = "something is wrong" if self.is_wrong else "something fails" if self.failures else "not all well"
            return f"{head}: {', '.join(parts)}"
        today = self.query.now.date()
        if self.counts["due"]:
            return "all well"
        yesterday = today - ONE_DAY
        hints = {yesterday: f"{today} is of today", today: f"{yesterday} is of those who are due before noon, too"}
        hint = hints.get(self.query.day)
        return f"nobody was due; python job.py audit --date {hint}" if hint else "nobody was due"


async def audit(day: date | None, context: Context, *, as_json: bool) -> int:
    """Audit a date, by default yesterday in UTC; on a terminal also today so far. Returns 1 if something is wrong, or
    failed and may still be mended.

    As JSON: users, then the counts.
    """
    wrong = False
    async with context.open_services() as services:
        if not as_json:
            for name, reason in context.settings.withheld(pretends_time=False).items():
                say_wrapped(f"Nothing goes out by {name}: {reason}.")
        for query in await queries(day, context, services, today=sys.stdout.isatty() and not as_json):
            days = UserDays(services, query)
            account = await _account(days, query, _say_row if as_json else None)
            if as_json:
                say(json.dumps(_totals(query.day, account, days.documents_read)))
            else:
                _say_account(query, account, days.documents_read, services.store.ledger_path)
            wrong = wrong or account.has_failures
    return 1 if wrong else 0


async def _account(days: UserDays, query: DayQuery, say_row: Callable[[UserDay], None] | None) -> Account:
    """The sums of a date; `say_row` is called with each row that is counted."""
    account = Account(query)
    async with aclosing(days.pages()) as pages:
        async for page in pages:
            for row in page:
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
    day = f"{query.day}{query.so_far}"
    table = Table(("KIND", 19), ("USERS", 9), last="UIDS")
    for kind, count in sorted(account.counts.items()):
        if kind == "stored":  # its recap is in the app, which the other kinds say
            continue
        uids = [printable(uid, MAX_UID) for uid in account.uids.get(kind, [])] if kind in LISTED else []
        why = account.why_open(kind).strip(" ()")
        table.row(kind, f"{count:,}", f"{why}{': ' if why else ''}{first_of(uids, count, '--json') if uids else ''}")
    if account.costs.in_words:
        say_wrapped(f"{day}: {account.costs.in_words}.")
    for line in chain(*account.to_do(path).values()):
        say_wrapped(line, "    ", "")
    say_wrapped(f"{day}: {account.verdict}; {read:,} documents read.")
    say_wrapped(on_the_real_clock(account.free_at, query.now, query.offset))
