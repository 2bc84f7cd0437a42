"""Daily Recap: started every minute by a scheduler, serves the users whose local hour has come.

Exit codes: 0 all handled or safely waiting; 1 a defect; 2 usage; 3 bad configuration;
4 a dependency stopped the run; 5 somebody's day ended without a recap.
"""

from __future__ import annotations

import asyncio
import faulthandler
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, timedelta
from functools import partial

try:
    import structlog
except ModuleNotFoundError as missing:
    print(
        f"{missing.name} is not installed for this Python; make run installs it: .venv/bin/python job.py.",
        file=sys.stderr,
    )
    sys.exit(3)

from notifications import log, wiring
from notifications.commands.cli import Command, parse
from notifications.commands.operation import Context
from notifications.commands.progress import Previews, shown
from notifications.commands.terminal import complain, say, say_line, steady_streams
from notifications.domain.errors import ConfigFault, DependencyDown, Malformed, RecapError, UsageFault
from notifications.ports import Claims
from notifications.run.outcome import Ending
from notifications.run.state import Parts, Report
from notifications.run.termination import Termination
from notifications.run.tick import Tick
from notifications.settings import Settings, load

FAREWELL_SECONDS = 0.5  # of the platform's last: then it kills
MINUTE = 60
events = structlog.get_logger()


def main(arguments: list[str]) -> int:
    """Run one command; every error ends here as one sentence and an exit code."""
    os.umask(0o077)  # what is stored here is people's conversations
    steady_streams()
    try:
        command = parse(arguments)
        settings = load()
        log.configure(settings.log_format, on_platform=settings.on_platform)
        command.check(settings)
        if settings.summarizer == "extract":
            events.warning("summarizer.extract", reason="RECAP_SUMMARIZER=extract: recaps are made without an LLM.")
        return asyncio.run(_watched(settings, partial(_dispatch, command, settings)))
    except RecapError as error:
        complain(f"{type(error).__name__}: {error}" if isinstance(error, Malformed) else str(error))
        return code_of(error)


def code_of(error: RecapError) -> int:
    """The exit code that tells what ended the run."""
    match error:
        case UsageFault():
            return 2
        case ConfigFault():
            return 3
        case DependencyDown():
            return 4
        case _:
            return 1


def exit_code(report: Report) -> int:
    """What on-call hears first: 3, 4, 1, then 5, somebody's day ended without a recap."""
    if report.trouble is not None:
        return code_of(report.trouble)
    if report.defects:
        return 1
    return 5 if report.counts.without_a_recap or report.unserved else 0


async def _watched(settings: Settings, work: Callable[[Termination], Awaitable[int]]) -> int:
    """The work, told of SIGTERM by an event, and killed if the loop stalls: a stalled loop can't renew."""
    terminated = Termination()
    loop = asyncio.get_running_loop()

    def terminate() -> None:
        if not terminated.is_set():
            loop.call_later(settings.limits.stop_seconds - FAREWELL_SECONDS, os._exit, 4)
            terminated.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, terminate)
    watchdog = asyncio.create_task(_keep_alive(settings.limits.watchdog_seconds))
    try:
        return await work(terminated)
    finally:
        watchdog.cancel()
        faulthandler.cancel_dump_traceback_later()


async def _keep_alive(seconds: float) -> None:
    while True:
        faulthandler.dump_traceback_later(seconds, exit=True)
        await asyncio.sleep(seconds / 3)


async def _dispatch(command: Command, settings: Settings, terminated: Termination) -> int:
    if command.every_minute:
        return await _every_minute(command, settings, terminated)
    return await _once(command, settings, terminated)


async def _every_minute(command: Command, settings: Settings, terminated: Termination) -> int:
    """Tick on the minute until told to stop. A server that is down now may be back by the next."""
    while not terminated.is_set():
        try:
            await _once(command, settings, terminated)
        except DependencyDown as trouble:
            complain(str(trouble))
        try:
            async with asyncio.timeout(MINUTE - time.time() % MINUTE):
                await terminated.wait()
        except TimeoutError:
            pass
    return 0


async def _once(command: Command, settings: Settings, terminated: Termination) -> int:
    if command.dry_run and wiring.is_untouched(settings):
        say(f"Nothing is here yet: {settings.data_dir} is new; python job.py fills it with sample users.")
        return 0
    try:
        async with AsyncExitStack() as stack:
            async with terminated.timeout(math.inf):  # a lock that another holds is not waited for beyond SIGTERM
                claims = await stack.enter_async_context(wiring.open_claims(settings))
            return await _with_claims(command, settings, claims, terminated)
    except TimeoutError:
        if terminated.is_set():
            return 0
        raise


async def _with_claims(command: Command, settings: Settings, claims: Claims, terminated: Termination) -> int:
    begun, previews = time.monotonic(), Previews()
    offset = command.now - await claims.now() if command.now else timedelta(0)

    @asynccontextmanager
    async def opening() -> AsyncIterator[Parts]:
        async with AsyncExitStack() as stack:
            async with terminated.timeout(math.inf):
                opened = wiring.open_parts(settings, claims, previews, offset, fills=command.fills, sends=command.sends)
                parts = await stack.enter_async_context(opened)
            yield parts

    since = wiring.served_since(settings)
    try:
        if command.operation:
            return await command.operation(
                Context(settings, claims, opening, offset, terminated, wiring.sample_users, shown, since)
            )
        task, tasks = settings.task_index, settings.task_count
        tick = Tick(claims, settings.limits, opening, terminated, offset, task, tasks, shown, since)
        report = await (tick.run_user(command.user) if command.user else tick.run())
        previews.tell_rest()
        _tell(report, time.monotonic() - begun, in_words=not settings.on_platform)
        return exit_code(report)
    finally:  # where it did not come to its end, and after a command
        previews.tell_rest()
        log.tell_rest()


def _tell(report: Report, seconds: float, *, in_words: bool) -> None:
    """One event with every count; and, but where both would be one log, a line for a person."""
    counts = report.counts
    events.info(
        "tick.finished",
        **counts.as_event(),
        llm_calls=report.llm_calls,
        tokens_used=report.tokens_used,
        defects=report.defects,
        documents_read=report.documents_read,
        documents_written=report.documents_written,
        unserved_shards=report.unserved,
        idle=report.idle,
        seconds=round(seconds, 3),
    )
    log.tell_rest()
    for line in _lines(report, seconds) if in_words else []:
        say_line(line)
    if report.trouble:
        complain(str(report.trouble))


def _lines(report: Report, seconds: float) -> list[str]:
    """What happened, in words: each due user in exactly one of the figures."""
    at = f"{report.now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    lines = []
    if report.unserved:
        lines.append(f"{at}: {report.unserved} slots went by unserved; audit --date says who was due.")
    if report.idle:
        return [*lines, f"{at}: nothing to do; everyone who is due has had their recap, or waits for a retry."]
    counts = report.counts
    figures = ((counts.endings[ending], SAID.get(ending, ending.value)) for ending in Ending)
    told = ", ".join(f"{figure} {word}" for figure, word in figures if figure) or "nobody due"
    return [*lines, f"{at}: {told}; {counts.pushes} pushes, {report.llm_calls} LLM calls, {seconds:.1f} s."]


SAID = {Ending.DONE_BEFORE: "had theirs already", Ending.GAVE_UP: "given up", Ending.LOST: "lost to another run"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
