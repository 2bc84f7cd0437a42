"""One date's users, ledgers and summaries, joined by uid page by page in constant memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial

from notifications.commands.context import K, T, rows_of
from notifications.domain.delivery import RESEND_OUTCOME
from notifications.domain.model import DayState, Ledger
from notifications.domain.schedule import Phase, Rules, Slot, slot_of_day
from notifications.ports import Store, UserDocument

UNKNOWN = "unknown"  # the state of a day that may or may not have been due


@dataclass(frozen=True, slots=True)
class DayQuery:
    """A date, as of `now`. `since`: no user was due before the data folder was first filled."""

    day: date
    now: datetime
    rules: Rules
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class UserDay:
    """One user's day. `state`: the ledger's, or waiting, unfinished, unserved, unknown; None: it was not due."""

    listed: UserDocument
    ledger: Ledger | None
    summaries: int
    state: str | None

    @property
    def uid(self) -> str:
        return self.listed.uid

    @property
    def has_unfinished_resend(self) -> bool:
        """Whether a resend has begun and not finished it; only another resend finishes it."""
        return is_abandoned_resend(self.ledger)

    @property
    def kinds(self) -> list[str]:
        """All that the accounts count this day as."""
        ledger = self.ledger
        flags = {
            "stored": self.summaries > 0,
            "partial": ledger is not None and ledger.is_partial,
            "duplicate_summaries": self.summaries > 1,
            "duplicate_pushes": ledger is not None and ledger.repeats > 0,
            "pushed_again": ledger is not None and ledger.may_repeat,
            "invisible": self.listed.user is None,
            "due": self.state not in (None, UNKNOWN),
        }
        return [kind for kind, is_set in flags.items() if is_set] + ([self.state] if self.state else [])


@dataclass(slots=True)
class Costs:
    """What the recaps of some ledgers cost."""

    sources: Counter[str] = field(default_factory=Counter)  # recaps by who made them: llm, extract
    tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0  # recaps by the LLM whose price is not known
    unverified: int = 0  # recaps by the LLM that no second look checked

    def add(self, ledger: Ledger) -> None:
        if ledger.source:
            self.sources[ledger.source] += 1
            self.tokens += ledger.tokens
            self.usd += ledger.usd or 0.0
            self.unpriced += ledger.usd is None and ledger.tokens > 0
            self.unverified += ledger.verified is False


class UserDays:
    """Every user's day of one date, by uid; `documents_read` counts."""

    def __init__(self, store: Store, query: DayQuery) -> None:
        self._store = store
        self._query = query
        self.documents_read = 0

    async def rows(self) -> AsyncGenerator[UserDay]:
        """One for each user document, due or not."""
        store, day = self._store, self._query.day
        async with (
            aclosing(rows_of(partial(self._count, store.all_users), lambda listed: listed.uid)) as users,
            aclosing(rows_of(partial(self._count, partial(store.ledgers_on, day)), lambda row: row[0])) as ledgers,
            aclosing(rows_of(partial(self._count, partial(store.summaries_on, day)), "/".join)) as summaries,
        ):
            ledger, summary = await anext(ledgers, None), await anext(summaries, None)
            async for listed in users:
                while ledger is not None and _order(ledger[0]) < _order(listed.uid):
                    ledger = await anext(ledgers, None)  # of an account that was erased since
                while summary is not None and _order(summary[0]) < _order(listed.uid):
                    summary = await anext(summaries, None)
                own = ledger[1] if ledger is not None and ledger[0] == listed.uid else None
                stored = 0
                while summary is not None and summary[0] == listed.uid:
                    stored += 1
                    summary = await anext(summaries, None)
                yield UserDay(listed, own, stored, day_state(listed, own, self._query))

    async def _count(self, read: Callable[[K | None, int], Awaitable[list[T]]], after: K | None, size: int) -> list[T]:
        page = await read(after, size)
        self.documents_read += len(page)
        return page


def _order(uid: str) -> bytes:
    """Both stores order ids by their UTF-8 bytes."""
    return uid.encode()


def slot_of(listed: UserDocument, day: date) -> Slot | None:
    """When the user's day was due, by the current zone and hour; None for a user that can't be served."""
    user = listed.user
    return slot_of_day(user.zone, day, user.hour) if user is not None else None


def covered_later(slot: Slot, ledgers: Mapping[date, Ledger]) -> str:
    """Why a day can't be made any more: a later day has read its conversations. Empty if it can."""
    for day, ledger in sorted(ledgers.items()):
        begins_before = ledger.window_start is not None and ledger.window_start < slot.at
        has_all = ledger.told is None and ledger.window_end is not None and ledger.window_end > slot.at
        if day > slot.recap_date and (begins_before or has_all):
            if ledger.state is DayState.SKIPPED:
                return f"its conversations were looked at for {day}, which was skipped"
            return f"its conversations are in the recap of {day}"
    return ""


def is_abandoned_resend(ledger: Ledger | None) -> bool:
    """Whether a resend left it open. The sweep leaves it alone; another resend finishes it."""
    return ledger is not None and ledger.state.open and ledger.outcome == RESEND_OUTCOME


def day_state(listed: UserDocument, ledger: Ledger | None, query: DayQuery) -> str | None:
    """The state of the user's day; None if it was not due."""
    if ledger is not None and (ledger.state.final or ledger.state is DayState.UNREADABLE):
        return ledger.state.value
    if is_abandoned_resend(ledger):
        return "unfinished"
    slot = slot_of(listed, query.day)
    if slot is None or listed.user is None or (ledger is None and not listed.user.enabled):
        return None
    match query.rules.phase(slot.at, query.now):
        case Phase.EARLY:
            return None if ledger is None else "waiting"
        case Phase.OVER:
            return _state_without_ledger(listed, slot.at, query) if ledger is None else "unfinished"
        case _:
            return "waiting"


def _state_without_ledger(listed: UserDocument, slot: datetime, query: DayQuery) -> str | None:
    """No run served this day. It was due for users who were there before, as their documents are now."""
    ended = query.rules.service_end(slot)
    if query.since is not None and ended <= query.since:
        return None
    if listed.created is not None and listed.created > slot:
        return None  # signed up later
    if listed.updated is not None and listed.updated > slot:
        return UNKNOWN  # the document was changed since: it may have had another hour, or been off
    return "unserved"
