"""Slots, dates, windows and cohorts: docs/protocol.md, section 2."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notifications.domain.errors import Malformed, NaiveDatetime
from notifications.domain.model import DayState, Ledger, Window
from notifications.domain.schedule import (
    ONE_DAY,
    Cohort,
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
        ("Australia/Lord_Howe", date(2026, 10, 4), 2, utc(2026, 10, 3, 15, 30)),  # a gap of half an hour
        ("Pacific/Kiritimati", date(2026, 5, 2), 22, utc(2026, 5, 2, 8)),
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
    assert slot.back(1) < slot.at


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


@settings(max_examples=2)
@example(utc(2011, 12, 30, 12))  # Samoa left out a day
@example(utc(2026, 3, 29, 3))
@example(utc(2007, 3, 11, 9))  # the first of America's present rules, which footers hold
@example(utc(1994, 12, 31, 12))
@given(st.datetimes(datetime(1980, 1, 1), datetime(2045, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_cohorts_are_those_of_each_zone_by_itself(now: datetime) -> None:
    """However zones are grouped for speed."""
    after = now - timedelta(hours=6)
    expected: dict[tuple[datetime, int], dict[str, date]] = {}
    for name, back, hour in itertools.product(zone_names(), (2, 1, 0, -1), range(24)):
        nominal = now.date() - back * ONE_DAY
        if after < (at := slot_instant(zone(name), nominal, hour)) <= now:
            expected.setdefault((at, hour), {})[name] = nominal  # of two nominal dates the later
    assert {(c.slot, c.hour): dict(c.zones) for c in cohorts_between(after, now)} == expected


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


@pytest.mark.parametrize(("hour", "about"), [(0, 30), (11, 30), (12, 31), (23, 31)])
def test_from_noon_on_a_recap_is_about_its_own_day(hour: int, about: int) -> None:
    slot = slot_on("UTC", date(2026, 5, 31), hour)
    assert slot == Slot(utc(2026, 5, 31, hour), date(2026, 5, about), "UTC", hour)


def test_earlier_slots_keep_their_local_hour() -> None:
    """Over the change to summer time: of the nominal dates, not of so many hours."""
    slot = slot_on("Europe/Berlin", date(2026, 3, 30), 8)
    assert slot.back(1) == utc(2026, 3, 29, 6)
    assert [slot.back(0), slot.back(2)] == [utc(2026, 3, 30, 6), utc(2026, 3, 28, 7)]


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
    assert phase.is_due is (late < 2 * HOUR)


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


def test_zones_have_their_exact_names_and_the_version_that_they_come_from() -> None:
    assert list(zone_names()) == sorted(set(zone_names()))
    assert {"UTC", "Europe/Kyiv", "Europe/Kiev"} <= set(zone_names())
    assert zone("Europe/Kiev").key == "Europe/Kiev"  # an alias stays what the user chose
    assert re.fullmatch(r"20\d\d\.\d+", tzdata_version())


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


def test_a_cohorts_zones_come_in_order_so_many_at_a_time() -> None:
    cohort = Cohort(utc(2026, 5, 1, 20), 22, dict.fromkeys("ecabd", date(2026, 5, 1)))
    assert list(cohort.zone_batches(2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(cohort.zone_batches(5)) == [["a", "b", "c", "d", "e"]]
