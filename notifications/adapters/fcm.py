"""Pushes by FCM's HTTP v1 API over aiohttp; tokens of google-auth, refreshed off the loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp

from notifications.domain.errors import ConfigFault
from notifications.domain.push import TTL, UNCLEAR, Answer, Message, Result, read_answer
from notifications.waits import retry_after

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
CHECK_SECONDS = 10.0
FRESH_FOR = timedelta(minutes=5)  # a token with less left is refreshed before it is used


class Credentials(Protocol):
    """Bearer tokens."""

    async def token(self) -> str | None: ...


class NoCredentials:
    """What a loopback server needs."""

    async def token(self) -> str | None:
        """None: no header is sent."""
        return None


class GoogleCredentials:
    """google-auth's default credentials. Its refresh blocks, so it runs in a thread, once at a time."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials
        self._refreshing = asyncio.Lock()
        self._good_until = 0.0  # of the monotonic clock

    async def token(self) -> str | None:
        """A token with some time left. Raises ConfigFault where Google refuses it."""
        async with self._refreshing:
            if time.monotonic() > self._good_until:
                await asyncio.to_thread(self._refresh)
        return str(self._credentials.token)

    def _refresh(self) -> None:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            self._credentials.refresh(Request())
        except GoogleAuthError as cause:
            raise ConfigFault(
                f"Google refuses the push credentials ({type(cause).__name__}); see GOOGLE_APPLICATION_CREDENTIALS."
            ) from cause
        self._good_until = time.monotonic() + 3600 - FRESH_FOR.total_seconds()


class FcmPush:
    """The Push port."""

    def __init__(self, session: aiohttp.ClientSession, url: str, credentials: Credentials) -> None:
        self._session = session
        self._url = url
        self._credentials = credentials

    async def send(self, token: str, message: Message, timeout: timedelta) -> Answer:
        """One push to one device. UNKNOWN where no answer came; UNSENT where nothing can have left."""
        try:
            bearer = await self._credentials.token()
        except ConfigFault:
            return Answer(Result.UNSENT, "CREDENTIALS", config=True)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        body = json.dumps({"message": wire(token, message)}).encode()
        limit = aiohttp.ClientTimeout(total=timeout.total_seconds())
        try:
            async with self._session.post(self._url, data=body, headers=headers, timeout=limit) as answer:
                said = await answer.read()
                return read_answer(answer.status, _error_code(said), retry_after(answer.headers))
        except aiohttp.ClientConnectorError as cause:
            return Answer(Result.UNSENT, type(cause).__name__)
        except (aiohttp.ClientError, TimeoutError, OSError) as cause:
            return Answer(UNCLEAR.result, type(cause).__name__)

    async def check(self) -> str:
        """Whether Google gives us a token, and the server answers at all; nothing is pushed."""
        try:
            await self._credentials.token()
            async with self._session.get(self._url, timeout=aiohttp.ClientTimeout(total=CHECK_SECONDS)):
                return ""
        except ConfigFault as fault:
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
                "apns-expiration": str(_expires(message, ttl)),
            },
            "payload": {"aps": {"sound": "default"}},
        },
        "webpush": {
            "headers": {"TTL": str(ttl), "Urgency": "high"},
            "notification": {"tag": message.collapse_id},
        },
    }


def _expires(message: Message, ttl: int) -> int:
    """APNs wants an instant: counted from the recap, so that a second push is worth no longer."""
    return int(message.created_at.timestamp()) + ttl if message.created_at else 0


def _error_code(said: bytes) -> str:
    """FCM's own code, else the general status, else nothing."""
    try:
        error = json.loads(said)["error"]
        details = [detail for detail in error.get("details", []) if isinstance(detail, Mapping)]
        codes = [str(detail["errorCode"]) for detail in details if "errorCode" in detail]
        return codes[0] if codes else str(error.get("status", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""


def connect(base_url: str, project: str | None, connections: int) -> FcmPush:
    """Pushes to `base_url`; a loopback http:// address needs no credentials. Raises ConfigFault."""
    parts = urlsplit(base_url)
    loopback = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    credentials: Credentials = NoCredentials()
    if not loopback:
        credentials, project = _default_credentials(project)
    # TCP only and no cookies: one session for the whole run.
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections), cookie_jar=aiohttp.DummyCookieJar()
    )
    return FcmPush(session, f"{base_url}/v1/projects/{project or 'local'}/messages:send", credentials)


def _default_credentials(project: str | None) -> tuple[Credentials, str]:
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        found, own_project = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as cause:
        raise ConfigFault(
            f"There are no usable push credentials ({type(cause).__name__}); set GOOGLE_APPLICATION_CREDENTIALS."
        ) from cause
    if not (project or own_project):
        raise ConfigFault("GOOGLE_CLOUD_PROJECT must be set: FCM wants to know whose devices these are.")
    return GoogleCredentials(found), str(project or own_project)
