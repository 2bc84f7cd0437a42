"""Which conversations a recap may be made of, so that each is told once (docs/protocol.md, section 2, "Told once").

A conversation belongs to the first recap that can read it, not to the day on which it began: one that was under way at
a slot, or was uploaded late, is told by the next recap. So a recap reads back beyond its window, and leaves out what
recaps of nearby dates have told, by their ledgers.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from notifications.domain.model import Conversation, DayState, Ledger, Window, instant
from notifications.domain.schedule import ONE_DAY, Slot

DAYS_BEFORE, DAYS_AFTER = 4, 3  # dates whose ledgers are nearby
MAX_WINDOW = timedelta(hours=72)
HASH_LETTERS = 10  # 50 bits: the chance of a collision between 200 new and 200 told conversations is below 1e-10

LedgerVersion = tuple[DayState, int]  # a ledger's state and seq: a write by another run changes one of them


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is read for one recap. `window` is what the ledger stores.

    Conversations are read from `read_from` on, without those in `told_hashes`, those before `told_before`, and those
    that are under way and were created at `under_way_since` or later.
    """

    window: Window
    read_from: datetime
    under_way_since: datetime
    told_hashes: frozenset[str] = frozenset()
    told_before: datetime | None = None
    reach_is_maximal: bool = False  # with more ledgers nearby `read_from` could not be earlier

    @property
    def first_untold(self) -> datetime:
        """The first time at which a conversation may be untold."""
        return self.read_from if self.told_before is None else max(self.read_from, self.told_before)

    @property
    def until(self) -> datetime:
        """The slot: what is created then or later is for the next recap."""
        return self.window.end

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read."""
        return self.first_untold >= self.until

    def is_told(self, uid: str, conversation_id: str) -> bool:
        """Whether the recap of a nearby date has told this conversation."""
        return told_hash(uid, conversation_id) in self.told_hashes

    def is_for_next_recap(self, conversation: Conversation) -> bool:
        """Whether to leave it for the next recap: still under way, and younger than the look-back."""
        return conversation.under_way and conversation.created_at >= self.under_way_since


def told_hash(uid: str, conversation_id: str) -> str:
    """A conversation's name in a ledger's `told`: ten base32 letters of SHA-256 of uid and id."""
    digest = hashlib.sha256(f"{uid}/{conversation_id}".encode()).digest()
    return base64.b32encode(digest)[:HASH_LETTERS].decode()


def join_told_hashes(uid: str, conversations: Iterable[Conversation]) -> str:
    """What a ledger stores as `told`. Conversations without content are left out, since they may be filled later."""
    return "".join(told_hash(uid, conversation.id) for conversation in conversations if conversation.has_content)


def split_told_hashes(told: str) -> list[str]:
    """The hashes in a ledger's `told`."""
    return [told[start : start + HASH_LETTERS] for start in range(0, len(told), HASH_LETTERS)]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The ledgers of nearby dates to which another run may still give a text, as they were read.

    A value of None means that the date had no ledger. `later` matters only for a resend, or after a change of the
    user's zone or hour; otherwise later days have not started.
    """

    earlier: Mapping[date, LedgerVersion | None] = field(default_factory=dict)
    later: Mapping[date, LedgerVersion | None] = field(default_factory=dict)

    def have_changed(self, reread: Mapping[date, Ledger | None]) -> bool:
        """Whether any of these ledgers differs from what was read before. Raises KeyError for a date not read then."""
        before = {**self.earlier, **self.later}
        return any(_version(ledger) != before[day] for day, ledger in reread.items())


NO_NEIGHBOURS = Neighbours()


def find_neighbours(day: date, nearby: Mapping[date, Ledger]) -> Neighbours:
    """The neighbours of a day, given the ledgers of nearby dates."""
    first, last = nearby_dates(day)
    dates = (first + days * ONE_DAY for days in range((last - first).days + 1))
    versions = {
        other: _version(nearby.get(other)) for other in dates if other != day and may_get_text(nearby.get(other))
    }
    return Neighbours(
        {other: version for other, version in versions.items() if other < day},
        {other: version for other, version in versions.items() if other > day},
    )


def may_get_text(ledger: Ledger | None) -> bool:
    """Whether another run may still write a recap of this day."""
    return ledger is None or ledger.state.without_text


def _version(ledger: Ledger | None) -> LedgerVersion | None:
    return None if ledger is None else (ledger.state, ledger.seq)


def nearby_dates(day: date) -> tuple[date, date]:
    """The first and the last date whose ledgers are nearby."""
    return day - DAYS_BEFORE * ONE_DAY, day + DAYS_AFTER * ONE_DAY


def candidates(slot: Slot, nearby: Mapping[date, Ledger], look_back: timedelta) -> Candidates:
    """What is read for the recap of this slot, given the ledgers of D-4 ... D+3 without its own (D: the recap date).

    The window starts, but never over 72 h before the slot:
    - at the end of the latest window that is not after the slot;
    - if there is no such window, at the previous slot, or at the one before that of a missed or dead D-1 or D-2.

    `look_back`: how long before its window a recap still reads conversations that could not be read earlier.
    """
    ledgers = nearby.values()
    past = [ledger for ledger in ledgers if ledger.window_end and instant(ledger.window_end) <= slot.at]
    earliest, reach_is_maximal = slot.at - MAX_WINDOW, False
    if past:
        start = max(earliest, *(instant(ledger.window_end) for ledger in past if ledger.window_end))
        covered_since = min((instant(ledger.window_start) for ledger in past if ledger.window_start), default=earliest)
        floor = max(start - look_back, earliest)
        read_from = min(start, max(floor, covered_since))
        reach_is_maximal = covered_since <= floor
    else:
        start = read_from = max(earliest, slot.back(_days_back(slot.recap_date, nearby)))
    # A ledger without a list of conversations has told all before its window's end.
    unlisted_ends = [instant(ledger.window_end) for ledger in ledgers if ledger.told is None and ledger.window_end]
    return Candidates(
        window=Window(start, slot.at),
        read_from=read_from,
        under_way_since=slot.at - look_back,
        told_hashes=frozenset(told for ledger in ledgers for told in split_told_hashes(ledger.told or "")),
        told_before=max(unlisted_ends, default=None),
        reach_is_maximal=reach_is_maximal,
    )


def _days_back(day: date, nearby: Mapping[date, Ledger]) -> int:
    """How many days before its slot the window starts if no window precedes it: one more than the days lost."""
    if _ended_without_recap(nearby.get(day - 2 * ONE_DAY)):
        return 3
    return 2 if _ended_without_recap(nearby.get(day - ONE_DAY)) else 1


def _ended_without_recap(ledger: Ledger | None) -> bool:
    return ledger is not None and ledger.state in (DayState.MISSED, DayState.DEAD)
