"""A whole run in one process: crashes, SIGTERM, defects, and servers that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from notifications.domain.claim import ClaimState, pause_key, user_key
from notifications.domain.errors import ClaimsDown, StoreDown
from notifications.run.state import Run
from notifications.testing import ENVIRONMENT
from tests.support.evening import Evening, of, outcomes


async def claim_ann(evening: Evening, token: str) -> None:
    """As a run does that then dies, or takes its time."""
    slot = evening.slots["ann"]
    await evening.claims.claim(Run(evening.services).user_terms("ann", slot.recap_date, slot.at), token, 2)


def claiming(evening: Evening, look: Callable[[int], None]) -> None:
    """At each claim of a user, look at its lane first."""
    real = evening.claims.claim

    async def claim(terms: Any, token: str, lane: int) -> Any:
        if terms.key.startswith("users:"):
            look(lane)
        return await real(terms, token, lane)

    evening.claims.claim = claim  # type: ignore[method-assign]


class Failing:
    """The store, but for one method that fails for a while."""

    def __init__(self, store: Any, name: str, times: int) -> None:
        self._store, self._name, self._left = store, name, times

    def __getattr__(self, name: str) -> Any:
        if name == self._name and self._left > 0:
            return self._fails
        return getattr(self._store, name)

    async def _fails(self, *_: object, **__: object) -> None:
        self._left -= 1
        raise StoreDown("memory", "It is down.")


async def test_who_was_being_served_when_runs_died_goes_alone_and_ends_dead() -> None:
    evening = Evening()
    evening.add("ann", "bob")
    crashes = []
    for run in range(4):
        await claim_ann(evening, f"of run {run}")
        evening.now += timedelta(minutes=12)
        crashes.append(evening.record("ann").crashes)
    assert crashes == [0, 1, 2, 3]
    report = await evening.tick()
    assert outcomes(report) == {"dead": 1, "sent": 1}
    assert (evening.state("ann"), evening.state("bob")) == ("dead crashes", "sent")


async def test_who_crashed_a_run_once_is_served_in_a_narrower_lane_of_the_same_tick() -> None:
    evening = Evening()
    evening.add("ann")
    await claim_ann(evening, "of a run that dies")
    lanes: list[int] = []
    claiming(evening, lanes.append)
    assert outcomes(await evening.later(minutes=12)) == {"sent": 1}
    assert (lanes, evening.got()) == ([0, 1], {"ann-0": 1})


async def test_a_user_whom_another_run_holds_leaves_the_shard_open() -> None:
    evening = Evening()
    evening.add("ann")
    await claim_ann(evening, "another")
    report = await evening.tick()
    assert (outcomes(report), evening.got()) == ({"held": 1}, {})
    assert not (await evening.later(minutes=6)).idle


async def test_sigterm_releases_who_has_not_begun() -> None:
    evening = Evening()
    evening.add("ann")

    async def told_to_stop(*_: object, **__: object) -> Any:
        evening.terminated.set()
        await asyncio.sleep(30)

    evening.summarizer.ask = told_to_stop  # type: ignore[method-assign]
    report = await evening.tick()
    record = evening.record("ann")
    assert (outcomes(report), record.state, record.failures) == ({"stopped": 1}, ClaimState.IDLE, 0)
    assert evening.record("ann").until == evening.redis.ms


async def test_a_defect_of_ours_is_kept_from_the_others_and_frees_the_claim() -> None:
    evening = Evening()
    evening.add("ann", "bob")
    evening.summarizer.script = of("ann", lambda material: ZeroDivisionError())
    report = await evening.tick()
    assert (outcomes(report), report.defects) == ({"failed": 1, "sent": 1}, 1)
    assert (evening.record("ann").state, evening.record("ann").reason) == (ClaimState.IDLE, "defect_zerodivisionerror")


@pytest.mark.parametrize("name", ["begin", "record_pushes"])
async def test_a_write_whose_end_is_not_known_is_tried_again(name: str) -> None:
    evening = Evening()
    evening.add("ann")
    evening.store = Failing(evening.store, name, 2)
    assert outcomes(await evening.tick()) == {"sent": 1}
    assert evening.got() == {"ann-0": 1}


@pytest.mark.parametrize("name", ["ledgers_between", "conversations_in", "devices", "begin", "end_day"])
async def test_a_store_that_is_down_charges_nobody(name: str) -> None:
    evening = Evening()
    evening.add("ann", talks=0 if name == "end_day" else 1)
    store, evening.store = evening.store, Failing(evening.store, name, 99)
    report = await evening.tick()
    assert (outcomes(report), evening.record("ann").failures, evening.record("ann").crashes) == ({"waiting": 1}, 0, 0)
    evening.store = store
    await evening.later(minutes=5)
    assert evening.state("ann").startswith("skipped" if name == "end_day" else "sent")


async def test_a_redis_that_fails_midway_stops_the_claiming() -> None:
    evening = Evening(concurrency=1)
    evening.add("ann", "bob")

    def down(lane: int) -> None:
        raise ClaimsDown("redis", "It is down.")

    claiming(evening, down)
    report = await evening.tick()
    assert (isinstance(report.trouble, ClaimsDown), evening.summarizer.calls, evening.got()) == (True, 0, {})


async def test_the_same_day_is_not_made_twice_when_redis_forgets() -> None:
    evening = Evening()
    evening.add("ann")
    await evening.tick()
    evening.redis.values.clear()
    report = await evening.later(minutes=1)
    assert (outcomes(report), evening.summarizer.calls, evening.got()) == ({"done_before": 1}, 1, {"ann-0": 1})
    assert evening.record("ann").state is ClaimState.SENT
    assert user_key("ann", evening.slots["ann"].recap_date) in evening.redis.values


async def test_a_day_that_ended_though_the_reply_was_lost_is_told_as_what_it_is() -> None:
    """Its second try finds its own ledger: nobody else ended the day."""
    evening = Evening()
    evening.has_fallback = False
    evening.add("ann")
    real, replies = evening.store.end_day, iter([StoreDown("memory", "The reply is lost.")])

    async def lost(*given: Any) -> Any:
        decision = await real(*given)
        if fault := next(replies, None):
            raise fault
        return decision

    evening.store.end_day = lost
    evening.now += timedelta(hours=2, minutes=1)
    report = await evening.tick()
    assert (outcomes(report), evening.state("ann")) == ({"waiting": 1}, "missed closed")
    report = await evening.later(minutes=6)
    assert outcomes(report) == {"done_before": 1}  # by another claim: whoever it was has told it


async def test_who_waits_for_no_llm_is_not_held_up_by_its_pause() -> None:
    evening = Evening()
    evening.add("ann")
    evening.now += timedelta(hours=2, minutes=1)
    await evening.claims.set_pause(pause_key(ENVIRONMENT), timedelta(minutes=10))
    async with asyncio.timeout(5):
        assert outcomes(await evening.tick()) == {"sent": 1}
