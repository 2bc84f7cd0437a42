"""Daily Recap: started every minute by a scheduler, serves the users whose local hour has come.

Exit codes: 0 all handled or safely waiting; 1 a defect; 2 usage; 3 bad configuration;
4 a dependency stopped the run; 5 a user's day ended without a recap.
"""

from __future__ import annotations

import os
import signal
import sys

# For a Ctrl-C while the imports below are loading, which takes a moment.
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:

    def _interrupted(*_: object) -> None:
        os.write(2, b"Stopped before it began; nothing was claimed.\n")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)  # a shell expects to see the signal as the cause of death

    signal.signal(signal.SIGINT, _interrupted)

import asyncio
import faulthandler
import gc
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from functools import partial

try:
    import structlog
except ModuleNotFoundError as missing:
    # `python job.py`, as it is typed: make run has put the libraries beside it, for a Python of their own.
    installed = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".venv", "bin", "python")
    if __name__ == "__main__" and sys.prefix == sys.base_prefix and os.access(installed, os.X_OK):
        os.execv(installed, [installed, *sys.argv])  # noqa: S606 - itself
    print(
        f"{missing.name} is not installed for this Python; make install installs it into .venv.",
        file=sys.stderr,
    )
    sys.exit(3)

from notifications import log, wiring
from notifications.commands.cli import Command, parse
from notifications.commands.context import Context
from notifications.commands.progress import Ended, Previews, code_of, exit_code, print_summary, show_progress
from notifications.commands.terminal import complain, on_the_real_clock, say, use_safe_streams
from notifications.domain.errors import ConfigFault, DependencyDown, Malformed, RecapError
from notifications.ports import Telemetry
from notifications.proxies import outbound
from notifications.run.state import Services
from notifications.run.termination import Termination
from notifications.run.tick import Tick
from notifications.settings import Settings, is_on_platform, load

EXIT_BEFORE_KILL_SECONDS = 0.5  # exit this long before the platform kills the process
MINUTE = 60
AHEAD = timedelta(minutes=5)
SPENT = (
    "--now is ahead: who is served has had that day's recap, and gets no other one when the day comes. Only a new "
    "data folder undoes that; --dry-run and preview look ahead and leave the day alone."
)
events = structlog.get_logger()


def main(arguments: list[str]) -> int:
    """Run one command. Every expected error becomes one sentence and an exit code here."""
    os.umask(0o077)  # the data folder holds people's conversations
    use_safe_streams()
    try:
        command = parse(arguments)
        settings = load()
        _set_proxies()
        log.configure(settings.log_format, on_platform=settings.on_platform)
        command.check(settings)
        _check_folder(settings)
        if settings.summarizer == "extract":
            events.warning("summarizer.extract", reason="RECAP_SUMMARIZER=extract: recaps are made without an LLM.")
        if settings.on_platform and not settings.fcm:
            events.warning("push.outbox", reason="RECAP_STORE=sqlite: pushes stay in outbox.jsonl, and reach no phone.")
        # By default Python collects after 700 allocations, which hundreds of users at once make all the time.
        gc.set_threshold(20_000, 50, 100)
        return asyncio.run(run_command(command, settings))
    except RecapError as error:
        return _report_error(error)


def _set_proxies() -> None:
    """Set the proxy variables in the environment, where every client reads them."""
    for name, value in outbound(os.environ).items():
        if value:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


def _check_folder(settings: Settings) -> None:
    """Raise ConfigFault if the data folder's path is relative to a working directory that is gone."""
    if settings.data_dir.is_absolute() or (settings.redis_url and settings.firestore):
        return
    try:
        os.getcwd()
    except OSError:
        raise ConfigFault(
            "The folder that the job was started in is gone; start it from one that is there, or set RECAP_DATA_DIR to "
            "an absolute path."
        ) from None


def _report_error(error: RecapError) -> int:
    """Report the error as one sentence, on a platform as a log event. Returns the exit code."""
    sentence, code = f"{type(error).__name__}: {error}" if isinstance(error, Malformed) else str(error), code_of(error)
    env = {name: value for name, value in os.environ.items() if value.strip()}
    if is_on_platform(env):
        log.configure("console" if env.get("RECAP_LOG_FORMAT") == "console" else "json", on_platform=True)
        events.error("run.refused", reason=sentence, exit_code=code)
    else:
        complain(sentence)
    return code


async def run_command(command: Command, settings: Settings) -> int:
    """Run one command; with `--every-minute` one tick each minute until SIGTERM."""
    with _supervised(settings) as terminated:
        if not command.every_minute:
            return await run_once(command, settings, terminated)
        while not terminated.is_set():
            try:
                await run_once(command, settings, terminated)
            except DependencyDown as error:  # it may be back by the next minute
                _report_error(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(MINUTE - time.time() % MINUTE):
                    await terminated.wait()
        return 0


@contextmanager
def _supervised(settings: Settings) -> Iterator[Termination]:
    """Make SIGTERM an event, and kill the process if the loop stalls, since then it can't renew its claims."""
    terminated = Termination()
    loop = asyncio.get_running_loop()

    def terminate() -> None:
        if not terminated.is_set():
            loop.call_later(settings.limits.stop_seconds - EXIT_BEFORE_KILL_SECONDS, os._exit, 4)
            terminated.set()

    async def feed_watchdog(seconds: float) -> None:
        while True:
            faulthandler.dump_traceback_later(seconds, exit=True)
            await asyncio.sleep(seconds / 3)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, terminate)
    watchdog = asyncio.create_task(feed_watchdog(settings.limits.watchdog_seconds))
    try:
        yield terminated
    finally:
        watchdog.cancel()
        faulthandler.cancel_dump_traceback_later()


async def run_once(command: Command, settings: Settings, terminated: Termination) -> int:
    """Run one command, or one tick with its heartbeat, if one is set."""
    heartbeat = wiring.heartbeat(settings) if command.is_scheduled_tick else None
    if heartbeat is not None:
        heartbeat.start()
    ended = Ended(1, "A defect ended this run; its log has the trace.")
    try:
        ended = await _with_claims(command, settings, terminated)
    except RecapError as error:
        ended = Ended(code_of(error), str(error))
        raise
    except TimeoutError:  # SIGTERM while waiting, for example for another process's lock
        if not terminated.is_set():
            raise
        ended = Ended(0)
    finally:
        if heartbeat is not None:
            await heartbeat.end(*ended)
    return ended.code


async def _with_claims(command: Command, settings: Settings, terminated: Termination) -> Ended:
    """Open Redis and run the command; it opens the other services when it needs them."""
    folder = settings.data_dir.absolute()
    if command.only_reads and wiring.is_untouched(settings):
        complain(f"Nothing is here yet: {folder} is new; python job.py fills it with sample users.")
        return Ended(0 if command.dry_run else 2)
    if command.prints_layout:
        layout, indexes = wiring.describe_layout(settings)
        print(layout, file=sys.stderr)
        for line in indexes.splitlines():  # alone on stdout, so that > firestore.indexes.json takes it
            say(line)
        return Ended(0)
    async with AsyncExitStack() as stack:
        claims = await stack.enter_async_context(terminated.entered(wiring.open_claims(settings)))
        started_at, previews = time.monotonic(), Previews()
        offset = command.now - await claims.now() if command.now else timedelta(0)
        if command.can_send and offset > AHEAD:
            events.warning("clock.ahead", hours=round(offset / timedelta(hours=1), 1), reason=SPENT)

        @asynccontextmanager
        async def open_services() -> AsyncIterator[Services]:
            if command.can_add_samples and not settings.on_platform and wiring.is_untouched(settings):
                complain(f"{folder} is new; sample users are put in.")
            telemetry = wiring.telemetry(settings) if command.operation is None else Telemetry()
            stack.push_async_callback(telemetry.aclose)
            services = wiring.open_services(
                settings,
                claims=claims,
                show=previews,
                offset=offset,
                telemetry=telemetry,
                can_add_samples=command.can_add_samples,
                can_send=command.can_send,
                can_ask=command.can_ask,
            )
            async with terminated.entered(services) as opened:
                if command.only_reads and settings.project is None and not await opened.store.all_users(None, 1):
                    complain(f"{folder} has no users.")
                yield opened

        try:
            if command.operation is not None:
                context = Context(
                    settings=settings,
                    claims=claims,
                    open_services=open_services,
                    offset=offset,
                    terminated=terminated,
                    samples=partial(wiring.sample_users, settings),
                    forget_pushes=partial(wiring.forget_pushes, settings),
                    show_progress=show_progress,
                    since=wiring.served_since(settings),
                )
                return Ended(await command.operation(context))
            tick = Tick(
                claims=claims,
                limits=settings.limits,
                open_services=open_services,
                terminated=terminated,
                offset=offset,
                task_index=settings.task_index,
                task_count=settings.task_count,
                show_progress=show_progress,
                counts_ahead=sys.stderr.isatty(),
                installed_at=wiring.served_since(settings),
            )
            result = await (tick.run_user(command.user) if command.user else tick.run())
            previews.print_suppressed_count()
            seconds = time.monotonic() - started_at
            events.info("tick.finished", **result.as_event(), seconds=round(seconds, 3), exit_code=exit_code(result))
            log.log_suppressed_counts()
            ended = print_summary(result, seconds, in_words=not settings.on_platform)
            if not settings.on_platform and (clock := on_the_real_clock(result.free_at, result.now, offset)):
                complain(clock)
            return ended
        finally:  # also if the tick failed, and after a command
            previews.print_suppressed_count()
            log.log_suppressed_counts()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
