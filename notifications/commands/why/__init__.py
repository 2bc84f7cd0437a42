"""`why UID [DATE]`: every gate of one user's day in its order, with the values that decided, and what comes next."""

from __future__ import annotations

from datetime import date, datetime

from notifications.commands.operation import Context, Operation
from notifications.commands.terminal import say_wrapped
from notifications.commands.why.lines import Facts, following, ledger_line, lines, went_wrong
from notifications.domain.claim import Stored, user_key
from notifications.domain.model import User
from notifications.domain.schedule import latest_slot, nominal_date, slot_on
from notifications.domain.shards import key_of
from notifications.ports import Listed, Store
from notifications.recap.material import material
from notifications.run.day_input import read_conversations, read_ledgers
from notifications.run.state import Parts


def _say(line: str) -> None:
    say_wrapped(line, "    ", "  ")


def why(uid: str, day: date | None) -> Operation:
    """The operation. Exit 1 where the day went, or goes, wrong."""

    async def run(context: Context) -> int:
        async with context.open_parts() as parts:
            now = await context.claims.now() + context.offset
            listed = await parts.store.user(uid)
            if listed is None or listed.user is None:
                return await _not_served(parts.store, uid, listed, day)
            facts = await _facts(context, parts, listed, listed.user, day, now)
            for line in lines(facts):
                _say(line)
            _say(f"next: {following(facts)}")
            return 1 if went_wrong(facts) else 0

    return run


async def _not_served(store: Store, uid: str, listed: Listed | None, day: date | None) -> int:
    """Who has no document, or one that the query can't see."""
    if listed is not None:
        _say(f"document: not seen by the job: {listed.flaw}")
        _say("next: nothing, until it is mended: python job.py doctor --fix, or write the document anew.")
        return 1
    _say(f"document: users/{uid} does not exist; erased, or never there.")
    ledger = (await store.ledgers_between(uid, day, day)).get(day) if day else None
    if ledger is not None:
        _say(f"ledger: {ledger_line(ledger)}")
    _say("next: nothing; check the uid.")
    return 1


async def _facts(context: Context, parts: Parts, listed: Listed, user: User, day: date | None, now: datetime) -> Facts:
    slot = latest_slot(user.zone, user.hour, now)
    if day is not None:
        slot = slot_on(user.zone, nominal_date(day, user.hour), user.hour)
    store, found = parts.store, slot.recap_date
    ledgers = await read_ledgers(store, user, slot, parts.limits.look_back)
    ledger = ledgers.today
    shard = key_of(user.uid, slot.at, user.hour, context.claims.environment, parts.limits.shards)
    record, shard_record = await context.claims.read([user_key(user.uid, found), shard])
    given = await read_conversations(store, ledgers)
    tells = material(found, given.conversations, user.language, user.zone, parts.limits.min_words) is not None
    return Facts(
        listed=listed,
        user=user,
        slot=slot,
        phase=parts.rules.phase(slot.at, now),
        now=now,
        ledger=ledger,
        record=record,
        passed_by=shard_record.state is Stored.COMPLETE,
        summary=await store.summary_document(user.uid, found, ledger.summary_id if ledger else ""),
        given=given,
        tells=tells,
        devices=len((await store.devices(user.uid))[0]),
    )
