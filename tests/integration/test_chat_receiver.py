"""docs/chat_receiver.py as it stands, between the webhook channel and two chat services."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from notifications.adapters.channels.webhook import Webhook, connect
from notifications.domain.push import PushAnswer
from notifications.domain.target import Recipient
from notifications.testing.channel_suite import MESSAGE
from tests.support.chat_services import FakeNtfy, FakeTelegram
from tests.support.servers import free_port, listens, wait_for
from tests.support.webhooks import OTHER_SECRET, SECRET

RECEIVER = Path(__file__).parents[2] / "docs" / "chat_receiver.py"


async def recap() -> dict[str, Any]:
    return {"headline": "Head", "overview": "🌤️ Two talks. " + "x" * 9_000, "highlights": []}


@pytest.fixture
def telegram() -> Iterator[FakeTelegram]:
    server = FakeTelegram()
    yield server
    server.stop()


@pytest.fixture
def ntfy() -> Iterator[FakeNtfy]:
    server = FakeNtfy()
    yield server
    server.stop()


@asynccontextmanager
async def received(telegram: FakeTelegram, ntfy: FakeNtfy, **changes: str) -> AsyncIterator[Webhook]:
    """The receiver as a process, and the channel that sends to it."""
    env = {
        "RECAP_WEBHOOK_SECRET": SECRET,
        "TELEGRAM_URL": telegram.url,
        "TELEGRAM_TOKEN": telegram.token,
        "TELEGRAM_CHAT": telegram.chat,
        "NTFY_URL": ntfy.url,
        "NTFY_TOPIC": "recaps",
        "PORT": str(free_port()),
    } | changes
    quiet = asyncio.subprocess.DEVNULL
    command = (sys.executable, str(RECEIVER))
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | env, stdout=quiet, stderr=quiet)
    channel = connect(f"http://127.0.0.1:{env['PORT']}/", SECRET, 4, users=False)
    try:
        await asyncio.to_thread(wait_for, lambda: listens(int(env["PORT"])), "receiver")
        yield channel
    finally:
        await channel.aclose()
        process.kill()
        await process.wait()


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"NTFY_TOPIC": "t"}, "RECAP_WEBHOOK_SECRET is missing"),
        ({"RECAP_WEBHOOK_SECRET": SECRET}, "Set TELEGRAM_TOKEN, NTFY_TOPIC, or both."),
        ({"RECAP_WEBHOOK_SECRET": SECRET, "TELEGRAM_TOKEN": "1:x"}, "TELEGRAM_CHAT is missing"),
    ],
)
def test_what_is_not_set_is_one_sentence(env: dict[str, str], sentence: str) -> None:
    done = subprocess.run([sys.executable, RECEIVER], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(sentence)


async def send(channel: Webhook, **changes: Any) -> str:
    [target], _ = channel.targets(Recipient("ann"))
    message = replace(MESSAGE, full=recap, **changes)
    answer: PushAnswer = await channel.send(target, message, timedelta(seconds=20), lambda: None)
    return f"{answer.result} {answer.code}"


async def test_a_recap_comes_to_both_services_once_however_often_it_is_sent(
    telegram: FakeTelegram, ntfy: FakeNtfy
) -> None:
    async with received(telegram, ntfy) as channel:
        assert [await send(channel) for _ in range(3)] == ["accepted 204"] * 3
        assert await channel.check() == ""
    [text] = telegram.messages
    [(name, shown)] = ntfy.topics["recaps"].items()
    assert text.startswith("🌤️ Head\n\n🌤️ Two talks. xxx")
    assert (name, shown) == (f"msg_{MESSAGE.collapse_id}", text.replace("\n\n", "\n", 1))
    assert telegram.asked == 1


async def test_after_one_service_was_busy_only_that_one_is_asked_again(telegram: FakeTelegram, ntfy: FakeNtfy) -> None:
    async with received(telegram, ntfy) as channel:
        ntfy.status = 429
        assert await send(channel) == "busy 503"
        ntfy.status = 200
        assert await send(channel) == "accepted 204"
    assert (len(telegram.messages), telegram.asked, list(ntfy.topics)) == (1, 1, ["recaps"])


async def test_a_service_that_refuses_for_good_is_refused_and_one_that_is_down_is_busy(
    telegram: FakeTelegram, ntfy: FakeNtfy
) -> None:
    async with received(telegram, ntfy, TELEGRAM_CHAT="-1") as channel:
        assert await send(channel) == "refused 422"
    async with received(telegram, ntfy, TELEGRAM_TOKEN="1:wrong") as channel:
        assert await send(channel) == "refused 422"
    telegram.floods = 1
    async with received(telegram, ntfy) as channel:
        assert await send(channel) == "busy 503"
        telegram.stop()
        assert await send(channel) == "busy 503"
    assert (telegram.messages, ntfy.topics) == ([], {})


async def test_what_is_not_signed_with_its_secret_reaches_no_chat(telegram: FakeTelegram, ntfy: FakeNtfy) -> None:
    async with received(telegram, ntfy, RECAP_WEBHOOK_SECRET=OTHER_SECRET) as channel:
        assert await send(channel) == "busy 401"
        assert "refuses our signature (401)" in await channel.check()
    assert (telegram.asked, ntfy.topics) == (0, {})
