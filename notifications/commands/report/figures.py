"""What the report counts: a day by zone and hour, how late, what it cost, what failed, whom a person must look at."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date

from notifications.commands.joined import UNKNOWN, Row, slot_of
from notifications.domain.model import Ledger, State

LATE_MINUTES = (1, 5, 15, 30, 60, 120)  # after the slot; what is later is beyond the last
LLM_SECONDS = (1, 2, 5, 10, 20, 60)
WAITING = ("waiting", "unfinished", "sending", "pending")
LOST = ("missed", "dead", "gave_up", "unserved", "unreadable", "invisible")
KINDS = ("sent", "extract", "skipped", "waiting", "lost")  # of the heat map
PEOPLE = 200  # who need a person, by name; the rest is counted


@dataclass(slots=True)
class Figures:
    """Counts alone, so that memory is constant whatever the number of users."""

    day: date
    due: int = 0
    invisible: int = 0  # to the query, whatever the date
    cells: dict[tuple[str, int], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # zone, hour
    kinds: Counter[str] = field(default_factory=Counter)
    standing: Counter[str] = field(default_factory=Counter)  # of those who are lost
    outcomes: Counter[str] = field(default_factory=Counter)  # of days that were skipped, or ended without a push
    late: Counter[int] = field(default_factory=Counter)  # by place in LATE_MINUTES
    latency: Counter[int] = field(default_factory=Counter)  # by place in LLM_SECONDS
    failed_at: Counter[int] = field(default_factory=Counter)  # days with a failure or a retry, by hour in UTC
    reasons: Counter[str] = field(default_factory=Counter)  # of failures
    sources: Counter[str] = field(default_factory=Counter)
    devices: Counter[str] = field(default_factory=Counter)  # FCM's answers
    tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0
    retried: int = 0
    people: list[tuple[str, str, str]] = field(default_factory=list)  # uid, how it stands, why
    more_people: int = 0

    def add(self, row: Row) -> None:
        """One user's day more."""
        kind = kind_of(row)
        invisible = row.listed.user is None
        self.invisible += invisible
        if kind is None and not invisible:
            return
        if kind is not None:
            self._count(row, kind)
        if kind == "lost" or invisible:
            self._name(row)

    def _count(self, row: Row, kind: str) -> None:
        self.due += 1
        self.kinds[kind] += 1
        self.standing[row.standing or ""] += kind == "lost"
        slot = slot_of(row.listed, self.day)
        if slot is not None and row.listed.user is not None:
            self.cells[row.listed.user.zone, row.listed.user.hour][kind] += 1
        entry = row.ledger
        if entry is None:
            return
        if slot is not None and entry.sent_at is not None and entry.seq == 1 and entry.outcome != "legacy":
            minutes = (entry.sent_at - slot.at).total_seconds() / 60
            self.late[bisect_left(LATE_MINUTES, minutes)] += 1
        self._spend(entry)
        if entry.failures or entry.crashes or entry.tries > 1 or entry.reason:
            self.retried += 1
            self.reasons[entry.reason or ("crash" if entry.crashes else "push")] += 1
            at = entry.sent_at or entry.sending_at or (slot.at if slot else None)
            if at is not None:
                self.failed_at[at.hour] += 1

    def _spend(self, entry: Ledger) -> None:
        self.devices.update(entry.devices.values())
        if entry.outcome:
            self.outcomes[entry.outcome] += 1
        if not entry.source:
            return
        self.sources[entry.source] += 1
        self.tokens += entry.tokens
        self.usd += entry.usd or 0.0
        self.unpriced += entry.usd is None and entry.tokens > 0
        if entry.llm_seconds is not None:
            self.latency[bisect_left(LLM_SECONDS, entry.llm_seconds)] += 1

    def _name(self, row: Row) -> None:
        if len(self.people) >= PEOPLE:
            self.more_people += 1
            return
        entry = row.ledger
        why = " ".join(filter(None, (entry.outcome, entry.reason))) if entry is not None else ""
        self.people.append((row.uid, row.standing or "invisible", why or row.listed.flaw.partition(": ")[2]))


def kind_of(row: Row) -> str | None:
    """Its colour on the heat map; None for who was not due, or of whom nobody can tell."""
    if row.standing in (None, UNKNOWN):
        return None
    if row.stopped or row.standing in LOST:
        return "lost"
    if row.standing in WAITING:
        return "waiting"
    if row.standing == State.SKIPPED:
        return "skipped"
    return "extract" if row.ledger is not None and row.ledger.source == "extract" else "sent"
