"""Slots at the edges of days, gaps and folds, to the second: docs/protocol.md, section 2."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from notifications.domain.model import DayState, Ledger
from notifications.domain.schedule import (
    Phase,
    Rules,
    Slot,
    cohorts_between,
    latest_slot,
    nominal_date,
    recap_date,
    slot_instant,
    slot_on,
    tzdata_version,
    zone,
    zone_names,
)
from notifications.domain.told_once import candidates

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
INSTANT = timedelta(microseconds=1)  # the least that a datetime tells apart
ST_JOHNS = "America/St_Johns"  # in 2010 a minute after midnight became 23:01 of the day before


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("name", "nominal", "hour", "at"),
    [
        ("UTC", date(2026, 5, 1), 0, utc(2026, 5, 1)),
        ("UTC", date(2026, 5, 1), 23, utc(2026, 5, 1, 23)),
        ("Europe/Berlin", date(2026, 3, 29), 1, utc(2026, 3, 29, 0)),
        ("Europe/Berlin", date(2026, 3, 29), 3, utc(2026, 3, 29, 1)),
        ("Europe/Berlin", date(2026, 10, 25), 1, utc(2026, 10, 24, 23)),
        ("Europe/Berlin", date(2026, 10, 25), 3, utc(2026, 10, 25, 2)),
        ("Africa/Monrovia", date(1972, 1, 7), 0, utc(1972, 1, 7, 0, 44, 30)),  # a gap of 44 minutes and a half
        ("Africa/Monrovia", date(1972, 1, 7), 1, utc(1972, 1, 7, 1)),
        ("Antarctica/Casey", date(2020, 10, 4), 1, utc(2020, 10, 3, 16, 1)),  # three hours went a minute after midnight
        ("America/Goose_Bay", date(1987, 4, 5), 1, utc(1987, 4, 5, 4, 1)),
        ("Asia/Pyongyang", date(2018, 5, 4), 23, utc(2018, 5, 4, 14, 30)),
        ("Asia/Pyongyang", date(2018, 5, 5), 0, utc(2018, 5, 4, 15)),  # half an hour was skipped before it
        ("America/Caracas", date(2007, 12, 9), 3, utc(2007, 12, 9, 7, 30)),  # the clock went back to 02:30
        ("Pacific/Apia", date(2011, 12, 30), 0, utc(2011, 12, 30, 10)),
        ("Pacific/Apia", date(2011, 12, 30), 23, utc(2011, 12, 30, 10)),
        ("Pacific/Kwajalein", date(1969, 9, 30), 22, utc(1969, 9, 30, 11)),  # a day that came twice
        (ST_JOHNS, date(2010, 11, 6), 23, utc(2010, 11, 7, 1, 30)),
        (ST_JOHNS, date(2010, 11, 7), 0, utc(2010, 11, 7, 2, 30)),
    ],
)
def test_the_slot_to_the_second(name: str, nominal: date, hour: int, at: datetime) -> None:
    found = slot_instant(zone(name), nominal, hour)
    assert found == at
    assert found.tzinfo is UTC  # not the machine's own zone


@pytest.mark.parametrize(("hour", "about"), [(0, 30), (11, 30), (12, 31), (23, 31)])
def test_from_noon_on_a_recap_is_about_its_own_day(hour: int, about: int) -> None:
    assert recap_date(date(2026, 5, 31), hour) == date(2026, 5, about)
    assert nominal_date(date(2026, 5, about), hour) == date(2026, 5, 31)
    assert slot_on("UTC", date(2026, 5, 31), hour) == Slot(utc(2026, 5, 31, hour), date(2026, 5, about), "UTC", hour)


def test_earlier_slots_keep_their_local_hour() -> None:
    """Over the change to summer time: of the nominal dates, not of so many hours."""
    slot = slot_on("Europe/Berlin", date(2026, 3, 30), 8)
    assert slot.previous == slot.back(1) == utc(2026, 3, 29, 6)
    assert [slot.back(0), slot.back(2), slot.back(3)] == [utc(2026, 3, 30, 6), utc(2026, 3, 28, 7), utc(2026, 3, 27, 7)]


@pytest.mark.parametrize(
    ("late", "phase"),
    [
        (-INSTANT, Phase.EARLY),
        (0 * HOUR, Phase.DUE),
        (2 * HOUR - INSTANT, Phase.DUE),
        (2 * HOUR, Phase.CLOSING),
        (3 * HOUR - INSTANT, Phase.CLOSING),
        (3 * HOUR, Phase.OVER),
    ],
)
def test_each_phase_has_its_start_and_not_its_end(late: timedelta, phase: Phase) -> None:
    slot = utc(2026, 5, 1, 20)
    elsewhere = (slot + late).astimezone(timezone(5 * HOUR))
    assert Rules(2 * HOUR, HOUR).phase(slot, elsewhere) is phase


@pytest.mark.parametrize(
    ("name", "hour", "now", "at", "about"),
    [
        ("UTC", 20, utc(2026, 5, 1, 20), utc(2026, 5, 1, 20), date(2026, 5, 1)),
        ("UTC", 20, utc(2026, 5, 1, 20) - INSTANT, utc(2026, 4, 30, 20), date(2026, 4, 30)),
        ("UTC", 0, utc(2026, 5, 1), utc(2026, 5, 1), date(2026, 4, 30)),
        ("UTC", 23, utc(2026, 5, 1), utc(2026, 4, 30, 23), date(2026, 4, 30)),
        ("Pacific/Kiritimati", 0, utc(2026, 5, 1, 9, 59), utc(2026, 4, 30, 10), date(2026, 4, 30)),
        ("Pacific/Kiritimati", 0, utc(2026, 5, 1, 10), utc(2026, 5, 1, 10), date(2026, 5, 1)),
        ("Pacific/Apia", 22, utc(2011, 12, 30, 10), utc(2011, 12, 30, 10), date(2011, 12, 30)),
        ("Pacific/Apia", 0, utc(2011, 12, 30, 10), utc(2011, 12, 30, 10), date(2011, 12, 30)),  # of two the later date
        ("Pacific/Apia", 22, utc(2011, 12, 30, 9, 59), utc(2011, 12, 30, 8), date(2011, 12, 29)),
        (ST_JOHNS, 0, utc(2010, 11, 7, 2, 29), utc(2010, 11, 6, 2, 30), date(2010, 11, 5)),
        (ST_JOHNS, 0, utc(2010, 11, 7, 2, 45), utc(2010, 11, 7, 2, 30), date(2010, 11, 6)),  # of the wall's tomorrow
        (ST_JOHNS, 23, utc(2010, 11, 7, 2, 45), utc(2010, 11, 7, 1, 30), date(2010, 11, 6)),
    ],
)
def test_the_latest_slot_of_one_user(name: str, hour: int, now: datetime, at: datetime, about: date) -> None:
    assert latest_slot(name, hour, now) == Slot(at, about, name, hour)


def slots(name: str, after: datetime, until: datetime) -> list[tuple[datetime, int, date]]:
    return [(c.slot, c.hour, c.zones[name]) for c in cohorts_between(after, until) if name in c.zones]


@pytest.mark.parametrize(
    ("name", "after", "until", "found"),
    [
        ("UTC", utc(2026, 5, 1, 8), utc(2026, 5, 1, 9), [(9, 9)]),  # without its start, with its end
        ("UTC", utc(2026, 5, 1, 9), utc(2026, 5, 1, 9), []),
        ("UTC", utc(2026, 5, 1, 9) - INSTANT, utc(2026, 5, 1, 9), [(9, 9)]),
        ("UTC", utc(2026, 5, 1, 9), utc(2026, 5, 1, 10) - INSTANT, []),
        ("UTC", utc(2026, 5, 1, 7, 59, 59), utc(2026, 5, 1, 10), [(8, 8), (9, 9), (10, 10)]),
        ("Europe/Berlin", utc(2026, 3, 29), utc(2026, 3, 29, 2), [(1, 2), (1, 3), (2, 4)]),  # a gap: two at once
        ("Europe/Berlin", utc(2026, 3, 29, 0, 59), utc(2026, 3, 29, 1), [(1, 2), (1, 3)]),
        ("Europe/Berlin", utc(2026, 3, 29, 1), utc(2026, 3, 29, 2), [(2, 4)]),
        ("Europe/Berlin", utc(2026, 10, 25) - INSTANT, utc(2026, 10, 25, 2), [(0, 2), (2, 3)]),  # a fold: the first
        ("Europe/Berlin", utc(2026, 10, 25), utc(2026, 10, 25, 1, 59), []),
    ],
)
def test_the_cohorts_of_a_zone(name: str, after: datetime, until: datetime, found: list[tuple[int, int]]) -> None:
    day = until.date()
    expected = [(utc(day.year, day.month, day.day, at), hour, day) for at, hour in found]
    assert slots(name, after, until) == expected


def test_a_clock_that_went_back_over_midnight_makes_each_slot_once() -> None:
    found = [
        (utc(2010, 11, 7, 1, 30), 23, date(2010, 11, 6)),
        (utc(2010, 11, 7, 2, 30), 0, date(2010, 11, 7)),
        (utc(2010, 11, 7, 4, 30), 1, date(2010, 11, 7)),
    ]
    assert slots(ST_JOHNS, utc(2010, 11, 7, 1), utc(2010, 11, 7, 5)) == found
    assert slots(ST_JOHNS, utc(2010, 11, 7, 2, 29), utc(2010, 11, 7, 2, 31)) == found[1:2]
    assert slots(ST_JOHNS, utc(2010, 11, 7, 2, 30), utc(2010, 11, 7, 4, 29)) == []


def test_a_skipped_day_shares_its_slots_and_the_later_date_wins() -> None:
    at = utc(2011, 12, 30, 10)
    skipped = [(at, hour, date(2011, 12, 30)) for hour in range(1, 24)]
    assert slots("Pacific/Apia", at - SECOND, at) == [(at, 0, date(2011, 12, 31)), *skipped]
    assert slots("Pacific/Apia", at, at + HOUR) == [(at + HOUR, 1, date(2011, 12, 31))]


def test_a_cohort_is_of_one_instant_and_one_hour() -> None:
    found = [(c.slot, c.hour) for c in cohorts_between(utc(2026, 5, 1, 8), utc(2026, 5, 1, 9, 30))]
    assert found == sorted(set(found))


PARIS = slot_on("Europe/Paris", date(2026, 10, 26), 22)  # the day before it had 25 hours
LOST = Ledger(date(2026, 10, 24), DayState.MISSED)


@pytest.mark.parametrize(
    ("around", "start"),
    [
        ([], PARIS.at - 24 * HOUR),
        ([Ledger(date(2026, 10, 25), DayState.SENT)], PARIS.at - 24 * HOUR),  # says nothing of what it covered
        ([Ledger(date(2026, 10, 25), DayState.DEAD)], PARIS.at - 49 * HOUR),
        ([LOST], PARIS.at - 72 * HOUR),  # the slot of the 23rd is 73 h back
        ([LOST, Ledger(date(2026, 10, 23), DayState.SENT, window_end=PARIS.at - 72 * HOUR)], PARIS.at - 72 * HOUR),
        ([LOST, Ledger(date(2026, 10, 23), DayState.SENT, window_end=PARIS.at - 71 * HOUR)], PARIS.at - 71 * HOUR),
        ([LOST, Ledger(date(2026, 10, 25), DayState.SENT, window_end=PARIS.at - HOUR)], PARIS.at - HOUR),
    ],
)
def test_a_windows_start_to_the_hour(around: list[Ledger], start: datetime) -> None:
    found = candidates(PARIS, {one.date: one for one in around}, 24 * HOUR).window
    assert (found.start, found.end) == (start, PARIS.at)


def test_zones_have_their_exact_names_and_the_version_that_they_come_from() -> None:
    assert list(zone_names()) == sorted(set(zone_names()))
    assert {"UTC", "Europe/Kyiv", "Europe/Kiev"} <= set(zone_names())
    assert zone("Europe/Kiev").key == "Europe/Kiev"  # an alias stays what the user chose
    assert re.fullmatch(r"20\d\d\.\d+", tzdata_version())
