"""What `why` says of the next run is what the next run does, however a day stands and however it goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from itertools import product
from typing import Any

import pytest

from notifications.commands.dry_run import dry_run
from notifications.commands.forecast import Step
from notifications.commands.operation import Context
from notifications.commands.why import NEXT, why
from notifications.domain.claim import skipped_key, sweep_key, user_key
from notifications.domain.errors import ProviderFault
from notifications.domain.question import Question
from notifications.domain.schedule import ONE_DAY, cohorts_between
from notifications.domain.shards import key_of
from notifications.domain.told import told_hash
from notifications.run import shard as shard_module
from notifications.settings import Settings
from tests.support.evening import EIGHT, Evening
from tests.support.memory import ENVIRONMENT
from tests.support.worlds import Doc, talk

Way = Callable[[Evening], None]
cohorts = cache(cohorts_between)
DAY = "2026-05-01"
MINUTES = (0, 3, 14, 104, 21)  # between two runs: due, twice more, in the closing pass, and when it is over
MINUTE = timedelta(minutes=1)

# The first words after "next: ", and what a run then does to the ledger; all else that `why` says changes nothing.
ACTS = {
    "the next run makes it": r"sent (no_devices )?llm",
    "the next run of the closing pass sends the extract": r"sent (no_devices )?extract",
    "the next run of the closing pass sends its draft": r"sent (no_devices )?llm",
    "the next run pushes it": r"sent( no_devices)?( llm)?",
    "the next run ends it as sent: another writer's": r"sent legacy",
    "the next run skips it": r"skipped no_content",
    "the next run ends it as missed: its catch-up": r"missed closed",
    "the next run ends it as missed: users/": r"missed inverted_window",
    "the next run ends it as dead: the LLM failed": r"dead failures",
    "the next run ends it as dead: the process died": r"dead crashes",
    "the next run gives it up: the LLM failed": r"gave_up failures",
    "the next run gives it up: the process died": r"gave_up crashes",
    "the next run gives it up: its last permitted push": r"gave_up pushes",
    "the next run gives it up: no push of it": r"gave_up undelivered",
    "the next run gives it up: the user was erased": r"gave_up user_gone_or_off",
}
WAITS = (
    *("it waits for", "its sender may still be at work", "the next sweep is in", "the run that holds it ends it"),
    *("no run makes it while another writer's value", "its hour is served again in", "another run serves its hour"),
    *("nothing;", "nothing by itself", "nothing until", "it is made in the first run after", "no run serves its hour"),
    "it waits for a person",
)
TROUBLE = (  # what ends the run with exit 1
    *("no run serves its hour", "nothing by itself: its ledger was written", "it waits for a person"),
    "another writer's value",
)


def ledger(state: str, **fields: Any) -> Way:
    """The day's own; its sender's time in minutes from now."""

    def put(evening: Evening) -> None:
        doc: Doc = {
            "date": DAY,
            "state": state,
            "seq": 1,
            "tries": 1,
            "by": "another",
            "title": "T",
            "body": "B",
            "collapse_id": "c" * 32,
            "summary_id": "s",
            "window_start": EIGHT - ONE_DAY,
            "window_end": EIGHT,
            "told": "",
        }
        sent = fields.pop("sent_minutes", None)
        if sent is not None:
            doc["sending_at"] = evening.now + sent * MINUTE
        evening.world.put_ledger("ann", DAY, doc | fields)

    return put


def claim(state: str, minutes: float = 0, **letters: Any) -> Way:
    """The record under the user's key: its lease or wait in minutes from now."""

    def put(evening: Evening) -> None:
        until = evening.redis.ms + int(minutes * 60_000)
        record = {"s": state, "t": "another", "u": until} | letters
        put_key(evening, user_key("ann", evening.slots["ann"].recap_date), json.dumps(record))

    return put


def put_key(evening: Evening, key: str, value: Any) -> None:
    ends = int((evening.slots["ann"].at + timedelta(hours=3)).timestamp() * 1000)
    evening.redis.values[key] = (value, ends)


def foreign(value: Any) -> Way:
    return lambda evening: put_key(evening, user_key("ann", evening.slots["ann"].recap_date), value)


def nothing(evening: Evening) -> None:
    """As it is."""


LEDGERS: dict[str, Way] = {
    "none": nothing,
    "fresh sender": ledger("sending", sent_minutes=-1),
    "stale sender": ledger("sending", sent_minutes=-3),
    "sender ahead": ledger("sending", sent_minutes=30),
    "third sender": ledger("sending", sent_minutes=-3, tries=3),
    "pending": ledger("pending", sent_minutes=-3),
    "pending thrice": ledger("pending", sent_minutes=-3, tries=3),
    "pending by nobody": ledger("pending"),
    "open resend": ledger("sending", sent_minutes=-3, outcome="resend", seq=2),
    "fresh resend": ledger("sending", sent_minutes=0, outcome="resend", seq=2),
    "sent": ledger("sent"),
    "skipped": ledger("skipped", outcome="no_content"),
    "missed": ledger("missed", outcome="closed"),
    "dead": ledger("dead", outcome="failures"),
    "gave up": ledger("gave_up", outcome="pushes"),
    "unreadable": ledger("odd"),
    "no sender": ledger("sending", tries=-1),
}
OPEN = ("none", "fresh sender", "stale sender", "third sender", "pending", "open resend", "sent", "unreadable")
CLAIMS: dict[str, Way] = {
    "absent": nothing,
    "held": claim("claimed", 11),
    "held shortly": claim("claimed", 0.5),
    "lapsed": claim("claimed", -1),
    "lapsed twice": claim("claimed", -1, c=1),
    "lapsed thrice": claim("claimed", -1, c=2),
    "lapsed for good": claim("claimed", -1, c=3),
    "lapsed, failed": claim("claimed", -1, c=3, f=3),
    "lease of another clock": claim("claimed", 40),
    "idle": claim("idle", -1, f=1, r="refusal"),
    "waits": claim("idle", 5, r="provider_503"),
    "waits long": claim("idle", 29),
    "wait of another clock": claim("idle", 90),
    "narrow": claim("idle", -1, c=2),
    "sent": claim("sent"),
    "skipped": claim("skipped"),
    "missed": claim("missed"),
    "dead of failures": claim("dead", f=3),
    "dead of crashes": claim("dead", c=4),
    "text": foreign("theirs"),
    "hash": foreign({"a": "hash"}),
}


def shard_key_of(evening: Evening) -> str:
    slot = evening.slots["ann"]
    return key_of("ann", slot.at, slot.hour, ENVIRONMENT, evening.limits.shards)


def shard(state: str, minutes: float = 0, **letters: Any) -> Way:
    def put(evening: Evening) -> None:
        record = {"s": state, "t": "another", "u": evening.redis.ms + int(minutes * 60_000)} | letters
        put_key(evening, shard_key_of(evening), json.dumps(record))

    return put


def skipped_in_its_shard(evening: Evening) -> None:
    shard("idle", -1, r="open")(evening)
    key = skipped_key(shard_key_of(evening))
    put_key(evening, key, frozenset({"ann"}))


def sweep(state: str, minutes: float) -> Way:
    def put(evening: Evening) -> None:
        at = evening.redis.ms + int(minutes * 60_000)
        ends = at + int(evening.limits.sweep_seconds * 1000)
        evening.redis.values[sweep_key(ENVIRONMENT)] = (json.dumps({"s": state, "t": "t", "u": at}), ends)

    return put


def odd_sweep(evening: Evening) -> None:
    evening.redis.values[sweep_key(ENVIRONMENT)] = ("odd", None)


SHARDS: dict[str, Way] = {
    "due": shard("idle", -1),
    "waits": shard("idle", 4),
    "held": shard("claimed", 2),
    "lapsed": shard("claimed", -1, c=9),
    "complete": shard("complete"),
    "text": lambda evening: put_key(evening, shard_key_of(evening), "theirs"),
    "hash": lambda evening: put_key(evening, shard_key_of(evening), {"a": "hash"}),
    "skipped": skipped_in_its_shard,
    "swept": sweep("complete", -1),
    "swept, complete": lambda evening: (shard("complete")(evening), sweep("complete", -1)(evening))[0],
    "odd sweep": odd_sweep,
}


def user(**changes: Any) -> Way:
    return lambda evening: evening.world.update_user("ann", changes)


USERS: dict[str, Way] = {
    "switched off": user(daily_summary_enabled=False),
    "bad zone": user(time_zone="mars"),
    "no hour": user(daily_summary_hour_local=None),
    "bad language": user(language=7),
    "erased": lambda evening: evening.world.delete_user("ann"),
    "moved west": user(time_zone="Etc/GMT+1"),
    "moved east": user(time_zone="Etc/GMT-1"),
    "moved far": user(time_zone="Pacific/Kiritimati"),
    "another hour": user(daily_summary_hour_local=19),
    "tomorrow's hour": user(daily_summary_hour_local=9),
}


def around(days: int, state: str, **fields: Any) -> Way:
    """A ledger so many days from this one, with the window of its day."""

    def put(evening: Evening) -> None:
        end = EIGHT + days * ONE_DAY
        day = (evening.slots["ann"].recap_date + days * ONE_DAY).isoformat()
        doc = {"date": day, "state": state, "seq": 1, "window_start": end - ONE_DAY, "window_end": end, "told": ""}
        kept = {name: value for name, value in (doc | fields).items() if value is not None}
        evening.world.put_ledger("ann", day, kept)

    return put


def conversations(*docs: Doc) -> Way:
    def put(evening: Evening) -> None:
        evening.world.documents.below.pop(("ann", "conversations"), None)
        for number, doc in enumerate(docs):
            evening.world.put_talk("ann", f"t{number}", doc)

    return put


def summary(day: str, **fields: Any) -> Way:
    return lambda evening: evening.world.put_summary("ann", "app", {"date": day, "headline": "H"} | fields)


def told_before(evening: Evening) -> None:
    around(-1, "sent", told=told_hash("ann", "t0"))(evening)


def without_devices(evening: Evening) -> None:
    evening.world.documents.below.pop(("ann", "fcm_tokens"), None)


def younger(evening: Evening) -> None:
    kept = evening.world.documents.users["ann"]
    kept.created = kept.updated = EIGHT + 10 * timedelta(seconds=1)


HOUR_BEFORE = EIGHT - timedelta(hours=1)
DAYS: dict[str, Way] = {
    "as usual": nothing,
    "no conversation": conversations(),
    "malformed": conversations(talk("ann", HOUR_BEFORE) | {"structured": 7, "transcript_segments": 8}),
    "malformed beside": conversations(talk("ann", HOUR_BEFORE), talk("ann", HOUR_BEFORE) | {"structured": 7}),
    "encrypted": conversations(
        talk("ann", HOUR_BEFORE, structured={}, data_protection_level="enhanced", transcript_segments="ciphertext")
    ),
    "under way": conversations(talk("ann", HOUR_BEFORE, status="in_progress")),
    "discarded": conversations(talk("ann", HOUR_BEFORE, discarded=True)),
    "title alone": conversations(talk("ann", HOUR_BEFORE, structured={"title": "A talk"})),
    "few words": conversations(talk("ann", HOUR_BEFORE, structured={"title": "A talk", "overview": "Hello there."})),
    "after the slot": conversations(talk("ann", EIGHT + timedelta(seconds=1))),
    "told before": told_before,
    "no ledger around told": around(-1, "sent", told=None),
    "later day": around(1, "sent"),
    "later day skipped": around(1, "skipped"),
    "inverted": around(1, "sent", told=None),
    "inverted by a lost day": around(2, "skipped", told=None),
    "lost before": around(-1, "missed", window_start=None, window_end=None, told=None),
    "open before": around(-1, "pending"),
    "unreadable before": around(-1, "odd"),
    "the app's summary": summary(DAY),
    "the app's summary, dated": summary(DAY, created_at="2026-05-01T19:00:00"),
    "the app's of the day before": summary("2026-04-30", created_at="2026-05-01T19:30:00"),
    "no device": without_devices,
    "younger": younger,
}


def without_fallback(evening: Evening) -> None:
    evening.falls_back = False


def without_llm(evening: Evening) -> None:
    evening.summarizer = None  # type: ignore[assignment]


JOBS: dict[str, Way] = {"usual": nothing, "without fallback": without_fallback, "without an LLM": without_llm}


@pytest.fixture(autouse=True)
def quick_cohorts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same times come again and again, and all zones' slots take most of a tick."""
    monkeypatch.setattr(shard_module, "cohorts_between", cohorts)


def context(evening: Evening) -> Context:
    return Context(Settings(), evening.claims, evening._open, timedelta(0), evening.terminated)


async def said_by_why(evening: Evening, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    await why("ann", None, context(evening))
    return " ".join(capsys.readouterr().out.split())


def next_in(out: str) -> str:
    """Of a user whom no run serves the sweep may still end a day: that comes first."""
    return out.partition("next of it: ")[2] or out.partition("next: ")[2]


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
    if acts:
        assert [re.fullmatch(wanted, done) is not None for wanted in acts] == [True], told
    else:
        assert said.startswith(WAITS), told
        assert done == "", told
    if report.defects:
        assert any(words in out for words in TROUBLE), told
    return said


async def walk(ways: Sequence[Way], capsys: pytest.CaptureFixture[str]) -> None:
    """One evening from one state on, run by run."""
    evening = Evening()
    evening.add("ann")
    for way in ways:
        way(evening)
    for wait in MINUTES:
        evening.now += wait * MINUTE
        await step(evening, capsys)


@pytest.mark.parametrize("name", LEDGERS)
async def test_each_ledger_with_each_claim(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for claimed in CLAIMS.values():
        await walk([LEDGERS[name], claimed], capsys)


@pytest.mark.parametrize("name", SHARDS)
async def test_each_shard_with_each_ledger(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for found, claimed in product(OPEN, ("absent", "waits", "dead of crashes")):
        await walk([SHARDS[name], LEDGERS[found], CLAIMS[claimed]], capsys)


@pytest.mark.parametrize("name", USERS)
async def test_each_user_with_each_ledger(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for found, claimed in product(OPEN, ("absent", "held shortly", "dead of crashes")):
        await walk([LEDGERS[found], CLAIMS[claimed], USERS[name]], capsys)


@pytest.mark.parametrize("name", DAYS)
async def test_each_day_with_each_job(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for job, claimed in product(JOBS.values(), ("absent", "waits", "lapsed")):
        await walk([job, DAYS[name], CLAIMS[claimed]], capsys)


async def kept_draft(evening: Evening) -> None:
    """The second look is away: its draft waits for it."""
    evening.verifies = True
    looks: Callable[[Question], Exception | None] = lambda question: (
        ProviderFault("Away.") if question.name == "verify" else None
    )
    evening.summarizer.script = looks
    await evening.tick()
    assert len(evening.world.documents.collection("ann", f"recap_deliveries/{DAY}/recap_parts")) == 1


@pytest.mark.parametrize("job", ["usual", "without fallback"])
async def test_a_draft_that_waits_for_its_second_look(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.add("ann")
    await kept_draft(evening)
    JOBS[job](evening)
    evening.now += timedelta(hours=2, minutes=1)
    said = await step(evening, capsys)
    assert (said.partition(",")[0], evening.state("ann")) == (NEXT[Step.SENDS_DRAFT], "sent")


async def later(evening: Evening, hours: float) -> None:
    evening.now += timedelta(hours=hours)


def at(hours: float, *ways: Way) -> Way:
    def put(evening: Evening) -> None:
        evening.now += timedelta(hours=hours)
        for way in ways:
            way(evening)

    return put


REACHED: dict[Step, Way] = {
    Step.MAKES: nothing,
    Step.SENDS_EXTRACT: at(2.1),
    Step.PUSHES: LEDGERS["pending"],
    Step.LEGACY: DAYS["the app's summary"],
    Step.SKIPS: DAYS["no conversation"],
    Step.MISSES: at(2.1, without_fallback),
    Step.MISSES_INVERTED: at(2.1, DAYS["inverted"]),
    Step.CLOSES_DEAD: CLAIMS["lapsed for good"],
    Step.GIVES_UP: LEDGERS["pending thrice"],
    Step.ENDED_IN_REDIS: CLAIMS["missed"],
    Step.WAITS: CLAIMS["waits"],
    Step.SENDER_WAITS: LEDGERS["fresh sender"],
    Step.HELD: CLAIMS["held"],
    Step.FOREIGN: CLAIMS["text"],
    Step.SHARD_WAITS: SHARDS["waits"],
    Step.SHARD_HELD: SHARDS["held"],
    Step.SHARD_FOREIGN: SHARDS["text"],
    Step.SHARD_COMPLETE: SHARDS["complete"],
    Step.SKIPPED_BEFORE: SHARDS["skipped"],
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


@pytest.mark.parametrize("wanted", REACHED)
async def test_a_dry_run_and_why_say_the_same(wanted: Step, capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.add("ann")
    REACHED[wanted](evening)
    capsys.readouterr()
    await dry_run(None, context(evening))
    assert ("nobody is due" if wanted is Step.OVER else f": 1 {wanted}. Nothing was") in capsys.readouterr().out
    assert (await step(evening, capsys)).startswith(NEXT[wanted].partition("{")[0])


def test_each_step_has_its_world() -> None:
    assert REACHED.keys() | ELSEWHERE == set(Step)
