"""`--dry-run`: who is due, and why not. Reads only: no claim, no LLM call, no push, no write."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

from notifications.commands.operation import Context, usable_user
from notifications.commands.terminal import Table, say_line
from notifications.domain.claim import FINAL, ClaimState, Record, claimable, user_key
from notifications.domain.errors import UsageFault
from notifications.domain.model import DayState, User
from notifications.domain.schedule import Phase, Slot, cohorts_between, latest_slot, slot_on
from notifications.domain.shards import Range
from notifications.run.day_input import read_conversations, read_ledgers
from notifications.run.shard import MOST_ZONES
from notifications.run.state import Parts


async def dry_run(uid: str | None, context: Context) -> int:
    """One line for each user whose slot is being served."""
    claims, offset = context.claims, context.offset
    now = await claims.now() + offset
    answers: Counter[str] = Counter()
    table = Table(("USER", 28), ("ZONE", 16), ("UTC", 6), last="NOW")
    async with context.open_parts() as parts, aclosing(_served(parts, now, uid)) as served:
        async for user, slot in served:
            [record] = await claims.read([user_key(user.uid, slot.recap_date)])
            answer = await _answer(parts, user, slot, record, now, offset)
            answers[answer] += 1
            table.row(user.uid, user.zone, f"{slot.at:%H:%M}", answer)
    told = ", ".join(f"{count} {answer}" for answer, count in sorted(answers.items()))
    say_line(f"{now:%Y-%m-%d %H:%M} UTC, dry run: {told or 'nobody is due'}. Nothing was claimed, sent or written.")
    return 0


async def _served(parts: Parts, now: datetime, uid: str | None) -> AsyncGenerator[tuple[User, Slot]]:
    rules = parts.limits.rules
    if uid is not None:
        _, user = await usable_user(parts.store, uid)
        if not user.enabled:
            raise UsageFault(f"users/{uid} is switched off; nothing is sent to who does not want it.")
        yield user, latest_slot(user.zone, user.hour, now)
        return
    for cohort in cohorts_between(now - rules.catch_up - rules.grace, now):
        zones = sorted(cohort.zones)
        for start in range(0, len(zones), MOST_ZONES):
            async for user in _pages(parts, zones[start : start + MOST_ZONES], cohort.hour):
                yield user, slot_on(user.zone, cohort.zones[user.zone], user.hour)


async def _pages(parts: Parts, zones: Sequence[str], hour: int) -> AsyncGenerator[User]:
    size, after = parts.limits.page_size, None
    while page := await parts.store.due_users(zones, hour, Range(), after, size):
        for listed in page:
            if listed.user is not None:
                yield listed.user
        after = page[-1].uid
        if len(page) < size:
            return


async def _answer(parts: Parts, user: User, slot: Slot, record: Record, now: datetime, offset: timedelta) -> str:
    store = parts.store
    ledgers = await read_ledgers(store, user, slot, parts.limits.look_back)
    today = ledgers.today
    phase = parts.limits.rules.phase(slot.at, now)
    if today is not None and today.state is DayState.UNREADABLE:
        return "stuck: its ledger can't be read"
    if today is not None and today.state.final:
        return f"done: {today.state.value} {today.outcome}".strip()
    if record.state in FINAL:
        return f"done: {record.state.value} in Redis"
    if phase is Phase.OVER:
        return "not due"
    if not claimable(record, int((now - offset).timestamp() * 1000)):
        return "waiting" if record.state is ClaimState.IDLE else "held"
    if today is not None:
        return "due: an open delivery would be taken over"
    if await store.summary(user.uid, slot.recap_date):
        return "skipped: legacy"
    if ledgers.inverted_by is not None:
        return "stuck: a ledger around ends after its slot"
    if (await read_conversations(store, ledgers)).material(parts.limits.min_words) is None:
        return "skipped: no_content"
    if phase is not Phase.CLOSING:
        return "due"
    return "missed: its catch-up is over" if not parts.falls_back else "due: closing, so no LLM is asked"
