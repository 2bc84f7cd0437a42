"""Real `job.py` processes over one set of servers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from notifications.domain import claim
from notifications.domain.schedule import Slot, cohorts_between, latest_slot, tzdata_version
from tests.support.layouts import DEFAULT, Shape
from tests.support.preloaded import PreloadedJob
from tests.support.servers import RedisServer
from tests.support.web import FakeFCM, FakeLLM
from tests.support.worlds import Doc, World, talk

JOB = Path(__file__).parents[2] / "job.py"
KEEP = re.compile(r"^(PATH|HOME|LANG|LC_.*|TMPDIR|JAVA_HOME)$")

Job = subprocess.Popen[str] | PreloadedJob
on_sqlite = pytest.mark.parametrize("world", ["sqlite"], indirect=True)  # where the store makes no difference
on_firestore = pytest.mark.parametrize("world", ["firestore"], indirect=True)


def one_sentence(text: str) -> str:
    """What a person reads: the one line of stderr that is no log event."""
    [line] = [line for line in text.splitlines() if not line.startswith("{")]
    return line


def bare(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The job in that folder, with nothing set but this."""
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | env
    process = PreloadedJob([*arguments], environ, folder)
    out, err = process.communicate(timeout=110)
    assert process.returncode is not None
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@dataclass
class Finished:
    """One process that ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it logged."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    def event(self, name: str) -> dict[str, Any]:
        """The one event of that name."""
        [found] = [event for event in self.events if event["event"] == name]
        return found

    @property
    def accounts(self) -> dict[str, Any]:
        """What `audit --json` told: the sums, with the uids of each kind."""
        *rows, told = [json.loads(line) for line in self.out.splitlines()]
        uids: dict[str, list[str]] = {}
        for row in rows:
            for kind in row["kinds"]:
                uids.setdefault(kind, []).append(row["uid"])
        assert {kind: len(found) for kind, found in uids.items()} == told["counts"]
        return {**told, "uids": uids}

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]


@dataclass
class Stage:
    """The servers, the users on them, and the processes of one test."""

    world: World
    redis: RedisServer
    llm: FakeLLM
    fcm: FakeFCM
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    running: list[Job] = field(default_factory=list)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    preloaded: bool = True  # fork a process that has imported everything; False: `python job.py`

    def env(self, **changes: str) -> dict[str, str]:
        base = {name: value for name, value in os.environ.items() if KEEP.match(name)}
        return base | {
            "REDIS_URL": self.redis.url,
            "OPENAI_API_KEY": "test-key",
            "OPENAI_BASE_URL": f"{self.llm.url}/v1",
            "FCM_BASE_URL": self.fcm.url,
            "RECAP_LOG_FORMAT": "json",
            "RECAP_DATA_DIR": str(self.folder / "data"),
            "RECAP_START_GAP_SECONDS": "0.001",
            **self.world.env(),
            **self.settings,
            **changes,
        }

    def start(self, *arguments: str, **env: str) -> Job:
        process = (
            PreloadedJob([*arguments], self.env(**env), self.folder) if self.preloaded else self._start(arguments, env)
        )
        self.running.append(process)
        return process

    def start_without_a_terminal(self) -> Job:
        """Nothing that this job prints or logs can be written."""
        process = PreloadedJob([], self.env(), self.folder, broken=True)
        self.running.append(process)
        return process

    def _start(self, arguments: tuple[str, ...], env: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(JOB), *arguments],
            env=self.env(**env),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: Job, seconds: float = 60) -> Finished:
        out, err = process.communicate(timeout=seconds)
        self.running.remove(process)
        assert process.returncode is not None
        return Finished(process.returncode, out, err)

    def run(self, *arguments: str, **env: str) -> Finished:
        return self.end(self.start(*arguments, **env))

    def stop_all(self) -> None:
        for process in self.running:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate()

    @property
    def shape(self) -> Shape:
        """How the app's documents lie."""
        shape: Shape = getattr(self.world, "shape", DEFAULT)
        return shape

    def add_user(
        self, uid: str, *, zone: str = "UTC", devices: int = 1, talks: dict[str, Doc] | None = None, **changes: Any
    ) -> Slot:
        """A user who is due now: their hour is the last one that began in their zone."""
        hour = latest_hour(zone, self.now)
        doc: Doc = {"time_zone": zone, "daily_summary_enabled": True, "daily_summary_hour_local": hour} | changes
        slot = latest_slot(zone, hour, self.now)
        if talks is None:
            talks = {"t1": talk(uid, slot.at - timedelta(hours=3)), "t2": talk(uid, slot.at - timedelta(hours=1))}
        self.world.put_user(uid, doc, {f"d{n}": f"token-{uid}-{n}" for n in range(devices)}, talks)
        return slot

    def nothing_is_due(self) -> None:
        """Every shard counts as served, those of the next minutes too."""
        with Redis(port=self.redis.port) as client:
            complete_other_shards(client, self.world.environment, set(), set())

    def record(self, uid: str, slot: Slot) -> claim.Record:
        """The user's claim record."""
        from redis import Redis

        with Redis(port=self.redis.port) as client:
            value = client.get(claim.user_key(uid, slot.recap_date))
        return claim.parse(value)


def complete_other_shards(
    client: Redis, environment: str, slots: set[datetime], hours: set[int], shards: int = 1
) -> None:
    """Every due shard but those of these cohorts counts as served: a run reads nothing but what is asked about."""
    now = datetime.now(UTC)
    for cohort in cohorts_between(now - timedelta(hours=3), now + timedelta(minutes=10)):
        if cohort.slot in slots and cohort.hour in hours:
            continue
        for index in range(shards):
            key = claim.shard_key(cohort.slot, cohort.hour, tzdata_version(), environment, index, shards)
            client.set(key, '{"s":"complete","t":""}', px=3 * 3_600_000)


def latest_hour(zone: str, now: datetime) -> int:
    """The hour whose slot came last in that zone."""
    return max(range(24), key=lambda hour: latest_slot(zone, hour, now).at)
