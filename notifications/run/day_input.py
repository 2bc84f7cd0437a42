"""Reads the ledgers and conversations of one user's day, and says what decides it. Runs and commands both use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from notifications.domain.model import Conversation, DayState, Ledger, Summary, User
from notifications.domain.schedule import ONE_DAY, Slot, slot_instant, zone
from notifications.domain.told_once import (
    DAYS_BEFORE,
    NO_NEIGHBOURS,
    Candidates,
    Neighbours,
    candidates,
    find_neighbours,
    join_told_hashes,
    may_get_text,
    nearby_dates,
)
from notifications.ports import Store
from notifications.recap.material import Material, material

GONE_FOR = 3 * ONE_DAY  # for which an address that is gone is left out (docs/protocol.md, section 5, step 4)


class Gate(StrEnum):
    """What decides a claimed day, in the order of docs/protocol.md, section 5."""

    UNREADABLE = "unreadable"  # this version can't read the stored ledger
    ENDED = "ended"
    OPEN = "open"  # the ledger is open: a push is still to be sent
    LEGACY = "legacy"  # a summary by another writer is stored for the date
    INVERTED = "inverted"  # a nearby ledger's window ends after the slot, and its conversations are not listed
    CONVERSATIONS = "conversations"


@dataclass(frozen=True, slots=True)
class Ledgers:
    """One day's ledger, those of nearby dates, and what they leave to read.

    `summary`: a summary of the date by another writer, read only if the day has no ledger.
    """

    user: User
    slot: Slot
    today: Ledger | None
    nearby: Mapping[date, Ledger]
    candidates: Candidates
    summary: Summary | None = None

    def gate(self, replaces: Ledger | None = None) -> Gate:
        """Return what decides the day. `replaces`: the ended ledger that a resend has read and may replace."""
        today = self.today
        if today is not None and today.state is DayState.UNREADABLE:
            return Gate.UNREADABLE
        if today is not None and not today.state.final:
            return Gate.OPEN
        if today is not None and (replaces is None or replaces.seq != today.seq):
            return Gate.ENDED
        if self.summary is not None:
            return Gate.LEGACY
        if self.inverted_by is not None and replaces is None:
            return Gate.INVERTED
        return Gate.CONVERSATIONS

    @property
    def before(self) -> list[Ledger]:
        """The ledgers of the days before, whose dead addresses are left out."""
        first, day = self.slot.recap_date - GONE_FOR, self.slot.recap_date
        return [ledger for on, ledger in self.nearby.items() if first <= on < day]

    @property
    def inverted_by(self) -> date | None:
        """The date of the first ledger that lists no conversations and whose window ends after the slot."""
        unlisted_ends = {day: ledger.window_end for day, ledger in self.nearby.items() if ledger.told is None}
        return min((day for day, end in unlisted_ends.items() if end and end > self.slot.at), default=None)


@dataclass(frozen=True, slots=True)
class DayInput:
    """The conversations that the recap may use, oldest first, and how many were malformed."""

    ledgers: Ledgers
    conversations: list[Conversation]
    malformed: int = 0

    @property
    def encrypted(self) -> int:
        """How many conversations have text that only the app can decrypt."""
        return sum(conversation.encrypted for conversation in self.conversations)

    def material(self, min_words: int) -> Material | None:
        """The material of a recap; None if the day has too little to say."""
        user, day = self.ledgers.user, self.ledgers.slot.recap_date
        return material(day, self.conversations, user.language, user.zone, min_words)

    @property
    def told(self) -> str:
        return join_told_hashes(self.ledgers.user.uid, self.conversations)

    @property
    def neighbours(self) -> Neighbours:
        """The ledgers that are read again when the day is written.

        Empty if no conversation was read and no other ledger nearby could have widened what was read: then nothing can
        be told twice.
        """
        if not self.conversations and self.ledgers.candidates.reach_is_maximal:
            return NO_NEIGHBOURS
        return find_neighbours(self.ledgers.slot.recap_date, self.ledgers.nearby)


async def read_ledgers(store: Store, user: User, slot: Slot, look_back: timedelta) -> Ledgers:
    """Read the ledgers of D-4 ... D+3 in one query, and another writer's summary in one more. Raises StoreDown."""
    nearby = await store.ledgers_between(user.uid, *nearby_dates(slot.recap_date))
    today = nearby.pop(slot.recap_date, None)
    summary = await store.summary(user.uid, slot.recap_date) if today is None else None
    return Ledgers(user, slot, today, nearby, candidates(slot, nearby, look_back), summary)


async def read_conversations(store: Store, ledgers: Ledgers) -> DayInput:
    """Read the conversations that no recap has used yet. Raises StoreDown."""
    if ledgers.candidates.is_empty:
        return DayInput(ledgers, [])
    conversations, malformed = await store.conversations_in(ledgers.user.uid, ledgers.candidates)
    told_until = await _told_by_another_writer(store, ledgers, conversations)
    untold = [talk for talk in conversations if told_until is None or talk.created_at >= told_until]
    return DayInput(ledgers, untold, malformed)


async def _told_by_another_writer(store: Store, ledgers: Ledgers, talks: list[Conversation]) -> datetime | None:
    """The time until which another writer's summaries cover the conversations; None if there are none.

    A user without a recap may have asked the app for one. Such a summary of a date covers the conversations until it
    was made, but none from after that date, or after that day's slot. It is looked for only if a conversation from
    before that can be read now. For a day without a ledger it is looked for only if other days have one: without any,
    each summary is an older deployment's.
    """
    told_until: list[datetime] = []
    tz, today = zone(ledgers.user.zone), ledgers.slot.recap_date
    for days in range(1, DAYS_BEFORE + 1 if ledgers.nearby else 1):
        day = today - days * ONE_DAY
        ledger, end = ledgers.nearby.get(day), slot_instant(tz, day + ONE_DAY, 0)
        if ledger is not None and ledger.window_end is not None:
            end = max(end, ledger.window_end)
        if may_get_text(ledger) and any(talk.created_at < end for talk in talks):
            summary = await store.summary(ledgers.user.uid, day)
            if summary and summary.created_at:
                told_until.append(min(summary.created_at, end))
    return max(told_until, default=None)
