"""`why UID`: for every way a day can stand, the values that decided and what comes next."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.commands.audit import audit
from notifications.commands.preview import preview
from notifications.commands.terminal import minute
from notifications.commands.why import ledger_line, why
from notifications.domain.claim import user_key
from notifications.domain.errors import ItemFault, ItemReason, ProviderFault
from notifications.domain.model import DayState, Ledger
from notifications.domain.push import PushAnswer, PushResult
from notifications.domain.text import width_of
from notifications.settings import Settings
from tests.support.days import CLAIMS, DAY, DAYS, LEDGERS, USERS, Way, at, nothing, without_fallback
from tests.support.evening import Evening

BUSY = PushAnswer(PushResult.BUSY, "503")
UNKNOWN = PushAnswer(PushResult.UNKNOWN, "no answer")
REFUSAL = ItemFault(ItemReason.REFUSAL, "No.")
AWAY = ProviderFault("It answers 503.", retry_after=timedelta(minutes=10))
Ways = Callable[[Evening], Awaitable[object]]


def kept(evening: Evening) -> str:
    documents = evening.world.documents
    below = {key: found for key, found in documents.below.items() if found}
    return repr((documents.users, below, evening.redis.values))


async def told(evening: Evening, capsys: pytest.CaptureFixture[str]) -> tuple[str, int]:
    """What is said, as one line, and the exit code; nothing is wider than a terminal, and nothing is written."""
    capsys.readouterr()
    before = kept(evening)
    code = await why("ann", None, evening.context())
    out = capsys.readouterr().out
    assert all(width_of(line) <= 80 for line in out.splitlines()), out
    assert kept(evening) == before
    return " ".join(out.split()), code


def only(*ways: Way) -> Ways:
    """These, and no run."""

    async def stands(evening: Evening) -> None:
        for way in ways:
            way(evening)

    return stands


def ran(*ways: Way, minutes: tuple[float, ...] = (0,), llm: Exception | None = None, push: object = None) -> Ways:
    """These, then runs so many minutes after one another, with these answers."""

    async def stands(evening: Evening) -> None:
        evening.summarizer.script = lambda question: llm
        evening.push.script = lambda token: push  # type: ignore[assignment, return-value]
        await only(*ways)(evening)
        for wait in minutes:
            await evening.later(minutes=wait)

    return stands


async def three_tries(evening: Evening) -> None:
    await ran(minutes=(0, 7), push=UNKNOWN)(evening)
    await ran(minutes=(12,))(evening)


async def sending(evening: Evening, **fields: object) -> None:
    await evening.tick()
    ledger = evening.ledger("ann") | {"state": "sending", "sending_at": evening.now, "devices": {}} | fields
    evening.world.put_ledger("ann", DAY, ledger)


async def swept(evening: Evening, **fields: object) -> None:
    await sending(evening, **fields)
    evening.redis.values.clear()
    await evening.later(hours=3)


async def stopped_resend(evening: Evening) -> None:
    await swept(evening, outcome="resend", seq=2)
    assert evening.state("ann") == "sending resend"  # no run ends it


async def sent_elsewhere(evening: Evening) -> None:
    await evening.tick()
    evening.world.delete_ledger("ann", DAY)
    evening.world.delete_summary("ann", DAY)


async def came_late(evening: Evening) -> None:
    await sent_elsewhere(evening)
    await evening.claims.delete(user_key("ann", evening.slots["ann"].recap_date))


BY_LLM = r"was sent; fcm \w{16} accepted; .*recap: stored. Made by memory, 1 call, 120 tokens, 0\.0001 USD"
RESEND = "resend ann 2026-05-01"
IN_10 = (
    "users due at 20:00 UTC are served again at 20:06 UTC (in 5 min); "
    "then the day waits until 20:11 UTC (in 10 min) after a failure; "
    "then the next run tries again to make the recap (llm was down)"
)
WAYS: dict[str, tuple[Ways, int, str, str]] = {
    "sent": (ran(), 0, BY_LLM, "the recap was sent"),
    "extract": (ran(llm=REFUSAL), 0, r"Made of the day's own sentences, by no LLM", f"{RESEND} to send it again"),
    "legacy": (
        ran(DAYS["the app's summary"]),
        0,
        r"there is no recap of ours; another writer .* made",
        "the day has another writer's recap",
    ),
    "sent elsewhere": (sent_elsewhere, 1, r"claim: ended: sent", f"python job.py {RESEND} to make the recap here"),
    "skipped": (
        ran(DAYS["no conversation"]),
        0,
        r"0 conversations used.*skipping the day released it.*skipped as no_content: nothing was said",
        "in the next recap",
    ),
    "pending": (
        ran(push=BUSY),
        0,
        r"still has to be sent; the last failure: delivery.*|claim: waits",
        "users due at 20:00 UTC are served again at 20:02 UTC (in 1 min); "
        "then the next run tries again to send the recap (delivery 503)",
    ),
    "three tries": (
        three_tries,
        0,
        r"the recap was sent; an answer was missing 2 times; fcm \w{16} accepted",
        "to send it again",
    ),
    "waiting": (
        ran(llm=AWAY),
        0,
        r"claim: waits, due again at 20:11 UTC \(in 10 min\); the last failure: llm was down",
        IN_10,
    ),
    "held": (
        only(CLAIMS["held"]),
        0,
        r"claim: held by a run, until 20:12 UTC \(in 11 min\) at the latest",
        "the claim is free at 20:12 UTC (in 11 min)",
    ),
    "missed": (
        ran(without_fallback, minutes=(121,)),
        1,
        r"the recap was missed: none could be made before the catch-up ended; the catch-up was over",
        f"{RESEND} to make",
    ),
    "dead": (
        ran(without_fallback, minutes=(6, 6, 6), llm=REFUSAL),
        1,
        r"the recap is dead: it failed too often; the LLM failed on it too often; .*llm refused the day",
        "resend ann",
    ),
    "gave up": (ran(minutes=(0, 139), push=BUSY), 1, r"but no target accepted it", f"{RESEND} to send the recap"),
    "unserved": (
        only(at(3)),
        1,
        r"3 h ago, no longer served",
        f"no run served this slot. Run python job.py {RESEND}",
    ),
    "not yet": (
        only(nothing),
        0,
        r"due until 22:20 UTC, in 2 h 20 min\).*claim: none; no run has come to its hour yet",
        "the next run makes the recap. If no run comes, check the scheduler",
    ),
    "closing": (only(at(2.1)), 0, r"in the closing pass", "sends the extract"),
    "switched off": (only(USERS["switched off"]), 0, r"recaps are switched off", "the user has switched recaps off"),
    "flawed": (only(USERS["bad zone"]), 1, r"document: not seen by the job: .*'mars' is no IANA", "doctor --fix"),
    "erased": (only(USERS["erased"]), 2, r"users/ann does not exist\.", "Check the uid"),
    "unreadable": (
        only(LEDGERS["unreadable"]),
        1,
        r"ledger: this version can't read the ledger",
        "Correct or delete users/ann/recap_deliveries/2026-05-01",
    ),
    "without devices": (
        ran(DAYS["no device"]),
        0,
        r"targets: none\. claim: ended, with no target\. .*is stored, and no target got it; there was no device",
        "There is no target now",
    ),
    "sending": (
        sending,
        0,
        r"a run is sending the recap, or died",
        "may still be sending the recap, until 20:03 UTC (in 2 min) at the latest",
    ),
    "swept": (
        swept,
        1,
        r"no target accepted it; no target accepted it in time",
        "resend ann",
    ),
    "stopped resend": (
        stopped_resend,
        1,
        r"an operator's resend",
        f"stopped, run python job.py {RESEND} to finish it",
    ),
    "came late": (
        came_late,
        0,
        r"ledger: none; the day has not ended",
        "Run python job.py --user ann to make the recap now",
    ),
    "foreign": (only(CLAIMS["text"]), 0, r"its key holds a foreign value", "no run makes the recap"),
}


@pytest.mark.parametrize("name", WAYS)
async def test_why(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    way, code, line, following = WAYS[name]
    evening = Evening()
    evening.add("ann")
    await way(evening)
    said, ended = await told(evening, capsys)
    assert re.search(line, said), said
    assert following in said.partition("next: ")[2], said
    assert ended == code, said


async def test_a_slot_that_is_to_come_is_told_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.add("ann")
    day = evening.slots["ann"].recap_date + timedelta(days=1)
    assert await why("ann", day, evening.context()) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the first run after 2026-05-02 20:00 UTC makes the recap" in said
    assert "conversations; too little for a recap so far." in said


@pytest.mark.parametrize(
    ("hours", "following"),
    [
        (2, "nothing by itself: no run served this slot. Run python job.py resend ann 2026-05-01"),
        (3, "the first run after 2026-05-02 20:00 UTC makes the recap"),
    ],
)
async def test_who_signed_up_after_the_slot_misses_nothing(
    hours: float, following: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a date the day is the last that the user could have had: made before its service ended; else the next."""
    evening = Evening()
    evening.world._long_ago = evening.now + timedelta(hours=hours)
    evening.add("ann")
    evening.now += timedelta(hours=4)
    said, code = await told(evening, capsys)
    assert (following in said, code) == (True, 0), said
    await preview("ann", None, evening.context())
    assert re.search(rf"ann,? 2026-05-0{hours - 1:.0f}", capsys.readouterr().out)  # of the same day
    assert await why("ann", date(2026, 5, 1), evening.context()) == 0
    assert ("the account is younger than this slot" in capsys.readouterr().out) == (hours > 2)


async def test_what_refuses_the_project_is_named_with_its_cure(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a target that was not tried too, since another's refusal had stopped the channel."""
    evening = Evening()
    evening.add("ann", devices=2)
    evening.push.script = lambda token: PushAnswer(PushResult.REFUSED, "SERVICE_DISABLED", config=True)
    await evening.tick()
    assert (evening.record("ann").reason, len(evening.push.asked)) == ("service_disabled", 1)
    said, code = await told(evening, capsys)
    cause = (
        "(push SERVICE_DISABLED, the FCM API is off). It fails again while the cause lasts; enable the FCM API: gcloud"
    )
    assert (cause in said, code) == (True, 0), said


async def test_targets_are_told_by_their_channels(capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.with_all_channels()
    evening.add("ann", recap_email="ann@example.org")
    await evening.tick()
    said, _ = await told(evening, capsys)
    assert "targets: 1 by fcm, 1 by email." in said, said
    assert re.search(r"was sent; (fcm|email) \w{16} accepted, (fcm|email) \w{16} accepted;", said), said


@pytest.mark.parametrize(
    ("settings", "more", "why_not"),
    [
        (
            {"smtp_url": "smtp://relay.example"},
            {},
            "a channel to another machine: set RECAP_CHANNELS=fcm,email, for users that are local",
        ),
        (
            {"smtp_url": "smtp://relay.example", "named_channels": ("fcm",)},
            {},
            "RECAP_CHANNELS leaves it out: set RECAP_CHANNELS=fcm,email",
        ),
        ({}, {}, "it is not set here: set RECAP_SMTP_URL (docs/email.md)"),
        ({}, {"recap_unsubscribed": "ann@example.org"}, "the user has ended it (recap_unsubscribed)"),
    ],
)
async def test_an_address_that_is_not_used_is_told_with_its_cause(
    settings: dict[str, Any], more: dict[str, Any], why_not: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evening = Evening()
    evening.add("ann", devices=0, recap_email="ann@example.org", **more)
    context = replace(evening.context(), settings=Settings(**settings))
    for following in ("the next run makes the recap", "There is no target now."):
        assert await why("ann", None, context) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"not used: email: {why_not}" in said, said
        assert following in said, said
        assert ("Nobody is sent it" in said) == ("makes" in following), said
        await evening.tick()
    assert await audit(evening.slots["ann"].recap_date, context, as_json=False) == 0
    assert ("Nothing goes out by email: a channel" in capsys.readouterr().out) == (len(settings) == 1)


def test_an_end_is_told_by_the_minute_that_has_it_behind() -> None:
    at = datetime(2026, 5, 1, 18, 51, tzinfo=UTC)
    assert [minute(at + timedelta(seconds=seconds)) for seconds in (0, 1, 40)] == ["18:51", "18:52", "18:52"]


def test_a_day_that_nobody_was_sent_lost_no_run() -> None:
    """Its ledger never had a sender."""
    assert "died" not in ledger_line(Ledger(date(2026, 5, 1), DayState.SENT, "no_devices", tries=0))


async def test_who_came_after_a_run_that_left_others_waiting_is_not_told_that_it_stopped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evening = Evening()
    evening.add("bob")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    evening.add("ann")
    said, _ = await told(evening, capsys)
    assert "claim: none; no run has claimed it, or Redis has lost it." in said, said
    assert re.search(
        r"next: users due at 20:00 UTC are served again at \S+ UTC .*; then the next run makes the recap\.", said
    )
    assert await audit(evening.slots["ann"].recap_date, evening.context(), as_json=True) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["uid"]: row["kinds"] for row in rows[:-1]} == {
        "ann": ["due", "waiting"],
        "bob": ["stored", "due", "waiting"],
    }
