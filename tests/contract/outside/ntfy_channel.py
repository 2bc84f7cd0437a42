"""A channel as somebody outside would write it: each user's own topic at an ntfy server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TraceConfig

from notifications.domain.push import Message, PushAnswer, PushResult
from notifications.domain.target import Recipient, Target, target
from notifications.ports import Channel

SAYS = "refuses our token; check NTFY_TOKEN"
ANSWERS = {200: PushResult.ACCEPTED, 400: PushResult.REFUSED} | dict.fromkeys((401, 403, 429, 503), PushResult.BUSY)


class NtfyChannel(Channel):
    """POST {url} with a topic, a title and a message; ntfy shows the last one of a sequence alone."""

    name, where, aside, has_addresses, alerts = "ntfy", "ntfy (NTFY_URL)", "", True, False

    def __init__(self, url: str, token: str) -> None:
        self.url, self.headers = url, {"Authorization": f"Bearer {token}"}

    def targets(self, recipient: Recipient) -> tuple[list[Target], list[str]]:
        topic = recipient.addresses.get(self.name, {}).get("topic", "")
        if topic and not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", topic):
            return [], ["topic_malformed"]
        return [target(self.name, topic)] if topic else [], []

    async def send(self, to: Target, message: Message, timeout: timedelta, leaves: Callable[[], None]) -> PushAnswer:
        left, trace = asyncio.Event(), TraceConfig()

        async def leave(*_: Any) -> None:
            left.set()
            leaves()

        trace.on_request_headers_sent.append(leave)  # just before the first byte
        body = {"topic": to.address, "title": message.title, "message": message.body}
        limit = ClientTimeout(timeout.total_seconds())
        try:
            async with ClientSession(headers=self.headers, trace_configs=[trace], timeout=limit) as session:
                answer = await session.post(self.url, json=body | {"sequence_id": message.collapse_id})
        except (ClientError, TimeoutError) as error:
            return PushAnswer(PushResult.UNKNOWN if left.is_set() else PushResult.UNSENT, type(error).__name__)
        result, config = ANSWERS.get(answer.status, PushResult.UNKNOWN), answer.status in (401, 403)
        return PushAnswer(result, str(answer.status), config=config, says=SAYS if config else "")

    async def check(self) -> str:
        async with ClientSession() as session, session.get(f"{self.url}/v1/account", headers=self.headers) as answer:
            return "" if answer.status == 200 else f"{self.where} {SAYS}."

    async def aclose(self) -> None:
        pass
