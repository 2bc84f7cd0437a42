"""What one user's day is made of, and what decides it: for runs and commands alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from notifications.domain.model import Conversation, DayState, Ledger, Summary, User
from notifications.domain.schedule import ONE_DAY, Slot, slot_instant, zone
from notifications.domain.told import (
    DAYS_BEFORE,
    NO_NEIGHBOURS,
    Candidates,
    Neighbours,
    candidates,
    first_and_last,
    may_get_text,
    neighbours,
    told_of,
)
from notifications.ports import Store
from notifications.recap.material import Material, material


class Gate(StrEnum):
    """What decides a claimed day, in the order of docs/protocol.md, section 5."""

    UNREADABLE = "unreadable"  # the stored ledger is not one that this version knows
    ENDED = "ended"
    OPEN = "open"  # a push is owed
    LEGACY = "legacy"  # another writer's summary of the date is stored
    INVERTED = "inverted"  # a ledger around ends after the slot and does not list its conversations
    CONVERSATIONS = "conversations"


@dataclass(frozen=True, slots=True)
class Ledgers:
    """One day's ledger, those around it, and what they leave to read.

    `summary` is another writer's of the date; it is looked for only where the day has no ledger.
    """

    user: User
    slot: Slot
    today: Ledger | None
    around: Mapping[date, Ledger]
    candidates: Candidates
    summary: Summary | None = None

    def gate(self, replaces: Ledger | None = None) -> Gate:
        """What decides the day. `replaces`: the ended ledger that a resend has read and may replace."""
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
    def inverted_by(self) -> date | None:
        """The first ledger that names no conversations, and claims all of them up to a time after the slot."""
        at = self.slot.at
        late = [day for day, one in self.around.items() if one.told is None and one.window_end and one.window_end > at]
        return min(late, default=None)

    @property
    def neighbours(self) -> Neighbours:
        return neighbours(self.slot.recap_date, self.around)


@dataclass(frozen=True, slots=True)
class DayInput:
    """The conversations that the recap may be made of, oldest first; and how many could not be read."""

    ledgers: Ledgers
    conversations: list[Conversation]
    malformed: int = 0

    @property
    def encrypted(self) -> int:
        """How many of them have words that only the app can read."""
        return sum(one.encrypted for one in self.conversations)

    def material(self, min_words: int) -> Material | None:
        """What a recap is made of; None where the day has too little to say."""
        user, day = self.ledgers.user, self.ledgers.slot.recap_date
        return material(day, self.conversations, user.language, user.zone, min_words)

    @property
    def told(self) -> str:
        return told_of(self.ledgers.user.uid, self.conversations)

    @property
    def neighbours(self) -> Neighbours:
        """The ledgers that are read again when the day is written.

        None where nothing was read, and no ledger more around could have let more be read: nothing can be told twice.
        """
        alone = not self.conversations and self.ledgers.candidates.as_far_as_ever
        return NO_NEIGHBOURS if alone else self.ledgers.neighbours


async def read_ledgers(store: Store, user: User, slot: Slot, look_back: timedelta) -> Ledgers:
    """The ledgers of D-4 ... D+3: one query, and one for another writer's summary. Raises StoreDown."""
    around = await store.ledgers_between(user.uid, *first_and_last(slot.recap_date))
    today = around.pop(slot.recap_date, None)
    summary = await store.summary(user.uid, slot.recap_date) if today is None else None
    return Ledgers(user, slot, today, around, candidates(slot, around, look_back), summary)


async def read_conversations(store: Store, ledgers: Ledgers) -> DayInput:
    """What no recap has told yet. Raises StoreDown."""
    if ledgers.candidates.nothing:
        return DayInput(ledgers, [])
    found, malformed = await store.conversations_in(ledgers.user.uid, ledgers.candidates)
    told_before = await _told_by_another_writer(store, ledgers, found)
    untold = [one for one in found if told_before is None or one.created_at >= told_before]
    return DayInput(ledgers, untold, malformed)


async def _told_by_another_writer(store: Store, ledgers: Ledgers, found: list[Conversation]) -> datetime | None:
    """Up to when another writer has told what no recap of ours had: who got none may have asked the app.

    Its recap of a date tells what was said until then, and nothing from after that date, or that day's slot. It is
    looked for only where something from before that can be read now; and of a day without a ledger only where there
    are others, since before the first each summary is a former deployment's.
    """
    made: list[datetime] = []
    tz, today = zone(ledgers.user.zone), ledgers.slot.recap_date
    for day in (today - (n + 1) * ONE_DAY for n in range(DAYS_BEFORE if ledgers.around else 0)):
        one = ledgers.around.get(day)
        ends = slot_instant(tz, day + ONE_DAY, 0)
        if one is not None:
            ends = max(ends, one.window_end or ends)
        if may_get_text(one) and any(conversation.created_at < ends for conversation in found):
            summary = await store.summary(ledgers.user.uid, day)
            made += [min(summary.created_at, ends)] if summary and summary.created_at else []
    return max(made, default=None)
