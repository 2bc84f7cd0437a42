"""Servers, users and one measured process at a time, by the operating system's own accounting."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from redis import Redis

from notifications.domain.schedule import Slot, latest_slot
from notifications.domain.shards import BASE62
from notifications.domain.told_once import told_hash
from tests.support.jobs import JOB, KEEP, complete_other_shards, latest_hour
from tests.support.servers import RedisServer, shared_emulator, stop_shared_emulator
from tests.support.worlds import FirestoreWorld, SqliteWorld, talk

# The emulator scans its whole collection once for each zone of a query: a zone without synonyms or neighbours.
LONELY_ZONE = "Australia/Eucla"
EMULATOR = "FIRESTORE_EMULATOR_HOST"


def uid_of(n: int) -> str:
    """Evenly over all shards."""
    return f"{BASE62[n % 62]}{n:07}"


Started = tuple[subprocess.Popen[bytes], float, Path]  # a process, when it began, and what it said


def seconds_of(code: str) -> float:
    """How long a Python process takes that runs this."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun


@dataclass
class Run:
    """One process: seconds of wall and CPU, peak memory, its last event, the servers' counts."""

    wall: float
    cpu: float
    memory_mb: float
    event: dict[str, Any]
    stats: dict[str, Any]
    first_call: float
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

    def fill(
        self,
        users: int,
        with_content: int = 1,
        *,
        first: int = 0,
        talks: int = 2,
        devices: int = 1,
        history: bool = False,
    ) -> Slot:
        """Due users of one cohort, the only one that is open; one in `with_content` has conversations.

        `history`: as users have them that are served for a week, with as many conversations each day.
        """
        now = datetime.now(UTC)
        hour = latest_hour(LONELY_ZONE, now)
        slot = latest_slot(LONELY_ZONE, hour, now)
        with Redis(port=self.redis.port) as client:
            complete_other_shards(
                client, self.world.environment, {slot.at}, {hour}, int(self.settings.get("RECAP_SHARDS", "1"))
            )
        doc = {"time_zone": LONELY_ZONE, "daily_summary_enabled": True, "daily_summary_hour_local": hour}
        if isinstance(self.world, SqliteWorld):
            self.world.db.execute("PRAGMA synchronous = OFF")
        for n in range(first, first + users):
            uid = uid_of(n)
            told = range(talks if n % with_content == 0 else 0)
            said = {f"t{k}": talk(uid, slot.at - timedelta(hours=k + 1)) for k in told}
            before = {f"y{k}": talk(uid, slot.back(1) - timedelta(hours=k + 1)) for k in told} if history else {}
            self.world.put_user(uid, doc, {f"d{k}": f"token-{uid}-{k}" for k in range(devices)}, said | before)
            for back in range(1, 8) if history else ():
                self._put_ended(uid, slot, back, "".join(told_hash(uid, key) for key in before))
        return slot

    def _put_ended(self, uid: str, slot: Slot, back: int, told: str) -> None:
        """The ledger of so many days ago."""
        day = (slot.recap_date - timedelta(days=back)).isoformat()
        window = {"window_start": slot.back(back + 1), "window_end": slot.back(back)}
        state = "sent" if told else "skipped"
        self.world.put_ledger(uid, day, {"date": day, "state": state, "seq": 1, "told": told} | window)

    def fill_delivered(self, users: int) -> Slot:
        """A cohort whose day has ended: each user with a ledger and a summary."""
        slot = self.fill(users, talks=0)
        day = slot.recap_date.isoformat()
        for n in range(users):
            self.world.put_summary(uid_of(n), day, {"id": day, "date": day, "created_at": slot.at, "headline": "A day"})
            self.world.put_ledger(uid_of(n), day, {"date": day, "state": "sent", "seq": 1, "tries": 1})
        return slot

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """An empty store (on the emulator another project), and an empty Redis before and after."""
        self.redis.ask("FLUSHALL")
        measured = self.world
        if isinstance(measured, FirestoreWorld):
            self.world = FirestoreWorld(measured.host)
        else:
            self.world = SqliteWorld(Path(tempfile.mkdtemp(dir=self.folder)))
        yield
        self.world.close()
        self.world = measured
        self.redis.ask("FLUSHALL")

    def end_hour(self) -> None:
        """As if every hour of the last day had been served."""
        shards = int(self.settings.get("RECAP_SHARDS", "1"))
        with Redis(port=self.redis.port) as client:
            complete_other_shards(client, self.world.environment, set(), set(), shards)

    def stats(self, reset: bool = True) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.port}/stats{'?reset=1' if reset else ''}"
        with urllib.request.urlopen(address) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def start(self, *command: str, **env: str) -> Started:
        said = Path(tempfile.mkstemp(dir=self.folder)[1])
        with said.open("wb") as out:
            process = subprocess.Popen([sys.executable, *command], env=self.env(**env), stdout=out, stderr=out)
        return process, time.time(), said

    def end(self, process: subprocess.Popen[bytes], begun: float, said: Path) -> Run:
        peak, (ended, status, usage) = 0.0, os.wait4(process.pid, os.WNOHANG)
        while not ended:  # the peak that wait4 tells is at least the parent's: the child begins as a copy of it
            peak = max(peak, _peak_mb(process.pid))
            time.sleep(0.005)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        wall = time.time() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        events = [json.loads(line) for line in said.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
        stats = self.stats(reset=False)
        return Run(
            wall,
            usage.ru_utime + usage.ru_stime,
            peak,
            events[-1] if events else {},
            stats,
            stats["first_call"] - begun if stats["first_call"] else 0.0,
            process.returncode,
        )

    def job(self, **env: str) -> Run:
        """One `python job.py` from a fresh count."""
        self.stats()
        return self.end(*self.start(str(JOB), **env))


def _peak_mb(pid: int) -> float:
    """The most memory that the process has held so far, in MB."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def _emulator() -> str:
    """The one that is named in the environment; else one for every case, started and warmed for the first of them."""
    if host := os.environ.get(EMULATOR):
        return host
    folder = Path(tempfile.mkdtemp(prefix="recap-emulator-"))
    own = shared_emulator(folder)
    assert own is not None, "needs the Firestore emulator"
    atexit.register(stop_shared_emulator, folder)
    os.environ[EMULATOR] = own
    _warm_up()
    return own


def _warm_up(rounds: int = 4, users: int = 500) -> None:
    """A cold emulator compiles itself meanwhile: its CPU per user halves after the first round."""
    with rig("firestore", 0.0, 0.0, RECAP_CONCURRENCY="50") as one:
        for _ in range(rounds):
            with one.emptied():
                one.fill(users)
                served = one.job().stats["users"]
                assert served == users, served


@contextmanager
def rig(
    store: str,
    llm_seconds: float | tuple[float, float],
    fcm_seconds: float = 0.05,
    *,
    servers: str = "servers",
    **settings: str,
) -> Iterator[Rig]:
    """A rig of its own, and its end. `llm_seconds`: for each call, or for the recap and for the second look at it."""
    latencies = *(llm_seconds if isinstance(llm_seconds, tuple) else (llm_seconds, llm_seconds)), fcm_seconds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recap-bench-")))
        world = FirestoreWorld(_emulator()) if store == "firestore" else SqliteWorld(folder / "data")
        stack.callback(world.close)
        redis = RedisServer(folder / "redis")
        stack.callback(redis.kill)
        server = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{servers}", *map(str, latencies)],
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
