"""What a run tells beside odd ledgers and other writers' recaps, and what is said of a day that is told elsewhere."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from notifications.commands.preview import preview
from notifications.commands.resend import Refused, resend
from notifications.commands.why import why
from notifications.domain.schedule import ONE_DAY
from notifications.domain.told_once import told_hash
from notifications.run.day_input import DayInput, read_conversations, read_ledgers
from notifications.testing import talk
from tests.support.days import around
from tests.support.evening import EIGHT, Evening

HOUR = timedelta(hours=1)


def day(evening: Evening, days: int = 0) -> str:
    return (evening.slots["ann"].recap_date + days * ONE_DAY).isoformat()


def told(evening: Evening, days: int) -> set[str]:
    """The conversations that the ledger so many days after the first evening has told."""
    ledger = evening.world.ledgers("ann")[day(evening, days)]
    return {key for key in ("t0", "night", "upload", "morning") if told_hash("ann", key) in ledger.get("told", "")}


def put(evening: Evening, days: int, **fields: object) -> None:
    """A ledger with the window of that day, unless these fields say otherwise."""
    around(days, str(fields.pop("state", "sent")), **fields)(evening)


def put_apps(evening: Evening, hours: int) -> None:
    """The app's own recap of the first evening, made so many hours after the slot, as the app writes its time."""
    made = (EIGHT + hours * HOUR).replace(tzinfo=None).isoformat()
    evening.world.put_summary("ann", "app", {"id": "app", "date": day(evening), "created_at": made})


async def said(evening: Evening, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What `why` says comes next for the first evening, and why a resend of it is refused."""
    day = evening.slots["ann"].recap_date
    capsys.readouterr()
    await why("ann", day, evening.context())
    following = " ".join(capsys.readouterr().out.split()).rpartition("next: ")[2]
    with pytest.raises(Refused) as refused:
        await resend("ann", day, evening.context())
    return following, str(refused.value)


def an_evening(talks: int = 1) -> Evening:
    evening = Evening()
    evening.add("ann", talks=talks)
    return evening


LOST = {"told": None, "window_start": None, "window_end": None}


async def test_what_a_ledger_told_that_this_version_can_not_read_is_not_told_again() -> None:
    evening = an_evening()
    put(evening, -1)
    await evening.tick()
    evening.world.put_ledger("ann", day(evening), evening.ledger("ann") | {"usd": 10**400})
    evening.world.put_talk("ann", "night", talk("ann", EIGHT + 3 * HOUR))
    await evening.later(days=1)
    assert told(evening, 1) == {"night"}


async def test_the_ledger_that_is_named_is_the_one_that_claims_what_was_said_after_the_slot(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evening = an_evening()
    put(evening, 1)
    put(evening, 2, told=None)
    await evening.tick()
    out = capsys.readouterr().out
    assert (f"recap_deliveries/{day(evening, 2)}" in out, f"recap_deliveries/{day(evening, 1)}" in out) == (True, False)
    context = evening.context()
    await why("ann", None, context)
    following = " ".join(capsys.readouterr().out.split()).rpartition("next: ")[2]
    missed = "the day fails until an operator acts, and is missed after the catch-up: users/ann/recap_deliveries/"
    waits = r"users due at [^;]*; then (the day waits until [^;]* after a failure; then )?"  # as it jitters
    assert re.match(f"{waits}{missed}2026-05-03 has a window", following), following
    assert await preview("ann", None, context) == 1
    assert f"not known, since the ledger of {day(evening, 2)} ends after" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("made", "talks", "in_the_next"),
    [(3, {"night": 2}, set()), (14, {"upload": -2, "morning": 12}, {"morning"})],
)
async def test_the_apps_recap_of_a_skipped_day_tells_what_came_before_it_and_nothing_of_the_next_morning(
    made: int, talks: dict[str, int], in_the_next: set[str]
) -> None:
    """Hours after the slot."""
    evening = an_evening(talks=0)
    await evening.tick()
    for key, hours in talks.items():
        evening.world.put_talk("ann", key, talk("ann", EIGHT + hours * HOUR))
    put_apps(evening, hours=made)
    await evening.later(days=1)
    assert (evening.state("ann"), told(evening, 1)) == ("skipped no_content", in_the_next)


@pytest.mark.parametrize("state", ["missed", "dead", None])
async def test_what_the_app_told_of_a_day_without_a_recap_of_ours_is_not_told_again(state: str | None) -> None:
    evening = an_evening()
    put(evening, -1)
    if state is not None:
        put(evening, 0, state=state, **LOST)
    evening.world.put_talk("ann", "morning", talk("ann", EIGHT + 12 * HOUR))
    put_apps(evening, hours=5)
    await evening.later(days=1)
    assert told(evening, 1) == {"morning"}


@pytest.mark.parametrize("state", ["missed", None])
@pytest.mark.parametrize("talks", [0, 1])
async def test_who_asks_for_a_day_that_the_next_has_told_hears_the_same_of_why_and_of_resend(
    state: str | None, talks: int, capsys: pytest.CaptureFixture[str]
) -> None:
    evening = an_evening(talks=talks)
    put(evening, -1)
    if state is not None:
        put(evening, 0, state=state, **LOST)
    await evening.later(days=1)
    evening.now += 5 * HOUR
    where = f"are in the recap of {day(evening, 1)}" if talks else f"were looked at for {day(evening, 1)}, which was"
    following, refusal = await said(evening, capsys)
    assert (following.startswith(f"nothing: its conversations {where}"), where in refusal) == (True, True), following


async def test_a_day_before_another_writers_is_refused_and_no_ledger_is_to_be_deleted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evening = an_evening()
    put(evening, 1, outcome="legacy", window_start=None, told=None)
    evening.now += timedelta(hours=30)
    _, refusal = await said(evening, capsys)
    assert f"are in the recap of {day(evening, 1)}" in refusal
    assert list(evening.world.ledgers("ann")) == [day(evening, 1)]


async def read(evening: Evening, look_back: int) -> DayInput:
    user, slot = (await evening.store.user_document("ann")).user, evening.slots["ann"]
    return await read_conversations(
        evening.store, await read_ledgers(evening.store, user, slot, timedelta(hours=look_back))
    )


@pytest.mark.parametrize(("known", "meanwhile", "look_back"), [(1, -1, 24), (-1, -2, 48)])
async def test_a_day_with_nothing_to_read_rests_on_what_could_let_it_read_further_back(
    known: int, meanwhile: int, look_back: int
) -> None:
    """Beside a later day's window alone, or where the first known window is the bound."""
    evening = an_evening(talks=0)
    put(evening, known)
    evening.world.put_talk("ann", "upload", talk("ann", EIGHT + meanwhile * ONE_DAY - 2 * HOUR))
    nothing = await read(evening, look_back)
    assert (nothing.conversations, len(nothing.neighbours.earlier)) == ([], 4 if known > 0 else 3)
    put(evening, meanwhile)
    assert [one.id for one in (await read(evening, look_back)).conversations] == ["upload"]


async def test_a_day_with_nothing_to_read_rests_on_nothing_once_it_reaches_as_far_as_it_ever_can() -> None:
    evening = an_evening(talks=0)
    put(evening, -1)
    found = await read(evening, 24)
    assert (found.conversations, found.neighbours.earlier, found.neighbours.later) == ([], {}, {})
