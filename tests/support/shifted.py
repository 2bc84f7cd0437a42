"""A Redis whose clock is wrong: TIME, and all that the scripts make of it.

A proxy asks the server for the shifted time in place of TIME, and runs each script with its TIME shifted. So leases,
due times and expiries are stored as a server with that clock stores them. Not shifted: when the server itself lets
a key expire.
"""

from __future__ import annotations

import asyncio

from notifications.adapters.claims.redis import verb_script
from notifications.domain.claim import Verb
from tests.support.servers import ThreadedServer, pump

ASKED = "redis.call('TIME')"


class ShiftedRedis(ThreadedServer):
    """Passes commands on to Redis. `shift`: seconds that its clock is ahead; negative: behind."""

    def __init__(self, port: int, shift: float = 0) -> None:
        self.shift = int(shift)
        self._target = port
        self._sources = {sha.encode(): source for source, sha in map(verb_script, Verb)}
        assert all(ASKED in source for source in self._sources.values())
        super().__init__()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, downstream = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # it restarts: who asks is cut off, too
            writer.close()
            return
        await asyncio.gather(self._commands(reader, downstream), pump(upstream, writer), return_exceptions=True)

    async def _commands(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while words := await _command(source):
                sink.write(_told(self._shifted(words)))
        finally:
            sink.close()

    def _shifted(self, words: list[bytes]) -> list[bytes]:
        if words[0] == b"TIME":
            shifted = f"local t = {ASKED} t[1] = tostring(t[1] + {self.shift}) return t"
            return [b"EVAL", shifted.encode(), b"0"]
        if words[0] == b"EVALSHA" and (source := self._sources.get(words[1])):
            function = f"local function shifted() local t = {ASKED} t[1] = t[1] + {self.shift} return t end\n"
            return [b"EVAL", (function + source.replace(ASKED, "shifted()")).encode(), *words[2:]]
        return words


async def _command(source: asyncio.StreamReader) -> list[bytes]:
    head = await source.readline()
    return [(await source.readexactly(int((await source.readline())[1:]) + 2))[:-2] for _ in range(int(head[1:] or 0))]


def _told(words: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
