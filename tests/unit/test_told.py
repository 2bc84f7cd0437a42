"""Each conversation is told once: docs/protocol.md, section 2, "Told once"."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from notifications.domain.model import Conversation, DayState, Ledger, User
from notifications.domain.schedule import ONE_DAY, Slot, slot_on
from notifications.domain.told_once import candidates, find_neighbours, join_told_hashes, split_told_hashes, told_hash
from notifications.run.day_input import Ledgers

SLOT = slot_on("UTC", date(2026, 5, 10), 20)
HOUR, LOOK_BACK = timedelta(hours=1), timedelta(hours=24)


def day(back: int) -> date:
    return SLOT.recap_date - back * ONE_DAY


def ledger(back: int, told: str | None = "", state: DayState = DayState.SENT, hours: int = 24) -> Ledger:
    end = SLOT.back(back) if back > 0 else SLOT.at - back * ONE_DAY
    return Ledger(day(back), state, window_start=end - hours * HOUR, window_end=end, told=told)


def around(*ledgers: Ledger) -> dict[date, Ledger]:
    return {one.date: one for one in ledgers}


def test_a_recap_reads_back_beyond_its_window_and_leaves_out_what_was_told() -> None:
    mine, other = told_hash("ann", "c1"), told_hash("ann", "c2")
    found = candidates(SLOT, around(ledger(1, mine), ledger(2, other)), LOOK_BACK)
    assert (found.window.start, found.read_from, found.first_untold) == (SLOT.back(1), SLOT.back(2), SLOT.back(2))
    assert (found.until, found.told_before) == (SLOT.at, None)
    assert [found.is_told("ann", key) for key in ("c1", "c2", "c3")] == [True, True, False]
    assert not found.is_told("bob", "c1")


@pytest.mark.parametrize(("hours", "back"), [(0, 24), (1, 25), (24, 48), (48, 72)])
def test_how_far_back_is_a_setting(hours: int, back: int) -> None:
    found = candidates(SLOT, around(*(ledger(n) for n in (1, 2, 3, 4))), timedelta(hours=hours))
    assert found.read_from == SLOT.at - timedelta(hours=back)
    assert found.under_way_since == SLOT.at - timedelta(hours=hours)


def test_nothing_from_before_the_first_recap_is_read_nor_from_over_72_hours_back() -> None:
    assert candidates(SLOT, around(ledger(1, hours=3)), LOOK_BACK).read_from == SLOT.back(1) - 3 * HOUR
    assert candidates(SLOT, around(ledger(3), ledger(4)), LOOK_BACK).read_from == SLOT.at - 72 * HOUR
    assert candidates(SLOT, {}, LOOK_BACK).read_from == SLOT.back(1)
    missed = Ledger(day(1), DayState.MISSED)
    assert candidates(SLOT, around(missed), LOOK_BACK).read_from == SLOT.back(2)
    assert candidates(SLOT, around(missed, ledger(2)), LOOK_BACK).read_from == SLOT.back(3)


def test_a_later_recap_says_what_it_told_and_nothing_of_where_this_one_starts() -> None:
    later = ledger(-1, told_hash("ann", "c1"), hours=48)
    found = candidates(SLOT, around(ledger(1), later), LOOK_BACK)
    assert (found.window.start, found.read_from, found.is_empty) == (SLOT.back(1), SLOT.back(2), False)
    assert found.is_told("ann", "c1")


def test_a_ledger_of_an_older_version_has_told_all_before_its_end() -> None:
    found = candidates(SLOT, around(ledger(1, None), ledger(2)), LOOK_BACK)
    assert (found.read_from, found.first_untold, found.told_before) == (SLOT.back(2), SLOT.back(1), SLOT.back(1))
    by_another = Ledger(day(1), DayState.SENT, "legacy", window_end=SLOT.at - 3 * HOUR)
    assert candidates(SLOT, around(by_another), LOOK_BACK).first_untold == SLOT.at - 3 * HOUR
    without = Ledger(day(1), DayState.MISSED)
    assert candidates(SLOT, around(without, ledger(2)), LOOK_BACK).told_before is None


@pytest.mark.parametrize(("hours", "by"), [(-1, None), (0, None), (1, day(-1))])
def test_an_older_versions_ledger_that_ends_after_the_slot_leaves_nothing_and_is_trouble(
    hours: int, by: date | None
) -> None:
    odd = Ledger(day(-1), DayState.SKIPPED, window_end=SLOT.at + hours * HOUR)
    found = candidates(SLOT, around(odd), LOOK_BACK)
    assert found.is_empty == (hours >= 0)
    assert Ledgers(User("ann", "UTC", 20), SLOT, None, around(odd), found).inverted_by == by
    assert not candidates(
        SLOT, around(Ledger(odd.date, odd.state, window_end=odd.window_end, told="")), LOOK_BACK
    ).is_empty


def test_what_is_under_way_is_left_for_a_later_recap_until_it_is_older_than_the_look_back() -> None:
    found = candidates(SLOT, around(ledger(1)), LOOK_BACK)
    for hours, waits in ((1, True), (24, True), (25, False)):
        assert found.is_for_next_recap(Conversation("c", SLOT.at - hours * HOUR, under_way=True)) is waits
    assert not found.is_for_next_recap(Conversation("c", SLOT.at - HOUR))


def test_what_says_nothing_is_not_told_since_it_may_be_filled_later() -> None:
    said = [Conversation("a", SLOT.at, overview="O"), Conversation("b", SLOT.at), Conversation("c", SLOT.at, title="T")]
    assert join_told_hashes("ann", said) == told_hash("ann", "a")
    assert split_told_hashes(join_told_hashes("ann", [said[0], said[0]])) == [told_hash("ann", "a")] * 2
    assert split_told_hashes("") == []


def test_a_hash_is_ten_letters_of_both_uid_and_id() -> None:
    assert told_hash("ann", "c1") == "2ETVNQRPF2"
    assert len({told_hash(uid, key) for uid in ("a", "b") for key in ("c", "d")}) == 4


def test_the_ledgers_that_may_still_get_a_text_are_looked_at_again() -> None:
    found = find_neighbours(
        SLOT.recap_date,
        around(
            ledger(4),
            ledger(3, state=DayState.SKIPPED),
            Ledger(day(2), DayState.DEAD, seq=3),
            Ledger(day(-1), DayState.MISSED),
            ledger(-2, state=DayState.PENDING),
            Ledger(day(-3), DayState.UNREADABLE),
        ),
    )
    assert found.earlier == {day(3): (DayState.SKIPPED, 1), day(2): (DayState.DEAD, 3), day(1): None}
    assert found.later == {day(-1): (DayState.MISSED, 1)}
    assert not found.have_changed({day(1): None, day(2): Ledger(day(2), DayState.DEAD, seq=3)})
    assert found.have_changed({day(1): ledger(1)})
    assert found.have_changed({day(2): Ledger(day(2), DayState.DEAD, seq=4)})
    assert found.have_changed({day(3): None})


def test_a_slot_at_the_same_instant_has_no_window_and_tells_what_came_late() -> None:
    """From Honolulu to Kiritimati, which is a day ahead at the same hour."""
    slot = Slot(SLOT.at, day(-1), "Pacific/Kiritimati", 22)
    found = candidates(
        slot, around(Ledger(day(0), DayState.SENT, window_start=SLOT.back(1), window_end=SLOT.at, told="")), LOOK_BACK
    )
    assert (found.window.is_empty, found.first_untold, found.until) == (True, SLOT.back(1), SLOT.at)
    assert datetime(2026, 5, 10, 20, tzinfo=UTC) == slot.at
