"""`inspect`: ledgers joined with their claims in Redis, including ledgers whose claim has expired."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import date, datetime
from functools import partial
from typing import Any

from notifications.commands.context import Context, rows_of
from notifications.commands.reasons import in_words
from notifications.commands.terminal import (
    AROUND,
    Groups,
    Listing,
    Table,
    minute,
    on_the_real_clock,
    say,
    say_wrapped,
    screen_lines,
    several,
)
from notifications.commands.user_days import UserDays, queries, slot_of
from notifications.domain.claim import (
    SHARD_PREFIX,
    USER_PREFIX,
    ClaimState,
    Record,
    parse,
    split_user_key,
    user_key,
    user_key_pattern,
)
from notifications.domain.errors import UsageFault
from notifications.domain.model import Ledger, day_of, in_range
from notifications.domain.schedule import ONE_DAY, slot_of_day
from notifications.domain.text import ANY_LENGTH
from notifications.ports import Claims, RawKey, ScannedKey, Store

DAYS_BACK = 30
KINDS = {USER_PREFIX: "users' days", SHARD_PREFIX: "users due together"}
OTHER_KEYS = "daily_summary:*"  # shards, the sweep, since when Redis remembers, the day's money, a pause


async def inspect(uid: str | None, day: date | None, context: Context, *, as_json: bool, whole: bool) -> int:
    """Print each claim with its ledger, and ledgers without a claim; without a user or date, only open ledgers.

    Newest first. Unless `whole`, a person gets no more than a screen; JSON has all.
    """
    table = Table(("USER", 24), ("DATE", 10), ("CLAIM", 8), ("LEDGER", 10), last="MORE")
    room = ANY_LENGTH if whole or as_json else screen_lines() - AROUND
    async with context.open_services() as services:
        now = await context.claims.now()
        found = await _found(services.store, context.claims, uid, day, now)
        missing = uid is not None and not found and await services.store.user_document(uid) is None
        for number, key in enumerate(found):
            if table.lines >= room:
                say(f"and {len(found) - number:,} more; --all prints them, --where waiting,held,dead groups users.")
                break
            row = await _row(services.store, key, now)
            if as_json:
                say(json.dumps(row))
            else:
                table.row(row["uid"], row["date"], row["claim"], row.get("ledger", "none"), _more(row))
    if not as_json:
        say(f"{several(len(found), 'day')}.")
    if missing:
        raise UsageFault(f"{services.store.user_path.format(uid=uid)} does not exist; check the uid.")
    return 0


async def inspect_where(
    states: frozenset[str], day: date | None, context: Context, *, as_json: bool, whole: bool
) -> int:
    """Users by the state of their day and its reason, those with the newest slot first."""
    groups: dict[tuple[date, str, str], list[tuple[datetime, str, str]]] = {}
    free_at: datetime | None = None
    clock = ""
    async with context.open_services() as services:
        for query in await queries(day, context, services, today=True):
            async with aclosing(UserDays(services, query).pages()) as pages:
                async for row in (row async for page in pages for row in page if row.state in states):
                    if row.state is not None:
                        ledger, slot = row.ledger, slot_of(row.listed, query.day)
                        reason = in_words(row.reason or (ledger.reason or ledger.outcome if ledger else ""))
                        users = groups.setdefault((query.day, row.state, reason if reason != row.state else ""), [])
                        until = f", free at {minute(row.until)}" if row.until and row.state == "held" else ""
                        users.append((slot.at if slot else query.now, row.uid, until))
                        if until and row.until and (free_at is None or row.until > free_at):
                            free_at, clock = row.until, on_the_real_clock(row.until, query.now, query.offset)
    said = Groups(whole=whole)
    for (which, state, reason), users in sorted(groups.items(), key=lambda group: (-group[0][0].toordinal(), group)):
        newest = sorted(users, key=lambda user: (-user[0].timestamp(), user[1]))
        if as_json:
            facts = {"date": str(which), "state": state, "reason": reason, "users": [uid for _, uid, _ in newest]}
            say(json.dumps(facts))
            continue
        for at, uid, until in newest:
            said.add(f"{which} {state}{f', {reason}' if reason else ''}", f"{uid} (due {at:%H:%M} UTC{until})")
    said.say()
    if not as_json:
        say(f"{several(sum(map(len, groups.values())), 'user')}.")
        say_wrapped(clock)
    return 0


async def inspect_keys(uid: str | None, day: date | None, context: Context, *, as_json: bool, whole: bool) -> int:
    """Every key of this job, as it is stored; with a user or a date, only those claims.

    Unless `whole`, a person gets no more than a screen; JSON has all.
    """
    count = 0
    listing = Listing(Table(("KEY", 46), ("TTL", 8), last="VALUE"), whole=whole)
    for pattern in [user_key_pattern(uid, day)] if uid or day else [user_key_pattern(None, None), OTHER_KEYS]:
        async for raw in context.claims.keys(pattern):
            count += 1
            ttl = round(raw.ttl.total_seconds()) if raw.ttl is not None else None
            row = {"key": raw.key, "value": raw.value, "ttl_seconds": ttl}
            if as_json:
                say(json.dumps(row))
            else:
                listing.add(_kind(raw), raw.key, raw.key, f"{ttl} s" if ttl is not None else "none", raw.value)
    listing.say()
    if not as_json:
        say(f"{several(count, 'key')}.")
    return 0


def _kind(raw: RawKey) -> str:
    """What a key is for, and how its record stands."""
    prefix = next((prefix for prefix in KINDS if raw.key.startswith(prefix)), "")
    return f"{KINDS[prefix]}, {parse(raw.value).state.value}" if prefix else "others"


async def _found(store: Store, claims: Claims, uid: str | None, day: date | None, now: datetime) -> list[ScannedKey]:
    """Each claim, and one that is absent for each ledger without a claim; the newest date first."""
    found = {key.key: key async for key in claims.scan(user_key_pattern(uid, day))}
    async for owner, ledger in _ledgers(store, uid, day, now):
        key = user_key(owner, ledger.date)
        found.setdefault(key, ScannedKey(key, Record(ClaimState.ABSENT), None))
    by_user = sorted(found.values(), key=lambda key: key.key)
    return sorted(by_user, key=lambda key: split_user_key(key.key)[1], reverse=True)


async def _ledgers(
    store: Store, uid: str | None, day: date | None, now: datetime
) -> AsyncGenerator[tuple[str, Ledger]]:
    """A user's of the last days, or all of a date; without either, the open ones."""
    if uid is not None:
        first, last = (day, day) if day else (now.date() - DAYS_BACK * ONE_DAY, now.date() + ONE_DAY)
        for _, ledger in sorted((await store.ledgers_between(uid, first, last)).items()):
            yield uid, ledger
        return
    if day is not None:
        ledgers = rows_of(partial(store.ledgers_on, day), lambda row: row[0])
    else:
        ledgers = rows_of(store.open_ledgers, lambda row: (row[0], row[1].date))
    async with aclosing(ledgers):
        async for row in ledgers:
            yield row


async def _row(store: Store, found: ScannedKey, now: datetime) -> dict[str, Any]:
    uid, text = split_user_key(found.key)
    row: dict[str, Any] = {"uid": uid, "date": text, **_claim(found.record, now)}
    row["ttl_seconds"] = round(found.ttl.total_seconds()) if found.ttl else None
    day = day_of(text)
    if day is None or not uid or "/" in uid or not in_range(day):
        return row  # a foreign key that only looks like ours
    ledger = (await store.ledgers_between(uid, day, day)).get(day)
    listed = await store.user_document(uid)
    if listed is not None and listed.user is not None:
        row["slot"] = slot_of_day(listed.user.zone, day, listed.user.hour).at.isoformat()
    if ledger is not None:
        row |= {
            "ledger": ledger.state.value,
            "outcome": ledger.outcome,
            "reason": ledger.reason,
            "tries": ledger.tries,
            "seq": ledger.seq,
            "devices": dict(ledger.devices),
        }
    return row


def _claim(record: Record, now: datetime) -> dict[str, Any]:
    """The record's fields; a lease or due time in seconds from now."""
    facts: dict[str, Any] = {"claim": record.state.value, "failures": record.failures, "crashes": record.crashes}
    if record.reason:
        facts["last_failure"] = record.reason
    if record.state in (ClaimState.CLAIMED, ClaimState.IDLE):
        word = "lease_seconds" if record.state is ClaimState.CLAIMED else "due_in_seconds"
        facts[word] = round(record.until / 1000 - now.timestamp())
    return facts


COLUMN = ("uid", "date", "claim", "ledger")


def _more(row: dict[str, Any]) -> str:
    shown = {name: value for name, value in row.items() if name not in COLUMN and value not in (None, "", {}, 0)}
    if (devices := shown.pop("devices", None)) is not None:
        answers = list(devices.values())
        shown |= {answer: answers.count(answer) for answer in sorted(set(answers))}
    if slot := shown.pop("slot", None):
        shown["slot"] = f"{slot[11:16]}Z"
    return ", ".join(f"{name} {value}" for name, value in shown.items())
