"""Loopback fakes of the LLM and of FCM. They check what they are sent, count, and obey a script."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from notifications.testing.answers import JSON, MARKER, SECOND_MARKER, answer_to
from notifications.testing.answers import recap_answer as recap_answer

WHO = re.compile(r"who=(\S+)")
TAKES = ("tenth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
PATH = re.compile(r"^/v1/projects/[\w-]+/messages:send$")
MAX_MESSAGE = 4096
MAX_TAG = 64

ASKED: ContextVar[dict[str, Any]] = ContextVar("asked")  # the body that a script answers; others may come meanwhile

# A script may answer, do something and return None to go on, or raise ConnectionResetError to cut.
Script = Callable[[str], Awaitable[web.Response | None]]


def scripted(answer: Callable[[str], web.Response | None]) -> Script:
    """A script that decides without waiting; None: answer as usual."""

    async def script(who: str) -> web.Response | None:
        return answer(who)

    return script


class LoopbackServer:
    """An aiohttp server in a thread of its own, so that synchronous tests can use it too. `tls` makes it https."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.loop = asyncio.new_event_loop()
        self.busy = 0  # requests that it has not dealt with to the end, whether or not their sender still waits
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._open())
        self._started.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self._runner.cleanup())
        left = asyncio.all_tasks(self.loop)  # answers that are still slow
        for task in left:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    async def _open(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._guarded)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _guarded(self, request: web.Request) -> web.StreamResponse:
        self.busy += 1
        try:
            return await self.answer(request)
        except ConnectionResetError:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()  # to nobody
        finally:
            self.busy -= 1

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def stop(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(10)


def completion(
    content: str | None,
    finish: str = "stop",
    refusal: str | None = None,
    usage: dict[str, Any] | None = None,
    **more: str,
) -> web.Response:
    """A chat completion."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return web.json_response(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "fake-model",
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
            "usage": usage or {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        }
        | more
    )


def llm_error(status: int, code: str, **headers: str) -> web.Response:
    """An error as OpenAI writes it."""
    error = {"error": {"message": "no", "type": code, "code": code, "param": None}}
    return web.json_response(error, status=status, headers=headers)


def asked_for(body: JSON) -> str:
    """The name of the question, in whatever form it was asked."""
    form = body.get("response_format", {}).get("json_schema", {}).get("name")
    said = body["messages"][0]["content"]
    return form or ("daily_notes" if "25 facts" in said else "second_look" if '"verdicts"' in said else "daily_recap")


class FakeLLM(LoopbackServer):
    """Counts calls per user: the notes of a test user say `who=UID`. Second looks are counted and scripted apart."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.looks: Counter[str] = Counter()
        self.look_script: Script | None = None
        self.prompts: list[str] | None = None  # a test that wants to read them gives a list
        self.rooms: list[int] = []  # what each answer may take, in tokens
        self.bodies: list[dict[str, Any]] = []
        self.tokens = 0
        self.price = (1.0, 4.0)  # USD for a million tokens, in and out; half for flex
        self.billed = 0.0  # USD
        self.paid: list[str] = []  # the notes of each answer that was billed, but for their marker
        self.needs_room = True  # by its newer name
        self.needs_system = True  # instructions of their own
        self.script: Script | None = None
        self.latency = 0.0
        self.at_once = 0
        self.most_at_once = 0
        self.described: list[str] = []  # models that were asked about
        self.description: object = None  # of the model, where the server has one
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return self._described(request.path)
        body = await request.json()
        if wrong := _wrong_completion_request(request.path, body, self.needs_room, self.needs_system):
            return llm_error(400, wrong)
        who = (WHO.search(body["messages"][-1]["content"]) or ["", "nobody"])[1]
        name = asked_for(body)
        looks = name == "second_look"
        (self.looks if looks else self.calls)[who] += 1
        self.bodies.append(body)
        ASKED.set(body)
        self.rooms.append(body.get("max_completion_tokens", 0))
        if self.prompts is not None:
            self.prompts.append(body["messages"][-1]["content"])
        number = self.calls[who]
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            script = self.look_script if looks else self.script
            scripted = await script(who) if script else None
        finally:
            self.at_once -= 1
        if scripted:
            return scripted
        notes = body["messages"][-1]["content"]
        take = f"{who}, {TAKES[number % len(TAKES)]} take"
        return self._billed(body, json.dumps(answer_to(name, notes, take), ensure_ascii=False))

    def _described(self, path: str) -> web.Response:
        """What GET /v1/models/{id} answers; most servers know no such address."""
        self.described.append(path.removeprefix("/v1/models/"))
        return llm_error(404, "not_found") if self.description is None else web.json_response(self.description)

    def _billed(self, body: dict[str, Any], answer: str) -> web.Response:
        """As a provider counts: three bytes a token."""
        tier = body.get("service_tier", "default")
        tokens_in = sum(len(message["content"].encode()) for message in body["messages"]) // 3
        tokens_out = len(answer.encode()) // 3
        self.tokens += tokens_in + tokens_out
        share = 0.5 if tier == "flex" else 1.0
        self.billed += share * (tokens_in * self.price[0] + tokens_out * self.price[1]) / 1_000_000
        notes = body["messages"][-1]["content"]
        for mark in filter(None, (MARKER.search(notes), SECOND_MARKER.search(notes))):
            notes = notes.replace(mark[1], "")
        self.paid.append(notes)
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        return completion(answer, usage=usage, service_tier=tier)


def _wrong_completion_request(path: str, body: dict[str, Any], needs_room: bool, needs_system: bool) -> str | None:
    if path != "/v1/chat/completions":
        return "unknown_url"
    form = body.get("response_format", {}).get("json_schema")
    if form and (form.get("strict") is not True or form.get("schema", {}).get("additionalProperties") is not False):
        return "schema_not_strict"
    if body.get("store") or not body.get("model") or (needs_room and "max_completion_tokens" not in body):
        return "bad_parameters"
    roles = [message["role"] for message in body.get("messages", [])]
    if roles != ["system", "user"] and (needs_system or roles != ["user"]):
        return "bad_messages"
    return None


@dataclass
class Phone:
    """What one device shows: the same tag replaces."""

    visible: dict[str, str] = field(default_factory=dict)
    bodies: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


RPC = "type.googleapis.com/google.rpc"


def fcm_error(status: int, code: str, *more: dict[str, Any], **headers: str) -> web.Response:
    """An error as FCM writes it; `more` are further details."""
    kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
    details = [{"@type": kind, "errorCode": code}, *more]
    error = {"code": status, "status": code, "message": "no", "details": details}
    return web.json_response({"error": error}, status=status, headers=headers)


def google_error(
    status: int, kind: str, reason: str = "", headers: dict[str, str] | None = None, **metadata: str
) -> web.Response:
    """An error as the frontend of any Google API writes it, before FCM has seen the request."""
    info = {"@type": f"{RPC}.ErrorInfo", "reason": reason, "domain": "googleapis.com", "metadata": metadata}
    error = {"code": status, "status": kind, "message": "no", "details": [info] if reason else []}
    return web.json_response({"error": error}, status=status, headers=headers)


def project_quota_error(**headers: str) -> web.Response:
    """The project's pushes of this minute are used up."""
    metric = {"quota_metric": "fcm.googleapis.com/send_requests", "quota_unit": "1/min/{project}"}
    return google_error(429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED", headers, **metric)


class FakeFCM(LoopbackServer):
    """Checks each message as FCM would, and delivers it to a simulated phone."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.phones: dict[str, Phone] = {}
        self.messages: list[dict[str, Any]] = []
        self.bearers: list[str] = []
        self.probes = 0  # messages that are only checked
        self.script: Script | None = None
        self.after: Script | None = None
        self.latency = 0.0
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        message = body.get("message", {})
        if body.get("validate_only"):
            return await self._only_check(request, message)
        token = message.get("token") or message.get("fid", "")
        self.asked[token] += 1
        self.bearers.append(request.headers.get("Authorization", ""))
        if _wrong_message(request.path, raw, message):
            return fcm_error(400, "INVALID_ARGUMENT")
        if self.latency:
            await asyncio.sleep(self.latency)
        if self.script and (scripted := await self.script(token)):
            return scripted
        self._deliver(token, message)
        if self.after and (scripted := await self.after(token)):
            return scripted
        return web.json_response({"name": f"{request.path}/{len(self.messages)}"})

    async def _only_check(self, request: web.Request, message: dict[str, Any]) -> web.Response:
        """Reaches nobody. A script sees the topic in place of a token."""
        self.probes += 1
        self.bearers.append(request.headers.get("Authorization", ""))
        if not PATH.match(request.path) or not message.get("topic"):
            return fcm_error(400, "INVALID_ARGUMENT")
        if self.script and (scripted := await self.script(f"/topics/{message['topic']}")):
            return scripted
        return web.json_response({"name": f"{request.path}/fake_message_id"})

    def _deliver(self, token: str, message: dict[str, Any]) -> None:
        self.accepted[token] += 1
        self.messages.append(message)
        phone = self.phones.setdefault(token, Phone())
        tag = message["android"]["notification"]["tag"]
        phone.visible[tag] = message["notification"]["body"]
        phone.bodies.append(message["notification"]["body"])
        phone.tags.append(tag)


def _wrong_message(path: str, raw: bytes, message: dict[str, Any]) -> bool:
    tags = {
        message.get("android", {}).get("notification", {}).get("tag"),
        message.get("apns", {}).get("headers", {}).get("apns-collapse-id"),
        message.get("webpush", {}).get("notification", {}).get("tag"),
    }
    tag = next(iter(tags))
    return (
        not PATH.match(path)
        or len(raw) > MAX_MESSAGE
        or bool(message.get("token")) is bool(message.get("fid"))  # one target
        or len(tags) != 1
        or not tag
        or len(tag.encode()) > MAX_TAG
        or not message.get("notification", {}).get("body")
        or not all(isinstance(value, str) for value in message.get("data", {}).values())
        or message.get("android", {}).get("ttl") != "72000s"
    )


class Elsewhere(LoopbackServer):
    """Another origin: whatever is sent here should not have been."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.got.append(await request.read())
        return web.json_response({"name": "projects/other/messages/1", "choices": []})
