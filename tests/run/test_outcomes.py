"""A whole run in one process: how a day ends, and what that does to ledger, claim, counts and the next tick."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from notifications.commands.progress import _lines, exit_code
from notifications.domain.claim import ClaimState, user_key
from notifications.domain.errors import ConfigFault, DependencyDown, ItemFault, ItemReason, ProviderFault
from notifications.domain.push import PushAnswer, PushResult
from notifications.domain.question import Question
from notifications.domain.shards import key_of
from notifications.testing import ENVIRONMENT
from tests.support.days import summary
from tests.support.evening import EIGHT, Evening, of, outcomes


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


async def test_calls_and_pushes_that_reached_nothing_are_told_apart() -> None:
    evening = Evening()
    evening.add("ann", "bob")
    evening.push.script = lambda token: PushAnswer(PushResult.BUSY, "503") if token == "ann-0" else None
    said = " ".join(_lines(await evening.tick(), 1.0))
    assert "; 2 pushes (1 accepted), 2 LLM calls, " in said, said
    evening = Evening()
    evening.add("cyd")
    evening.summarizer.script = lambda question: ProviderFault("It answers 503.", code="503", final=True)
    said = " ".join(_lines(await evening.tick(), 1.0))
    assert "; 0 pushes, 1 LLM call (none answered), " in said, said


async def test_what_left_is_told_in_each_channels_own_word() -> None:
    evening = Evening()
    _, hook, _ = evening.with_all_channels()
    evening.add("ann", "bob", recap_email="a@example.com", recap_webhook_url="https://hooks.example.com/1")
    evening.add("cyd", devices=0, recap_email="c@example.com")
    hook.script = lambda url: PushAnswer(PushResult.BUSY, "503")
    said = " ".join(_lines(await evening.tick(), 1.0))
    assert "; 2 pushes, 2 webhooks (none accepted), 3 mails, 3 LLM calls, " in said, said
    evening = Evening()
    evening.channels = evening.with_all_channels()[2:]
    evening.add("ann", devices=1)
    said = " ".join(_lines(await evening.tick(), 1.0))
    assert "1 stored (no target takes it); 0 mails, 1 LLM call, " in said, said


async def test_a_day_with_nothing_to_say_is_skipped_without_a_call() -> None:
    evening = Evening()
    evening.add("ann", talks=0)
    report = await evening.tick()
    assert (outcomes(report), dict(report.counts.skipped)) == ({"skipped": 1}, {"no_content": 1})
    assert (evening.state("ann"), evening.record("ann").state) == ("skipped no_content", ClaimState.ABSENT)
    assert evening.summarizer.calls == 0


async def test_a_day_that_reaches_no_device_is_stored_and_is_an_ending_of_its_own() -> None:
    evening = Evening()
    evening.add("ann", devices=0)
    evening.add("bob", devices=2)
    evening.push.script = lambda token: PushAnswer(PushResult.GONE, "UNREGISTERED")
    report = await evening.tick()
    assert (outcomes(report), report.counts.without_a_recap) == ({"no_devices": 2}, 0)
    assert {evening.state(uid) for uid in ("ann", "bob")} == {"sent no_devices"}
    assert len(evening.world.summaries("ann")) == 1


async def test_a_run_says_who_waits_why_and_since_when_and_until_when_a_killed_run_holds_users() -> None:
    evening = crowd(3)
    evening.summarizer.script = lambda question: ProviderFault("It answers 429.", code="429")
    evening.now += timedelta(minutes=29)
    held = evening.redis.ms + 7 * 60_000
    key = user_key("user-00", evening.slots["user-00"].recap_date)
    evening.redis.values[key] = (f'{{"s":"claimed","t":"another","u":{held}}}', held + 3_600_000)
    cohort = key_of("user-00", EIGHT, 20, ENVIRONMENT, evening.limits.shards)
    evening.redis.values[cohort] = (f'{{"s":"claimed","t":"another","u":{evening.redis.ms - 1}}}', held + 3_600_000)
    line = " ".join(_lines(await evening.tick(), 1.0))
    assert "1 held (a run that was killed; free at 20:37)" in line  # 20:36:30: no minute that is said is over too early
    assert "2 waiting (llm 429; oldest 30 min)" in line


async def test_a_tick_that_finds_an_hour_held_says_by_whom_and_until_when() -> None:
    """By two runs in turn, the first of which was killed after 20:01:30; the idle ones open no store."""
    evening = crowd(2)
    key = key_of("user-00", EIGHT, 20, ENVIRONMENT, evening.limits.shards)
    until = evening.redis.ms + 180_000
    evening.redis.values[key] = (f'{{"s":"claimed","t":"another","u":{until}}}', until + 3_600_000)
    said = [" ".join(_lines(await evening.tick(), 1.0))]
    said += [" ".join(_lines(await evening.later(minutes=minutes), 1.0)) for minutes in (1, 1)]
    at_work = "held: users due at 20:00 UTC, by a run at work (heard of at 20:00); if it dies, free at 20:04"
    assert said == [
        f"2026-05-01 20:00 UTC: {at_work}; 0 pushes, 0 LLM calls, 1.0 s.",  # it swept
        f"2026-05-01 20:01 UTC: {at_work}.",
        "2026-05-01 20:02 UTC: held: users due at 20:00 UTC, by a run that may be dead (not heard of since 20:00); "
        "free at 20:04.",
    ]
    assert evening.opened == 1
    claim, now = user_key("user-00", evening.slots["user-00"].recap_date), evening.redis.ms
    evening.redis.values[claim] = (f'{{"s":"claimed","t":"another","u":{now + 360_000}}}', now + 3_600_000)
    evening.push.script = lambda token: PushAnswer(PushResult.BUSY, "503")
    assert outcomes(await evening.later(minutes=1, seconds=1)) == {"held": 1, "waiting": 1}
    again = "waiting: users due at 20:00 UTC, over whom a run was killed; served again at 20:0"
    assert again in _lines(await evening.later(seconds=1), 1.0)[0]
    assert outcomes(await evening.later(minutes=6)) == {"waiting": 2}
    again = "waiting: users due at 20:00 UTC (delivery 503); tried again at 20:1"
    assert again in _lines(await evening.later(seconds=1), 1.0)[0]


async def test_a_run_that_loses_the_race_for_an_hour_says_that_it_is_held() -> None:
    evening = crowd(1)
    first, second = sorted(await asyncio.gather(evening.tick(), evening.tick()), key=lambda one: one.counts.due)
    assert (outcomes(first), outcomes(second)) == ({}, {"sent": 1})
    assert ", by a run at work (heard of at 20:00); if it dies, free at 20:04; 0 pushes" in _lines(first, 1.0)[0]
    assert " UTC: 1 sent; 1 push," in _lines(second, 1.0)[0]


async def test_recaps_that_come_late_are_told_to_be_late() -> None:
    """No run came for 68 minutes: nothing else of that is in the summary."""
    evening = crowd(2)
    assert "UTC: 2 sent (up to 68 min late); 2 pushes," in _lines(await evening.later(minutes=67, seconds=30), 1.0)[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "ann is not due before 2026-05-02 20:00 UTC; python job.py why ann says more"),
        ({"daily_summary_enabled": False}, "1 skipped; ann has recaps switched off"),
    ],
)
async def test_who_is_asked_for_alone_and_is_not_due_is_told_why(change: dict[str, bool], said: str) -> None:
    evening = Evening()
    evening.add("ann")
    evening.world.update_user("ann", change)
    evening.now += timedelta(hours=3)
    assert f"UTC: {said}; 0 pushes" in _lines(await evening.start().run_user("ann"), 1.0)[0]


async def test_who_is_not_reached_since_the_run_stopped_is_counted() -> None:
    evening = crowd(15)
    evening.summarizer.script = lambda question: ProviderFault("It answers 429.", code="429")
    report = await evening.tick()
    assert report.counts.unreached + report.counts.due == 15
    assert report.counts.unreached > 0


async def test_an_extract_for_a_fault_is_counted_with_its_reason() -> None:
    evening = crowd(2)
    evening.summarizer.script = of("user-00", lambda question: ItemFault(ItemReason.INVALID_ANSWER, "No."))
    report = await evening.tick()
    assert "2 sent (1 as an extract: llm answered no JSON); 2 pushes, " in " ".join(_lines(report, 1.0))
    assert evening.ledger("user-00")["extract_reason"] == "invalid_answer"


@pytest.mark.parametrize(("good_at", "ending"), [(3, "sent"), (None, "dead failures")])
async def test_what_failed_tries_have_cost_is_in_the_days_ledger_however_it_ends(
    good_at: int | None, ending: str
) -> None:
    """Two calls a try, 120 tokens each; the first tries get an answer without use."""
    evening = crowd(1)
    evening.has_fallback = False
    evening.summarizer.script = lambda question: "no recap"
    for number, wait in enumerate((0, 6, 12), start=1):
        if number == good_at:
            evening.summarizer.script = lambda question: None
        await evening.later(minutes=wait)
    tokens = 600 if good_at else 720
    assert (evening.state("user-00"), evening.summarizer.tokens) == (ending, tokens)
    assert evening.ledger("user-00")["tokens"] == tokens
    assert evening.ledger("user-00")["usd"] == pytest.approx(tokens / 120 * 50e-6)


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


async def test_a_push_service_that_only_says_that_it_is_overloaded_ends_the_run_with_exit_4() -> None:
    evening = crowd(3)
    busy = PushAnswer(PushResult.BUSY, "UNAVAILABLE", timedelta(minutes=1), retry_now=True)
    evening.push.script = lambda token: busy
    report = await evening.tick()
    assert (exit_code(report), outcomes(report)) == (4, {"waiting": 3})
    assert "is overloaded or down (UNAVAILABLE); wait" in str(report.trouble)
    evening.push.script = lambda token: busy if "user-00" in token else None
    assert exit_code(await evening.later(minutes=5)) == 0


async def test_devices_that_are_all_unregistered_are_told_and_end_with_exit_1_from_five_on() -> None:
    for users, code in ((4, 0), (5, 1)):
        evening = crowd(users)
        evening.push.script = lambda token: PushAnswer(PushResult.GONE)
        report = await evening.tick()
        assert exit_code(report) == code
        said = f"{users} of {users} devices were refused as unregistered: is GOOGLE_CLOUD_PROJECT the app's"
        assert (said in " ".join(_lines(report, 1.0))) is (code == 1)
    evening = crowd(6)
    evening.push.script = lambda token: None if "user-00" in token else PushAnswer(PushResult.GONE)
    report = await evening.tick()
    assert (exit_code(report), "5 of 6 devices were refused" in " ".join(_lines(report, 1.0))) == (0, True)
