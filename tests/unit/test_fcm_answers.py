"""What each of FCM's answers means."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notifications.adapters.pushes.fcm_answers import QUOTA_WAIT, read_answer
from notifications.domain.push import PushAnswer, Result

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("status", "code", "asked", "answer"),
    [
        (200, "", None, PushAnswer(Result.UNKNOWN, "200", foreign=True)),  # any server can say 200
        (302, "", None, PushAnswer(Result.BUSY, "REDIRECT_302", foreign=True)),
        (404, "UNREGISTERED", None, PushAnswer(Result.GONE, "UNREGISTERED")),
        (400, "UNREGISTERED", None, PushAnswer(Result.REFUSED, "UNREGISTERED")),  # only a 404 says that it is gone
        (404, "NOT_FOUND", None, PushAnswer(Result.REFUSED, "NOT_FOUND")),  # the project, not the device
        (400, "INVALID_ARGUMENT", None, PushAnswer(Result.REFUSED, "INVALID_ARGUMENT")),
        (403, "SENDER_ID_MISMATCH", None, PushAnswer(Result.REFUSED, "SENDER_ID_MISMATCH")),
        (401, "THIRD_PARTY_AUTH_ERROR", None, PushAnswer(Result.REFUSED, "THIRD_PARTY_AUTH_ERROR")),
        (401, "UNAUTHENTICATED", None, PushAnswer(Result.BUSY, "UNAUTHENTICATED", config=True)),
        (429, "QUOTA_EXCEEDED", None, PushAnswer(Result.BUSY, "QUOTA_EXCEEDED", QUOTA_WAIT, pauses_pushing=True)),
        (429, "QUOTA_EXCEEDED", 5 * MINUTE, PushAnswer(Result.BUSY, "QUOTA_EXCEEDED", 5 * MINUTE, pauses_pushing=True)),
        (503, "UNAVAILABLE", MINUTE, PushAnswer(Result.BUSY, "UNAVAILABLE", MINUTE, retry_now=True)),
        (500, "INTERNAL", None, PushAnswer(Result.BUSY, "INTERNAL", retry_now=True)),
        (502, "", None, PushAnswer(Result.UNKNOWN, "502")),
    ],
)
def test_each_answer_of_fcm(status: int, code: str, asked: timedelta | None, answer: PushAnswer) -> None:
    assert read_answer(status, code, asked) == answer


def test_refusals_and_our_own_credentials_are_shouted_about() -> None:
    assert read_answer(403, "SENDER_ID_MISMATCH").alerts
    assert read_answer(401, "").alerts
    assert not read_answer(404, "UNREGISTERED").alerts
