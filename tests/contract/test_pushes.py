"""FCM over HTTP against a loopback server that checks each message; and the outbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from notifications.adapters.channels.fcm import FcmPush, connect
from notifications.adapters.local.outbox import Outbox
from notifications.domain.errors import DependencyDown
from notifications.domain.model import Device, collapse_id
from notifications.domain.push import TTL, Message, PushAnswer, PushResult, Whose
from notifications.domain.target import Target, device_targets
from notifications.ports import Channel
from notifications.testing import ChannelSuite, MemoryPush, PushTrouble
from tests.support.servers import free_port
from tests.support.web import FakeFCM, Script, fcm_error, project_quota_error

AT = datetime(2026, 5, 1, 20, tzinfo=UTC)
MESSAGE = Message("ann", AT.date(), collapse_id("ann", AT.date()), "🌤️ Head", "Body", "2026-05-01", AT, AT + TTL)
TIMEOUT = timedelta(seconds=5)


def phone(token: str, fid: str = "") -> Target:
    [target] = device_targets("fcm", [Device(token, "d0", fid=fid)])
    return target


PHONE, BOTH, FID_ALONE = phone("token-1"), phone("token-1", "fid-1"), phone("", "fid-2")


def nothing() -> None:
    """Nobody asks when it leaves."""


def answers(
    status: int = 0, code: str = "", *, fid: Callable[[], web.Response] | None = None, wait: str = ""
) -> Script:
    """FCM's error for whatever is asked; `fid` answers for an installation's id. Without either all is accepted."""

    async def script(token: str) -> web.Response | None:
        if fid is not None and token == "fid-1":
            return fid()
        headers = {"Retry-After": wait} if wait else {}
        return fcm_error(status, code, **headers) if status else None

    return script


@pytest.fixture
async def push(fcm: FakeFCM) -> AsyncIterator[FcmPush]:
    made = await connect(fcm.url, "project-1", 4)
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    ("answer", "result", "code"),
    [
        (lambda: fcm_error(404, "UNREGISTERED"), PushResult.GONE, "UNREGISTERED"),
        (lambda: fcm_error(400, "INVALID_ARGUMENT"), PushResult.REFUSED, "INVALID_ARGUMENT"),
        (lambda: fcm_error(503, "UNAVAILABLE"), PushResult.BUSY, "UNAVAILABLE"),
        (lambda: web.Response(status=502, text="<html>"), PushResult.UNKNOWN, "502"),
        (lambda: web.json_response({"error": {"status": "NOT_FOUND"}}, status=404), PushResult.BUSY, "NOT_FOUND"),
        (lambda: web.json_response({"error": {"code": 500, "status": "INTERNAL"}}), PushResult.UNKNOWN, "INTERNAL"),
        (lambda: web.json_response({"name": ""}), PushResult.UNKNOWN, "200"),
        (lambda: web.json_response(["odd"], status=500), PushResult.BUSY, "500"),
    ],
)
async def test_each_answer_over_the_wire(
    fcm: FakeFCM, push: FcmPush, answer: type[web.Response], result: PushResult, code: str
) -> None:
    async def script(token: str) -> web.Response:
        return answer()

    fcm.script = script
    said = await push.send(PHONE, MESSAGE, TIMEOUT, nothing)
    assert (said.result, said.code) == (result, code)


async def test_a_quota_answer_carries_its_wait(fcm: FakeFCM, push: FcmPush) -> None:
    fcm.script = answers(429, "QUOTA_EXCEEDED", wait="7")
    said = await push.send(PHONE, MESSAGE, TIMEOUT, nothing)
    assert (said.retry_after, said.quota, said.whose) == (timedelta(seconds=7), True, Whose.UNSAID)


async def project_over_quota(token: str) -> web.Response:
    return project_quota_error()


async def redirected(token: str) -> web.Response:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})


async def cut_off(token: str) -> web.Response:
    raise ConnectionResetError


invalid, busy = answers(400, "INVALID_ARGUMENT"), answers(503, "UNAVAILABLE")
unregistered = answers(404, "UNREGISTERED")


def fid_gone() -> web.Response:
    return fcm_error(404, "UNREGISTERED")


def fid_invalid() -> web.Response:
    return fcm_error(400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("script", "result", "sentence"),
    [
        (None, PushResult.ACCEPTED, ""),
        (project_over_quota, PushResult.BUSY, "says that the quota is used up (RATE_LIMIT_EXCEEDED)"),
        (redirected, PushResult.BUSY, "(FCM_BASE_URL): REDIRECT_302; check the address and its proxies."),
        (
            answers(403, "SERVICE_DISABLED"),
            PushResult.BUSY,
            "says that the API fcm.googleapis.com is disabled; enable it.",
        ),
        (invalid, PushResult.REFUSED, "takes no message of ours (INVALID_ARGUMENT)."),
        (busy, PushResult.BUSY, "(FCM_BASE_URL) is overloaded or down (UNAVAILABLE); wait, and check"),
        (cut_off, PushResult.UNKNOWN, "does not answer (ServerDisconnectedError)"),
    ],
)
async def test_a_probe_reaches_nobody_and_is_judged_by_the_same_table(
    fcm: FakeFCM, push: FcmPush, script: Any, result: PushResult, sentence: str
) -> None:
    fcm.script = script
    assert (await push.probe()).result is result
    said = await push.check()
    assert sentence in said if sentence else said == ""
    assert (fcm.probes, fcm.messages, dict(fcm.asked)) == (2, [], {})


async def test_a_cut_connection_may_have_been_accepted_and_a_refused_one_was_not(fcm: FakeFCM, push: FcmPush) -> None:
    async def cut(token: str) -> None:
        raise ConnectionResetError

    fcm.after = cut
    assert (await push.send(PHONE, MESSAGE, TIMEOUT, nothing)).result is PushResult.UNKNOWN
    assert fcm.accepted["token-1"] == 1
    nowhere = await connect(f"http://127.0.0.1:{free_port()}", "project-1", 1)
    assert (await nowhere.send(PHONE, MESSAGE, TIMEOUT, nothing)).result is PushResult.UNSENT
    await nowhere.aclose()


async def test_the_outbox_holds_one_json_line_a_push_and_no_token(tmp_path: Path) -> None:
    shown: list[str] = []
    outbox = Outbox(tmp_path / "outbox.jsonl", lambda message, device: shown.append(device))
    for token in ("token-1", "token-2"):
        assert (await outbox.send(phone(token), MESSAGE, TIMEOUT, nothing)).result is PushResult.ACCEPTED
    text = (tmp_path / "outbox.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["device"] for line in lines] == shown
    assert lines[0]["title"] == "🌤️ Head"
    assert "token-1" not in text


async def test_a_full_disk_is_named() -> None:
    outbox = Outbox(Path("/dev/full"), lambda message, device: None)
    with pytest.raises(DependencyDown, match="/dev/full can't be written"):
        await outbox.send(PHONE, MESSAGE, TIMEOUT, nothing)


class Tokens:
    """One token that is refused, and then none for a long time."""

    async def token(self, refused: str | None = None) -> str:
        if refused:
            await asyncio.sleep(60)
        return "ended"


async def test_a_definite_refusal_is_no_unknown_answer_however_long_a_new_token_takes(fcm: FakeFCM) -> None:
    fcm.script = answers(401, "UNAUTHENTICATED")
    push = await connect(fcm.url, "project-1", 1)
    push._tokens = Tokens()  # type: ignore[assignment]
    answer = await push.send(PHONE, MESSAGE, timedelta(seconds=1), nothing)
    assert (answer.result, fcm.asked["token-1"]) == (PushResult.UNSENT, 1)
    await push.aclose()


@pytest.mark.parametrize(
    ("script", "result", "asked", "shown"),
    [
        (None, PushResult.ACCEPTED, ["fid-1"], ["fid-1"]),
        (answers(fid=fid_gone), PushResult.ACCEPTED, ["fid-1", "token-1"], ["token-1"]),
        (answers(fid=fid_invalid), PushResult.ACCEPTED, ["fid-1", "token-1"], ["token-1"]),
        (unregistered, PushResult.GONE, ["fid-1", "token-1"], []),
        (answers(404, "UNREGISTERED", fid=fid_invalid), PushResult.REFUSED, ["fid-1", "token-1"], []),
        (answers(403, "SENDER_ID_MISMATCH", fid=fid_gone), PushResult.REFUSED, ["fid-1", "token-1"], []),
        (answers(fid=lambda: fcm_error(429, "QUOTA_EXCEEDED")), PushResult.BUSY, ["fid-1"], []),
        (busy, PushResult.BUSY, ["fid-1"], []),
        (cut_off, PushResult.UNKNOWN, ["fid-1"], []),
    ],
)
async def test_one_installation_gets_one_push_by_its_fid_else_by_its_token(
    fcm: FakeFCM, push: FcmPush, script: Any, result: PushResult, asked: list[str], shown: list[str]
) -> None:
    fcm.script = script
    assert (await push.send(BOTH, MESSAGE, TIMEOUT, nothing)).result is result
    assert (list(fcm.asked), list(fcm.phones)) == (asked, shown)
    targets = [{name: sent[name] for name in ("fid", "token") if name in sent} for sent in fcm.messages]
    assert targets == [{("fid" if name == "fid-1" else "token"): name} for name in shown]


async def test_a_device_with_a_fid_alone_is_sent_it_as_fid(fcm: FakeFCM, push: FcmPush) -> None:
    assert (await push.send(FID_ALONE, MESSAGE, TIMEOUT, nothing)).result is PushResult.ACCEPTED
    [sent] = fcm.messages
    assert (sent["fid"], "token" in sent) == ("fid-2", False)
    fcm.script = unregistered
    assert (await push.send(FID_ALONE, MESSAGE, TIMEOUT, nothing)).result is PushResult.GONE


async def test_a_token_that_gets_no_answer_after_its_fid_was_refused_is_unknown(fcm: FakeFCM, push: FcmPush) -> None:
    async def script(token: str) -> web.Response | None:
        if token == "fid-1":
            return fcm_error(404, "UNREGISTERED")
        raise ConnectionResetError

    fcm.script = script
    left: list[int] = []
    answer = await push.send(BOTH, MESSAGE, TIMEOUT, lambda: left.append(1))
    assert (answer.result, len(left)) == (PushResult.UNKNOWN, 2)


ANSWERS: dict[PushTrouble, Callable[[], web.Response]] = {
    PushTrouble.GONE: lambda: fcm_error(404, "UNREGISTERED"),
    PushTrouble.BUSY: lambda: fcm_error(503, "UNAVAILABLE"),
    PushTrouble.REFUSES_US: lambda: fcm_error(403, "SERVICE_DISABLED"),
}


class TestFcmPush(ChannelSuite):
    fcm: FakeFCM

    @pytest.fixture(autouse=True)
    def _served(self, fcm: FakeFCM) -> None:
        self.fcm = fcm

    @asynccontextmanager
    async def make(self) -> AsyncIterator[Channel]:
        push = await connect(self.fcm.url, "project-1", 4)
        yield push
        await push.aclose()

    def shown(self) -> list[str]:
        return list(self.fcm.phones["token-1"].visible.values()) if "token-1" in self.fcm.phones else []

    def cause(self, trouble: PushTrouble) -> None:
        if trouble is PushTrouble.SLOW:
            self.fcm.latency = 30
        elif trouble is PushTrouble.DOWN:
            self.fcm.stop()
        else:
            self.fcm.script = cut_off if trouble is PushTrouble.CUT else self._answer(ANSWERS[trouble])

    def _answer(self, answer: Callable[[], web.Response]) -> Script:
        async def script(token: str) -> web.Response:
            return answer()

        return script


class TestOutbox(ChannelSuite):
    @pytest.fixture(autouse=True)
    def _in(self, tmp_path: Path) -> None:
        self.path = tmp_path / "outbox.jsonl"

    @asynccontextmanager
    async def make(self) -> AsyncIterator[Channel]:
        yield Outbox(self.path, lambda message, device: None)

    def shown(self) -> list[str]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return list({line["collapse_id"]: line["body"] for line in map(json.loads, lines)}.values())


SAYS = {
    PushTrouble.GONE: PushAnswer(PushResult.GONE),
    PushTrouble.BUSY: PushAnswer(PushResult.BUSY),
    PushTrouble.CUT: PushAnswer(PushResult.UNKNOWN),
}


class TestMemoryPush(ChannelSuite):
    @asynccontextmanager
    async def make(self) -> AsyncIterator[Channel]:
        self.made = MemoryPush()
        yield self.made

    def shown(self) -> list[str]:
        return list({message.collapse_id: message.body for message in self.made.got.get("token-1", [])}.values())

    def cause(self, trouble: PushTrouble) -> None:
        if trouble not in SAYS:
            super().cause(trouble)
        self.made.script = lambda token: SAYS[trouble]
