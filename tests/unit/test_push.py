"""What a push says, and how it looks on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.adapters.pushes.fcm import wire
from notifications.domain.model import collapse_id
from notifications.domain.push import (
    NO_TEXT,
    TTL,
    Message,
    deletions_allowed,
    notice,
)
from notifications.domain.text import bounded, plain

MINUTE = timedelta(minutes=1)


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
