"""Where and how the job is started: a bare locale, a folder that is gone, Ctrl-C before it began, quotes, a pipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.jobs import JOB

BARE_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
USER = {"time_zone": "UTC", "daily_summary_enabled": True, "daily_summary_hour_local": 20}


def started(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "RECAP_DATA_DIR": str(folder / "dätä")} | env
    return subprocess.run(
        [sys.executable, str(JOB), *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        check=False,
        timeout=60,
        preexec_fn=hears_ctrl_c,
    )


def hears_ctrl_c() -> None:
    """A shell starts what it sends to the background deaf to it, and so all that the tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_in_the_locale_c_files_arguments_and_output_are_utf8_all_the_same(tmp_path: Path) -> None:
    talk = {"created_at": "2026-11-25T17:40:00Z", "structured": {"title": "Käse", "overview": "Über Käse. " * 20}}
    line = {"uid": "jürgen", "user": USER, "conversations": {"c": talk}}
    (tmp_path / "Leute – neu.jsonl").write_text(json.dumps(line, ensure_ascii=False), encoding="utf-8")
    done = started(tmp_path, "import", "Leute – neu.jsonl", **BARE_LOCALE)
    assert (done.returncode, done.stderr) == (0, b"")
    now = ("--now", "2026-11-25T20:10:00Z")
    made = started(tmp_path, *now, "--user", "jürgen", **BARE_LOCALE, RECAP_LOG_FORMAT="json")
    assert made.returncode == 0, made.stderr
    [sent] = [one for one in map(json.loads, made.stderr.decode().splitlines()) if one["event"] == "recap.sent"]
    assert sent["uid"] == "jürgen"
    shown = started(tmp_path, "show", "jürgen", "2026-11-25", **BARE_LOCALE)
    assert (shown.returncode, "Käse" in shown.stdout.decode()) == (0, True)
    page = started(tmp_path, *now, "report", "--date", "2026-11-25", "-o", "-", **BARE_LOCALE)
    assert (page.returncode, page.stdout[:15], page.stdout.rstrip()[-7:]) == (0, b"<!doctype html>", b"</html>")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["Leute – neu.jsonl", "dätä"]


def test_a_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    command = ["sh", "-c", script, "sh", sys.executable, str(JOB)]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    gone = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (gone.returncode, gone.stdout, gone.stderr.count("\n")) == (3, "", 1)
    assert gone.stderr.startswith("The folder that the job was started in is gone; start it from one that is there")


def test_who_is_interrupted_before_it_began_says_so_and_dies_of_it(tmp_path: Path) -> None:
    """In place of a library that it loads stands one that presses Ctrl-C."""
    (tmp_path / "structlog.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n", encoding="utf-8")
    stopped = started(tmp_path, PYTHONPATH=str(tmp_path))
    assert (stopped.returncode, stopped.stdout) == (-signal.SIGINT, b"")
    assert stopped.stderr == b"Stopped before it began; nothing was claimed.\n"


def test_quotes_that_an_env_file_kept_are_refused_by_name(tmp_path: Path) -> None:
    refused = started(tmp_path, OPENAI_API_KEY='"sk-secret"')
    told = b"OPENAI_API_KEY has quotes around its value, which an env file may keep; write it without them.\n"
    assert (refused.returncode, refused.stdout, refused.stderr) == (3, b"", told)
