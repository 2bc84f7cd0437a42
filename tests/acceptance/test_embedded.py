"""The embedded profile: a bare folder, real Redis, several processes, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from notifications.adapters.local.embedded_redis import MAX_LOG_BYTES, MAX_SOCKET_PATH, EmbeddedRedis
from notifications.adapters.local.samples import samples
from notifications.adapters.stores.layout import read_layout
from notifications.domain.schedule import latest_slot
from tests.support.jobs import JOB, KEEP
from tests.support.servers import wait_for

Job = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **env: str) -> subprocess.Popen[str]:
        bare = {name: value for name, value in os.environ.items() if KEEP.match(name)}
        process = subprocess.Popen(
            [sys.executable, str(JOB), *arguments],
            cwd=tmp_path,
            env={**bare, "RECAP_LOG_FORMAT": "json", "RECAP_START_GAP_SECONDS": "0.001", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out


def servers(folder: Path) -> list[int]:
    """Servers of that folder that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"valkey-server" in (entry / "cmdline").read_bytes():
                found += [int(entry.name)] if (entry / "cwd").resolve() == folder.resolve() else []
        except OSError:
            continue
    return found


def outbox(folder: Path) -> list[tuple[str, str]]:
    path = folder / ".recap" / "outbox.jsonl"
    return [(line["uid"], line["device"]) for line in map(json.loads, path.read_text().splitlines())]


def test_the_first_run_makes_recaps_and_the_second_none(job: Job, tmp_path: Path) -> None:
    first = finish(job())
    assert (first.count("\n"), " sent" in first) == (1, True)  # nobody watches: one line, and the outbox
    pushed = outbox(tmp_path)
    assert len(pushed) == len(set(pushed)) > 0
    assert "nothing to do; no day is open" in finish(job())
    assert outbox(tmp_path) == pushed
    assert servers(tmp_path / ".recap") == []


@pytest.mark.parametrize("hour", range(0, 24, 12))
def test_some_are_due_at_whatever_hour_it_is(job: Job, tmp_path: Path, hour: int) -> None:
    now = datetime(2026, 7, 4, hour, 17, tzinfo=UTC)
    expected = []
    for uid, user, devices, talks in samples(read_layout(None), now):
        slot = latest_slot(user["time_zone"], user["daily_summary_hour_local"], now)
        recent = [talk for talk in talks.values() if slot.back(1) <= talk["created_at"] < slot.at]
        if user["daily_summary_enabled"] and recent and now < slot.at + timedelta(hours=2):
            expected += [uid] * len(devices)
    finish(job("--now", now.isoformat()))
    assert len(expected) > 1
    assert sorted(uid for uid, _ in outbox(tmp_path)) == sorted(expected)


def test_twenty_at_once_share_one_server_and_push_once(job: Job, tmp_path: Path) -> None:
    for process in [job() for _ in range(20)]:
        finish(process)
    pushed = outbox(tmp_path)
    assert len(pushed) == len(set(pushed)) > 0
    assert servers(tmp_path / ".recap") == []


HOLDS = """
import asyncio, sys
from pathlib import Path
from notifications.adapters.local.embedded_redis import EmbeddedRedis

async def main():
    async with EmbeddedRedis(Path(sys.argv[1])):
        print("up", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


def test_twenty_simultaneous_first_starts_are_one_server(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=JOB.parent
        )
        for _ in range(20)
    ]
    for holder in holders:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
    assert len(servers(folder)) == 1
    for holder in holders:
        holder.communicate()
        assert holder.returncode == 0
    assert (folder / "redis.log").read_text().count("Server initialized") == 1
    assert servers(folder) == []


async def test_the_servers_log_has_an_end(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    log, before = folder / "redis.log", folder / "redis.log.1"
    for size in (MAX_LOG_BYTES, MAX_LOG_BYTES + 1, MAX_LOG_BYTES + 2):
        log.write_bytes(b"x" * size)
        async with EmbeddedRedis(folder):
            pass
        started = log.read_bytes()
        assert started.lstrip(b"x").count(b"Server initialized") == 1
        if size > MAX_LOG_BYTES:
            assert (len(before.read_bytes()), started.startswith(b"x")) == (size, False)
        else:
            assert (before.exists(), started.startswith(b"x")) == (False, True)


async def test_a_server_outlives_its_starter_and_an_orphan_is_adopted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first, second = EmbeddedRedis(folder), EmbeddedRedis(folder)
    async with second:
        await first.__aenter__()
        pid = servers(folder)
        await first.__aexit__(None, None, None)
        assert servers(folder) == pid
    wait_for(lambda: not servers(folder), "end of the server")

    script = HOLDS.replace("sys.stdin.read()", "__import__('time').sleep(100)")
    orphan = subprocess.Popen(  # noqa: ASYNC220 - the test waits for it and does nothing else
        [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, cwd=JOB.parent
    )
    assert orphan.stdout is not None
    orphan.stdout.readline()
    orphan.send_signal(signal.SIGKILL)
    orphan.communicate()
    [left] = servers(folder)
    async with EmbeddedRedis(folder):
        assert servers(folder) == [left]  # adopted, not doubled
    wait_for(lambda: not servers(folder), "end of the orphan")


async def test_a_deep_folder_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    async with EmbeddedRedis(deep) as redis:
        assert len(redis.url.removeprefix("unix://").encode()) <= MAX_SOCKET_PATH
        assert servers(deep)
    assert servers(deep) == []


def test_sigterm_ends_a_standing_job_within_its_grace(job: Job, tmp_path: Path) -> None:
    process = job("--every-minute")
    wait_for((tmp_path / ".recap" / "outbox.jsonl").exists, "first push")
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert servers(tmp_path / ".recap") == []
