"""Where a run is started: its locale, folder, signals and proxies."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.google import TokenServer
from tests.support.jobs import JOB, Stage, on_firestore
from tests.support.servers import ThreadedServer, pump
from tests.support.watchers import Beats, Collector

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
    )


def test_in_the_locale_c_files_arguments_and_output_are_utf8_all_the_same(tmp_path: Path) -> None:
    talk = {"created_at": "2026-11-25T17:40:00Z", "structured": {"title": "Käse", "overview": "Über Käse. " * 20}}
    line = {"uid": "jürgen", "user": USER, "conversations": {"c": talk}}
    (tmp_path / "Leute – neu.jsonl").write_text(json.dumps(line, ensure_ascii=False), encoding="utf-8")
    done = started(tmp_path, "import", "Leute – neu.jsonl", **BARE_LOCALE)
    assert (done.returncode, done.stderr) == (0, b"")
    now = ("--now", "2026-11-25T20:10:00Z")
    made = started(tmp_path, *now, "--user", "jürgen", **BARE_LOCALE, RECAP_LOG_FORMAT="json")
    assert made.returncode == 0, made.stderr
    [ended] = [one for one in map(json.loads, made.stderr.decode().splitlines()) if one["event"] == "recap.no_devices"]
    assert ended["uid"] == "jürgen"
    shown = started(tmp_path, "show", "jürgen", "2026-11-25", **BARE_LOCALE)
    assert (shown.returncode, "Käse" in shown.stdout.decode()) == (0, True)
    page = started(tmp_path, *now, "report", "--date", "2026-11-25", "-o", "-", **BARE_LOCALE)
    assert (page.returncode, page.stdout[:15], page.stdout.rstrip()[-7:]) == (0, b"<!doctype html>", b"</html>")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["Leute – neu.jsonl", "dätä"]


def test_a_python_without_the_libraries_goes_on_with_the_one_that_has_them(tmp_path: Path) -> None:
    """`python job.py`, as the pages have it; without .venv it says in a sentence what to type."""
    shutil.copy(JOB, tmp_path)
    (tmp_path / "notifications").symlink_to(JOB.parent / "notifications")
    bare = [os.path.realpath(sys.executable), "-S", "job.py", "--help"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(bare, cwd=tmp_path, env={}, capture_output=True, text=True, check=False, timeout=60)

    missing = run()
    assert (missing.returncode, missing.stdout) == (3, "")
    assert missing.stderr == "structlog is not installed for this Python; make install installs it into .venv.\n"
    (tmp_path / ".venv").symlink_to(sys.prefix)
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "example: python job.py --dry-run" in done.stdout


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


SECRET = "proxy-user:proxy-secret"


class CountingProxy(ThreadedServer):
    """Forwards to the port of the host that is asked for; a host without one gets 502."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()  # connections by host
        self.ports: dict[str, int] = {}
        super().__init__()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        host = head.split()[1].decode().removeprefix("http://").split("/")[0].split(":")[0]
        self.asked[host] += 1
        if host not in self.ports:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        upstream, downstream = await asyncio.open_connection("127.0.0.1", self.ports[host])
        downstream.write(head)
        await asyncio.gather(pump(reader, downstream), pump(upstream, writer), return_exceptions=True)

    @property
    def env(self) -> dict[str, str]:
        return dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), f"http://{SECRET}@127.0.0.1:{self.port}")


@pytest.fixture
def servers() -> Iterator[tuple[CountingProxy, TokenServer, Beats, Collector]]:
    started = CountingProxy(), TokenServer(), Beats(), Collector()
    yield started
    for server in started:
        server.stop()


@on_firestore
def test_each_client_goes_through_the_proxy_and_none_that_is_on_this_machine(
    stage: Stage, servers: tuple[CountingProxy, TokenServer, Beats, Collector], tmp_path: Path
) -> None:
    proxy, tokens, beats, collector = servers
    stage.settings |= proxy.env | tokens.account_file(tmp_path)
    here = {"RECAP_HEARTBEAT_URL": beats.url, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    stage.add_user("ann")
    local = stage.run(**here)
    assert (local.code, stage.fcm.accepted, proxy.asked) == (0, {"token-ann-0": 1}, {})
    assert (stage.llm.calls, tokens.given, len(beats.told)) == ({"ann": 1}, 1, 2)
    assert set(collector.requests) == {"/v1/metrics", "/v1/traces"}
    proxy.ports = {"llm.example": stage.llm.port, "beat.example": beats.port, "otel.example": collector.port}
    proxy.ports["token.example"] = tokens.port
    account = tmp_path / "account.json"
    account.write_text(account.read_text().replace(tokens.url, "http://token.example"))
    away = {
        "OPENAI_BASE_URL": "http://llm.example/v1",
        "FCM_BASE_URL": "https://fcm.example",
        "RECAP_HEARTBEAT_URL": "http://beat.example/away",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel.example",
    }
    stage.add_user("bob")
    stage.redis.ask("FLUSHALL")  # whose shard was served
    finished = stage.run(**away)
    assert set(proxy.asked) == {"llm.example", "fcm.example", "beat.example", "otel.example", "token.example"}
    assert (proxy.asked["fcm.example"], proxy.asked["beat.example"], proxy.asked["token.example"]) == (1, 2, 1)
    assert (stage.llm.calls, tokens.given, len(beats.told)) == ({"ann": 1, "bob": 1}, 2, 4)
    assert "proxy-secret" not in finished.out + finished.err
    refused = stage.run(**away | {"HTTPS_PROXY": f"socks5://{SECRET}@127.0.0.1:1"})
    sentence = "HTTPS_PROXY is no proxy that every client here can use; write http://host:port, or unset it.\n"
    assert (refused.code, refused.err) == (3, sentence)
