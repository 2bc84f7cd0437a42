"""Receivers of webhooks, good and hostile, on loopback; and a name server that says what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.google import self_signed
from tests.support.web import LoopbackServer

SECRET = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OTHER_SECRET = "whsec_" + "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
HOST = "hooks.example"


class Receiver(LoopbackServer):
    """Takes what the kept library verifies with its secret, each id once; `status` refuses, `seconds` delays."""

    def __init__(self, secret: str = SECRET, tls: ssl.SSLContext | None = None) -> None:
        self.secret = secret
        self.status, self.seconds, self.cuts = 200, 0.0, False
        self.headers: dict[str, str] = {}
        self.asked = self.at_once = self.most_at_once = 0
        self.events: dict[str, Any] = {}  # by id
        self.raw: list[tuple[dict[str, str], bytes]] = []
        self.urls: list[str] = []
        super().__init__(tls)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._taken(request)
        finally:
            self.at_once -= 1

    async def _taken(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.urls.append(str(request.rel_url if request.path else request.url))
        headers = dict(request.headers)
        await asyncio.sleep(self.seconds)
        if self.cuts:
            raise ConnectionResetError
        try:
            event = Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError:
            return web.Response(status=401)
        if self.status == 200:
            self.raw.append((headers, body))
            self.events[headers["webhook-id"]] = event
        return web.Response(status=self.status, headers=self.headers)


def certificates(folder: Path, name: str = HOST) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the server and for the client, with a certificate that nobody else trusts."""
    key, certificate = self_signed(name)
    (folder / "key.pem").write_bytes(key)
    (folder / "certificate.pem").write_bytes(certificate)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    client.load_verify_locations(folder / "certificate.pem")
    return server, client


class Names(AbstractResolver):
    """Answers each host with its lists of (address, port) in turn; the last of them stays."""

    def __init__(self, **hosts: list[list[tuple[str, int]]]) -> None:
        self.hosts = {name.replace("_", "."): answers for name, answers in hosts.items()}
        self.asked: Counter[str] = Counter()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked[host] += 1
        answers = self.hosts.get(host) or [[]]
        found = answers[min(self.asked[host], len(answers)) - 1]
        if not found:
            raise OSError("no such host")
        kinds = {address: socket.AF_INET6 if ":" in address else socket.AF_INET for address, _ in found}
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kinds[address], proto=6, flags=0)
            for address, port in found
        ]

    async def close(self) -> None:
        pass


LOOPBACK_NAMES = ("localhost", "localtest.me", "app.127.0.0.1.nip.io", "spoofed.example")


class NoNameServer(AbstractResolver):
    """Reads every spelling of an address that the C library reads; asks nobody about a name."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        literal = "127.0.0.1" if host.rstrip(".") in LOOPBACK_NAMES else host
        try:
            infos = socket.getaddrinfo(literal, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except UnicodeError as error:
            raise OSError("no such host") from error
        return [
            ResolveResult(hostname=host, host=address[0], port=address[1], family=kind, proto=protocol, flags=0)  # type: ignore[typeddict-item]
            for kind, _, protocol, _, address in infos
        ]

    async def close(self) -> None:
        pass


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


async def _listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _reads_and_is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(60)


async def _writes_for_ever(writer: asyncio.StreamWriter, first: bytes, again: bytes, pause: float = 0) -> None:
    writer.write(first)
    while True:
        writer.write(again)
        await writer.drain()
        await asyncio.sleep(pause)


def writes(first: bytes, again: bytes = b"", pause: float = 0) -> Behaviour:
    """A server that reads the head of a request and then writes `first`, and `again` for ever."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if again:
            await _writes_for_ever(writer, first, again, pause)
        writer.write(first)
        await writer.drain()
        await asyncio.sleep(60)

    return behave


OK = b"HTTP/1.1 200 OK\r\n"
HOSTILE: dict[str, Behaviour] = {
    "silent after the request": _reads_and_is_silent,
    "half a status": writes(b"HTTP/1.1 20"),
    "headers that drip": writes(OK, b"X", 0.02),
    "endless headers": writes(OK, b"X-More: " + b"x" * 1_000 + b"\r\n"),
    "one endless header": writes(OK + b"X: ", b"x" * 10_000),
    "an endless status": writes(b"HTTP/1.1 200 ", b"x" * 10_000),
    "early hints for ever": writes(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "no HTTP at all": writes(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "an endless body": writes(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n"),
    "a body that drips": writes(OK + b"Content-Length: 9999\r\n\r\n", b"x", 0.02),
    "silent after headers": writes(OK + b"Content-Length: 9999\r\n\r\n"),
    "a bomb": writes(OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\n\x1f\x8b\r\n"),
}


class Counted:
    """A server on loopback that counts who connects to it."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.at_once = self.most_at_once = 0
        self._came = asyncio.Condition()

    async def came(self) -> None:
        self.connections += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        async with self._came:
            self._came.notify_all()

    async def has(self, connections: int) -> None:
        async with self._came:
            await self._came.wait_for(lambda: self.connections >= connections)


@asynccontextmanager
async def counted(
    behave: Behaviour = _listens, *, tls: ssl.SSLContext | None = None, everywhere: bool = False
) -> AsyncIterator[Counted]:
    """Serves in the loop of the test; `everywhere`: on each address of this machine."""
    server = Counted()
    tasks = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        await server.came()
        try:
            await behave(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            server.at_once -= 1
            writer.transport.abort()

    if everywhere and socket.has_dualstack_ipv6():
        listening = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        listening = socket.create_server(("0.0.0.0" if everywhere else "127.0.0.1", 0))  # noqa: S104
    started = await asyncio.start_server(connected, sock=listening, ssl=tls)
    server.port = listening.getsockname()[1]
    try:
        yield server
    finally:
        started.close()
        for task in tasks:
            if task is not None:
                task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
        await asyncio.sleep(0.02)  # its clients close some steps later
