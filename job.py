"""Daily Recap: started every minute by a scheduler, serves the users whose local hour has come.

Exit codes: 0 all handled or safely waiting; 1 a defect; 2 usage; 3 bad configuration;
4 a dependency stopped the run; 5 somebody's day ended without a recap.
"""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # loading takes a moment

    def _stopped(*_: object) -> None:
        os.write(2, b"Stopped before it began; nothing was claimed.\n")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)  # as a shell expects of who was interrupted

    signal.signal(signal.SIGINT, _stopped)

import asyncio
import faulthandler
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
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
from notifications.commands.progress import Ended, Previews, code_of, exit_code, print_summary, shown
from notifications.commands.terminal import complain, say, use_safe_streams
from notifications.domain.errors import ConfigFault, DependencyDown, Malformed, RecapError
from notifications.outbound import outbound
from notifications.ports import Claims
from notifications.run.state import NullTelemetry, Parts
from notifications.run.termination import Termination
from notifications.run.tick import Tick
from notifications.settings import Settings, is_on_platform, load

FAREWELL_SECONDS = 0.5  # of the platform's last: then it kills
MINUTE = 60
events = structlog.get_logger()


def main(arguments: list[str]) -> int:
    """Run one command; every error ends here as one sentence and an exit code."""
    os.umask(0o077)  # what is stored here is people's conversations
    use_safe_streams()
    try:
        command = parse(arguments)
        settings = load()
        _set_outbound()
        log.configure(settings.log_format, on_platform=settings.on_platform)
        command.check(settings)
        _check_folder(settings)
        if settings.summarizer == "extract":
            events.warning("summarizer.extract", reason="RECAP_SUMMARIZER=extract: recaps are made without an LLM.")
        if settings.on_platform and not settings.fcm:
            events.warning("push.outbox", reason="RECAP_STORE=sqlite: pushes stay in outbox.jsonl, and reach no phone.")
        return asyncio.run(_watched(settings, partial(_dispatch, command, settings)))
    except RecapError as error:
        return _refused(error)


def _set_outbound() -> None:
    """The same way out for each client that reads the environment."""
    for name, value in outbound(os.environ).items():
        if value:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


def _check_folder(settings: Settings) -> None:
    """A path that begins where the job was started needs that folder."""
    if settings.data_dir.is_absolute() or (settings.redis_url and settings.firestore):
        return
    try:
        os.getcwd()
    except OSError:
        raise ConfigFault(
            "The folder that the job was started in is gone; start it from one that is there, or set RECAP_DATA_DIR to "
            "an absolute path."
        ) from None


def _refused(error: RecapError) -> int:
    """One sentence and an exit code; where the log is a platform's, as an event like all others."""
    sentence, code = f"{type(error).__name__}: {error}" if isinstance(error, Malformed) else str(error), code_of(error)
    env = {name: value for name, value in os.environ.items() if value.strip()}
    if is_on_platform(env):
        log.configure("console" if env.get("RECAP_LOG_FORMAT") == "console" else "json", on_platform=True)
        events.error("run.refused", reason=sentence, exit_code=code)
    else:
        complain(sentence)
    return code


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
            _refused(trouble)
        try:
            async with asyncio.timeout(MINUTE - time.time() % MINUTE):
                await terminated.wait()
        except TimeoutError:
            pass
    return 0


async def _once(command: Command, settings: Settings, terminated: Termination) -> int:
    """One command; or one tick, and its heartbeat where one is set. A wish for one user or another time has none."""
    beat = wiring.heartbeat(settings) if command.is_the_schedulers else None
    if beat is None:
        return (await _opened(command, settings, terminated)).code
    beat.start()
    ended = Ended(1, "A defect ended this run; its log has the trace.")
    try:
        ended = await _opened(command, settings, terminated)
    except RecapError as error:
        ended = Ended(code_of(error), str(error))
        raise
    finally:
        await beat.end(*ended)
    return ended.code


async def _opened(command: Command, settings: Settings, terminated: Termination) -> Ended:
    if command.dry_run and wiring.is_untouched(settings):
        say(f"Nothing is here yet: {settings.data_dir} is new; python job.py fills it with sample users.")
        return Ended(0)
    try:
        async with AsyncExitStack() as stack:
            async with terminated.timeout(math.inf):  # a lock that another holds is not waited for beyond SIGTERM
                claims = await stack.enter_async_context(wiring.open_claims(settings))
            return await _with_claims(command, settings, claims, terminated)
    except TimeoutError:
        if terminated.is_set():
            return Ended(0)
        raise


async def _with_claims(command: Command, settings: Settings, claims: Claims, terminated: Termination) -> Ended:
    begun, previews, farewell = time.monotonic(), Previews(), AsyncExitStack()
    offset = command.now - await claims.now() if command.now else timedelta(0)

    @asynccontextmanager
    async def opening() -> AsyncIterator[Parts]:
        telemetry = wiring.telemetry(settings) if command.operation is None else NullTelemetry()
        farewell.push_async_callback(telemetry.aclose)
        async with AsyncExitStack() as stack:
            async with terminated.timeout(math.inf):
                fills, sends = command.fills, command.sends
                opened = wiring.open_parts(settings, claims, previews, offset, telemetry, fills=fills, sends=sends)
                parts = await stack.enter_async_context(opened)
            yield parts

    since = wiring.served_since(settings)
    try:
        if command.operation:
            context = Context(settings, claims, opening, offset, terminated, wiring.sample_users, shown, since)
            return Ended(await command.operation(context))
        task, tasks = settings.task_index, settings.task_count
        tick = Tick(claims, settings.limits, opening, terminated, offset, task, tasks, shown, since)
        report = await (tick.run_user(command.user) if command.user else tick.run())
        previews.log_suppressed_counts()
        seconds = time.monotonic() - begun
        events.info("tick.finished", **report.as_event(), seconds=round(seconds, 3), exit_code=exit_code(report))
        log.log_suppressed_counts()
        return print_summary(report, seconds, in_words=not settings.on_platform)
    finally:  # where it did not come to its end, and after a command
        previews.log_suppressed_counts()
        log.log_suppressed_counts()
        await farewell.aclose()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
