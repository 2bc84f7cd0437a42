"""Loopback servers that answer as other vendors' do: what each refuses, in its own words, and how its answers look.

The bodies are of the vendors' own documentation, of the open servers' source, and of public reports that quote them;
docs/servers.md says what the job does about each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from notifications.testing.answers import answer_to, recap_answer
from tests.support.web import TAKES, WHO, LoopbackServer, asked_for

JSON = dict[str, Any]
COMMON = frozenset({"model", "messages", "response_format", "temperature", "top_p", "stop", "stream", "n"})
BLOCKED = "blocked"  # the user whose notes the vendor's filter stops


def answer(content: Any, tokens_in: Any, tokens_out: Any, **more: Any) -> web.Response:
    """A chat completion as most write it."""
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return web.json_response(body | more)


def refused(status: int, body: Any, **headers: str) -> web.Response:
    return web.json_response(body, status=status, headers=headers)


def google(message: str, *, status: int = 400, violations: Sequence[JSON] = ()) -> web.Response:
    """An error as Google writes it behind its OpenAI-compatible endpoint: in a list."""
    error: JSON = {"code": status, "message": message, "status": "INVALID_ARGUMENT"}
    if violations:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}]
    return refused(status, [{"error": error}])


def flat(message: Any, kind: str, code: Any = None) -> JSON:
    """Without `error`, as Mistral and older vLLMs write it."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def nested(message: str, kind: str | None = "invalid_request_error", **more: Any) -> JSON:
    return {"error": {"message": message, "type": kind, "param": None, "code": None} | more}


def gemini_unknown(names: list[str], body: JSON) -> web.Response:
    told = [f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.' for name in names]
    return google("\n".join(told), violations=[{"description": one} for one in told])


def mistral_unknown(names: list[str], body: JSON) -> web.Response:
    told = [
        {"type": "extra_forbidden", "loc": ["body", one], "msg": "Extra inputs are not permitted", "input": body[one]}
        for one in names
    ]
    return refused(422, flat({"detail": told}, "invalid_request_error"))


def groq_unknown(names: list[str], body: JSON) -> web.Response:
    return refused(400, nested(f"property '{names[0]}' is unsupported, did you mean 'stop'?"))


def azure_unknown(names: list[str], body: JSON) -> web.Response:
    return refused(400, nested(f"Unrecognized request argument supplied: {names[0]}"))


@dataclass(frozen=True)
class Vendor:
    """One of them. `most`: tokens of a prompt at most; `takes`: None means that a field too much is ignored."""

    name: str
    most: int
    too_long: Callable[[int, int], web.Response] | None
    takes: frozenset[str] | None = None
    unknown: Callable[[list[str], JSON], web.Response] = groq_unknown
    schema: Callable[[], web.Response] | None = None  # what it says to a schema
    any_form: Callable[[], web.Response] | None = None  # to JSON without one
    system: Callable[[], web.Response] | None = None  # to a system message
    effort: Callable[[], web.Response] | None = None  # to reasoning_effort
    blocked: Callable[[JSON], web.Response] | None = None
    busy: Callable[[], web.Response] | None = None  # its answer to the very first question
    write: Callable[[str, int, int], web.Response] = answer
    settings: dict[str, str] = field(default_factory=dict)
    # What one run finds out about it.
    takes_no: tuple[str, ...] = ()
    form: str | None = None
    refusals: int = 0  # of the first user's question, before it is answered
    halvings: int = 0  # calls of the long day that were too long
    why_blocked: str = ""


def groq_too_long(tokens: int, most: int) -> web.Response:
    message = (
        "Request too large for model `m` in organization `org_01kgg5588eftc8k70aes4864eb` service tier `on_demand` on "
        f"tokens per minute (TPM): Limit {most}, Requested {tokens}, please reduce your message size and try again."
    )
    return refused(413, nested(message, "tokens", code="rate_limit_exceeded"))


def llama_too_long(tokens: int, most: int) -> web.Response:
    message = f"request ({tokens} tokens) exceeds the available context size ({most} tokens), try increasing it"
    told = {"code": 400, "message": message, "type": "exceed_context_size_error"}
    return refused(400, {"error": told | {"n_prompt_tokens": tokens, "n_ctx": most}})


def vllm_too_long(tokens: int, most: int) -> web.Response:
    message = (
        f"This model's maximum context length is {most} tokens. However, you requested {tokens} tokens "
        f"({tokens} in the messages, 2000 in the completion). Please reduce the length of the messages or completion."
    )
    return refused(400, flat(message, "BadRequestError", 400))


def mistral_too_long(tokens: int, most: int) -> web.Response:
    message = (
        f"Prompt contains {tokens} tokens and 0 draft tokens, too large for model with {most} maximum context length"
    )
    return refused(400, flat(message, "invalid_request_prompt", "3051"))


def openrouter_too_long(tokens: int, most: int) -> web.Response:
    message = (
        f"This endpoint's maximum context length is {most} tokens. However, you requested about {tokens} tokens. "
        "Please reduce the length of either one, or use the context-compression plugin."
    )
    return refused(400, {"error": {"message": message, "code": 400, "metadata": {"provider_name": None}}})


def azure_too_long(tokens: int, most: int) -> web.Response:
    message = f"This model's maximum context length is {most} tokens. However, your messages resulted in {tokens}."
    return refused(400, nested(message, param="messages", code="context_length_exceeded"))


def openrouter_blocked(body: JSON) -> web.Response:
    notes = body["messages"][-1]["content"]
    message = 'm requires moderation on OpenAI. Your input was flagged for "violence". No credits were charged.'
    told = {"reasons": ["violence"], "flagged_input": notes[-100:], "provider_name": "OpenAI"}
    return refused(403, {"error": {"code": 403, "message": message, "metadata": told}})


def azure_blocked(body: JSON) -> web.Response:
    message = (
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
        "Please modify your prompt and retry."
    )
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True}}}
    told = nested(message, None, param="prompt", code="content_filter", status=400, innererror=inner)
    return refused(400, told)


def nothing_chosen(body: JSON) -> web.Response:
    """Google's answer to a prompt that its filter stops: no error, and no choice."""
    usage = {"prompt_tokens": 300, "completion_tokens": 0, "total_tokens": 300}
    return web.json_response({"object": "chat.completion", "model": "m", "choices": [], "usage": usage})


def magistral(content: str, tokens_in: int, tokens_out: int) -> web.Response:
    """What was thought, then what is said, as parts."""
    draft = json.dumps(recap_answer("a draft"))
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": f"A draft would be {draft}"}]}
    return answer([thought, {"type": "text", "text": content}], tokens_in, tokens_out)


def thinking_aloud(content: str, tokens_in: int, tokens_out: int) -> web.Response:
    """As vLLM without a parser for what the model thinks."""
    draft = json.dumps(recap_answer("a draft") | {"facts": []})
    return answer(f"<think>\nPerhaps {draft}\n</think>\n\n{content}", tokens_in, tokens_out)


def in_a_fence(content: str, tokens_in: int, tokens_out: int) -> web.Response:
    return answer(f" Here it is:\n```json\n{content}\n```", tokens_in, tokens_out, timings={"cache_n": 0})


def filtered(content: str, tokens_in: int, tokens_out: int) -> web.Response:
    safe = {"hate": {"filtered": False, "severity": "safe"}}
    return answer(content, tokens_in, tokens_out, prompt_filter_results=[{"content_filter_results": safe}])


def in_fractions(content: str, tokens_in: int, tokens_out: int) -> web.Response:
    """A router that reckons one vendor's tokens in another's."""
    usage = {"prompt_tokens": tokens_in + 0.5, "completion_tokens": str(tokens_out), "total_tokens": -1, "cost": 0.01}
    return answer(content, tokens_in, tokens_out, usage=usage, service_tier=None, provider="P")


def upstream_busy() -> web.Response:
    raw = json.dumps({"error": {"message": "temporarily rate-limited upstream", "type": "rate_limit"}})
    told = {"raw": raw, "provider_name": "P"}
    error = {"message": "Provider returned error", "code": 429, "metadata": told}
    return web.json_response({"error": error, "user_id": "user_1"})


def azure_busy() -> web.Response:
    message = "Requests to the ChatCompletions_Create Operation have exceeded the call rate limit."
    return refused(429, nested(message, None, code="429"), **{"retry-after-ms": "40", "Retry-After": "60"})


VENDORS = (
    Vendor(
        "gemini",
        most=2_800,
        takes=COMMON | {"max_tokens", "max_completion_tokens", "reasoning_effort"},
        unknown=gemini_unknown,
        schema=lambda: google("The specified schema produces a constraint that has too many states for serving."),
        too_long=lambda tokens, most: google(
            f"The input token count ({tokens}) exceeds the maximum number of tokens allowed ({most})."
        ),
        blocked=nothing_chosen,
        settings={"OPENAI_SERVICE_TIER": "flex"},
        takes_no=("service_tier, store, prompt_cache_options",),
        form="json_object",
        refusals=2,
        halvings=1,
        why_blocked="content_policy",
    ),
    Vendor(
        "mistral",
        most=2_800,
        takes=COMMON | {"max_tokens", "random_seed", "safe_prompt"},
        unknown=mistral_unknown,
        too_long=mistral_too_long,
        write=magistral,
        takes_no=("reasoning_effort, store, prompt_cache_options, max_completion_tokens",),
        refusals=1,
        halvings=1,
    ),
    Vendor(
        "vllm",
        most=2_800,
        schema=lambda: refused(
            400,
            flat(
                "The provided JSON schema contains features not supported by xgrammar.",
                "BadRequestError",
                400,
            ),
        ),
        any_form=lambda: refused(400, flat("Failed to convert the grammar from GBNF", "BadRequestError", 400)),
        system=lambda: refused(400, flat("System role not supported", "BadRequestError", 400)),
        too_long=vllm_too_long,
        write=thinking_aloud,
        takes_no=("system role",),
        form="plain",
        refusals=3,
        halvings=1,
    ),
    Vendor(
        "llama.cpp",
        most=2_800,
        schema=lambda: refused(
            400,
            {
                "error": {
                    "code": 400,
                    "message": "Failed to initialize samplers: failed to parse grammar",
                    "type": "invalid_request_error",
                }
            },
        ),
        too_long=llama_too_long,
        write=in_a_fence,
        form="json_object",
        refusals=1,
        halvings=1,
    ),
    Vendor(
        "ollama",
        most=3_000,  # tokens of its window: of a longer prompt it keeps what fills half of it, and says nothing
        too_long=None,
        effort=lambda: refused(400, nested('"llama3.2" does not support thinking')),
        settings={"RECAP_MAX_PROMPT_TOKENS": "15000"},
        takes_no=("reasoning_effort",),
        refusals=1,
        halvings=3,  # the day, then both halves: the window is found out by the first
    ),
    Vendor(
        "groq",
        most=2_800,
        takes=COMMON | {"max_completion_tokens", "service_tier", "reasoning_effort"},
        schema=lambda: refused(
            400,
            nested(
                "This model does not support response format `json_schema`. See supported models at "
                "https://console.groq.com/docs/structured-outputs#supported-models",
                param="response_format",
            ),
        ),
        effort=lambda: refused(400, nested("`reasoning_effort` must be one of `none` or `default`")),
        too_long=groq_too_long,
        takes_no=("prompt_cache_options", "store", "reasoning_effort"),
        form="json_object",
        refusals=4,
        halvings=1,
    ),
    Vendor(
        "openrouter",
        most=2_800,
        too_long=openrouter_too_long,
        blocked=openrouter_blocked,
        busy=upstream_busy,
        write=in_fractions,
        refusals=1,
        halvings=1,
        why_blocked="content_policy",
    ),
    Vendor(
        "azure",
        most=2_800,
        takes=COMMON | {"max_tokens"},
        unknown=azure_unknown,
        schema=lambda: refused(
            400,
            nested(
                "response_format value as json_schema is enabled only for api versions 2024-08-01-preview and later",
                None,
                code="BadRequest",
            ),
        ),
        too_long=azure_too_long,
        blocked=azure_blocked,
        busy=azure_busy,
        write=filtered,
        takes_no=("max_completion_tokens", "prompt_cache_options", "reasoning_effort", "store"),
        form="json_object",
        refusals=6,  # busy, four fields, the form
        halvings=1,
        why_blocked="content_policy",
    ),
)


class VendorLLM(LoopbackServer):
    """One such server. Four bytes are a token."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.calls: Counter[str] = Counter()
        self.looks: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[JSON] = []
        self.cut = 0  # prompts that it shortened in silence
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/v1/chat/completions":
            return web.Response(text="404 page not found", status=404)
        body = await request.json()
        notes = body["messages"][-1]["content"]
        who = (WHO.search(notes) or ["", "nobody"])[1]
        (self.looks if asked_for(body) == "second_look" else self.calls)[who] += 1
        self.bodies.append(body)
        tokens = sum(len(message["content"].encode()) for message in body["messages"]) // 4
        if no := self._refusal(body, who, tokens):
            return no
        self.answered[who] += 1
        take = f"{who}, {TAKES[self.answered[who] % len(TAKES)]} take"
        content = json.dumps(answer_to(asked_for(body), notes, take))
        told = tokens
        if tokens > self.vendor.most:
            told = self.vendor.most // 2 + 2
            self.cut += 1
        reply = self.vendor.write(content, told, len(content) // 4)
        assert isinstance(reply, web.Response)
        return reply

    def _refusal(self, body: JSON, who: str, tokens: int) -> web.Response | None:
        vendor, form = self.vendor, body.get("response_format", {}).get("type")
        unknown = [name for name in body if vendor.takes is not None and name not in vendor.takes]
        if vendor.busy and self.calls.total() == 1:
            return vendor.busy()
        if unknown:
            return vendor.unknown(unknown, body)
        if vendor.effort and "reasoning_effort" in body:
            return vendor.effort()
        if vendor.system and body["messages"][0]["role"] == "system":
            return vendor.system()
        if vendor.schema and form == "json_schema":
            return vendor.schema()
        if vendor.any_form and form:
            return vendor.any_form()
        if vendor.too_long and tokens > vendor.most:
            return vendor.too_long(tokens, vendor.most)
        return vendor.blocked(body) if vendor.blocked and who == BLOCKED else None
