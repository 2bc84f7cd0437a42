"""Pushes by FCM's HTTP v1 API over aiohttp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp

from notifications.adapters.pushes.fcm_answers import UNCLEAR, understood
from notifications.domain.errors import ConfigFault, DependencyDown
from notifications.domain.push import TTL, Message, PushAnswer, Result
from notifications.domain.text import bounded

if TYPE_CHECKING:
    from notifications.adapters.google_tokens import GoogleTokens

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
CHECK_SECONDS = 10.0
CONNECT_SECONDS = 10.0
MAX_MESSAGE_BYTES = 4_000  # FCM refuses over 4,096
MAX_ANSWER_BYTES = 64_000
TRIES_WITH_A_NEW_TOKEN = 2


class FcmPush:
    """The Push port."""

    where = "FCM (FCM_BASE_URL)"

    def __init__(self, session: aiohttp.ClientSession, url: str, tokens: GoogleTokens | None) -> None:
        self._session = session
        self._url = url
        self._tokens = tokens

    async def send(self, token: str, message: Message, timeout: timedelta, leaves: Callable[[], None]) -> PushAnswer:
        """One push to one device. UNSENT until the request is written; UNKNOWN from then until FCM has answered."""
        left = asyncio.Event()

        def written() -> None:
            left.set()
            leaves()

        try:
            async with asyncio.timeout(timeout.total_seconds()):
                return await self._posted(body_of(token, message), written, left)
        except (aiohttp.ClientError, TimeoutError, OSError) as cause:
            return PushAnswer(Result.UNKNOWN if left.is_set() else Result.UNSENT, type(cause).__name__)

    async def _posted(self, body: bytes, written: Callable[[], None], left: asyncio.Event) -> PushAnswer:
        """FCM's answer; a token that it refuses is replaced once, since it may have ended since it was given out."""
        refused: str | None = None
        answer = UNCLEAR
        for _ in range(TRIES_WITH_A_NEW_TOKEN):
            try:
                bearer = await self._tokens.token(refused) if self._tokens else None
            except ConfigFault:
                return PushAnswer(Result.UNSENT, "CREDENTIALS", config=True)
            except DependencyDown:
                return PushAnswer(Result.UNSENT, "NO_TOKEN")
            answer = await self._post(body, bearer, written)
            if not answer.config or bearer is None:
                break
            refused = bearer
            left.clear()  # a refusal is definite: nothing was taken
        return answer

    async def _post(self, body: bytes, bearer: str | None, written: Callable[[], None]) -> PushAnswer:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        async with self._session.post(
            self._url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=written
        ) as answer:
            said = await answer.content.read(MAX_ANSWER_BYTES)
            while len(said) < MAX_ANSWER_BYTES and (more := await answer.content.read(MAX_ANSWER_BYTES - len(said))):
                said += more
            return understood(answer.status, said, answer.headers)

    async def check(self) -> str:
        """Whether Google gives us a token, and the server answers at all; nothing is pushed."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                if self._tokens:
                    await self._tokens.token()
                async with self._session.get(self._url, allow_redirects=False):
                    return ""
        except (ConfigFault, DependencyDown) as fault:
            return str(fault)
        except (aiohttp.ClientError, TimeoutError, OSError) as cause:
            return f"FCM does not answer ({type(cause).__name__}); check FCM_BASE_URL and the network."

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()


def wire(token: str, message: Message) -> dict[str, Any]:
    """The message in FCM's form, for Android, iOS and web. Change the payload here.

    The three collapse keys are one, so that a second push for the same day replaces the first.
    """
    ttl = int(TTL.total_seconds())
    return {
        "token": token,
        "notification": {"title": message.title, "body": message.body},
        "data": message.data,
        "android": {
            "priority": "HIGH",
            "ttl": f"{ttl}s",
            "notification": {"tag": message.collapse_id},
        },
        "apns": {
            "headers": {
                "apns-collapse-id": message.collapse_id,
                "apns-push-type": "alert",
                "apns-priority": "10",
                "apns-expiration": str(int(message.expires_at.timestamp())),  # APNs wants an instant
            },
            "payload": {"aps": {"sound": "default"}},
        },
        "webpush": {
            "headers": {"TTL": str(ttl), "Urgency": "high"},
            "notification": {"tag": message.collapse_id},
        },
    }


def body_of(token: str, message: Message) -> bytes:
    """The request's body, as light as FCM takes it: what an old ledger holds may be longer than what is made today."""
    body = _json(wire(token, message))
    for room in (BODY_ROOM, BODY_ROOM // 4, 1):
        if len(body) <= MAX_MESSAGE_BYTES:
            break
        short = replace(message, title=bounded(message.title, room, room), body=bounded(message.body, room, room))
        body = _json(wire(token, short))
    return body


BODY_ROOM = 400  # bytes


def _json(message: dict[str, Any]) -> bytes:
    return json.dumps({"message": message}, ensure_ascii=False).encode(errors="replace")


async def connect(base_url: str, project: str | None, connections: int, *, own_credentials: bool = False) -> FcmPush:
    """Pushes to `base_url`. A loopback http:// address needs no credentials, unless they are given. Raises ConfigFault.

    TCP only and no cookies: one session for the whole run.
    """
    parts = urlsplit(base_url)
    loopback = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    tokens = None
    if own_credentials or not loopback:
        tokens, project = await _google(project)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        trace_configs=[_telling_when_it_leaves()],
        proxy=_proxy(parts.scheme, parts.netloc),
    )
    return FcmPush(session, f"{base_url}/v1/projects/{project or 'local'}/messages:send", tokens)


def _proxy(scheme: str, host: str) -> str | None:
    """As the environment says. aiohttp's own reading of it would also take passwords out of ~/.netrc."""
    return None if proxy_bypass(host) else getproxies_environment().get(scheme)


async def _google(project: str | None) -> tuple[GoogleTokens, str]:
    """Tokens of the machine's own credentials, and whose devices these are."""
    from notifications.adapters.google_tokens import GoogleTokens, default_credentials

    try:
        credentials, own_project = await asyncio.to_thread(default_credentials, [SCOPE])
    except ConfigFault as fault:
        raise ConfigFault(f"{FcmPush.where}: {fault}") from fault
    if not (project or own_project):
        raise ConfigFault("GOOGLE_CLOUD_PROJECT must be set: FCM wants to know whose devices these are.")
    return GoogleTokens(credentials, FcmPush.where), str(project or own_project)


def _telling_when_it_leaves() -> aiohttp.TraceConfig:
    """Calls what a request gave as its trace context, just before its first byte is written."""

    async def leaving(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(leaving)
    return trace
