"""The contract of a push channel: what came of one push to one device, and whether it may have left."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pytest

from notifications.domain.model import Device, collapse_id
from notifications.domain.push import TTL, Message, PushResult
from notifications.domain.target import Recipient, Target
from notifications.ports import Channel
from notifications.testing.base import Suite

AT = datetime(2026, 5, 1, 20, tzinfo=UTC)
MESSAGE = Message("ann", AT.date(), collapse_id("ann", AT.date()), "🌤️ Head", "Body", "2026-05-01", AT, AT + TTL)
TIMEOUT, SHORT = timedelta(seconds=5), timedelta(seconds=0.3)


class PushTrouble(StrEnum):
    """What a channel may do instead of taking a push."""

    GONE = "gone"  # the device is unregistered
    BUSY = "busy"  # not now
    REFUSES_US = "refuses us"  # a wrong key: only an operator can correct it
    SLOW = "slow"  # it needs longer than the push's time
    CUT = "cut"  # the connection ends instead of an answer
    DOWN = "down"  # nothing accepts a connection


RESULTS = [
    (PushTrouble.GONE, PushResult.GONE, 1),
    (PushTrouble.BUSY, PushResult.BUSY, 1),
    (PushTrouble.SLOW, PushResult.UNKNOWN, 1),
    (PushTrouble.CUT, PushResult.UNKNOWN, 1),
    (PushTrouble.DOWN, PushResult.UNSENT, 0),
]


class ChannelSuite(Suite):
    """For every channel; what it can't do wrong is skipped."""

    def make(self) -> AbstractAsyncContextManager[Channel]:
        """A channel that is well."""
        raise NotImplementedError

    def recipient(self, number: int = 1) -> Recipient:
        """A user with one target; `number` tells users apart."""
        return Recipient("ann", [Device(f"token-{number}", f"d{number}")])

    def target(self, channel: Channel, number: int = 1) -> Target:
        [target], unusable = channel.targets(self.recipient(number))
        assert (target.channel, unusable) == (channel.name, [])
        return target

    def shown(self) -> list[str]:
        """The texts that user 1 sees; of two with the same id only one."""
        raise NotImplementedError

    def cause(self, trouble: PushTrouble) -> None:
        """Let the channel do so from now on; leave out what it can't do."""
        pytest.skip(f"a channel that is never {trouble}")

    async def test_an_accepted_push_is_shown(self, push: Channel) -> None:
        left: list[int] = []
        answer = await push.send(self.target(push), MESSAGE, TIMEOUT, lambda: left.append(1))
        assert (answer.result, answer.needs_alert, len(left), self.shown()) == (PushResult.ACCEPTED, False, 1, ["Body"])

    async def test_a_second_push_of_a_day_replaces_the_first(self, push: Channel) -> None:
        for _ in range(2):
            await push.send(self.target(push), MESSAGE, TIMEOUT, lambda: None)
        assert self.shown() == ["Body"]

    async def test_many_at_once_are_each_accepted(self, push: Channel) -> None:
        targets = [self.target(push, number) for number in range(1, 9)]
        answers = await asyncio.gather(*(push.send(target, MESSAGE, TIMEOUT, lambda: None) for target in targets))
        assert [answer.result for answer in answers] == [PushResult.ACCEPTED] * 8

    @pytest.mark.parametrize(("trouble", "result", "leaves"), RESULTS)
    async def test_what_came_of_a_push_and_whether_it_left(
        self, push: Channel, trouble: PushTrouble, result: PushResult, leaves: int
    ) -> None:
        self.cause(trouble)
        left: list[int] = []
        started = time.monotonic()
        answer = await push.send(self.target(push), MESSAGE, SHORT, lambda: left.append(1))
        assert (answer.result, min(1, len(left)), answer.config) == (result, leaves, False)
        assert time.monotonic() - started < SHORT.total_seconds() + 3
        assert self.target(push).address not in answer.code + answer.says

    async def test_a_refusal_of_what_we_are_keeps_the_device(self, push: Channel) -> None:
        self.cause(PushTrouble.REFUSES_US)
        answer = await push.send(self.target(push), MESSAGE, TIMEOUT, lambda: None)
        assert answer.config
        assert answer.result in (PushResult.BUSY, PushResult.UNSENT)
        assert self.target(push).address not in answer.code + answer.says
        assert (await push.check()).strip() != ""

    async def test_a_probe_reaches_nobody(self, push: Channel) -> None:
        assert (await push.probe()).result is PushResult.ACCEPTED
        assert (await push.check(), self.shown()) == ("", [])

    async def test_a_user_without_an_address_has_no_target(self, push: Channel) -> None:
        assert push.targets(Recipient("bob")) == ([], [])

    async def test_neither_address_nor_secret_is_in_the_name_of_a_target(self, push: Channel) -> None:
        target = self.target(push)
        assert (target.address in repr(target), len(target.id)) == (False, 16)
        assert self.target(push, 2).id != target.id

    async def test_it_names_itself(self, push: Channel) -> None:
        assert push.where == push.where.strip() != ""
        assert push.aside in ("", f" {push.aside.strip()}")
