"""Pushes by FCM's HTTP v1 API over aiohttp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp

from notifications.adapters.retry_after import retry_after
from notifications.domain.errors import ConfigFault, DependencyDown
from notifications.domain.push import ACCEPTED, TTL, Message, PushAnswer, PushResult, Whose
from notifications.domain.target import Recipient, Target, device_targets
from notifications.domain.text import bounded, code
from notifications.ports import Channel

if TYPE_CHECKING:
    from notifications.adapters.google_tokens import GoogleTokens

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
CHECK_SECONDS = 10.0
CONNECT_SECONDS = 10.0
MAX_MESSAGE_BYTES = 4_000  # FCM refuses over 4,096
SHORTER = (400, 100, 1)  # bytes of each text, tried in turn if the message is too long
MAX_ANSWER_BYTES = 64_000
MAX_TOKEN_ATTEMPTS = 2
PROBE = json.dumps(
    {"validate_only": True, "message": {"topic": "daily-recap-check", "data": {"type": "day_summary"}}}
).encode()


class FcmPush(Channel):
    """The Channel port; a target is a device."""

    name = "fcm"
    where = "FCM (FCM_BASE_URL)"
    aside = ""
    has_addresses = False
    alerts = True

    def __init__(self, session: aiohttp.ClientSession, url: str, tokens: GoogleTokens | None) -> None:
        self._session = session
        self._url = url
        self.where = f"FCM at {urlsplit(url).netloc.rpartition('@')[2]} (FCM_BASE_URL)"
        self._tokens = tokens

    def targets(self, recipient: Recipient) -> tuple[list[Target], list[str]]:
        return device_targets(self.name, recipient.devices), []

    async def send(
        self, target: Target, message: Message, timeout: timedelta, leaves: Callable[[], None]
    ) -> PushAnswer:
        """One push to one device. UNSENT until its first byte is written; UNKNOWN from then until FCM has answered.

        An installation is registered under its fid or under a token, and registering one ends the other: so the token
        is tried if the fid is refused. The device is gone only if both are.
        """
        bodies = (body_of(address, message) for address in addresses(target))
        return await self._send_in_turn(bodies, timeout.total_seconds(), leaves)

    async def probe(self) -> PushAnswer:
        """FCM's answer to a message for a topic that it only validates: no device gets it."""
        return await self._send_in_turn([PROBE], CHECK_SECONDS, lambda: None)

    async def _send_in_turn(
        self, bodies: Iterable[bytes], seconds: float, on_first_byte: Callable[[], None]
    ) -> PushAnswer:
        started = asyncio.Event()
        refused: list[PushAnswer] = []

        def start() -> None:
            started.set()
            on_first_byte()

        try:
            async with asyncio.timeout(seconds):
                for body in bodies:
                    answer = await self._post_authorized(body, start, started)
                    if not _is_final(answer):
                        return answer
                    refused.append(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as cause:
            return PushAnswer(PushResult.UNKNOWN if started.is_set() else PushResult.UNSENT, type(cause).__name__)
        return next((answer for answer in refused if answer.result is not PushResult.GONE), refused[0])

    async def _post_authorized(
        self, body: bytes, on_first_byte: Callable[[], None], started: asyncio.Event
    ) -> PushAnswer:
        """FCM's answer; a bearer token that it refuses is replaced once, since it may have expired."""
        refused: str | None = None
        answer = UNCLEAR
        for _ in range(MAX_TOKEN_ATTEMPTS):
            started.clear()  # the refusal is definite: nothing was delivered
            try:
                bearer = await self._tokens.token(refused) if self._tokens else None
            except ConfigFault:
                return PushAnswer(PushResult.UNSENT, "CREDENTIALS", config=True)
            except DependencyDown:
                return PushAnswer(PushResult.UNSENT, "NO_TOKEN")
            answer = await self._post(body, bearer, on_first_byte)
            if not answer.config or bearer is None:
                break
            refused = bearer
        return answer

    async def _post(self, body: bytes, bearer: str | None, on_first_byte: Callable[[], None]) -> PushAnswer:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        async with self._session.post(
            self._url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=on_first_byte
        ) as response:
            read = await response.content.read(MAX_ANSWER_BYTES)
            while len(read) < MAX_ANSWER_BYTES and (more := await response.content.read(MAX_ANSWER_BYTES - len(read))):
                read += more
            return read_answer(response.status, read, response.headers)

    async def check(self) -> str:
        """A sentence about what is wrong; empty if FCM would accept a message. Nothing is pushed."""
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
        if answer.quota:
            return f"{self.where} says that the quota is used up ({answer.code}); raise it, or spread the hours."
        return answer.trouble(self.where) or f"{self.where} takes no message of ours ({answer.code})."

    async def aclose(self) -> None:
        await self._session.close()


Address = tuple[str, str]  # field of FCM's message, value


def addresses(target: Target) -> list[Address]:
    """What a message to this device may name, in the order to try."""
    device = target.device
    return (
        [] if device is None else [(name, getattr(device, name)) for name in ("fid", "token") if getattr(device, name)]
    )


def _is_final(answer: PushAnswer) -> bool:
    """Whether to go on to the next address: also after a 401, 403 or 404 that doesn't say whose fault it is."""
    return answer.result in (PushResult.GONE, PushResult.REFUSED) or (answer.config and answer.whose is Whose.UNSAID)


def payload(address: Address, message: Message) -> dict[str, Any]:
    """The message in FCM's form, for Android, iOS and web. Change the payload here.

    The three collapse keys are equal, so that a second push for the same day replaces the first. A silent one is shown
    without a sound; on Android 8 and later the app's own channel decides on that.
    """
    ttl = int(TTL.total_seconds())
    shown = {"title": message.title, "body": message.body}
    silent_android = {"notification_priority": "PRIORITY_LOW"}
    silent_aps, silent_web = {"interruption-level": "passive"}, {"silent": True}
    return {
        address[0]: address[1],
        "notification": shown,
        "data": message.data,
        "android": {
            "priority": "NORMAL" if message.silent else "HIGH",
            "ttl": f"{ttl}s",
            "notification": {"tag": message.collapse_id} | (silent_android if message.silent else {}),
        },
        "apns": {
            "headers": {
                "apns-collapse-id": message.collapse_id,
                "apns-push-type": "alert",
                "apns-priority": "5" if message.silent else "10",
                "apns-expiration": str(int(message.expires_at.timestamp())),  # APNs needs an instant
            },
            "payload": {"aps": silent_aps if message.silent else {"sound": "default"}},
        },
        "webpush": {
            "headers": {"TTL": str(ttl), "Urgency": "low" if message.silent else "high"},
            "notification": shown | {"tag": message.collapse_id} | (silent_web if message.silent else {}),
        },
    }


def body_of(address: Address, message: Message) -> bytes:
    """The request's body, within FCM's limit: the texts of an old ledger may be longer than those of today."""
    body, shorter = _encoded(address, message), iter(SHORTER)
    while len(body) > MAX_MESSAGE_BYTES and (room := next(shorter, 0)):
        short = replace(message, title=bounded(message.title, room, room), body=bounded(message.body, room, room))
        body = _encoded(address, short)
    return body


def _encoded(address: Address, message: Message) -> bytes:
    return json.dumps({"message": payload(address, message)}, ensure_ascii=False).encode(errors="replace")


async def connect(base_url: str, project: str | None, connections: int, *, authorized: bool = False) -> FcmPush:
    """Pushes to `base_url`; `authorized`: with Google's credentials. Raises ConfigFault."""
    parts, tokens = urlsplit(base_url), None
    if authorized:
        from notifications.adapters.google_tokens import default_tokens

        tokens, own_project = await default_tokens(FcmPush.where, [SCOPE])
        project = project or own_project
        if not project:
            raise ConfigFault("GOOGLE_CLOUD_PROJECT must be set: FCM needs to know whose devices these are.")
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        trace_configs=[_first_byte_trace()],
        # aiohttp's own reading of the environment would also take passwords out of ~/.netrc.
        proxy=None if proxy_bypass(parts.netloc) else getproxies_environment().get(parts.scheme),
    )
    return FcmPush(session, f"{base_url}/v1/projects/{project or 'local'}/messages:send", tokens)


def _first_byte_trace() -> aiohttp.TraceConfig:
    """Calls a request's `on_first_byte`, its trace context, just before the first byte is written."""

    async def call_on_first_byte(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(call_on_first_byte)
    return trace


QUOTA_WAIT = timedelta(seconds=60)  # QUOTA_EXCEEDED without a Retry-After (FCM's documentation)
SERVICE, PERMISSION = "fcm.googleapis.com", "cloudmessaging.messages.create"
NO_PROJECT = "knows nothing at this address; check GOOGLE_CLOUD_PROJECT and FCM_BASE_URL"
DEVICE_WORDS = ("device", "token", "registration", "installation")

# By status and FCM's own code, else by status alone: a code counts only with its own status.
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
class FcmError:
    """The `error` of an answer's body, the fields that the job reads; empty if there is none."""

    code: str = ""  # FCM's own code, else the ErrorInfo's reason, else the general status
    reason: str = ""  # the reason of a google.rpc.ErrorInfo
    metadata: Mapping[str, str] = field(default_factory=dict)  # the metadata of that ErrorInfo
    violations: str = ""  # subjects and descriptions of a google.rpc.QuotaFailure


def interpret_error(status: int, error: FcmError, wait: timedelta | None = None) -> PushAnswer:
    """What an HTTP status and the error in its body mean; `wait` is the Retry-After.

    Never returns ACCEPTED: read_answer() does, if the body names the message. A redirect is no answer of FCM's:
    nothing was delivered, and a person has to look.
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


def _whose_quota(error: FcmError) -> Whose:
    """Tell the project's quota from a device's: the first is refused before FCM, the second may list violations."""
    violations = error.violations.lower()
    if "RATE_LIMIT_EXCEEDED" in (error.reason, error.code) or "project" in violations:
        return Whose.PROJECT
    named = any(word in violations for word in DEVICE_WORDS)
    return Whose.DEVICE if named or "DEVICE_MESSAGE_RATE_EXCEEDED" in (error.reason, error.code) else Whose.UNSAID


def _refusal(status: int, answer: PushAnswer, error: FcmError) -> PushAnswer:
    """Refused credentials or permissions. If they are refused before FCM sees the message, an ErrorInfo says so."""
    whose = Whose.PROJECT
    if error.code == "SERVICE_DISABLED":
        says = f"says that the API {code(error.metadata.get('service'), SERVICE)} is disabled; enable it"
    elif error.code == "IAM_PERMISSION_DENIED":
        permission = code(error.metadata.get("permission"), PERMISSION)
        says = f"says that the account lacks {permission}; give it roles/firebasecloudmessaging.admin"
    elif status == 403:
        whose = Whose.PROJECT if error.reason else answer.whose
        says = f"refuses us ({answer.code}); the API {SERVICE} must be enabled, and the account have {PERMISSION}"
    elif status == 401:
        whose, says = answer.whose, f"refuses our credentials ({answer.code}); check the service account of the job"
    else:
        return answer
    return replace(answer, whose=whose, says=says)


def read_answer(status: int, body: bytes, headers: Mapping[str, str]) -> PushAnswer:
    """FCM's answer. A push counts as accepted only if the answer names it: any server can say 200."""
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    if status == 200 and isinstance(parsed, dict) and not parsed.get("error"):
        name = parsed.get("name")
        if isinstance(name, str) and name.strip():
            return ACCEPTED
    return interpret_error(status, _error(_map(parsed).get("error")), retry_after(headers))


def _error(given: Any) -> FcmError:
    error = _map(given)
    details = [_map(detail) for detail in _list(error.get("details"))]
    info = next((detail for detail in details if _is_kind(detail, "ErrorInfo")), {})
    own = next((detail["errorCode"] for detail in details if "errorCode" in detail), "")
    reason = code(info.get("reason"), "")
    failures = [detail for detail in details if _is_kind(detail, "QuotaFailure")]
    violations = [_map(entry) for failure in failures for entry in _list(failure.get("violations"))]
    return FcmError(
        code=code(own, "") or reason or code(error.get("status"), ""),
        reason=reason,
        metadata=_map(info.get("metadata")),
        violations=" ".join(f"{entry.get('subject', '')} {entry.get('description', '')}" for entry in violations),
    )


def _is_kind(detail: Mapping[str, Any], kind: str) -> bool:
    return str(detail.get("@type", "")).endswith(f"google.rpc.{kind}")


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
