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

from notifications.commands.operation import Context
from notifications.commands.resend import LONGEST_WAIT, LOOK_AGAIN, Refused, carry_out, check, live_for, wish
from notifications.commands.terminal import say_wrapped
from notifications.commands.user_days import DayQuery, UserDay, UserDays
from notifications.domain.claim import user_key
from notifications.domain.delivery import REPLACEABLE, NextStep, Snapshot, take
from notifications.domain.errors import ItemFault, KeyTrouble, Malformed, RecapError, StoreDown, Unfinished
from notifications.domain.model import DayState
from notifications.ports import Listed
from notifications.run.day_input import Gate, read_conversations
from notifications.run.outcome import Progress
from notifications.run.state import Run

TOLD_AT_MOST = 20  # of those who were not sent: the rest is counted
NOTHING_TO_SAY = "nothing to say"
UNFINISHED = "unfinished"
COUNTED = ("sent", "missed", "dead", "gave_up", UNFINISHED)  # against --limit: not who can't be sent to
PATIENCE = timedelta(seconds=5)  # that keeps a worker; beyond it others are served meanwhile


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
    later: dict[str, float] = field(default_factory=dict)  # who waits, and until when, on the parts' clock
    told: int = 0
    serving: set[asyncio.Task[None]] = field(default_factory=set)
    defects: list[BaseException] = field(default_factory=list)

    @property
    def progress(self) -> Progress:
        done = self.counts.total()
        return Progress(done, done + len(self.serving) + len(self.later), len(self.later))

    @property
    def stops(self) -> bool:
        """Whether nobody further is begun."""
        return self.run.stops or bool(self.defects)

    async def served(self, chosen: AsyncGenerator[Listed]) -> None:
        """Each of them, as many at once as a tick serves. Nobody's push is cancelled by another's trouble."""
        gaps = self.run.limits.concurrency
        try:
            async with aclosing(chosen):
                async for listed in chosen:
                    waited = self.later.pop(listed.uid, None)
                    await self._a_place()
                    if self.stops or not self.has_room:
                        if waited is not None:
                            self.later[listed.uid] = waited
                        break
                    task = asyncio.create_task(self._serve(listed))
                    self.serving.add(task)
                    task.add_done_callback(self._ended)
                    gaps -= 1
                    if gaps > 0:
                        await asyncio.sleep(self.run.limits.start_gap_seconds)
        except RecapError as trouble:  # of the listing
            self.run.stop_claiming(trouble)
        finally:
            while self.serving:
                await asyncio.wait(set(self.serving))
        if self.defects:
            raise self.defects[0]

    async def _a_place(self) -> None:
        """A free worker; and, where a limit is near, whoever may still turn out not to count against it."""
        while self.serving and (len(self.serving) >= self.run.limits.concurrency or not self.has_room):
            await asyncio.wait(set(self.serving), return_when=asyncio.FIRST_COMPLETED)

    @property
    def has_room(self) -> bool:
        """Whether one more may be begun. Who can't be sent to does not count against the limit."""
        limit = self.which.limit
        counted = sum(self.counts[kind] for kind in COUNTED) + len(self.serving) + len(self.later)
        return limit is None or counted < limit

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.serving.discard(task)
        if defect := task.exception():
            self.defects.append(defect)

    async def _serve(self, listed: Listed) -> None:
        run, uid, day = self.run, listed.uid, self.which.day
        try:
            await run.pace.turn_to_ask()
            entry = await carry_out(run, await wish(run, listed, day, again=False), PATIENCE)
            kind = entry.state.value
            if entry.state is not DayState.SENT and await likely_answer(run, listed, day) == NOTHING_TO_SAY:
                kind = NOTHING_TO_SAY
            self._note(kind, "" if entry.state is DayState.SENT else f"{uid}: {kind}.")
        except Refused as refused:
            if refused.wait is not None:
                self.later[uid] = run.clock.seconds() + refused.wait.total_seconds()
            else:
                self._note(refused.why, "" if refused.why == "had theirs" else str(refused))
        except Unfinished as unfinished:
            self._note(UNFINISHED, "" if run.stops else str(unfinished))
        except (Malformed, KeyTrouble, ItemFault) as flaw:  # this user's own
            self._note(UNFINISHED, f"{uid} {day}: {flaw}")
        except StoreDown as failure:
            run.reads.failed(failure)  # many in a row stop the command
            self._note(UNFINISHED, "" if run.stops else f"{uid} {day}: {failure}")
        except RecapError as trouble:
            run.stop_claiming(trouble)
            self._note(UNFINISHED, "")

    def _note(self, kind: str, sentence: str) -> None:
        self.counts[kind] += 1
        if sentence:
            self.told += 1
            if self.told <= TOLD_AT_MOST:
                say_wrapped(sentence, "    ", "  ")

    async def again(self) -> AsyncGenerator[Listed]:
        """Those that wait, each when its own wait is over."""
        wait = min(LONGEST_WAIT.total_seconds(), min(self.later.values()) - self.run.clock.seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(LOOK_AGAIN.total_seconds(), wait)):
                await self.run.terminated.wait()
        now = self.run.clock.seconds()
        for uid in [uid for uid, due in self.later.items() if due <= now]:
            if self.stops:
                return
            listed = await self.run.store.user(uid)
            if listed is not None:
                yield listed
            else:
                del self.later[uid]
                self._note("erased", "")


async def likely_answer(run: Run, listed: Listed, day: date) -> str:
    """What a resend would come to, by reads alone. Raises Refused."""
    user, _, ledgers = await check(run, listed, day)
    [record] = await run.claims.read([user_key(user.uid, day)])
    now = await run.claims.now()
    if live_for(record, now):
        return "being sent"
    today = ledgers.today
    match ledgers.gate(today if today is not None and today.state in REPLACEABLE else None):
        case Gate.UNREADABLE | Gate.INVERTED:
            return UNFINISHED
        case Gate.OPEN:
            taken = take("-", Snapshot(today, now), run.limits.ledger_rules).step
            return {NextStep.BUSY: "being sent", NextStep.FINAL: DayState.GAVE_UP.value}.get(taken, "sent")
        case Gate.ENDED | Gate.LEGACY:
            return "sent"  # its recap is stored
    found = (await read_conversations(run.store, ledgers)).material(run.limits.min_words)
    return "sent" if found is not None else NOTHING_TO_SAY


LEFT_WITHOUT = ("missed", "dead", "gave_up", "unreadable document")


async def resend_many(which: Which, context: Context, *, write: bool) -> int:
    """Exit 0 where each has it; 5 where somebody is left without; else what stopped it."""
    async with context.open_parts() as parts:
        run = Run(parts, context.offset, context.terminated)
        await run.agree_on_time()
        now = await context.claims.now() + context.offset
        days = UserDays(parts.store, DayQuery(which.day, now, parts.rules, context.since))
        many = Many(run, which)
        if not write:
            await _would(many, _chosen(days, which))
            return 0
        try:
            async with context.shown(lambda: many.progress):
                await _carry_out(many, _chosen(days, which))
        finally:
            _tell(many)
    return _code(many)


async def _chosen(days: UserDays, which: Which) -> AsyncGenerator[Listed]:
    async with aclosing(days.rows()) as rows:
        async for row in rows:
            if is_meant(row, which.where):
                yield row.listed


def is_meant(row: UserDay, where: frozenset[str]) -> bool:
    """Whether its day stands so; or an operator's command opened it, and did not finish."""
    return row.state in where or row.stopped


async def _carry_out(many: Many, chosen: AsyncGenerator[Listed]) -> None:
    run = many.run
    await run.pace.look()
    following = asyncio.create_task(run.pace.follow())
    try:
        await many.served(chosen)
        if many.later and not run.stops:
            say_wrapped(f"{len(many.later)} wait: for a device, or for the lease of a run, which may have died.", "  ")
        while many.later and not run.stops:
            await many.served(many.again())
        await run.pusher.delete_dead_tokens(run.store)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def _tell(many: Many) -> None:
    run = many.run
    many.counts[UNFINISHED] += len(many.later)
    if many.told > TOLD_AT_MOST:
        say_wrapped(f"and {many.told - TOLD_AT_MOST} more that were not sent", "    ", "  ")
    calls = run.summarizer.calls if run.summarizer else 0
    spent = f"; {run.counts.pushes} pushes, {calls} LLM calls"
    _say_counts(many, spent)


def _code(many: Many) -> int:
    run, counts = many.run, many.counts
    if run.trouble is not None:
        raise run.trouble
    if counts[UNFINISHED] or run.terminated.is_set():
        raise Unfinished("Not all of them were finished; the same command goes on where this one stopped.")
    return 5 if any(counts[kind] for kind in LEFT_WITHOUT) else 0


def _say_counts(many: Many, more: str) -> None:
    kinds = sorted(many.counts, key=lambda kind: (kind != "sent", kind))
    told = ", ".join(f"{many.counts[kind]} {kind}" for kind in kinds if many.counts[kind]) or "nobody"
    say_wrapped(f"{many.which.day}: {told}{more}.", "    ", "")


async def _would(many: Many, chosen: AsyncGenerator[Listed]) -> None:
    """The same counts, by the same checks; nothing is written, asked or pushed."""
    async with aclosing(chosen):
        async for listed in chosen:
            if not many.has_room:
                break
            try:
                many.counts[await likely_answer(many.run, listed, many.which.day)] += 1
            except Refused as refused:
                many.counts[refused.why] += 1
    _say_counts(many, " (dry run: nothing was claimed, sent or written)")
