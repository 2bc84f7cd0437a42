"""The data folder: for its owner alone, written whole or not at all, and no lock that SIGTERM can't end."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_embedded import servers
from tests.support.jobs import JOB
from tests.support.servers import wait_for

NOW = ("--now", "2026-07-04T12:17:00Z")


def start(folder: Path, *arguments: str, umask: int = 0o022, **env: str) -> subprocess.Popen[str]:
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | env
    return subprocess.Popen(
        [sys.executable, str(JOB), *arguments],
        cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, umask=umask,
    )  # fmt: skip


def run(folder: Path, *arguments: str, umask: int = 0o022, **env: str) -> tuple[int, str]:
    """The exit code, and what it wrote to stderr: never a traceback."""
    process = start(folder, *arguments, umask=umask, **env)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, err


def open_to_others(folder: Path) -> list[str]:
    found = [folder, *folder.rglob("*")]
    return [str(one.relative_to(folder.parent)) for one in found if stat.S_IMODE(one.lstat().st_mode) & 0o077]


def test_no_other_user_of_the_machine_can_read_what_is_stored(tmp_path: Path) -> None:
    """Neither in a new folder nor, from the next command on, in one of an earlier version."""
    data = tmp_path / ".recap"
    assert run(tmp_path, *NOW, umask=0o000)[0] == 0
    assert (open_to_others(data), (data / "outbox.jsonl").exists()) == ([], True)
    data.chmod(0o755)
    (data / "recap.sqlite3").chmod(0o644)
    assert run(tmp_path, "audit", "--date", "2026-07-04")[0] in (0, 1)
    assert open_to_others(data) == []


def test_a_folder_that_is_not_ours_keeps_its_mode(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "others").write_text("theirs")
    assert run(tmp_path, "--dry-run", RECAP_DATA_DIR=str(shared))[0] == 0
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


def test_what_a_full_disk_left_half_written_stops_no_later_run(tmp_path: Path) -> None:
    assert run(tmp_path, *NOW)[0] == 0
    for name in ("created", "redis.pid"):
        (tmp_path / ".recap" / name).write_text("")
        for _ in range(2):
            assert run(tmp_path, *NOW)[0] == 0
    assert servers(tmp_path / ".recap") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is almost full."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_at_the_first_run_is_one_sentence_and_the_next_run_recovers(small_disk: Path) -> None:
    filler = small_disk / "filler"
    free = shutil.disk_usage(small_disk).free
    filler.write_bytes(b"x" * max(0, free - 24_000))
    assert run(small_disk, *NOW)[0] == 4
    filler.unlink()
    shutil.rmtree(small_disk / ".recap" / "appendonlydir", ignore_errors=True)
    assert servers(small_disk / ".recap") == []


def test_a_socket_folder_that_another_made_is_refused(tmp_path: Path) -> None:
    """Whoever comes first to a predictable name in /tmp could listen there."""
    temporary = Path(tempfile.mkdtemp(prefix="r"))
    try:
        deep = temporary / ("d" * 60) / ("e" * 60)
        deep.mkdir(parents=True)
        assert run(deep, *NOW, TMPDIR=str(temporary))[0] == 0
        [made] = temporary.glob("recap-*")
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        made.chmod(0o777)
        code, err = run(deep, *NOW, TMPDIR=str(temporary))
        assert (code, "is open to others" in err) == (3, True), err
    finally:
        shutil.rmtree(temporary)


@pytest.mark.parametrize("name", ["users.lock", "start.lock", "fill.lock"])
def test_sigterm_is_heard_while_another_holds_a_lock(tmp_path: Path, name: str) -> None:
    folder = tmp_path / ".recap"
    folder.mkdir(mode=0o700)
    held = os.open(folder / name, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    process = start(tmp_path, *NOW)
    try:
        wait_for(lambda: waits_for(process.pid, folder / name), "wait for the lock")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=8)
        assert (process.returncode, "Traceback" in err) == (0, False), (out, err)
    finally:
        process.kill()
        os.close(held)


def waits_for(pid: int, lock: Path) -> bool:
    try:
        opened = [os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return str(lock) in opened


def test_a_truncated_line_of_the_outbox_does_not_glue_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".recap").mkdir()
    outbox = tmp_path / ".recap" / "outbox.jsonl"
    outbox.write_text('{"device": "cut o')
    assert run(tmp_path, *NOW)[0] == 0
    first, *lines = outbox.read_text().splitlines()
    assert first == '{"device": "cut o'
    assert len([json.loads(line)["uid"] for line in lines]) > 1
