"""The nouns: users, devices, conversations, recaps, ledgers."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum

from notifications.domain.errors import NaiveDatetime

FIRST_YEAR, LAST_YEAR = 1971, 2199  # of stored instants: beyond them zones and clocks end


def in_range(day: date) -> bool:
    """Whether it may be a recap's date: the instants around it may be stored."""
    return FIRST_YEAR < day.year < LAST_YEAR


def instant(value: datetime) -> datetime:
    """The same instant in UTC. Raises NaiveDatetime: no naive datetime gets into the domain."""
    if value.tzinfo is None or value.utcoffset() is None:
        raise NaiveDatetime(f"{value.isoformat()} has no time zone; pass an aware datetime.")
    return value.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class User:
    """One user document, as far as the job reads it."""

    uid: str
    zone: str
    hour: int
    enabled: bool = True
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One place to push to: a registration token, the id of an installation of the app, or one installation's both.

    `key` is its document's id, or None for the legacy field.
    """

    token: str
    key: str | None
    version: object = None  # what "unchanged" means to the store that read it
    fid: str = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """Every name by which a ledger may know it: first 16 hex of the SHA-256 of its token, and of its fid."""
        return tuple(hashlib.sha256(name.encode()).hexdigest()[:16] for name in (self.token, self.fid) if name)

    @property
    def id(self) -> str:
        """The name by which ledgers and logs know it: by its token, where it has one."""
        return self.ids[0]


@dataclass(frozen=True, slots=True)
class ActionItem:
    """A thing to do, taken from the data and never from the LLM."""

    description: str
    completed: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a conversation was held, as the app knows it."""

    latitude: float
    longitude: float
    address: str = ""


WEARER = "You"  # the speaker who wears the recorder


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker said in a row: WEARER, a name, or a number such as `Speaker 2`; empty where it is not known."""

    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation of the window, cut down to what a recap can use."""

    id: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    title: str = ""
    overview: str = ""
    category: str = ""
    action_items: tuple[ActionItem, ...] = ()
    events: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()  # what was said; only kept where there is no overview
    encrypted: bool = False  # whether what was said in it can't be read for that
    language: str | None = None
    place: Place | None = None
    cut: bool = False  # whether something of it was left out
    under_way: bool = False  # the app still records or processes it

    @property
    def tells_something(self) -> bool:
        """A title alone is not worth a recap: it says that there was talk, not what of."""
        return bool(self.overview or self.action_items or self.events or self.turns)

    @property
    def size(self) -> int:
        """Its characters, whatever they say; and 50 that looking at one costs, however short."""
        planned = (*self.events, *(item.description for item in self.action_items))
        said = sum(len(turn.text) for turn in self.turns)
        return 50 + len(self.title) + len(self.overview) + said + sum(map(len, planned))

    @property
    def lines(self) -> tuple[Turn, ...]:
        """Its words line by line: what was written of it, else what was said."""
        return tuple(Turn("", line) for line in self.overview.splitlines()) if self.overview else self.turns

    @property
    def minutes(self) -> float:
        """Its length in minutes; 0 where the times are missing or reversed."""
        if self.started_at is None or self.finished_at is None:
            return 0.0
        return max(0.0, (self.finished_at - self.started_at).total_seconds() / 60)


@dataclass(frozen=True, slots=True)
class Window:
    """What a recap covers: [start, end), on the time that a conversation has as `created_at`."""

    start: datetime
    end: datetime

    @property
    def empty(self) -> bool:
        """Nothing can be in it: a later recap already covered this time."""
        return self.start >= self.end


@dataclass(frozen=True, slots=True)
class Cited:
    """One sentence, the conversations that it comes from, and the words of the first of them that it rests on.

    `confided`: nothing for a lock screen.
    """

    text: str
    conversation_ids: tuple[str, ...] = ()
    quote: str = ""
    confided: bool = False


@dataclass(frozen=True, slots=True)
class Highlight:
    """One topic of the day."""

    topic: str
    emoji: str
    items: tuple[Cited, ...] = ()

    @property
    def summary(self) -> str:
        """Its sentences as one text."""
        return joined([item.text for item in self.items])

    @property
    def conversation_ids(self) -> tuple[str, ...]:
        """Every conversation that it comes from, once."""
        return tuple(dict.fromkeys(key for item in self.items for key in item.conversation_ids))


@dataclass(frozen=True, slots=True)
class Draft:
    """What a summarizer answers: the text, what became of its sentences, and what it cost."""

    headline: str
    overview: tuple[Cited, ...]
    day_emoji: str
    highlights: tuple[Highlight, ...] = ()
    unresolved_questions: tuple[Cited, ...] = ()
    decisions_made: tuple[Cited, ...] = ()
    knowledge_nuggets: tuple[Cited, ...] = ()
    checks: Mapping[str, int | bool] = field(default_factory=dict)  # sentences kept, dropped by reason; `verified`
    coverage: Mapping[str, int] = field(default_factory=dict)  # conversations read whole, in part, as an extract
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)  # of which model, and what it cost
    push: str = ""  # one sentence, for a phone's lock screen
    dropped: tuple[str, ...] = ()  # sentences that did not stand: for who looks at one recap, never stored

    @property
    def text(self) -> str:
        """The overview as one text."""
        return joined([item.text for item in self.overview])

    @property
    def sentences(self) -> tuple[Cited, ...]:
        """All of them, wherever they stand."""
        items = tuple(item for one in self.highlights for item in one.items)
        return (*self.overview, *items, *self.unresolved_questions, *self.decisions_made, *self.knowledge_nuggets)

    @property
    def says_nothing(self) -> bool:
        """Whether neither an overview nor a highlight is there."""
        return not self.overview and not self.highlights


@dataclass(frozen=True, slots=True)
class Task:
    """An action item as the app shows it, and where it was said."""

    description: str
    completed: bool
    conversation_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A place of the day; `time` is the user's own, HH:MM."""

    place: Place
    conversation_id: str
    time: str


@dataclass(frozen=True, slots=True)
class Recap:
    """One stored summary document."""

    id: str
    date: date
    created_at: datetime
    draft: Draft
    total_conversations: int
    total_duration_minutes: int
    action_items: tuple[Task, ...] = ()
    locations: tuple[Stop, ...] = ()

    @property
    def extracted(self) -> bool:
        """Whether no LLM wrote it."""
        return self.draft.metadata.get("source") == "extract"


class DayState(StrEnum):
    """The states of a ledger (docs/protocol.md, section 4)."""

    SENDING = "sending"
    PENDING = "pending"
    SENT = "sent"
    SKIPPED = "skipped"
    MISSED = "missed"
    DEAD = "dead"
    GAVE_UP = "gave_up"
    UNREADABLE = "unreadable"  # what is stored is none of ours: never written, never guessed at

    @property
    def final(self) -> bool:
        """Whether the day has ended in it."""
        return self not in (DayState.SENDING, DayState.PENDING, DayState.UNREADABLE)

    @property
    def open(self) -> bool:
        """Whether a push is still owed."""
        return self in (DayState.SENDING, DayState.PENDING)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The delivery ledger of one user and recap date: the truth about delivery."""

    date: date
    state: DayState
    outcome: str = ""
    by: str = ""
    sending_at: datetime | None = None
    seq: int = 1
    tries: int = 0
    collapse_id: str = ""
    title: str = ""
    body: str = ""
    summary_id: str = ""
    created_at: datetime | None = None  # the summary's, so that a second push says the same
    window_start: datetime | None = None
    window_end: datetime | None = None
    read_from: datetime | None = None  # how far back conversations were read that no recap had told
    told: str | None = None  # hashes of the conversations that its text was made of; None: an older version's
    devices: Mapping[str, str] = field(default_factory=dict)
    repeats: int = 0  # pushes accepted for a device that had accepted one before
    failures: int = 0
    crashes: int = 0
    reason: str = ""  # the last failure's code: of what it is dead, or why it waits
    source: str = ""  # of the recap: llm or extract
    verified: bool | None = None  # whether a second look checked it; None for an extract, or an older version's
    tokens: int = 0  # that its making took, in and out
    usd: float | None = None  # what its making cost; None where the price is not known
    llm_seconds: float | None = None  # until the LLM's answers were there, all calls together; None without one
    sent_at: datetime | None = None
    expire_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary document that another hand wrote: an older deployment, or the app on demand."""

    id: str
    created_at: datetime | None  # None: nobody knows up to when it tells
    headline: str
    overview: str
    day_emoji: str


def joined(sentences: Sequence[str]) -> str:
    """Sentences as one text; a full stop follows each that has no mark of its own."""
    return " ".join([*map(_ended, sentences[:-1]), *sentences[-1:]])


def _ended(sentence: str) -> str:
    if not sentence[-1:].isalnum():
        return sentence
    east_asian = unicodedata.east_asian_width(sentence[-1]) in "WF"
    return sentence + ("。" if east_asian else ".")


def collapse_id(uid: str, day: date) -> str:
    """The tag by which a device lets a second push replace the first: 32 hex, so 32 bytes."""
    return hashlib.sha256(f"{uid}|{day.isoformat()}".encode()).hexdigest()[:32]


def day_of(key: str) -> date | None:
    """The date that a ledger is stored under; None for a key that is none of ours."""
    try:
        day = date.fromisoformat(key)
    except ValueError:
        return None
    return day if day.isoformat() == key else None  # 20260501 and 2026-W18-5 are dates, and no keys
