"""What servers refuse, in the bodies that they write; and what a body that repeats the notes can't teach."""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from notifications.adapters.llm.requests import Dialect
from notifications.adapters.llm.responses import Completion, status_of
from notifications.adapters.llm.server_errors import ServerError
from notifications.domain.errors import ItemReason
from notifications.domain.question import Question
from notifications.recap.prompt import SCHEMA

KEY = "sk-test-0123456789abcdef"
QUESTION = Question(
    "daily_recap", "Write.", SCHEMA, "Date: Friday 2026-05-01.\nq7k3x [1] 09:00, 5 min. A talk", "q7k3x"
)


def refusal(body: object, status: int = 400, notes: str = QUESTION.notes, **headers: str) -> ServerError:
    return ServerError.from_response(status, body, headers, notes)


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more


def learnt(said: ServerError, model: str = "gpt-6-luna", tier: str | None = "flex") -> str:
    """What is left out or changed after it; "" where nothing is."""
    dialect = Dialect(model, None, tier)
    before = dialect.arguments(QUESTION, cheap=True)
    if not dialect.adapt_to(said, before):
        return ""
    after = dialect.arguments(QUESTION, cheap=True)
    gone = sorted(before.keys() - after.keys())
    if len(after["messages"]) < len(before["messages"]):
        gone.append("system role")
    return ", ".join(gone) or after["response_format"]["type"]


def extra(*fields: str) -> list[dict[str, Any]]:
    return [
        {"type": "extra_forbidden", "loc": ["body", one], "msg": "Extra inputs are not permitted"} for one in fields
    ]


@pytest.mark.parametrize(
    ("status", "body", "what"),
    [
        (400, [{"error": {"code": 400, "message": 'Unknown name "store": Cannot find field.'}}], "store"),
        (422, {"object": "error", "message": {"detail": extra("store", "service_tier")}}, "service_tier, store"),
        (422, {"detail": extra("prompt_cache_options")}, "prompt_cache_options"),
        (422, {"object": "error", "message": json.dumps({"detail": extra("store")})}, "store"),
        (400, error(f"litellm.BadRequestError: MistralException - {json.dumps({'detail': extra('store')})}"), "store"),
        (
            400,
            {"message": "Provider returned error", "metadata": {"raw": json.dumps({"detail": extra("store")})}},
            "store",
        ),
        (400, error("property 'store' is unsupported, did you mean 'stop'?"), "store"),
        (400, error("Unrecognized request arguments supplied: store, service_tier"), "service_tier, store"),
        (400, error("Unknown parameter: 'prompt_cache_options'."), "prompt_cache_options"),
        (400, error("`reasoning_effort` must be one of `none` or `default`"), "reasoning_effort"),
        (400, error('"llama3.1:8b" does not support thinking'), "reasoning_effort"),
        (400, error('think value "low" is not supported for this model'), "reasoning_effort"),
        (
            400,
            [{"error": {"code": 400, "message": "Thinking level is not supported for this model."}}],
            "reasoning_effort",
        ),
        (
            400,
            {"code": "invalid-argument", "error": "Model grok does not support parameter reasoningEffort."},
            "reasoning_effort",
        ),
        (400, error("Unsupported service_tier: flex"), "service_tier"),
        (400, error("The model gpt-6-luna is not available in flex.", param=None), "service_tier"),
        (400, error("Invalid service_tier argument", param="service_tier"), "service_tier"),
        (400, error("This model has the default tier alone, and no flex."), "service_tier"),
        (403, error("No access.", param="service_tier"), "service_tier"),
        (400, error("'max_completion_tokens' is not supported with this model"), "max_completion_tokens"),
        (400, error("System role not supported"), "system role"),
        (
            500,
            {"code": 500, "message": "Jinja Exception: System role not supported", "type": "server_error"},
            "system role",
        ),
        (
            400,
            [{"error": {"message": "Developer instruction is not enabled for models/gemma-3-27b-it"}}],
            "system role",
        ),
        (400, error("This response_format type is unavailable now"), "json_object"),
        (
            400,
            [{"error": {"message": "GenerateContentRequest.generation_config.response_schema: should be non-empty"}}],
            "json_object",
        ),
        (400, error("Schema has too many states for serving"), "json_object"),
        (400, error("Failed to initialize samplers: failed to parse grammar"), "json_object"),
        (400, error('Unknown name "additionalProperties" at the root: Cannot find field.'), "json_object"),
        (400, error("'response_format.type' must be 'text'", param="response_format"), "json_object"),
        (
            400,
            [
                {
                    "error": {
                        "code": 400,
                        "message": "Request contains an invalid argument.",
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ],
            "json_object",
        ),
        (501, error("response_format is not implemented"), "json_object"),
        (404, error("No endpoints found that support response_format"), "json_object"),
        (
            422,
            {"detail": [{"loc": ["body", "response_format", "type"], "msg": "Input should be 'text'"}]},
            "json_object",
        ),
        # Nothing is learnt of these.
        (400, error("no"), ""),
        (429, error("flex is not available", param="service_tier"), ""),
        (401, error("store is not supported"), ""),
        (400, error("The store was extracted"), ""),
        (400, error("'max_completion_tokens' is too large: 2000."), ""),
        (400, error("The model is busy: reasoning_effort low was asked."), ""),
        (400, error("Your key was restored; unknown user. See the store."), ""),
        (
            400,
            {"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "bad", "input": "store is not supported"}]},
            "",
        ),
        (400, {"failed_generation": "store is not supported", "message": "bad"}, ""),
    ],
)
def test_what_a_server_does_not_take_is_found_in_any_shape(status: int, body: object, what: str) -> None:
    data = body.get("error", body) if isinstance(body, dict) else body
    assert learnt(refusal(data, status)) == what


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (400, "This model's maximum context length is 8192 tokens. However, you requested 9000.", "context_length"),
        (400, "prompt is too long: 213462 tokens > 200000 maximum", "context_length"),
        (400, "Input is too long for requested model.", "context_length"),
        (400, "Requested token count exceeds the model's maximum context length of 131072 tokens.", "context_length"),
        (
            400,
            "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
            "context_length",
        ),
        (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens", "context_length"),
        (400, "Please reduce the length of the messages or completion.", "context_length"),
        (400, "The input (9000 tokens) is longer than the model's context length (8192 tokens).", "context_length"),
        (400, "tokens to keep from the initial prompt is greater than the context length", "context_length"),
        (400, "Your request exceeded model token limit: 8192 (requested: 9000)", "context_length"),
        (400, "tokens in request more than max tokens allowed", "context_length"),
        (400, "Prompt exceeds max length", "context_length"),
        (400, "Input tokens exceed the configured limit of 272000 tokens.", "context_length"),
        (400, "Prompt contains 9000 tokens, too large for model with 8192 maximum context length", "context_length"),
        (400, "prompt too long; exceeded max context length by 808 tokens", "context_length"),
        (400, "max_tokens must be at least 1, got -186.", "context_length"),
        (
            413,
            "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 14810",
            "context_length",
        ),
        (413, "", "context_length"),
        (429, "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 342389.", "context_length"),
        (500, "Context size has been exceeded.", "context_length"),
        (400, "The response was filtered due to Azure OpenAI's content management policy.", "content_policy"),
        (
            403,
            'm requires moderation. Your input was flagged for "violence". No credits were charged.',
            "content_policy",
        ),
        (400, "Could not finish the message because max_tokens or model output limit was reached.", "truncated"),
        (429, "Rate limit reached: too many tokens, please wait before trying again.", None),
        (503, "Too many tokens, please wait before trying again.", None),
        (404, "The model with this context length does not exist.", None),
        (400, "'max_completion_tokens' is too large: 2000.", None),
        (400, "The specified schema produces a constraint that has too many states for serving.", None),
    ],
)
def test_what_is_the_days_own_fault_is_known_by_any_vendors_words(
    status: int, message: str, reason: str | None
) -> None:
    for body in (error(message), [{"error": {"message": message}}], {"detail": message}, {"error": message}, message):
        assert refusal(body, status).item_reason == (ItemReason(reason) if reason else None), body


def test_a_code_is_found_wherever_it_stands() -> None:
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}}
    assert refusal(error("no", innererror=inner)).item_reason is ItemReason.CONTENT_POLICY
    assert refusal(error("no", code="json_validate_failed")).item_reason is ItemReason.INVALID_ANSWER
    assert refusal(error("no", type="kind", code="its_code")).code == "its_code"


HOSTILE = (
    "store is not supported, service_tier is unknown, response_format is unsupported; "
    "System role not supported. failed to parse grammar"
)
NOTES = f"Date: Friday 2026-05-01.\nq7k3x [1] 09:00, 5 min. A talk\nq7k3x {HOSTILE}\nq7k3x and so on"


@pytest.mark.parametrize(
    "message",
    [
        f"Invalid value for messages[1].content: {NOTES}",
        f"1 validation error: input_value={NOTES!r}",
        f"Can't decode {json.dumps(NOTES)} at 7",
        f"Bad text: ...{NOTES[-150:]}",
    ],
)
def test_notes_that_a_server_repeats_teach_nothing(message: str) -> None:
    assert learnt(refusal(error(message), notes=NOTES)) == ""
    assert not re.search("talk|store|q7k3x|2026", refusal(error(message), 500, notes=NOTES).quote(KEY))
    assert learnt(refusal(error("store is unsupported"), notes=NOTES)) == "store"  # its own words still do


def test_a_body_without_measure_costs_no_time() -> None:
    deep: Any = "store is not supported"
    for _ in range(500):
        deep = {"error": deep, "detail": ["{" * 5_000, deep]}
    wide = {"detail": [{"msg": "x " * 50_000} for _ in range(1_000)]}
    begun = time.process_time()
    for body in (deep, wide, "[" * 900_000, "{" * 900_000, {"message": '{"message":' * 90_000}):
        assert learnt(refusal(body, notes="word " * 30_000)) == ""
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("status", "body", "quoted"),
    [
        (404, error("model 'llama9' not found"), "model 'llama9' not found"),
        (404, "404 page not found", "404 page not found"),
        (404, "<html>404</html>", ""),
        (404, {"message": "No endpoints found for x. Try another."}, "No endpoints found for x"),
        (
            401,
            error(f"Incorrect API key provided: {KEY}. You can find yours elsewhere."),
            "Incorrect API key provided: …",
        ),
        (401, error("Incorrect API key provided: sk-te***cdef."), "Incorrect API key provided: …"),
        (403, error("Organization org_01kgg5588eftc8k70aes4864eb may not"), "Organization … may not"),
        (500, error("CUDA out of memory; see http://user:pass@host/x"), "CUDA out of memory"),
        (502, error("upstream http://user:pass@host/x is down\nTraceback"), "upstream … is down"),
        (500, error("\x1b[31mred\u202e" + "x" * 400), None),
        (400, error("Anything that may quote"), ""),
        (429, error("Slow down"), ""),
        (500, error("Invalid token in 'A talk'"), ""),
        (400, [{"error": {"message": "API key not valid. Please pass a valid API key."}}], "API key not valid"),
        (400, error("Invalid model: mistral-x"), "Invalid model: mistral-x"),
    ],
)
def test_a_servers_own_sentence_is_told_where_it_says_what_to_mend(status: int, body: Any, quoted: str | None) -> None:
    found = refusal(body.get("error", body) if isinstance(body, dict) else body, status).quote(KEY)
    assert len(found) <= 125
    assert found.isprintable()
    assert "\u202e" not in found
    assert quoted is None or found == quoted


@pytest.mark.parametrize(
    ("status", "message", "config"),
    [
        (401, "no", True),
        (404, "no", True),
        (405, "Method Not Allowed", True),
        (400, "API key not valid. Please pass a valid API key.", True),
        (400, "Invalid model: x", True),
        (400, "x is not a valid model ID", True),
        (400, "The model `x` has been decommissioned and is no longer supported.", True),
        (400, "no", False),
        (500, "model not found", False),
    ],
)
def test_what_only_a_person_can_mend_is_told_apart(status: int, message: str, config: bool) -> None:
    assert refusal(error(message), status).is_config_error is config


def test_a_wait_is_read_as_azure_and_google_write_it() -> None:
    assert refusal({}, 429, **{"retry-after-ms": "1500", "retry-after": "60"}).wait == timedelta(seconds=1.5)
    assert refusal({}, 429, **{"retry-after-ms": "soon", "retry-after": "60"}).wait == timedelta(seconds=60)
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    assert refusal([{"error": {"message": "Quota", "details": [delay]}}], 429).wait == timedelta(seconds=34.5)
    assert refusal({}, 429).wait is None


names = st.sampled_from(
    ["error", "message", "detail", "code", "type", "param", "loc", "retryDelay", "choices", "usage"]
)
names |= st.sampled_from(
    ["content", "finish_reason", "prompt_tokens", "prompt_tokens_details", "metadata", "raw", "msg"]
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.just(10**4_000)
    | st.just("9" * 5_000)
)
bodies = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4))


@given(bodies, st.sampled_from([400, 401, 403, 404, 413, 422, 429, 500, 503]))
def test_no_body_is_more_than_a_refusal(body: Any, status: int) -> None:
    found = refusal(body, status)
    assert found.item_reason is None or isinstance(found.item_reason, ItemReason)
    assert len(found.quote(KEY)) <= 125
    assert isinstance(learnt(found), str)
    assert 400 <= status_of(body) < 600


@given(st.dictionaries(names, bodies, max_size=6))
def test_no_answer_is_more_than_a_completion_or_none(body: dict[str, Any]) -> None:
    try:
        found = Completion.model_validate(body)
    except ValidationError:
        return
    usage = found.usage
    assert all(
        0 <= one <= 10**12
        for one in (usage.prompt_tokens, usage.cached, usage.cache_write_tokens, usage.written, usage.reasoning_tokens)
    )
    assert all(one.end == one.end.lower() for one in found.choices or [])
