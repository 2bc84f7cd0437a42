"""A heartbeat as healthchecks.io takes it: POST …/start, then …/0 to …/5 with the summary line. It never raises."""

from __future__ import annotations

import asyncio
import urllib.request
import uuid
from functools import partial
from http.client import HTTPException
from urllib.parse import urlsplit, urlunsplit

import structlog

from notifications.adapters.daemon_task import DaemonTask

log = structlog.get_logger()

END_SECONDS = 3.0  # for all reports at the end of a run
START_SECONDS = 1.5  # of END_SECONDS, for the report of the start, which must arrive first
MAX_BODY = 10_000  # bytes: healthchecks.io keeps no more


class HttpHeartbeat:
    """The Heartbeat port, of one run."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._run = f"rid={uuid.uuid4()}"  # distinguishes concurrent runs
        self._failed = ""
        self._started: DaemonTask | None = None

    def start(self) -> None:
        """Report the run's start. Returns at once."""
        self._started = self._send("start", "")

    async def end(self, code: int, line: str) -> None:
        """Report the run's end, after its start; takes three seconds at most."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + END_SECONDS
        if self._started is not None:
            await self._started.wait_until_done(START_SECONDS)
        if not await self._send(str(code), line).wait_until_done(ends - loop.time()):
            self._failed = "no answer in time"
        if self._failed:  # the address is a secret: only its host is logged
            log.warning("heartbeat.failed", reason=f"RECAP_HEARTBEAT_URL ({self._parts.hostname}): {self._failed}.")

    def _send(self, word: str, line: str) -> DaemonTask:
        parts = self._parts
        query = "&".join(filter(None, (parts.query, self._run)))
        url = urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{word}", query, ""))
        return DaemonTask(partial(self._post, url, line.encode(errors="replace")[:MAX_BODY]))

    def _post(self, url: str, body: bytes) -> None:
        request = urllib.request.Request(url, body, {"Content-Type": "text/plain; charset=utf-8"})  # noqa: S310 - http(s)
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=END_SECONDS) as answer:
                answer.read(MAX_BODY)
        except (OSError, HTTPException, ValueError) as cause:
            self._failed = f"{type(cause).__name__} {getattr(cause, 'code', '')}".strip()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: nothing is sent to an address that was not set."""

    def redirect_request(self, *_: object) -> None:
        return None
