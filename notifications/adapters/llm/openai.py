"""Answers by OpenAI, or by any server that speaks its chat completions API (OPENAI_BASE_URL)."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn

import openai
import structlog
from httpx2 import URL, ConnectError, ConnectTimeout, PoolTimeout, Response, create_ssl_context
from httpx2 import Limits as Pool
from pydantic import BaseModel, ValidationError

from notifications.adapters.llm.prices import DEFAULT_TIER, Prices
from notifications.adapters.llm.requests import MAX_REFUSALS, Dialect
from notifications.adapters.llm.responses import (
    Completion,
    Compressed,
    TooLong,
    Usage,
    limit_size,
    rate_limits,
    status_of,
)
from notifications.adapters.llm.server_errors import ServerError
from notifications.domain.backoff import RateLimit
from notifications.domain.errors import ConfigFault, ItemFault, ItemReason, ProviderFault
from notifications.domain.money import Spent
from notifications.domain.question import Question
from notifications.domain.text import code as error_code
from notifications.domain.text import printable
from notifications.limits import Limits
from notifications.ports import Answer, Checked
from notifications.recap.self_test import Trial

log = structlog.get_logger()

TLS = create_ssl_context()  # shared: it reads the machine's certificates
CHECK_SECONDS = 120.0  # enough for a reasoning model on a local machine
DESCRIBE_SECONDS = 5.0
CLIENT_TIMEOUT_MARGIN = 5.0  # seconds from our time-out to the client's own
MODEL_LENGTH = 100
MESSAGE_TOKENS = 100  # more than the roles and separators of the messages cost
ITEM_ENDS = {
    "length": ItemReason.TRUNCATED,
    "max_tokens": ItemReason.TRUNCATED,
    "model_length": ItemReason.TRUNCATED,
    "content_filter": ItemReason.CONTENT_POLICY,
    "safety": ItemReason.CONTENT_POLICY,
    "recitation": ItemReason.CONTENT_POLICY,
    "blocklist": ItemReason.CONTENT_POLICY,
    "prohibited_content": ItemReason.CONTENT_POLICY,
    "refusal": ItemReason.REFUSAL,
}
FORM_WORDS = {"json_schema": "by the schema", "json_object": "in JSON", "plain": "in plain text"}
PRICES = "RECAP_PRICE_IN_USD_PER_MTOK and RECAP_PRICE_OUT_USD_PER_MTOK"
PAYMENT_REQUIRED, TOO_MANY_REQUESTS = 402, 429
CREDIT_ADVICE = (
    "; the account has no credit: add some at the provider, or set OPENAI_BASE_URL to another, "
    "or RECAP_SUMMARIZER=extract for recaps without an LLM"
)
DOWN_ADVICE = "; wait, and check its status page if it lasts"
RATE_ADVICE = "; wait, or lower RECAP_CONCURRENCY, or have the limit raised"
MAX_BYTES_PER_TOKEN = 16  # far more than any text has
MIN_WINDOW_BYTES = 8_192  # no context window is smaller
WINDOW_TOLERANCE = 2  # tokens
UNPAID_FAILURES = (503, 529)  # overloaded; after any other status of 500 and more the cost is unknown
NO_FLEX = frozenset(("resource_unavailable", "capacity_exceeded"))
NEVER_SENT = (ConnectError, ConnectTimeout, PoolTimeout)  # raised before the first byte of the question
TOO_LONG = "The LLM's answer is longer than any recap."


@dataclass(frozen=True, slots=True)
class Service:
    """The settings of the model and of its calls."""

    model: str
    effort: str | None = None
    tier: str | None = None
    price_in: float | None = None  # USD for a million tokens
    price_out: float | None = None
    daily_budget: float | None = None  # USD
    named_by: str = "OPENAI_MODEL"  # the setting that names the model


class _Failed(Exception):
    """An error that the server sent."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str]) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class OpenAISummarizer:
    """The Summarizer port. The client's own retries are off: they obey Retry-After without jitter."""

    def __init__(self, client: openai.AsyncOpenAI, service: Service, where: str) -> None:
        self._client = client
        self._service = service
        self._dialect = Dialect(service.model, service.effort, service.tier)
        self._prices = Prices(service.model, service.price_in, service.price_out)
        self._where = where
        self.where = f"{where} ({service.named_by} {service.model!r})"
        self.named_by = service.named_by
        self.model = service.model
        self._last_day: asyncio.Task[date | None] | None = None
        self.calls = 0
        self.rate_limits: Mapping[str, RateLimit] = {}
        self.tokens = 0
        self._window = ContextWindow(where)

    async def ask(self, question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer:
        """One answer. Raises ItemFault or ProviderFault; neither quotes the notes or the answer.

        `timeout` bounds the whole call: a server that sends a byte now and then never runs into the client's own.
        `cheap`: whether the slower tier at half the price may be used, if it is set (OPENAI_SERVICE_TIER).
        """
        seconds = timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                for _ in range(MAX_REFUSALS + 1):
                    arguments = self._dialect.arguments(question, cheap=cheap)
                    self.calls += 1
                    try:
                        return await self._call(arguments, seconds)
                    except _Failed as failed:
                        error = ServerError.from_response(failed.status, failed.body, failed.headers, question.notes)
                        error.raise_item_fault()
                        if not self._dialect.adapt_to(error, arguments):
                            await self._raise_if_shut_down(error)
                            self._raise(error, cheap=cheap)
                raise ProviderFault(f"{self._where} refuses whatever it is asked; check OPENAI_BASE_URL.", config=True)
        except TimeoutError:
            raise ProviderFault(
                f"{self._where} does not end its answer in time; it is too slow for RECAP_USER_DEADLINE_SECONDS; "
                "take a faster model, or raise that; where the server is your own, lower RECAP_CONCURRENCY.",
                cheap=self._dialect.is_flex(cheap=cheap),
                code="slow",
            ) from None

    async def _call(self, arguments: dict[str, Any], seconds: float) -> Answer:
        try:
            # Not chat.completions.create(): it walks the arguments against their types, a seventh of a user's CPU.
            response = await self._client.post(
                "/chat/completions",
                cast_to=Response,
                body=arguments,
                options={"timeout": seconds + CLIENT_TIMEOUT_MARGIN, "security": {"bearer_auth": True}},
            )
            self.rate_limits = rate_limits(response.headers)
            completion = Completion.model_validate_json(response.content)
            if completion.failure is not None:
                raise _Failed(status_of(completion.failure), completion.failure, response.headers)
            return await self._answer(completion, arguments)
        except openai.APIStatusError as cause:
            raise _Failed(cause.status_code, cause.body, cause.response.headers) from cause
        except openai.APIError as cause:
            if isinstance(cause.__cause__, TooLong):
                raise ItemFault(ItemReason.INVALID_ANSWER, TOO_LONG) from None
            raise ProviderFault(
                f"{self._where} {describe_failure(cause)}",
                unpaid=isinstance(cause.__cause__, NEVER_SENT),
                code="no_answer",
            ) from cause
        except Compressed:
            raise ProviderFault(
                f"{self._where} compresses its answers though it was asked not to; check the proxies before it."
            ) from None
        except TooLong:
            raise ItemFault(ItemReason.INVALID_ANSWER, TOO_LONG) from None
        except (ValidationError, RecursionError):
            raise ProviderFault(
                f"{self._where} does not answer like an OpenAI-compatible server; check OPENAI_BASE_URL.",
                code="no_llm_api",
            ) from None

    async def _answer(self, completion: Completion, arguments: Mapping[str, Any]) -> Answer:
        usage, tier = completion.usage, error_code(completion.service_tier, DEFAULT_TIER)
        self.tokens += usage.prompt_tokens + usage.written
        price = await self._prices.at(tier)
        read, cached, written = usage.prompt_tokens, usage.cached, usage.written
        cost = price.of(read, cached, written, usage.cache_write_tokens) if price and usage.is_complete else None
        text = ""
        ended: ItemReason | None = ItemReason.CONTENT_POLICY  # unless there is a choice
        if completion.choices:
            choice = completion.choices[0]
            text = choice.message.content
            ended = ItemReason.REFUSAL if choice.message.refusal else ITEM_ENDS.get(choice.end)
            if self._window.was_short_for(arguments["messages"], usage):
                ended = ItemReason.CONTEXT_LENGTH
        return Answer(
            text=text,
            model=printable(completion.model or self._service.model, MODEL_LENGTH),
            tier=tier,
            spent=Spent(1, read, cached, written, usage.reasoning_tokens, cost),
            ended=ended,
        )

    async def worst_cost(self, question: Question) -> int | None:
        """In millionths of a USD, at one token per byte; None without a budget. Raises ConfigFault without a price."""
        if self._service.daily_budget is None:
            return None
        prices = await self._prices.at_worst(self._service.tier)
        if not prices:
            raise ConfigFault(
                f"RECAP_DAILY_BUDGET_USD is set, and what the model {self._service.model!r} costs is not known; set "
                f"{PRICES if self.named_by == 'OPENAI_MODEL' else f'{self.named_by} to one that is listed'}."
            )
        sent = len(question.instructions_with_schema.encode()) + len(question.notes.encode()) + MESSAGE_TOKENS
        kept = sent if self._dialect.is_cache_billed else 0
        return max(price.of(sent, 0, self._dialect.room(question), kept) for price in prices)

    async def check(self) -> Checked:
        """Ask for a recap of two sentences; report the form of the answer and the seconds it took."""
        trial, begun = Trial(), time.monotonic()
        try:
            answer = await self.ask(trial.question, timedelta(seconds=CHECK_SECONDS), cheap=False)
            if answer.ended is not None:
                return Checked(f"{self.where} gives no whole answer to two sentences ({answer.ended.value}).")
            trial.read(answer.text)
        except ProviderFault as fault:
            return Checked(str(fault))
        except ItemFault as fault:
            return Checked(
                f"{self.where} answers, but what it says is no recap ({fault.reason.value}); set a model that can."
            )
        form = FORM_WORDS[self._dialect.form] if _is_json(answer.text) else "with JSON amid other words"
        return Checked(found=f"answers {form}, in {time.monotonic() - begun:.1f} s")

    async def last_day(self) -> date | None:
        """When the provider shuts the model down; None if it does not say. Fetched once."""
        if self._last_day is None:
            self._last_day = asyncio.create_task(self._fetch_last_day())
        return await asyncio.shield(self._last_day)

    async def _fetch_last_day(self) -> date | None:
        models = self._client.models.with_raw_response
        try:
            async with asyncio.timeout(DESCRIBE_SECONDS):
                response = await models.retrieve(self._service.model, timeout=DESCRIBE_SECONDS)
                return ModelDescription.model_validate_json(response.http_response.content).last_day
        except (openai.APIError, Compressed, TooLong, ValidationError, RecursionError, TimeoutError):
            return None  # most servers have no such address

    async def _raise_if_shut_down(self, error: ServerError) -> None:
        """Raise ProviderFault with the date if the server says when it shut the model down."""
        day = await self.last_day() if error.model_is_gone else None
        if day is not None and day <= datetime.now(UTC).date():
            model = f"the model {self._service.model!r} was shut down on {day}"
            sentence = f"{self._where}: {model}; set {self.named_by} to one that it has."
            raise ProviderFault(sentence, config=True, unpaid=True)

    def _raise(self, error: ServerError, *, cheap: bool) -> NoReturn:
        status, code, quote = error.status, error.code, error.quote(self._client.api_key)
        quoted = f': "{quote}"' if quote else ""
        if error.is_config_error:
            raise ProviderFault(
                f"{self._where} answers {status} for model {self._service.model!r}{quoted}; check "
                f"OPENAI_API_KEY, {self.named_by} and OPENAI_BASE_URL.",
                config=True,
                unpaid=True,
                code=str(status),
            )
        is_used_up = "insufficient_quota" in error.codes or status == PAYMENT_REQUIRED
        advice = DOWN_ADVICE if status >= 500 else RATE_ADVICE if status == TOO_MANY_REQUESTS else ""
        advice = CREDIT_ADVICE if is_used_up else advice
        raise ProviderFault(
            f"{self._where} answers {status}{f' ({code})' if code else ''}{quoted}{advice}.",
            retry_after=error.wait,
            final=is_used_up,
            cheap=not NO_FLEX.isdisjoint(error.codes) and self._dialect.is_flex(cheap=cheap),
            unpaid=status < 500 or status in UNPAID_FAILURES,
            code="insufficient_quota" if is_used_up else str(status),
        )

    async def aclose(self) -> None:
        await self._client.close()


def connect(key: str | None, base_url: str | None, service: Service, limits: Limits) -> OpenAISummarizer:
    """A summarizer by that service."""
    client = client_of(key, base_url, limits)
    return OpenAISummarizer(client, service, f"The LLM at {host_and_port(client.base_url)}")


def client_of(key: str | None, base_url: str | None, limits: Limits) -> openai.AsyncOpenAI:
    """A client with a connection for each concurrent call: waiting for one would count against its time-out."""
    connections = limits.concurrency + 8
    return openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=base_url,
        max_retries=0,
        default_headers={"Accept-Encoding": "identity"},  # so that the size of an answer is bounded
        http_client=openai.DefaultAioHttpClient(
            limits=Pool(max_connections=connections, max_keepalive_connections=connections),
            verify=TLS,
            follow_redirects=False,  # conversations go to no other address than the one set
            event_hooks={"response": [limit_size]},
        ),
    )


def host_and_port(url: URL) -> str:
    """Host and port; the port distinguishes several servers on one machine."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def describe_failure(cause: openai.APIError) -> str:
    """Why there is no answer, and what to do; the client says "timed out" of a refused connection too."""
    causes: list[BaseException] = [cause]
    while (deeper := causes[-1].__cause__) is not None:
        causes.append(deeper)
    if any(isinstance(error, OSError) and error.errno == errno.ECONNREFUSED for error in causes):
        return "refuses the connection; check OPENAI_BASE_URL, and whether the server runs."
    if any(isinstance(error, socket.gaierror) for error in causes):
        return "has no address that is known here; check OPENAI_BASE_URL and the name server."
    return f"does not answer ({type(cause).__name__}); check OPENAI_BASE_URL and the network."


class ContextWindow:
    """Notices that prompts are cut. Ollama's default window is 4,096 tokens, and it keeps half of a longer prompt."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._size: int | None = None  # tokens, once a prompt was cut

    def was_short_for(self, messages: Iterable[Mapping[str, str]], usage: Usage) -> bool:
        """Whether the server read far less than it was sent; logged once.

        Once the window's size is known, a prompt that fills it was cut as well, whatever its length.
        """
        sent = sum(len(message["content"].encode()) for message in messages)
        read = usage.prompt_tokens + usage.cached  # some servers count cached tokens separately
        if usage.prompt_tokens == 0:
            return False
        fills_it = self._size is not None and abs(read - self._size) <= WINDOW_TOLERANCE
        if not fills_it and (sent < MIN_WINDOW_BYTES or read * MAX_BYTES_PER_TOKEN >= sent):
            return False
        if self._size is None:
            self._size = read
            reason = (
                f"{self._where} read {read} tokens of {sent} bytes; give it a longer window (Ollama: "
                "OLLAMA_CONTEXT_LENGTH, num_ctx), or lower RECAP_MAX_PROMPT_TOKENS."
            )
            log.warning("llm.cuts_prompts", reason=reason)
        return True


class ModelDescription(BaseModel):
    """The fields of GET /v1/models/{id} that the job reads."""

    shutdown_date: str | None = None

    @property
    def last_day(self) -> date | None:
        try:
            return date.fromisoformat(self.shutdown_date or "")
        except ValueError:
            return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
