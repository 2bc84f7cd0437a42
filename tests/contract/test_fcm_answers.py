"""What each of FCM's answers means, and how a push looks on the wire."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifications.adapters.channels.fcm import (
    NO_PROJECT,
    QUOTA_WAIT,
    FcmError,
    body_of,
    interpret_error,
    payload,
    read_answer,
)
from notifications.domain.model import collapse_id
from notifications.domain.push import ACCEPTED, TTL, Message, PushAnswer, PushResult, Whose

MINUTE = timedelta(minutes=1)
RPC = "type.googleapis.com/google.rpc"
OWN = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
QUOTA = PushAnswer(PushResult.BUSY, "QUOTA_EXCEEDED", QUOTA_WAIT, quota=True, whose=Whose.UNSAID)
REFUSED = PushAnswer(PushResult.BUSY, config=True, whose=Whose.UNSAID)
KEY = "refuses our credentials ({}); check the service account of the job".format
BOTH = (
    "refuses us ({}); the API fcm.googleapis.com must be enabled, and the account have cloudmessaging.messages.create"
)


@pytest.mark.parametrize(
    ("status", "code", "asked", "answer"),
    [
        (200, "", None, PushAnswer(PushResult.UNKNOWN, "200", foreign=True)),  # any server can say 200
        (302, "", None, PushAnswer(PushResult.BUSY, "REDIRECT_302", foreign=True)),
        (404, "UNREGISTERED", None, PushAnswer(PushResult.GONE, "UNREGISTERED")),
        (400, "UNREGISTERED", None, PushAnswer(PushResult.REFUSED, "UNREGISTERED")),  # only a 404 says that it is gone
        (404, "NOT_FOUND", None, replace(REFUSED, code="NOT_FOUND", says=NO_PROJECT)),  # the project, or this device
        (400, "INVALID_ARGUMENT", None, PushAnswer(PushResult.REFUSED, "INVALID_ARGUMENT")),
        (403, "SENDER_ID_MISMATCH", None, PushAnswer(PushResult.REFUSED, "SENDER_ID_MISMATCH")),
        (403, "DENIED", None, replace(REFUSED, code="DENIED", says=BOTH.format("DENIED"))),
        (403, "", None, replace(REFUSED, code="403", says=BOTH.format("403"))),
        (401, "THIRD_PARTY_AUTH_ERROR", None, PushAnswer(PushResult.REFUSED, "THIRD_PARTY_AUTH_ERROR")),
        (401, "UNAUTHENTICATED", None, replace(REFUSED, code="UNAUTHENTICATED", says=KEY("UNAUTHENTICATED"))),
        # a code counts with its own status alone
        (401, "SENDER_ID_MISMATCH", None, replace(REFUSED, code="SENDER_ID_MISMATCH", says=KEY("SENDER_ID_MISMATCH"))),
        (429, "QUOTA_EXCEEDED", None, QUOTA),
        (429, "QUOTA_EXCEEDED", 5 * MINUTE, replace(QUOTA, retry_after=5 * MINUTE)),
        (503, "UNAVAILABLE", MINUTE, PushAnswer(PushResult.BUSY, "UNAVAILABLE", MINUTE, retry_now=True)),
        (500, "INTERNAL", None, PushAnswer(PushResult.BUSY, "INTERNAL", retry_now=True)),
        (502, "", None, PushAnswer(PushResult.UNKNOWN, "502")),
    ],
)  # fmt: skip
def test_each_answer_of_fcm(status: int, code: str, asked: timedelta | None, answer: PushAnswer) -> None:
    assert interpret_error(status, FcmError(code), asked) == answer


def told(status: int, *details: Any, **error: Any) -> PushAnswer:
    said = {"error": {"code": status, "status": "SOME_STATUS", "details": list(details), **error}}
    return read_answer(status, json.dumps(said).encode(), {})


def info(reason: str, **metadata: Any) -> dict[str, Any]:
    return {"@type": f"{RPC}.ErrorInfo", "reason": reason, "metadata": metadata}


def violated(subject: Any, description: Any = "") -> dict[str, Any]:
    return {"@type": f"{RPC}.QuotaFailure", "violations": [{"subject": subject, "description": description}]}


@pytest.mark.parametrize(
    ("details", "whose", "code"),
    [
        ([info("RATE_LIMIT_EXCEEDED", quota_unit="1/min/{project}")], Whose.PROJECT, "RATE_LIMIT_EXCEEDED"),
        ([{"@type": OWN, "errorCode": "QUOTA_EXCEEDED"}, info("RATE_LIMIT_EXCEEDED")], Whose.PROJECT, "QUOTA_EXCEEDED"),
        ([{"@type": OWN, "errorCode": "QUOTA_EXCEEDED"}, violated("project:12")], Whose.PROJECT, "QUOTA_EXCEEDED"),
        ([{"@type": OWN, "errorCode": "QUOTA_EXCEEDED"}, violated("device:ab")], Whose.DEVICE, "QUOTA_EXCEEDED"),
        ([violated("x", "Device message rate exceeded")], Whose.DEVICE, "SOME_STATUS"),
        ([{"@type": OWN, "errorCode": "DEVICE_MESSAGE_RATE_EXCEEDED"}], Whose.DEVICE, "DEVICE_MESSAGE_RATE_EXCEEDED"),
        ([{"@type": OWN, "errorCode": "QUOTA_EXCEEDED"}, violated("x")], Whose.UNSAID, "QUOTA_EXCEEDED"),
        ([{"@type": OWN, "errorCode": "QUOTA_EXCEEDED"}, info("QUOTA_EXCEEDED")], Whose.UNSAID, "QUOTA_EXCEEDED"),
        ([violated(None, [7]), {"@type": f"{RPC}.QuotaFailure", "violations": ["x"]}], Whose.UNSAID, "SOME_STATUS"),
        ([{"@type": f"{RPC}.QuotaFailure", "violations": {"subject": "device"}}, 7, None], Whose.UNSAID, "SOME_STATUS"),
        ([], Whose.UNSAID, "SOME_STATUS"),
    ],
)  # fmt: skip
def test_whose_quota_is_used_up_is_told_by_the_details(details: list[Any], whose: Whose, code: str) -> None:
    answer = told(429, *details)
    assert (answer.quota, answer.whose, answer.code, answer.retry_after) == (True, whose, code, QUOTA_WAIT)
    assert answer.must_pause is (whose is Whose.PROJECT)


@pytest.mark.parametrize(
    ("details", "whose", "says"),
    [
        ([info("SERVICE_DISABLED", service="fcm.example")], Whose.PROJECT, "the API fcm.example is disabled"),
        ([info("SERVICE_DISABLED", service="an <odd> one")], Whose.PROJECT, "the API fcm.googleapis.com is disabled"),
        ([{"@type": OWN, "errorCode": "SERVICE_DISABLED"}], Whose.PROJECT, "the API fcm.googleapis.com is disabled"),
        ([info("IAM_PERMISSION_DENIED", permission="a.b.c")], Whose.PROJECT, "the account lacks a.b.c"),
        ([info("IAM_PERMISSION_DENIED")], Whose.PROJECT, "the account lacks cloudmessaging.messages.create"),
        ([{**info("IAM_PERMISSION_DENIED"), "metadata": 7}], Whose.PROJECT, "lacks cloudmessaging.messages.create"),
        ([info("BILLING_DISABLED")], Whose.PROJECT, "refuses us (BILLING_DISABLED)"),
        ([], Whose.UNSAID, "refuses us (SOME_STATUS)"),
    ],
)
def test_a_refusal_names_the_api_or_the_permission(details: list[Any], whose: Whose, says: str) -> None:
    answer = told(403, *details)
    assert (answer.result, answer.config, answer.whose) == (PushResult.BUSY, True, whose)
    assert says in answer.says


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"name": ""}, "200"),
        ({"name": "  "}, "200"),
        ({"name": 7}, "200"),
        ({"name": None}, "200"),
        ({"name": ["projects/p/messages/1"]}, "200"),
        ({}, "200"),
        ([{"name": "projects/p/messages/1"}], "200"),
        ({"name": "projects/p/messages/1", "error": {"code": 500, "status": "INTERNAL"}}, "INTERNAL"),
        ({"error": {"code": 404, "status": "NOT_FOUND", "details": [{"errorCode": "UNREGISTERED"}]}}, "UNREGISTERED"),
        ({"error": {"code": 400, "status": "INVALID_ARGUMENT"}}, "INVALID_ARGUMENT"),
        ({"error": "odd"}, "200"),
    ],
)
def test_a_200_without_a_name_or_with_an_error_is_not_fcms(said: Any, code: str) -> None:
    assert read_answer(200, json.dumps(said).encode(), {}) == PushAnswer(PushResult.UNKNOWN, code, foreign=True)


@pytest.mark.parametrize("more", [{}, {"error": None}, {"error": {}}])
def test_a_200_with_a_name_is_accepted(more: dict[str, Any]) -> None:
    assert read_answer(200, json.dumps({"name": "projects/p/messages/1"} | more).encode(), {}) == ACCEPTED


def test_only_a_200_accepts() -> None:
    said = json.dumps({"name": "projects/p/messages/1"}).encode()
    assert [read_answer(status, said, {}).result for status in (201, 202, 204)] == [PushResult.UNKNOWN] * 3


def test_the_wire_form_for_every_platform() -> None:
    at = datetime(2026, 5, 1, 20, tzinfo=UTC)
    tag = collapse_id("u" * 1500, at.date())
    message = Message("u", at.date(), tag, "🌤️ Head", "Body", "2026-05-01", at, at + TTL)
    sent = payload(("token", "t"), message)
    assert sent["data"] == {
        "type": "day_summary",
        "notification_type": "daily_summary",
        "navigate_to": "/daily-summary/2026-05-01",
        "id": "2026-05-01",
        "created_at": "2026-05-01T20:00:00+00:00",
        "text": "Body",
        "sender": "ai",
        "from_integration": "false",
    }
    assert sent["notification"] == {"title": "🌤️ Head", "body": "Body"}
    assert sent["android"]["notification"]["tag"] == tag
    assert sent["apns"]["headers"]["apns-collapse-id"] == tag
    assert sent["webpush"]["notification"] == {"title": "🌤️ Head", "body": "Body", "tag": tag}
    assert len(tag.encode()) == 32
    assert sent["android"]["ttl"] == "72000s"
    assert sent["webpush"]["headers"]["TTL"] == "72000"
    assert sent["apns"]["headers"]["apns-expiration"] == str(int(at.timestamp()) + 72000)


@pytest.mark.parametrize("silent", [False, True])
def test_a_silent_push_rings_on_no_platform(silent: bool) -> None:
    at = datetime(2026, 5, 1, 20, tzinfo=UTC)
    sent = payload(("token", "t"), Message("u", at.date(), "tag", "Head", "Body", "id", at, at + TTL, silent=silent))
    rings = (
        sent["android"]["priority"],
        sent["android"]["notification"],
        sent["apns"]["headers"]["apns-priority"],
        sent["apns"]["payload"]["aps"],
        sent["webpush"]["headers"]["Urgency"],
        sent["webpush"]["notification"].get("silent"),
    )
    if silent:
        low = {"tag": "tag", "notification_priority": "PRIORITY_LOW"}
        assert rings == ("NORMAL", low, "5", {"interruption-level": "passive"}, "low", True)
    else:
        assert rings == ("HIGH", {"tag": "tag"}, "10", {"sound": "default"}, "high", None)
    assert (sent["android"]["ttl"], sent["webpush"]["headers"]["TTL"]) == ("72000s", "72000")


# What one letter takes in JSON: a quote two bytes, what is escaped by its number six.
@pytest.mark.parametrize("letter", ["x", '"', "\\", "\u0001", "\u6f22", "\U00020000"])
@pytest.mark.parametrize("length", [150, 5_000])
def test_no_message_is_heavier_than_fcm_takes(letter: str, length: int) -> None:
    """Also one of an old ledger, which may hold longer texts than are made today."""
    at = datetime(2026, 5, 1, 20, tzinfo=UTC)
    message = Message("u", at.date(), "t" * 32, letter * length, letter * length, "i" * 64, at, at + TTL, silent=True)
    assert len(body_of(("token", "t" * 200), message)) <= 4_096
