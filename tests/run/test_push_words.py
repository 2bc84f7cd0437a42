"""When a push rings, and what it shows: by its slot and by the settings, and by the ledger once that is begun."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notifications.commands.resend import finish_day, open_day
from notifications.domain.claim import sweep_key
from notifications.domain.push import PushAnswer, PushResult, PushText
from notifications.run.state import Run
from notifications.testing import ENVIRONMENT
from tests.support.evening import Evening

BUSY = PushAnswer(PushResult.BUSY, "UNAVAILABLE")


def silent(evening: Evening, uid: str) -> list[bool]:
    """Of each push that this user's device accepted, whether it was."""
    return [message.silent for message in evening.push.got.get(f"{uid}-0", [])]


async def resent(evening: Evening, uid: str) -> None:
    """As an operator's command does it."""
    listed = await evening.store.user_document(uid)
    run = Run(evening.services)
    await finish_day(run, await open_day(run, listed, evening.slots[uid].recap_date))


@pytest.mark.parametrize(("minutes", "late"), [(0, False), (30, False), (31, True), (119, True), (125, True)])
async def test_what_comes_late_is_silent_in_the_catch_up_and_in_the_closing_pass(minutes: int, late: bool) -> None:
    evening = Evening()
    evening.add("ann")
    evening.now = evening.slots["ann"].at + timedelta(minutes=minutes)
    await evening.tick()
    assert silent(evening, "ann") == [late]


@pytest.mark.parametrize(("minutes", "late"), [(0, True), (29, False), (1440, False)])
async def test_how_late_is_a_setting(minutes: int, late: bool) -> None:
    evening = Evening(quiet_after_minutes=minutes)
    evening.add("ann")
    await evening.tick()
    assert silent(evening, "ann") == [late]


@pytest.mark.parametrize(("minutes", "late"), [(20, False), (40, True), (125, True)])
async def test_what_a_later_run_takes_over_is_as_late_as_its_slot(minutes: int, late: bool) -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    evening.push.script = lambda token: None
    await evening.later(minutes=minutes)
    assert silent(evening, "ann") == [late]


@pytest.mark.parametrize(("minutes", "late"), [(20, False), (40, True)])
async def test_what_the_sweep_finds_is_as_late_as_the_slot_that_began_it(minutes: int, late: bool) -> None:
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    evening.world.update_user("ann", {"daily_summary_hour_local": 5})
    evening.push.script = lambda token: None
    await evening.claims.delete(sweep_key(ENVIRONMENT))
    report = await evening.later(minutes=minutes)
    assert (report.counts.swept, silent(evening, "ann")) == (1, [late])


@pytest.mark.parametrize(("minutes", "late"), [(20, False), (300, True)])
async def test_a_resend_hours_later_is_silent_and_one_at_once_rings(minutes: int, late: bool) -> None:
    evening = Evening()
    evening.add("ann")
    await evening.tick()
    evening.now += timedelta(minutes=minutes)
    await resent(evening, "ann")
    assert silent(evening, "ann") == [False, late]


async def test_a_resend_of_what_was_missed_is_as_late_as_its_slot() -> None:
    evening = Evening()
    evening.has_fallback = False
    evening.add("ann")
    evening.now += timedelta(hours=2, minutes=1)
    await evening.tick()
    assert evening.state("ann") == "missed closed"
    evening.now += timedelta(minutes=1)
    await resent(evening, "ann")
    assert (silent(evening, "ann"), evening.state("ann")) == ([True], "sent")


@pytest.mark.parametrize("shown", [PushText.HEADLINE, PushText.NONE])
async def test_a_second_push_says_the_same_whatever_is_set_meanwhile(shown: PushText) -> None:
    evening = Evening()
    evening.push_text = shown
    evening.add("ann", language="fr")
    await evening.tick()
    ledger = evening.ledger("ann")
    assert ledger["body"] == "Votre récapitulatif est prêt."
    assert (ledger["title"] == "Votre récapitulatif du jour") is (shown is PushText.NONE)
    evening.push_text = PushText.RECAP
    evening.now += timedelta(hours=1)
    await resent(evening, "ann")
    first, second = evening.push.got["ann-0"]
    assert (second.title, second.body, second.data["text"]) == (first.title, first.body, ledger["body"])


async def test_without_a_users_language_it_is_that_of_the_conversations() -> None:
    evening = Evening()
    evening.push_text = PushText.NONE
    evening.add("ann")
    talks = evening.world.documents.collection("ann", "conversations")
    evening.world.put_talk("ann", "t0", talks["t0"].doc | {"language": "it"})
    await evening.tick()
    assert evening.ledger("ann")["body"] == "Il tuo riepilogo è pronto."


async def test_a_resend_of_another_hands_summary_shows_no_more_than_is_wished() -> None:
    evening = Evening()
    evening.push_text = PushText.NONE
    evening.add("ann", language="pl")
    day = evening.slots["ann"].recap_date.isoformat()
    theirs = {"id": day, "date": day, "created_at": evening.now, "headline": "Secret", "overview": "Confided."}
    evening.world.put_summary("ann", day, theirs)
    await evening.tick()
    assert evening.state("ann") == "sent legacy"
    evening.now += timedelta(hours=1)
    await resent(evening, "ann")
    [message] = evening.push.got["ann-0"]
    assert (message.title, message.body) == ("Twoje podsumowanie dnia", "Twoje podsumowanie jest gotowe.")
