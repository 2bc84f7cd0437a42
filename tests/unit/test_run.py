"""A whole run in one process: what each outcome does to the ledger, the claim, the counts and the next tick."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from notifications.domain.claim import SWEEP_KEY, Stored, user_key
from notifications.domain.errors import (
    ClaimsDown,
    ConfigFault,
    DependencyDown,
    ItemFault,
    ItemReason,
    ProviderFault,
    StoreDown,
)
from notifications.domain.push import PushAnswer, Result
from notifications.domain.recap import Material
from tests.support.evening import Evening, endings

BUSY = PushAnswer(Result.BUSY, "UNAVAILABLE")
UNKNOWN = PushAnswer(Result.UNKNOWN, "TimeoutError")
GONE = PushAnswer(Result.GONE, "UNREGISTERED")
REFUSED = PushAnswer(Result.REFUSED, "SENDER_ID_MISMATCH")


def refusal(material: Material) -> Exception:
    return ItemFault(ItemReason.REFUSAL, "No.")


def useless(material: Material) -> Exception:
    return ItemFault(ItemReason.TRUNCATED, "It ended early.")


def of(uid: str, fault: Callable[[Material], Exception]) -> Callable[[Material], Exception | None]:
    """The fault, on this user's day alone."""
    return lambda material: fault(material) if f"who={uid} " in material.conversations[0].overview else None


async def test_everybody_who_is_due_gets_one_recap_and_the_next_tick_is_idle() -> None:
    evening = Evening()
    evening.add("ann", "bob", "cho", devices=2)
    evening.add("eve", hour=21)
    report = await evening.tick()
    assert (endings(report), report.counts.due, report.counts.pushes, report.llm_calls) == ({"sent": 3}, 3, 6, 3)
    assert {evening.state(uid) for uid in ("ann", "bob", "cho")} == {"sent"}
    assert set(evening.got().values()) == {1}
    assert evening.record("ann").state is Stored.SENT
    again = await evening.later(minutes=1)
    assert (again.idle, evening.opened) == (True, 1)


async def test_a_day_with_nothing_to_say_is_skipped_without_a_call() -> None:
    evening = Evening()
    evening.add("ann", talks=0)
    report = await evening.tick()
    assert (endings(report), dict(report.counts.skipped), evening.summarizer.calls) == (
        {"skipped": 1},
        {"no_content": 1},
        0,
    )
    assert (evening.state("ann"), evening.record("ann").state) == ("skipped no_content", Stored.SKIPPED)


async def test_a_day_without_devices_is_stored_and_counts_as_sent() -> None:
    evening = Evening()
    evening.add("ann", devices=0)
    assert endings(await evening.tick()) == {"sent": 1}
    assert (evening.state("ann"), len(evening.world.summaries("ann"))) == ("sent no_devices", 1)


async def test_another_hands_summary_counts_as_sent_and_nothing_is_pushed() -> None:
    evening = Evening()
    evening.add("ann")
    day = evening.slots["ann"].recap_date.isoformat()
    evening.world.put_summary("ann", day, {"date": day, "headline": "Theirs", "overview": "O"})
    assert endings(await evening.tick()) == {"skipped": 1}
    assert (evening.state("ann"), evening.got(), evening.summarizer.calls) == ("sent legacy", {}, 0)


async def test_who_switches_off_while_the_llm_writes_gets_nothing() -> None:
    evening = Evening()
    evening.add("ann")

    def switches_off(material: Material) -> None:
        evening.world.update_user("ann", {"daily_summary_enabled": False})

    evening.summarizer.script = switches_off
    report = await evening.tick()
    assert (endings(report), dict(report.counts.skipped)) == ({"skipped": 1}, {"user_gone_or_off": 1})
    assert (evening.ledger("ann"), evening.got(), evening.record("ann").state) == ({}, {}, Stored.SKIPPED)


async def test_an_items_own_fault_is_charged_and_its_third_ends_the_day() -> None:
    evening = Evening()
    evening.add("ann", "bob")
    evening.summarizer.script = lambda material: (
        refusal(material) if material.conversations[0].overview.startswith("who=ann") else None
    )
    report = await evening.tick()
    assert (endings(report), evening.record("ann").failures, evening.record("ann").reason) == (
        {"waiting": 1, "sent": 1},
        1,
        "refusal",
    )
    first = evening.record("ann").until - evening.redis.ms
    assert 30_000 <= first <= 90_000
    await evening.later(minutes=5)
    second = evening.record("ann").until - evening.redis.ms
    assert 90_000 <= second <= 270_000
    report = await evening.later(minutes=6)
    assert (endings(report), evening.state("ann"), evening.record("ann").state) == (
        {"dead": 1, "done_before": 1},
        "dead failures",
        Stored.DEAD,
    )
    assert (evening.ledger("ann")["failures"], evening.ledger("ann")["reason"]) == (3, "refusal")
    assert report.counts.without_a_recap == 1


async def test_a_provider_that_fails_charges_nobody_and_ten_in_a_row_stop_the_claiming() -> None:
    evening = Evening(concurrency=1)
    evening.add(*(f"user-{n:02}" for n in range(15)))
    evening.summarizer.script = lambda material: ProviderFault("It answers 503.", retry_after=timedelta(minutes=2))
    report = await evening.tick()
    assert (endings(report)["waiting"], evening.summarizer.calls) == (10, 10)
    assert isinstance(report.trouble, DependencyDown)
    assert {evening.record(f"user-{n:02}").failures for n in range(15)} == {0}
    evening.summarizer.script = lambda material: None
    assert endings(await evening.later(minutes=5)) == {"sent": 15}


async def test_a_refused_key_stops_the_claiming_at_once() -> None:
    evening = Evening(concurrency=1)
    evening.add("ann", "bob")
    evening.summarizer.script = lambda material: ProviderFault("It refuses the key.", config=True)
    report = await evening.tick()
    assert (isinstance(report.trouble, ConfigFault), evening.summarizer.calls) == (True, 1)
    assert evening.record("ann").state is Stored.IDLE


async def test_answers_that_are_all_useless_are_the_providers_and_ones_own_are_charged() -> None:
    evening = Evening(concurrency=20)
    evening.add(*(f"user-{n:02}" for n in range(12)))
    evening.summarizer.script = useless
    report = await evening.tick()
    assert "useless" in str(report.trouble)
    assert {evening.record(f"user-{n:02}").failures for n in range(12)} == {0}
    evening.summarizer.script = lambda material: (
        useless(material) if "who=user-03" in material.conversations[0].overview else None
    )
    report = await evening.later(minutes=5)
    assert (endings(report), evening.record("user-03").failures) == ({"sent": 11, "waiting": 1}, 1)


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


async def test_the_closing_pass_pushes_what_is_open_and_misses_the_rest() -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    evening.add("bob")
    evening.push.script = lambda token: None
    report = await evening.later(hours=2, minutes=1)
    assert (endings(report), evening.summarizer.calls) == ({"sent": 1, "missed": 1}, 1)
    assert (evening.state("ann"), evening.state("bob")) == ("sent", "missed closed")


async def test_what_no_further_run_will_push_is_given_up() -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    report = await evening.later(hours=2, minutes=18)
    assert (endings(report), evening.state("ann")) == ({"gave_up": 1}, "gave_up undelivered")


async def test_who_was_being_served_when_runs_died_goes_alone_and_ends_dead() -> None:
    evening = Evening()
    evening.add("ann", "bob")
    crashes = []
    for run in range(4):
        await evening.claims.claim(await _terms(evening, "ann"), f"of run {run}, which dies", 2)
        evening.now += timedelta(minutes=12)
        crashes.append(evening.record("ann").crashes)
    assert crashes == [0, 1, 2, 3]
    report = await evening.tick()
    assert endings(report) == {"dead": 1, "sent": 1}
    assert (evening.state("ann"), evening.state("bob")) == ("dead crashes", "sent")


async def test_who_crashed_a_run_once_is_served_in_a_narrower_lane_of_the_same_tick() -> None:
    evening = Evening()
    evening.add("ann")
    await evening.claims.claim(await _terms(evening, "ann"), "of a run that dies", 2)
    lanes = []
    real = evening.claims.claim

    async def seen(terms: Any, token: str, lane: int) -> Any:
        lanes.extend([lane] if terms.key.startswith("users:") else [])
        return await real(terms, token, lane)

    evening.claims.claim = seen  # type: ignore[method-assign]
    assert endings(await evening.later(minutes=12)) == {"sent": 1}
    assert (lanes, evening.got()) == ([0, 1], {"ann-0": 1})


async def _terms(evening: Evening, uid: str) -> Any:
    from notifications.run.state import Run

    slot = evening.slots[uid]
    return Run(evening.parts).user_terms(uid, slot.recap_date, slot.at)


async def test_a_user_whom_another_run_holds_leaves_the_shard_open() -> None:
    evening = Evening()
    evening.add("ann")
    await evening.claims.claim(await _terms(evening, "ann"), "another", 2)
    report = await evening.tick()
    assert (endings(report), evening.got()) == ({"held": 1}, {})
    assert not (await evening.later(minutes=6)).idle


async def test_sigterm_releases_who_has_not_begun() -> None:
    evening = Evening()
    evening.add("ann")

    async def told_to_stop(*_: object) -> Any:
        evening.terminated.set()
        await asyncio.sleep(30)

    evening.summarizer.summarize = told_to_stop  # type: ignore[assignment, method-assign]
    report = await evening.tick()
    assert (endings(report), evening.record("ann").state, evening.record("ann").failures) == (
        {"stopped": 1},
        Stored.IDLE,
        0,
    )
    assert evening.record("ann").until == evening.redis.ms


async def test_a_defect_of_ours_is_kept_from_the_others_and_frees_the_claim() -> None:
    evening = Evening()
    evening.add("ann", "bob")
    evening.summarizer.script = lambda material: (
        ZeroDivisionError() if "who=ann" in material.conversations[0].overview else None
    )
    report = await evening.tick()
    assert (endings(report), report.defects) == ({"failed": 1, "sent": 1}, 1)
    assert (evening.record("ann").state, evening.record("ann").reason) == (Stored.IDLE, "defect_zerodivisionerror")


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


@pytest.mark.parametrize("name", ["begin", "report"])
async def test_a_write_whose_end_is_not_known_is_tried_again(name: str) -> None:
    evening = Evening()
    evening.add("ann")
    evening.store = Failing(evening.store, name, 2)
    assert endings(await evening.tick()) == {"sent": 1}
    assert evening.got() == {"ann-0": 1}


@pytest.mark.parametrize("name", ["ledgers_between", "conversations_in", "devices", "begin", "end_day"])
async def test_a_store_that_is_down_charges_nobody(name: str) -> None:
    evening = Evening()
    evening.add("ann", talks=0 if name == "end_day" else 1)
    store, evening.store = evening.store, Failing(evening.store, name, 99)
    report = await evening.tick()
    assert (endings(report), evening.record("ann").failures, evening.record("ann").crashes) == ({"waiting": 1}, 0, 0)
    evening.store = store
    await evening.later(minutes=5)
    assert evening.state("ann").startswith("skipped" if name == "end_day" else "sent")


async def test_a_redis_that_fails_midway_stops_the_claiming() -> None:
    evening = Evening(concurrency=1)
    evening.add("ann", "bob")
    real = evening.claims.claim

    async def down(terms: Any, token: str, lane: int) -> Any:
        if terms.key.startswith("users:"):
            raise ClaimsDown("redis", "It is down.")
        return await real(terms, token, lane)

    evening.claims.claim = down  # type: ignore[method-assign]
    report = await evening.tick()
    assert (isinstance(report.trouble, ClaimsDown), evening.summarizer.calls, evening.got()) == (True, 0, {})


async def test_an_open_delivery_of_who_moved_away_is_swept() -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    evening.world.update_user("ann", {"daily_summary_hour_local": 5})
    evening.push.script = lambda token: None
    await evening.later(minutes=5)
    await evening.claims.forget(SWEEP_KEY)
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
    await evening.claims.forget(SWEEP_KEY)
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


async def test_a_document_that_nobody_can_serve_is_told_and_keeps_nobody_from_theirs() -> None:
    evening = Evening()
    evening.add("ann", "bob")
    found = evening.store.due_users

    async def with_one_flaw(*given: Any) -> Any:
        from dataclasses import replace

        return [replace(one, user=None, flaw="No.") if one.uid == "ann" else one for one in await found(*given)]

    evening.store.due_users = with_one_flaw
    report = await evening.tick()
    assert (endings(report), report.defects) == ({"unreadable": 1, "sent": 1}, 1)


async def test_pages_are_read_to_their_end() -> None:
    evening = Evening(page_size=2)
    evening.add(*(f"user-{n}" for n in range(5)))
    assert endings(await evening.tick()) == {"sent": 5}


async def test_sixty_shards_serve_everybody_once() -> None:
    evening = Evening(shards=62, shards_at_once=5)
    evening.add("Ann", "bob", "0zoe", "zed", "émile", "~x")
    assert endings(await evening.tick()) == {"sent": 6}
    assert (await evening.later(minutes=1)).idle


async def test_two_tasks_side_by_side_serve_everybody_once() -> None:
    evening = Evening(shards=4)
    evening.add(*(f"{letter}-user" for letter in "AFKPUZafkpuz"))
    reports = await asyncio.gather(*(evening.tick(task=task, tasks=2) for task in range(2)))
    assert sum(endings(report).get("sent", 0) for report in reports) == 12
    assert set(evening.got().values()) == {1}


async def test_one_user_is_served_alone_and_only_once() -> None:
    evening = Evening()
    evening.add("ann", "bob")
    assert endings(await evening.start().run_user("ann")) == {"sent": 1}
    assert endings(await evening.start().run_user("ann")) == {"done_before": 1}
    assert evening.got() == {"ann-0": 1}
    evening.world.update_user("bob", {"daily_summary_enabled": False})
    assert endings(await evening.start().run_user("bob")) == {"skipped": 1}
    with pytest.raises(ConfigFault, match="users/nobody does not exist"):
        await evening.start().run_user("nobody")
    evening.now += timedelta(hours=3)
    assert endings(await evening.start().run_user("ann")) == {}


async def test_a_slot_that_no_run_served_is_told_once_this_redis_remembers() -> None:
    evening = Evening()
    first = await evening.tick()
    assert first.unserved == 0  # an empty Redis remembers nothing
    evening.now += timedelta(hours=2, minutes=45)
    report = await evening.tick()
    assert report.unserved > 0
    later = await evening.tick(since=evening.now)
    assert later.unserved == 0


async def test_a_pause_that_another_process_was_told_of_is_kept_before_the_claim() -> None:
    evening = Evening()
    evening.add("ann")
    await evening.claims.set_pause("recap:llm_pause", timedelta(seconds=0.05))
    running = asyncio.create_task(evening.tick())
    await asyncio.sleep(0)
    evening.now += timedelta(seconds=1)
    assert endings(await running) == {"sent": 1}


async def test_the_same_day_is_not_made_twice_when_redis_forgets() -> None:
    evening = Evening()
    evening.add("ann")
    await evening.tick()
    evening.redis.values.clear()
    report = await evening.later(minutes=1)
    assert (endings(report), evening.summarizer.calls, evening.got()) == ({"done_before": 1}, 1, {"ann-0": 1})
    assert evening.record("ann").state is Stored.SENT
    assert user_key("ann", evening.slots["ann"].recap_date) in evening.redis.values
