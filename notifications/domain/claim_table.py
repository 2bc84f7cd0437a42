"""The table of the claim record's transitions (docs/protocol.md, section 3).

It is the source: the Lua files carry it out, a test holds the two equal, and the README's
diagram is drawn from it. All times are milliseconds of Redis TIME.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from notifications.domain.claim import (
    ABSENT,
    FINAL,
    MAX_LEASE_MS,
    MAX_WAIT_MS,
    SINGLE_FILE_LANE,
    ClaimAnswer,
    Record,
    Stored,
    lane,
)


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
    outcome: Stored = Stored.SENT
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
    found: frozenset[Stored]
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
    return Record(Stored.CLAIMED, ask.token, ask.now + ask.lease, r.failures, r.crashes)


def _taken_over(ask: Ask, r: Record) -> Record:
    return replace(_taken(ask, r), crashes=r.crashes + 1)


def _failed(ask: Ask, r: Record) -> Record:
    return Record(Stored.IDLE, ask.token, ask.due_again, r.failures + ask.counts, r.crashes, ask.reason)


def _gone(ask: Ask, r: Record) -> Record:
    return ABSENT


def _as_read(ask: Ask, r: Record) -> bool:
    return r.token == ask.token and r.state is ask.outcome


def _set(*states: Stored) -> frozenset[Stored]:
    return frozenset(states)


TABLE: tuple[Row, ...] = (
    Row(Verb.CLAIM, _set(Stored.ABSENT), "first come", _always, ClaimAnswer.WON, _taken),
    Row(
        Verb.CLAIM,
        _set(Stored.FOREIGN),
        "another maker's value",
        _always,
        ClaimAnswer.FOREIGN,
        _unchanged,
        lambda ask, r: -1,
    ),
    Row(Verb.CLAIM, _set(Stored.CLAIMED), "own reply was lost", _mine, ClaimAnswer.WON, _taken),
    Row(Verb.CLAIM, _set(Stored.CLAIMED), "lease live", _live, ClaimAnswer.HELD, _unchanged, _remaining),
    Row(
        Verb.CLAIM,
        _set(Stored.CLAIMED),
        "lapsed, last permitted crash",
        lambda ask, r: 0 < ask.max_crashes <= r.crashes + 1,
        ClaimAnswer.DONE,
        lambda ask, r: Record(Stored.DEAD, "", 0, r.failures, r.crashes + 1),
    ),
    Row(
        Verb.CLAIM,
        _set(Stored.CLAIMED),
        "lapsed, for a narrower lane",
        lambda ask, r: lane(r.crashes + 1) > ask.lane,
        ClaimAnswer.LATER,
        lambda ask, r: Record(Stored.IDLE, "", ask.now, r.failures, r.crashes + 1),
    ),
    Row(Verb.CLAIM, _set(Stored.CLAIMED), "lapsed", _always, ClaimAnswer.WON, _taken_over),
    Row(Verb.CLAIM, _set(Stored.IDLE), "not yet due", _resting, ClaimAnswer.WAIT, _unchanged, _remaining),
    Row(
        Verb.CLAIM,
        _set(Stored.IDLE),
        "due, for a narrower lane",
        lambda ask, r: lane(r.crashes) > ask.lane,
        ClaimAnswer.LATER,
        _unchanged,
    ),
    Row(Verb.CLAIM, _set(Stored.IDLE), "due", _always, ClaimAnswer.WON, _taken),
    Row(Verb.CLAIM, FINAL, "ended", _always, ClaimAnswer.DONE, _unchanged),
    Row(
        Verb.RENEW,
        _set(Stored.CLAIMED),
        "own live claim",
        lambda ask, r: _mine(ask, r) and _live(ask, r),
        ClaimAnswer.OK,
        _taken,
    ),
    Row(
        Verb.COMPLETE,
        _set(Stored.CLAIMED),
        "own claim",
        _mine,
        ClaimAnswer.OK,
        lambda ask, r: Record(ask.outcome, ask.token),
    ),
    Row(Verb.COMPLETE, FINAL, "a repeat", _mine, ClaimAnswer.OK, _unchanged),
    Row(Verb.FREE, _set(Stored.CLAIMED), "own claim", _mine, ClaimAnswer.OK, _gone),
    Row(Verb.FREE, _set(Stored.ABSENT), "a repeat", _always, ClaimAnswer.OK, _unchanged),
    Row(Verb.FORGET, _set(Stored.CLAIMED), "as it was read", _as_read, ClaimAnswer.OK, _gone),
    Row(Verb.FORGET, _set(Stored.IDLE), "as it was read", _as_read, ClaimAnswer.OK, _gone),
    Row(Verb.FORGET, FINAL, "as it was read", _as_read, ClaimAnswer.OK, _gone),
    Row(Verb.FORGET, _set(Stored.ABSENT), "a repeat", _always, ClaimAnswer.OK, _unchanged),
    Row(
        Verb.FAIL,
        _set(Stored.CLAIMED),
        "own claim, last permitted failure",
        lambda ask, r: _mine(ask, r) and 0 < ask.max_failures * ask.counts <= r.failures + ask.counts,
        ClaimAnswer.DONE,
        lambda ask, r: Record(Stored.DEAD, ask.token, 0, r.failures + ask.counts, r.crashes, ask.reason),
    ),
    Row(Verb.FAIL, _set(Stored.CLAIMED), "own claim", _mine, ClaimAnswer.OK, _failed),
    Row(Verb.FAIL, _set(Stored.IDLE), "a repeat", _mine, ClaimAnswer.OK, _unchanged),
    Row(
        Verb.FAIL,
        _set(Stored.DEAD),
        "a repeat of the last failure",
        _mine,
        ClaimAnswer.DONE,
        _unchanged,
    ),
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
