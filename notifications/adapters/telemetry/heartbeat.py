"""A heartbeat in the form of healthchecks: POST …/start, then …/0 to …/5 with the summary line. No run fails for it."""

from __future__ import annotations

import asyncio
import threading
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from urllib.parse import urlsplit, urlunsplit

import structlog


class DaemonTask:
    """One piece of work, begun at once."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self.failed = ""
        try:
            threading.Thread(target=self._run, name="aside", daemon=True).start()
        except RuntimeError:  # no thread is to be had
            self._fail("no thread")

    def _run(self) -> None:
        try:
            self._work()
        except Exception as cause:  # noqa: BLE001 - nobody waits for it, and no run fails for it: told by its kind alone
            self.failed = type(cause).__name__
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._ended.set)

    def _fail(self, what: str) -> None:
        self.failed = what
        self._ended.set()

    async def ended(self, seconds: float) -> bool:
        """Whether it ends within that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._ended.wait()
        return self._ended.is_set()


log = structlog.get_logger()

SECONDS = 3.0  # at the end of a run, for all of it
FOR_THE_START = 1.5  # of these, where the start is not yet answered: the two are told in their order
MAX_BODY = 10_000  # bytes: healthchecks keeps so many


class HttpHeartbeat:
    """One run's."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._run = f"rid={uuid.uuid4()}"  # so that runs beside each other are told apart
        self._failed = ""
        self._started: DaemonTask | None = None

    def start(self) -> None:
        """Say that a run begins. Returns at once."""
        self._started = self._send("start", "")

    async def end(self, code: int, line: str) -> None:
        """Say how it ended, after it was said that it began; three seconds at most."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + SECONDS
        if self._started is not None:
            await self._started.ended(FOR_THE_START)
        if not await self._send(str(code), line).ended(ends - loop.time()):
            self._failed = "no answer in time"
        if self._failed:  # never the address itself: who knows it can say that all is well
            log.warning("heartbeat.failed", reason=f"RECAP_HEARTBEAT_URL ({self._parts.hostname}): {self._failed}.")

    def _send(self, word: str, line: str) -> DaemonTask:
        parts = self._parts
        query = "&".join(filter(None, (parts.query, self._run)))
        url = urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{word}", query, ""))
        return DaemonTask(partial(self._post, url, line.encode(errors="replace")[:MAX_BODY]))

    def _post(self, url: str, body: bytes) -> None:
        request = urllib.request.Request(url, body, {"Content-Type": "text/plain; charset=utf-8"})  # noqa: S310 - http(s)
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS) as answer:
                answer.read(MAX_BODY)
        except (OSError, HTTPException, ValueError) as cause:
            self._failed = f"{type(cause).__name__} {getattr(cause, 'code', '')}".strip()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is told goes to the address that was set, and to no other."""

    def redirect_request(self, *_: object) -> None:
        """None: a redirect is an error."""
