"""A resend that no target takes, and one that comes too soon: what was delivered stays in the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta

import pytest

from notifications.commands.resend import resend
from notifications.commands.resend.many import ResendSelection, resend_many
from notifications.commands.why import why
from notifications.domain.claim import user_key
from notifications.domain.errors import UsageFault
from notifications.domain.push import PushAnswer, PushResult
from notifications.testing import MemoryPush
from tests.support.days import DAY
from tests.support.evening import Evening

ON = date.fromisoformat(DAY)
MAIL = "lea@example.com"
KEPT = f"lea {DAY} is not resent, and its ledger stays as it is: no target takes the recap now"
Way = Callable[[Evening], None]


async def mailed() -> tuple[Evening, MemoryPush]:
    """Lea, without a phone, was sent her recap by mail, five hours ago."""
    evening = Evening()
    mail = evening.with_all_channels()[2]
    evening.add("lea", devices=0, recap_email=MAIL)
    await evening.tick()
    assert (evening.state("lea"), mail.asked) == ("sent", [MAIL])
    evening.now += timedelta(hours=5)
    return evening, mail


async def refusal(evening: Evening) -> str:
    """The sentence with which a resend of hers is refused, before it has changed anything."""
    before = dict(evening.ledger("lea")), evening.record("lea")
    with pytest.raises(UsageFault) as refused:
        await resend("lea", ON, evening.context())
    assert (evening.ledger("lea"), evening.record("lea")) == before
    return str(refused.value)


def unsubscribed(evening: Evening) -> None:
    evening.world.update_user("lea", {"recap_unsubscribed": MAIL})


def without_the_settings(evening: Evening) -> None:
    evening.channels = evening.channels[:1]


def without_any_channel_for_phones(evening: Evening) -> None:
    evening.world.put_token("lea", "d0", "lea-0")
    evening.channels = evening.channels[1:2]


def bounced_the_day_before(evening: Evening) -> None:
    before = str(ON - timedelta(days=1))
    doc = {
        "date": before,
        "state": "sent",
        "seq": 1,
        "devices": dict.fromkeys(evening.ledger("lea")["devices"], "gone"),
    }
    evening.world.put_ledger("lea", before, doc)


NOT_SET = "email: it is not set here: set RECAP_SMTP_URL (docs/email.md)"
NO_TARGET: dict[Way, str] = {
    unsubscribed: "no device; email: the user has ended it (recap_unsubscribed)",
    without_the_settings: f"no device; {NOT_SET}",
    without_any_channel_for_phones: f"1 device, and no channel to devices is set here; {NOT_SET}",
    bounced_the_day_before: "no device; email: it was gone on one of the days before",
}


@pytest.mark.parametrize("way", NO_TARGET)
async def test_a_day_that_was_sent_is_not_resent_to_nobody(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    evening, mail = await mailed()
    way(evening)
    assert await refusal(evening) == f"{KEPT}: {NO_TARGET[way]}."
    assert mail.asked == [MAIL]
    capsys.readouterr()
    assert await why("lea", ON, evening.context()) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.endswith("next: nothing: the recap was sent. There is no target now."), said


@pytest.mark.parametrize("state", ["gave_up", "partial"])
async def test_a_bulk_resend_leaves_alone_whom_no_target_takes_it_for(
    state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evening, mail = await mailed()
    [name] = evening.ledger("lea")["devices"]
    fields = {
        "gave_up": {"state": "gave_up", "outcome": "pushes", "devices": {name: "gave_up"}},
        "partial": {"outcome": "partial", "devices": {name: "accepted", "another": "gave_up"}},
    }[state]
    evening.world.put_ledger("lea", DAY, evening.ledger("lea") | fields)
    unsubscribed(evening)
    before = dict(evening.ledger("lea"))
    which = ResendSelection(ON, frozenset({state}))
    capsys.readouterr()
    assert await resend_many(which, evening.context(), dry_run=True) == 0
    assert await resend_many(which, evening.context(), dry_run=False) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{DAY}: 1 nobody to send to (dry run: nothing was claimed, sent or written)." in said
    assert f"{KEPT}. {DAY}: 1 nobody to send to; " in said
    assert (evening.ledger("lea"), mail.asked) == (before, [MAIL])


@pytest.mark.parametrize("state", ["missed", "dead"])
async def test_a_day_without_a_recap_gets_one_stored_and_says_that_no_target_takes_it(
    state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """So it stands in the app."""
    evening = Evening()
    evening.add("lea", devices=0)
    evening.world.put_ledger("lea", DAY, {"date": DAY, "state": state, "outcome": "closed", "seq": 1, "devices": {}})
    evening.now += timedelta(hours=5)
    assert await resend("lea", ON, evening.context()) == 0
    assert f"lea {DAY}: stored (no target takes it), seq 2.\n" in capsys.readouterr().out
    assert (evening.state("lea"), evening.ledger("lea")["seq"]) == ("sent no_devices", 2)


@pytest.mark.parametrize("state", ["pending", "sending"])
async def test_a_resend_that_was_killed_is_finished_though_no_target_is_left(state: str) -> None:
    """Its ledger was opened before: it must end."""
    evening, mail = await mailed()
    opened = {"state": state, "outcome": "resend", "seq": 2, "devices": {}}
    evening.world.put_ledger("lea", DAY, evening.ledger("lea") | opened)
    unsubscribed(evening)
    assert await resend("lea", ON, evening.context()) == 0
    assert (evening.state("lea"), evening.ledger("lea")["seq"], mail.asked) == ("sent no_devices", 2, [MAIL])


async def test_the_time_from_which_a_day_can_be_resent_again_stands_still() -> None:
    evening, mail = await mailed()
    evening.now = evening.now.replace(second=11)  # 01:00:11
    assert await resend("lea", ON, evening.context()) == 0
    said = []
    for seconds in (10, 50, 59):
        evening.now += timedelta(seconds=seconds)
        said.append(await refusal(evening))
    assert set(said) == {f"lea {DAY} was resent just now; run this again at 01:03 UTC if it is to be sent once more."}
    evening.now += timedelta(seconds=1)
    assert await resend("lea", ON, evening.context()) == 0
    assert (len(mail.asked), evening.ledger("lea")["seq"]) == (3, 3)


async def test_after_a_resend_that_was_killed_at_its_end_the_time_is_that_of_its_lease() -> None:
    """Its ledger had ended, and its claim had not."""
    evening, _ = await mailed()
    await resend("lea", ON, evening.context())
    lease = {"s": "claimed", "t": "killed", "u": evening.redis.ms + 11 * 60_000}
    evening.redis.values[user_key("lea", ON)] = (json.dumps(lease), evening.redis.ms + 15 * 60_000)
    at = (evening.now + timedelta(minutes=12)).strftime("%H:%M")
    assert f"was resent just now; run this again at {at} UTC" in await refusal(evening)
    evening.now += timedelta(minutes=3)
    assert f"is held by a run that is sending it, or was killed over it, until {at} UTC" in await refusal(evening)


async def test_a_device_that_is_gone_takes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    evening = Evening()
    evening.add("lea")
    await evening.tick()
    evening.now += timedelta(hours=5)
    evening.push.script = lambda token: PushAnswer(PushResult.GONE, "UNREGISTERED")
    capsys.readouterr()
    assert await resend("lea", ON, evening.context()) == 0
    assert f"lea {DAY}: stored (no target takes it), seq 2.\n" in capsys.readouterr().out
