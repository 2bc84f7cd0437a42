"""`inspect`: what Redis says, joined with the ledger. SCAN, never KEYS."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import date, datetime
from typing import Any

from notifications.commands.operation import Context, Operation
from notifications.commands.terminal import say
from notifications.domain.claim import Record, Stored
from notifications.domain.model import day_of
from notifications.domain.schedule import nominal_date, slot_on
from notifications.ports import Claims, Found, Store

FIRST_YEAR, LAST_YEAR = 1971, 2199  # of a day that any job could have served
PREFIX, MIDDLE = "users:", ":daily_summary_lock:"


def inspect(uid: str | None, day: date | None, *, as_json: bool) -> Operation:
    """The operation. One line, or one JSON object, for each user key."""

    async def run(context: Context) -> int:
        claims = context.claims
        count = 0
        async with context.open_parts() as parts, aclosing(_rows(parts.store, claims, uid, day)) as rows:
            async for row in rows:
                count += 1
                say(json.dumps(row) if as_json else _line(row))
        if not as_json:
            say(f"{count} claims.")
        return 0

    return run


async def _rows(store: Store, claims: Claims, uid: str | None, day: date | None) -> AsyncGenerator[dict[str, Any]]:
    now = await claims.now()
    pattern = f"{PREFIX}{_escaped(uid) if uid else '*'}{MIDDLE}{day.isoformat() if day else '*'}"
    async for found in claims.scan(pattern):
        yield await _row(store, found, now)


def _escaped(uid: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]\\^-" else letter for letter in uid)


async def _row(store: Store, found: Found, now: datetime) -> dict[str, Any]:
    uid, _, text = found.key.removeprefix(PREFIX).rpartition(MIDDLE)
    row: dict[str, Any] = {"uid": uid, "date": text, **_claim(found.record, now)}
    row["ttl_seconds"] = round(found.ttl.total_seconds()) if found.ttl else None
    day = day_of(text)
    if day is None or not uid or "/" in uid or not FIRST_YEAR < day.year < LAST_YEAR:
        return row  # a key that looks like ours, by another hand
    ledger = (await store.ledgers_between(uid, day, day)).get(day)
    listed = await store.user(uid)
    if listed is not None and listed.user is not None:
        slot = slot_on(listed.user.zone, nominal_date(day, listed.user.hour), listed.user.hour)
        row["slot"] = slot.at.isoformat()
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
    """The record in words; a lease or due time as seconds from now."""
    facts: dict[str, Any] = {"claim": record.state.value, "failures": record.failures, "crashes": record.crashes}
    if record.reason:
        facts["last_failure"] = record.reason
    if record.state in (Stored.CLAIMED, Stored.IDLE):
        word = "lease_seconds" if record.state is Stored.CLAIMED else "due_in_seconds"
        facts[word] = round(record.until / 1000 - now.timestamp())
    return facts


def _line(row: dict[str, Any]) -> str:
    shown = {name: value for name, value in row.items() if name not in ("uid", "date") and value not in (None, "", {})}
    return f"{row['uid']} {row['date']}  " + "  ".join(f"{name}={value}" for name, value in shown.items())
