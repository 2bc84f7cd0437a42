"""`resend --date D --where missed,dead,unserved`: each of them through its claim, once, however often it is run.

The days are chosen by their ledgers each time, so a command that was killed goes on where it stopped. What it left open
is finished by the same command, after the lease of the killed one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta

from notifications.commands.context import Context
from notifications.commands.resend import LONGEST_WAIT, LOOK_AGAIN, Refused, check, finish, live_for, open_day
from notifications.commands.terminal import say_wrapped
from notifications.commands.user_days import DayQuery, UserDay, UserDays
from notifications.domain.claim import user_key
from notifications.domain.delivery import NextStep, Snapshot, take
from notifications.domain.errors import ItemFault, KeyTrouble, Malformed, RecapError, StoreDown, Unfinished
from notifications.domain.model import DayState
from notifications.ports import UserDocument
from notifications.run.day_input import Gate, read_conversations
from notifications.run.outcome import Progress
from notifications.run.state import Run

MAX_SENTENCES = 20  # about users who were not sent to: the rest is counted
NOTHING_TO_SAY = "nothing to say"
UNFINISHED = "unfinished"
LIMITED = ("sent", "missed", "dead", "gave_up", UNFINISHED)  # what --limit counts: not users who can't be sent to
WITHOUT_RECAP = ("missed", "dead", "gave_up", "unreadable document")
PATIENCE = timedelta(seconds=5)  # that keeps a worker; beyond it others are served meanwhile


@dataclass(frozen=True, slots=True)
class ResendSelection:
    """The days of one date in one of these states, `limit` at most."""

    day: date
    states: frozenset[str]
    limit: int | None = None

    def includes(self, row: UserDay) -> bool:
        """Whether its state is wanted, or a resend opened it and did not finish."""
        return row.state in self.states or row.stopped


async def resend_many(selection: ResendSelection, context: Context, *, write: bool) -> int:
    """Exit 0 where each has its recap; 5 where a user is still without; else what stopped it."""
    async with context.open_services() as parts:
        run = Run(parts, context.offset, context.terminated)
        await run.check_clocks()
        now = await context.claims.now() + context.offset
        days = UserDays(parts.store, DayQuery(selection.day, now, parts.limits.rules, context.since))
        bulk = BulkResend(run, selection)
        if not write:
            await bulk.count(_selected(days, selection))
            return 0
        try:
            async with context.shown(lambda: bulk.progress):
                await bulk.send(_selected(days, selection))
        finally:
            bulk.print_summary()
    return bulk.exit_code()


async def _selected(days: UserDays, selection: ResendSelection) -> AsyncGenerator[UserDocument]:
    async with aclosing(days.rows()) as rows:
        async for row in rows:
            if selection.includes(row):
                yield row.listed


@dataclass(slots=True)
class BulkResend:
    """The days of one command, and what became of them: each is in exactly one count."""

    run: Run
    selection: ResendSelection
    counts: Counter[str] = field(default_factory=Counter)
    waiting: dict[str, float] = field(default_factory=dict)  # uid, and until when, on the parts' clock
    sentences: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    defects: list[BaseException] = field(default_factory=list)

    @property
    def progress(self) -> Progress:
        done = self.counts.total()
        return Progress(done, done + len(self.tasks) + len(self.waiting), len(self.waiting))

    @property
    def stops(self) -> bool:
        """Whether no further day is begun."""
        return self.run.is_stopping or bool(self.defects)

    @property
    def has_room(self) -> bool:
        """Whether the limit allows one more."""
        limited = sum(self.counts[kind] for kind in LIMITED) + len(self.tasks) + len(self.waiting)
        return self.selection.limit is None or limited < self.selection.limit

    async def count(self, chosen: AsyncGenerator[UserDocument]) -> None:
        """The counts that sending would come to, by the same checks; nothing is written, asked or pushed."""
        async with aclosing(chosen):
            async for listed in chosen:
                if not self.has_room:
                    break
                try:
                    self.counts[await expected(self.run, listed, self.selection.day)] += 1
                except Refused as refused:
                    self.counts[refused.kind] += 1
        self._print_counts(" (dry run: nothing was claimed, sent or written)")

    async def send(self, chosen: AsyncGenerator[UserDocument]) -> None:
        """Each of them; then those that wait, each when its wait is over."""
        run = self.run
        async with run.pace.following():
            await self.send_each(chosen)
            if self.waiting and not run.is_stopping:
                waits = f"{len(self.waiting)} wait: for a device, or for the lease of a run, which may have died."
                say_wrapped(waits, "  ")
            while self.waiting and not run.is_stopping:
                await self.send_each(self._whose_wait_is_over())
            await run.pusher.delete_dead_tokens(run.services.store)

    async def send_each(self, chosen: AsyncGenerator[UserDocument]) -> None:
        """As many at once as a tick serves. A user's trouble cancels no other user's push."""
        limits = self.run.services.limits
        gaps = limits.concurrency
        try:
            async with aclosing(chosen):
                async for listed in chosen:
                    until = self.waiting.pop(listed.uid, None)
                    while self.tasks and (len(self.tasks) >= limits.concurrency or not self.has_room):
                        await asyncio.wait(set(self.tasks), return_when=asyncio.FIRST_COMPLETED)
                    if self.stops or not self.has_room:
                        if until is not None:
                            self.waiting[listed.uid] = until
                        break
                    task = asyncio.create_task(self._send(listed))
                    self.tasks.add(task)
                    task.add_done_callback(self._done)
                    gaps -= 1
                    if gaps > 0:
                        await asyncio.sleep(limits.start_gap_seconds)
        except RecapError as trouble:  # of the listing
            self.run.stop_claiming(trouble)
        finally:
            while self.tasks:
                await asyncio.wait(set(self.tasks))
        if self.defects:
            raise self.defects[0]

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if defect := task.exception():
            self.defects.append(defect)

    async def _send(self, listed: UserDocument) -> None:
        run, uid, day = self.run, listed.uid, self.selection.day
        try:
            await run.pace.wait()
            entry = await finish(run, await open_day(run, listed, day, again=False), PATIENCE)
            kind = entry.state.value
            if entry.state is not DayState.SENT and await expected(run, listed, day) == NOTHING_TO_SAY:
                kind = NOTHING_TO_SAY
            self._count(kind, "" if entry.state is DayState.SENT else f"{uid}: {kind}.")
        except Refused as refused:
            if refused.wait is not None:
                self.waiting[uid] = run.services.clock.seconds() + refused.wait.total_seconds()
            else:
                self._count(refused.kind, "" if refused.kind == "had theirs" else str(refused))
        except Unfinished as unfinished:
            self._count(UNFINISHED, "" if run.is_stopping else str(unfinished))
        except (Malformed, KeyTrouble, ItemFault) as flaw:  # this user's own
            self._count(UNFINISHED, f"{uid} {day}: {flaw}")
        except StoreDown as failure:
            run.read_breaker.record_failure(failure)  # many in a row stop the command
            self._count(UNFINISHED, "" if run.is_stopping else f"{uid} {day}: {failure}")
        except RecapError as trouble:
            run.stop_claiming(trouble)
            self._count(UNFINISHED, "")

    def _count(self, kind: str, sentence: str) -> None:
        self.counts[kind] += 1
        if sentence:
            self.sentences += 1
            if self.sentences <= MAX_SENTENCES:
                say_wrapped(sentence, "    ", "  ")

    async def _whose_wait_is_over(self) -> AsyncGenerator[UserDocument]:
        wait = min(LONGEST_WAIT.total_seconds(), min(self.waiting.values()) - self.run.services.clock.seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(LOOK_AGAIN.total_seconds(), wait)):
                await self.run.terminated.wait()
        now = self.run.services.clock.seconds()
        for uid in [uid for uid, due in self.waiting.items() if due <= now]:
            if self.stops:
                return
            listed = await self.run.services.store.user_document(uid)
            if listed is not None:
                yield listed
            else:
                del self.waiting[uid]
                self._count("erased", "")

    def print_summary(self) -> None:
        """The counts, and what was pushed and asked."""
        self.counts[UNFINISHED] += len(self.waiting)
        if self.sentences > MAX_SENTENCES:
            say_wrapped(f"and {self.sentences - MAX_SENTENCES} more that were not sent", "    ", "  ")
        calls = self.run.services.summarizer.calls if self.run.services.summarizer else 0
        self._print_counts(f"; {self.run.counts.pushes} pushes, {calls} LLM calls")

    def _print_counts(self, more: str) -> None:
        kinds = sorted(self.counts, key=lambda kind: (kind != "sent", kind))
        counts = ", ".join(f"{self.counts[kind]} {kind}" for kind in kinds if self.counts[kind]) or "no user"
        say_wrapped(f"{self.selection.day}: {counts}{more}.", "    ", "")

    def exit_code(self) -> int:
        """0 or 5; raises what stopped it, or Unfinished."""
        if self.run.trouble is not None:
            raise self.run.trouble
        if self.counts[UNFINISHED] or self.run.terminated.is_set():
            raise Unfinished("Not all of them were finished; the same command goes on where this one stopped.")
        return 5 if any(self.counts[kind] for kind in WITHOUT_RECAP) else 0


async def expected(run: Run, listed: UserDocument, day: date) -> str:
    """What a resend would be counted as, by reads alone. Raises Refused."""
    user, _, ledgers = await check(run, listed, day)
    [record] = await run.services.claims.read([user_key(user.uid, day)])
    now = await run.services.claims.now()
    if live_for(record, now):
        return "being sent"
    today = ledgers.today
    match ledgers.gate(today if today is not None and today.state.without_text else None):
        case Gate.UNREADABLE | Gate.INVERTED:
            return UNFINISHED
        case Gate.OPEN:
            taken = take("-", Snapshot(today, now), run.services.limits.ledger_rules).step
            return {NextStep.BUSY: "being sent", NextStep.FINAL: DayState.GAVE_UP.value}.get(taken, "sent")
        case Gate.ENDED | Gate.LEGACY:
            return "sent"  # its recap is stored
    material = (await read_conversations(run.services.store, ledgers)).material(run.services.limits.min_words)
    return "sent" if material is not None else NOTHING_TO_SAY
