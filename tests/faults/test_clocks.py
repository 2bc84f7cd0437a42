"""Redis' clock is wrong, or jumps: nothing is claimed by it, nothing is written, and a person is told which clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiohttp import web
from redis import Redis

from notifications.domain.claim import ClaimState
from tests.faults.stage import on_sqlite
from tests.integration.test_trouble import one_sentence
from tests.support.jobs import Stage
from tests.support.shifted import ShiftedRedis

DAY = 86_400


@pytest.fixture
def shifted(stage: Stage) -> Iterator[ShiftedRedis]:
    """Redis as every process of this stage sees it."""
    made = ShiftedRedis(stage.redis.port)
    stage.settings["REDIS_URL"] = made.url
    yield made
    made.stop()


def keys_of(stage: Stage) -> int:
    with Redis(port=stage.redis.port) as client:
        return int(client.dbsize())


@pytest.mark.parametrize(("shift", "told"), [(DAY, "24 h 0 min ahead of"), (-3 * DAY, "3 days behind")])
def test_a_clock_that_is_days_off_claims_nothing_and_writes_nothing(
    stage: Stage, shifted: ShiftedRedis, shift: int, told: str
) -> None:
    """Tomorrow would be skipped for everybody who is due in it; of the days before nobody knows any more."""
    stage.add_user("ann")
    shifted.shift = shift
    finished = stage.run()
    said = one_sentence(finished.err)
    assert (finished.code, f"Redis' clock is {told} the store's; set the wrong clock right" in said) == (4, True), (
        finished.err
    )
    assert (stage.world.ledgers("ann"), keys_of(stage)) == ({}, 0)
    assert finished.named("slots.unserved") == []
    shifted.shift = 0
    assert stage.run().event("tick.finished")["sent"] == 1


def test_a_clock_that_is_behind_is_told_where_every_tick_would_be_idle(stage: Stage, shifted: ShiftedRedis) -> None:
    stage.nothing_is_due()
    assert stage.run().event("tick.finished")["idle"] is False  # the first sweep
    shifted.shift = -600
    before = keys_of(stage)
    finished = stage.run()
    assert (finished.code, "10 min behind the store's" in one_sentence(finished.err)) == (4, True), finished.err
    assert keys_of(stage) == before
    shifted.shift = -240  # as clocks may differ
    assert stage.run().event("tick.finished")["documents_read"] == 0


@pytest.mark.parametrize("jump", [DAY, -DAY])
@on_sqlite
def test_a_claim_won_by_a_clock_that_jumped_is_given_back_before_it_is_used(
    stage: Stage, shifted: ShiftedRedis, jump: int
) -> None:
    """Ann is being served when it jumps; bob's claim says so."""
    stage.settings["RECAP_CONCURRENCY"] = "1"
    slots = {uid: stage.add_user(uid) for uid in ("ann", "bob")}

    async def jumps(who: str) -> web.Response | None:
        shifted.shift = jump
        return None

    stage.llm.script = jumps
    finished = stage.run()
    assert (finished.code, "has jumped" in finished.err.splitlines()[-1]) == (4, True), finished.err
    assert [len(stage.world.ledgers(uid)) for uid in ("ann", "bob")] == [1, 0]
    bob = stage.record("bob", slots["bob"])
    assert (bob.state, bob.failures, bob.crashes, bob.reason) == (ClaimState.IDLE, 0, 0, "clock")
    stage.llm.script, shifted.shift = None, 0
    with Redis(port=stage.redis.port) as client:  # the shards rest for a minute
        for key in client.scan_iter("daily_summary:cohort:*"):
            client.delete(key)
    event = stage.run().event("tick.finished")
    assert (event["sent"], event["extracts"]) == (1, 0)
    assert stage.llm.calls == {"ann": 1, "bob": 1}


@on_sqlite
def test_who_asks_by_hand_is_told_too(stage: Stage, shifted: ShiftedRedis) -> None:
    slot = stage.add_user("ann")
    assert "ok    the clocks of Redis, the store and this machine" in stage.run("doctor").out
    shifted.shift = -DAY
    for command in (("--user", "ann"), ("resend", "ann", slot.recap_date.isoformat())):
        finished = stage.run(*command)
        assert (finished.code, "24 h 0 min behind" in one_sentence(finished.err)) == (4, True), finished.err
    assert stage.world.ledgers("ann") == {}
    examined = stage.run("doctor")
    assert examined.code == 1
    assert "Redis' clock is 24 h 0 min behind the store's" in " ".join(examined.out.split())
    assert keys_of(stage) == 0
