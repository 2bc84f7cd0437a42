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
from notifications.ports import Push
from notifications.testing.base import Suite

AT = datetime(2026, 5, 1, 20, tzinfo=UTC)
PHONE = Device("token-1", "d0")
MESSAGE = Message("ann", collapse_id("ann", AT.date()), "🌤️ Head", "Body", "2026-05-01", AT, AT + TTL)
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


class PushSuite(Suite):
    """For every channel; what it can't do wrong is skipped."""

    def make(self) -> AbstractAsyncContextManager[Push]:
        """A channel that is well."""
        raise NotImplementedError

    def shown(self) -> list[str]:
        """The texts that the device `token-1` shows."""
        raise NotImplementedError

    def cause(self, trouble: PushTrouble) -> None:
        """Let the channel do so from now on; leave out what it can't do."""
        pytest.skip(f"a channel that is never {trouble}")

    async def test_an_accepted_push_is_shown(self, push: Push) -> None:
        left: list[int] = []
        answer = await push.send(PHONE, MESSAGE, TIMEOUT, lambda: left.append(1))
        assert (answer.result, answer.needs_alert, len(left), self.shown()) == (PushResult.ACCEPTED, False, 1, ["Body"])

    async def test_a_second_push_of_a_day_replaces_the_first(self, push: Push) -> None:
        for _ in range(2):
            await push.send(PHONE, MESSAGE, TIMEOUT, lambda: None)
        assert self.shown() == ["Body"]

    async def test_many_at_once_are_each_accepted(self, push: Push) -> None:
        devices = [Device(f"token-{number}", f"d{number}") for number in range(1, 9)]
        answers = await asyncio.gather(*(push.send(device, MESSAGE, TIMEOUT, lambda: None) for device in devices))
        assert [answer.result for answer in answers] == [PushResult.ACCEPTED] * 8

    @pytest.mark.parametrize(("trouble", "result", "leaves"), RESULTS)
    async def test_what_came_of_a_push_and_whether_it_left(
        self, push: Push, trouble: PushTrouble, result: PushResult, leaves: int
    ) -> None:
        self.cause(trouble)
        left: list[int] = []
        started = time.monotonic()
        answer = await push.send(PHONE, MESSAGE, SHORT, lambda: left.append(1))
        assert (answer.result, min(1, len(left)), answer.config) == (result, leaves, False)
        assert time.monotonic() - started < SHORT.total_seconds() + 3
        assert PHONE.token not in answer.code + answer.says

    async def test_a_refusal_of_what_we_are_keeps_the_device(self, push: Push) -> None:
        self.cause(PushTrouble.REFUSES_US)
        answer = await push.send(PHONE, MESSAGE, TIMEOUT, lambda: None)
        assert (answer.config, answer.result.is_retryable, answer.result.is_definite) == (True, True, True)
        assert PHONE.token not in answer.code + answer.says
        assert (await push.check()).strip() != ""

    async def test_a_probe_reaches_nobody(self, push: Push) -> None:
        assert (await push.probe()).result is PushResult.ACCEPTED
        assert (await push.check(), self.shown()) == ("", [])

    async def test_it_names_itself(self, push: Push) -> None:
        assert push.where == push.where.strip() != ""
        assert push.aside in ("", f" {push.aside.strip()}")
