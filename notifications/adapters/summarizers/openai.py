"""Answers by OpenAI, or by any server that speaks its chat completions API (OPENAI_BASE_URL)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn

import openai
from httpx2 import ConnectError, ConnectTimeout, PoolTimeout, create_ssl_context
from httpx2 import Limits as Pool
from pydantic import ValidationError

from notifications.adapters.summarizers.openai_dialect import OPTIONAL, Dialect
from notifications.adapters.summarizers.openai_service import Described, form_of, is_gone, trial
from notifications.adapters.summarizers.openai_wire import Completion, Packed, TooLong, bound, budgets
from notifications.adapters.summarizers.prices import price_listed, price_set
from notifications.domain.errors import ConfigFault, ItemFault, ItemReason, ProviderFault
from notifications.domain.pace import Budget
from notifications.domain.recap.prompt import Question
from notifications.domain.spending import Price, Spent
from notifications.domain.text import code as error_code
from notifications.domain.text import printable
from notifications.domain.waits import retry_after
from notifications.limits import Limits
from notifications.ports import Answer, Checked

TLS = create_ssl_context()  # reads the machine's certificates: once a process
CHECK_SECONDS = 120.0  # for one recap: a model that thinks, on a machine of one's own, takes its time
DESCRIBE_SECONDS = 5.0
LATER = 5.0  # seconds after ours comes the client's own time-out, which ends a call just as well
MODEL_LENGTH = 100
DEFAULT_TIER = "default"
CHAT_TOKENS = 100  # that a message costs beside its text
ITEM_CODES = {
    "context_length_exceeded": ItemReason.CONTEXT_LENGTH,
    "string_above_max_length": ItemReason.CONTEXT_LENGTH,
    "exceed_context_size_error": ItemReason.CONTEXT_LENGTH,  # llama.cpp's
    "content_policy_violation": ItemReason.CONTENT_POLICY,
    "content_filter": ItemReason.CONTENT_POLICY,
    "invalid_prompt": ItemReason.CONTENT_POLICY,
}
ITEM_ENDS = {"length": ItemReason.TRUNCATED, "content_filter": ItemReason.CONTENT_POLICY}
ITEM_WORDS = {  # vLLM and others have no code for it
    ItemReason.CONTEXT_LENGTH: re.compile(
        r"maximum context length|context (?:length|size|window)|exceeds? .{0,60}(?:context|n_ctx)|input tokens exceed",
        re.I,
    ),
    ItemReason.TRUNCATED: re.compile(r"max_tokens or model output limit", re.IGNORECASE),
}
NEVER_SENT = (ConnectError, ConnectTimeout, PoolTimeout)  # nothing of the question was written
MAY_BE_DEAR, DEAR, CHEAP_TIERS = ("auto", "priority"), ("priority",), {"flex", "auto"}
NOT_SERVED = (503, 529)  # of other failures of a server nobody knows what they cost
NO_FLEX = ("resource_unavailable", "capacity_exceeded")


@dataclass(frozen=True, slots=True)
class Service:
    """Which model is asked and how, as it is set."""

    model: str
    effort: str | None = None
    tier: str | None = None
    price_in: float | None = None  # USD for a million tokens
    price_out: float | None = None
    daily_budget: float | None = None  # USD


class OpenAISummarizer:
    """The Summarizer port. The client's own retries are off: they obey Retry-After without jitter."""

    def __init__(self, client: openai.AsyncOpenAI, service: Service, where: str) -> None:
        self._client = client
        self._service = service
        self._dialect = Dialect(service.model, service.effort, service.tier)
        self._prices: dict[str, Price | None] = {}
        self._where = where
        self.where = f"{where} (OPENAI_MODEL {service.model!r})"
        self.model = service.model
        self._last_day: asyncio.Task[date | None] | None = None
        self.calls = 0
        self.budgets: Mapping[str, Budget] = {}
        self.tokens = 0

    async def ask(self, question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer:
        """One answer. Raises ItemFault or ProviderFault; neither quotes what was sent or answered.

        Bounded as a whole: a server that drips its answer is bounded by no time-out between two bytes.
        `cheap`: whether the slower tier at half the price may be asked, where that is set (OPENAI_SERVICE_TIER).
        """
        seconds = timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                for _ in range(len(OPTIONAL) + 2):
                    asked = self._dialect.arguments(question, cheap=cheap)
                    self.calls += 1
                    try:
                        return await self._called(asked, seconds)
                    except (openai.BadRequestError, openai.UnprocessableEntityError) as refusal:
                        self._refuse_the_item(refusal)
                        if not self._dialect.learns(refusal.message, refusal.param, asked):
                            raise
                raise ProviderFault(f"{self._where} refuses whatever it is asked; check OPENAI_BASE_URL.", config=True)
        except TimeoutError:
            raise ProviderFault(
                f"{self._where} does not end its answer in time; it is too slow for RECAP_USER_DEADLINE_SECONDS.",
                cheap=self._dialect.is_flex(cheap=cheap),
            ) from None
        except openai.APIStatusError as refusal:
            if is_gone(refusal):
                await self._tell_gone(refusal)
            self._refused(refusal, cheap=cheap)

    async def _called(self, asked: dict[str, Any], seconds: float) -> Answer:
        try:
            response = await self._client.chat.completions.with_raw_response.create(**asked, timeout=seconds + LATER)
            self.budgets = budgets(response.headers)
            return await self._answer(Completion.model_validate_json(response.http_response.content))
        except openai.APIStatusError:
            raise
        except openai.APIError as cause:
            if isinstance(cause.__cause__, TooLong):
                raise ItemFault(ItemReason.INVALID_ANSWER, "The LLM's answer is longer than any recap.") from None
            raise ProviderFault(
                f"{self._where} does not answer ({type(cause).__name__}); check OPENAI_BASE_URL and the network.",
                unpaid=isinstance(cause.__cause__, NEVER_SENT),
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

    async def _answer(self, found: Completion) -> Answer:
        tokens_in, cached, tokens_out, hidden = found.usage.counts() if found.usage else (0, 0, 0, 0)
        self.tokens += tokens_in + tokens_out
        tier = error_code(found.service_tier, DEFAULT_TIER)
        price = await self._price(tier)
        told = found.usage is not None and tokens_in > 0 and found.usage.completion_tokens is not None
        cost = price.of(tokens_in, cached, tokens_out) if price and told else None
        choice = found.choices[0]
        return Answer(
            text=choice.message.content or "",
            model=printable(found.model or self._service.model, MODEL_LENGTH),
            tier=tier,
            spent=Spent(1, tokens_in, cached, tokens_out, hidden, cost),
            ended=ItemReason.REFUSAL if choice.message.refusal else ITEM_ENDS.get(choice.finish_reason or ""),
        )

    async def worst_cost(self, question: Question) -> int | None:
        """What one call can cost at most, in millionths of a USD: no tokenizer makes more tokens than bytes.

        None where no budget is set. Raises ConfigFault where one is, and the price is not known.
        """
        if self._service.daily_budget is None:
            return None
        tiers = {DEFAULT_TIER, self._service.tier or DEFAULT_TIER, *(DEAR if self._service.tier in MAY_BE_DEAR else ())}
        prices = [price for tier in sorted(tiers - CHEAP_TIERS) if (price := await self._price(tier))]
        if not prices:
            raise ConfigFault(
                f"RECAP_DAILY_BUDGET_USD is set, and what the model {self._service.model!r} costs is not known; set "
                "RECAP_PRICE_IN_USD_PER_MTOK and RECAP_PRICE_OUT_USD_PER_MTOK."
            )
        sent = len(question.instructions_with_schema.encode()) + len(question.notes.encode()) + CHAT_TOKENS
        return max(price.of(sent, 0, self._dialect.room(question)) for price in prices)

    async def _price(self, tier: str) -> Price | None:
        if tier not in self._prices:
            set_by_hand = price_set(self._service.price_in, self._service.price_out, tier)
            listed = None if set_by_hand else await asyncio.to_thread(price_listed, self._service.model, tier)
            self._prices[tier] = set_by_hand or listed
        return self._prices[tier]

    async def check(self) -> Checked:
        """Whether it writes a recap, of two sentences: in which form that comes, and in how many seconds."""
        question, begun = trial(), time.monotonic()
        try:
            answer = await self.ask(question, timedelta(seconds=CHECK_SECONDS), cheap=False)
            if answer.ended is not None:
                return Checked(f"{self.where} gives no whole answer to two sentences ({answer.ended.value}).")
            form = form_of(answer.text, question, self._dialect.form)
        except ProviderFault as fault:
            return Checked(str(fault))
        except ItemFault as fault:
            return Checked(
                f"{self.where} answers, but what it says is no recap ({fault.reason.value}); set a model that can."
            )
        return Checked(found=f"answers {form}, in {time.monotonic() - begun:.1f} s")

    async def last_day(self) -> date | None:
        """When the provider shuts the model down, as it describes it; None where it says nothing. Asked once."""
        if self._last_day is None:
            self._last_day = asyncio.create_task(self._described())
        return await asyncio.shield(self._last_day)

    async def _described(self) -> date | None:
        models = self._client.models.with_raw_response
        try:
            async with asyncio.timeout(DESCRIBE_SECONDS):
                found = await models.retrieve(self._service.model, timeout=DESCRIBE_SECONDS)
                return Described.model_validate_json(found.http_response.content).last_day
        except (openai.APIError, Packed, TooLong, ValidationError, RecursionError, TimeoutError):
            return None  # most servers have no such address

    async def _tell_gone(self, cause: openai.APIStatusError) -> NoReturn:
        day = await self.last_day()
        if day is not None and day <= datetime.now(UTC).date():
            told = f": the model {self._service.model!r} was shut down on {day}; set OPENAI_MODEL to one that it has."
        else:
            told = (
                f" does not have the model {self._service.model!r}, or not for this key; check OPENAI_API_KEY, "
                "OPENAI_MODEL and OPENAI_BASE_URL."
            )
        raise ProviderFault(f"{self._where}{told}", config=True, unpaid=True) from cause

    def _refused(self, cause: openai.APIStatusError, *, cheap: bool) -> NoReturn:
        self._refuse_the_item(cause)
        status, code = cause.status_code, error_code(cause.code or cause.type, "")
        if status in (401, 403, 404):
            raise ProviderFault(
                f"{self._where} answers {status} for model {self._service.model!r}; check OPENAI_API_KEY, OPENAI_MODEL "
                "and OPENAI_BASE_URL.",
                config=True,
                unpaid=True,
            ) from cause
        raise ProviderFault(
            f"{self._where} answers {status}{f' ({code})' if code else ''}.",
            retry_after=retry_after(cause.response.headers),
            opens=code == "insufficient_quota",
            cheap=code in NO_FLEX and self._dialect.is_flex(cheap=cheap),
            unpaid=status < 500 or status in NOT_SERVED,
        ) from cause

    def _refuse_the_item(self, cause: openai.APIStatusError) -> None:
        """Raise ItemFault where it is this question that can't be served: by its code, else by what servers write."""
        code = error_code(cause.code or cause.type, "")
        reason = ITEM_CODES.get(code)
        if reason is None and cause.status_code in (400, 413, 422):
            reason = next((one for one, said in ITEM_WORDS.items() if said.search(cause.message)), None)
        if reason is not None:
            sentence = f"The LLM can't take this day's notes ({code or reason.value})."
            raise ItemFault(reason, sentence, unpaid=reason is not ItemReason.TRUNCATED) from cause

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.close()


def connect(key: str | None, base_url: str | None, service: Service, limits: Limits) -> OpenAISummarizer:
    """A summarizer of that service."""
    client = client_of(key, base_url, limits)
    return OpenAISummarizer(client, service, f"The LLM at {client.base_url.host}")


def client_of(key: str | None, base_url: str | None, limits: Limits) -> openai.AsyncOpenAI:
    """A client with a connection for each concurrent call: waiting for one would count as its timeout.

    A local server needs no key; the client library insists on one.
    """
    connections = limits.concurrency + 8
    return openai.AsyncOpenAI(
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
