"""The claim record in Redis and the table of its transitions (PROTOCOL section 3).

The table is the source: the Lua files carry it out, a test holds the two equal, and
the README's diagram is drawn from it. All times are milliseconds of Redis TIME.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum

MAX_LEASE_MS = 15 * 60_000  # MAXL: no lease setting may exceed it
MAX_WAIT_MS = 30 * 60_000  # the longest that `fail` lets an item rest before it is probed again
FOREIGN_TTL_MS = 2 * 3600_000  # what a value of unknown making gets, when it has no TTL
EXPIRY_AFTER_SLOT_MS = 3 * 3600_000
EXPIRY_AFTER_LEASE_MS = 10 * 60_000
SINGLE_FILE_LANE = 2


class Stored(StrEnum):
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


FINAL = frozenset({Stored.SENT, Stored.SKIPPED, Stored.DEAD, Stored.MISSED, Stored.COMPLETE})


class Answer(StrEnum):
    """What a script answers; the Lua files use the same words."""

    WON = "won"
    HELD = "held"
    WAIT = "wait"
    LATER = "later"
    DONE = "done"
    OK = "ok"
    LOST = "lost"


class Verb(StrEnum):
    """One Lua file each."""

    CLAIM = "claim"
    RENEW = "renew"
    COMPLETE = "complete"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Record:
    """What is stored: state, token, lease end or due time, failures of the item, crashes."""

    s: Stored
    t: str = ""
    u: int = 0
    f: int = 0
    c: int = 0


ABSENT = Record(Stored.ABSENT)
FOREIGN = Record(Stored.FOREIGN)


@dataclass(frozen=True, slots=True)
class Ask:
    """One call of a verb: only the fields of that verb count."""

    verb: Verb
    token: str
    now: int
    lease: int = 0
    lane: int = SINGLE_FILE_LANE
    max_crashes: int = 0  # 0 means none: a shard is never dead
    outcome: Stored = Stored.SENT
    wait: int = 0
    counts: int = 0
    max_failures: int = 0
    until: int = 0  # the latest due time that `fail` may store

    @property
    def due_again(self) -> int:
        """When a failed item may be claimed again."""
        return min(self.now + min(self.wait, MAX_WAIT_MS), self.until)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verb's answer, how long to wait (ms; -1 for "no TTL"), and what is stored afterwards."""

    answer: Answer
    after: Record
    wait: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: the first that fits decides."""

    verb: Verb
    found: frozenset[Stored]
    condition: str  # in words, for the diagram
    fits: Callable[[Ask, Record], bool]
    answer: Answer
    after: Callable[[Ask, Record], Record]
    wait: Callable[[Ask, Record], int] = lambda ask, r: 0


def lane(crashes: int) -> int:
    """The lane that an item with so many crashes runs in: 0 wide, 1 narrow, 2 alone."""
    return min(crashes, SINGLE_FILE_LANE)


def _mine(ask: Ask, r: Record) -> bool:
    return r.t == ask.token


def _live(ask: Ask, r: Record) -> bool:
    return ask.now < r.u <= ask.now + MAX_LEASE_MS


def _resting(ask: Ask, r: Record) -> bool:
    return ask.now < r.u <= ask.now + 2 * MAX_LEASE_MS


def _always(ask: Ask, r: Record) -> bool:
    return True


def _unchanged(ask: Ask, r: Record) -> Record:
    return r


def _remaining(ask: Ask, r: Record) -> int:
    return r.u - ask.now


def _taken(ask: Ask, r: Record) -> Record:
    return Record(Stored.CLAIMED, ask.token, ask.now + ask.lease, r.f, r.c)


def _taken_over(ask: Ask, r: Record) -> Record:
    return replace(_taken(ask, r), c=r.c + 1)


def _failed(ask: Ask, r: Record) -> Record:
    return Record(Stored.IDLE, ask.token, ask.due_again, r.f + ask.counts, r.c)


def _set(*states: Stored) -> frozenset[Stored]:
    return frozenset(states)


TABLE: tuple[Row, ...] = (
    Row(Verb.CLAIM, _set(Stored.ABSENT), "first come", _always, Answer.WON, _taken),
    Row(
        Verb.CLAIM,
        _set(Stored.FOREIGN),
        "another maker's value",
        _always,
        Answer.HELD,
        _unchanged,
        lambda ask, r: -1,
    ),
    Row(Verb.CLAIM, _set(Stored.CLAIMED), "own reply was lost", _mine, Answer.WON, _taken),
    Row(Verb.CLAIM, _set(Stored.CLAIMED), "lease live", _live, Answer.HELD, _unchanged, _remaining),
    Row(
        Verb.CLAIM,
        _set(Stored.CLAIMED),
        "lapsed, last permitted crash",
        lambda ask, r: 0 < ask.max_crashes <= r.c + 1,
        Answer.DONE,
        lambda ask, r: Record(Stored.DEAD, "", 0, r.f, r.c + 1),
    ),
    Row(
        Verb.CLAIM,
        _set(Stored.CLAIMED),
        "lapsed, for a narrower lane",
        lambda ask, r: lane(r.c + 1) > ask.lane,
        Answer.LATER,
        lambda ask, r: Record(Stored.IDLE, "", ask.now, r.f, r.c + 1),
    ),
    Row(Verb.CLAIM, _set(Stored.CLAIMED), "lapsed", _always, Answer.WON, _taken_over),
    Row(Verb.CLAIM, _set(Stored.IDLE), "not yet due", _resting, Answer.WAIT, _unchanged, _remaining),
    Row(
        Verb.CLAIM,
        _set(Stored.IDLE),
        "due, for a narrower lane",
        lambda ask, r: lane(r.c) > ask.lane,
        Answer.LATER,
        _unchanged,
    ),
    Row(Verb.CLAIM, _set(Stored.IDLE), "due", _always, Answer.WON, _taken),
    Row(Verb.CLAIM, FINAL, "ended", _always, Answer.DONE, _unchanged),
    Row(
        Verb.RENEW,
        _set(Stored.CLAIMED),
        "own live claim",
        lambda ask, r: _mine(ask, r) and _live(ask, r),
        Answer.OK,
        _taken,
    ),
    Row(
        Verb.COMPLETE,
        _set(Stored.CLAIMED),
        "own claim",
        _mine,
        Answer.OK,
        lambda ask, r: Record(ask.outcome, ask.token),
    ),
    Row(Verb.COMPLETE, FINAL, "a repeat", _mine, Answer.OK, _unchanged),
    Row(
        Verb.FAIL,
        _set(Stored.CLAIMED),
        "own claim, last permitted failure",
        lambda ask, r: _mine(ask, r) and 0 < ask.max_failures * ask.counts <= r.f + ask.counts,
        Answer.DONE,
        lambda ask, r: Record(Stored.DEAD, ask.token, 0, r.f + ask.counts, r.c),
    ),
    Row(Verb.FAIL, _set(Stored.CLAIMED), "own claim", _mine, Answer.OK, _failed),
    Row(Verb.FAIL, _set(Stored.IDLE), "a repeat", _mine, Answer.OK, _unchanged),
    Row(
        Verb.FAIL,
        _set(Stored.DEAD),
        "a repeat of the last failure",
        _mine,
        Answer.DONE,
        _unchanged,
    ),
)


def decide(ask: Ask, stored: Record) -> Verdict:
    """What the table says. Whatever no row fits is LOST and changes nothing."""
    for row in TABLE:
        if row.verb is ask.verb and stored.s in row.found and row.fits(ask, stored):
            return Verdict(row.answer, row.after(ask, stored), row.wait(ask, stored))
    return Verdict(Answer.LOST, stored)


def parse(value: str | bytes | None) -> Record:
    """The record in a stored value; FOREIGN for whatever another maker wrote, never an error."""
    if value is None:
        return ABSENT
    try:
        fields = json.loads(value)
        return Record(
            s=_own_state(fields["s"]),
            t=_text(fields["t"]),
            u=_whole(fields.get("u", 0)),
            f=_whole(fields.get("f", 0)),
            c=_whole(fields.get("c", 0)),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return FOREIGN


def _own_state(value: object) -> Stored:
    state = Stored(_text(value))
    if state in (Stored.ABSENT, Stored.FOREIGN):
        raise ValueError(value)
    return state


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(value)
    return value


def claimable(record: Record, now: int) -> bool:
    """Whether a run should try: the same reading of the record that the claim itself makes."""
    ask = Ask(Verb.CLAIM, token="-", now=now)  # noqa: S106 - nobody's token
    return decide(ask, record).answer is Answer.WON


def new_token() -> str:
    """A random 128-bit token, one per claim, that fences every write: 22 characters."""
    return secrets.token_urlsafe(16)


def user_key(uid: str, day: date) -> str:
    """The key that older deployments take with a plain SET NX too: they exclude us, we exclude them."""
    return f"users:{uid}:daily_summary_lock:{day.isoformat()}"


def shard_key(slot: datetime, hour: int, tzdata: str, shard: int, shards: int) -> str:
    """The key of one shard of a cohort. `slot` is written to the second, in UTC."""
    return f"daily_summary:cohort:v2:{slot:%Y-%m-%dT%H:%M:%SZ}:{hour}:{tzdata}:{shard}of{shards}"
