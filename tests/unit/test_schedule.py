"""Slots, dates, windows and cohorts: docs/protocol.md, section 2."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.domain.errors import Malformed, NaiveDatetime
from notifications.domain.model import DayState, Ledger, Window
from notifications.domain.schedule import (
    ONE_DAY,
    Rules,
    Slot,
    cohorts_between,
    latest_slot,
    nominal_date,
    recap_date,
    slot_instant,
    slot_on,
    zone,
    zone_names,
)
from notifications.domain.told_once import candidates

RULES = Rules(timedelta(hours=2), timedelta(minutes=20))
zones = st.sampled_from(zone_names())
hours = st.integers(0, 23)
days = st.dates(date(2024, 1, 1), date(2030, 12, 31))
moments = st.datetimes(datetime(2024, 1, 3), datetime(2030, 12, 28), timezones=st.just(UTC))  # noqa: DTZ001


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("name", "nominal", "hour", "at"),
    [
        ("America/Nuuk", date(2026, 3, 28), 23, utc(2026, 3, 29, 1)),  # 03-29 00:00 local
        ("Antarctica/Troll", date(2026, 3, 29), 2, utc(2026, 3, 29, 1)),
        ("Antarctica/Troll", date(2026, 3, 29), 1, utc(2026, 3, 29, 1)),
        ("Europe/Berlin", date(2026, 3, 29), 2, utc(2026, 3, 29, 1)),
        ("Europe/Berlin", date(2026, 10, 25), 2, utc(2026, 10, 25, 0)),  # repeated: the first
        ("Asia/Kathmandu", date(2026, 5, 1), 22, utc(2026, 5, 1, 16, 15)),
        ("Asia/Kolkata", date(2026, 5, 1), 22, utc(2026, 5, 1, 16, 30)),
        ("Australia/Lord_Howe", date(2026, 10, 4), 2, utc(2026, 10, 3, 15, 30)),  # a gap of half an hour
        ("Pacific/Apia", date(2011, 12, 30), 22, utc(2011, 12, 30, 10)),  # a day that never was
        ("Pacific/Kiritimati", date(2026, 5, 2), 22, utc(2026, 5, 2, 8)),
        ("Pacific/Honolulu", date(2026, 5, 1), 22, utc(2026, 5, 2, 8)),
    ],
)
def test_the_slot_of_a_local_hour(name: str, nominal: date, hour: int, at: datetime) -> None:
    assert slot_instant(zone(name), nominal, hour) == at


@settings(max_examples=500)
@given(zones, days, hours)
def test_a_slot_shows_its_hour_or_follows_the_gap_that_swallowed_it(name: str, nominal: date, hour: int) -> None:
    at = slot_instant(zone(name), nominal, hour)
    shown = at.astimezone(zone(name)).replace(tzinfo=None)
    just_before = (at - timedelta(seconds=1)).astimezone(zone(name)).replace(tzinfo=None)
    wall = datetime(nominal.year, nominal.month, nominal.day, hour)  # noqa: DTZ001
    assert just_before < wall <= shown
    if shown != wall:
        assert shown - just_before > timedelta(seconds=1)  # the clock was moved at that very instant


@given(zones, days, hours)
def test_a_recap_date_belongs_to_one_nominal_date(name: str, nominal: date, hour: int) -> None:
    slot = slot_on(name, nominal, hour)
    assert nominal_date(recap_date(nominal, hour), hour) == nominal
    assert slot.recap_date == (nominal if hour >= 12 else nominal - ONE_DAY)
    assert slot.previous < slot.at


@settings(max_examples=200)
@given(zones, hours, moments)
def test_the_latest_slot_is_in_the_cohorts_of_its_time(name: str, hour: int, now: datetime) -> None:
    slot = latest_slot(name, hour, now)
    assert slot.at <= now < slot.at + timedelta(days=2)
    [cohort] = [
        c for c in cohorts_between(slot.at - timedelta(minutes=1), slot.at) if c.hour == hour and name in c.zones
    ]
    assert cohort.slot == slot.at
    assert recap_date(cohort.zones[name], hour) == slot.recap_date


def test_a_day_of_cohorts_holds_every_zone_and_hour_once() -> None:
    start = utc(2026, 6, 1, 0, 30)
    found = [(name, c.hour) for c in cohorts_between(start, start + ONE_DAY) for name in c.zones]
    assert sorted(found) == sorted((name, hour) for name in zone_names() for hour in range(24))


def test_cohorts_come_oldest_first_and_divide_like_one_range() -> None:
    start, middle, end = utc(2026, 3, 28, 23), utc(2026, 3, 29, 0, 50), utc(2026, 3, 29, 2)
    whole = cohorts_between(start, end)
    assert whole == cohorts_between(start, middle) + cohorts_between(middle, end)
    assert [c.slot for c in whole] == sorted(c.slot for c in whole)


def test_one_instant_has_users_of_two_dates() -> None:
    [cohort] = [c for c in cohorts_between(utc(2026, 5, 2, 7, 59), utc(2026, 5, 2, 8)) if c.hour == 22]
    assert cohort.zones["Pacific/Kiritimati"] == date(2026, 5, 2)
    assert cohort.zones["Pacific/Honolulu"] == date(2026, 5, 1)


def window(slot: Slot, around: dict[date, Ledger]) -> Window:
    return candidates(slot, around, timedelta(hours=24)).window


SLOT = Slot(utc(2026, 5, 1, 20), date(2026, 5, 1), "UTC", 20)
NEIGHBOURS = [date(2026, 4, 28), date(2026, 4, 29), date(2026, 5, 2), date(2026, 5, 3)]


def ended(at: datetime, day: date = NEIGHBOURS[0], state: DayState = DayState.SENT) -> Ledger:
    return Ledger(day, state, window_end=at)


@pytest.mark.parametrize(
    ("ends", "start"),
    [
        ([], utc(2026, 4, 30, 20)),
        ([utc(2026, 4, 30, 5), utc(2026, 4, 30, 22)], utc(2026, 4, 30, 22)),
        ([utc(2026, 4, 20)], utc(2026, 4, 28, 20)),  # 72 h at most
        ([utc(2026, 5, 1, 20)], utc(2026, 5, 1, 20)),  # the same instant: empty
        ([utc(2026, 5, 2, 1)], utc(2026, 4, 30, 20)),  # a later recap was first: it says nothing of where this starts
    ],
)
def test_a_window_starts_where_the_last_recap_ended(ends: list[datetime], start: datetime) -> None:
    covered = window(SLOT, {day: ended(at, day) for day, at in zip(NEIGHBOURS, ends, strict=False)})
    assert (covered.start, covered.end) == (start, SLOT.at)
    assert covered.is_empty == (start >= SLOT.at)


@pytest.mark.parametrize(
    ("lost", "start"),
    [
        ({1: DayState.MISSED}, utc(2026, 4, 29, 20)),
        ({1: DayState.DEAD, 2: DayState.MISSED}, utc(2026, 4, 28, 20)),
        ({2: DayState.MISSED}, utc(2026, 4, 28, 20)),
        ({3: DayState.MISSED}, utc(2026, 4, 30, 20)),  # too long ago
        ({1: DayState.UNREADABLE}, utc(2026, 4, 30, 20)),
    ],
)
def test_a_window_reaches_back_over_days_that_ended_without_a_recap(lost: dict[int, DayState], start: datetime) -> None:
    around = {SLOT.recap_date - back * ONE_DAY: Ledger(SLOT.recap_date, state) for back, state in lost.items()}
    assert window(SLOT, around).start == start


def test_a_missed_day_across_a_25_hour_day_loses_no_hour() -> None:
    """The day before was missed, and the one before that was sent: 49 h lie between."""
    slot = slot_on("Europe/Paris", date(2026, 10, 25), 22)
    sent = slot_on("Europe/Paris", date(2026, 10, 23), 22)
    around = {
        sent.recap_date: ended(sent.at, sent.recap_date),
        date(2026, 10, 24): Ledger(date(2026, 10, 24), DayState.MISSED),
    }
    assert slot.at - sent.at == timedelta(hours=49)
    assert window(slot, around).start == sent.at


@given(st.lists(st.tuples(zones, hours), min_size=2, max_size=6), days)
def test_windows_of_a_traveller_never_overlap_and_never_leave_a_gap(stays: list[tuple[str, int]], first: date) -> None:
    """Each day another zone and hour; recaps are made in the order of their slots, each date once."""
    slots = {
        slot_on(name, first + ONE_DAY * n, hour).recap_date: slot_on(name, first + ONE_DAY * n, hour)
        for n, (name, hour) in enumerate(stays)
    }
    ends: dict[date, datetime] = {}
    covered = []
    for slot in sorted(slots.values(), key=lambda slot: slot.at):
        near = {day: ended(at, day) for day, at in ends.items() if -3 <= (day - slot.recap_date).days <= 2}
        found = window(slot, near)
        if not found.is_empty:
            covered.append(found)
        ends[slot.recap_date] = found.end
    for earlier, later in itertools.pairwise(covered):
        assert earlier.end <= later.start
        assert later.start in (earlier.end, later.end - timedelta(hours=72)) or later.start > earlier.end


def test_no_naive_datetime_gets_in() -> None:
    naive = datetime(2026, 5, 1, 20)  # noqa: DTZ001
    with pytest.raises(NaiveDatetime, match="has no time zone"):
        latest_slot("UTC", 20, naive)
    with pytest.raises(NaiveDatetime):
        cohorts_between(naive, naive)
    with pytest.raises(NaiveDatetime):
        window(SLOT, {NEIGHBOURS[0]: ended(naive)})
    with pytest.raises(NaiveDatetime):
        RULES.phase(naive, naive)


@pytest.mark.parametrize("name", ["america/new_york", "Mars/Olympus", "", "../etc/passwd"])
def test_a_zone_that_is_no_zone_is_named(name: str) -> None:
    with pytest.raises(Malformed, match="is no IANA time zone"):
        zone(name)
