"""The domain's data: users, devices, conversations, drafts, recaps, ledgers."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum

from notifications.domain.errors import NaiveDatetime
from notifications.domain.money import MICROS, NOTHING, Spent

FIRST_YEAR, LAST_YEAR = 1971, 2199  # of stored instants; time zones and clocks do not work far beyond


def in_range(day: date) -> bool:
    """Whether the day may be a recap's date: the instants near it can be stored."""
    return FIRST_YEAR < day.year < LAST_YEAR


def instant(value: datetime) -> datetime:
    """The same instant in UTC. Raises NaiveDatetime."""
    if value.tzinfo is None or value.utcoffset() is None:
        raise NaiveDatetime(f"{value.isoformat()} has no time zone; pass an aware datetime.")
    return value.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class User:
    """What the job reads of a user document."""

    uid: str
    zone: str
    hour: int
    enabled: bool = True
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """A push target: a registration token, an installation id (`fid`), or both of one installation.

    `key` is its document's id, or None for the legacy field.
    """

    token: str
    key: str | None
    version: object = None  # its document's version, in the store's own terms
    fid: str = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """Its names in ledgers: 16 hex digits of the SHA-256 of its token, and of its fid."""
        return tuple(hashlib.sha256(name.encode()).hexdigest()[:16] for name in (self.token, self.fid) if name)

    @property
    def id(self) -> str:
        """Its name in ledgers and logs, from its token, else from its fid."""
        return self.ids[0]


@dataclass(frozen=True, slots=True)
class ActionItem:
    """A task from the app's data, never from the LLM."""

    description: str
    completed: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a conversation, as the app knows it."""

    latitude: float
    longitude: float
    address: str = ""


WEARER = "You"  # the speaker who is the user, who wears the recorder


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker said in a row. `speaker`: WEARER, a name, or a number such as `Speaker 2`; empty if unknown."""

    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation, as far as a recap can use it."""

    id: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    title: str = ""
    overview: str = ""
    category: str = ""
    action_items: tuple[ActionItem, ...] = ()
    events: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()  # the transcript, only if there is no overview
    encrypted: bool = False  # its transcript can only be read by the app
    language: str | None = None
    place: Place | None = None
    cut: bool = False  # a part of its text was left out
    under_way: bool = False  # the app still records or processes it

    @property
    def has_content(self) -> bool:
        """Whether there is more than a title."""
        return bool(self.overview or self.action_items or self.events or self.turns)

    @property
    def size(self) -> int:
        """Its characters, and 50 for the cost of handling a conversation."""
        items = (*self.events, *(item.description for item in self.action_items), *(turn.text for turn in self.turns))
        return 50 + len(self.title) + len(self.overview) + sum(map(len, items))

    @property
    def lines(self) -> tuple[Turn, ...]:
        """Its overview line by line, else its transcript."""
        return tuple(Turn("", line) for line in self.overview.splitlines()) if self.overview else self.turns

    @property
    def minutes(self) -> float:
        """Its length in minutes; 0 if the times are missing or reversed."""
        if self.started_at is None or self.finished_at is None:
            return 0.0
        return max(0.0, (self.finished_at - self.started_at).total_seconds() / 60)


@dataclass(frozen=True, slots=True)
class Window:
    """What a recap covers: [start, end), by the conversations' `created_at`."""

    start: datetime
    end: datetime

    @property
    def is_empty(self) -> bool:
        """Whether a later recap already covered all of it."""
        return self.start >= self.end


@dataclass(frozen=True, slots=True)
class Cited:
    """One sentence, its conversations, and the words of the first of them that are its evidence.

    `private`: a lock screen must not show it.
    """

    text: str
    conversation_ids: tuple[str, ...] = ()
    quote: str = ""
    private: bool = False


@dataclass(frozen=True, slots=True)
class Highlight:
    """One topic of the day."""

    topic: str
    emoji: str
    items: tuple[Cited, ...] = ()

    @property
    def summary(self) -> str:
        """Its sentences, joined."""
        return joined([item.text for item in self.items])

    @property
    def conversation_ids(self) -> tuple[str, ...]:
        """The conversations of its sentences, each once."""
        return tuple(dict.fromkeys(conversation_id for item in self.items for conversation_id in item.conversation_ids))


@dataclass(frozen=True, slots=True)
class Draft:
    """What a summarizer returns: the text, the counts of its checks, and its cost."""

    headline: str
    overview: tuple[Cited, ...]
    day_emoji: str
    highlights: tuple[Highlight, ...] = ()
    unresolved_questions: tuple[Cited, ...] = ()
    decisions_made: tuple[Cited, ...] = ()
    knowledge_nuggets: tuple[Cited, ...] = ()
    checks: Mapping[str, int | bool] = field(default_factory=dict)  # sentences kept, and dropped by reason; `verified`
    coverage: Mapping[str, int] = field(default_factory=dict)  # conversations sent whole, in part, as digests
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)  # its model and its cost
    push: str = ""  # one sentence, for a phone's lock screen
    dropped: tuple[str, ...] = ()  # dropped sentences, for `preview`; never stored

    @property
    def text(self) -> str:
        """The overview, joined."""
        return joined([item.text for item in self.overview])

    @property
    def sentences(self) -> tuple[Cited, ...]:
        """All sentences of all parts."""
        items = tuple(item for highlight in self.highlights for item in highlight.items)
        return (*self.overview, *items, *self.unresolved_questions, *self.decisions_made, *self.knowledge_nuggets)

    @property
    def is_empty(self) -> bool:
        """Whether it has neither an overview nor a highlight."""
        return not self.overview and not self.highlights


@dataclass(frozen=True, slots=True)
class Task:
    """An action item as the app shows it, and its conversation."""

    description: str
    completed: bool
    conversation_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A place of the day; `time` is local, HH:MM."""

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
    text_hash: str = ""  # of its document's text

    @property
    def is_extract(self) -> bool:
        """Whether no LLM wrote it."""
        return self.draft.metadata.get("source") == "extract"


PARTIAL = "partial"  # the outcome of a day that was sent, but not to every target


class DayState(StrEnum):
    """How a day stands: the `state` of its ledger (docs/protocol.md, section 4)."""

    SENDING = "sending"
    PENDING = "pending"
    SENT = "sent"
    SKIPPED = "skipped"
    MISSED = "missed"
    DEAD = "dead"
    GAVE_UP = "gave_up"
    UNREADABLE = "unreadable"  # this version does not know the document's format; never stored

    @property
    def final(self) -> bool:
        """Whether the day has ended."""
        return self not in (DayState.SENDING, DayState.PENDING, DayState.UNREADABLE)

    @property
    def open(self) -> bool:
        """Whether a push is still owed."""
        return self in (DayState.SENDING, DayState.PENDING)

    @property
    def without_text(self) -> bool:
        """Whether the day ended without a recap, so that a resend may still make one."""
        return self in (DayState.SKIPPED, DayState.MISSED, DayState.DEAD)


@dataclass(frozen=True, slots=True)
class OpenTarget:
    """What a ledger keeps of a target that is still owed the recap. `tries`: those without an answer."""

    tries: int = 0
    due: datetime | None = None
    code: str = ""  # of its last answer


@dataclass(frozen=True, slots=True)
class Ledger:
    """The delivery ledger of one user and recap date: the truth about delivery."""

    date: date
    state: DayState
    outcome: str = ""
    by: str = ""
    sending_at: datetime | None = None
    seq: int = 1
    tries: int = 0  # senders that died, and the one that now sends or that ended the day
    collapse_id: str = ""
    title: str = ""
    body: str = ""
    summary_id: str = ""
    created_at: datetime | None = None  # when the summary was created
    window_start: datetime | None = None
    window_end: datetime | None = None
    read_from: datetime | None = None  # how far back conversations were read
    told: str | None = None  # hashes of the conversations in its text; None if written by an older version
    devices: Mapping[str, str] = field(default_factory=dict)  # how targets of all channels ended, by their ids
    targets: Mapping[str, OpenTarget] = field(default_factory=dict)  # those that were tried and are still open
    recap_hash: str = ""  # of the stored text (recap/document.py)
    unanswered: int = 0  # tries that brought no answer, so that they may have been accepted
    repeats: int = 0  # accepted by a target that had accepted one; and what may have been so before a resend
    failures: int = 0
    crashes: int = 0
    reason: str = ""  # the last failure's code: why the day is dead, or waits
    source: str = ""  # what wrote the recap: llm or extract
    extract_reason: str = ""  # why it is an extract, if the LLM failed: a code
    verified: bool | None = None  # by a second look; None for an extract, or if written by an older version
    tokens: int = 0  # of all LLM calls, in and out; also of earlier tries that failed, and of a day without a recap
    usd: float | None = None  # None if the price is unknown
    llm_seconds: float | None = None  # of all LLM calls; None without an LLM
    sent_at: datetime | None = None
    expire_at: datetime | None = None

    @property
    def ending(self) -> str:
        """How the day stands, as it is counted: a `sent` ledger may be of a day on which no device was reached."""
        unsent = {"legacy": "skipped", "no_devices": "no_devices"}
        return unsent.get(self.outcome, "sent") if self.state is DayState.SENT else self.state.value

    @property
    def spent(self) -> Spent:
        """The cost of all LLM calls, as if it were one call: a ledger has only the sums."""
        if not self.tokens and self.usd is None and self.llm_seconds is None:
            return NOTHING
        micro_usd = None if self.usd is None else round(self.usd * MICROS)
        return Spent(calls=1, tokens_in=self.tokens, micro_usd=micro_usd, seconds=self.llm_seconds or 0.0)

    @property
    def is_partial(self) -> bool:
        """Whether the recap reached a target, and another was given up."""
        return self.state is DayState.SENT and self.outcome == PARTIAL

    @property
    def may_repeat(self) -> bool:
        """Whether a target may have got the recap twice: a sender died, or an answer was lost."""
        return self.tries > 1 or self.unanswered > 0


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary document of another writer: an older deployment, or the app on demand."""

    id: str
    created_at: datetime | None
    headline: str
    overview: str
    day_emoji: str


def joined(sentences: Sequence[str]) -> str:
    """Sentences as one text; all but the last get a full stop if they end with a letter or digit."""
    return " ".join([*map(_with_full_stop, sentences[:-1]), *sentences[-1:]])


def _with_full_stop(sentence: str) -> str:
    if not sentence[-1:].isalnum():
        return sentence
    return sentence + ("。" if unicodedata.east_asian_width(sentence[-1]) in "WF" else ".")


def collapse_id(uid: str, day: date) -> str:
    """The tag by which a device replaces an earlier push of the same recap: 32 hex digits."""
    return hashlib.sha256(f"{uid}|{day.isoformat()}".encode()).hexdigest()[:32]


def day_of(key: str) -> date | None:
    """The date in a ledger's key; None for any other key."""
    try:
        day = date.fromisoformat(key)
    except ValueError:
        return None
    return day if day.isoformat() == key else None  # not 20260501 or 2026-W18-5
