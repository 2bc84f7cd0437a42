"""FCM's own words, and what each means for a device."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from notifications.domain.push import ACCEPTED, PushAnswer, Result, Whose
from notifications.domain.text import code
from notifications.domain.waits import retry_after

QUOTA_WAIT = timedelta(seconds=60)  # QUOTA_EXCEEDED without a Retry-After (FCM's documentation)
SERVICE, PERMISSION = "fcm.googleapis.com", "cloudmessaging.messages.create"
NO_PROJECT = "knows nothing at this address; check GOOGLE_CLOUD_PROJECT and FCM_BASE_URL"
ABOUT_A_DEVICE = ("device", "token", "registration", "installation")

# By status and FCM's own code, else by status alone: a code means what it says only with its own status.
ANSWERS: dict[tuple[int, str], PushAnswer] = {
    (404, "UNREGISTERED"): PushAnswer(Result.GONE),
    (403, "SENDER_ID_MISMATCH"): PushAnswer(Result.REFUSED),
    (401, "THIRD_PARTY_AUTH_ERROR"): PushAnswer(Result.REFUSED),
    (400, ""): PushAnswer(Result.REFUSED),
    (401, ""): PushAnswer(Result.BUSY, config=True, whose=Whose.UNSAID),
    (403, ""): PushAnswer(Result.BUSY, config=True, whose=Whose.UNSAID),
    (404, ""): PushAnswer(Result.BUSY, config=True, whose=Whose.UNSAID, says=NO_PROJECT),
    (429, ""): PushAnswer(Result.BUSY, retry_after=QUOTA_WAIT, quota=True, whose=Whose.UNSAID),
    (500, ""): PushAnswer(Result.BUSY, retry_now=True),
    (503, ""): PushAnswer(Result.BUSY, retry_now=True),
}
UNCLEAR = PushAnswer(Result.UNKNOWN, "UNCLEAR")


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
        return PushAnswer(Result.BUSY, f"REDIRECT_{status}", foreign=True)
    name = error.code or str(status)
    if 200 <= status < 300:
        return replace(UNCLEAR, code=name, foreign=True)
    answer = ANSWERS.get((status, error.code)) or ANSWERS.get((status, ""), UNCLEAR)
    after = wait if wait is not None and answer.result is Result.BUSY else answer.retry_after
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
