"""When a push rings, and what it shows: by its slot and by the settings, and by the ledger once that is begun."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notifications.commands.resend import finish, open_day
from notifications.domain.claim import sweep_key
from notifications.domain.push import PushText
from notifications.run.state import Run
from notifications.testing import ENVIRONMENT
from tests.run.test_pushes import with_an_open_push
from tests.support.evening import Evening


def silent(evening: Evening) -> list[bool]:
    """Of each push that ann's device accepted, whether it was."""
    return [message.silent for message in evening.push.got.get("ann-0", [])]


def showing(text: PushText, **user: str) -> Evening:
    evening = Evening()
    evening.push_text = text
    evening.add("ann", **user)  # type: ignore[arg-type]
    return evening


async def resend_later(evening: Evening, **span: float) -> None:
    """As an operator's command does it."""
    evening.now += timedelta(**span)
    run = Run(evening.services)
    await finish(run, await open_day(run, await evening.store.user_document("ann"), evening.slots["ann"].recap_date))


@pytest.mark.parametrize(
    ("minutes", "setting", "late"),
    [
        *[(0, 30, False), (30, 30, False), (31, 30, True), (119, 30, True), (125, 30, True)],  # in the closing pass
        *[(0.5, 0, True), (0.5, 29, False), (0.5, 1440, False)],
    ],
)
async def test_what_comes_later_than_is_set_is_silent(minutes: float, setting: int, late: bool) -> None:
    evening = Evening() if setting == 30 else Evening(quiet_after_minutes=setting)
    evening.add("ann")
    evening.now = evening.slots["ann"].at + timedelta(minutes=minutes)
    await evening.tick()
    assert silent(evening) == [late]


@pytest.mark.parametrize(("minutes", "late"), [(20, False), (40, True), (125, True)])
async def test_what_a_later_run_takes_over_is_as_late_as_its_slot(minutes: int, late: bool) -> None:
    evening = await with_an_open_push()
    await evening.later(minutes=minutes)
    assert silent(evening) == [late]


@pytest.mark.parametrize(("minutes", "late"), [(20, False), (40, True)])
async def test_what_the_sweep_finds_is_as_late_as_the_slot_that_began_it(minutes: int, late: bool) -> None:
    evening = await with_an_open_push()
    evening.world.update_user("ann", {"daily_summary_hour_local": 5})
    await evening.claims.delete(sweep_key(ENVIRONMENT))
    report = await evening.later(minutes=minutes)
    assert (report.counts.swept, silent(evening)) == (1, [late])


@pytest.mark.parametrize(("minutes", "late"), [(20, False), (300, True)])
async def test_a_resend_hours_later_is_silent_and_one_at_once_rings(minutes: int, late: bool) -> None:
    evening = showing(PushText.RECAP)
    await evening.tick()
    await resend_later(evening, minutes=minutes)
    assert silent(evening) == [False, late]


async def test_a_resend_of_what_was_missed_is_as_late_as_its_slot() -> None:
    evening = showing(PushText.RECAP)
    evening.has_fallback = False
    await evening.later(hours=2, minutes=1)
    assert evening.state("ann") == "missed closed"
    await resend_later(evening, minutes=1)
    assert (silent(evening), evening.state("ann")) == ([True], "sent")


@pytest.mark.parametrize("shown", [PushText.HEADLINE, PushText.NONE])
async def test_a_second_push_says_the_same_whatever_is_set_meanwhile(shown: PushText) -> None:
    evening = showing(shown, language="fr")
    await evening.tick()
    ledger = evening.ledger("ann")
    assert ledger["body"] == "Votre récapitulatif est prêt."
    assert (ledger["title"] == "Votre récapitulatif du jour") is (shown is PushText.NONE)
    evening.push_text = PushText.RECAP
    await resend_later(evening, hours=1)
    first, second = evening.push.got["ann-0"]
    assert (second.title, second.body, second.data["text"]) == (first.title, first.body, ledger["body"])


async def test_without_a_users_language_it_is_that_of_the_conversations() -> None:
    evening = showing(PushText.NONE)
    talks = evening.world.documents.collection("ann", "conversations")
    evening.world.put_talk("ann", "t0", talks["t0"].doc | {"language": "it"})
    await evening.tick()
    assert evening.ledger("ann")["body"] == "Il tuo riepilogo è pronto."


async def test_a_resend_of_another_writers_summary_shows_no_more_than_is_wished() -> None:
    evening = showing(PushText.NONE, language="pl")
    day = evening.slots["ann"].recap_date.isoformat()
    theirs = {"id": day, "date": day, "created_at": evening.now, "headline": "Secret", "overview": "Confided."}
    evening.world.put_summary("ann", day, theirs)
    await evening.tick()
    assert evening.state("ann") == "sent legacy"
    await resend_later(evening, hours=1)
    [message] = evening.push.got["ann-0"]
    assert (message.title, message.body) == ("Twoje podsumowanie dnia", "Twoje podsumowanie jest gotowe.")
