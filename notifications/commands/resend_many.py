"""`resend --date D --where missed,dead,unserved`: each of them through the claim, once, however often it is repeated.

Who is chosen is read from the ledgers each time, so a command that was killed goes on where it stopped. What a killed
one left open is its own: the same command finishes it, after the lease of whoever died with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta

from notifications.commands.joined import Asked, Joined, Row
from notifications.commands.operation import Context, Operation
from notifications.commands.resend import LOOK_AGAIN, Refused, carry_out, check, live_for, wish
from notifications.commands.terminal import say_wrapped
from notifications.domain.claim import user_key
from notifications.domain.errors import RecapError, Unfinished
from notifications.domain.model import State
from notifications.domain.recap.material import material
from notifications.domain.schedule import ONE_DAY, window
from notifications.ports import Listed
from notifications.run.outcome import Progress
from notifications.run.state import Run

TOLD_AT_MOST = 20  # of those who were not sent: the rest is counted
NOTHING_TO_SAY = "nothing to say"
UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Which:
    """Whose days are meant: those that stand so, `limit` at most."""

    day: date
    where: frozenset[str]
    limit: int | None = None


@dataclass(slots=True)
class Many:
    """The days of one command, and what came of each: every one is in exactly one count."""

    run: Run
    which: Which
    counts: Counter[str] = field(default_factory=Counter)
    later: list[tuple[str, timedelta]] = field(default_factory=list)  # held by a run, or by one that died
    told: int = 0
    begun: int = 0

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self.counts.total(), self.begun, len(self.later))

    async def served(self, chosen: AsyncGenerator[Listed]) -> None:
        """Each of them, as many at once as a tick serves. Nobody's push is cancelled by another's trouble."""
        limits = self.run.limits
        free, gaps = asyncio.Semaphore(limits.concurrency), limits.concurrency
        serving: set[asyncio.Task[None]] = set()
        defects: list[BaseException] = []

        def ended(task: asyncio.Task[None]) -> None:
            serving.discard(task)
            free.release()
            if defect := task.exception():
                defects.append(defect)

        try:
            async with aclosing(chosen):
                async for listed in chosen:
                    await free.acquire()
                    if self.run.stops or defects:
                        break
                    self.begun += 1
                    task = asyncio.create_task(self._serve(listed))
                    serving.add(task)
                    task.add_done_callback(ended)
                    gaps -= 1
                    if gaps > 0:
                        await asyncio.sleep(limits.start_gap_seconds)
        finally:
            while serving:
                await asyncio.wait(set(serving))
        if defects:
            raise defects[0]

    async def _serve(self, listed: Listed) -> None:
        run, uid = self.run, listed.uid
        try:
            await run.pace.turn_to_ask()
            entry = await carry_out(run, await wish(run, listed, self.which.day, again=False))
        except Refused as refused:
            if refused.wait is not None:
                self.later.append((uid, refused.wait))
                return
            self._note(refused.why, "" if refused.why == "had theirs" else str(refused))
        except Unfinished as unfinished:
            self._note(UNFINISHED, "" if run.stops else str(unfinished))
        except RecapError as trouble:
            run.stop_claiming(trouble)
            self._note(UNFINISHED, "")
        else:
            said = entry.state.value
            if entry.state is not State.SENT and await _answer(run, listed, self.which.day) == NOTHING_TO_SAY:
                said = NOTHING_TO_SAY
            self._note(said, "" if entry.state is State.SENT else f"{uid}: {said}.")

    def _note(self, kind: str, sentence: str) -> None:
        self.counts[kind] += 1
        if sentence:
            self.told += 1
            if self.told <= TOLD_AT_MOST:
                say_wrapped(sentence, "    ", "  ")

    async def again(self) -> AsyncGenerator[Listed]:
        """Those that were held, as soon as whoever held them may be taken for dead."""
        waiting, self.later = self.later, []
        self.begun -= len(waiting)
        stale = self.run.limits.span("sending_stale")
        wait = min(max(LOOK_AGAIN, min(left for _, left in waiting)), stale)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait.total_seconds()):
                await self.run.terminated.wait()
        for uid, _ in waiting:
            listed = await self.run.store.user(uid)
            if listed is not None:
                yield listed
            else:
                self._note("erased", "")


def resend_many(which: Which, *, write: bool) -> Operation:
    """The operation. Exit 0 where each has it; 5 where somebody is left without; else what stopped it."""

    async def run(context: Context) -> int:
        async with context.open_parts() as parts:
            run = Run(parts, context.offset, context.terminated)
            now = await context.claims.now() + context.offset
            joined = Joined(parts.store, Asked(which.day, now, parts.rules, context.since))
            many = Many(run, which)
            if not write:
                await _would(many, _chosen(joined, which))
                return 0
            async with context.shown(lambda: many.progress):
                await _carry_out(many, _chosen(joined, which))
        return _finished(many)

    return run


async def _chosen(joined: Joined, which: Which) -> AsyncGenerator[Listed]:
    left = which.limit
    async with aclosing(joined.rows()) as rows:
        async for row in rows:
            if left == 0:
                return
            if is_meant(row, which.where):
                left = left - 1 if left is not None else None
                yield row.listed


def is_meant(row: Row, where: frozenset[str]) -> bool:
    """Whether its day stands so; or an operator's command opened it, and did not finish."""
    return row.standing in where or row.stopped


async def _carry_out(many: Many, chosen: AsyncGenerator[Listed]) -> None:
    run = many.run
    following = asyncio.create_task(run.pace.follow())
    try:
        await many.served(chosen)
        while many.later and not run.stops:
            say_wrapped(f"{len(many.later)} are held by a run, or by one that died; they wait for its lease.", "  ")
            await many.served(many.again())
        many.counts[UNFINISHED] += len(many.later)
        await run.pusher.delete_dead_tokens(run.store)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def _finished(many: Many) -> int:
    run, counts = many.run, many.counts
    if many.told > TOLD_AT_MOST:
        say_wrapped(f"and {many.told - TOLD_AT_MOST} more that were not sent", "    ", "  ")
    calls = run.summarizer.calls if run.summarizer else 0
    spent = f"; {run.counts.pushes} pushes, {calls} LLM calls"
    _say_counts(many, spent)
    if run.trouble is not None:
        raise run.trouble
    if counts[UNFINISHED] or run.terminated.is_set():
        raise Unfinished("Not all of them were finished; the same command goes on where this one stopped.")
    left = sum(counts[state.value] for state in (State.MISSED, State.DEAD, State.GAVE_UP))
    return 5 if left else 0


def _say_counts(many: Many, more: str) -> None:
    kinds = sorted(many.counts, key=lambda kind: (kind != "sent", kind))
    told = ", ".join(f"{many.counts[kind]} {kind}" for kind in kinds if many.counts[kind]) or "nobody"
    say_wrapped(f"{many.which.day}: {told}{more}.", "    ", "")


async def _would(many: Many, chosen: AsyncGenerator[Listed]) -> None:
    """The same counts, by the same checks; nothing is written, asked or pushed."""
    async with aclosing(chosen):
        async for listed in chosen:
            try:
                many.counts[await _answer(many.run, listed, many.which.day)] += 1
            except Refused as refused:
                many.counts[refused.why] += 1
    _say_counts(many, " (dry run: nothing was claimed, sent or written)")


async def _answer(run: Run, listed: Listed, day: date) -> str:
    user, slot = await check(run, listed, day)
    [record] = await run.claims.read([user_key(user.uid, day)])
    if live_for(record, await run.claims.now()):
        return "being sent"
    ledgers = await run.store.ledgers_between(user.uid, day - 3 * ONE_DAY, day + 2 * ONE_DAY)
    today = ledgers.pop(day, None)
    if today is not None and today.state in (State.GAVE_UP, State.SENDING, State.PENDING):
        return "sent"  # its recap is stored
    covered = window(slot, ledgers)
    said, _ = ([], 0) if covered.empty else await run.store.conversations_in(user.uid, covered)
    tells = material(day, said, user.language, user.zone, run.limits.min_words) is not None
    return "sent" if tells else NOTHING_TO_SAY
