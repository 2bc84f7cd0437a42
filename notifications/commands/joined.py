"""One date's users, ledgers and summaries, joined by uid page by page in constant memory: how each day stands."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import TypeVar

from notifications.domain.delivery import RESEND_OUTCOME
from notifications.domain.model import DayState, Ledger
from notifications.domain.schedule import Phase, Rules, Slot, slot_of_day
from notifications.ports import Listed, Store

T = TypeVar("T")

PAGE = 1_000
UNKNOWN = "unknown"  # how a day stands that nobody can tell of any more


@dataclass(frozen=True, slots=True)
class Asked:
    """A date, as it stands now. `since`: nobody was due before the data folder was first filled."""

    day: date
    now: datetime
    rules: Rules
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class UserDay:
    """One user's day. `standing`: the ledger's state, or waiting, unfinished, unserved; None: it was not due."""

    listed: Listed
    ledger: Ledger | None
    summaries: int
    standing: str | None

    @property
    def uid(self) -> str:
        return self.listed.uid

    @property
    def stopped(self) -> bool:
        """Whether an operator's resend opened it and did not finish: only that command does."""
        return is_abandoned_resend(self.ledger)

    @property
    def kinds(self) -> list[str]:
        """All that the accounts count this day as."""
        ledger = self.ledger
        found = {
            "stored": self.summaries > 0,
            "duplicate_summaries": self.summaries > 1,
            "duplicate_pushes": ledger is not None and ledger.repeats > 0,
            "pushed_again": ledger is not None and ledger.tries > 1,  # an earlier push may have been accepted
            "invisible": self.listed.user is None,
            "due": self.standing not in (None, UNKNOWN),
        }
        return [kind for kind, is_so in found.items() if is_so] + ([self.standing] if self.standing else [])


class Joined:
    """The rows of one date, by uid; `read` counts the documents."""

    def __init__(self, store: Store, asked: Asked) -> None:
        self._store = store
        self._asked = asked
        self.read = 0

    async def rows(self) -> AsyncGenerator[UserDay]:
        """One for each user document, due or not."""
        store, day = self._store, self._asked.day
        async with (
            aclosing(self._pages(store.all_users, lambda one: one.uid)) as users,
            aclosing(self._pages(partial(store.ledgers_on, day), lambda one: one[0])) as ledgers,
            aclosing(self._pages(partial(store.summaries_on, day), "/".join)) as summaries,
        ):
            ledger, summary = await anext(ledgers, None), await anext(summaries, None)
            async for listed in users:
                while ledger is not None and _order(ledger[0]) < _order(listed.uid):
                    ledger = await anext(ledgers, None)  # of an account that was erased since
                while summary is not None and _order(summary[0]) < _order(listed.uid):
                    summary = await anext(summaries, None)
                mine = ledger[1] if ledger is not None and ledger[0] == listed.uid else None
                stored = 0
                while summary is not None and summary[0] == listed.uid:
                    stored += 1
                    summary = await anext(summaries, None)
                yield UserDay(listed, mine, stored, standing(listed, mine, self._asked))

    async def _pages(
        self, page: Callable[[str | None, int], Awaitable[list[T]]], key: Callable[[T], str]
    ) -> AsyncGenerator[T]:
        after: str | None = None
        while found := await page(after, PAGE):
            self.read += len(found)
            for one in found:
                yield one
            if len(found) < PAGE:
                return
            after = key(found[-1])


def _order(uid: str) -> bytes:
    """Both stores order ids by their UTF-8 bytes."""
    return uid.encode()


def slot_of(listed: Listed, day: date) -> Slot | None:
    """When the user's day was due, by the zone and the hour of today; None for who can't be served."""
    user = listed.user
    return slot_of_day(user.zone, day, user.hour) if user is not None else None


def not_made_anew(slot: Slot, ledgers: Mapping[date, Ledger]) -> str:
    """Why a day that has no recap gets none any more: a later day has looked at its conversations. Empty: it may."""
    for day, one in sorted(ledgers.items()):
        begun_before = one.window_start is not None and one.window_start < slot.at
        all_told = one.told is None and one.window_end is not None and one.window_end > slot.at
        if day > slot.recap_date and (begun_before or all_told):
            if one.state is DayState.SKIPPED:
                return f"its conversations were looked at for {day}, which was skipped"
            return f"its conversations are in the recap of {day}"
    return ""


def is_abandoned_resend(ledger: Ledger | None) -> bool:
    """Whether it is open, and no run ends it: the sweep leaves it to its operator."""
    return ledger is not None and ledger.state.open and ledger.outcome == RESEND_OUTCOME


def standing(listed: Listed, ledger: Ledger | None, asked: Asked) -> str | None:
    """How the user's day stands; None where it was not due, UNKNOWN where nobody can tell any more."""
    if ledger is not None and (ledger.state.final or ledger.state is DayState.UNREADABLE):
        return ledger.state.value
    if is_abandoned_resend(ledger):
        return "unfinished"
    slot = slot_of(listed, asked.day)
    if slot is None or listed.user is None or (ledger is None and not listed.user.enabled):
        return None
    phase = asked.rules.phase(slot.at, asked.now)
    if phase is Phase.EARLY:
        return None if ledger is None else "waiting"
    if phase is Phase.OVER:
        return _without_a_ledger(listed, slot.at, asked) if ledger is None else "unfinished"
    return "waiting"


def _without_a_ledger(listed: Listed, slot: datetime, asked: Asked) -> str | None:
    """Nobody served this day. It was due for who was here before, with the zone, the hour and the switch of today."""
    ended = slot + asked.rules.catch_up + asked.rules.grace
    if asked.since is not None and ended <= asked.since:
        return None
    if listed.created is not None and listed.created > slot:
        return None  # signed up later
    if listed.updated is not None and listed.updated > slot:
        return UNKNOWN  # the document was changed since: it may have been another hour, or off
    return "unserved"
