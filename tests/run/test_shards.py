"""A whole run in one process: pages, shards, tasks, one user alone, slots that went by."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from notifications.commands.progress import _lines
from notifications.domain.claim import SKIPPED_PREFIX, pause_key
from notifications.domain.errors import UsageFault
from notifications.domain.push import ACCEPTED, PushAnswer, PushResult
from notifications.run.tick import read_due
from notifications.testing import ENVIRONMENT
from tests.support.evening import Evening, outcomes


async def test_a_document_that_nobody_can_serve_is_told_and_keeps_nobody_from_theirs() -> None:
    evening = Evening()
    evening.add("ann", "bob")
    found = evening.store.due_users

    async def with_one_flaw(*given: Any) -> Any:
        return [replace(one, user=None, flaw="No.") if one.uid == "ann" else one for one in await found(*given)]

    evening.store.due_users = with_one_flaw
    report = await evening.tick()
    assert (outcomes(report), report.defects) == ({"unreadable": 1, "sent": 1}, 1)


UIDS = ("Ann", "bob", "0zoe", "zed", "émile", "~x", *(f"{letter}-user" for letter in "AFKPUZafkpuz"))


@pytest.mark.parametrize(
    ("counts", "limits"),
    [
        ((1,), {"page_size": 2}),
        ((1,), {"shards": 62, "shards_at_once": 5}),
        ((2,), {"shards": 4}),
        ((1, 4, 2), {"shards": 16}),  # their number changes while they run
    ],
)
async def test_pages_shards_and_tasks_serve_everybody_once(counts: tuple[int, ...], limits: dict[str, int]) -> None:
    evening = Evening(**limits)
    evening.add(*UIDS)
    reports = await asyncio.gather(
        *(evening.tick(task_index=n, task_count=count) for count in counts for n in range(count))
    )
    assert sum(outcomes(report).get("sent", 0) for report in reports) == len(UIDS)
    assert evening.got() == {f"{uid}-0": 1 for uid in UIDS}
    assert (await evening.later(minutes=1)).idle


@pytest.mark.parametrize("lost", [False, True])
async def test_a_shard_that_is_left_open_asks_nobody_again_whose_day_was_skipped(lost: bool) -> None:
    """Their keys are free for the app; who else has ended is known by the claim. A set that is lost costs a look."""
    evening = Evening()
    evening.add("ann", "bob", "cat", talks=0)
    evening.add("dan")
    evening.push.script = lambda token: PushAnswer(PushResult.BUSY, "503")
    asked: list[str] = []
    look = evening.store.ledgers_between

    async def looked(uid: str, *between: Any) -> Any:
        asked.append(uid)
        return await look(uid, *between)

    evening.store.ledgers_between = looked
    assert outcomes(await evening.tick()) == {"skipped": 3, "waiting": 1}
    [kept] = [key for key in evening.redis.values if key.startswith(SKIPPED_PREFIX)]
    if lost:
        del evening.redis.values[kept]
    asked.clear()
    evening.push.script = lambda token: None
    assert outcomes(await evening.later(minutes=6)) == {"done_before": 3, "sent": 1}
    assert sorted(set(asked)) == (["ann", "bob", "cat", "dan"] if lost else ["dan"])
    assert (await evening.later(minutes=1)).idle


async def test_one_user_is_served_alone_and_only_once() -> None:
    evening = Evening()
    evening.add("ann", "bob")
    assert outcomes(await evening.start().run_user("ann")) == {"sent": 1}
    assert outcomes(await evening.start().run_user("ann")) == {"done_before": 1}
    assert evening.got() == {"ann-0": 1}
    evening.world.update_user("bob", {"daily_summary_enabled": False})
    assert outcomes(await evening.start().run_user("bob")) == {"skipped": 1}
    with pytest.raises(UsageFault, match="users/nobody does not exist"):
        await evening.start().run_user("nobody")
    evening.now += timedelta(hours=3)
    assert outcomes(await evening.start().run_user("ann")) == {}


async def test_a_slot_that_no_run_served_is_told_once_this_redis_remembers() -> None:
    evening = Evening()
    first = await evening.tick()
    assert first.unserved == 0  # an empty Redis remembers nothing
    evening.now += timedelta(hours=2, minutes=45)
    report = await evening.tick()
    assert report.unserved > 0
    later = await evening.tick(installed_at=evening.now)
    assert later.unserved == 0


async def test_a_pause_that_another_process_was_told_of_is_kept_before_the_claim() -> None:
    evening = Evening()
    evening.add("ann")
    await evening.claims.set_pause(pause_key(ENVIRONMENT), timedelta(seconds=0.05))
    running = asyncio.create_task(evening.tick())
    await asyncio.sleep(0)
    evening.now += timedelta(seconds=1)
    assert outcomes(await running) == {"sent": 1}


async def test_another_makers_value_under_a_shards_key_ends_after_two_hours() -> None:
    """It has no end of its own; the shard is served once it has gone."""
    evening = Evening()
    evening.add("ann")
    due = await read_due(evening.claims, evening.limits, evening.now, timedelta(0), None)
    of_ann = (evening.slots["ann"].at, 20)
    [held] = [one.key for one in due.claimable_shards if (one.cohort.slot, one.cohort.hour) == of_ann]
    await evening.redis.set(held, "1")
    assert (outcomes(await evening.tick()), evening.redis.ends(held)) == ({}, evening.redis.ms + 2 * 3_600_000)
    assert outcomes(await evening.later(hours=2, seconds=1)) == {"sent": 1}


async def test_users_of_an_hour_that_was_lost_are_counted_too() -> None:
    """Redis is emptied while the first user is pushed to: their claim is gone, and the shard's at its next renewal."""
    evening = Evening(concurrency=1, page_size=2, shard_renew_seconds=0.1)
    uids = [f"user-{n:02}" for n in range(12)]
    evening.add(*uids)
    renewed, was_emptied = asyncio.Event(), False
    renew, write = evening.claims.renew, evening.summarizer.ask

    async def renew_and_tell(*given: Any) -> Any:
        reply = await renew(*given)
        if was_emptied:
            renewed.set()
        return reply

    async def write_after_it(*given: Any, **more: Any) -> Any:
        if was_emptied:
            await renewed.wait()
        return await write(*given, **more)

    def flush(token: str) -> PushAnswer:
        nonlocal was_emptied
        if not was_emptied:
            evening.redis.values.clear()
            was_emptied = True
        return ACCEPTED

    evening.push.script = flush
    evening.claims.renew, evening.summarizer.ask = renew_and_tell, write_after_it  # type: ignore[method-assign,assignment]
    report = await evening.tick()
    counted = outcomes(report)
    # the first; the second, claimed anew; the third, whose turn came when the shard was lost
    assert (counted, report.counts.unreached) == ({"lost": 2, "sent": 1}, 9)
    said = " ".join(_lines(report, 1.0))
    assert "2 whose claim was gone at the end (another run has them, or Redis was emptied), " in said
    assert "9 not reached (their hour was left to another run, or to the next);" in said
    assert outcomes(await evening.later(minutes=1)) == {"sent": 10, "done_before": 2}
