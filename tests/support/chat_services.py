"""Telegram's Bot API and an ntfy server, as far as a recap needs them: what they take, and how they refuse."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from aiohttp import web

from tests.support.web import LoopbackServer

MAX_TEXT = 4_096  # Telegram: UTF-16 units; ntfy: bytes


class FakeTelegram(LoopbackServer):
    """`floods`: so many requests are refused first, as too many."""

    def __init__(self) -> None:
        self.token, self.chat = "123456:AAH-secret", "-1001"
        self.messages: list[str] = []
        self.asked = self.floods = 0
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if request.path.lower() != f"/bot{self.token.lower()}/sendmessage":
            return _telegram_error(401, "Unauthorized")
        body = await request.json()
        if self.floods:
            self.floods -= 1
            return _telegram_error(429, "Too Many Requests: retry after 7", parameters={"retry_after": 7})
        if str(body["chat_id"]) != self.chat:
            return _telegram_error(400, "Bad Request: chat not found")
        if not body["text"].strip():
            return _telegram_error(400, "Bad Request: message text is empty")
        if len(body["text"].encode("utf-16-le")) // 2 > MAX_TEXT:
            return _telegram_error(400, "Bad Request: message is too long")
        self.messages.append(body["text"])
        result = {"message_id": len(self.messages), "date": 1, "chat": {"id": self.chat}, "text": body["text"]}
        return web.json_response({"ok": True, "result": result})


def _telegram_error(status: int, description: str, **more: Any) -> web.Response:
    said = {"ok": False, "error_code": status, "description": description} | more
    wait = {"Retry-After": str(more["parameters"]["retry_after"])} if "parameters" in more else {}
    return web.json_response(said, status=status, headers=wait)


class FakeNtfy(LoopbackServer):
    """`status` refuses everything; `token` is asked for if it is set. `topics` holds each topic's sequences."""

    def __init__(self) -> None:
        self.token = ""
        self.status = 200
        self.cuts = False
        self.seconds = 0.0
        self.topics: dict[str, dict[str, str]] = {}
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self.seconds)
        if self.cuts:
            raise ConnectionResetError
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _ntfy_error(40101, "unauthorized")
        if self.status != 200:
            return _ntfy_error(self.status * 100 + 1, "limit reached: too many requests, please be nice")
        if request.method == "GET":
            return web.json_response({"username": "*", "role": "anonymous"})
        body = await request.json()
        if request.path != "/" or not re.fullmatch(r"[-_A-Za-z0-9]{1,64}", body.get("topic", "")):
            return _ntfy_error(40009, "invalid request: topic invalid")
        if len(body["message"].encode()) > MAX_TEXT:
            return _ntfy_error(40014, "invalid request: attachments not allowed")
        shown = "\n".join((body["title"], body["message"]))
        self.topics.setdefault(body["topic"], {})[body["sequence_id"]] = shown
        return web.json_response({"id": "sPs71M8A2T", "time": 1, "event": "message", "topic": body["topic"]})


def _ntfy_error(code: int, sentence: str) -> web.Response:
    return web.json_response({"code": code, "http": code // 100, "error": sentence}, status=code // 100)
