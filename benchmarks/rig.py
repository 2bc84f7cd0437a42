"""Servers, users and one measured process at a time, by the operating system's own accounting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from redis import Redis

from notifications.domain.schedule import latest_slot
from notifications.shards import BASE62
from tests.support.jobs import JOB, KEEP, complete_other_shards, latest_hour
from tests.support.servers import RedisServer, shared_emulator, stop_shared_emulator
from tests.support.worlds import FirestoreWorld, SqliteWorld, talk

# The emulator scans its whole collection once for each zone of a query: a zone without synonyms or neighbours.
LONELY_ZONE = "Australia/Eucla"


@dataclass
class Run:
    """One process: seconds of wall and CPU, peak memory, its last event, the servers' counts."""

    wall: float
    cpu: float
    memory_mb: float
    event: dict[str, Any]
    stats: dict[str, Any]
    first_push: float
    code: int


@dataclass
class Rig:
    """Redis, an LLM and an FCM with these latencies, and one store."""

    folder: Path
    world: FirestoreWorld | SqliteWorld
    redis: RedisServer
    port: int
    settings: dict[str, str] = field(default_factory=dict)

    def env(self, **changes: str) -> dict[str, str]:
        base = {name: value for name, value in os.environ.items() if KEEP.match(name)}
        return base | {
            "PYTHONPATH": str(JOB.parent),
            "REDIS_URL": self.redis.url,
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{self.port}/v1",
            "FCM_BASE_URL": f"http://127.0.0.1:{self.port}",
            "RECAP_LOG_FORMAT": "json",
            "RECAP_DATA_DIR": str(self.folder / "data"),
            **self.world.env(),
            **self.settings,
            **changes,
        }

    def fill(self, users: int, with_content: int = 1, zone: str = LONELY_ZONE) -> None:
        """Due users of one cohort, the only one that is open; one in `with_content` has conversations."""
        now = datetime.now(UTC)
        hour = latest_hour(zone, now)
        at = latest_slot(zone, hour, now).at
        with Redis(port=self.redis.port) as client:
            complete_other_shards(client, {at}, {hour}, int(self.settings.get("RECAP_SHARDS", "1")))
        doc = {"time_zone": zone, "daily_summary_enabled": True, "daily_summary_hour_local": hour}
        if isinstance(self.world, SqliteWorld):
            self.world.db.execute("PRAGMA synchronous = OFF")
        for n in range(users):
            uid = f"{BASE62[n % 62]}{n:07}"  # over all shards
            talks = {f"t{k}": talk(uid, at - timedelta(hours=k + 1)) for k in range(2 if n % with_content == 0 else 0)}
            self.world.put_user(uid, doc, {"d": f"token-{uid}"}, talks)

    def stats(self, reset: bool = True) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.port}/stats{'?reset=1' if reset else ''}"
        with urllib.request.urlopen(address) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def start(self, *command: str, **env: str) -> tuple[subprocess.Popen[bytes], float, Path]:
        said = Path(tempfile.mkstemp(dir=self.folder)[1])
        with said.open("wb") as out:
            process = subprocess.Popen([sys.executable, *command], env=self.env(**env), stdout=out, stderr=out)
        return process, time.time(), said

    def end(self, process: subprocess.Popen[bytes], begun: float, said: Path) -> Run:
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.time() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        events = [json.loads(line) for line in said.read_text().splitlines() if line.startswith("{")]
        stats = self.stats(reset=False)
        return Run(
            wall,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024,
            events[-1] if events else {},
            stats,
            stats["first_push"] - begun if stats["first_push"] else 0.0,
            process.returncode,
        )

    def job(self, **env: str) -> Run:
        """One `python job.py` from a fresh count."""
        self.stats()
        return self.end(*self.start(str(JOB), **env))


@contextmanager
def rig(store: str, llm_seconds: float, fcm_seconds: float = 0.05, **settings: str) -> Iterator[Rig]:
    """A rig of its own, and its end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recap-bench-")))
        world: FirestoreWorld | SqliteWorld
        if store == "firestore":
            host = shared_emulator(folder / "emulator")
            assert host is not None, "needs the Firestore emulator"
            stack.callback(stop_shared_emulator, folder / "emulator")
            os.environ["FIRESTORE_EMULATOR_HOST"] = host
            stack.callback(os.environ.pop, "FIRESTORE_EMULATOR_HOST")
            world = FirestoreWorld(host)
        else:
            world = SqliteWorld(folder / "data")
        stack.callback(world.close)
        redis = RedisServer(folder / "redis")
        stack.callback(redis.kill)
        server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.servers", str(llm_seconds), str(fcm_seconds)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=JOB.parent,
        )
        stack.callback(server.wait)
        stack.callback(server.kill)
        assert server.stdout is not None
        port = int(server.stdout.readline())
        stack.callback(server.stdout.close)
        yield Rig(folder, world, redis, port, settings)
