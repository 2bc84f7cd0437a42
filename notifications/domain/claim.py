"""The claim record in Redis: what is stored, under which key, and how it is read (docs/protocol.md, section 3)."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum

MAX_LEASE_MS = 15 * 60_000  # MAXL: no lease setting may exceed it
MAX_WAIT_MS = 30 * 60_000  # the longest that `fail` lets an item rest before it is probed again
FOREIGN_TTL_MS = 2 * 3600_000  # what a value of unknown making gets, when it has no TTL
EXPIRY_AFTER_SLOT_MS = 3 * 3600_000
EXPIRY_AFTER_LEASE_MS = 10 * 60_000
SINGLE_FILE_LANE = 2
USER_PREFIX, USER_LOCK = "users:", ":daily_summary_lock:"
SHARD_PREFIX = "daily_summary:cohort:v2:"
SKIPPED_PREFIX = "daily_summary:skipped:"
SINCE_EXPIRY_DAYS = 30
ENVIRONMENT_LENGTH = 12
FOREIGN_TEXT, FOREIGN_TYPE = "another_maker", "another_type"  # why a claim is held: what stands there is no record
MOST_WHOLE = 2**53  # what Lua's numbers, and any clock's milliseconds, hold
REASON_LENGTH = 40
NO_REASON = re.compile(r"[^a-z0-9_]")


class ClaimState(StrEnum):
    """The `s` of a record; ABSENT and FOREIGN stand for no record and for another maker's value."""

    ABSENT = "absent"
    FOREIGN = "foreign"
    CLAIMED = "claimed"
    IDLE = "idle"
    SENT = "sent"
    SKIPPED = "skipped"
    DEAD = "dead"
    MISSED = "missed"
    COMPLETE = "complete"


FINAL = frozenset({ClaimState.SENT, ClaimState.SKIPPED, ClaimState.DEAD, ClaimState.MISSED, ClaimState.COMPLETE})


class ClaimAnswer(StrEnum):
    """What a script answers; the Lua files use the same words."""

    WON = "won"
    HELD = "held"
    FOREIGN = "foreign"  # held by another maker's value
    WAIT = "wait"
    LATER = "later"
    DONE = "done"
    OK = "ok"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Record:
    """What is stored, as a short JSON object whose names are one letter each: `s t u f c r`."""

    state: ClaimState
    token: str = ""
    until: int = 0  # a lease's end, or a due time: ms of Redis TIME
    failures: int = 0
    crashes: int = 0
    reason: str = ""  # of the last failure, until the next win


ABSENT = Record(ClaimState.ABSENT)
FOREIGN = Record(ClaimState.FOREIGN)


def lane(crashes: int) -> int:
    """The lane that an item with so many crashes runs in: 0 wide, 1 narrow, 2 alone."""
    return min(crashes, SINGLE_FILE_LANE)


def parse(value: str | bytes | None) -> Record:
    """The record in a stored value; FOREIGN for whatever another maker wrote, never an error."""
    if value is None:
        return ABSENT
    try:
        fields = json.loads(value)
        return Record(
            state=_own_state(fields["s"]),
            token=_text(fields["t"]),
            until=_whole(fields.get("u", 0)),
            failures=_whole(fields.get("f", 0)),
            crashes=_whole(fields.get("c", 0)),
            reason=_reason(fields.get("r")),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return FOREIGN


def _own_state(value: object) -> ClaimState:
    state = ClaimState(_text(value))
    if state in (ClaimState.ABSENT, ClaimState.FOREIGN):
        raise ValueError(value)
    return state


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(value)
    if not -MOST_WHOLE <= value <= MOST_WHOLE or value != int(value):
        raise ValueError(value)
    return int(value)


def _reason(value: object) -> str:
    return value if isinstance(value, str) and not NO_REASON.search(value) else ""


def reason_code(text: str) -> str:
    """The text as a short code that a record may hold: lower case, digits and _."""
    return NO_REASON.sub("_", text.lower())[:REASON_LENGTH].strip("_")


def new_token() -> str:
    """A random 128-bit token, one per claim, that fences every write: 22 characters."""
    return secrets.token_urlsafe(16)


def user_key(uid: str, day: date) -> str:
    """The key that older deployments take with a plain SET NX too: they exclude us, we exclude them."""
    return f"{USER_PREFIX}{uid}{USER_LOCK}{day.isoformat()}"


def split_user_key(key: str) -> tuple[str, str]:
    """The uid and the date in a user's key, as they are written there."""
    uid, _, day = key.removeprefix(USER_PREFIX).rpartition(USER_LOCK)
    return uid, day


def turn(token: str, at: int) -> str:
    """What a key holds whose turn was taken at that instant, ms of Redis TIME: read like any record."""
    return json.dumps({"s": ClaimState.COMPLETE.value, "t": token, "u": at})


def environment_of(*names: str) -> str:
    """What stands in the keys of one store's shards, sweep and money: of its name, not of how it is reached."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:ENVIRONMENT_LENGTH]


def cohort_keys(slot: datetime, hour: int) -> str:
    """What the keys of this cohort's shards begin with, whatever version and environment made them."""
    return f"{SHARD_PREFIX}{slot.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}:{hour}:"


def shard_key(slot: datetime, hour: int, tzdata: str, environment: str, shard: int, shards: int) -> str:
    """The key of one shard of a cohort. `slot` is written to the second, in UTC."""
    return f"{cohort_keys(slot, hour)}{tzdata}:{environment}:{shard}of{shards}"


def skipped_key(shard: str) -> str:
    """Whose day was skipped in a shard that was left open: their own keys are free, and need not be claimed again."""
    return f"{SKIPPED_PREFIX}{shard.removeprefix(SHARD_PREFIX)}"


def sweep_key(environment: str) -> str:
    """Held for as long as nobody needs to sweep again."""
    return f"daily_summary:sweep:{environment}"


def since_key(environment: str) -> str:
    """Since when this Redis remembers what was served: `u` of the record."""
    return f"daily_summary:since:{environment}"


def pause_key(environment: str) -> str:
    """Held for as long as the LLM's provider asked everybody to wait."""
    return f"daily_summary:pause:{environment}"


class Verb(StrEnum):
    """One Lua file each."""

    CLAIM = "claim"
    RENEW = "renew"
    COMPLETE = "complete"
    FREE = "free"
    FORGET = "forget"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Ask:
    """One call of a verb: only the fields of that verb count."""

    verb: Verb
    token: str
    now: int
    lease: int = 0
    lane: int = SINGLE_FILE_LANE
    max_crashes: int = 0  # 0 means none: a shard is never dead
    outcome: ClaimState = ClaimState.SENT
    wait: int = 0
    counts: int = 0
    max_failures: int = 0
    until: int = 0  # the latest due time that `fail` may store
    reason: str = ""  # why it failed, kept until the next win

    @property
    def due_again(self) -> int:
        """When a failed item may be claimed again."""
        return min(self.now + min(self.wait, MAX_WAIT_MS), self.until)


@dataclass(frozen=True, slots=True)
class Transition:
    """A verb's answer, how long to wait (ms; -1 for "no TTL"), and what is stored afterwards."""

    answer: ClaimAnswer
    after: Record
    wait: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: the first that fits decides."""

    verb: Verb
    found: frozenset[ClaimState]
    condition: str  # in words, for the diagram
    fits: Callable[[Ask, Record], bool]
    answer: ClaimAnswer
    after: Callable[[Ask, Record], Record]
    wait: Callable[[Ask, Record], int] = lambda ask, r: 0


def _mine(ask: Ask, r: Record) -> bool:
    return r.token == ask.token


def _live(ask: Ask, r: Record) -> bool:
    return ask.now < r.until <= ask.now + MAX_LEASE_MS


def _resting(ask: Ask, r: Record) -> bool:
    return ask.now < r.until <= ask.now + 2 * MAX_LEASE_MS


def _always(ask: Ask, r: Record) -> bool:
    return True


def _unchanged(ask: Ask, r: Record) -> Record:
    return r


def _remaining(ask: Ask, r: Record) -> int:
    return r.until - ask.now


def _taken(ask: Ask, r: Record) -> Record:
    return Record(ClaimState.CLAIMED, ask.token, ask.now + ask.lease, r.failures, r.crashes)


def _taken_over(ask: Ask, r: Record) -> Record:
    return replace(_taken(ask, r), crashes=r.crashes + 1)


def _failed(ask: Ask, r: Record) -> Record:
    return Record(ClaimState.IDLE, ask.token, ask.due_again, r.failures + ask.counts, r.crashes, ask.reason)


def _gone(ask: Ask, r: Record) -> Record:
    return ABSENT


def _as_read(ask: Ask, r: Record) -> bool:
    return r.token == ask.token and r.state is ask.outcome


def _set(*states: ClaimState) -> frozenset[ClaimState]:
    return frozenset(states)


TABLE: tuple[Row, ...] = (
    Row(Verb.CLAIM, _set(ClaimState.ABSENT), "first come", _always, ClaimAnswer.WON, _taken),
    Row(
        Verb.CLAIM,
        _set(ClaimState.FOREIGN),
        "another maker's value",
        _always,
        ClaimAnswer.FOREIGN,
        _unchanged,
        lambda ask, r: -1,
    ),
    Row(Verb.CLAIM, _set(ClaimState.CLAIMED), "own reply was lost", _mine, ClaimAnswer.WON, _taken),
    Row(Verb.CLAIM, _set(ClaimState.CLAIMED), "lease live", _live, ClaimAnswer.HELD, _unchanged, _remaining),
    Row(
        Verb.CLAIM,
        _set(ClaimState.CLAIMED),
        "lapsed, last permitted crash",
        lambda ask, r: 0 < ask.max_crashes <= r.crashes + 1,
        ClaimAnswer.DONE,
        lambda ask, r: Record(ClaimState.DEAD, "", 0, r.failures, r.crashes + 1),
    ),
    Row(
        Verb.CLAIM,
        _set(ClaimState.CLAIMED),
        "lapsed, for a narrower lane",
        lambda ask, r: lane(r.crashes + 1) > ask.lane,
        ClaimAnswer.LATER,
        lambda ask, r: Record(ClaimState.IDLE, "", ask.now, r.failures, r.crashes + 1),
    ),
    Row(Verb.CLAIM, _set(ClaimState.CLAIMED), "lapsed", _always, ClaimAnswer.WON, _taken_over),
    Row(Verb.CLAIM, _set(ClaimState.IDLE), "not yet due", _resting, ClaimAnswer.WAIT, _unchanged, _remaining),
    Row(
        Verb.CLAIM,
        _set(ClaimState.IDLE),
        "due, for a narrower lane",
        lambda ask, r: lane(r.crashes) > ask.lane,
        ClaimAnswer.LATER,
        _unchanged,
    ),
    Row(Verb.CLAIM, _set(ClaimState.IDLE), "due", _always, ClaimAnswer.WON, _taken),
    Row(Verb.CLAIM, FINAL, "ended", _always, ClaimAnswer.DONE, _unchanged),
    Row(
        Verb.RENEW,
        _set(ClaimState.CLAIMED),
        "own live claim",
        lambda ask, r: _mine(ask, r) and _live(ask, r),
        ClaimAnswer.OK,
        _taken,
    ),
    Row(
        Verb.COMPLETE,
        _set(ClaimState.CLAIMED),
        "own claim",
        _mine,
        ClaimAnswer.OK,
        lambda ask, r: Record(ask.outcome, ask.token),
    ),
    Row(Verb.COMPLETE, FINAL, "a repeat", _mine, ClaimAnswer.OK, _unchanged),
    Row(Verb.FREE, _set(ClaimState.CLAIMED), "own claim", _mine, ClaimAnswer.OK, _gone),
    Row(Verb.FREE, _set(ClaimState.ABSENT), "a repeat", _always, ClaimAnswer.OK, _unchanged),
    Row(Verb.FORGET, _set(ClaimState.CLAIMED), "as it was read", _as_read, ClaimAnswer.OK, _gone),
    Row(Verb.FORGET, _set(ClaimState.IDLE), "as it was read", _as_read, ClaimAnswer.OK, _gone),
    Row(Verb.FORGET, FINAL, "as it was read", _as_read, ClaimAnswer.OK, _gone),
    Row(Verb.FORGET, _set(ClaimState.ABSENT), "a repeat", _always, ClaimAnswer.OK, _unchanged),
    Row(
        Verb.FAIL,
        _set(ClaimState.CLAIMED),
        "own claim, last permitted failure",
        lambda ask, r: _mine(ask, r) and 0 < ask.max_failures * ask.counts <= r.failures + ask.counts,
        ClaimAnswer.DONE,
        lambda ask, r: Record(ClaimState.DEAD, ask.token, 0, r.failures + ask.counts, r.crashes, ask.reason),
    ),
    Row(Verb.FAIL, _set(ClaimState.CLAIMED), "own claim", _mine, ClaimAnswer.OK, _failed),
    Row(Verb.FAIL, _set(ClaimState.IDLE), "a repeat", _mine, ClaimAnswer.OK, _unchanged),
    Row(Verb.FAIL, _set(ClaimState.DEAD), "a repeat of the last failure", _mine, ClaimAnswer.DONE, _unchanged),
)


def decide(ask: Ask, stored: Record) -> Transition:
    """What the table says. Whatever no row fits is LOST and changes nothing."""
    for row in TABLE:
        if row.verb is ask.verb and stored.state in row.found and row.fits(ask, stored):
            return Transition(row.answer, row.after(ask, stored), row.wait(ask, stored))
    return Transition(ClaimAnswer.LOST, stored)


def claimable(record: Record, now: int) -> bool:
    """Whether a run should try: the same reading of the record that the claim itself makes."""
    ask = Ask(Verb.CLAIM, token="-", now=now)  # noqa: S106 - nobody's token
    return decide(ask, record).answer is ClaimAnswer.WON
