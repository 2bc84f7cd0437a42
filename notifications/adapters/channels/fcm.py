"""Pushes by FCM's HTTP v1 API over aiohttp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp

from notifications.domain.backoff import retry_after
from notifications.domain.errors import ConfigFault, DependencyDown
from notifications.domain.push import ACCEPTED, TTL, Message, PushAnswer, PushResult, Whose
from notifications.domain.text import bounded, code, is_loopback

if TYPE_CHECKING:
    from notifications.adapters.google_tokens import GoogleTokens
    from notifications.domain.model import Device

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
CHECK_SECONDS = 10.0
CONNECT_SECONDS = 10.0
MAX_MESSAGE_BYTES = 4_000  # FCM refuses over 4,096
MAX_ANSWER_BYTES = 64_000
TRIES_WITH_A_NEW_TOKEN = 2


class FcmPush:
    """The Push port."""

    where = "FCM (FCM_BASE_URL)"
    aside = ""

    def __init__(self, session: aiohttp.ClientSession, url: str, tokens: GoogleTokens | None) -> None:
        self._session = session
        self._url = url
        self._tokens = tokens

    async def send(
        self, device: Device, message: Message, timeout: timedelta, leaves: Callable[[], None]
    ) -> PushAnswer:
        """One push to one device. UNSENT until the request is written; UNKNOWN from then until FCM has answered.

        An installation is registered under its fid or under a token, and what it has registered last
        ends the other: so the token is tried where its fid is refused. Both are dead, or none.
        """
        left = asyncio.Event()
        refused: list[PushAnswer] = []

        def written() -> None:
            left.set()
            leaves()

        try:
            async with asyncio.timeout(timeout.total_seconds()):
                for target in targets(device):
                    left.clear()  # a refusal is definite: nothing was taken
                    answer = await self._posted(body_of(target, message), written, left)
                    if not _for_good(answer):
                        return answer
                    refused.append(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as cause:
            return PushAnswer(PushResult.UNKNOWN if left.is_set() else PushResult.UNSENT, type(cause).__name__)
        return next((answer for answer in refused if answer.result is not PushResult.GONE), refused[0])

    async def _posted(self, body: bytes, written: Callable[[], None], left: asyncio.Event) -> PushAnswer:
        """FCM's answer; a token that it refuses is replaced once, since it may have ended since it was given out."""
        refused: str | None = None
        answer = UNCLEAR
        for _ in range(TRIES_WITH_A_NEW_TOKEN):
            try:
                bearer = await self._tokens.token(refused) if self._tokens else None
            except ConfigFault:
                return PushAnswer(PushResult.UNSENT, "CREDENTIALS", config=True)
            except DependencyDown:
                return PushAnswer(PushResult.UNSENT, "NO_TOKEN")
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

    async def probe(self) -> PushAnswer:
        """What FCM says to a message for a topic that it only checks: it reaches nobody."""
        left = asyncio.Event()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await self._posted(PROBE, left.set, left)
        except (aiohttp.ClientError, TimeoutError, OSError) as cause:
            return PushAnswer(PushResult.UNKNOWN if left.is_set() else PushResult.UNSENT, type(cause).__name__)

    async def check(self) -> str:
        """Whether FCM would take a message of ours; nothing is pushed."""
        try:
            if self._tokens:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._tokens.token()
        except TimeoutError:
            return f"Google gives no token for {self.where} within {CHECK_SECONDS:g} s; check the network."
        except (ConfigFault, DependencyDown) as fault:
            return str(fault)
        answer = await self.probe()
        if answer.result is PushResult.ACCEPTED:
            return ""
        if answer.config:
            return f"{self.where} {answer.says or f'refuses our credentials ({answer.code})'}."
        if answer.foreign:
            return f"What answers is not {self.where}: {answer.code}; check the address and its proxies."
        if answer.quota:
            return f"{self.where} says that the quota is used up ({answer.code}); raise it, or spread the hours."
        if answer.result in (PushResult.UNKNOWN, PushResult.UNSENT):
            return f"{self.where} does not answer ({answer.code}); check the address and the network."
        return f"{self.where} takes no message of ours ({answer.code})."

    async def aclose(self) -> None:
        await self._session.close()


Target = tuple[str, str]  # what FCM's message calls it, and its value


def targets(device: Device) -> list[Target]:
    """Where a message to this device may go, the first to be tried first."""
    return [one for one in (("fid", device.fid), ("token", device.token)) if one[1]]


def _for_good(answer: PushAnswer) -> bool:
    """Whether this target will never take it, as it is."""
    return answer.result in (PushResult.GONE, PushResult.REFUSED) or (answer.config and answer.whose is Whose.UNSAID)


def wire(target: Target, message: Message) -> dict[str, Any]:
    """The message in FCM's form, for Android, iOS and web. Change the payload here.

    The three collapse keys are one, so that a second push for the same day replaces the first. A
    silent one is shown without waking anybody; on Android 8 and later the app's own channel has the
    last word on its sound.
    """
    ttl = int(TTL.total_seconds())
    shown = {"title": message.title, "body": message.body}
    android, aps, web = {"notification_priority": "PRIORITY_LOW"}, {"interruption-level": "passive"}, {"silent": True}
    return {
        target[0]: target[1],
        "notification": shown,
        "data": message.data,
        "android": {
            "priority": "NORMAL" if message.silent else "HIGH",
            "ttl": f"{ttl}s",
            "notification": {"tag": message.collapse_id} | (android if message.silent else {}),
        },
        "apns": {
            "headers": {
                "apns-collapse-id": message.collapse_id,
                "apns-push-type": "alert",
                "apns-priority": "5" if message.silent else "10",
                "apns-expiration": str(int(message.expires_at.timestamp())),  # APNs wants an instant
            },
            "payload": {"aps": aps if message.silent else {"sound": "default"}},
        },
        "webpush": {
            "headers": {"TTL": str(ttl), "Urgency": "low" if message.silent else "high"},
            "notification": shown | {"tag": message.collapse_id} | (web if message.silent else {}),
        },
    }


def body_of(target: Target, message: Message) -> bytes:
    """The request's body, as light as FCM takes it: what an old ledger holds may be longer than what is made today."""
    body = _json(wire(target, message))
    for room in (BODY_ROOM, BODY_ROOM // 4, 1):
        if len(body) <= MAX_MESSAGE_BYTES:
            break
        short = replace(message, title=bounded(message.title, room, room), body=bounded(message.body, room, room))
        body = _json(wire(target, short))
    return body


BODY_ROOM = 400  # bytes


def _json(message: dict[str, Any]) -> bytes:
    return json.dumps({"message": message}, ensure_ascii=False).encode(errors="replace")


PROBE = json.dumps(
    {"validate_only": True, "message": {"topic": "daily-recap-check", "data": {"type": "day_summary"}}}
).encode()


async def connect(base_url: str, project: str | None, connections: int, *, own_credentials: bool = False) -> FcmPush:
    """Pushes to `base_url`. An http:// loopback needs no credentials, unless they are given. Raises ConfigFault."""
    parts = urlsplit(base_url)
    tokens = None
    if own_credentials or not is_loopback(base_url):
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


QUOTA_WAIT = timedelta(seconds=60)  # QUOTA_EXCEEDED without a Retry-After (FCM's documentation)
SERVICE, PERMISSION = "fcm.googleapis.com", "cloudmessaging.messages.create"
NO_PROJECT = "knows nothing at this address; check GOOGLE_CLOUD_PROJECT and FCM_BASE_URL"
ABOUT_A_DEVICE = ("device", "token", "registration", "installation")

# By status and FCM's own code, else by status alone: a code means what it says only with its own status.
ANSWERS: dict[tuple[int, str], PushAnswer] = {
    (404, "UNREGISTERED"): PushAnswer(PushResult.GONE),
    (403, "SENDER_ID_MISMATCH"): PushAnswer(PushResult.REFUSED),
    (401, "THIRD_PARTY_AUTH_ERROR"): PushAnswer(PushResult.REFUSED),
    (400, ""): PushAnswer(PushResult.REFUSED),
    (401, ""): PushAnswer(PushResult.BUSY, config=True, whose=Whose.UNSAID),
    (403, ""): PushAnswer(PushResult.BUSY, config=True, whose=Whose.UNSAID),
    (404, ""): PushAnswer(PushResult.BUSY, config=True, whose=Whose.UNSAID, says=NO_PROJECT),
    (429, ""): PushAnswer(PushResult.BUSY, retry_after=QUOTA_WAIT, quota=True, whose=Whose.UNSAID),
    (500, ""): PushAnswer(PushResult.BUSY, retry_now=True),
    (503, ""): PushAnswer(PushResult.BUSY, retry_now=True),
}
UNCLEAR = PushAnswer(PushResult.UNKNOWN, "UNCLEAR")


@dataclass(frozen=True, slots=True)
class Error:
    """The `error` of an answer's body, as far as it is read; empty where there is none."""

    code: str = ""  # FCM's own, else the reason of whatever refused it before FCM saw it, else the general status
    reason: str = ""  # of a google.rpc.ErrorInfo
    about: Mapping[str, str] | None = None  # that ErrorInfo's metadata
    violations: tuple[str, ...] = ()  # of a google.rpc.QuotaFailure: subject and description of each


def read_answer(status: int, error: Error, wait: timedelta | None = None) -> PushAnswer:
    """What an HTTP status and the error in its body mean; `wait` is the Retry-After.

    Nothing here says accepted: that takes FCM's own word, a name for the message, and no error
    beside it. A redirect is no answer of FCM's and certainly no acceptance: nothing was delivered,
    and a person has to look.
    """
    if 300 <= status < 400:
        return PushAnswer(PushResult.BUSY, f"REDIRECT_{status}", foreign=True)
    name = error.code or str(status)
    if 200 <= status < 300:
        return replace(UNCLEAR, code=name, foreign=True)
    answer = ANSWERS.get((status, error.code)) or ANSWERS.get((status, ""), UNCLEAR)
    after = wait if wait is not None and answer.result is PushResult.BUSY else answer.retry_after
    answer = replace(answer, code=name, retry_after=after)
    if answer.quota:
        return replace(answer, whose=_whose_quota(error))
    return _refusal(status, answer, error) if answer.config else answer


def _whose_quota(error: Error) -> Whose:
    """The project's is refused before FCM sees the message; of a device's, FCM may give the violations."""
    violated = " ".join(error.violations).lower()
    if "RATE_LIMIT_EXCEEDED" in (error.reason, error.code) or "project" in violated:
        return Whose.PROJECT
    if "DEVICE_MESSAGE_RATE_EXCEEDED" in (error.reason, error.code) or any(one in violated for one in ABOUT_A_DEVICE):
        return Whose.DEVICE
    return Whose.UNSAID


def _refusal(status: int, answer: PushAnswer, error: Error) -> PushAnswer:
    """Who we are, or what we may: what refuses that before FCM sees the message says so in an ErrorInfo."""
    about = error.about or {}
    if error.code == "SERVICE_DISABLED":
        service = code(about.get("service"), SERVICE)
        return replace(answer, whose=Whose.PROJECT, says=f"says that the API {service} is disabled; enable it")
    if error.code == "IAM_PERMISSION_DENIED":
        permission = code(about.get("permission"), PERMISSION)
        mend = "give it roles/firebasecloudmessaging.admin"
        return replace(answer, whose=Whose.PROJECT, says=f"says that the account lacks {permission}; {mend}")
    if status == 403:
        whose = Whose.PROJECT if error.reason else answer.whose
        says = f"refuses us ({answer.code}); the API {SERVICE} must be enabled, and the account have {PERMISSION}"
        return replace(answer, whose=whose, says=says)
    return answer


def understood(status: int, said: bytes, headers: Mapping[str, str]) -> PushAnswer:
    """What FCM said. Accepted is only what it gave a name: any server can say 200."""
    try:
        told: Any = json.loads(said)
    except (ValueError, RecursionError):
        told = None
    if status == 200 and isinstance(told, dict) and not told.get("error"):
        name = told.get("name")
        if isinstance(name, str) and name.strip():
            return ACCEPTED
    return read_answer(status, _error(told), retry_after(headers))


def _error(told: Any) -> Error:
    found = told.get("error") if isinstance(told, Mapping) else None
    if not isinstance(found, Mapping):
        return Error()
    details = [one for one in _list(found.get("details")) if isinstance(one, Mapping)]
    info = next((one for one in details if _is(one, "ErrorInfo")), {})
    own = next((one["errorCode"] for one in details if "errorCode" in one), "")
    reason = code(info.get("reason"), "")
    metadata = info.get("metadata")
    return Error(
        code=code(own, "") or reason or code(found.get("status"), ""),
        reason=reason,
        about=metadata if isinstance(metadata, Mapping) else None,
        violations=tuple(_violations(details)),
    )


def _violations(details: list[Mapping[str, Any]]) -> Iterator[str]:
    for one in details:
        for violation in _list(one.get("violations")) if _is(one, "QuotaFailure") else ():
            if isinstance(violation, Mapping):
                yield f"{violation.get('subject', '')} {violation.get('description', '')}"


def _is(detail: Mapping[str, Any], kind: str) -> bool:
    return str(detail.get("@type", "")).endswith(f"google.rpc.{kind}")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
