"""Which conversations a recap may be made of, so that each is told once (docs/protocol.md, section 2, "Told once").

A conversation counts when it can be read, not when it began: one that was under way at a slot, or was uploaded late, is
told by the next recap. So a recap reads back beyond its window, and leaves out what the ledgers around it have told.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from notifications.domain.model import Conversation, DayState, Ledger, Window, instant
from notifications.domain.schedule import ONE_DAY, Slot

DAYS_BEFORE, DAYS_AFTER = 4, 3  # of the ledgers around a day
WINDOW_AT_MOST = timedelta(hours=72)
HASH_LETTERS = 10  # 50 bits: one of 200 conversations looks like one of 200 told ones with a chance below 1e-10


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is read for one recap. `window` is what the ledger stores.

    Conversations are read from `read_from` on, without those in `told`, those before `told_before`, and those that are
    under way and were created at `live_since` or later.
    """

    window: Window
    read_from: datetime
    live_since: datetime
    told: frozenset[str] = frozenset()
    told_before: datetime | None = None
    as_far_as_ever: bool = False  # no other ledger around could make it reach further back

    @property
    def since(self) -> datetime:
        """The first time at which a conversation may be untold."""
        return self.read_from if self.told_before is None else max(self.read_from, self.told_before)

    @property
    def until(self) -> datetime:
        """The slot: what is created then or later is for the next recap."""
        return self.window.end

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to read."""
        return self.since >= self.until

    def leave_out(self, uid: str, key: str) -> bool:
        """Whether a recap around has told this conversation."""
        return told_hash(uid, key) in self.told

    def under_way(self, conversation: Conversation) -> bool:
        """Whether the app may still fill it; after the look-back it is read as it is."""
        return conversation.under_way and conversation.created_at >= self.live_since


def told_hash(uid: str, key: str) -> str:
    """A conversation's name in `told`: ten base32 letters of SHA-256 of uid and id."""
    digest = hashlib.sha256(f"{uid}/{key}".encode()).digest()
    return base64.b32encode(digest)[:HASH_LETTERS].decode()


def told_of(uid: str, conversations: Iterable[Conversation]) -> str:
    """What a ledger stores as `told`: not those that say nothing, which may be filled later."""
    return "".join(told_hash(uid, one.id) for one in conversations if one.tells_something)


def hashes_in(told: str) -> list[str]:
    """The hashes of a ledger's `told`."""
    return [told[start : start + HASH_LETTERS] for start in range(0, len(told), HASH_LETTERS)]


Version = tuple[DayState, int]  # a ledger's state and seq: what another run's write changes


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The ledgers around a day that another run may still give a text, as they were read; None: there was none.

    `later` counts only for a resend, and where the user's zone or hour has changed: else no later day can have begun.
    """

    earlier: Mapping[date, Version | None] = field(default_factory=dict)
    later: Mapping[date, Version | None] = field(default_factory=dict)

    def changed(self, around: Mapping[date, Ledger | None]) -> bool:
        """Whether any of these ledgers, read again, is not as it was."""
        known = {**self.earlier, **self.later}
        return any(_version(ledger) != known[day] for day, ledger in around.items())


NO_NEIGHBOURS = Neighbours()


def neighbours(day: date, around: Mapping[date, Ledger]) -> Neighbours:
    """The neighbours among the ledgers around a day."""
    first, last = first_and_last(day)
    dates = (first + n * ONE_DAY for n in range((last - first).days + 1))
    open_dates = {one: _version(around.get(one)) for one in dates if one != day and may_get_text(around.get(one))}
    return Neighbours(
        {one: version for one, version in open_dates.items() if one < day},
        {one: version for one, version in open_dates.items() if one > day},
    )


def may_get_text(ledger: Ledger | None) -> bool:
    """Whether another run may still write a recap of this day."""
    return ledger is None or ledger.state.without_text


def _version(ledger: Ledger | None) -> Version | None:
    return None if ledger is None else (ledger.state, ledger.seq)


def first_and_last(day: date) -> tuple[date, date]:
    """The dates of the ledgers around a recap date."""
    return day - DAYS_BEFORE * ONE_DAY, day + DAYS_AFTER * ONE_DAY


def candidates(slot: Slot, around: Mapping[date, Ledger], look_back: timedelta) -> Candidates:
    """What is read for the recap of this slot, given the ledgers of D-4 ... D+3 without its own.

    The window starts at the end of the latest window that is not after the slot; without any, at the previous slot, or
    at the one before a D-1 or D-2 that ended without a recap; never over 72 h back. `look_back`: how long before that
    a conversation may have been created that could not be read yet.
    """
    past = [one for one in around.values() if one.window_end and instant(one.window_end) <= slot.at]
    earliest, as_far_as_ever = slot.at - WINDOW_AT_MOST, False
    if past:
        start = max(earliest, *(instant(one.window_end) for one in past if one.window_end))
        known_since = min((instant(one.window_start) for one in past if one.window_start), default=earliest)
        read_from = min(start, max(start - look_back, earliest, known_since))
        as_far_as_ever = known_since <= max(start - look_back, earliest)
    else:
        lost = [days for days in (2, 1) if _ended_without(around.get(slot.recap_date - days * ONE_DAY))]
        start = read_from = max(earliest, slot.back(lost[0] + 1 if lost else 1))
    untold = [instant(one.window_end) for one in around.values() if one.told is None and one.window_end]
    return Candidates(
        window=Window(start, slot.at),
        read_from=read_from,
        live_since=slot.at - look_back,
        told=frozenset(key for one in around.values() for key in hashes_in(one.told or "")),
        told_before=max(untold, default=None),
        as_far_as_ever=as_far_as_ever,
    )


def _ended_without(ledger: Ledger | None) -> bool:
    return ledger is not None and ledger.state in (DayState.MISSED, DayState.DEAD)
