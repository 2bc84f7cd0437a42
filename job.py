"""Daily Recap: started every minute by a scheduler, serves the users whose local hour has come.

Exit codes: 0 all handled or safely waiting; 1 a defect; 2 usage; 3 bad configuration;
4 a dependency stopped the run.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from notifications import config, log, wiring
from notifications.commands import Command, parse
from notifications.domain.errors import ConfigFault, DependencyDown, Malformed, RecapError, UsageFault
from notifications.domain.push import Message
from notifications.one_user import tick_user
from notifications.operation import Context
from notifications.report import Report
from notifications.samples import created
from notifications.termination import Termination
from notifications.tick import tick

EXIT_WITHIN_SECONDS = 9.5  # of SIGTERM; the platform kills at 10
MINUTE = 60
events = structlog.get_logger()


def main(arguments: list[str]) -> int:
    """Run one command; every error ends here as one sentence and an exit code."""
    try:
        command = parse(arguments)
        settings = config.load()
        log.configure(settings.log_format, on_platform=settings.on_platform)
        command.check(settings)
        return asyncio.run(_watched(settings, partial(_dispatch, command, settings)))
    except RecapError as error:
        print(f"{type(error).__name__}: {error}" if isinstance(error, Malformed) else str(error), file=sys.stderr)
        return exit_code(error)


def exit_code(error: RecapError | None, defects: int = 0) -> int:
    """The exit code that tells what ended the run."""
    match error:
        case UsageFault():
            return 2
        case ConfigFault():
            return 3
        case DependencyDown():
            return 4
        case None if not defects:
            return 0
        case _:
            return 1


async def _watched(settings: config.Settings, work: Callable[[Termination], Awaitable[int]]) -> int:
    """The work, told of SIGTERM by an event, and killed if the loop stalls: a stalled loop can't renew."""
    terminated = Termination()
    loop = asyncio.get_running_loop()

    def terminate() -> None:
        if not terminated.is_set():
            loop.call_later(EXIT_WITHIN_SECONDS, os._exit, 4)
            terminated.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, terminate)
    watchdog = asyncio.create_task(_keep_alive(settings.numbers.watchdog_seconds))
    try:
        return await work(terminated)
    finally:
        watchdog.cancel()
        faulthandler.cancel_dump_traceback_later()


async def _keep_alive(seconds: float) -> None:
    while True:
        faulthandler.dump_traceback_later(seconds, exit=True)
        await asyncio.sleep(seconds / 3)


async def _dispatch(command: Command, settings: config.Settings, terminated: Termination) -> int:
    if command.every_minute:
        return await _every_minute(command, settings, terminated)
    return await _once(command, settings, terminated)


async def _every_minute(command: Command, settings: config.Settings, terminated: Termination) -> int:
    """Tick on the minute until told to stop. A server that is down now may be back by the next."""
    while not terminated.is_set():
        try:
            await _once(command, settings, terminated)
        except DependencyDown as trouble:
            print(trouble, file=sys.stderr)
        try:
            async with asyncio.timeout(MINUTE - time.time() % MINUTE):
                await terminated.wait()
        except TimeoutError:
            pass
    return 0


async def _once(command: Command, settings: config.Settings, terminated: Termination) -> int:
    begun = time.monotonic()
    async with wiring.open_claims(settings) as claims:
        offset = command.now - await claims.now() if command.now else timedelta(0)
        opening = partial(wiring.open_parts, settings, claims, _show, offset)
        if command.operation:
            return await command.operation(Context(settings, claims, opening, offset, terminated))
        if command.user:
            report = await tick_user(claims, opening, command.user, terminated=terminated, offset=offset)
        else:
            since = None if settings.project else created(settings.data_dir) or datetime.max.replace(tzinfo=UTC)
            report = await tick(claims, settings, opening, terminated=terminated, offset=offset, since=since)
    _tell(report, time.monotonic() - begun)
    return exit_code(report.trouble, report.defects)


def _tell(report: Report, seconds: float) -> None:
    """One event with every count, and one line for a person."""
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
    at = f"{report.now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if report.idle:
        print(f"{at}: nothing to do; everyone who is due has had their recap, or waits for a retry.")
    else:
        figures = (
            (counts.sent, "sent"),
            (counts.done_before, "had theirs already"),
            (counts.skipped.total(), "skipped"),
            (counts.waiting + counts.held, "waiting"),
            (counts.missed, "missed"),
            (counts.dead, "dead"),
            (counts.failed, "failed"),
        )
        told = ", ".join(f"{figure} {word}" for figure, word in figures if figure) or "nobody due"
        print(f"{at}: {told}; {counts.pushes} pushes, {report.llm_calls} LLM calls, {seconds:.1f} s.")
    if report.trouble:
        print(report.trouble, file=sys.stderr)


def _show(message: Message, device: str) -> None:
    """A push that went to the outbox, on the terminal."""
    print(f"  push to {message.uid} (device {device}): {message.title}\n    {message.body}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
