"""One recap's calls to the LLM: their budget, their tries, and what they cost together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from typing import TypeVar

from notifications.domain.claim import new_token
from notifications.domain.errors import (
    ClaimsDown,
    ConfigFault,
    ItemFault,
    ItemReason,
    KeyTrouble,
    OverBudget,
    ProviderFault,
)
from notifications.domain.recap.prompt import Question, once_more
from notifications.domain.spending import MICROS, Spent, spend_key
from notifications.domain.waits import jittered
from notifications.ports import Answer, Summarizer
from notifications.run.state import Run
from notifications.run.threads import beside_the_loop

T = TypeVar("T")

TRIES = 2  # of one question, inside one user's deadline; then the extract, or the claim's own retry, takes over
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=5)  # with the claim held; what asks for more gets the claim's own wait
CHEAP_SHARE = 0.5  # of the user's deadline: then the same question is asked at the full price
ASKED_AGAIN = (ItemReason.TRUNCATED, ItemReason.INVALID_ANSWER, ItemReason.UNFOUNDED)


@dataclass(slots=True)
class Asking:
    """The calls for one recap. `deadline`: how long all of them may take."""

    run: Run
    llm: Summarizer
    deadline: timedelta
    spent: Spent = field(default_factory=Spent)
    model: str = ""
    tier: str = ""
    bytes_sent: int = 0
    _begun: float = field(init=False)

    def __post_init__(self) -> None:
        self._begun = self.run.clock.seconds()

    @property
    def _used(self) -> float:
        return self.run.clock.seconds() - self._begun

    @property
    def _left(self) -> float:
        return max(0.0, self.deadline.total_seconds() - self._used)

    async def read(self, question: Question, reader: Callable[[str], T], size: int) -> T:
        """What the reader makes of the answer. Raises ItemFault, ProviderFault, or OverBudget.

        `size`: characters that the answer is held against: the day's, however short the question is.

        A useless answer is asked for once more: a truncated one with twice the room, since hidden reasoning takes
        some, one that says what the notes do not with what was wrong. A failure that may pass is tried once more.
        """
        for tries_left in reversed(range(TRIES)):
            try:
                answer = await self._answer(question, self._left / (tries_left + 1))
                if answer.ended is not None:
                    raise ItemFault(answer.ended, f"The LLM gave no whole answer to this day's notes ({answer.ended}).")
                return await beside_the_loop(size + len(answer.text), reader, answer.text)
            except ItemFault as fault:
                if fault.reason not in ASKED_AGAIN or not tries_left:
                    raise
                question = _asked_again(question, fault)
            except ProviderFault as fault:
                pause = jittered(fault.retry_after or FIRST_PAUSE, 1, 1.5)
                fits = pause.total_seconds() < self._left and pause <= LONGEST_PAUSE * 1.5
                if fault.opens or not tries_left or not fits:
                    raise
                await asyncio.sleep(pause.total_seconds())
        raise AssertionError("unreachable")

    async def _answer(self, question: Question, seconds: float) -> Answer:
        """The cheaper tier first, where there is one; where it does not serve in time, the other at once."""
        patience = min(seconds, self.deadline.total_seconds() * CHEAP_SHARE - self._used)
        if patience > 0:
            try:
                return await self._paid(question, patience, cheap=True)
            except ProviderFault as fault:
                if not fault.cheap:
                    raise
                seconds = self._left
        return await self._paid(question, min(seconds, self._left), cheap=False)

    async def _paid(self, question: Question, seconds: float, *, cheap: bool) -> Answer:
        """One call, its worst cost taken from the day's budget before it, and what it cost settled after it."""
        if seconds <= 0:
            raise ProviderFault("No time is left for the LLM (RECAP_USER_DEADLINE_SECONDS).", unpaid=True)
        reservation = await self._reserve(question)
        self.bytes_sent += len(question.instructions.encode()) + len(question.notes.encode())
        asked = self.run.clock.seconds()
        try:
            with self.run.telemetry.span("chat"):
                answer = await self.llm.ask(question, timedelta(seconds=seconds), cheap=cheap)
                self._count(replace(answer.spent, seconds=self.run.clock.seconds() - asked))
        except (ItemFault, ProviderFault) as fault:
            took = self.run.clock.seconds() - asked
            self._count(Spent(calls=1, micro_usd=0 if fault.unpaid else None, seconds=took), type(fault).__name__)
            if fault.unpaid:
                await self._settle(reservation, 0)
            raise
        self.model, self.tier = answer.model, answer.tier
        if answer.spent.micro_usd is not None:
            await self._settle(reservation, answer.spent.micro_usd)
        return answer

    def _count(self, spent: Spent, error: str = "") -> None:
        self.spent += spent
        self.run.counts.spend(spent)
        self.run.telemetry.asked(spent, error)

    async def _reserve(self, question: Question) -> tuple[str, str] | None:
        budget = self.run.limits.daily_budget_usd
        worst = await self.llm.worst_cost(question) if budget is not None else None
        if budget is None or worst is None:
            return None
        key, token = "", new_token()
        try:
            today = (await self.run.claims.now()).astimezone(UTC).date()
            key = spend_key(self.run.claims.environment, today)
            fits = await self.run.claims.reserve(key, token, worst, int(budget * MICROS))
        except (ClaimsDown, ConfigFault) as trouble:  # who is in flight ends the day without Redis
            self.run.stop_claiming(trouble)
            raise OverBudget(f"The day's budget can't be counted: {trouble}") from trouble
        except KeyTrouble as trouble:
            raise OverBudget(f"The day's budget can't be counted under {key}: {trouble}") from trouble
        if not fits:
            raise OverBudget(f"RECAP_DAILY_BUDGET_USD is {budget:g}; what is left of it is less than a call can cost.")
        return key, token

    async def _settle(self, reservation: tuple[str, str] | None, micro_usd: int) -> None:
        """Unsettled, the worst cost stays taken: never over the budget."""
        if reservation is not None:
            with suppress(ClaimsDown, ConfigFault, KeyTrouble):
                await self.run.claims.settle(*reservation, micro_usd)


def _asked_again(question: Question, fault: ItemFault) -> Question:
    if fault.reason is ItemReason.TRUNCATED:
        return replace(question, answer_tokens=question.answer_tokens * 2)
    return once_more(question, str(fault)) if fault.reason is ItemReason.UNFOUNDED else question
