"""What a push says, and what FCM's answers mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.adapters.pushes.fcm import wire
from notifications.domain.model import collapse_id
from notifications.domain.push import (
    NO_TEXT,
    QUOTA_WAIT,
    TTL,
    Answer,
    Message,
    Result,
    deletions_allowed,
    notice,
    read_answer,
)
from notifications.domain.text import bounded, plain

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("status", "code", "asked", "answer"),
    [
        (200, "", None, Answer(Result.UNKNOWN, "200", foreign=True)),  # any server can say 200
        (302, "", None, Answer(Result.BUSY, "REDIRECT_302", foreign=True)),
        (404, "UNREGISTERED", None, Answer(Result.GONE, "UNREGISTERED")),
        (400, "UNREGISTERED", None, Answer(Result.REFUSED, "UNREGISTERED")),  # only a 404 says that it is gone
        (404, "NOT_FOUND", None, Answer(Result.REFUSED, "NOT_FOUND")),  # the project, not the device
        (400, "INVALID_ARGUMENT", None, Answer(Result.REFUSED, "INVALID_ARGUMENT")),
        (403, "SENDER_ID_MISMATCH", None, Answer(Result.REFUSED, "SENDER_ID_MISMATCH")),
        (401, "THIRD_PARTY_AUTH_ERROR", None, Answer(Result.REFUSED, "THIRD_PARTY_AUTH_ERROR")),
        (401, "UNAUTHENTICATED", None, Answer(Result.BUSY, "UNAUTHENTICATED", config=True)),
        (429, "QUOTA_EXCEEDED", None, Answer(Result.BUSY, "QUOTA_EXCEEDED", QUOTA_WAIT, slow_run=True)),
        (429, "QUOTA_EXCEEDED", 5 * MINUTE, Answer(Result.BUSY, "QUOTA_EXCEEDED", 5 * MINUTE, slow_run=True)),
        (503, "UNAVAILABLE", MINUTE, Answer(Result.BUSY, "UNAVAILABLE", MINUTE, retry_now=True)),
        (500, "INTERNAL", None, Answer(Result.BUSY, "INTERNAL", retry_now=True)),
        (502, "", None, Answer(Result.UNKNOWN, "502")),
    ],
)
def test_each_answer_of_fcm(status: int, code: str, asked: timedelta | None, answer: Answer) -> None:
    assert read_answer(status, code, asked) == answer


def test_refusals_and_our_own_credentials_are_shouted_about() -> None:
    assert read_answer(403, "SENDER_ID_MISMATCH").shout
    assert read_answer(401, "").shout
    assert not read_answer(404, "UNREGISTERED").shout


@given(st.text(max_size=400), st.text(max_size=60))
def test_a_body_is_short_never_empty_and_cut_at_a_word(overview: str, headline: str) -> None:
    body = notice(headline, overview, "🌤️").body
    assert 0 < len(body) <= 150
    words = plain(overview)
    if body.endswith("…") and len(words) > 150 and " " in words[:149]:
        kept = body[:-1]
        assert words.startswith(kept)


def test_a_long_overview_is_cut_after_a_whole_word() -> None:
    assert bounded("one two three four", 12) == "one two…"
    assert bounded("one two, three", 9) == "one two…"
    assert bounded("short", 12) == "short"
    assert notice("", "", "").body == NO_TEXT
    assert bounded("", 5) == ""


def test_the_wire_form_for_every_platform() -> None:
    at = datetime(2026, 5, 1, 20, tzinfo=UTC)
    tag = collapse_id("u" * 1500, at.date())
    message = Message("u", tag, "🌤️ Head", "Body", "2026-05-01", at, at + TTL)
    sent = wire("token", message)
    assert sent["data"] == {
        "type": "day_summary",
        "notification_type": "daily_summary",
        "navigate_to": "/daily-summary/2026-05-01",
        "id": "2026-05-01",
        "created_at": "2026-05-01T20:00:00+00:00",
        "text": "Body",
    }
    assert sent["notification"] == {"title": "🌤️ Head", "body": "Body"}
    assert sent["android"]["notification"]["tag"] == tag
    assert sent["apns"]["headers"]["apns-collapse-id"] == tag
    assert sent["webpush"]["notification"]["tag"] == tag
    assert len(tag.encode()) == 32
    assert sent["android"]["ttl"] == "72000s"
    assert sent["webpush"]["headers"]["TTL"] == "72000"
    assert sent["apns"]["headers"]["apns-expiration"] == str(int(at.timestamp()) + 72000)


@pytest.mark.parametrize(("devices", "allowed"), [(0, 10), (50, 10), (51, 10), (100, 20), (1000, 200)])
def test_a_run_deletes_a_fifth_of_its_devices_at_most(devices: int, allowed: int) -> None:
    assert deletions_allowed(devices) == allowed
