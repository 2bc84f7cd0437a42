"""Recaps by webhook, signed as Standard Webhooks are: to the operator's server, and to those that users chose."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from notifications.adapters.channels.webhook import addresses
from notifications.adapters.channels.webhook.signing import read_keys, signed_headers
from notifications.adapters.retry_after import retry_after
from notifications.domain.errors import ConfigFault
from notifications.domain.push import TTL, Message, PushAnswer, PushResult
from notifications.domain.target import Recipient, Target, target
from notifications.ports import Channel

OWN_SECONDS, USER_SECONDS = 15.0, 5.0  # of one try, in all
CONNECTIONS_A_HOST = 4  # of users; to the operator's server as many as users are served at a time
MAX_SILENT = 3  # tries of a host in a row without an answer; then it is left alone for the rest of the run
MAX_BODY = 20_000  # bytes, as Standard Webhooks advises
LEFT_OUT_FIRST = ("knowledge_nuggets", "unresolved_questions", "decisions_made", "action_items", "highlights")
SAYS = {  # what the operator's server refuses, it refuses for every user
    401: "refuses our signature (401); it must check with RECAP_WEBHOOK_SECRET",
    403: "refuses us (403); it must check with RECAP_WEBHOOK_SECRET, and let this machine in",
    404: "knows nothing at this address (404); check RECAP_WEBHOOK_URL",
} | {status: f"redirects ({status}); set RECAP_WEBHOOK_URL to where it leads" for status in (301, 302, 303, 307, 308)}


UNUSABLE = {
    "url_refused": "recap_webhook_url is no https:// URL on port 443 without a user; correct it",
    "no_secret": "recap_webhook_url has no recap_webhook_secret beside it; write both",
    "secret_malformed": "recap_webhook_secret is not whsec_ and 24 to 64 bytes in base64; make another",
}


class Webhook(Channel):
    """The Channel port. `own` is the session to the operator's URL, `users` the one to URLs that users chose."""

    name, where, aside, alerts = "webhook", "The webhook (RECAP_WEBHOOK_URL)", "", True  # see ports.Channel
    noun = "webhook", "webhooks"
    unusable = UNUSABLE

    def __init__(
        self, url: str, keys: list[bytes], own: aiohttp.ClientSession | None, users: aiohttp.ClientSession | None
    ) -> None:
        self.has_addresses = users is not None
        self._url, self._keys, self._own, self._users = url, keys, own, users
        self._silent: Counter[tuple[bool, str]] = Counter()  # tries in a row without an answer, by whose and host

    def targets(self, recipient: Recipient) -> tuple[list[Target], list[str]]:
        """The operator's URL, but for sample users, and the user's. A user's that is the operator's is not a second."""
        found = [target(self.name, self._url)] if self._own and not recipient.is_sample else []
        chosen = recipient.addresses.get(self.name, {})
        url, secret = chosen.get("url", ""), chosen.get("secret", "")
        if not self._users or url in ("", self._url):
            return found, []
        if not addresses.is_usable(url):
            return found, ["url_refused"]
        if not read_keys(secret):
            return found, ["secret_malformed" if secret else "no_secret"]
        return [*found, target(self.name, url, secret, is_users_own=True)], []

    async def send(
        self, target: Target, message: Message, timeout: timedelta, leaves: Callable[[], None]
    ) -> PushAnswer:
        """One try. UNSENT until its first byte is written; UNKNOWN from then until its status is read."""
        message_id = f"msg_{message.collapse_id}" + (f"_{message.seq}" if message.seq > 1 else "")
        return await self._post(target, message_id, body_of(message, await message.full()), timeout, leaves)

    async def _post(
        self, target: Target, message_id: str, body: bytes, timeout: timedelta, leaves: Callable[[], None]
    ) -> PushAnswer:
        session, most = (self._users, USER_SECONDS) if target.is_users_own else (self._own, OWN_SECONDS)
        host = target.is_users_own, URL(target.address).raw_host or ""  # a user may choose the operator's host
        if session is None or self._silent[host] >= MAX_SILENT:
            return PushAnswer(PushResult.UNSENT, "host_silent")
        keys = read_keys(target.secret) if target.is_users_own else self._keys
        request: dict[str, Any] = {"data": body, "headers": signed_headers(keys, message_id, datetime.now(UTC), body)}
        progress = SimpleNamespace(asked=False, left=False, leaves=leaves)
        try:
            async with asyncio.timeout(min(timeout.total_seconds(), most)):
                response = await session.post(
                    target.address, allow_redirects=False, trace_request_ctx=progress, **request
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a TimeoutError is an OSError
            if isinstance(error, TimeoutError) and progress.asked and timeout.total_seconds() >= most:
                self._silent[host] += 1
            if progress.left:
                return PushAnswer(PushResult.UNKNOWN, type(error).__name__)
            if isinstance(error, aiohttp.InvalidURL) or getattr(error, "errno", None) == addresses.NOT_PUBLIC:
                return PushAnswer(PushResult.REFUSED, "address_refused")
            return PushAnswer(PushResult.UNSENT, type(error).__name__)
        if response.connection is not None and response.connection.transport is not None:
            response.connection.transport.abort()  # the status says all; closing it would wait for the body's end
        response.close()
        self._silent.pop(host, None)
        return interpret(response.status, retry_after(response.headers), is_own=not target.is_users_own)

    async def check(self) -> str:
        """What the operator's server says to a signed event without a recap; empty if it accepts that."""
        if self._own is None:
            return ""
        now, timeout = datetime.now(UTC), timedelta(seconds=OWN_SECONDS)
        body = _encoded({"type": "recap.check", "timestamp": now.isoformat(), "data": {}})
        own = target(self.name, self._url)
        answer = await self._post(own, f"msg_check_{int(now.timestamp())}", body, timeout, lambda: None)
        if answer.result is PushResult.ACCEPTED:
            return ""
        return answer.trouble(self.where) or f"{self.where} takes no message of ours ({answer.code})."

    async def aclose(self) -> None:
        for session in (self._own, self._users):
            if session is not None:
                await session.close()


def interpret(status: int, wait: timedelta | None, *, is_own: bool) -> PushAnswer:
    """What a status means; `wait` is the Retry-After; `is_own`: it is the operator's server.

    A server that failed (500, 502, 504 …) may have taken the recap before; the next try has the same id.
    """
    if is_own and status in SAYS:
        return PushAnswer(PushResult.BUSY, str(status), config=True, says=SAYS[status])
    if status in (429, 503):
        return PushAnswer(PushResult.BUSY, str(status), retry_after=wait, quota=is_own and status == 429)
    if 200 <= status < 300:
        return PushAnswer(PushResult.ACCEPTED, str(status))
    if 300 <= status < 500:
        return PushAnswer(PushResult.GONE if status == 410 else PushResult.REFUSED, str(status))
    return PushAnswer(PushResult.UNKNOWN, str(status))


def body_of(message: Message, recap: Mapping[str, Any] | None) -> bytes:
    """The JSON that is sent. `left_out` names the parts of the recap that would make it longer than MAX_BODY."""
    made_at = (message.created_at or message.expires_at - TTL).astimezone(UTC)
    data: dict[str, Any] = {
        "uid": message.uid,
        "date": message.date.isoformat(),
        "zone": message.zone,
        "language": message.language,
        "source": message.source,
        "verified": message.verified,
        "title": message.title,
        "body": message.body,
        "recap": None if recap is None else dict(recap),
        "left_out": [],
    }
    event = {"type": "recap.created", "timestamp": made_at.isoformat(), "data": data}
    for part in (*LEFT_OUT_FIRST, *recap) if recap else ():
        if len(_encoded(event)) > MAX_BODY and data["recap"].get(part):
            del data["recap"][part]
            data["left_out"].append(part)
    return _encoded(event)


def _encoded(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def connect(
    url: str | None,
    secret: str | None,
    connections: int,
    *,
    users: bool,
    may_connect: Callable[[str], bool] = addresses.is_public,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | bool = True,
) -> Webhook:
    """Webhooks to `url`, if it is set, and if `users` to theirs. Raises ConfigFault.

    `may_connect`, `resolver` and `tls` are of the connections to users' URLs alone.
    """
    keys = read_keys(secret or "")
    if url and not keys:
        raise ConfigFault("RECAP_WEBHOOK_SECRET is malformed; write whsec_ and 24 to 64 bytes in base64.")
    own = hostile = None
    if url:
        proxy = None if proxy_bypass(urlsplit(url).netloc) else getproxies_environment().get(urlsplit(url).scheme)
        own = _session(aiohttp.TCPConnector(limit=connections), proxy)
    if users:
        connector = aiohttp.TCPConnector(
            limit=0,  # one a user, and as many as are served at a time
            limit_per_host=CONNECTIONS_A_HOST,
            force_close=True,
            socket_factory=addresses.checked_sockets(may_connect),
            resolver=resolver or addresses.UserHostResolver(),
            ssl=tls,
        )
        hostile = _session(connector, proxy=None)
    return Webhook(url or "", keys, own, hostile)


def _session(connector: aiohttp.TCPConnector, proxy: str | None) -> aiohttp.ClientSession:
    async def ask(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.asked = True  # its turn came: from now on the host is what it waits for

    async def leave(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.left = True
        context.trace_request_ctx.leaves()

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(ask)
    trace.on_connection_reuseconn.append(ask)
    trace.on_request_headers_sent.append(leave)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Content-Type": "application/json", "User-Agent": "daily-recap"},
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),
        trace_configs=[trace],
        proxy=proxy,  # aiohttp's own reading of the environment would also take passwords out of ~/.netrc
    )
