"""`why UID`: for every way a day can stand, the values that decided and what comes next."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from notifications.commands.why import why
from notifications.domain.claim import user_key
from notifications.domain.errors import ItemFault, ItemReason, ProviderFault
from notifications.domain.push import PushAnswer, PushResult
from notifications.domain.text import width_of
from notifications.run.state import Run
from tests.support.evening import Evening

BUSY = PushAnswer(PushResult.BUSY, "503")
UNKNOWN = PushAnswer(PushResult.UNKNOWN, "no answer")
REFUSAL = ItemFault(ItemReason.REFUSAL, "No.")


def kept(evening: Evening) -> str:
    documents = evening.world.documents
    return repr(
        (documents.users, {key: found for key, found in documents.below.items() if found}, evening.redis.values)
    )


async def told(evening: Evening, capsys: pytest.CaptureFixture[str], uid: str = "ann") -> tuple[str, int]:
    """What is said, as one line, and the exit code; nothing is wider than a terminal, and nothing is written."""
    capsys.readouterr()
    before = kept(evening)
    context = evening.context()
    code = await why(uid, None, context)
    out = capsys.readouterr().out
    assert all(width_of(line) <= 80 for line in out.splitlines()), out
    assert kept(evening) == before
    return " ".join(out.split()), code


async def sent(evening: Evening) -> None:
    await evening.tick()


async def extract(evening: Evening) -> None:
    evening.summarizer.script = lambda question: REFUSAL
    await evening.tick()


async def legacy(evening: Evening) -> None:
    day = evening.slots["ann"].recap_date.isoformat()
    evening.world.put_summary("ann", day, {"date": day, "headline": "Theirs", "overview": "O"})
    await evening.tick()


async def skipped(evening: Evening) -> None:
    evening.world.documents.below.pop(("ann", "conversations"))
    await evening.tick()


async def pending(evening: Evening) -> None:
    evening.push.script = lambda token: BUSY
    await evening.tick()


async def three_tries(evening: Evening) -> None:
    evening.push.script = lambda token: UNKNOWN
    await evening.tick()
    await evening.later(minutes=7)
    evening.push.script = lambda token: None
    await evening.later(minutes=12)


async def waiting(evening: Evening) -> None:
    evening.summarizer.script = lambda question: ProviderFault("It answers 503.", retry_after=timedelta(minutes=10))
    await evening.tick()


async def held(evening: Evening) -> None:
    terms = Run(evening.services).user_terms("ann", evening.slots["ann"].recap_date, evening.slots["ann"].at)
    await evening.claims.claim(terms, "another", 2)


async def missed(evening: Evening) -> None:
    evening.has_fallback = False
    await evening.later(hours=2, minutes=1)


async def dead(evening: Evening) -> None:
    evening.has_fallback = False
    evening.summarizer.script = lambda question: REFUSAL
    for _ in range(3):
        await evening.later(minutes=6)


async def gave_up(evening: Evening) -> None:
    evening.push.script = lambda token: BUSY
    await evening.tick()
    await evening.later(hours=2, minutes=19)


async def unserved(evening: Evening) -> None:
    evening.now += timedelta(hours=3)


async def not_yet(evening: Evening) -> None:
    pass


async def closing(evening: Evening) -> None:
    evening.now += timedelta(hours=2, minutes=1)


async def switched_off(evening: Evening) -> None:
    evening.world.update_user("ann", {"daily_summary_enabled": False})


async def flawed(evening: Evening) -> None:
    evening.world.update_user("ann", {"time_zone": "mars"})


async def erased(evening: Evening) -> None:
    evening.world.delete_user("ann")


async def unreadable(evening: Evening) -> None:
    day = evening.slots["ann"].recap_date.isoformat()
    evening.world.put_ledger("ann", day, {"date": day, "state": "odd"})


async def without_devices(evening: Evening) -> None:
    evening.world.documents.below.pop(("ann", "fcm_tokens"))
    await evening.tick()


async def sending(evening: Evening) -> None:
    await evening.tick()
    open_one = {**evening.ledger("ann"), "state": "sending", "sending_at": evening.now, "devices": {}}
    evening.world.put_ledger("ann", evening.slots["ann"].recap_date.isoformat(), open_one)


async def swept(evening: Evening) -> None:
    await sending(evening)
    evening.redis.values.clear()
    await evening.later(hours=3)


async def stopped_resend(evening: Evening) -> None:
    await sending(evening)
    left = {**evening.ledger("ann"), "outcome": "resend", "seq": 2}
    evening.world.put_ledger("ann", evening.slots["ann"].recap_date.isoformat(), left)
    evening.redis.values.clear()
    await evening.later(hours=3)
    assert evening.state("ann") == "sending resend"  # no run ends it


async def came_late(evening: Evening) -> None:
    await evening.tick()
    day = evening.slots["ann"].recap_date
    evening.world.delete_ledger("ann", day.isoformat())
    evening.world.delete_summary("ann", day.isoformat())
    await evening.claims.delete(user_key("ann", day))


async def sent_elsewhere(evening: Evening) -> None:
    await evening.tick()
    day = evening.slots["ann"].recap_date.isoformat()
    evening.world.delete_ledger("ann", day)
    evening.world.delete_summary("ann", day)


async def foreign(evening: Evening) -> None:
    await evening.redis.set(user_key("ann", evening.slots["ann"].recap_date), "theirs", px=7_200_000)


WAYS: list[tuple[Callable[..., object], int, str, str]] = [
    (
        sent,
        0,
        r"was sent; 1 try; device \w{16} accepted; .*recap: stored. Made by memory, 1 call, 120 tokens, 0\.0001 USD",
        "the recap was sent",
    ),
    (
        extract,
        0,
        r"recap: stored. Made of the day's own sentences, by no LLM",
        r"resend ann 2026-05-01 to push it again",
    ),
    (legacy, 0, r"another writer .* made the recap", "nothing: the recap was sent"),
    (sent_elsewhere, 1, r"claim: ended: sent", "python job.py resend ann 2026-05-01 to make the recap here"),
    (skipped, 0, r"0 conversations used.*skipping the day released it.*too little was said", "in the next recap"),
    (
        pending,
        0,
        r"still has to be pushed; the last failure: push.*|claim: waits",
        "the hour is served again in 1 min; then the next run pushes the recap",
    ),
    (three_tries, 0, r"the recap was sent; .*3 tries; device \w{16} accepted", "to push it again"),
    (
        waiting,
        0,
        r"claim: waits, due again in 10 min; the last failure: provider_llm",
        "the hour is served again in 5 min; then the day waits for 5 min after a failure; then the next run makes",
    ),
    (held, 0, r"claim: held by a run, for 11 min at most", "the run that holds the claim ends the day"),
    (
        missed,
        1,
        r"the recap was missed: no run served it in time; the catch-up was over",
        "resend ann 2026-05-01 to make",
    ),
    (dead, 1, r"the recap is dead: it failed too often; the LLM failed on it too often; .*refusal", "resend ann"),
    (gave_up, 1, r"no push of it was accepted", "resend ann 2026-05-01 to push the recap"),
    (
        unserved,
        1,
        r"180 min ago|3 h ago, no longer served",
        "no run served this slot. Run python job.py resend ann 2026-05-01",
    ),
    (not_yet, 0, r"claim: none; no run has claimed it", "the next run makes the recap"),
    (closing, 0, r"in the closing pass", "sends the extract"),
    (switched_off, 0, r"recaps are switched off", "the user has switched recaps off"),
    (flawed, 1, r"document: not seen by the job: .*'mars' is no IANA time zone", "doctor --fix"),
    (erased, 1, r"users/ann does not exist\.", "Check the uid"),
    (
        unreadable,
        1,
        r"ledger: this version can't read the ledger",
        "Correct or delete users/ann/recap_deliveries/2026-05-01",
    ),
    (without_devices, 0, r"devices: 0\. .*the recap was sent; the user has no device", "no device to push it to"),
    (sending, 0, r"a run is pushing the recap, or died", "may still be pushing the recap, for 2 min at most"),
    (swept, 1, r"no push of it was accepted; no push of it was accepted in time", "resend ann"),
    (stopped_resend, 1, r"an operator's resend", "stopped, run python job.py resend ann 2026-05-01 to finish it"),
    (came_late, 0, r"ledger: none; the day has not ended", "Run python job.py --user ann to make the recap now"),
    (foreign, 0, r"its key holds a foreign value", "no run makes the recap"),
]


@pytest.mark.parametrize(("way", "code", "line", "following"), WAYS, ids=[way[0].__name__ for way in WAYS])
async def test_why(
    way: Callable[..., object], code: int, line: str, following: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evening = Evening()
    evening.add("ann")
    await way(evening)  # type: ignore[misc]
    said, ended = await told(evening, capsys)
    assert re.search(line, said), said
    assert following in said.partition("next: ")[2], said
    assert ended == code, said


async def test_a_slot_that_is_to_come_is_told_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.add("ann")
    day = evening.slots["ann"].recap_date + timedelta(days=1)
    context = evening.context()
    assert await why("ann", day, context) == 0
    assert "the first run after 2026-05-02 20:00 UTC makes the recap" in " ".join(capsys.readouterr().out.split())


async def test_who_signed_up_after_the_slot_misses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.world._long_ago = evening.now
    evening.add("ann")
    evening.now += timedelta(hours=3)
    said, code = await told(evening, capsys)
    assert "the account is younger than this slot" in said
    assert code == 0
