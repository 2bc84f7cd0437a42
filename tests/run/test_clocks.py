"""Redis' clock against the store's, with this machine's for a witness; and at each claim since."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from notifications.domain.errors import ClaimsDown, StoreDown
from notifications.run.clocks import Comparison, RedisTime, disagreement, host_is_wrong, off_by
from notifications.testing import MemoryClaims
from tests.support.evening import EIGHT, Evening, outcomes

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
MIDGE = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("ahead", "read_in", "apart"),
    [
        *[(timedelta(0), 0, False), (5 * MINUTE, 0, False), (5 * MINUTE + MIDGE, 0, True)],
        *[(-5 * MINUTE, 0, False), (-5 * MINUTE - MIDGE, 0, True), (-5 * MINUTE - MIDGE, 4, True)],
        *[(9 * MINUTE, 4, False), (9 * MINUTE + MIDGE, 4, True)],  # frozen between the two readings
    ],
)
def test_clocks_are_apart_beyond_five_minutes(ahead: timedelta, read_in: int, apart: bool) -> None:
    assert Comparison(RedisTime(NOON, 0, 0), ahead, read_in * MINUTE).is_one_wrong is apart


@pytest.mark.parametrize(
    ("moved", "before", "after", "off"),
    [
        *[(60, 60, 60, 0), (360, 60, 60, 0), (361, 60, 60, 301), (-240, 60, 60, 0), (-241, 60, 60, -301)],
        *[(60, 60, 4000, 0), (4301, 60, 4000, 301)],  # the process was frozen before the answer was read
        *[(4000, 60, 4000, 0), (86_460, 60, 61, 86_399)],  # or before it was asked for
    ],
)
def test_a_jump_is_what_both_clocks_can_not_have_moved(moved: int, before: float, after: float, off: int) -> None:
    assert RedisTime(NOON, 0, 0).jump(NOON + moved * SECOND, before, after) == off * SECOND


def test_the_sentences_say_which_clock_how_far_and_what_to_do() -> None:
    then = "set the wrong clock right (NTP), nothing is claimed until they agree within 5 minutes."
    assert disagreement(DAY, None) == f"Redis' clock is 24 h 0 min ahead of the store's; {then}"
    assert disagreement(-DAY, timedelta(0)) == f"Redis' clock is 24 h 0 min behind the store's; {then}"
    together = "is 24 h 0 min ahead of the store's, and so is this machine's"
    assert disagreement(DAY, DAY + MINUTE) == f"Redis' clock {together}; {then}"
    apart = "is 24 h 0 min ahead of the store's, and this machine's 0 h 10 min behind it"
    assert disagreement(DAY, -10 * MINUTE) == f"Redis' clock {apart}; {then}"
    assert host_is_wrong(5 * MINUTE) == ""
    assert host_is_wrong(-3 * DAY).startswith("This machine's clock is 3 days behind the store's and Redis'; ")
    assert off_by(-90 * MINUTE) == "1 h 30 min behind"


async def settled() -> Evening:
    """One user, served, and the first sweep done: an idle tick is next."""
    evening = Evening()
    evening.add("ann")
    assert outcomes(await evening.tick()) == {"sent": 1}
    evening.opened = 0
    return evening


async def test_an_idle_tick_asks_no_store_where_the_host_agrees() -> None:
    evening = await settled()
    report = await evening.tick(host_now=lambda: evening.now - 5 * MINUTE)
    assert (report.idle, evening.opened) == (True, 0)


async def test_a_wrong_host_asks_the_store_is_told_and_stops_nobody() -> None:
    evening = await settled()
    with capture_logs() as logs:
        report = await evening.tick(host_now=lambda: evening.now + DAY)
    assert (report.idle, evening.opened) == (True, 1)
    [told] = [event for event in logs if event["event"] == "clock.host"]
    assert told["reason"].startswith("This machine's clock is 24 h 0 min ahead of the store's and Redis'")
    evening.add("bob")
    evening.redis.values.clear()
    assert outcomes(await evening.tick(host_now=lambda: evening.now + DAY)) == {"sent": 1, "done_before": 1}


@pytest.mark.parametrize("host", [timedelta(0), -DAY, 3 * DAY])
async def test_whatever_the_host_says_the_store_decides(host: timedelta) -> None:
    """With Redis, with the store, or with neither."""
    evening = Evening()
    evening.add("ann")
    evening.redis.clock = lambda: evening.now - DAY
    with pytest.raises(ClaimsDown, match="Redis' clock is 24 h 0 min behind the store's"):
        await evening.tick(host_now=lambda: evening.now + host)
    assert (evening.redis.values, evening.ledger("ann")) == ({}, {})


@pytest.mark.parametrize(("host", "stops"), [(timedelta(0), False), (DAY, True)])
async def test_a_store_that_does_not_answer_judges_nothing(host: timedelta, stops: bool) -> None:
    """Where the host has no doubt either, its first page tells what ails it."""
    evening = Evening()
    evening.add("ann")

    async def down() -> Any:
        raise StoreDown("firestore", "away")

    evening.store.now = down
    if stops:
        with pytest.raises(StoreDown):
            await evening.tick(host_now=lambda: evening.now + host)
    else:
        assert outcomes(await evening.tick(host_now=lambda: evening.now + host)) == {"sent": 1}


async def test_a_clock_that_jumps_while_the_parts_are_opened_is_told() -> None:
    evening = Evening()
    evening.add("ann")
    asked = iter([evening.now + DAY])
    evening.redis.clock = lambda: next(asked, evening.now)
    with pytest.raises(ClaimsDown, match="has jumped, and is 24 h 0 min behind where it was"):
        await evening.tick()
    assert evening.redis.values == {}


async def test_a_clock_that_is_set_back_a_little_is_no_closing_pass() -> None:
    """The slot has come, then it is two seconds away again: the LLM is asked all the same."""
    evening = Evening()
    evening.now = EIGHT + SECOND
    evening.add("ann")

    class SetBack(MemoryClaims):
        async def claim(self, *asked: Any) -> Any:
            evening.redis.clock = lambda: EIGHT - SECOND
            return await super().claim(*asked)

    evening.claims = SetBack(evening.redis)
    report = await evening.tick()
    assert (outcomes(report), report.counts.extracts, evening.summarizer.calls) == ({"sent": 1}, 0, 1)
