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
from tests.support.rows import rows

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


@pytest.mark.parametrize(("status", "body", "what"), rows("refusals", "not_taken"))
def test_what_a_server_does_not_take_is_found_in_any_shape(status: int, body: object, what: str) -> None:
    data = body.get("error", body) if isinstance(body, dict) else body
    assert learnt(refusal(data, status)) == what


@pytest.mark.parametrize(("status", "message", "reason"), rows("refusals", "items_own"))
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


@pytest.mark.parametrize(("status", "body", "quoted"), rows("refusals", "quoted"))
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
