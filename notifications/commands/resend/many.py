"""`resend --date D --where missed,dead,unserved`: each of them through the claim, once, however often it is repeated.

Who is chosen is read from the ledgers each time, so a command that was killed goes on where it stopped. What a killed
one left open is its own: the same command finishes it, after the lease of whoever died with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from notifications.commands.joined import Asked, Joined, Row
from notifications.commands.operation import Context, Operation
from notifications.commands.resend import Refused
from notifications.commands.resend.each import TOLD_AT_MOST, UNFINISHED, Many, Which, likely_answer
from notifications.commands.terminal import say_wrapped
from notifications.domain.errors import Unfinished
from notifications.ports import Listed
from notifications.run.state import Run

LEFT_WITHOUT = ("missed", "dead", "gave_up", "unreadable document")


def resend_many(which: Which, *, write: bool) -> Operation:
    """The operation. Exit 0 where each has it; 5 where somebody is left without; else what stopped it."""

    async def run(context: Context) -> int:
        async with context.open_parts() as parts:
            run = Run(parts, context.offset, context.terminated)
            await run.agree_on_time()
            now = await context.claims.now() + context.offset
            joined = Joined(parts.store, Asked(which.day, now, parts.rules, context.since))
            many = Many(run, which)
            if not write:
                await _would(many, _chosen(joined, which))
                return 0
            try:
                async with context.shown(lambda: many.progress):
                    await _carry_out(many, _chosen(joined, which))
            finally:
                _tell(many)
        return _code(many)

    return run


async def _chosen(joined: Joined, which: Which) -> AsyncGenerator[Listed]:
    async with aclosing(joined.rows()) as rows:
        async for row in rows:
            if is_meant(row, which.where):
                yield row.listed


def is_meant(row: Row, where: frozenset[str]) -> bool:
    """Whether its day stands so; or an operator's command opened it, and did not finish."""
    return row.standing in where or row.stopped


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
    """Whatever ended it, what came of each."""
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
