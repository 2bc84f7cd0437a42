"""FCM's own words, and what each means for a device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from notifications.domain.push import ACCEPTED, PushAnswer, Result
from notifications.domain.text import code
from notifications.domain.waits import retry_after

QUOTA_WAIT = timedelta(seconds=60)  # QUOTA_EXCEEDED without a Retry-After (FCM's documentation)

# By error code, else by HTTP status. UNREGISTERED counts only with its 404.
ANSWERS: dict[str, PushAnswer] = {
    "UNREGISTERED": PushAnswer(Result.GONE),
    "INVALID_ARGUMENT": PushAnswer(Result.REFUSED),
    "SENDER_ID_MISMATCH": PushAnswer(Result.REFUSED),
    "THIRD_PARTY_AUTH_ERROR": PushAnswer(Result.REFUSED),
    "QUOTA_EXCEEDED": PushAnswer(Result.BUSY, retry_after=QUOTA_WAIT, pauses_pushing=True),
    "UNAVAILABLE": PushAnswer(Result.BUSY, retry_now=True),
    "INTERNAL": PushAnswer(Result.BUSY, retry_now=True),
    "400": PushAnswer(Result.REFUSED),
    "401": PushAnswer(Result.BUSY, config=True),
    "403": PushAnswer(Result.REFUSED),
    "404": PushAnswer(Result.REFUSED),
    "429": PushAnswer(Result.BUSY, retry_after=QUOTA_WAIT, pauses_pushing=True),
    "500": PushAnswer(Result.BUSY, retry_now=True),
    "503": PushAnswer(Result.BUSY, retry_now=True),
}
UNCLEAR = PushAnswer(Result.UNKNOWN, "UNCLEAR")


def read_answer(status: int, code: str, retry_after: timedelta | None = None) -> PushAnswer:
    """What an HTTP status and FCM error code mean; `code` is "" where the body names none.

    Nothing here says accepted: that takes FCM's own word, a name for the message. A redirect is no
    answer of FCM's and certainly no acceptance: nothing was delivered, and a person has to look.
    """
    if 300 <= status < 400:
        return PushAnswer(Result.BUSY, f"REDIRECT_{status}", foreign=True)
    known = code in ANSWERS and (code != "UNREGISTERED" or status == 404)
    answer = ANSWERS[code] if known else ANSWERS.get(str(status), UNCLEAR)
    wait = retry_after if retry_after is not None and answer.result is Result.BUSY else answer.retry_after
    foreign = answer is UNCLEAR and 200 <= status < 300
    return replace(answer, code=code or str(status), retry_after=wait, foreign=foreign)


def understood(status: int, said: bytes, headers: Mapping[str, str]) -> PushAnswer:
    """What FCM said. Accepted is only what it gave a name: any server can say 200."""
    try:
        told: Any = json.loads(said)
    except (ValueError, RecursionError):
        told = None
    if status == 200 and isinstance(told, dict) and isinstance(told.get("name"), str):
        return ACCEPTED
    return read_answer(status, _error_code(told), retry_after(headers))


def _error_code(told: Any) -> str:
    """FCM's own code, else the general status, else nothing."""
    try:
        error = told["error"]
        details = [detail for detail in error.get("details", []) if isinstance(detail, Mapping)]
        codes = [detail["errorCode"] for detail in details if "errorCode" in detail]
        return code(codes[0] if codes else error.get("status"), "")
    except (TypeError, KeyError, AttributeError):
        return ""
