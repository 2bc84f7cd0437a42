"""One recap's calls to LLMs: their budget, their tries, their share of the time, and what they cost together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from notifications.recap.prompt import once_more
from notifications.run.state import Run

P = ParamSpec("P")
T = TypeVar("T")
Reserved = tuple[str, str]  # a day's key and a token: money that is taken until it is settled

TRIES = 2  # of one question, inside one user's deadline; then the extract, or the claim's own retry, takes over
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=5)  # with the claim held; what asks for more gets the claim's own wait
WRITING_SHARE = 0.7  # of the user's deadline; the second look has the rest
CHEAP_SHARE = 0.5  # of either's time: then the same question is asked at the full price
AGAIN_SHARE = 0.4  # of the deadline, that a second asking needs
SOON = 8_000  # characters: a usual day and its recap, read in a millisecond or two; a hop costs 0.1 ms and the GIL
ASKED_AGAIN = (ItemReason.TRUNCATED, ItemReason.INVALID_ANSWER, ItemReason.UNFOUNDED)


@dataclass(slots=True)
class Asking:
    """The calls to one LLM for one recap. `deadline`: how long the calls of all may take, from `begun`, in seconds.

    `share`: how much of it may be used up when its last call ends. `asked_again`: whether a question was asked twice.
    """

    run: Run
    llm: Summarizer
    deadline: timedelta
    share: float = WRITING_SHARE
    spent: Spent = field(default_factory=Spent)
    model: str = ""
    tier: str = ""
    bytes_sent: int = 0
    asked_again: bool = False
    begun: float | None = None
    _cheap_until: float | None = None

    def __post_init__(self) -> None:
        if self.begun is None:
            self.begun = self.run.parts.clock.seconds()

    @property
    def _used(self) -> float:
        assert self.begun is not None  # noqa: S101 - set at the start
        return self.run.parts.clock.seconds() - self.begun

    @property
    def left(self) -> float:
        """Seconds that its calls may still take."""
        return max(0.0, self.deadline.total_seconds() * self.share - self._used)

    @property
    def may_ask_again(self) -> bool:
        """Whether a whole new answer is in time, and would be the first."""
        whole = self.deadline.total_seconds()
        return not self.asked_again and whole - self._used >= whole * AGAIN_SHARE

    def begin_again(self) -> None:
        """A whole new answer: it has the writing's share of what is left."""
        used = self._used / self.deadline.total_seconds()
        self.share = used + (1 - used) * WRITING_SHARE
        self.asked_again, self._cheap_until = True, None

    def second_look(self, llm: Summarizer) -> Asking:
        """The calls of the second look: it has what is left of the deadline."""
        return Asking(self.run, llm, self.deadline, share=1.0, begun=self.begun)

    async def read(
        self,
        question: Question,
        reader: Callable[[str], T],
        size: int,
        *,
        reserved: Reserved | None = None,
        once: bool = False,
    ) -> T:
        """What the reader makes of the answer. Raises ItemFault, ProviderFault, or OverBudget.

        `size`: characters that the answer is held against: the day's, however short the question. `reserved`: what was
        taken for its first call. `once`: a useless answer is not asked for again, and the first try has all the time.

        A useless answer is asked for once more: a truncated one with twice the room, since hidden reasoning takes
        some, one that says what the notes do not with what was wrong. A failure that may pass is tried once more.
        """
        for tries_left in reversed(range(TRIES)):
            try:
                answer = await self._answer(question, self.left / (1 if once else tries_left + 1), reserved)
                if answer.ended is not None:
                    raise ItemFault(answer.ended, f"The LLM gave no whole answer to this day's notes ({answer.ended}).")
                return await run_in_thread_if_large(size + len(answer.text), reader, answer.text)
            except ItemFault as fault:
                if fault.reason not in ASKED_AGAIN or not tries_left or once:
                    raise
                self.asked_again = True
                question = asked_again(question, fault)
            except ProviderFault as fault:
                pause = jittered(fault.retry_after or FIRST_PAUSE, 1, 1.5)
                fits = pause.total_seconds() < self.left and pause <= LONGEST_PAUSE * 1.5
                if fault.opens or not tries_left or not fits:
                    raise
                await asyncio.sleep(pause.total_seconds())
            reserved = None
        raise AssertionError("unreachable")

    async def _answer(self, question: Question, seconds: float, reserved: Reserved | None) -> Answer:
        """The cheaper tier first, where there is one; where it does not serve in time, the other at once."""
        if self._cheap_until is None:
            self._cheap_until = self._used + self.left * CHEAP_SHARE
        patience = min(seconds, self._cheap_until - self._used)
        if patience > 0:
            try:
                return await self._paid(question, patience, reserved, cheap=True)
            except ProviderFault as fault:
                if not fault.cheap:
                    raise
                seconds, reserved = self.left, None
        return await self._paid(question, min(seconds, self.left), reserved, cheap=False)

    async def _paid(self, question: Question, seconds: float, reserved: Reserved | None, *, cheap: bool) -> Answer:
        """One call, its worst cost taken from the day's budget before it, and what it cost settled after it."""
        if seconds <= 0:
            await self.settle(reserved, 0)
            raise ProviderFault("No time is left for the LLM (RECAP_USER_DEADLINE_SECONDS).", unpaid=True)
        reservation = reserved or await self.reserve(question)
        self.bytes_sent += len(question.instructions.encode()) + len(question.notes.encode())
        asked = self.run.parts.clock.seconds()
        try:
            with self.run.parts.telemetry.span("chat", self.llm.model):
                answer = await self.llm.ask(question, timedelta(seconds=seconds), cheap=cheap)
                self._count(replace(answer.spent, seconds=self.run.parts.clock.seconds() - asked))
        except (ItemFault, ProviderFault) as fault:
            took = self.run.parts.clock.seconds() - asked
            self._count(Spent(calls=1, micro_usd=0 if fault.unpaid else None, seconds=took), type(fault).__name__)
            if fault.unpaid:
                await self.settle(reservation, 0)
            raise
        self.model, self.tier = answer.model, answer.tier
        if answer.spent.micro_usd is not None:
            await self.settle(reservation, answer.spent.micro_usd)
        await self.run.pace.note_limits(self.llm)
        return answer

    def _count(self, spent: Spent, error: str = "") -> None:
        self.spent += spent
        self.run.counts.spend(spent)
        self.run.parts.telemetry.record_call(spent, self.llm.model, error)

    async def reserve(self, question: Question) -> Reserved | None:
        """Take what a call can cost at most from the day's budget; None where there is none. Raises OverBudget."""
        budget = self.run.parts.limits.daily_budget_usd
        worst = await self.llm.worst_cost(question) if budget is not None else None
        if budget is None or worst is None:
            return None
        key, token = "", new_token()
        try:
            today = (await self.run.parts.claims.now()).astimezone(UTC).date()
            key = spend_key(self.run.parts.claims.environment, today)
            fits = await self.run.parts.claims.reserve(key, token, worst, int(budget * MICROS))
        except (ClaimsDown, ConfigFault) as trouble:  # who is in flight ends the day without Redis
            self.run.stop_claiming(trouble)
            raise OverBudget(f"The day's budget can't be counted: {trouble}") from trouble
        except KeyTrouble as trouble:
            raise OverBudget(f"The day's budget can't be counted under {key}: {trouble}") from trouble
        if not fits:
            raise OverBudget(f"RECAP_DAILY_BUDGET_USD is {budget:g}; what is left of it is less than a call can cost.")
        return key, token

    async def settle(self, reservation: Reserved | None, micro_usd: int) -> None:
        """Unsettled, the worst cost stays taken: never over the budget."""
        if reservation is not None:
            with suppress(ClaimsDown, ConfigFault, KeyTrouble):
                await self.run.parts.claims.settle(*reservation, micro_usd)


def asked_again(question: Question, fault: ItemFault) -> Question:
    """The question after a useless answer."""
    if fault.reason is ItemReason.TRUNCATED:
        return replace(question, answer_tokens=question.answer_tokens * 2)
    return once_more(question, str(fault)) if fault.reason is ItemReason.UNFOUNDED else question


async def run_in_thread_if_large(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the work returns or raises. `size`: characters that it reads, hostile ones among them."""
    return work(*args, **kwargs) if size <= SOON else await asyncio.to_thread(work, *args, **kwargs)
