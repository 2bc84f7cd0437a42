"""What `why` says of the next run is what the next run does, however a day stands and however it goes on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cache
from itertools import product
from typing import Any

import pytest

from notifications.commands.dry_run import dry_run
from notifications.commands.why import STEP_TEXTS, why
from notifications.domain.errors import ProviderFault
from notifications.domain.schedule import Cohort, cohorts_between
from notifications.recap.verify import NAME
from notifications.run import tick as tick_module
from notifications.run.forecast import Step
from tests.support import days
from tests.support.days import CLAIMS, DAY, DAYS, LEDGERS, Way, at
from tests.support.evening import Evening


@cache
def cohorts(after: datetime, until: datetime) -> list[Cohort]:
    """Those that somebody here may be in: all others take most of a run, and have no user."""
    return [one for one in cohorts_between(after, until) if one.hour in HOURS and ZONES & one.zones.keys()]


HOURS, ZONES = {9, 19, 20}, {"UTC", "Etc/GMT+1", "Etc/GMT-1", "Pacific/Kiritimati"}
MINUTES = (0, 3, 14, 104, 21)  # between two runs: due, twice more, in the closing pass, and when it is over

# The first words after "next: ", and what a run then does to the ledger; all else that `why` says changes nothing.
ACTS = {
    "the next run makes the recap": r"sent (no_devices )?llm",
    "the next run tries again to make the recap": r"sent (no_devices )?llm",
    "the next run of the closing pass sends the extract": r"sent (no_devices )?extract",
    "the next run of the closing pass sends the draft": r"sent (no_devices )?llm",
    "the next run sends the recap": r"sent( no_devices)?( llm)?",
    "the next run tries again to send the recap": r"sent( no_devices)?( llm)?",
    "the next run ends the day as sent: another writer's": r"sent legacy",
    "the next run ends it, skipped as no_content": r"skipped no_content",
    "the next run ends the day as missed: the catch-up": r"missed closed",
    "the next run ends the day as missed: users/": r"missed inverted_window",
    "the next run ends the day as dead: the LLM failed": r"dead failures",
    "the next run ends the day as dead: runs crashed": r"dead crashes",
    "the next run ends the day as sent, though not to each target": r"sent partial",
    "the next run gives the recap up: the LLM failed": r"gave_up failures",
    "the next run gives the recap up: runs crashed": r"gave_up crashes",
    "the next run gives the recap up: the last permitted try": r"gave_up pushes",
    "the next run gives the recap up: no target": r"gave_up undelivered",
    "the next run gives the recap up: the user was erased": r"gave_up user_gone_or_off",
}
WAITS = (
    *(
        "the day waits until",
        "another run may still be sending",
        "the next sweep is at",
        "the run that holds the claim",
        "the claim of the run that was killed",
    ),
    *(
        "no run makes the recap while",
        "users due at ",
        "another run serves the users due at ",
    ),
    *(
        "nothing:",
        "nothing. Check",
        "nothing by itself",
        "nothing until",
        "the first run after",
        "no run serves the users due at ",
    ),
    "the day fails until an operator acts",
)
TROUBLE = (  # what ends the run with exit 1
    *(
        "no run serves the users due at ",
        "nothing by itself: the ledger was written",
        "the day fails until an operator acts",
    ),
    "a foreign value",
)


@pytest.fixture(autouse=True)
def quick_cohorts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick_module, "cohorts_between", cohorts)


async def said_by_why(evening: Evening, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    await why("ann", date.fromisoformat(DAY), evening.context())
    return " ".join(capsys.readouterr().out.split())


def next_in(out: str) -> str:
    """Of a user whom no run serves the sweep may still end a day: that comes first."""
    return out.partition("what happens to it: ")[2] or out.partition("next: ")[2]


def ledger_of(evening: Evening) -> Any:
    """But for when its sender began: a clock that was ahead is corrected there."""
    entry = evening.store._ledgers("ann").get(date.fromisoformat(DAY))
    return entry and replace(entry, sending_at=None)


async def step(evening: Evening, capsys: pytest.CaptureFixture[str]) -> str:
    """Ask `why`, then run: the run does what was said. Returns what was said."""
    out = await said_by_why(evening, capsys)
    said, before, asked = next_in(out), ledger_of(evening), len(evening.push.asked)
    report = await evening.tick()
    after, pushed = ledger_of(evening), len(evening.push.asked) > asked
    done = " ".join(filter(None, (after.state, after.outcome, after.source))) if pushed or after != before else ""
    told = f"{evening.now:%H:%M}, {said!r}, {before and before.state} became {done!r}"
    acts = [wanted for words, wanted in ACTS.items() if said.startswith(words)]
    if evening.summarizer is None:
        acts = [wanted.replace("llm", "extract") for wanted in acts]
    if acts:
        assert [re.fullmatch(wanted, done) is not None for wanted in acts] == [True], told
    else:
        assert said.startswith(WAITS), told
        assert done == "", told
        ended = before is not None and before.state.final  # the trouble is the others' of its hour
        assert not report.defects or ended or any(words in out for words in TROUBLE), told
    return said


async def walk(ways: Sequence[Way], capsys: pytest.CaptureFixture[str]) -> None:
    """One evening from one state on, run by run."""
    evening = Evening()
    evening.add("ann")
    for way in ways:
        way(evening)
    for wait in MINUTES:
        evening.now += wait * days.MINUTE
        await step(evening, capsys)


@pytest.mark.parametrize("name", LEDGERS)
async def test_each_ledger_with_each_claim(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for claimed in CLAIMS.values():
        await walk([LEDGERS[name], claimed], capsys)


@pytest.mark.parametrize("name", LEDGERS)
async def test_each_ledger_once_its_slot_is_over(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for claimed in ("absent", "waits", "lapsed for good", "dead of failures", "sent", "text"):
        await walk([at(2.5), LEDGERS[name], CLAIMS[claimed]], capsys)


@pytest.mark.parametrize("name", [name for name in LEDGERS if "due" in name or "partly" in name])
async def test_each_open_target_in_the_closing_pass(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for hours, claimed in product((2.01, 2.2, 2.3), ("absent", "waits", "lapsed for good", "dead of failures")):
        await walk([at(hours), LEDGERS[name], CLAIMS[claimed]], capsys)


@pytest.mark.parametrize("name", days.SHARDS)
async def test_each_shard_with_each_ledger(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for found, claimed in product(days.OPEN, ("absent", "waits", "dead of crashes")):
        await walk([days.SHARDS[name], LEDGERS[found], CLAIMS[claimed]], capsys)


@pytest.mark.parametrize("name", days.USERS)
async def test_each_user_with_each_ledger(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for found, claimed in product(days.OPEN, ("absent", "held shortly", "dead of crashes", "sent")):
        await walk([LEDGERS[found], CLAIMS[claimed], days.USERS[name]], capsys)


@pytest.mark.parametrize("name", DAYS)
async def test_each_day_with_each_job(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for job, claimed in product(days.JOBS.values(), ("absent", "waits", "lapsed")):
        await walk([job, DAYS[name], CLAIMS[claimed]], capsys)


async def kept_draft(evening: Evening) -> None:
    """The second look is away: its draft waits for it."""
    evening.verifies = True
    evening.summarizer.script = lambda question: ProviderFault("Away.") if question.name == NAME else None
    await evening.tick()
    assert len(evening.world.documents.collection("ann", f"recap_deliveries/{DAY}/recap_parts")) == 2  # and its cost


@pytest.mark.parametrize("job", ["usual", "without fallback"])
async def test_a_draft_that_waits_for_its_second_look(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.add("ann")
    await kept_draft(evening)
    days.JOBS[job](evening)
    evening.now += timedelta(hours=2, minutes=1)
    said = await step(evening, capsys)
    assert (said.partition(",")[0], evening.state("ann")) == (STEP_TEXTS["sends_draft"], "sent")


REACHED: dict[Step, Way] = {
    Step.MAKES: days.nothing,
    Step.SENDS_EXTRACT: at(2.1),
    Step.PUSHES: LEDGERS["pending"],
    Step.LEGACY: DAYS["the app's summary"],
    Step.SKIPS: DAYS["no conversation"],
    Step.MISSES: at(2.1, days.without_fallback),
    Step.MISSES_INVERTED: at(2.1, DAYS["inverted"]),
    Step.CLOSES_DEAD: CLAIMS["lapsed for good"],
    Step.GIVES_UP: LEDGERS["pending thrice"],
    Step.ENDS_PARTLY_SENT: LEDGERS["partly sent thrice"],
    Step.ENDED_IN_REDIS: CLAIMS["missed"],
    Step.WAITS: CLAIMS["waits"],
    Step.SENDER_WAITS: LEDGERS["fresh sender"],
    Step.HELD: CLAIMS["held"],
    Step.FOREIGN: CLAIMS["text"],
    Step.SHARD_WAITS: days.SHARDS["waits"],
    Step.SHARD_HELD: days.SHARDS["held"],
    Step.SHARD_FOREIGN: days.SHARDS["text"],
    Step.SHARD_COMPLETE: days.SHARDS["complete"],
    Step.SKIPPED_BEFORE: days.SHARDS["skipped"],
    Step.STUCK_LEDGER: LEDGERS["unreadable"],
    Step.STUCK_INVERTED: DAYS["inverted"],
    Step.OVER: at(3),
}
ELSEWHERE = {
    Step.ENDED,  # each ended ledger has a sentence of its own
    Step.EARLY,  # of a date that is given
    Step.SENDS_DRAFT,
    Step.SWITCHED_OFF,  # not listed by a dry run
    Step.SWEPT_LATER,
}


UNTIL = {
    Step.WAITS: " (until 20:06)",
    Step.SENDER_WAITS: " (until 20:02)",
    Step.HELD: " (a run at work, or killed; free at 20:12)",
    Step.SHARD_WAITS: " (until 20:05)",
    Step.SHARD_HELD: " (free at 20:03)",
}


@pytest.mark.parametrize("wanted", REACHED)
async def test_a_dry_run_and_why_say_the_same(wanted: Step, capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.add("ann")
    REACHED[wanted](evening)
    capsys.readouterr()
    await dry_run(None, evening.context(), whole=False)
    other_words = {Step.OVER: "no user is due", Step.ENDED_IN_REDIS: "1 done: missed in Redis"}
    words = other_words.get(wanted, f"1 {wanted}{UNTIL.get(wanted, '')}")
    assert f"dry run: {words}. Nothing was" in capsys.readouterr().out
    words_of = {Step.ENDED_IN_REDIS: "nothing by itself: Redis says"}  # without a ledger
    assert (await step(evening, capsys)).startswith(
        words_of.get(wanted, STEP_TEXTS[wanted.name.lower()]).partition("{")[0]
    )


async def test_a_dry_run_says_when_users_held_by_a_killed_run_are_free(capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.add("ann")
    days.shard("idle", 4, r="open", c=1)(evening)  # a later run has come to the hour since
    CLAIMS["held"](evening)
    evening.add("bob", "cyd")
    await dry_run(None, evening.context(), whole=False)
    free, waiting = (
        "held (a run that was killed; free at 20:12)",
        "waiting: its hour is served again later (until 20:05)",
    )
    said = " ".join(capsys.readouterr().out.split())
    assert f"ann UTC 20:00 {free} bob UTC 20:00 {waiting} " in said
    assert f"dry run: 1 {free}, 2 {waiting}. Nothing was" in said


def test_each_step_has_its_world() -> None:
    assert REACHED.keys() | ELSEWHERE == set(Step)
