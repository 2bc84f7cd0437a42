"""A summarizer as somebody outside would write it: a server of their own, asked by plain HTTP and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from aiohttp import ClientError, ClientSession, ClientTimeout

from notifications.domain.backoff import RateLimit
from notifications.domain.errors import ItemFault, ItemReason, ProviderFault
from notifications.domain.money import Spent
from notifications.domain.question import Question
from notifications.ports import Answer, Checked


class HttpSummarizer:
    """POST {url} with {"ask", "notes"}; the answer is {"text", "tokens", "cut"}."""

    named_by, model = "MY_URL", "mine"

    def __init__(self, url: str) -> None:
        self.where = f"My server at {url}"
        self.url = url
        self.calls = self.tokens = 0
        self.rate_limits: Mapping[str, RateLimit] = {}

    async def ask(self, question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer:
        self.calls += 1
        body = {"ask": question.instructions_with_schema, "notes": question.notes}
        limit = ClientTimeout(timeout.total_seconds())
        try:
            async with ClientSession(timeout=limit) as session, session.post(self.url, json=body) as answer:
                if answer.status == 413:
                    raise ItemFault(ItemReason.CONTEXT_LENGTH, "The notes are too long.", unpaid=True)
                if answer.status != 200:
                    raise ProviderFault(f"{self.where} answers {answer.status}.", config=answer.status == 401)
                said = await answer.json()
        except (ClientError, TimeoutError) as error:
            raise ProviderFault(f"{self.where} fails ({type(error).__name__}).") from None
        self.tokens += said["tokens"]
        spent = Spent(1, tokens_out=said["tokens"], micro_usd=None)
        return Answer(said["text"], self.model, "default", spent, ItemReason.TRUNCATED if said["cut"] else None)

    async def worst_cost(self, question: Question) -> int | None:
        return None

    async def check(self) -> Checked:
        try:
            await self.ask(Question("check", "Say hello.", {}, "", ""), timedelta(seconds=9))
        except ProviderFault as fault:
            return Checked(trouble=str(fault))
        return Checked(found="answers")

    async def last_day(self) -> date | None:
        return None

    async def aclose(self) -> None:
        pass
