"""`--dry-run`: who is due, and why not. Reads only: no claim, no LLM call, no push, no write."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial

from notifications.commands.context import Context, rows_of, usable_user
from notifications.commands.terminal import Listing, Table, say_line
from notifications.domain.errors import UsageFault
from notifications.domain.model import User
from notifications.domain.schedule import Slot, cohorts_between, latest_slot, slot_on
from notifications.domain.shards import Range
from notifications.ports import Store, UserDocument
from notifications.run.forecast import DayView, Step, view_day
from notifications.run.shard import MAX_ZONES
from notifications.run.state import Run, Services


async def dry_run(uid: str | None, context: Context, *, whole: bool) -> int:
    """One line for each user whose slot is being served; unless `whole`, no more than a screen, by what is next."""
    now = await context.claims.now() + context.offset
    listing = Listing(Table(("USER", 24), ("ZONE", 20), ("UTC", 6), last="NOW"), whole=whole)
    async with context.open_services() as services, aclosing(_served(services, now, uid)) as served:
        run = Run(services, context.offset, context.terminated)
        async for user, slot in served:
            answer = await _answer(await view_day(run, user, slot, now, alone=uid is not None))
            due = f"{slot.at:%H:%M}"
            listing.add(answer, f"{user.uid} ({due} UTC, {user.zone})", user.uid, user.zone, due, answer)
    listing.say()
    counted = ", ".join(f"{count:,} {answer}" for answer, count in sorted(listing.groups.counts.items()))
    say_line(f"{now:%Y-%m-%d %H:%M} UTC, dry run: {counted or 'no user is due'}. Nothing was claimed, sent or written.")
    return 0


async def _served(services: Services, now: datetime, uid: str | None) -> AsyncGenerator[tuple[User, Slot]]:
    rules = services.limits.rules
    if uid is not None:
        _, user = await usable_user(services.store, uid)
        if not user.enabled:
            raise UsageFault(f"{uid} is switched off; nothing is sent to them.")
        yield user, latest_slot(user.zone, user.hour, now)
        return
    for cohort in cohorts_between(now - rules.catch_up - rules.grace, now):
        zones = sorted(cohort.zones)
        for start in range(0, len(zones), MAX_ZONES):
            read_page = partial(_due_users, services.store, zones[start : start + MAX_ZONES], cohort.hour)
            async with aclosing(rows_of(read_page, lambda listed: listed.uid, services.limits.page_size)) as users:
                async for listed in users:
                    if (due := listed.user) is not None:
                        yield due, slot_on(due.zone, cohort.zones[due.zone], due.hour)


async def _due_users(store: Store, zones: Sequence[str], hour: int, after: str | None, size: int) -> list[UserDocument]:
    return await store.due_users(zones, hour, Range(), after, size)


async def _answer(view: DayView) -> str:
    forecast, today = await view.forecast(), view.ledgers.today
    if forecast.step is Step.ENDED and today is not None:
        return f"{forecast.step}: {today.state.value} {today.outcome}".strip()
    if forecast.step is Step.ENDED_IN_REDIS:
        return f"done: {view.records.claim.state.value} in Redis"
    so_far = " so far" if forecast.step is Step.SKIPS and view.slot.at > view.now - view.run.offset else ""
    return f"{forecast.step}{so_far}"
