"""The interfaces to servers: what the job needs from each. Adapters return the domain's types and raise its errors.

Every method that touches a store raises StoreDown; claims raise ClaimsDown or KeyTrouble;
a summarizer raises ItemFault or ProviderFault.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from notifications.domain.backoff import RateLimit
from notifications.domain.claim import ClaimAnswer, ClaimState, Record
from notifications.domain.errors import ItemReason
from notifications.domain.model import Cited, Conversation, DayState, Device, Draft, Ledger, Recap, Summary, User
from notifications.domain.money import Spent
from notifications.domain.push import ACCEPTED, Message, PushAnswer
from notifications.domain.shards import Range

if TYPE_CHECKING:  # these take 30 ms to load, and an idle tick does not need them
    from notifications.domain.delivery import Decision, Opening
    from notifications.domain.question import Question
    from notifications.domain.recording import PushReport
    from notifications.domain.target import Recipient, Target
    from notifications.domain.told_once import Candidates


Sample = tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]  # uid, user, devices, conversations


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """The terms on which one key is claimed. Instants are Redis time, durations milliseconds."""

    key: str
    lease_ms: int
    expire_ms: int  # the earliest expiry: slot + 3 h
    until_ms: int  # the latest due time after a failure
    max_crashes: int = 0
    max_failures: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What Redis answered to one verb. `final`: the claim's state if the answer is DONE."""

    answer: ClaimAnswer
    now: datetime  # Redis TIME
    wait: timedelta = timedelta(0)
    final: ClaimState | None = None
    failures: int = 0
    crashes: int = 0
    reason: str = ""  # of the last failure, until the next win


@dataclass(frozen=True, slots=True)
class ScannedKey:
    """One key of a scan."""

    key: str
    record: Record
    ttl: timedelta | None


@dataclass(frozen=True, slots=True)
class RawKey:
    """One key with its raw value, as an operator would see it in Redis."""

    key: str
    value: str
    ttl: timedelta | None


@dataclass(frozen=True, slots=True)
class UserDocument:
    """One user document, whether or not the job can use it. `flaw` says why not.

    `created` and `updated` are the store's own times of the document; None if it has none. `active`: whether recaps are
    switched on, even if the job can't use the document.
    """

    uid: str
    user: User | None
    flaw: str = ""
    created: datetime | None = None
    updated: datetime | None = None
    active: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """What an operator decided for users whose documents lack it. None and False: nothing."""

    zone: str | None = None
    hour: int | None = None
    enable: bool = False  # switch recaps on for users without a switch


@dataclass(frozen=True, slots=True)
class Mended:
    """One corrected document: each changed field with its old and new value, and what a person must decide."""

    changes: Mapping[str, tuple[Any, Any]]
    undecided: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldTypes:
    """How often a field of a collection has which type. `wrong`: times of another type than the layout says."""

    collection: str
    name: str
    types: Mapping[str, int]
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What an LLM answered to one question. `ended`: why the answer is incomplete; None if it is complete."""

    text: str
    model: str
    tier: str
    spent: Spent
    ended: ItemReason | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of trying a service. `trouble`: a sentence that says what to do if the service can't be used."""

    trouble: str = ""
    found: str = ""  # what was seen, if the service can be used


class Claims(Protocol):
    """Claims in Redis: they limit cost and spacing, and decide nothing about delivery. `now` is Redis TIME.

    Raises ClaimsDown; KeyTrouble if one key holds another type. The verbs may be repeated under their token.

    `environment` is part of the keys of shards, the sweep, the day's money and the pause. `fail` adds `added_failures`
    to the claim's failures. `free` deletes our claim of a day that was skipped. `delete_if_unchanged` deletes a key if
    it still holds that record; it returns whether the key is gone. `take_turn` is True for one process per `every`.
    `set_once` stores `at` if the key is empty, and keeps it for `kept` from now; it returns whether it was stored.
    `add_members` adds to a key's set, `members` reads it. `reserve` takes an amount from the budget of a key, if it
    fits; `settle` replaces it by what was really spent. Both are in millionths of a USD.
    """

    environment: str

    async def now(self) -> datetime: ...
    async def read(self, keys: Sequence[str]) -> list[Record]: ...
    async def claim(self, terms: ClaimTerms, token: str, lane: int) -> Reply: ...
    async def renew(self, terms: ClaimTerms, token: str) -> Reply: ...
    async def complete(self, terms: ClaimTerms, token: str, outcome: ClaimState) -> Reply: ...
    async def fail(self, terms: ClaimTerms, token: str, wait: timedelta, added_failures: int, reason: str) -> Reply: ...
    async def free(self, terms: ClaimTerms, token: str) -> Reply: ...
    async def delete(self, key: str) -> None: ...
    async def delete_if_unchanged(self, key: str, record: Record) -> bool: ...
    async def add_members(self, key: str, members: Collection[str], expire_ms: int) -> None: ...
    async def members(self, key: str) -> frozenset[str]: ...
    async def take_turn(self, key: str, every: timedelta, at: datetime) -> bool: ...
    async def set_once(self, key: str, at: datetime, kept: timedelta) -> bool: ...
    async def set_pause(self, key: str, duration: timedelta) -> None: ...
    async def pause_left(self, key: str) -> timedelta: ...
    async def reserve(self, key: str, token: str, micro_usd: int, budget_micro_usd: int) -> bool: ...
    async def settle(self, key: str, token: str, micro_usd: int) -> None: ...
    def scan(self, pattern: str) -> AsyncIterator[ScannedKey]: ...
    def keys(self, pattern: str) -> AsyncIterator[RawKey]: ...
    async def warnings(self) -> list[str]: ...
    async def aclose(self) -> None: ...


class Store(Protocol):
    """Documents: users, conversations, devices, ledgers. Raises StoreDown.

    `reads` and `writes` count what a store bills; `now` is its own clock, at the cost of a document. `user_path` and
    `ledger_path` say in a sentence where a document lies, once {uid} and {day} are filled in.

    Lists come with how many documents were malformed. Discarded, locked and deleted conversations are left out, and
    those that the candidates exclude; each device's token and fid come once. `addresses`: by channel, what the app set
    for the user in their document, or would have set once it has the `changes`. Pages are in the order of ids; `after`
    is the last id of the previous page. `summary_document`: the document of that id, else any whose `date` is that day.

    `part` and `put_part`: the facts that an LLM found in a part of a long day, kept for some days beside the ledger,
    under a hash of its question. `kept_draft` and `keep_draft`: a paid draft that waits for its second look.

    The ledger's verbs (`end_day` to `resend`) are each one transaction, and preserve fields that they do not know. They
    raise Malformed if the ledger is UNREADABLE, and ItemFault if the store permanently refuses what is to be stored.

    `mend` corrects a document that the query can't see, if there is one right answer or a decision; without `write` it
    only says what it would do. `field_types` looks at that many users.

    `put` writes one user with devices and conversations in one commit, or raises Malformed. `check` does so without
    writing; it returns the user, and when each conversation was. `remove` deletes a user with everything below. They
    are for local stores: the app writes its own documents.
    """

    reads: int
    writes: int

    @property
    def user_path(self) -> str: ...
    @property
    def ledger_path(self) -> str: ...

    async def now(self) -> datetime: ...
    async def due_users(
        self, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int
    ) -> list[UserDocument]: ...
    async def count_due(self, zones: Sequence[str], hour: int, ids: Range) -> int: ...
    async def user_document(self, uid: str) -> UserDocument | None: ...
    async def conversations_in(self, uid: str, candidates: Candidates) -> tuple[list[Conversation], int]: ...
    async def devices(self, uid: str) -> tuple[list[Device], int]: ...
    async def forget_device(self, uid: str, device: Device) -> bool: ...
    async def addresses(self, uid: str, changes: Mapping[str, Any] = {}) -> Mapping[str, Mapping[str, str]]: ...

    async def ledgers_between(self, uid: str, first: date, last: date) -> dict[date, Ledger]: ...
    async def open_ledgers(self, after: tuple[str, date] | None, limit: int) -> list[tuple[str, Ledger]]: ...
    async def summary(self, uid: str, day: date) -> Summary | None: ...
    async def summary_document(self, uid: str, day: date, key: str = "") -> Mapping[str, Any] | None: ...

    async def part(self, uid: str, day: date, key: str) -> tuple[Cited, ...] | None: ...
    async def put_part(self, uid: str, day: date, key: str, facts: Sequence[Cited]) -> None: ...
    async def kept_draft(self, uid: str, day: date, key: str) -> Draft | None: ...
    async def keep_draft(self, uid: str, day: date, key: str, draft: Draft) -> None: ...

    async def end_day(self, op: Opening, state: DayState, outcome: str) -> Decision: ...
    async def end_as_legacy(self, op: Opening, summary: Summary) -> Decision: ...
    async def begin(self, op: Opening, recap: Recap, *, has_targets: bool, replaces: Ledger | None) -> Decision: ...
    async def take(self, uid: str, day: date, by: str) -> Decision: ...
    async def record_pushes(
        self, uid: str, day: date, report: PushReport, opened: Decision | None = None
    ) -> Decision: ...
    async def sweep(self, uid: str, day: date, by: str, *, over: bool) -> Decision: ...
    async def resend(self, uid: str, day: date, *, claim_live: bool, again: bool = True) -> Decision: ...

    async def all_users(self, after: str | None, limit: int) -> list[UserDocument]: ...
    async def ledgers_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]: ...
    async def summaries_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, str]]: ...
    async def mend(self, uid: str, decided: Decided | None = None, *, write: bool = True) -> Mended: ...
    def check(self, uid: str, user: Any, devices: Any, conversations: Any) -> tuple[User, list[datetime]]: ...
    async def field_types(self, users: int) -> list[FieldTypes]: ...
    async def put(
        self, uid: str, user: Mapping[str, Any], devices: Mapping[str, Any], conversations: Mapping[str, Any]
    ) -> None: ...
    async def remove(self, uid: str) -> None: ...
    async def aclose(self) -> None: ...


class Summarizer(Protocol):
    """An LLM. `ask` is one call, bounded by `timeout`; `cheap`: it may be slower, at a lower price.

    `ask` raises ItemFault or ProviderFault. `worst_cost` is the most that a call can cost, in millionths of a USD; None
    if there is no limit. `check` asks for one small recap. `last_day` is when the provider shuts the model down; None
    if it does not say.

    `calls` and `tokens` count since it was opened; `rate_limits` are those that the last answer announced, by
    "requests" and "tokens". `where` names it in a sentence, with its settings; `named_by` is the model's setting.
    """

    where: str
    named_by: str
    model: str
    calls: int
    tokens: int
    rate_limits: Mapping[str, RateLimit]

    async def ask(self, question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer: ...
    async def worst_cost(self, question: Question) -> int | None: ...
    async def check(self) -> Checked: ...
    async def last_day(self) -> date | None: ...
    async def aclose(self) -> None: ...


class Channel(Protocol):
    """A way to deliver recaps. Never raises for what a server answers.

    `targets` are the user's, and codes of addresses that can't be used. `send` is one try to deliver to one of them; it
    calls `leaves` just before the first byte is written that may deliver something: until then nothing was sent. Its
    answer decides what becomes of the target:

    - ACCEPTED (FCM names the message; a receiver says 200): it has the recap.
    - GONE (an unregistered token; 410; an unknown mailbox): it is never tried again.
    - REFUSED (a malformed token, a mailbox that takes none of our mail): tried again after 30 min, while no other
      target of the channel was reached.
    - BUSY (503, 429, a greylist): tried again after the answer's `retry_after`.
    - UNKNOWN (cut off, no answer in time): it may have been accepted. Tried again after 1 and 5 min, then given up.
    - UNSENT (no connection): tried again.

    An answer with `config` closes the channel for the run, one that must pause makes all of its targets wait. `send`
    raises DependencyDown if nothing can be sent to any target (the outbox's disk is full).

    `probe` is the answer to a message that reaches nobody; `check` says as a sentence what is wrong with the channel,
    empty if all is well. `where` names the service in a sentence, with its setting. `noun`: what one delivery is
    called, and several; `aside`: what `doctor` adds to it. `has_addresses`: its targets are in the user's document,
    which is then read. `alerts`: an operator hears of each target that is refused. `unusable`: for each code of
    `targets`, which field of the user's is wrong and what to write.
    """

    name: str
    where: str
    aside: str
    has_addresses: bool
    alerts: bool
    noun: tuple[str, str] = ("push", "pushes")
    unusable: Mapping[str, str] = {}

    def targets(self, recipient: Recipient) -> tuple[list[Target], list[str]]: ...
    async def send(
        self, target: Target, message: Message, timeout: timedelta, leaves: Callable[[], None]
    ) -> PushAnswer: ...
    async def check(self) -> str: ...
    async def aclose(self) -> None: ...

    async def probe(self) -> PushAnswer:
        return ACCEPTED


class Clock(Protocol):
    """Seconds that also count while the machine sleeps; comparable within one process only."""

    def seconds(self) -> float: ...


class Telemetry:
    """Metrics and traces of one run, without any user's name. This class records nothing; an adapter overrides it.

    The methods return at once and never raise. Data not sent within a second after the run's end is lost.
    """

    def span(self, name: str, model: str = "") -> AbstractContextManager[None]:
        """A span around a block: a `user`, and within it `chat` and `push`."""
        return nullcontext()

    def record_call(self, spent: Spent, model: str, error: str = "") -> None:
        """Record a call to the LLM. `error`: the kind of its failure."""

    def record_run(self, figures: Mapping[str, object]) -> None:
        """Record the run's counts, as `tick.finished` has them."""

    async def aclose(self) -> None:
        """Send what has not been sent yet."""


class Heartbeat(Protocol):
    """Reports each run to a monitoring service. `start` returns at once; `end` takes a few seconds; neither raises."""

    def start(self) -> None: ...
    async def end(self, code: int, line: str) -> None: ...
