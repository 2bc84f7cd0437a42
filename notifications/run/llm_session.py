"""One recap's calls to an LLM: their tries, their share of the time, their money, and what they cost together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, timedelta
from typing import ParamSpec, TypeVar

from notifications.domain.backoff import jittered
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
from notifications.domain.money import MICROS, Spent, spend_key
from notifications.domain.question import Question
from notifications.ports import Answer, Summarizer
from notifications.recap.prompt import ask_again
from notifications.run.state import Run

P = ParamSpec("P")
T = TypeVar("T")
Reservation = tuple[str, str]  # a day's key and a token: money that is taken until it is settled

TRIES = 2  # of one question, inside one user's deadline; then the extract, or the claim's own retry, takes over
FIRST_PAUSE = timedelta(seconds=1)
MAX_PAUSE = timedelta(seconds=5)  # with the claim held; what asks for more gets the claim's own wait
WRITING_SHARE = 0.7  # of the user's deadline; the second look has the rest
CHEAP_SHARE = 0.5  # of either's time: then the same question is asked at the full price
NEW_ANSWER_SHARE = 0.4  # of the deadline, that a whole new answer needs
THREAD_FROM = 8_000  # characters: a usual day takes a millisecond or two; a thread costs 0.1 ms and the GIL
RETRIED = (ItemReason.TRUNCATED, ItemReason.INVALID_ANSWER, ItemReason.UNFOUNDED)


class LLMSession:
    """The calls to one LLM for one recap. `deadline`: how long all calls of the recap may take, from `begun`.

    `share`: how much of it may be used up when its last call ends.
    """

    def __init__(
        self,
        run: Run,
        llm: Summarizer,
        deadline: timedelta,
        *,
        share: float = WRITING_SHARE,
        begun: float | None = None,
    ) -> None:
        self.spent = Spent()
        self.model = ""  # that answered, and its tier
        self.tier = ""
        self.bytes_sent = 0
        self._run = run
        self._llm = llm
        self._deadline = deadline.total_seconds()
        self._share = share
        self._begun = run.services.clock.seconds() if begun is None else begun
        self._cheap_until: float | None = None
        self._asked_twice = False

    @property
    def _used(self) -> float:
        return self._run.services.clock.seconds() - self._begun

    @property
    def seconds_left(self) -> float:
        """Seconds that its calls may still take."""
        return max(0.0, self._deadline * self._share - self._used)

    @property
    def may_begin_again(self) -> bool:
        """Whether there is time for a whole new answer, and no question was asked twice yet."""
        return not self._asked_twice and self._deadline - self._used >= self._deadline * NEW_ANSWER_SHARE

    def begin_again(self) -> None:
        """Give a whole new answer the writing's share of what is left."""
        used = self._used / self._deadline
        self._share = used + (1 - used) * WRITING_SHARE
        self._asked_twice, self._cheap_until = True, None

    def second_look(self, llm: Summarizer) -> LLMSession:
        """The calls of the second look: they have what is left of the deadline."""
        return LLMSession(self._run, llm, timedelta(seconds=self._deadline), share=1.0, begun=self._begun)

    async def read(
        self,
        question: Question,
        reader: Callable[[str], T],
        size: int,
        *,
        reserved: Reservation | None = None,
        once: bool = False,
    ) -> T:
        """What the reader makes of the answer. Raises ItemFault, ProviderFault, or OverBudget.

        `size`: characters that the answer is checked against. `reserved`: what was taken for its first call. `once`: a
        bad answer is not asked for again, and the first try has all the time.

        A bad answer is asked for once more: a truncated one with twice the room, since hidden reasoning takes some; an
        unfounded one with what was wrong. A failure that may pass is tried once more.
        """
        for tries_left in reversed(range(TRIES)):
            try:
                answer = await self._answer(question, self.seconds_left / (1 if once else tries_left + 1), reserved)
                if answer.ended is not None:
                    raise ItemFault(answer.ended, f"The LLM gave no whole answer to this day's notes ({answer.ended}).")
                return await run_in_thread_if_large(size + len(answer.text), reader, answer.text)
            except ItemFault as fault:
                if fault.reason not in RETRIED or not tries_left or once:
                    raise
                self._asked_twice = True
                if fault.reason is ItemReason.TRUNCATED:
                    question = replace(question, answer_tokens=question.answer_tokens * 2)
                elif fault.reason is ItemReason.UNFOUNDED:
                    question = ask_again(question, str(fault))
            except ProviderFault as fault:
                pause = jittered(fault.retry_after or FIRST_PAUSE, 1, 1.5)
                fits = pause.total_seconds() < self.seconds_left and pause <= MAX_PAUSE * 1.5
                if fault.final or not tries_left or not fits:
                    raise
                await asyncio.sleep(pause.total_seconds())
            reserved = None
        raise AssertionError("unreachable")

    async def _answer(self, question: Question, seconds: float, reserved: Reservation | None) -> Answer:
        """The cheaper tier first, where there is one; where it does not serve in time, the other at once."""
        if self._cheap_until is None:
            self._cheap_until = self._used + self.seconds_left * CHEAP_SHARE
        patience = min(seconds, self._cheap_until - self._used)
        if patience > 0:
            try:
                return await self._call(question, patience, reserved, cheap=True)
            except ProviderFault as fault:
                if not fault.cheap:
                    raise
                seconds, reserved = self.seconds_left, None
        return await self._call(question, min(seconds, self.seconds_left), reserved, cheap=False)

    async def _call(self, question: Question, seconds: float, reserved: Reservation | None, *, cheap: bool) -> Answer:
        """One call, its worst cost taken from the day's budget before it, and what it cost settled after it."""
        if seconds <= 0:
            await self.settle(reserved, 0)
            raise ProviderFault("No time is left for the LLM (RECAP_USER_DEADLINE_SECONDS).", unpaid=True)
        reservation = reserved or await self.reserve(question)
        self.bytes_sent += len(question.instructions.encode()) + len(question.notes.encode())
        clock = self._run.services.clock
        called_at = clock.seconds()
        try:
            with self._run.services.telemetry.span("chat", self._llm.model):
                answer = await self._llm.ask(question, timedelta(seconds=seconds), cheap=cheap)
                self._count(replace(answer.spent, seconds=clock.seconds() - called_at))
        except (ItemFault, ProviderFault) as fault:
            cost = 0 if fault.unpaid else None
            self._count(Spent(calls=1, micro_usd=cost, seconds=clock.seconds() - called_at), type(fault).__name__)
            if fault.unpaid:
                await self.settle(reservation, 0)
            raise
        self.model, self.tier = answer.model, answer.tier
        if answer.spent.micro_usd is not None:
            await self.settle(reservation, answer.spent.micro_usd)
        await self._run.pace.note_limits(self._llm)
        return answer

    def _count(self, spent: Spent, error: str = "") -> None:
        self.spent += spent
        self._run.counts.spend(spent)
        self._run.services.telemetry.record_call(spent, self._llm.model, error)

    async def reserve(self, question: Question) -> Reservation | None:
        """Take what a call can cost at most from the day's budget; None where there is none. Raises OverBudget."""
        claims, budget = self._run.services.claims, self._run.services.limits.daily_budget_usd
        worst = await self._llm.worst_cost(question) if budget is not None else None
        if budget is None or worst is None:
            return None
        key, token = "", new_token()
        try:
            today = (await claims.now()).astimezone(UTC).date()
            key = spend_key(claims.environment, today)
            fits = await claims.reserve(key, token, worst, int(budget * MICROS))
        except (ClaimsDown, ConfigFault) as trouble:  # users in flight end their day without Redis
            self._run.stop_claiming(trouble)
            raise OverBudget(f"The day's budget can't be counted: {trouble}") from trouble
        except KeyTrouble as trouble:
            raise OverBudget(f"The day's budget can't be counted under {key}: {trouble}") from trouble
        if not fits:
            raise OverBudget(f"RECAP_DAILY_BUDGET_USD is {budget:g}; what is left of it is less than a call can cost.")
        return key, token

    async def settle(self, reservation: Reservation | None, micro_usd: int) -> None:
        """Replace a reservation by what was spent. Where that fails the worst cost stays taken."""
        if reservation is not None:
            with suppress(ClaimsDown, ConfigFault, KeyTrouble):
                await self._run.services.claims.settle(*reservation, micro_usd)


async def run_in_thread_if_large(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the work returns or raises. `size`: characters that it reads."""
    return work(*args, **kwargs) if size <= THREAD_FROM else await asyncio.to_thread(work, *args, **kwargs)
