"""A whole run in one process: devices that are busy, silent, gone or refused; the closing pass and the sweep."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notifications.domain.claim import sweep_key
from notifications.domain.errors import (
    ConfigFault,
    DependencyDown,
)
from notifications.domain.push import PushAnswer, Result
from tests.support.evening import Evening, endings
from tests.support.memory import ENVIRONMENT

BUSY = PushAnswer(Result.BUSY, "UNAVAILABLE")
UNKNOWN = PushAnswer(Result.UNKNOWN, "TimeoutError")
GONE = PushAnswer(Result.GONE, "UNREGISTERED")
REFUSED = PushAnswer(Result.REFUSED, "SENDER_ID_MISMATCH")


async def test_a_device_that_is_busy_stays_open_and_the_one_that_has_it_is_left_alone() -> None:
    evening = Evening()
    evening.add("ann", devices=2)
    evening.push.script = lambda token: BUSY if token == "ann-1" else None
    report = await evening.tick()
    assert (endings(report), evening.state("ann"), evening.ledger("ann")["tries"]) == ({"waiting": 1}, "pending", 0)
    evening.push.script = lambda token: None
    report = await evening.later(minutes=3)
    assert (endings(report), evening.got(), evening.summarizer.calls) == ({"sent": 1}, {"ann-0": 1, "ann-1": 1}, 1)


async def test_tries_without_an_answer_are_spaced_and_the_third_is_the_last() -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: UNKNOWN
    waits = []
    for _ in range(3):
        await evening.tick()
        waits.append(round((evening.record("ann").until - evening.redis.ms) / 60_000))
        evening.now += timedelta(minutes=31)
    assert waits == [1, 5, 25]
    assert (endings(await evening.tick()), evening.state("ann")) == ({"gave_up": 1}, "gave_up pushes")
    assert len(evening.push.asked) == 3


async def test_a_dead_token_is_deleted_and_a_refused_one_is_kept() -> None:
    evening = Evening()
    evening.add("ann", devices=3)
    evening.push.script = {"ann-1": GONE, "ann-2": REFUSED}.get
    report = await evening.tick()
    assert (endings(report), report.counts.tokens_deleted) == ({"sent": 1}, 1)
    assert sorted(evening.world.tokens("ann")) == ["d0", "d2"]
    assert evening.ledger("ann")["devices"] == {
        k: v for k, v in evening.ledger("ann")["devices"].items() if v in ("accepted", "gone")
    }


async def test_a_refused_device_alone_is_tried_again_after_half_an_hour() -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: REFUSED
    await evening.tick()
    assert evening.record("ann").until - evening.redis.ms == 30 * 60_000
    evening.push.script = lambda token: None
    assert endings(await evening.later(minutes=31)) == {"sent": 1}


async def test_a_push_service_that_refuses_our_credentials_stops_the_run() -> None:
    evening = Evening(concurrency=1)
    evening.add("ann", "bob")
    evening.push.script = lambda token: PushAnswer(Result.BUSY, "401", config=True)
    report = await evening.tick()
    assert isinstance(report.trouble, ConfigFault)
    assert (evening.state("ann"), evening.ledger("bob")) == ("pending", {})


async def test_a_push_that_can_be_sent_to_nobody_uses_up_no_try() -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: DependencyDown("outbox", "The disk is full.")
    report = await evening.tick()
    assert (report.trouble is not None, evening.state("ann"), evening.ledger("ann")["tries"]) == (True, "pending", 0)


@pytest.mark.parametrize("falls_back", [True, False])
async def test_the_closing_pass_asks_no_llm_and_pushes_what_is_open(falls_back: bool) -> None:
    evening = Evening()
    evening.falls_back = falls_back
    evening.add("ann")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    evening.add("bob")
    evening.push.script = lambda token: None
    report = await evening.later(hours=2, minutes=1)
    assert (endings(report), evening.summarizer.calls) == ({"sent": 2} if falls_back else {"sent": 1, "missed": 1}, 1)
    assert (evening.state("ann"), evening.state("bob")) == ("sent", "sent" if falls_back else "missed closed")


async def test_what_no_further_run_will_push_is_given_up() -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    report = await evening.later(hours=2, minutes=18)
    assert (endings(report), evening.state("ann")) == ({"gave_up": 1}, "gave_up undelivered")


async def test_an_open_delivery_of_who_moved_away_is_swept() -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    evening.world.update_user("ann", {"daily_summary_hour_local": 5})
    evening.push.script = lambda token: None
    await evening.later(minutes=5)
    await evening.claims.forget(sweep_key(ENVIRONMENT))
    report = await evening.later(minutes=5)
    assert (report.counts.swept, endings(report), evening.state("ann"), evening.got()) == (
        1,
        {"sent": 1},
        "sent",
        {"ann-0": 1},
    )


@pytest.mark.parametrize("deed", ["erased", "off"])
async def test_an_open_delivery_of_who_is_gone_is_given_up(deed: str) -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    if deed == "off":
        evening.world.update_user("ann", {"daily_summary_enabled": False})
    else:
        evening.world.delete_user("ann")
    evening.push.script = lambda token: None
    await evening.claims.forget(sweep_key(ENVIRONMENT))
    report = await evening.later(minutes=5)
    assert (endings(report), evening.state("ann"), evening.got()) == ({"gave_up": 1}, "gave_up user_gone_or_off", {})


async def test_an_open_delivery_is_given_up_by_the_sweep_once_its_time_is_over() -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    evening.push.script = lambda token: None
    report = await evening.later(hours=2, minutes=40)
    assert (endings(report), evening.state("ann"), evening.got()) == ({"gave_up": 1}, "gave_up undelivered", {})
    assert report.unserved > 0  # its shard went by, too
