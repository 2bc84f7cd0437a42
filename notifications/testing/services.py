"""The Summarizer and Push ports in memory: both answer at once, or as their `script` says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any

from notifications.domain.backoff import RateLimit
from notifications.domain.errors import ItemReason
from notifications.domain.money import Spent
from notifications.domain.push import ACCEPTED, Message, PushAnswer
from notifications.domain.question import Question
from notifications.domain.target import Recipient, Target, device_targets, target
from notifications.ports import Answer, Channel, Checked
from notifications.testing.answers import answer_to


class MemorySummarizer:
    """The Summarizer port: a recap, or a fact, that cites the first note; or what the script raises or answers."""

    where = "The summarizer in memory"
    named_by = "OPENAI_MODEL"
    model = "memory"

    def __init__(self) -> None:
        self.calls = 0
        self.tokens = 0
        self.rate_limits: Mapping[str, RateLimit] = {}
        self.asked: list[Question] = []
        self.worst: int | None = None
        self.script: Callable[[Question], Exception | Answer | str | None] = lambda question: None

    async def ask(self, question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer:
        self.calls += 1
        self.asked.append(question)
        said = self.script(question)
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Answer):
            return said
        self.tokens += 120
        return answered(said or json.dumps(answer_to(question.name, question.notes, "memory")))

    async def worst_cost(self, question: Question) -> int | None:
        return self.worst

    async def check(self) -> Checked:
        said = self.script(Question("daily_recap", "", {}, "", ""))
        return Checked(trouble=str(said)) if isinstance(said, Exception) else Checked(found="answers")

    async def last_day(self) -> date | None:
        return None

    async def aclose(self) -> None:
        """Nothing is open."""


def answered(text: str, ended: ItemReason | None = None, micro_usd: int | None = 50) -> Answer:
    """An answer as the port has it."""
    return Answer(text, "memory", "default", Spent(1, 100, 0, 20, 0, micro_usd), ended)


class MemoryPush(Channel):
    """The Channel port: what each token or address got, or what the script answers instead."""

    where = "The push service in memory"
    aside = ""
    alerts = True

    def __init__(self, name: str = "fcm") -> None:
        self.name = name
        self.has_addresses = name != "fcm"
        words = {"webhook": ("webhook", "webhooks"), "email": ("mail", "mails")}
        self.noun = words.get(name, Channel.noun)
        self.probed = 0
        self.says: PushAnswer = ACCEPTED  # the answer to a probe
        self.gate: asyncio.Event | None = None  # a probe waits for it
        self.got: dict[str, list[Message]] = {}
        self.texts: list[Mapping[str, Any] | None] = []  # of what was accepted, where the channel delivers it whole
        self.asked: list[str] = []
        self.script: Callable[[str], PushAnswer | Exception | None] = lambda token: None

    def targets(self, recipient: Recipient) -> tuple[list[Target], list[str]]:
        if not self.has_addresses:
            return device_targets(self.name, recipient.devices), []
        addresses = recipient.addresses.get(self.name, {})
        return [target(self.name, address) for name, address in addresses.items() if name in ("url", "address")], []

    async def send(
        self, target: Target, message: Message, timeout: timedelta, leaves: Callable[[], None]
    ) -> PushAnswer:
        token = target.address
        self.asked.append(token)
        said = self.script(token)
        if isinstance(said, Exception):
            raise said
        leaves()
        if said is not None:
            return said
        self.texts.append(await message.full() if self.has_addresses else None)
        self.got.setdefault(token, []).append(message)
        return ACCEPTED

    async def probe(self) -> PushAnswer:
        self.probed += 1
        if self.gate is not None:
            await self.gate.wait()
        return self.says

    async def check(self) -> str:
        return ""

    async def aclose(self) -> None:
        """Nothing is open."""
