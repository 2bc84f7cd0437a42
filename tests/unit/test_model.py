"""The nouns: what each says about itself."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest

from notifications.domain.errors import ItemFault, ItemReason, NaiveDatetime, ProviderFault, StoreDown
from notifications.domain.model import (
    ActionItem,
    Conversation,
    DayState,
    Device,
    Turn,
    Window,
    collapse_id,
    day_of,
    instant,
)

AT = datetime(2026, 5, 1, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Nowhere(tzinfo):
    """A zone that does not know its offset: as naive as none."""

    def utcoffset(self, dt: datetime | None) -> None:
        return None

    def dst(self, dt: datetime | None) -> None:
        return None

    def tzname(self, dt: datetime | None) -> None:
        return None


def test_an_instant_is_told_in_utc() -> None:
    found = instant(datetime(2026, 5, 1, 22, tzinfo=timezone(2 * timedelta(hours=1))))
    assert found == AT
    assert found.tzinfo is UTC  # not the machine's own zone


@pytest.mark.parametrize("zone", [None, Nowhere()])
def test_a_naive_datetime_is_no_instant(zone: tzinfo | None) -> None:
    with pytest.raises(NaiveDatetime, match="2026-05-01T20:00:00 has no time zone"):
        instant(datetime(2026, 5, 1, 20, tzinfo=zone))


def test_a_device_is_known_by_the_hash_of_its_token() -> None:
    assert Device("token", None).id == hashlib.sha256(b"token").hexdigest()[:16] == "3c469e9d6c5875d3"
    fid = hashlib.sha256(b"fid").hexdigest()[:16]
    assert Device("token", None, fid="fid").ids == ("3c469e9d6c5875d3", fid)
    assert Device("token", None, fid="fid").id == "3c469e9d6c5875d3"  # as a former version knew it
    assert Device("", None, fid="fid").id == fid


def test_a_collapse_id_is_the_hash_of_user_and_day() -> None:
    assert collapse_id("ann", date(2026, 5, 1)) == hashlib.sha256(b"ann|2026-05-01").hexdigest()[:32]


@pytest.mark.parametrize(
    ("told", "tells"),
    [
        (Conversation("c", AT, title="A title alone"), False),
        (Conversation("c", AT, category="work", language="en"), False),
        (Conversation("c", AT, overview="words"), True),
        (Conversation("c", AT, action_items=(ActionItem("call"),)), True),
        (Conversation("c", AT, events=("dinner",)), True),
        (Conversation("c", AT, turns=(Turn("", "words"),)), True),
    ],
)
def test_what_was_talked_of_makes_a_recap_and_a_title_does_not(told: Conversation, tells: bool) -> None:
    assert told.has_content is tells


@pytest.mark.parametrize(
    ("started", "finished", "minutes"),
    [
        (AT, AT + 90 * MINUTE, 90.0),
        (AT, AT + timedelta(seconds=30), 0.5),
        (AT, AT, 0.0),
        (AT + MINUTE, AT, 0.0),  # reversed
        (None, AT, 0.0),
        (AT, None, 0.0),
        (None, None, 0.0),
    ],
)
def test_a_conversations_length_in_minutes(started: datetime | None, finished: datetime | None, minutes: float) -> None:
    assert Conversation("c", AT, started, finished).minutes == minutes


@pytest.mark.parametrize(("start", "empty"), [(AT - MINUTE, False), (AT, True), (AT + MINUTE, True)])
def test_a_window_that_starts_at_its_end_is_empty(start: datetime, empty: bool) -> None:
    assert Window(start, AT).is_empty is empty


@pytest.mark.parametrize(
    ("state", "final", "is_open"),
    [
        (DayState.SENDING, False, True),
        (DayState.PENDING, False, True),
        (DayState.SENT, True, False),
        (DayState.SKIPPED, True, False),
        (DayState.MISSED, True, False),
        (DayState.DEAD, True, False),
        (DayState.GAVE_UP, True, False),
        (DayState.UNREADABLE, False, False),  # neither: it is never guessed at
    ],
)
def test_a_day_is_open_or_ended_or_unreadable(state: DayState, final: bool, is_open: bool) -> None:
    assert (state.final, state.open) == (final, is_open)


@pytest.mark.parametrize(
    ("key", "day"),
    [
        ("2026-05-01", date(2026, 5, 1)),
        ("2024-02-29", date(2024, 2, 29)),
        ("2026-02-29", None),
        ("2026-5-1", None),
        ("20260501", None),  # a date too, and no key
        ("2026-W18-5", None),
        ("2026-05-01T00:00:00", None),
        ("notes", None),
        ("", None),
    ],
)
def test_a_ledgers_key_is_a_day_or_none_of_ours(key: str, day: date | None) -> None:
    assert day_of(key) == day


def test_errors_say_what_is_down_and_whether_waiting_helps() -> None:
    down, item = StoreDown("firestore", "It does not answer."), ItemFault(ItemReason.REFUSAL, "It refuses the notes.")
    assert (down.name, str(down)) == ("firestore", "It does not answer.")
    assert (item.reason, str(item)) == (ItemReason.REFUSAL, "It refuses the notes.")
    waits = ProviderFault("It answers 503.", name="push", retry_after=MINUTE)
    assert (str(waits), waits.name, waits.retry_after) == ("It answers 503.", "push", MINUTE)
    flags: list[dict[str, Any]] = [
        {},
        {"final": True},
        {"config": True},
    ]  # what a person must mend is not waited for
    faults = [ProviderFault("No.", **given) for given in flags]
    assert [(one.final, one.config) for one in faults] == [(False, False), (True, False), (True, True)]
