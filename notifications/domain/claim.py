"""The claim record in Redis: what is stored, under which key, and how it is read (docs/protocol.md, section 3)."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

MAX_LEASE_MS = 15 * 60_000  # MAXL: no lease setting may exceed it; also in adapters/claims/lua/record.lua
MAX_WAIT_MS = 30 * 60_000  # the longest wait that `fail` stores before the next try
FOREIGN_TTL_MS = 2 * 3600_000  # given to a foreign value that has no TTL; also in record.lua
EXPIRY_AFTER_SLOT_MS = 3 * 3600_000
EXPIRY_AFTER_LEASE_MS = 10 * 60_000  # also in record.lua
WAIT_IS_TTL = -1  # the wait for a foreign value: what is left of its TTL, which the adapter reads
SINGLE_FILE_LANE = 2
USER_PREFIX, USER_LOCK = "users:", ":daily_summary_lock:"
SHARD_PREFIX = "daily_summary:cohort:v2:"
SKIPPED_PREFIX = "daily_summary:skipped:"
SINCE_EXPIRY_DAYS = 30
ENVIRONMENT_LENGTH = 12
FOREIGN_TEXT, FOREIGN_TYPE = "another_maker", "another_type"  # the reasons of a FOREIGN answer
MAX_INTEGER = 2**53  # Lua's numbers are exact up to it
REASON_LENGTH = 40
FORBIDDEN_IN_REASON = re.compile(r"[^a-z0-9_]")


class ClaimState(StrEnum):
    """The `s` of a record. ABSENT: there is no value. FOREIGN: the value is not ours."""

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
    FOREIGN = "foreign"  # held by a value that is not ours
    WAIT = "wait"
    LATER = "later"
    DONE = "done"
    OK = "ok"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Record:
    """The stored claim: a JSON object with the one-letter names `s t u f c r`, in this order."""

    state: ClaimState
    token: str = ""
    until: int = 0  # a lease's end, or a due time: ms of Redis TIME
    failures: int = 0
    crashes: int = 0
    reason: str = ""  # why it failed last; empty after the next win

    @property
    def until_at(self) -> datetime:
        """`until` as a time."""
        return datetime.fromtimestamp(self.until / 1000, UTC)


ABSENT = Record(ClaimState.ABSENT)
FOREIGN = Record(ClaimState.FOREIGN)


def lane(crashes: int) -> int:
    """The lane for an item with this many crashes: 0 wide, 1 narrow, 2 alone."""
    return min(crashes, SINGLE_FILE_LANE)


def parse(value: str | bytes | None) -> Record:
    """The record in a stored value; FOREIGN for anything that is not a record, never an error."""
    if value is None:
        return ABSENT
    try:
        fields = json.loads(value)
        state, token, reason = ClaimState(fields["s"]), fields["t"], fields.get("r")
        until, failures, crashes = (_integer(fields.get(name, 0)) for name in ("u", "f", "c"))
    except (ValueError, TypeError, KeyError, RecursionError):
        return FOREIGN
    if state in (ClaimState.ABSENT, ClaimState.FOREIGN) or not isinstance(token, str):
        return FOREIGN
    is_code = isinstance(reason, str) and not FORBIDDEN_IN_REASON.search(reason)
    return Record(state, token, until, failures, crashes, reason if is_code else "")


def _integer(value: object) -> int:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(value)
    if not -MAX_INTEGER <= value <= MAX_INTEGER or value != int(value):
        raise ValueError(value)
    return int(value)


def reason_code(text: str) -> str:
    """The text as a short code for a record: lower-case letters, digits and _."""
    return FORBIDDEN_IN_REASON.sub("_", text.lower())[:REASON_LENGTH].strip("_")


def new_token() -> str:
    """A random 128-bit token (22 characters), one per claim, that fences every write."""
    return secrets.token_urlsafe(16)


def user_key(uid: str, day: date) -> str:
    """A user's key, which older deployments take with a plain SET NX: each excludes the other."""
    return f"{USER_PREFIX}{uid}{USER_LOCK}{day.isoformat()}"


def user_key_pattern(uid: str | None, day: date | None) -> str:
    """The pattern of users' keys in a scan; None is any user, or any date."""
    literal = "".join(f"\\{letter}" if letter in "*?[]\\^-" else letter for letter in uid or "")
    return f"{USER_PREFIX}{literal or '*'}{USER_LOCK}{day.isoformat() if day else '*'}"


def split_user_key(key: str) -> tuple[str, str]:
    """The uid and the date in a user's key, as they are written there."""
    uid, _, day = key.removeprefix(USER_PREFIX).rpartition(USER_LOCK)
    return uid, day


def turn_value(token: str, at: int) -> str:
    """A completed record whose `u` is not a deadline, but when the turn was taken: ms of Redis TIME."""
    return json.dumps({"s": ClaimState.COMPLETE.value, "t": token, "u": at})


def environment_of(*names: str) -> str:
    """The id of one store in the keys of its shards, sweep and money: from its name, not from how it is reached."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:ENVIRONMENT_LENGTH]


def cohort_prefix(slot: datetime, hour: int) -> str:
    """The prefix of the keys of a cohort's shards, whatever version and environment made them."""
    return f"{SHARD_PREFIX}{slot.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}:{hour}:"


def shard_key(slot: datetime, hour: int, tzdata: str, environment: str, shard: int, shards: int) -> str:
    """The key of one shard of a cohort; it has the slot in UTC, to the second."""
    return f"{cohort_prefix(slot, hour)}{tzdata}:{environment}:{shard}of{shards}"


def skipped_key(shard: str) -> str:
    """The key of the set of uids whose day was skipped in an incomplete shard: they are not claimed again."""
    return f"{SKIPPED_PREFIX}{shard.removeprefix(SHARD_PREFIX)}"


def sweep_key(environment: str) -> str:
    """The key that is held until the next sweep is due."""
    return f"daily_summary:sweep:{environment}"


def since_key(environment: str) -> str:
    """The key that has, in `u`, the time since which this Redis remembers what was served."""
    return f"daily_summary:since:{environment}"


def pause_key(environment: str) -> str:
    """The key that is held while the LLM's provider has asked us to wait."""
    return f"daily_summary:pause:{environment}"


class Verb(StrEnum):
    """One Lua file each."""

    CLAIM = "claim"
    RENEW = "renew"
    COMPLETE = "complete"
    FREE = "free"
    FORGET = "forget"  # the port's delete_if_unchanged()
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a verb; each verb reads only its own fields."""

    verb: Verb
    token: str
    now: int
    lease: int = 0
    lane: int = SINGLE_FILE_LANE
    max_crashes: int = 0  # 0 means no limit: a shard is never dead
    outcome: ClaimState = ClaimState.SENT  # `complete`: the state to store; `forget`: the state that was read
    wait: int = 0
    added_failures: int = 0  # 0 or 1
    max_failures: int = 0
    until: int = 0  # the latest due time that `fail` may store
    reason: str = ""  # why it failed; stored until the next win

    @property
    def due_again(self) -> int:
        """When a failed item may be claimed again."""
        return min(self.now + min(self.wait, MAX_WAIT_MS), self.until)


@dataclass(frozen=True, slots=True)
class Transition:
    """A verb's answer, how long to wait (ms, or WAIT_IS_TTL), and what is stored afterwards."""

    answer: ClaimAnswer
    after: Record
    wait: int = 0


Predicate = Callable[[Call, Record], bool]
After = Callable[[Call, Record], Record]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a verb's table: the first whose predicate is true decides."""

    stored: frozenset[ClaimState]
    condition: str  # in words, for the diagram
    predicate: Predicate
    answer: ClaimAnswer
    after: After | None = None  # None: the record stays as it is


def _always(call: Call, record: Record) -> bool:
    return True


def _own(call: Call, record: Record) -> bool:
    return record.token == call.token


def _live(call: Call, record: Record) -> bool:
    # A later end was written before Redis' clock was set back.
    return call.now < record.until <= call.now + MAX_LEASE_MS


def _own_and_live(call: Call, record: Record) -> bool:
    return _own(call, record) and _live(call, record)


def _not_due(call: Call, record: Record) -> bool:
    return call.now < record.until <= call.now + 2 * MAX_LEASE_MS


def _last_crash(call: Call, record: Record) -> bool:
    return 0 < call.max_crashes <= record.crashes + 1


def _last_failure(call: Call, record: Record) -> bool:
    return (
        _own(call, record)
        and call.added_failures > 0
        and 0 < call.max_failures <= record.failures + call.added_failures
    )


def _too_wide_after_a_crash(call: Call, record: Record) -> bool:
    return lane(record.crashes + 1) > call.lane


def _too_wide(call: Call, record: Record) -> bool:
    return lane(record.crashes) > call.lane


def _as_read(call: Call, record: Record) -> bool:
    return record.token == call.token and record.state is call.outcome


def _absent(call: Call, record: Record) -> Record:
    return ABSENT


def _claimed(call: Call, record: Record) -> Record:
    return Record(ClaimState.CLAIMED, call.token, call.now + call.lease, record.failures, record.crashes)


def _taken_over(call: Call, record: Record) -> Record:
    return replace(_claimed(call, record), crashes=record.crashes + 1)


def _dead_of_crashes(call: Call, record: Record) -> Record:
    return Record(ClaimState.DEAD, "", 0, record.failures, record.crashes + 1)


def _left_for_a_narrower_lane(call: Call, record: Record) -> Record:
    return Record(ClaimState.IDLE, "", call.now, record.failures, record.crashes + 1)


def _completed(call: Call, record: Record) -> Record:
    return Record(call.outcome, call.token)


def _failed(call: Call, record: Record) -> Record:
    return Record(
        ClaimState.IDLE, call.token, call.due_again, record.failures + call.added_failures, record.crashes, call.reason
    )


def _dead_of_failures(call: Call, record: Record) -> Record:
    return replace(_failed(call, record), state=ClaimState.DEAD, until=0)


_IN_ABSENT, _IN_FOREIGN, _IN_CLAIMED, _IN_IDLE, _IN_DEAD = (
    frozenset({state})
    for state in (ClaimState.ABSENT, ClaimState.FOREIGN, ClaimState.CLAIMED, ClaimState.IDLE, ClaimState.DEAD)
)
WON, HELD, WAIT, LATER = ClaimAnswer.WON, ClaimAnswer.HELD, ClaimAnswer.WAIT, ClaimAnswer.LATER
DONE, OK = ClaimAnswer.DONE, ClaimAnswer.OK

TABLE: Mapping[Verb, tuple[Row, ...]] = {
    Verb.CLAIM: (
        Row(_IN_ABSENT, "first come", _always, WON, _claimed),
        Row(_IN_FOREIGN, "another maker's value", _always, ClaimAnswer.FOREIGN),
        Row(_IN_CLAIMED, "own reply was lost", _own, WON, _claimed),
        Row(_IN_CLAIMED, "lease live", _live, HELD),
        Row(_IN_CLAIMED, "lapsed, last permitted crash", _last_crash, DONE, _dead_of_crashes),
        Row(_IN_CLAIMED, "lapsed, for a narrower lane", _too_wide_after_a_crash, LATER, _left_for_a_narrower_lane),
        Row(_IN_CLAIMED, "lapsed", _always, WON, _taken_over),
        Row(_IN_IDLE, "not yet due", _not_due, WAIT),
        Row(_IN_IDLE, "due, for a narrower lane", _too_wide, LATER),
        Row(_IN_IDLE, "due", _always, WON, _claimed),
        Row(FINAL, "ended", _always, DONE),
    ),
    Verb.RENEW: (Row(_IN_CLAIMED, "own live claim", _own_and_live, OK, _claimed),),
    Verb.COMPLETE: (
        Row(_IN_CLAIMED, "own claim", _own, OK, _completed),
        Row(FINAL, "a repeat", _own, OK),
    ),
    Verb.FREE: (
        Row(_IN_CLAIMED, "own claim", _own, OK, _absent),
        Row(_IN_ABSENT, "a repeat", _always, OK),
    ),
    Verb.FORGET: (
        Row(_IN_CLAIMED, "as it was read", _as_read, OK, _absent),
        Row(_IN_IDLE, "as it was read", _as_read, OK, _absent),
        Row(FINAL, "as it was read", _as_read, OK, _absent),
        Row(_IN_ABSENT, "a repeat", _always, OK),
    ),
    Verb.FAIL: (
        Row(_IN_CLAIMED, "own claim, last permitted failure", _last_failure, DONE, _dead_of_failures),
        Row(_IN_CLAIMED, "own claim", _own, OK, _failed),
        Row(_IN_IDLE, "a repeat", _own, OK),
        Row(_IN_DEAD, "a repeat of the last failure", _own, DONE),
    ),
}


def decide(call: Call, stored: Record) -> Transition:
    """The transition that the table gives; LOST, with nothing changed, if no row applies."""
    for row in TABLE[call.verb]:
        if stored.state in row.stored and row.predicate(call, stored):
            after = row.after(call, stored) if row.after else stored
            waits = {HELD: stored.until - call.now, WAIT: stored.until - call.now, ClaimAnswer.FOREIGN: WAIT_IS_TTL}
            return Transition(row.answer, after, waits.get(row.answer, 0))
    return Transition(ClaimAnswer.LOST, stored)


def _next_claim(record: Record, now: int) -> Transition:
    return decide(Call(Verb.CLAIM, token="-", now=now), record)  # noqa: S106 - no record has this token


def claimable(record: Record, now: int) -> bool:
    """Whether a claim of this record would be won, by the same table."""
    return _next_claim(record, now).answer is WON


def lease_left(record: Record, redis_now: datetime) -> timedelta:
    """How long a run may still hold it; zero if none does, also if a clock that was ahead stamped the lease."""
    return time_left(record, redis_now) if record.state is ClaimState.CLAIMED else timedelta(0)


def time_left(record: Record, redis_now: datetime) -> timedelta:
    """How long a lease still holds or a wait still lasts, by the same table; zero if the next claim finds neither."""
    transition = _next_claim(record, _milliseconds(redis_now))
    return timedelta(milliseconds=transition.wait if transition.answer in (HELD, WAIT) else 0)


def free_at(record: Record, redis_now: datetime) -> datetime:
    """When a lease or a wait ends, or ended: its `until`, or now if a clock that was ahead stamped it."""
    end = max(0, record.until)
    is_ahead = end > _milliseconds(redis_now) and not time_left(record, redis_now)
    return redis_now if is_ahead else datetime.fromtimestamp(end / 1000, UTC)


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
