"""`resend --date D --where missed,dead,unserved`: resend every matching day of a date, each under its claim.

The days are chosen by their ledgers each time, so running a killed command again continues where it stopped. It also
finishes the days that the killed one left open, once their leases have lapsed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NoReturn

from notifications.commands.context import RESENDABLE, Context
from notifications.commands.progress import deliveries_and_calls
from notifications.commands.resend import (
    MAX_WAIT,
    MIN_WAIT,
    NO_TARGET,
    Refused,
    ResendKind,
    check_resendable,
    finish_day,
    open_day,
)
from notifications.commands.terminal import minute, on_the_real_clock, say_wrapped, several
from notifications.commands.user_days import DayQuery, UserDay, UserDays
from notifications.domain.claim import lease_left, user_key
from notifications.domain.delivery import NextStep, Snapshot, take
from notifications.domain.errors import ItemFault, KeyTrouble, Malformed, RecapError, StoreDown, Unfinished, UsageFault
from notifications.ports import UserDocument
from notifications.run.day_input import Gate, Ledgers, read_conversations
from notifications.run.forecast import DRY_RUN_TOKEN
from notifications.run.outcome import Progress
from notifications.run.state import Run
from notifications.run.targets import read_targets

MAX_LINES = 20  # lines printed about users without a recap; beyond that only counted
# What --limit counts: it leaves out users who can't be sent a recap.
COUNTED_BY_LIMIT = (
    *(ResendKind.SENT, ResendKind.PARTIAL, ResendKind.MISSED, ResendKind.DEAD, ResendKind.GAVE_UP),
    ResendKind.UNFINISHED,
)
STILL_WITHOUT_RECAP = (ResendKind.MISSED, ResendKind.DEAD, ResendKind.GAVE_UP, ResendKind.UNREADABLE_DOCUMENT)
MAX_WORKER_WAIT = timedelta(seconds=5)  # a longer wait gives the worker to another user


@dataclass(frozen=True, slots=True)
class ResendSelection:
    """The days of one date in one of these states, at most `limit`."""

    day: date
    states: frozenset[str]
    limit: int | None = None

    def includes(self, row: UserDay) -> bool:
        """Whether its state is selected, or a resend has begun and not finished it."""
        is_partial = "partial" in self.states and row.ledger is not None and row.ledger.is_partial
        return row.state in self.states or is_partial or row.has_unfinished_resend


async def resend_many(selection: ResendSelection, context: Context, *, dry_run: bool) -> int:
    """Returns 0 if each has its recap, and 5 if a user is still without; raises what stopped it."""
    async with context.open_run() as run:
        await run.check_clocks()
        query = DayQuery(selection.day, await context.now(), run.services.limits.rules, context.since, context.offset)
        days = UserDays(run.services, query)
        bulk = BulkResend(run, selection)
        if dry_run:
            await bulk.dry_run(_selected(days, selection))
            return 0
        try:
            async with context.show_progress(lambda: bulk.progress):
                await bulk.resend_all(_selected(days, selection))
        finally:
            bulk.print_summary()
    return bulk.exit_code()


async def refuse_held(day: date, context: Context) -> NoReturn:
    """Raise UsageFault for held users, whom a resend does not take; it says when the last of them is free."""
    async with context.open_services() as services:
        now = await context.now()
        days = UserDays(services, DayQuery(day, now, services.limits.rules, context.since, context.offset))
        async with aclosing(days.pages()) as pages:
            until = [row.until async for page in pages for row in page if row.state == "held"]
    free_at = max(filter(None, until), default=None)
    who = f"{several(len(until), 'user')} of {day} {'is' if len(until) == 1 else 'are'} held"
    by = (
        f"until {minute(free_at)} UTC at the latest" if free_at else "by the app, or another job, for two hours at most"
    )
    served = f"{who} {by}; the next run after that serves them, and nothing need be done"
    found = served if until else f"nobody of {day} is held"
    clock = on_the_real_clock(free_at, now, context.offset)
    raise UsageFault(f"resend does not take --where held: {found}. It takes {', '.join(RESENDABLE)}. {clock}".rstrip())


async def _selected(days: UserDays, selection: ResendSelection) -> AsyncGenerator[UserDocument]:
    async with aclosing(days.pages()) as pages:
        async for page in pages:
            for row in filter(selection.includes, page):
                yield row.listed


@dataclass(slots=True)
class BulkResend:
    """The days of one command, each counted once, under the kind it ended in."""

    run: Run
    selection: ResendSelection
    counts: Counter[ResendKind] = field(default_factory=Counter)
    wait_until: dict[str, float] = field(default_factory=dict)  # uid -> seconds of the services' clock
    printed: int = 0  # lines about users without a recap
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    defects: list[BaseException] = field(default_factory=list)

    @property
    def progress(self) -> Progress:
        done = self.counts.total()
        return Progress(done, done + len(self.tasks) + len(self.wait_until), len(self.wait_until))

    @property
    def is_stopping(self) -> bool:
        """Whether no further day is begun."""
        return self.run.is_stopping or bool(self.defects)

    @property
    def has_room(self) -> bool:
        """Whether the limit allows one more."""
        used = sum(self.counts[kind] for kind in COUNTED_BY_LIMIT) + len(self.tasks) + len(self.wait_until)
        return self.selection.limit is None or used < self.selection.limit

    async def dry_run(self, chosen: AsyncGenerator[UserDocument]) -> None:
        """Print the counts that a resend would end with, by the same checks, without writing anything."""
        async with aclosing(chosen):
            async for listed in chosen:
                if not self.has_room:
                    break
                try:
                    self.counts[await expected_kind(self.run, listed, self.selection.day)] += 1
                except Refused as refused:
                    self.counts[refused.kind] += 1
        self._print_counts(" (dry run: nothing was claimed, sent or written)", sent="would send {}")

    async def resend_all(self, chosen: AsyncGenerator[UserDocument]) -> None:
        """Resend each day; then retry those that have to wait."""
        run = self.run
        async with run.pace.following():
            await self.serve_all(chosen)
            if self.wait_until and not run.is_stopping:
                left = timedelta(seconds=max(self.wait_until.values()) - run.services.clock.seconds())
                last = minute(await run.services.claims.now() + run.offset + left)
                which = f"{len(self.wait_until):,} wait, the last until {last} UTC"
                say_wrapped(f"{which}: for a target, or for the lease of a run, which may have died.", "  ")
            while self.wait_until and not run.is_stopping:
                await self.serve_all(self._wait_for_due_users())
            await run.pusher.delete_dead_tokens(run.services.store)

    async def serve_all(self, chosen: AsyncGenerator[UserDocument]) -> None:
        """Resend concurrently, with a tick's concurrency. One user's error cancels no other user's push."""
        limits = self.run.services.limits
        staggered_starts_left = limits.concurrency
        try:
            async with aclosing(chosen):
                async for listed in chosen:
                    until = self.wait_until.pop(listed.uid, None)
                    while self.tasks and (len(self.tasks) >= limits.concurrency or not self.has_room):
                        await asyncio.wait(set(self.tasks), return_when=asyncio.FIRST_COMPLETED)
                    if self.is_stopping or not self.has_room:
                        if until is not None:
                            self.wait_until[listed.uid] = until
                        break
                    task = asyncio.create_task(self._resend_one(listed))
                    self.tasks.add(task)
                    task.add_done_callback(self._on_task_done)
                    staggered_starts_left -= 1
                    if staggered_starts_left > 0:
                        await asyncio.sleep(limits.start_gap_seconds)
        except RecapError as error:  # while listing the users
            self.run.stop_claiming(error)
        finally:
            while self.tasks:
                await asyncio.wait(set(self.tasks))
        if self.defects:
            raise self.defects[0]

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if defect := task.exception():
            self.defects.append(defect)

    async def _resend_one(self, listed: UserDocument) -> None:
        run, uid, day = self.run, listed.uid, self.selection.day
        try:
            await run.pace.wait()
            opened = await open_day(run, listed, day, again=False)
            ledger = await finish_day(run, opened, max_wait=MAX_WORKER_WAIT)
            kind = ResendKind.PARTIAL if ledger.is_partial else ResendKind.UNFINISHED
            if ledger.state.final and not ledger.is_partial:
                kind = ResendKind(ledger.ending)
            if kind in (ResendKind.SENT, ResendKind.NO_DEVICES):
                self._record(kind)
                return
            if await expected_kind(run, listed, day) is ResendKind.NOTHING_TO_SAY:
                kind = ResendKind.NOTHING_TO_SAY
            self._record(kind, f"{uid}: {kind.value}.")
        except Refused as refused:
            if refused.wait is not None:
                self.wait_until[uid] = run.services.clock.seconds() + refused.wait.total_seconds()
            else:
                self._record(refused.kind, "" if refused.kind is ResendKind.ALREADY_SENT else str(refused))
        except Unfinished as error:
            self._record(ResendKind.UNFINISHED, "" if run.is_stopping else str(error))
        except (Malformed, KeyTrouble, ItemFault) as error:  # concerns only this user
            self._record(ResendKind.UNFINISHED, f"{uid} {day}: {error}")
        except StoreDown as error:
            run.read_breaker.record_failure(error)  # many in a row stop the command
            self._record(ResendKind.UNFINISHED, "" if run.is_stopping else f"{uid} {day}: {error}")
        except RecapError as error:
            run.stop_claiming(error)
            self._record(ResendKind.UNFINISHED)

    def _record(self, kind: ResendKind, line: str = "") -> None:
        """Count a day, and print a line about it while there are few."""
        self.counts[kind] += 1
        if line:
            self.printed += 1
            if self.printed <= MAX_LINES:
                say_wrapped(line, "    ", "  ")

    async def _wait_for_due_users(self) -> AsyncGenerator[UserDocument]:
        """Sleep until the first wait is over, then yield the users that are due.

        They stay in `wait_until` until serve_all() takes them, so that none is lost if it stops between.
        """
        wait = min(MAX_WAIT.total_seconds(), min(self.wait_until.values()) - self.run.services.clock.seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(MIN_WAIT.total_seconds(), wait)):
                await self.run.terminated.wait()
        now = self.run.services.clock.seconds()
        for uid in [uid for uid, due in self.wait_until.items() if due <= now]:
            if self.is_stopping:
                return
            listed = await self.run.services.store.user_document(uid)
            if listed is not None:
                yield listed
            else:
                del self.wait_until[uid]
                self._record(ResendKind.ERASED)

    def print_summary(self) -> None:
        """Print the counts of days, pushes and LLM calls."""
        self.counts[ResendKind.UNFINISHED] += len(self.wait_until)
        if self.printed > MAX_LINES:
            say_wrapped(f"and {self.printed - MAX_LINES} more that were not sent", "    ", "  ")
        run = self.run
        calls = sum(llm.calls for llm in run.services.llms)
        self._print_counts(f"; {deliveries_and_calls(run.deliveries, calls, run.counts.failed_calls)}")

    def _print_counts(self, suffix: str, sent: str = "{} sent") -> None:
        kinds = sorted(self.counts, key=lambda kind: (kind is not ResendKind.SENT, kind))
        words = {ResendKind.SENT: sent, ResendKind.NO_DEVICES: f"{{}} {NO_TARGET}"}
        parts = [
            words.get(kind, f"{{}} {kind}").format(f"{self.counts[kind]:,}") for kind in kinds if self.counts[kind]
        ]
        counts = ", ".join(parts) or "no user"
        say_wrapped(f"{self.selection.day}: {counts}{suffix}.", "    ", "")

    def exit_code(self) -> int:
        """0 or 5; raises what stopped it, or Unfinished."""
        if self.run.trouble is not None:
            raise self.run.trouble
        if self.counts[ResendKind.UNFINISHED] or self.run.terminated.is_set():
            raise Unfinished("Some days are unfinished; run the same command again to continue.")
        return 5 if any(self.counts[kind] for kind in STILL_WITHOUT_RECAP) else 0


async def expected_kind(run: Run, listed: UserDocument, day: date) -> ResendKind:
    """The kind that a resend would end in, without writing anything. Raises Refused."""
    ledgers = await check_resendable(run, listed, day)
    [record] = await run.services.claims.read([user_key(ledgers.user.uid, day)])
    now = await run.services.claims.now()
    if lease_left(record, now):
        return ResendKind.BEING_SENT
    today = ledgers.today
    replaces = today if today is not None and today.state.without_text else None  # a resend replaces an ended day
    match ledgers.gate(replaces=replaces):
        case Gate.UNREADABLE | Gate.INVERTED:
            return ResendKind.UNFINISHED
        case Gate.OPEN:
            taken = take(DRY_RUN_TOKEN, Snapshot(today, now), run.services.limits.ledger_rules)
            is_partial = taken.ledger is not None and taken.ledger.is_partial
            ended = ResendKind.PARTIAL if is_partial else ResendKind.GAVE_UP
            kinds = {NextStep.BUSY: ResendKind.BEING_SENT, NextStep.FINAL: ended}
            return kinds.get(taken.step) or await _would_send(run, ledgers)
        case Gate.ENDED:
            kind = await _would_send(run, ledgers)  # its recap is stored
            return ResendKind.NOBODY_TO_SEND_TO if kind is ResendKind.NO_DEVICES else kind
        case Gate.LEGACY:
            return ResendKind.SKIPPED
    material = (await read_conversations(run.services.store, ledgers)).material(run.services.limits.min_words)
    return await _would_send(run, ledgers) if material is not None else ResendKind.NOTHING_TO_SAY


async def _would_send(run: Run, ledgers: Ledgers) -> ResendKind:
    to, _ = await read_targets(run, ledgers.user.uid, ledgers.user, ledgers.before)
    return ResendKind.SENT if to.targets else ResendKind.NO_DEVICES
