"""TCP proxies that see each message between the job and its servers."""

from __future__ import annotations

import asyncio

from google.cloud.firestore_v1 import types
from google.protobuf.message import DecodeError

from tests.faults.director import Director
from tests.support.servers import ThreadedServer

PREFACE = 24  # bytes that open an HTTP/2 connection
DATA, HEADERS, END_STREAM = 0, 1, 0x1
COMMIT, CONVERSATIONS = "firestore commit", "firestore conversations"
CLOCK = "the clock of firestore"  # no message of a page or a ledger
CLOCK_MARK = b"recap_clock"
CONVERSATIONS_MARK = b"conversations"  # what only these messages name


class Proxy(ThreadedServer):
    """A TCP proxy that reports the client's messages to the director."""

    def __init__(self, name: str, port: int, director: Director) -> None:
        self.name, self.target, self.director = name, port, director
        self.links: set[asyncio.StreamWriter] = set()
        super().__init__()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, downstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self.links |= {writer, downstream}
        waiting: dict[int, int] = {}  # the index of the message that each stream waits for
        pumps = [
            asyncio.ensure_future(self.pump_client(reader, downstream, waiting)),
            asyncio.ensure_future(self.pump_server(upstream, writer, waiting)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.transport.abort()
            downstream.transport.abort()

    async def pump_client(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, waiting: dict[int, int]
    ) -> None:
        """Redis: at concurrency 1 each chunk is one message, and the next chunk back its answer."""
        while data := await source.read(65536):
            waiting[0] = await self.director.message(self.name)
            sink.write(data)

    async def pump_server(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, waiting: dict[int, int]
    ) -> None:
        while data := await source.read(65536):
            if 0 in waiting:
                await self.director.answer(waiting.pop(0))
            sink.write(data)

    def cut_all(self) -> None:
        """Abort every connection, as a server that dies does."""
        for link in self.links:
            self.loop.call_soon_threadsafe(link.transport.abort)


class Http2Proxy(Proxy):
    """Firestore: a message is a DATA frame of the client; its answer the first one back, or a refusal's HEADERS.

    `transactions` are those that the server began: what a stopped run leaves open is rolled back.
    """

    def __init__(self, name: str, port: int, director: Director) -> None:
        self.transactions: set[bytes] = set()
        self._beginning: set[int] = set()  # streams of requests that name no document: a transaction's beginning or end
        super().__init__(name, port, director)

    async def pump_client(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, waiting: dict[int, int]
    ) -> None:
        sink.write(await source.readexactly(PREFACE))
        while True:
            kind, stream, frame = await _frame(source)
            if kind == DATA and len(frame) > 9:
                waiting[stream] = await self.director.message(self._name_of(frame[9:]))
                if b"/documents" not in frame:
                    self._beginning.add(stream)
            sink.write(frame)

    async def pump_server(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, waiting: dict[int, int]
    ) -> None:
        while True:
            kind, stream, frame = await _frame(source)
            if kind == DATA and stream in self._beginning and (transaction := _begun(frame[9:])):
                self.transactions.add(transaction)
            ends = kind == HEADERS and frame[4] & END_STREAM
            if (kind == DATA or ends) and stream in waiting:
                await self.director.answer(waiting.pop(stream))
            sink.write(frame)

    def _name_of(self, data: bytes) -> str:
        if _writes_a_ledger(data):
            return COMMIT
        if CLOCK_MARK in data:
            return CLOCK
        return CONVERSATIONS if CONVERSATIONS_MARK in data else self.name


async def _frame(source: asyncio.StreamReader) -> tuple[int, int, bytes]:
    head = await source.readexactly(9)
    length, kind, stream = int.from_bytes(head[:3]), head[3], int.from_bytes(head[5:9]) & 0x7FFFFFFF
    return kind, stream, head + await source.readexactly(length)


def _message(data: bytes) -> bytes:
    """The first gRPC message: 5 bytes of prefix, then the message."""
    return data[5 : 5 + int.from_bytes(data[1:5])]


def _begun(data: bytes) -> bytes:
    """The transaction that the server began, where that is what it answers."""
    try:
        return bytes(types.BeginTransactionResponse.pb().FromString(_message(data)).transaction)
    except DecodeError:
        return b""


def _writes_a_ledger(data: bytes) -> bool:
    try:
        writes = types.CommitRequest.pb().FromString(_message(data)).writes
    except DecodeError:
        return False
    return any("/recap_deliveries/" in write.update.name for write in writes)
