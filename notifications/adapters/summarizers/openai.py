"""Recaps by OpenAI, or by any server that speaks its chat completions API (OPENAI_BASE_URL)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NoReturn

import openai
from httpx2 import Limits as Pool
from httpx2 import create_ssl_context
from pydantic import ValidationError

from notifications.adapters.summarizers.openai_wire import Completion, Packed, TooLong, bound, budgets
from notifications.domain.errors import ItemFault, ItemReason, ProviderFault
from notifications.domain.model import Draft
from notifications.domain.pace import Budget
from notifications.domain.recap.answer import read_answer
from notifications.domain.recap.material import Material
from notifications.domain.recap.plan import Plan, plan
from notifications.domain.recap.prompt import INSTRUCTIONS, MAX_ANSWER_TOKENS, SCHEMA, prompt
from notifications.domain.text import code as error_code
from notifications.domain.text import printable
from notifications.domain.waits import jittered, retry_after
from notifications.limits import Limits

TLS = create_ssl_context()  # reads the machine's certificates: once a process
TRIES = 2  # inside one user's deadline; then the claim's own retry takes over
CHECK_SECONDS = 10.0
MODEL_LENGTH = 100
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=5)  # with the claim held; what asks for more gets the claim's own wait
RESPONSE_FORMAT: Any = {
    "type": "json_schema",
    "json_schema": {"name": "daily_recap", "strict": True, "schema": SCHEMA},
}
ITEM_CODES = {
    "context_length_exceeded": ItemReason.CONTEXT_LENGTH,
    "string_above_max_length": ItemReason.CONTEXT_LENGTH,
    "content_policy_violation": ItemReason.CONTENT_POLICY,
    "content_filter": ItemReason.CONTENT_POLICY,
    "invalid_prompt": ItemReason.CONTENT_POLICY,
}
ASKED_AGAIN = (ItemReason.TRUNCATED, ItemReason.INVALID_ANSWER)
ITEM_ENDS = {"length": ItemReason.TRUNCATED, "content_filter": ItemReason.CONTENT_POLICY}


@dataclass(frozen=True, slots=True)
class Question:
    """One user's day as it is asked, and the room that its answer has."""

    material: Material
    plan: Plan
    answer_tokens: int


class OpenAISummarizer:
    """The Summarizer port. The client's own retries are off: they obey Retry-After without jitter."""

    def __init__(self, client: openai.AsyncOpenAI, model: str, where: str, max_prompt_tokens: int) -> None:
        self._client = client
        self._model = model
        self._max_prompt_tokens = max_prompt_tokens
        self._where = where
        self.where = f"{where} (OPENAI_MODEL {model!r})"
        self.calls = 0
        self.budgets: Mapping[str, Budget] = {}
        self.tokens = 0

    async def summarize(self, material: Material, deadline: timedelta) -> Draft:
        """One draft. Raises ItemFault or ProviderFault; neither quotes what was sent or answered.

        A useless answer is asked for once more, a truncated one with twice the room, since hidden reasoning takes some.
        """
        ends = time.monotonic() + deadline.total_seconds()
        planned = await asyncio.to_thread(plan, material, self._max_prompt_tokens)  # long days take a while
        question = Question(material, planned, MAX_ANSWER_TOKENS)
        for tries_left in reversed(range(TRIES)):
            try:
                return await self._ask(question, (ends - time.monotonic()) / (tries_left + 1))
            except ItemFault as fault:
                if fault.reason not in ASKED_AGAIN or not tries_left:
                    raise
                room = question.answer_tokens * (2 if fault.reason is ItemReason.TRUNCATED else 1)
                question = replace(question, answer_tokens=room)
            except ProviderFault as fault:
                pause = jittered(fault.retry_after or FIRST_PAUSE, 1, 1.5)
                fits = time.monotonic() + pause.total_seconds() < ends and pause <= LONGEST_PAUSE * 1.5
                if fault.opens or not tries_left or not fits:
                    raise
                await asyncio.sleep(pause.total_seconds())
        raise AssertionError("unreachable")

    async def _ask(self, question: Question, timeout_seconds: float) -> Draft:
        """One call, bounded as a whole: a server that drips its answer is bounded by no time-out between two bytes."""
        self.calls += 1
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._called(question, timeout_seconds)
        except TimeoutError:
            raise ProviderFault(
                f"{self._where} does not end its answer in time; it is too slow for RECAP_USER_DEADLINE_SECONDS."
            ) from None

    async def _called(self, question: Question, timeout_seconds: float) -> Draft:
        try:
            response = await self._client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[
                    {"role": "system", "content": INSTRUCTIONS},
                    {"role": "user", "content": prompt(question.material, question.plan)},
                ],
                response_format=RESPONSE_FORMAT,
                max_completion_tokens=question.answer_tokens,
                store=False,
                timeout=timeout_seconds,
            )
            self.budgets = budgets(response.headers)
            return self._draft(Completion.model_validate_json(response.http_response.content), question)
        except openai.APIStatusError as cause:
            self._refused(cause)
        except openai.APIError as cause:
            if isinstance(cause.__cause__, TooLong):
                raise ItemFault(ItemReason.INVALID_ANSWER, "The LLM's answer is longer than any recap.") from None
            raise ProviderFault(
                f"{self._where} does not answer ({type(cause).__name__}); check OPENAI_BASE_URL and the network."
            ) from cause
        except Packed:
            raise ProviderFault(
                f"{self._where} packs its answers though it was asked not to; check what stands before it."
            ) from None
        except TooLong:
            raise ItemFault(ItemReason.INVALID_ANSWER, "The LLM's answer is longer than any recap.") from None
        except (ValidationError, RecursionError):
            raise ProviderFault(
                f"{self._where} does not answer like an OpenAI-compatible server; check OPENAI_BASE_URL."
            ) from None

    def _draft(self, answer: Completion, question: Question) -> Draft:
        usage, choice = answer.usage, answer.choices[0]
        self.tokens += (usage.total_tokens or 0) if usage else 0
        if choice.message.refusal:
            raise ItemFault(ItemReason.REFUSAL, "The LLM refuses this day's notes.")
        if choice.finish_reason in ITEM_ENDS:
            reason = ITEM_ENDS[choice.finish_reason]
            raise ItemFault(reason, f"The LLM's answer ended early ({reason}).")
        model = printable(answer.model or self._model, MODEL_LENGTH)
        metadata: dict[str, str | int | bool] = {"model": model, "source": "llm", "offline": False}
        if usage:
            metadata |= {
                "prompt_tokens": usage.prompt_tokens or 0,
                "completion_tokens": usage.completion_tokens or 0,
            }
        spent: dict[str, Mapping[str, Any]] = {"metadata": metadata, "coverage": question.plan.coverage}
        return read_answer(choice.message.content or "", question.material, **spent)

    async def check(self) -> str:
        """Whether the key, the address and the model are right: asks for the model's description."""
        try:
            await self._client.models.retrieve(self._model, timeout=CHECK_SECONDS)
        except openai.APIStatusError as cause:
            return f"{self._where} answers {cause.status_code}; check OPENAI_API_KEY and OPENAI_MODEL."
        except openai.APIError as cause:
            return f"{self._where} does not answer ({type(cause).__name__}); check OPENAI_BASE_URL and the network."
        return ""

    def _refused(self, cause: openai.APIStatusError) -> NoReturn:
        status, code = cause.status_code, error_code(cause.code or cause.type, "")
        if reason := ITEM_CODES.get(code):
            raise ItemFault(reason, f"The LLM can't take this day's notes ({code}).") from cause
        if status in (401, 403, 404):
            raise ProviderFault(
                f"{self._where} answers {status} for model {self._model!r}; check OPENAI_API_KEY, OPENAI_MODEL and "
                "OPENAI_BASE_URL.",
                config=True,
            ) from cause
        raise ProviderFault(
            f"{self._where} answers {status}{f' ({code})' if code else ''}.",
            retry_after=retry_after(cause.response.headers),
            opens=code == "insufficient_quota",
        ) from cause

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.close()


def connect(key: str | None, base_url: str | None, model: str, limits: Limits) -> OpenAISummarizer:
    """A summarizer with a connection for each concurrent call: waiting for one would count as its timeout.

    A local server needs no key; the client library insists on one.
    """
    connections = limits.concurrency + 8
    client = openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=base_url,
        max_retries=0,
        default_headers={"Accept-Encoding": "identity"},  # so that what is read is what was sent
        http_client=openai.DefaultAioHttpClient(
            limits=Pool(max_connections=connections, max_keepalive_connections=connections),
            verify=TLS,
            follow_redirects=False,  # conversations go to the address that was set, and to no other
            event_hooks={"response": [bound]},
        ),
    )
    return OpenAISummarizer(client, model, f"The LLM at {client.base_url.host}", limits.max_prompt_tokens)
