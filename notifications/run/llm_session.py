"""One recap's calls to an LLM: tries, share of the user's time, reservations of money, and their cost."""

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
Reservation = tuple[str, str]  # a day's key and a token: money that counts as spent until it is settled

TRIES = 2  # of one question, inside one user's deadline; then the extract, or a retry of the claim, takes over
FIRST_PAUSE = timedelta(seconds=1)
MAX_PAUSE = timedelta(seconds=5)  # while the claim is held; for a longer wait the claim is given back
WRITING_SHARE = 0.7  # of the user's deadline; the second look has the rest
CHEAP_SHARE = 0.5  # of the time for writing or verifying; after that the question is asked at the full price
NEW_ANSWER_SHARE = 0.4  # how much of the deadline a whole new answer needs
MIN_THREAD_CHARACTERS = 8_000  # fewer take a millisecond or two; a thread costs 0.1 ms and the GIL
RETRIED = (ItemReason.TRUNCATED, ItemReason.INVALID_ANSWER, ItemReason.UNFOUNDED)


class LLMSession:
    """The calls to one LLM for one recap.

    `deadline`: how long all calls of the recap may take, counted from `started_at`. `share`: the fraction of the
    deadline by which the last call of this session must end.
    """

    def __init__(
        self,
        run: Run,
        llm: Summarizer,
        deadline: timedelta,
        *,
        share: float = WRITING_SHARE,
        started_at: float | None = None,
    ) -> None:
        self.spent = Spent()
        self.model = ""  # the model that answered last
        self.tier = ""  # the tier that it answered in
        self.bytes_sent = 0
        self._run = run
        self._llm = llm
        self._deadline = deadline.total_seconds()
        self._share = share
        self._started_at = run.services.clock.seconds() if started_at is None else started_at
        self._cheap_until: float | None = None
        self._has_retried = False

    @property
    def _elapsed(self) -> float:
        return self._run.services.clock.seconds() - self._started_at

    @property
    def seconds_left(self) -> float:
        """How many seconds the session's calls may still take."""
        return max(0.0, self._deadline * self._share - self._elapsed)

    @property
    def may_begin_again(self) -> bool:
        """Whether there is time for a whole new answer, and no question was repeated yet."""
        return not self._has_retried and self._deadline - self._elapsed >= self._deadline * NEW_ANSWER_SHARE

    def begin_again(self) -> None:
        """Allow a whole new answer: it gets WRITING_SHARE of the time that is left."""
        elapsed_share = self._elapsed / self._deadline
        self._share = elapsed_share + (1 - elapsed_share) * WRITING_SHARE
        self._has_retried, self._cheap_until = True, None

    def for_verification(self, llm: Summarizer) -> LLMSession:
        """A session for the second look: it has all that is left of the deadline."""
        return LLMSession(self._run, llm, timedelta(seconds=self._deadline), share=1.0, started_at=self._started_at)

    async def ask(
        self,
        question: Question,
        parse: Callable[[str], T],
        size: int,
        *,
        reserved: Reservation | None = None,
        once: bool = False,
    ) -> T:
        """Ask the question and return the parsed answer. Raises ItemFault, ProviderFault or OverBudget.

        `size`: characters that the answer is checked against. `reserved`: the reservation for the first call. `once`: a
        bad answer is final, and the first try has all the time.

        Otherwise a bad answer is asked for once more: a truncated one with twice the tokens, since hidden reasoning
        takes some; an unfounded one with a note of what was wrong. A transient failure is retried once.
        """
        for tries_left in reversed(range(TRIES)):
            try:
                answer = await self._answer(question, self.seconds_left / (1 if once else tries_left + 1), reserved)
                if answer.ended is not None:
                    raise ItemFault(answer.ended, f"The LLM gave no whole answer to this day's notes ({answer.ended}).")
                return await run_in_thread_if_large(size + len(answer.text), parse, answer.text)
            except ItemFault as error:
                if error.reason not in RETRIED or not tries_left or once:
                    raise
                self._has_retried = True
                if error.reason is ItemReason.TRUNCATED:
                    question = replace(question, answer_tokens=question.answer_tokens * 2)
                elif error.reason is ItemReason.UNFOUNDED:
                    question = ask_again(question, str(error))
            except ProviderFault as error:
                pause = jittered(error.retry_after or FIRST_PAUSE, 1, 1.5)
                fits = pause.total_seconds() < self.seconds_left and pause <= MAX_PAUSE * 1.5
                if error.final or not tries_left or not fits:
                    raise
                await asyncio.sleep(pause.total_seconds())
            reserved = None
        raise AssertionError("unreachable")

    async def _answer(self, question: Question, seconds: float, reserved: Reservation | None) -> Answer:
        """Ask the cheaper tier first, if there is one; if it does not answer in time, ask the other at once."""
        if self._cheap_until is None:
            self._cheap_until = self._elapsed + self.seconds_left * CHEAP_SHARE
        cheap_seconds = min(seconds, self._cheap_until - self._elapsed)
        if cheap_seconds > 0:
            try:
                return await self._call(question, cheap_seconds, reserved, cheap=True)
            except ProviderFault as error:
                if not error.cheap:
                    raise
                seconds, reserved = self.seconds_left, None
        return await self._call(question, min(seconds, self.seconds_left), reserved, cheap=False)

    async def _call(self, question: Question, seconds: float, reserved: Reservation | None, *, cheap: bool) -> Answer:
        """Make one call: reserve its worst cost from the day's budget before it, and settle the real cost after it."""
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
        except (ItemFault, ProviderFault) as error:
            cost = 0 if error.unpaid else None
            self._count(Spent(calls=1, micro_usd=cost, seconds=clock.seconds() - called_at), type(error).__name__)
            if error.unpaid:
                await self.settle(reservation, 0)
            raise
        self.model, self.tier = answer.model, answer.tier
        if answer.spent.micro_usd is not None:
            await self.settle(reservation, answer.spent.micro_usd)
        await self._run.pace.note_limits(self._llm)
        return answer

    def _count(self, spent: Spent, error: str = "") -> None:
        self.spent += spent
        self._run.counts.spend(spent, failed=bool(error))
        self._run.services.telemetry.record_call(spent, self._llm.model, error)

    async def reserve(self, question: Question) -> Reservation | None:
        """Reserve a call's worst cost from the day's budget; None if there is no budget. Raises OverBudget."""
        claims, budget = self._run.services.claims, self._run.services.limits.daily_budget_usd
        worst = await self._llm.worst_cost(question) if budget is not None else None
        if budget is None or worst is None:
            return None
        key, token = "", new_token()
        try:
            today = (await claims.now()).astimezone(UTC).date()
            key = spend_key(claims.environment, today)
            fits = await claims.reserve(key, token, worst, int(budget * MICROS))
        except (ClaimsDown, ConfigFault) as error:  # users in flight are still served without Redis
            self._run.stop_claiming(error)
            raise OverBudget(f"The day's budget can't be counted: {error}") from error
        except KeyTrouble as error:
            raise OverBudget(f"The day's budget can't be counted under {key}: {error}") from error
        if not fits:
            raise OverBudget(f"RECAP_DAILY_BUDGET_USD is {budget:g}; what is left of it is less than a call can cost.")
        return key, token

    async def settle(self, reservation: Reservation | None, micro_usd: int) -> None:
        """Replace a reservation by what was spent. If that fails, the worst cost stays reserved."""
        if reservation is not None:
            with suppress(ClaimsDown, ConfigFault, KeyTrouble):
                await self._run.services.claims.settle(*reservation, micro_usd)


async def run_in_thread_if_large(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run the work, in a thread if it reads many characters (`size`). Returns or raises what the work does."""
    if size <= MIN_THREAD_CHARACTERS:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
