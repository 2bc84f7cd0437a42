"""A whole run in one process: devices that are busy, silent, gone or refused; the closing pass and the sweep."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from notifications.domain.claim import sweep_key
from notifications.domain.errors import ConfigFault, DependencyDown, StoreDown
from notifications.domain.push import ACCEPTED, PushAnswer, PushResult, Whose
from notifications.testing import ENVIRONMENT
from tests.support.evening import Evening, outcomes

BUSY = PushAnswer(PushResult.BUSY, "UNAVAILABLE")
UNKNOWN = PushAnswer(PushResult.UNKNOWN, "TimeoutError")
GONE = PushAnswer(PushResult.GONE, "UNREGISTERED")
REFUSED = PushAnswer(PushResult.REFUSED, "SENDER_ID_MISMATCH")
QUOTA = PushAnswer(PushResult.BUSY, "QUOTA_EXCEEDED", timedelta(seconds=60), quota=True, whose=Whose.UNSAID)
UNSAID = PushAnswer(PushResult.BUSY, "UNAUTHENTICATED", config=True, whose=Whose.UNSAID)
MANY = [f"user-{n:02}" for n in range(12)]


def one_by_one(*uids: str) -> Evening:
    evening = Evening(concurrency=1)
    evening.add(*(uids or MANY))
    return evening


async def with_an_open_push(answer: PushAnswer = BUSY, devices: int = 1) -> Evening:
    """ann's recap is stored, and its push still owed; from now on each is accepted."""
    evening = Evening()
    evening.add("ann", devices=devices)
    evening.push.script = lambda token: answer if token == f"ann-{devices - 1}" else None
    assert outcomes(await evening.tick()) == {"waiting": 1}
    evening.push.script = lambda token: None
    return evening


def minutes_left(evening: Evening) -> int:
    return round((evening.record("ann").until - evening.redis.ms) / 60_000)


async def test_a_device_that_is_busy_stays_open_and_the_one_that_has_it_is_left_alone() -> None:
    evening = await with_an_open_push(devices=2)
    assert (evening.state("ann"), evening.ledger("ann")["tries"]) == ("pending", 0)
    report = await evening.later(minutes=3)
    assert (outcomes(report), evening.got(), evening.summarizer.calls) == ({"sent": 1}, {"ann-0": 1, "ann-1": 1}, 1)


async def test_tries_without_an_answer_are_spaced_and_the_third_is_the_last() -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: UNKNOWN
    waits = []
    for _ in range(2):
        await evening.tick()
        waits.append(minutes_left(evening))
        evening.now += timedelta(minutes=31)
    assert waits == [1, 5]
    assert (outcomes(await evening.tick()), evening.state("ann")) == ({"gave_up": 1}, "gave_up pushes")
    assert len(evening.push.asked) == 3


async def test_the_document_of_a_dead_device_is_deleted_and_a_refused_one_kept() -> None:
    evening = Evening()
    evening.add("ann", devices=3)
    evening.world.put_device("ann", "d3", {"fid": "dead", "token": "dead-too"})
    evening.add("bob", devices=7)  # so that two are a fifth
    evening.push.script = {"ann-1": GONE, "ann-2": REFUSED, "dead": GONE}.get
    report = await evening.tick()
    assert (outcomes(report), report.counts.tokens_deleted) == ({"sent": 2}, 2)
    assert sorted(evening.world.tokens("ann")) == ["d0", "d2"]
    assert sorted(evening.ledger("ann")["devices"].values()) == ["accepted", "gone", "gone", "refused"]


async def test_of_a_few_devices_none_is_deleted_and_nobody_is_alarmed(capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.add("ann", devices=4)
    evening.push.script = lambda token: GONE
    report = await evening.tick()
    assert (report.counts.tokens_deleted, len(evening.world.tokens("ann"))) == (0, 4)
    assert "deletions_stopped" not in "".join(capsys.readouterr())


async def test_a_refused_device_alone_is_tried_again_after_half_an_hour() -> None:
    evening = await with_an_open_push(REFUSED)
    assert evening.record("ann").until - evening.redis.ms == 30 * 60_000
    assert outcomes(await evening.later(minutes=31)) == {"sent": 1}


async def test_a_push_service_that_refuses_our_credentials_stops_the_run() -> None:
    evening = one_by_one("ann", "bob")
    evening.push.script = lambda token: PushAnswer(PushResult.BUSY, "401", config=True)
    report = await evening.tick()
    assert isinstance(report.trouble, ConfigFault)
    assert (evening.state("ann"), evening.ledger("bob")) == ("pending", {})


async def test_a_push_that_can_be_sent_to_nobody_uses_up_no_try() -> None:
    evening = one_by_one("ann")
    evening.push.script = lambda token: DependencyDown("outbox", "The disk is full.")
    report = await evening.tick()
    assert (report.trouble is not None, evening.state("ann"), evening.ledger("ann")["tries"]) == (True, "pending", 0)


@pytest.mark.parametrize("has_fallback", [True, False])
async def test_the_closing_pass_asks_no_llm_and_pushes_what_is_open(has_fallback: bool) -> None:
    evening = await with_an_open_push()
    evening.has_fallback = has_fallback
    evening.add("bob")
    report = await evening.later(hours=2, minutes=1)
    assert (outcomes(report), evening.summarizer.calls) == (
        {"sent": 2} if has_fallback else {"sent": 1, "missed": 1},
        1,
    )
    assert (evening.state("ann"), evening.state("bob")) == ("sent", "sent" if has_fallback else "missed closed")


async def test_what_no_further_run_will_push_is_given_up() -> None:
    evening = await with_an_open_push()
    evening.push.script = lambda token: BUSY
    report = await evening.later(hours=2, minutes=18)
    assert (outcomes(report), evening.state("ann")) == ({"gave_up": 1}, "gave_up undelivered")


@pytest.mark.parametrize(
    ("deed", "state"),
    [("moved", "sent"), ("off", "gave_up user_gone_or_off"), ("erased", "gave_up user_gone_or_off")],
)
async def test_an_open_delivery_of_who_moved_away_or_is_gone_is_ended_by_the_sweep(deed: str, state: str) -> None:
    evening = await with_an_open_push()
    if deed == "erased":
        evening.world.delete_user("ann")
    else:
        evening.world.update_user("ann", {"daily_summary_hour_local": 5, "daily_summary_enabled": deed == "moved"})
    await evening.claims.delete(sweep_key(ENVIRONMENT))
    report = await evening.later(minutes=5)
    assert (outcomes(report), report.counts.swept) == ({state.split()[0]: 1}, 1)
    assert (evening.state("ann"), evening.got()) == (state, {"ann-0": 1} if state == "sent" else {})


async def test_an_open_delivery_is_given_up_by_the_sweep_once_its_time_is_over() -> None:
    evening = await with_an_open_push()
    report = await evening.later(hours=2, minutes=40)
    assert (outcomes(report), evening.state("ann"), evening.got()) == ({"gave_up": 1}, "gave_up undelivered", {})
    assert report.unserved > 0  # its shard went by, too


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize("cause", ["slow", "SIGTERM", "away"])
async def test_a_store_that_keeps_an_open_delivery_waiting_is_told_from_a_run_that_is_stopped(
    cause: str, swept: bool
) -> None:
    """By a tick and by the sweep: a slow store is a store's failure, and the delivery waits."""
    evening = await with_an_open_push()
    if swept:
        evening.world.update_user("ann", {"daily_summary_hour_local": 5})
        await evening.claims.delete(sweep_key(ENVIRONMENT))

    async def devices(uid: str) -> Any:
        if cause == "SIGTERM":
            evening.terminated.set()
        elif cause == "away":
            raise StoreDown("store", "It is away.")
        else:
            raise TimeoutError  # the user's deadline passes
        await asyncio.Event().wait()

    evening.store.devices = devices
    report = await evening.later(minutes=5)
    record, wait = evening.record("ann"), timedelta(milliseconds=evening.record("ann").until - evening.redis.ms)
    reason = {"slow": "user_deadline", "SIGTERM": "stopped", "away": "store_store"}[cause]
    ending = "stopped" if cause == "SIGTERM" else "waiting"
    assert (outcomes(report), report.counts.swept, record.reason) == ({ending: 1}, int(swept), reason)
    assert (record.failures, evening.state("ann"), evening.got()) == (0, "pending", {})
    if cause == "SIGTERM":
        assert (wait, report.trouble) == (timedelta(0), None)
    else:
        assert timedelta(minutes=1) <= wait <= timedelta(minutes=2)
        assert isinstance(report.trouble, StoreDown) or swept  # a sweep reads its next page, which is answered


async def test_a_sweep_stops_at_a_store_that_is_slow_for_ten_deliveries_in_a_row() -> None:
    evening = one_by_one()
    evening.push.script = lambda token: QUOTA if token < "user-11" else None
    evening.push.says = ACCEPTED
    await evening.tick()
    for uid in MANY:
        evening.world.update_user(uid, {"daily_summary_hour_local": 5})
    await evening.claims.delete(sweep_key(ENVIRONMENT))

    async def devices(uid: str) -> Any:
        raise TimeoutError

    evening.store.devices = devices
    report = await evening.later(minutes=5)
    assert (outcomes(report), report.counts.swept) == ({"waiting": 10}, 10)
    assert "whole deadline" in str(report.trouble)


async def test_many_devices_over_quota_are_each_their_own_where_the_service_takes_more() -> None:
    """However many in a row: it was asked once for each three, and everybody else has theirs in the same run."""
    evening = one_by_one()
    evening.push.script = lambda token: QUOTA if token < "user-06" else None
    report = await evening.tick()
    assert (outcomes(report), evening.push.probed) == ({"sent": 6, "waiting": 6}, 2)
    assert {evening.state(uid) for uid in MANY[:6]} == {"pending"}


@pytest.mark.parametrize("says", [QUOTA, BUSY, UNKNOWN, REFUSED])
async def test_many_devices_over_quota_are_the_projects_where_it_takes_nothing_else(says: PushAnswer) -> None:
    evening = one_by_one()
    evening.push.says = says
    evening.push.script = lambda token: QUOTA
    report = await evening.tick()
    assert (outcomes(report), evening.push.probed, len(evening.push.asked)) == ({"waiting": 12}, 1, 3)
    evening.push.script = lambda token: None
    assert outcomes(await evening.later(minutes=3)) == {"sent": 12}


async def test_one_users_devices_and_one_device_of_many_users_are_not_many() -> None:
    evening = one_by_one()
    evening.add("ann", devices=5)
    for uid in MANY:
        evening.world.put_token(uid, "d0", "shared")
    evening.push.script = lambda token: QUOTA
    report = await evening.tick()
    assert (outcomes(report), evening.push.probed, len(evening.push.asked)) == ({"waiting": 13}, 0, 17)


async def test_a_device_whose_quota_is_named_never_counts() -> None:
    evening = one_by_one()
    evening.push.script = lambda token: replace(QUOTA, whose=Whose.DEVICE) if token < "user-10" else None
    report = await evening.tick()
    assert (outcomes(report)["sent"], evening.push.probed) == (2, 0)


@pytest.mark.parametrize("says", [ACCEPTED, BUSY, UNKNOWN, UNSAID, REFUSED])
async def test_a_refusal_that_may_be_one_devices_own_is_decided_by_a_probe(says: PushAnswer) -> None:
    """It is the device's own where the probe is accepted, and where nobody can say now."""
    evening = one_by_one()
    evening.push.says = says
    evening.push.script = lambda token: UNSAID if token == "user-00-0" else None
    report = await evening.tick()
    refused = says in (UNSAID, REFUSED)
    assert outcomes(report) == ({"waiting": 1, "stopped": 1} if refused else {"sent": 11, "waiting": 1})
    assert (isinstance(report.trouble, ConfigFault), report.trouble is None) == (refused, not refused)
    assert (evening.push.probed, evening.state("user-00")) == (1, "pending")


async def test_those_who_are_refused_at_once_share_one_probe() -> None:
    evening = Evening(concurrency=12)
    evening.add(*MANY)
    evening.push.says = UNSAID
    evening.push.gate = gate = asyncio.Event()

    def refuse(token: str) -> PushAnswer:
        if len(evening.push.asked) == len(MANY):
            gate.set()
        return UNSAID

    evening.push.script = refuse
    report = await evening.tick()
    assert isinstance(report.trouble, ConfigFault)
    assert evening.push.probed == 1


@pytest.mark.parametrize(("known_by", "other"), [("token", "fid"), ("fid", "token")])
async def test_who_has_it_by_its_token_or_its_fid_is_not_pushed_to_under_the_other(known_by: str, other: str) -> None:
    """An evening begun by a version that knew the token alone, or before the app wrote the other into the document."""
    evening = Evening()
    evening.add("ann", devices=2)
    evening.world.put_device("ann", "d0", {known_by: "ann-0"})
    evening.push.script = lambda token: BUSY if token == "ann-1" else None
    await evening.tick()
    evening.world.put_device("ann", "d0", {known_by: "ann-0", other: "other"})
    evening.push.script = lambda token: None
    assert outcomes(await evening.later(minutes=3)) == {"sent": 1}
    assert (evening.got(), len(evening.ledger("ann")["devices"])) == ({"ann-0": 1, "ann-1": 1}, 2)


@pytest.mark.parametrize(
    ("other", "minutes"),
    [(None, 30), (BUSY, 1), (UNKNOWN, 1), (replace(QUOTA, retry_after=timedelta(minutes=20)), 20), (GONE, 30)],
)
async def test_a_users_other_device_does_not_wait_for_the_one_that_is_over_its_quota(
    other: PushAnswer | None, minutes: int
) -> None:
    evening = Evening()
    evening.add("ann", devices=2)
    evening.push.script = {"ann-0": replace(QUOTA, retry_after=timedelta(minutes=90)), "ann-1": other}.get
    await evening.tick()
    assert (evening.state("ann"), minutes_left(evening)) == ("pending", minutes)
