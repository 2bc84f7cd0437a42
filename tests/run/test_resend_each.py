"""The days of a bulk resend side by side: one's trouble is not another's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import date, timedelta
from typing import Any

import pytest

from notifications.commands.context import RESENDABLE
from notifications.commands.resend.many import BulkResend, ResendSelection, refuse_held, resend_many
from notifications.domain.errors import ItemFault, ItemReason, KeyTrouble, Malformed, StoreDown, Unfinished, UsageFault
from notifications.domain.push import PushAnswer, PushResult
from notifications.ports import UserDocument
from notifications.run.state import Run
from tests.support.days import CLAIMS, DAY, DAYS, LEDGERS, USERS
from tests.support.evening import Evening, of

UIDS = [f"u{number:02}" for number in range(20)]


def missed(evening: Evening) -> BulkResend:
    """An evening that nobody served, some hours later, before the first is begun."""
    evening.add(*UIDS)
    evening.now += timedelta(hours=5)
    day = evening.slots[UIDS[0]].recap_date
    return BulkResend(Run(evening.services), ResendSelection(day, frozenset({"unserved"})))


async def all_users(evening: Evening) -> AsyncGenerator[UserDocument]:
    for listed in await evening.store.all_users(None, 100):
        yield listed


def failing(evening: Evening, fault: Callable[[], Exception], *uids: str) -> None:
    """The ledger's verb raises, for these users."""
    verb = evening.store.resend

    async def resend(uid: str, *given: Any, **more: Any) -> Any:
        if uid in uids:
            raise fault()
        return await verb(uid, *given, **more)

    evening.store.resend = resend


@pytest.mark.parametrize(
    "fault",
    [lambda: Malformed("It is none."), lambda: KeyTrouble("It is a list."), lambda: StoreDown("store", "A blip.")],
    ids=["malformed", "key", "store"],
)
async def test_ones_own_trouble_stops_nobody(fault: Callable[[], Exception]) -> None:
    evening = Evening()
    many = missed(evening)
    failing(evening, fault, "u00")
    await many.serve_all(all_users(evening))
    assert many.counts == Counter({"sent": 19, "unfinished": 1})
    assert evening.got() == {f"{uid}-0": 1 for uid in UIDS[1:]}
    assert many.run.trouble is None


async def test_a_store_that_is_away_stops_the_command_and_counts_each_that_was_begun() -> None:
    evening = Evening(concurrency=1)
    many = missed(evening)
    failing(evening, lambda: StoreDown("store", "Away."), *UIDS)
    await many.serve_all(all_users(evening))
    assert isinstance(many.run.trouble, StoreDown)
    assert many.counts == Counter({"unfinished": 10})  # in a row
    assert evening.got() == {}


async def test_a_defect_ends_the_command_when_all_who_are_served_have_theirs() -> None:
    evening = Evening()
    many = missed(evening)
    failing(evening, lambda: ZeroDivisionError("a defect"), "u01")
    with pytest.raises(ZeroDivisionError):
        await many.serve_all(all_users(evening))
    served = {uid for uid in UIDS if evening.state(uid)}
    assert "u00" in served
    assert {uid: evening.state(uid) for uid in served} == dict.fromkeys(served, "sent")
    assert evening.got() == {f"{uid}-0": 1 for uid in served}


async def counted(evening: Evening, capsys: pytest.CaptureFixture[str], *, write: bool) -> str:
    """The counts that the command ends with."""
    which = ResendSelection(date.fromisoformat(DAY), frozenset(RESENDABLE))
    capsys.readouterr()
    with suppress(Unfinished):
        await resend_many(which, evening.context(), dry_run=not write)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{DAY}: ")]
    return re.sub(r"would send (\d+)", r"\1 sent", re.split(r"; | \(", line)[0])


@pytest.mark.parametrize("found", LEDGERS | DAYS | USERS)
async def test_a_dry_run_counts_what_a_resend_comes_to(found: str, capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.add("ann")
    (LEDGERS | DAYS | USERS)[found](evening)
    evening.now += timedelta(hours=5)
    said = await counted(evening, capsys, write=False)
    assert await counted(evening, capsys, write=True) == said


async def test_a_resend_says_by_each_channel_what_was_accepted_and_what_was_answered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evening = Evening()
    hook = evening.with_all_channels()[1]
    evening.add("ann", recap_email="a@example.com", recap_webhook_url="https://hooks.example.com/1")
    evening.add("bob", devices=0)
    evening.now += timedelta(hours=5)
    evening.summarizer.script = of("bob", lambda question: ItemFault(ItemReason.REFUSAL, "No."))
    hook.script = lambda url: PushAnswer(PushResult.GONE, "410")
    which = ResendSelection(date.fromisoformat(DAY), frozenset({"unserved"}))
    assert await resend_many(which, evening.context(), dry_run=False) == 0
    said = " ".join(capsys.readouterr().out.split())
    left = "1 push, 1 webhook (none accepted), 1 mail, 2 LLM calls (1 answered)"
    assert f"{DAY}: 1 sent, 1 stored (no target takes it); {left}." in said


HELD_BY = {
    "nobody": (DAYS["no conversation"], "nobody of 2026-05-01 is held"),
    "a run": (CLAIMS["held"], "1 user of 2026-05-01 is held until 20:12 UTC at the latest"),
    "the app": (CLAIMS["text"], "1 user of 2026-05-01 is held by the app, or another job, for two hours at most"),
}


@pytest.mark.parametrize("who", HELD_BY)
async def test_of_held_users_a_resend_says_when_they_are_free_and_that_nothing_need_be_done(who: str) -> None:
    evening = Evening()
    evening.add("ann")
    way, clause = HELD_BY[who]
    way(evening)
    with pytest.raises(UsageFault) as refused:
        await refuse_held(date.fromisoformat(DAY), evening.context())
    after = "" if who == "nobody" else "; the next run after that serves them, and nothing need be done"
    assert str(refused.value).startswith(f"resend does not take --where held: {clause}{after}.")
    assert evening.got() == {}
