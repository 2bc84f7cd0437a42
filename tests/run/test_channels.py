"""A whole run in one process, with a phone, a webhook and a mailbox: no channel delays another, or loses for it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from notifications.commands.resend.many import ResendSelection, resend_many
from notifications.commands.why import why
from notifications.domain.errors import ConfigFault, DependencyDown
from notifications.domain.push import PushAnswer, PushResult
from notifications.domain.target import target
from notifications.recap.document import text_hash, text_to_deliver
from notifications.testing import MemoryPush, talk
from tests.run.test_why_gates import next_in
from tests.support.days import around
from tests.support.evening import Evening, outcomes

URL, ADDRESS = "https://hooks.example/recap", "ann@example.org"
EVERYWHERE = {"recap_webhook_url": URL, "recap_webhook_secret": "whsec_x", "recap_email": ADDRESS}
HOOK, MAILBOX = target("webhook", URL).id, target("email", ADDRESS).id
BUSY = PushAnswer(PushResult.BUSY, "451", timedelta(minutes=15))
UNKNOWN = PushAnswer(PushResult.UNKNOWN, "TimeoutError")
REFUSED = PushAnswer(PushResult.REFUSED, "400")
GONE = PushAnswer(PushResult.GONE, "410")
WRONG_KEY = PushAnswer(PushResult.BUSY, "535", config=True, says="refuses the password")


class House(Evening):
    """ann has a phone, a webhook and a mailbox."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.push, self.hook, self.mail = self.with_all_channels()

    def add(self, *uids: str, **more: Any) -> None:
        super().add(*uids, **(EVERYWHERE | more))

    @property
    def ended(self) -> dict[str, str]:
        """What became of ann's phone, webhook and mailbox."""
        names = {HOOK: "webhook", MAILBOX: "email"}
        return {names.get(key, "phone"): value for key, value in self.ledger("ann").get("devices", {}).items()}

    @property
    def waits(self) -> dict[str, float]:
        """Minutes until each open target is due."""
        names = {HOOK: "webhook", MAILBOX: "email"}
        targets = self.ledger("ann").get("targets", {})
        return {
            names.get(key, "phone"): round((kept["due"] - self.now).total_seconds() / 60)
            for key, kept in targets.items()
        }

    def asked(self) -> tuple[int, int, int]:
        return len(self.push.asked), len(self.hook.asked), len(self.mail.asked)


def always(channel: MemoryPush, answer: PushAnswer | Exception | None) -> None:
    channel.script = lambda _: answer


@pytest.fixture
def house() -> House:
    made = House()
    made.add("ann")
    return made


async def all_evening(house: House, minutes: int = 139) -> None:
    """A tick each minute until the day's end."""
    await house.tick()
    for _ in range(minutes):
        await house.later(minutes=1)


async def test_each_target_gets_the_stored_text_once(house: House) -> None:
    report = await house.tick()
    assert (outcomes(report), house.summarizer.calls, house.asked()) == ({"sent": 1}, 1, (1, 1, 1))
    assert (house.state("ann"), house.ended) == ("sent", dict.fromkeys(["phone", "webhook", "email"], "accepted"))
    [stored] = house.world.summaries("ann").values()
    assert house.ledger("ann")["recap_hash"] == text_hash(stored)
    assert house.hook.texts == house.mail.texts == [text_to_deliver(stored)]
    assert report.counts.as_event()["by_channel"] == {name: {"accepted": 1} for name in ("fcm", "webhook", "email")}


@pytest.mark.parametrize("broken", ["fcm", "webhook", "email"])
@pytest.mark.parametrize("answer", [WRONG_KEY, DependencyDown("disk", "It is full."), BUSY, UNKNOWN, REFUSED])
async def test_a_channel_that_fails_delays_no_other(house: House, broken: str, answer: Any) -> None:
    channel: Any = next(channel for channel in house.channels if channel.name == broken)
    always(channel, answer)
    await house.tick()
    assert (house.state("ann"), len(house.ended), set(house.ended.values())) == ("pending", 2, {"accepted"})
    always(channel, None)
    report = await house.later(minutes=31)
    assert (outcomes(report), house.state("ann"), len(house.ended)) == ({"sent": 1}, "sent", 3)
    assert ({len(one.got) for one in (house.push, house.hook, house.mail)}, house.summarizer.calls) == ({1}, 1)


async def test_a_defect_in_a_channel_is_told_and_costs_its_own_target_one_try(house: House) -> None:
    always(house.hook, ZeroDivisionError("a defect"))
    with capture_logs() as logs:
        report = await house.tick()
    assert (outcomes(report), report.defects, report.trouble) == ({"waiting": 1}, 1, None)
    assert (house.state("ann"), house.waits) == ("pending", {"webhook": 1})
    assert house.ledger("ann")["reason"] == "defect_zerodivisionerror"
    assert [log["event"] for log in logs].count("recap.defect") == 1
    house.now += timedelta(minutes=135)
    report = await house.tick()
    assert (outcomes(report), house.state("ann"), report.counts.without_a_recap) == ({"sent": 1}, "sent partial", 0)
    assert (report.defects, house.asked()) == (1, (1, 2, 1))


async def test_a_run_goes_on_without_a_channel_and_ends_as_its_trouble(house: House) -> None:
    house.add("bob", recap_email="bob@example.org", recap_webhook_url="https://hooks.example/bob")
    house.limits = Evening(concurrency=1).limits
    always(house.mail, WRONG_KEY)
    with capture_logs() as logs:
        report = await house.tick()
    assert (outcomes(report), report.counts.claimed) == ({"waiting": 2}, 2)
    assert (type(report.trouble), report.stopped_early) == (ConfigFault, False)
    assert (house.asked(), house.summarizer.calls) == ((2, 2, 1), 2)  # the second mail is not even tried
    [stopped] = [log for log in logs if log["event"] == "channel.stopped"]
    assert (stopped["channel"], "refuses the password" in stopped["reason"]) == ("email", True)


async def test_a_run_stops_claiming_once_every_channel_is_closed(house: House) -> None:
    house.add("bob")
    house.limits = Evening(concurrency=1).limits
    for channel in (house.push, house.hook, house.mail):
        always(channel, WRONG_KEY)
    report = await house.tick()
    assert (report.counts.claimed, report.stopped_early, house.ledger("bob")) == (1, True, {})


async def test_an_open_day_whose_channels_are_all_closed_is_not_taken(house: House) -> None:
    always(house.mail, BUSY)
    house.limits = Evening(concurrency=1).limits
    await house.tick()
    house.now += timedelta(minutes=16)
    before = house.ledger("ann")
    house.add("aaa", recap_email="aaa@example.org", recap_webhook_url="", devices=0)
    house.redis.values.clear()
    always(house.mail, WRONG_KEY)
    report = await house.tick()
    assert (outcomes(report), house.mail.asked) == ({"waiting": 2}, [ADDRESS, "aaa@example.org"])
    assert house.ledger("ann") == before


async def test_a_run_without_the_channel_of_a_target_that_waits_says_so(house: House) -> None:
    always(house.mail, BUSY)
    await house.tick()
    house.channels = (house.push,)
    with capture_logs() as logs:
        await house.later(minutes=16)
    [told] = [log for log in logs if log["event"] == "targets.left_out"]
    assert (told["uid"], told["count"], house.state("ann")) == ("ann", 1, "sent")


async def test_a_receiver_that_never_answers_is_given_up_after_three_tries(house: House) -> None:
    always(house.hook, UNKNOWN)
    await all_evening(house, minutes=12)
    assert (house.state("ann"), house.asked()) == ("sent partial", (1, 3, 1))
    assert house.ended == {"phone": "accepted", "webhook": "gave_up", "email": "accepted"}
    assert (house.ledger("ann")["unanswered"], house.ledger("ann")["reason"]) == (3, "TimeoutError")


@pytest.mark.parametrize(("answer", "tries"), [(BUSY, 10), (REFUSED, 6), (PushAnswer(PushResult.UNSENT, "no"), 125)])
async def test_a_mailbox_that_fails_all_evening_leaves_the_day_partly_sent(
    house: House, answer: PushAnswer, tries: int
) -> None:
    always(house.mail, answer)
    await all_evening(house)
    assert (house.state("ann"), house.ended["email"]) == ("sent partial", "gave_up")
    assert (house.ended["phone"], house.ended["webhook"], "targets" in house.ledger("ann")) == (
        "accepted",
        "accepted",
        False,
    )
    pushed, hooked, mailed = house.asked()
    assert (pushed, hooked, house.summarizer.calls) == (1, 1, 1)
    assert mailed == pytest.approx(tries, rel=0.2)


async def test_a_day_that_reached_no_target_is_given_up(house: House) -> None:
    always(house.push, BUSY)
    always(house.hook, UNKNOWN)
    always(house.mail, GONE)
    await all_evening(house)
    assert house.state("ann") == "gave_up undelivered"
    assert house.ended == {"phone": "gave_up", "webhook": "gave_up", "email": "gone"}


async def test_only_what_is_due_is_tried(house: House) -> None:
    always(house.hook, UNKNOWN)
    always(house.mail, BUSY)
    await house.tick()
    assert house.waits == {"webhook": 1, "email": 15}
    await house.later(minutes=2)
    assert (house.asked(), house.waits) == ((1, 2, 1), {"webhook": 5, "email": 13})


async def test_a_receiver_that_wants_hours_is_asked_every_30_minutes_whatever_the_others_need(house: House) -> None:
    always(house.hook, PushAnswer(PushResult.BUSY, "429", timedelta(hours=3)))
    always(house.mail, PushAnswer(PushResult.UNSENT, "connect"))
    await all_evening(house, minutes=62)
    assert (len(house.hook.asked), len(house.mail.asked)) == (3, 63)


async def test_a_redis_that_forgot_the_wait_makes_no_target_be_tried_before_its_time(house: House) -> None:
    always(house.mail, BUSY)
    await house.tick()
    before = house.ledger("ann")
    house.redis.values.clear()
    report = await house.later(minutes=3)
    assert (outcomes(report), house.asked(), house.ledger("ann")) == ({"waiting": 1}, (1, 1, 1), before)
    assert round((house.record("ann").until - house.redis.ms) / 60_000) == 12


async def test_a_due_time_that_a_clock_ahead_has_written_counts_as_now(house: House) -> None:
    always(house.mail, BUSY)
    await house.tick()
    ledger = house.ledger("ann")
    ledger["targets"][MAILBOX]["due"] += timedelta(hours=5)
    house.world.put_ledger("ann", ledger["date"], ledger)
    house.redis.values.clear()
    always(house.mail, None)
    assert outcomes(await house.later(minutes=1)) == {"sent": 1}


async def test_a_refused_phone_waits_for_no_mailbox(house: House) -> None:
    """Whether another target has the recap is judged within one channel."""
    always(house.push, REFUSED)
    await house.tick()
    assert (house.state("ann"), house.waits) == ("pending", {"phone": 30})
    two = House()
    two.add("ann", devices=2)
    two.push.script = {"ann-1": REFUSED}.get
    always(two.mail, BUSY)
    await two.tick()
    assert (two.waits, sorted(two.ended)) == ({"email": 15}, ["phone", "webhook"])
    assert sorted(two.ledger("ann")["devices"].values()) == ["accepted", "accepted", "refused"]
    await two.later(minutes=16)
    assert sorted(two.push.asked) == ["ann-0", "ann-1"]


async def test_an_address_that_is_gone_is_left_alone_for_three_days(house: House) -> None:
    always(house.mail, GONE)
    for day in range(5):
        await house.tick()
        house.now += timedelta(days=1)
        house.add("ann", talks=0)
        house.world.put_talk("ann", f"day-{day}", talk("ann", house.slots["ann"].at - timedelta(hours=1)))
        if day == 3:
            assert len(house.mail.asked) == 1
    assert len(house.mail.asked) == 2
    assert house.world.user("ann")["recap_email"] == ADDRESS  # type: ignore[index]


async def crashed_before_the_mail(house: House) -> Mapping[str, Any]:
    """The recap is stored, the mailbox still owed."""
    always(house.mail, BUSY)
    await house.tick()
    always(house.mail, None)
    [stored] = house.world.summaries("ann").values()
    return stored


async def test_a_later_run_delivers_the_stored_text(house: House) -> None:
    stored = await crashed_before_the_mail(house)
    await house.later(minutes=16)
    assert (house.mail.texts, house.summarizer.calls) == ([text_to_deliver(stored)], 1)


@pytest.mark.parametrize("deed", ["rewritten", "deleted"])
async def test_no_other_text_than_the_stored_one_is_ever_delivered(house: House, deed: str) -> None:
    stored = dict(await crashed_before_the_mail(house))
    if deed == "rewritten":
        house.world.put_summary("ann", stored["id"], stored | {"overview": "The app's own words."})
    else:
        house.world.delete_summary("ann", stored["id"])
    with capture_logs() as logs:
        await house.later(minutes=16)
    assert (house.state("ann"), house.mail.texts) == ("sent", [None])
    [mailed] = house.mail.got[ADDRESS]
    assert (mailed.title, mailed.body) == (house.ledger("ann")["title"], house.ledger("ann")["body"])
    [told] = [log for log in logs if log["event"] == "recap.text_changed"]
    assert told["found"] is (deed == "rewritten")


async def test_the_sweep_delivers_what_is_open_and_due(house: House) -> None:
    stored = await crashed_before_the_mail(house)
    house.world.update_user("ann", {"daily_summary_hour_local": 3})
    house.redis.values.clear()
    report = await house.later(minutes=5)
    assert (outcomes(report), house.state("ann")) == ({"waiting": 1}, "pending")  # not yet due
    house.redis.values.clear()
    report = await house.later(minutes=11)
    assert (outcomes(report), house.state("ann"), house.mail.texts) == (
        {"sent": 1},
        "sent",
        [text_to_deliver(stored)],
    )


async def test_a_resend_of_what_was_sent_in_part_serves_the_rest_alone(house: House) -> None:
    always(house.hook, UNKNOWN)
    await all_evening(house, minutes=12)
    always(house.hook, None)
    house.now += timedelta(minutes=5)
    day = house.slots["ann"].recap_date
    selection = ResendSelection(day, frozenset({"partial"}))
    assert await resend_many(selection, house.context(), dry_run=False) == 0
    assert (house.state("ann"), house.asked(), set(house.ended.values())) == ("sent", (1, 4, 1), {"accepted"})
    [message] = house.hook.got[URL]
    assert (message.seq, house.hook.texts[0] is not None) == (2, True)


async def test_a_ledger_of_the_first_version_goes_on(house: House) -> None:
    """It has open devices, and no word of other targets."""
    always(house.push, BUSY)
    await house.tick()
    ledger = house.ledger("ann")
    for name in ("targets", "recap_hash", "unanswered"):
        del ledger[name]
    house.world.put_ledger("ann", ledger["date"], ledger | {"devices": {}, "tries": 2})
    always(house.push, None)
    report = await house.later(minutes=16)
    assert (outcomes(report), house.asked()) == ({"sent": 1}, (2, 2, 2))  # it never said that these have it


def gone_yesterday(house: House) -> None:
    """The mailbox, by yesterday's ledger."""
    around(-1, "sent", devices={MAILBOX: "gone"})(house)


@pytest.mark.parametrize("gone", [False, True])
async def test_a_dry_run_of_a_bulk_resend_leaves_out_an_address_that_is_gone(
    gone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    house = House()
    house.add("ann", devices=0, recap_webhook_url=None)
    if gone:
        gone_yesterday(house)
    house.now += timedelta(hours=5)
    day = house.slots["ann"].recap_date
    which = ResendSelection(day, frozenset({"unserved"}))
    await resend_many(which, house.context(), dry_run=True)
    said = "1 stored (no target takes it)" if gone else "would send 1"
    assert f"{day}: {said} (dry run: nothing was claimed" in capsys.readouterr().out
    await resend_many(which, house.context(), dry_run=False)
    assert (house.state("ann"), len(house.mail.asked)) == (("sent no_devices", 0) if gone else ("sent", 1))


@pytest.mark.parametrize("swept", [False, True])
async def test_an_address_that_is_gone_meanwhile_is_left_out_by_a_tick_and_by_the_sweep(
    house: House, swept: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Yesterday's mail bounced after today's was begun: nothing is waited for, and nothing sent to it."""
    await crashed_before_the_mail(house)
    gone_yesterday(house)
    house.redis.values.clear()
    if swept:
        house.world.update_user("ann", {"daily_summary_hour_local": 3})
    house.now += timedelta(minutes=5)  # the mailbox was due in 15
    capsys.readouterr()
    await why("ann", house.slots["ann"].recap_date, house.context())
    said = next_in(" ".join(capsys.readouterr().out.split()))
    assert said.startswith("the next run tries again to send the recap"), said
    report = await house.tick()
    assert (outcomes(report), report.counts.swept) == ({"sent": 1}, int(swept))
    assert (house.state("ann"), house.asked()) == ("sent", (1, 1, 1))


async def test_the_sweep_of_phones_alone_reads_no_ledger_around() -> None:
    """A phone that is gone has no document any more."""
    evening = Evening()
    evening.add("ann")
    evening.push.script = lambda token: BUSY
    await evening.tick()
    evening.world.update_user("ann", {"daily_summary_hour_local": 3})
    evening.redis.values.clear()
    evening.push.script = lambda token: None
    reads, real = [], evening.store.ledgers_between

    async def ledgers_between(*given: Any) -> Any:
        reads.append(given)
        return await real(*given)

    evening.store.ledgers_between = ledgers_between
    report = await evening.later(minutes=16)
    assert (outcomes(report), report.counts.swept, reads) == ({"sent": 1}, 1, [])
