"""`make run` and `make demo` as they stand, with settings around that would lead elsewhere."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.jobs import JOB, KEEP
from tests.support.terminal import OnATerminal

ROOT = JOB.parent
INSTALLED = ["make", "--no-print-directory", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.run"]
STEPS = (
    "40 users are imported",
    "run 1: SIGKILL amid its pushes",
    "run 2: SIGSTOP amid its pushes",
    "run 3 beside it: Redis is flushed amid its pushes; ",
    "the others, and what was left open; 40 of 40 have a push",
    "run 2: SIGCONT, it goes on; ",
    "a last run looks at all 40 again; 0 pushes",
)


def environment(**changes: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if KEEP.match(name)} | changes


@pytest.mark.timeout(300)
def test_the_demo_shows_each_user_sent_and_nobody_lost(tmp_path: Path) -> None:
    """Also where everything is set to lead elsewhere: the demo is offline, and touches no other data."""
    elsewhere = {"REDIS_URL": "redis://127.0.0.1:1", "GOOGLE_CLOUD_PROJECT": "real", "OPENAI_API_KEY": "sk-real"}
    elsewhere |= {"RECAP_CATCH_UP_SECONDS": "1", "K_SERVICE": "cloud", "RECAP_DATA_DIR": str(tmp_path / "own")}
    folder = tmp_path / "evening"
    done = subprocess.run(
        [*INSTALLED, "demo", f"FOLDER={folder}"],
        cwd=ROOT, env=environment(**elsewhere), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [line for line in done.stdout.splitlines() if re.match(r" *\d+\.\d s  ", line)]
    assert [step in line for step, line in zip(STEPS, steps, strict=True)] == [True] * len(STEPS), steps
    assert max(map(len, steps)) <= 80
    pushes = Counter(json.loads(line)["uid"] for line in (folder / "outbox.jsonl").read_text().splitlines())
    repeats = pushes.total() - 40
    assert len(pushes) == 40
    assert f"\n40 sent, 0 lost, {repeats} repeat{'' if repeats == 1 else 's'}.\n" in done.stdout
    listed = re.findall(r"^  (user-\d\d) was pushed to twice: .* \(R[13]\)$", done.stdout, re.MULTILINE)
    assert Counter(listed) == pushes - Counter(list(pushes))
    assert re.search(r"^sent +40\b", done.stdout, re.MULTILINE)  # by the audit's own words
    assert not (tmp_path / "own").exists()
    assert not _processes_of(folder)


def test_a_demo_beside_another_waits_and_a_folder_that_is_no_demos_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "evening"
    with (tmp_path / "evening.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        beside = _demo(folder)
    assert (beside.returncode, beside.stderr) == (1, f"Another demo is at work in {folder}; wait for its end.\n")
    (folder / "letters").mkdir(parents=True)
    refused = _demo(folder)
    assert (refused.returncode, f"{folder} is there already" in refused.stderr) == (1, True)
    assert list(folder.iterdir()) == [folder / "letters"]


@pytest.mark.timeout(120)
def test_a_demo_that_is_stopped_leaves_no_process_behind(tmp_path: Path) -> None:
    folder = tmp_path / "evening"
    command = [sys.executable, "-u", "-m", "demo", "--folder", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert any("SIGSTOP" in line for line in demo.stdout)  # one of its runs is frozen
        demo.terminate()
        demo.stdout.read()
    assert demo.returncode == 1
    assert _processes_of(folder) == []


def _demo(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo", "--folder", str(folder)]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)


def test_the_first_run_ends_with_a_recap_and_three_lines_and_the_second_is_one(tmp_path: Path) -> None:
    env = environment(RECAP_DATA_DIR=str(tmp_path / "data"), NO_COLOR="1")
    with OnATerminal([*INSTALLED, "run"], env, ROOT) as first:
        assert first.end() == 0
    *recap, sent, following, data, end = first.lines
    assert end == ""
    assert re.fullmatch(rf"Sent: \d+ recaps by \d+ pushes, which are in {tmp_path}/data/outbox.jsonl .*", sent)
    assert following.startswith("Next: make demo")
    assert data.startswith(f"Data: {tmp_path}/data/")
    assert "To do" in recap
    assert "Made of the day's own sentences, by no LLM." in recap
    again = subprocess.run([*INSTALLED, "run"], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert again.stdout.count("\n") == 1
    assert "nothing to do" in again.stdout


def test_the_first_install_says_how_long_it_takes_and_shows_pips_progress_on_a_terminal(tmp_path: Path) -> None:
    shown = subprocess.run(
        ["make", "-n", f"VENV={tmp_path}/new", "run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.search(r"once: about a minute, \d+ MB", shown.stdout)
    assert "test -t 1 || quiet=--quiet; " in shown.stdout


def test_make_help_lists_each_target_with_what_it_is_for() -> None:
    shown = subprocess.run([*INSTALLED, "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    [targets] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [line.split()[:2] for line in shown.splitlines()] == [["make", name] for name in targets.split()]
    assert [line for line in shown.splitlines() if len(line) > 80 or len(line.split()) < 4] == []


def _processes_of(folder: Path) -> list[str]:
    """The command lines of processes whose arguments or environment name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if command and os.fsencode(folder) in command + (entry / "environ").read_bytes():
                found.append(command.decode(errors="replace"))
        except OSError:
            continue
    return found
