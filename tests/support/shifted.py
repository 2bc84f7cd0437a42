"""A Redis whose clock is wrong: TIME, and all that the scripts make of it.

A proxy asks the server for the shifted time in place of TIME, and runs each script with its TIME shifted. So leases,
due times and expiries are stored as a server with that clock stores them. Not shifted: when the server itself lets
a key expire.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import BinaryIO

from notifications.adapters.claims.redis import script
from notifications.domain.claim import Verb

ASKED = "redis.call('TIME')"


class ShiftedRedis:
    """Passes commands on to Redis. `shift`: seconds that its clock is ahead; negative: behind."""

    def __init__(self, port: int, shift: float = 0) -> None:
        self.shift = int(shift)
        self._target = port
        self._sources = {sha.encode(): source for source, sha in map(script, Verb)}
        assert all(ASKED in source for source in self._sources.values())
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._connect(self._listener.accept()[0])

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:  # it restarts: who asks is cut off, too
            client.close()
            return
        threading.Thread(target=self._commands, args=(client, server), daemon=True).start()
        threading.Thread(target=self._answers, args=(server, client), daemon=True).start()

    def _commands(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError), client.makefile("rb") as said:
            while words := _command(said):
                server.sendall(_told(self._shifted(words)))

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def _shifted(self, words: list[bytes]) -> list[bytes]:
        if words[0] == b"TIME":
            shifted = f"local t = {ASKED} t[1] = tostring(t[1] + {self.shift}) return t"
            return [b"EVAL", shifted.encode(), b"0"]
        if words[0] == b"EVALSHA" and (source := self._sources.get(words[1])):
            function = f"local function shifted() local t = {ASKED} t[1] = t[1] + {self.shift} return t end\n"
            return [b"EVAL", (function + source.replace(ASKED, "shifted()")).encode(), *words[2:]]
        return words

    def stop(self) -> None:
        self._listener.close()


def _command(said: BinaryIO) -> list[bytes]:
    head = said.readline()
    return [said.read(int(said.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))] if head else []


def _told(words: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
