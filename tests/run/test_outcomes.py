"""A whole run in one process: how a day ends, and what that does to ledger, claim, counts and the next tick."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notifications.domain.claim import ClaimState
from notifications.domain.errors import ConfigFault, DependencyDown, ItemFault, ItemReason, ProviderFault
from notifications.domain.question import Question
from tests.support.days import summary
from tests.support.evening import Evening, of, outcomes


def refusal(question: Question) -> Exception:
    return ItemFault(ItemReason.REFUSAL, "No.")


def useless(question: Question) -> Exception:
    return ItemFault(ItemReason.TRUNCATED, "It ended early.")


def crowd(users: int, **changes: int) -> Evening:
    evening = Evening(**({"concurrency": 1} | changes))
    evening.add(*(f"user-{n:02}" for n in range(users)))
    return evening


def failures(evening: Evening) -> set[int]:
    return {evening.record(uid).failures for uid in evening.slots}


async def test_everybody_who_is_due_gets_one_recap_and_the_next_tick_is_idle() -> None:
    evening = Evening()
    evening.add("ann", "bob", "cho", devices=2)
    evening.add("eve", hour=21)
    report = await evening.tick()
    assert (outcomes(report), report.counts.due, report.counts.pushes, report.llm_calls) == ({"sent": 3}, 3, 6, 3)
    assert {evening.state(uid) for uid in ("ann", "bob", "cho")} == {"sent"}
    assert set(evening.got().values()) == {1}
    assert evening.record("ann").state is ClaimState.SENT
    again = await evening.later(minutes=1)
    assert (again.idle, evening.opened) == (True, 1)


async def test_a_day_with_nothing_to_say_is_skipped_without_a_call() -> None:
    evening = Evening()
    evening.add("ann", talks=0)
    report = await evening.tick()
    assert (outcomes(report), dict(report.counts.skipped)) == ({"skipped": 1}, {"no_content": 1})
    assert (evening.state("ann"), evening.record("ann").state) == ("skipped no_content", ClaimState.ABSENT)
    assert evening.summarizer.calls == 0


async def test_a_day_without_devices_is_stored_and_counts_as_sent() -> None:
    evening = Evening()
    evening.add("ann", devices=0)
    assert outcomes(await evening.tick()) == {"sent": 1}
    assert (evening.state("ann"), len(evening.world.summaries("ann"))) == ("sent no_devices", 1)


@pytest.mark.parametrize("meanwhile", [False, True])
async def test_another_writers_summary_counts_as_sent_and_nothing_is_pushed(meanwhile: bool) -> None:
    """Also one that appears before the extract is stored, which then is none that was sent."""
    evening = Evening()
    evening.add("ann")
    theirs = summary(evening.slots["ann"].recap_date.isoformat(), overview="O")

    def appears(question: Question) -> Exception:
        theirs(evening)
        return refusal(question)

    evening.summarizer.script = appears
    if not meanwhile:
        theirs(evening)
    report = await evening.tick()
    assert (outcomes(report), report.counts.extracts, evening.got()) == ({"skipped": 1}, 0, {})
    assert (evening.state("ann"), evening.summarizer.calls) == ("sent legacy", int(meanwhile))


async def test_who_switches_off_while_the_llm_writes_gets_nothing() -> None:
    evening = Evening()
    evening.add("ann")
    evening.summarizer.script = lambda question: evening.world.update_user("ann", {"daily_summary_enabled": False})
    report = await evening.tick()
    assert (outcomes(report), dict(report.counts.skipped)) == ({"skipped": 1}, {"user_gone_or_off": 1})
    assert (evening.ledger("ann"), evening.got(), evening.record("ann").state) == ({}, {}, ClaimState.SKIPPED)


async def test_where_there_is_no_fallback_an_items_own_fault_is_charged_and_its_third_ends_the_day() -> None:
    evening = Evening()
    evening.has_fallback = False
    evening.add("ann", "bob")
    evening.summarizer.script = of("ann", refusal)
    for number, wait in ((1, 30_000), (2, 90_000)):
        report = await evening.later(minutes=5)
        assert outcomes(report) == {"waiting": 1, ("sent" if number == 1 else "done_before"): 1}
        assert (evening.record("ann").failures, evening.record("ann").reason) == (number, "refusal")
        assert wait <= evening.record("ann").until - evening.redis.ms <= 3 * wait
    report = await evening.later(minutes=6)
    assert (outcomes(report), report.counts.without_a_recap) == ({"dead": 1, "done_before": 1}, 1)
    assert (evening.state("ann"), evening.record("ann").state) == ("dead failures", ClaimState.DEAD)
    assert (evening.ledger("ann")["failures"], evening.ledger("ann")["reason"]) == (3, "refusal")


async def test_a_provider_that_fails_charges_nobody_and_ten_in_a_row_stop_the_claiming() -> None:
    evening = crowd(15)
    evening.summarizer.script = lambda material: ProviderFault("It answers 503.", retry_after=timedelta(minutes=2))
    report = await evening.tick()
    assert (outcomes(report)["waiting"], evening.summarizer.calls, failures(evening)) == (10, 10, {0})
    assert isinstance(report.trouble, DependencyDown)
    evening.summarizer.script = lambda material: None
    assert outcomes(await evening.later(minutes=5)) == {"sent": 15}


async def test_a_refused_key_stops_the_claiming_at_once() -> None:
    evening = crowd(2)
    evening.summarizer.script = lambda material: ProviderFault("It refuses the key.", config=True)
    report = await evening.tick()
    assert (isinstance(report.trouble, ConfigFault), evening.summarizer.calls) == (True, 1)
    assert evening.record("user-00").state is ClaimState.IDLE


async def test_answers_that_are_all_useless_are_the_providers_and_ones_own_are_charged() -> None:
    evening = crowd(12, concurrency=20)
    evening.has_fallback = False
    evening.summarizer.script = useless
    report = await evening.tick()
    assert ("useless" in str(report.trouble), failures(evening)) == (True, {0})
    evening.summarizer.script = of("user-03", useless)
    report = await evening.later(minutes=5)
    assert (outcomes(report), evening.record("user-03").failures) == ({"sent": 11, "waiting": 1}, 1)


@pytest.mark.parametrize(
    "reason", [one for one in ItemReason if one not in (ItemReason.UNSTORABLE, ItemReason.CONTEXT_LENGTH)]
)
async def test_who_the_llm_can_not_serve_gets_the_days_own_words_at_once(reason: ItemReason) -> None:
    evening = Evening()
    evening.add("ann", "bob")
    evening.summarizer.script = of("ann", lambda material: ItemFault(reason, "No."))
    report = await evening.tick()
    assert (outcomes(report), report.counts.extracts, report.trouble) == ({"sent": 2}, 1, None)
    assert (failures(evening), evening.got()) == ({0}, {"ann-0": 1, "bob-0": 1})


@pytest.mark.parametrize(("users", "extracts", "stopped"), [(9, 9, False), (10, 9, True), (15, 9, True)])
async def test_ten_useless_answers_in_a_row_are_no_items_fault(users: int, extracts: int, stopped: bool) -> None:
    evening = crowd(users)
    evening.summarizer.script = useless
    report = await evening.tick()
    assert (report.counts.extracts, report.trouble is not None, failures(evening)) == (extracts, stopped, {0})
    evening.summarizer.script = lambda material: None
    await evening.later(minutes=5)
    assert evening.got() == {f"{uid}-0": 1 for uid in evening.slots}


async def test_a_provider_that_is_down_all_evening_leaves_nobody_without_a_recap() -> None:
    evening = crowd(15, concurrency=4)
    evening.summarizer.script = lambda material: ProviderFault("It answers 503.")
    for _ in range(5):
        await evening.later(minutes=23)
    assert evening.got() == {}
    calls = evening.summarizer.calls
    report = await evening.later(minutes=6)
    assert (outcomes(report), report.counts.extracts, report.llm_calls) == ({"sent": 15}, 15, calls)
    assert set(evening.got().values()) == {1}
