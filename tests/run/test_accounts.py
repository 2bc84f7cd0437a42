"""What the accounts say of a day is what the next run finds, and what `why` says."""

from __future__ import annotations

from contextlib import aclosing
from datetime import date, timedelta
from typing import Any

import pytest

from notifications.commands.user_days import DayQuery, UserDay, UserDays
from notifications.commands.why import why
from tests.support.days import CLAIMS, DAY, MINUTE, shard
from tests.support.evening import EIGHT, Evening, outcomes


async def row_of_ann(evening: Evening) -> UserDay:
    """As `audit` and `inspect` have it."""
    services = evening.services
    query = DayQuery(date.fromisoformat(DAY), evening.now, services.limits.rules)
    async with aclosing(UserDays(services, query).pages()) as pages:
        [row] = [row async for page in pages for row in page]
    return row


async def said(evening: Evening, capsys: pytest.CaptureFixture[str]) -> tuple[str, int]:
    """What `why` says, as one line, and its exit code."""
    capsys.readouterr()
    code = await why("ann", date.fromisoformat(DAY), evening.context())
    return " ".join(capsys.readouterr().out.split()), code


@pytest.mark.parametrize(
    "found", [name for name in CLAIMS if name.startswith(("held", "lapsed", "lease", "wait", "idle"))]
)
async def test_a_day_is_held_or_waits_in_the_accounts_as_long_as_it_does_for_the_next_run(
    found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evening = Evening()
    evening.add("ann")
    CLAIMS[found](evening)
    began = evening.now
    row, (words, _) = await row_of_ann(evening), await said(evening, capsys)
    told = words.partition("claim: ")[2].partition(" next: ")[0]
    assert ("held by" in told) == (row.state == "held"), words
    [ending] = outcomes(await evening.start().run_user("ann"))
    assert (row.state == "held") == (ending == "held"), ending
    assert row.until is not None
    assert (row.until > began) == (ending in ("held", "waiting")), (row.until, ending)
    assert ("(in " in told) == (row.until > began), words


@pytest.mark.parametrize("minutes", [2, 40], ids=["live", "of a clock ahead"])
async def test_a_user_whom_nobody_reached_is_being_served_while_the_shard_is_really_held(minutes: int) -> None:
    evening = Evening()
    evening.add("ann")
    shard("claimed", minutes)(evening)
    assert (await row_of_ann(evening)).reason == ("another_run" if minutes == 2 else "killed_run")


@pytest.mark.parametrize(
    ("created", "updated", "state"),
    [
        (-60, -60, "unserved"),
        (-60, 0, "unserved"),  # at the very slot
        (-60, 1, "unknown"),
        (1, 1, "unknown"),
        (139, 150, "unknown"),
        (140, 140, None),  # when the slot was served no more
        (None, None, "unserved"),
    ],
)
async def test_why_and_audit_agree_on_a_day_that_no_run_served(
    created: int | None, updated: int | None, state: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """In minutes after the slot: when the user's document was made, and when it was changed."""
    evening = Evening()
    evening.add("ann")
    kept: Any = evening.world.documents.users["ann"]
    kept.created, kept.updated = (None if at is None else EIGHT + at * MINUTE for at in (created, updated))
    evening.now += timedelta(hours=5)
    row, (words, code) = await row_of_ann(evening), await said(evening, capsys)
    assert (row.state, code) == (state, int(state == "unserved")), words
