"""`--dry-run`: who is due, and why not. Reads only: no claim, no LLM call, no push, no write."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from notifications.commands.context import Context, rows_of, usable_user
from notifications.commands.reasons import bracketed
from notifications.commands.terminal import Listing, Table, minute, on_the_real_clock, say_line, say_wrapped
from notifications.domain.errors import UsageFault
from notifications.domain.model import User
from notifications.domain.schedule import Slot, cohorts_between, latest_slot, slot_on
from notifications.domain.shards import Range
from notifications.ports import Store, UserDocument
from notifications.run.forecast import DayView, Forecast, Step, view_day
from notifications.run.shard import MAX_ZONES
from notifications.run.state import Services


class DryRunAnswer(NamedTuple):
    """What the next run does with a day, and as a code who holds it."""

    words: str
    held_by: str = ""
    is_held: bool = False

    @property
    def free_or_until(self) -> str:
        return "free at" if self.is_held else "until"

    def in_words(self, until: datetime | None = None) -> str:
        """With the reason, and the time if it is given, in brackets."""
        when = f"{self.free_or_until} {minute(until)}" if until is not None else ""
        return self.words + bracketed(Counter([self.held_by]), when)


async def dry_run(uid: str | None, context: Context, *, whole: bool) -> int:
    """One line for each user whose slot is being served; unless `whole`, no more than a screen, by what is next."""
    now = await context.now()
    listing = Listing(Table(("USER", 24), ("ZONE", 20), ("UTC", 6), last="NOW"), whole=whole)
    counts: Counter[DryRunAnswer] = Counter()
    last: dict[DryRunAnswer, datetime] = {}  # when the last of those who wait or are held is free
    async with context.open_run() as run, aclosing(_served(run.services, now, uid)) as served:
        async for user, slot in served:
            answer, until = await _answer(await view_day(run, user, slot, now, alone=uid is not None))
            due, when = f"{slot.at:%H:%M}", ""
            if until is not None:
                last[answer] = max(until, last.get(answer, until))
                when = f"; {answer.free_or_until} {minute(until)}"
            line = f"{user.uid} ({due} UTC, {user.zone}{when})"
            listing.add(answer.in_words(), line, user.uid, user.zone, due, answer.in_words(until))
            counts[answer] += 1
    listing.say()
    counted = ", ".join(f"{count:,} {answer.in_words(last.get(answer))}" for answer, count in sorted(counts.items()))
    say_line(f"{now:%Y-%m-%d %H:%M} UTC, dry run: {counted or 'no user is due'}. Nothing was claimed, sent or written.")
    say_wrapped(on_the_real_clock(max(last.values(), default=None), now, context.offset))
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
        for zones in cohort.zone_batches(MAX_ZONES):
            read_page = partial(_due_users, services.store, zones, cohort.hour)
            async with aclosing(rows_of(read_page, lambda listed: listed.uid, services.limits.page_size)) as users:
                async for listed in users:
                    if (due := listed.user) is not None:
                        yield due, slot_on(due.zone, cohort.zones[due.zone], due.hour)


async def _due_users(store: Store, zones: Sequence[str], hour: int, after: str | None, size: int) -> list[UserDocument]:
    return await store.due_users(zones, hour, Range(), after, size)


async def _answer(view: DayView) -> tuple[DryRunAnswer, datetime | None]:
    """What the next run does with the day, and when it is free if it waits or is held."""
    forecast, today = await view.forecast(), view.ledgers.today
    step, wait = forecast.step, forecast.wait
    if step is Step.ENDED and today is not None:
        return DryRunAnswer(f"{step}: {today.state.value} {today.outcome}".strip()), None
    if step is Step.ENDED_IN_REDIS:
        return DryRunAnswer(f"done: {view.records.claim.state.value} in Redis"), None
    if (held := _held_for(forecast)) is not None:
        held_by = "killed_run" if view.records.shard.crashes else "another_run"
        return DryRunAnswer(Step.HELD, held_by, is_held=True), view.now + held
    so_far = " so far" if step is Step.SKIPS and view.slot.at > view.now - view.run.offset else ""
    until = view.now + wait if wait > timedelta(0) else None
    return DryRunAnswer(f"{step}{so_far}", is_held=step is Step.SHARD_HELD), until


def _held_for(forecast: Forecast) -> timedelta | None:
    """How long another run's claim of the day keeps the next runs away, also one that first wait for its hour."""
    waited, then = timedelta(0), forecast
    while then.step in (Step.SHARD_WAITS, Step.SHARD_HELD) and then.then is not None:
        waited, then = waited + then.wait, then.then
    return waited + then.wait if then.step is Step.HELD else None
