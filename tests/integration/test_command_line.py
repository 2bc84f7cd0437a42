"""Bad input, settings that contradict and servers that are not there: one sentence, the right exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from notifications.domain.claim import ClaimState
from tests.support.jobs import JOB, Stage, bare, one_sentence
from tests.support.sampled import sample_besides
from tests.support.servers import Sentinel, redis_binaries, wait_for
from tests.support.web import LoopbackServer, fcm_error, llm_error, scripted
from tests.support.worlds import SqliteWorld


@pytest.fixture
def world(sqlite_world: Any) -> Any:
    """Which store it is makes no difference here."""
    return sqlite_world


REAL = {"GOOGLE_CLOUD_PROJECT": "real-project", "REDIS_URL": "", "OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}
USAGE: list[tuple[tuple[str, ...], str]] = [
    (("--dry-run", "resend", "ann", "2026-05-01"), "--dry-run belongs to a tick"),
    (("--dry-run", "doctor", "--fix"), "--dry-run belongs to a tick"),
    (("doctor", "--enable"), "--enable belongs to doctor --fix"),
    (("doctor", "--fix", "--zone", "mars"), "--zone 'mars' is no IANA time zone"),
    (("doctor", "--fix", "--hour", "24"), "--hour '24' is no hour"),
    (("--dry-run", "audit"), "--dry-run belongs to a tick"),
    (("--user", "ann", "resend", "bob", "2026-05-01"), "--user belongs to a tick"),
    (("--now", "2026-05-01T20:00:00Z", "doctor"), "--now belongs to a tick"),
    (("--every-minute", "audit"), "--every-minute belongs to a tick"),
    (("--user", ""), "is no uid"),
    (("--user", "a/b"), "is no uid"),
    (("--user", ".."), "is no uid"),
    (("resend", "", "2026-05-01"), "is no uid"),
    (("inspect", "--user", ""), "is no uid"),
    (("--now", "0001-01-01T00:00:00Z"), "beyond the years"),
    (("--now", "9999-12-31T23:59:59Z"), "beyond the years"),
    (("--now", "9999-12-31T23:59:59-12:00"), "beyond the years"),
    (("audit", "--date", "0001-01-01"), "beyond the years"),
    (("inspect", "--date", "9999-12-31"), "beyond the years"),
    (("resend", "ann", "9999-12-31"), "beyond the years"),
    (("audit", "--date", "20260501"), "is no date"),
    (("--dry",), "--dry"),
    (("--every",), "--every"),
    (("audit", "--js"), "--js"),
]


@pytest.mark.parametrize(("arguments", "named"), USAGE, ids=[" ".join(one) for one, _ in USAGE])
def test_what_means_nothing_is_refused(stage: Stage, arguments: tuple[str, ...], named: str) -> None:
    slot = stage.add_user("ann")
    finished = stage.run(*arguments)
    assert (finished.code, finished.out) == (2, "")
    assert named in one_sentence(finished.err)
    assert (stage.llm.calls, stage.fcm.asked, stage.record("ann", slot).state) == ({}, {}, ClaimState.ABSENT)


def test_arguments_that_are_no_utf8_are_refused(stage: Stage) -> None:
    done = subprocess.run(
        [sys.executable.encode(), str(JOB).encode(), b"--user", b"\xff\xfe"],
        env=stage.env(), cwd=stage.folder, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is no UTF-8" in one_sentence(done.stderr.decode())


NUMBERS = {
    "RECAP_CATCH_UP_SECONDS": ["1e300", "1_000", "١٢٣", "0", "20000"],
    "RECAP_PAGE_SIZE": ["1" + "0" * 30, "1_0", "٣", "0"],
    "RECAP_WATCHDOG_SECONDS": ["0.000000001", "1e-9"],
    "RECAP_START_GAP_SECONDS": ["1000000000", "1e9"],
    "RECAP_SHARDS": ["63", "0"],
    "RECAP_CONCURRENCY": ["100000", "+5", " 5 5"],
    "RECAP_SWEEP_SECONDS": ["-1", "nan"],
    "CLOUD_RUN_TASK_INDEX": ["7", "1_0"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NUMBERS.items() for value in values])
def test_each_number_has_a_least_and_a_most(stage: Stage, name: str, value: str) -> None:
    finished = stage.run(**{"CLOUD_RUN_TASK_COUNT": "2", name: value})
    assert finished.code == 3
    assert name in one_sentence(finished.err)


SETTINGS: list[tuple[dict[str, str], str]] = [
    ({"RECAP_CATCH_UP_SECONDS": "9000", "RECAP_GRACE_SECONDS": "1800"}, "since a slot is seen for three hours"),
    ({"RECAP_CONCURENCY": "5"}, "did you mean RECAP_CONCURRENCY?"),
    ({"OPENAI_API_KEY": "sk-line\nbreak"}, "OPENAI_API_KEY holds a space, a line break"),
    ({"OPENAI_API_KEY": "sk-ключ"}, "OPENAI_API_KEY holds a space, a line break"),
    ({"OPENAI_BASE_URL": "http://user:pw@127.0.0.1:9/v1"}, "OPENAI_BASE_URL holds a user"),
    ({"FCM_BASE_URL": "http://user:pw@127.0.0.1:9"}, "FCM_BASE_URL holds a user"),
    ({"FCM_BASE_URL": "https://fcm.example"}, "FCM_BASE_URL is set without GOOGLE_CLOUD_PROJECT"),
    (REAL, "REDIS_URL, OPENAI_API_KEY or OPENAI_BASE_URL"),
    (REAL | {"REDIS_URL": "redis://127.0.0.1:1/0"}, "RECAP_SUMMARIZER=extract"),
    ({"REDIS_URL": "redis://127.0.0.1:1/0?ssl=true"}, "write rediss:// for TLS"),
    ({"REDIS_URL": "redis://127.0.0.1:1/0?foo=pw"}, "an option that means nothing here"),
    ({"REDIS_URL": "redis://127.0.0.1:1/pw"}, "names a database that is no number"),
    ({"REDIS_URL": "redis://u:1/pw@127.0.0.1:1/0"}, "as %23, %2F, %3F or %40"),
    ({"REDIS_URL": "redis://127.0.0.1:1/1?cluster=true"}, "a Redis Cluster has database 0 alone"),
    ({"REDIS_URL": "unix:///tmp/redis.sock?cluster=true"}, "a Redis Cluster is reached by redis://"),
    ({"REDIS_URL": "rediss://127.0.0.1:1?ssl_cert_reqs=CERT_NONE"}, "ssl_cert_reqs of REDIS_URL has a wrong value"),
]


@pytest.mark.parametrize(("env", "named"), SETTINGS, ids=[named for _, named in SETTINGS])
def test_settings_that_can_not_be_are_refused_at_the_start(stage: Stage, env: dict[str, str], named: str) -> None:
    finished = stage.run(**env)
    assert finished.code == 3, finished.err
    assert named in one_sentence(finished.err)
    for secret in ("sk-line", "sk-ключ", "pw"):
        assert secret not in finished.err


def test_a_key_that_no_header_can_carry_charges_nobody(stage: Stage) -> None:
    slot = stage.add_user("ann")
    for _ in range(4):
        assert stage.run(OPENAI_API_KEY="sk\nx").code == 3
    assert stage.record("ann", slot).state is ClaimState.ABSENT
    assert stage.run().code == 0


class SpeaksHttp(LoopbackServer):
    async def answer(self, request: Any) -> Any:
        from aiohttp import web

        return web.Response(text="no Redis")


def test_a_redis_that_is_none_is_one_sentence(stage: Stage) -> None:
    assert (finished := stage.run(REDIS_URL=f"{stage.redis.url[:-1]}99")).code == 3
    assert "has no database with the number in REDIS_URL" in one_sentence(finished.err)
    web_server = SpeaksHttp()
    assert (finished := stage.run(REDIS_URL=f"redis://127.0.0.1:{web_server.port}/0")).code == 4
    assert "REDIS_URL" in one_sentence(finished.err)
    web_server.stop()
    assert (finished := stage.run(REDIS_URL=f"rediss://127.0.0.1:{stage.redis.port}/0")).code == 4
    assert "use redis:// for a server without TLS" in one_sentence(finished.err)


@pytest.mark.parametrize("binary", redis_binaries(), ids=str)
@pytest.mark.parametrize("database", ["0", "1"])
def test_a_sentinel_is_named(tmp_path: Path, binary: Path, database: str) -> None:
    """It answers on a port of its own, and most commands with an error."""
    sentinel = Sentinel(tmp_path / "sentinel", binary=binary)
    done = bare(tmp_path, REDIS_URL=f"redis://127.0.0.1:{sentinel.port}/{database}")
    sentinel.kill()
    assert (done.returncode, "is a Sentinel" in one_sentence(done.stderr)) == (3, True), done.stderr


def test_a_dry_run_in_a_new_folder_makes_nothing(tmp_path: Path) -> None:
    done = bare(tmp_path, "--dry-run")
    assert (done.returncode, list(tmp_path.iterdir())) == (0, []), done.stderr
    assert "Nothing is here yet" in done.stdout


def test_credentials_alone_push_samples_to_nobody(tmp_path: Path) -> None:
    """FCM comes only with a project."""
    (tmp_path / "key.json").write_text("{}")
    done = bare(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "key.json"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".recap" / "outbox.jsonl").exists()


def test_a_real_project_without_an_llm_says_so_aloud(stage: Stage) -> None:
    """Chosen, it is no accident; and it is told."""
    finished = stage.run(RECAP_SUMMARIZER="extract")
    assert finished.event("summarizer.extract")["severity"] == "WARNING"
    assert stage.llm.calls == {}


def test_inspect_shows_a_key_whose_date_is_none_as_it_is(stage: Stage) -> None:
    stage.add_user("ann")
    stage.run()
    with Redis(port=stage.redis.port) as client:
        client.set("users:ann:daily_summary_lock:tomorrow", "1", px=60_000)
        client.set("users::daily_summary_lock:2026-05-01", "1", px=60_000)
        client.set("users:ann:daily_summary_lock:9999-12-31", "1", px=60_000)
        client.set("users:a/b:daily_summary_lock:2026-05-01", "1", px=60_000)
        client.set(b"users:\xff:daily_summary_lock:2026-05-01", "1", px=60_000)
    finished = stage.run("inspect", "--json")
    assert finished.code == 0, finished.err
    rows = [json.loads(line) for line in finished.out.splitlines()]
    assert {(row["uid"], row["date"], row["claim"]) for row in rows if row["claim"] == "foreign"} == {
        ("ann", "tomorrow", "foreign"),
        ("", "2026-05-01", "foreign"),
        ("ann", "9999-12-31", "foreign"),
        ("a/b", "2026-05-01", "foreign"),
        ("\\xff", "2026-05-01", "foreign"),
    }


# --- resend ---------------------------------------------------------------------------


def test_a_resend_of_a_day_before_the_account_is_refused(tmp_path: Path) -> None:
    """It wrote a skipped ledger for a day in 1990."""
    uid = sample_besides()
    assert bare(tmp_path).returncode == 0
    done = bare(tmp_path, "resend", uid, "1990-05-01")
    assert (done.returncode, "has no recap: the account is of" in done.stderr) == (2, True), done.stderr


def test_a_resend_of_who_is_switched_off_meanwhile_ends_and_says_so(stage: Stage) -> None:
    slot = stage.add_user("ann")

    async def switch_off(who: str) -> None:
        own = SqliteWorld(stage.world.folder)  # type: ignore[attr-defined]  # a connection of this thread's
        own.update_user("ann", {"daily_summary_enabled": False})
        own.close()

    stage.llm.script = switch_off
    finished = stage.run("resend", "ann", slot.recap_date.isoformat())
    assert (finished.code, "was switched off or erased meanwhile" in finished.err) == (1, True), finished.err
    assert (stage.fcm.asked, stage.world.ledgers("ann")) == ({}, {})


def test_a_resend_that_waits_hears_sigterm(stage: Stage) -> None:
    """It slept for as long as the LLM asked it to."""
    slot = stage.add_user("ann")
    stage.llm.script = scripted(lambda _: llm_error(429, "rate_limit_exceeded", **{"Retry-After": "80000"}))
    process = stage.start("resend", "ann", slot.recap_date.isoformat())
    wait_for(lambda: stage.record("ann", slot).state is ClaimState.IDLE, "claim that waits")
    process.send_signal(signal.SIGTERM)
    finished = stage.end(process, 8)
    assert (finished.code, "is unfinished; the same command finishes it" in finished.err) == (1, True), finished.err


def test_a_resend_of_a_day_whose_conversations_a_later_recap_has_is_refused(stage: Stage) -> None:
    """It stored a window whose start was after its end."""
    from datetime import timedelta

    slot = stage.add_user("ann")
    later = (slot.recap_date + timedelta(days=1)).isoformat()
    start = slot.at - timedelta(hours=30)
    end = slot.at + timedelta(hours=24)
    stage.world.put_ledger("ann", later, {"state": "sent", "date": later, "window_start": start, "window_end": end})
    finished = stage.run("resend", "ann", slot.recap_date.isoformat())
    assert (finished.code, f"are in the recap of {later}" in one_sentence(finished.err)) == (2, True), finished.err
    assert list(stage.world.ledgers("ann")) == [later]


def test_a_window_whose_start_is_not_before_its_end_is_never_stored(stage: Stage) -> None:
    from datetime import timedelta

    slot = stage.add_user("ann")
    later = (slot.recap_date + timedelta(days=1)).isoformat()
    stage.world.put_ledger("ann", later, {"state": "sent", "date": later, "window_end": slot.at})  # a zone a day ahead
    assert stage.run().code == 0
    ledger = stage.world.ledgers("ann")[slot.recap_date.isoformat()]
    assert (ledger["state"], ledger["outcome"]) == ("skipped", "no_content")
    assert "window_start" not in ledger


@pytest.mark.parametrize(
    ("arguments", "env", "code", "named"),
    [
        ((), {"REDIS_URL": "localhost"}, 3, "REDIS_URL is malformed"),
        ((), {"RECAP_CONCURRENCY": "x"}, 3, "RECAP_CONCURRENCY"),
        (("--now", "yesterday"), {}, 2, "'yesterday' is no time"),
        (("--now", "2026-05-01T20:00:00"), {}, 2, "has no UTC offset"),
        (("--nope",), {}, 2, "--nope"),
        (("inspect", "--date", "May"), {}, 2, "'May' is no date"),
        (("--every-minute", "--user", "u"), {}, 2, "--every-minute goes alone"),
        (("--now", "2026-05-01T20:00:00Z"), {"GOOGLE_CLOUD_PROJECT": "real"}, 2, "--dry-run"),
        ((), {"REDIS_URL": "redis://127.0.0.1:1/0"}, 4, "Redis at 127.0.0.1:1 does not answer"),
    ],
)
def test_bad_input_gets_one_sentence(
    stage: Stage, arguments: tuple[str, ...], env: dict[str, str], code: int, named: str
) -> None:
    finished = stage.run(*arguments, **env)
    assert finished.code == code
    assert named in one_sentence(finished.err)


def test_a_full_disk_is_named_and_nothing_done_is_lost(stage: Stage) -> None:
    slot = stage.add_user("ann")
    data = stage.folder / "data"
    (data / "outbox.jsonl").symlink_to("/dev/full")
    fast = {"RECAP_PROVIDER_RETRY_SECONDS": "0.01", "RECAP_SHARD_RETRY_MIN_SECONDS": "0.01"}
    finished = stage.run(FCM_BASE_URL="", **fast)
    assert finished.code == 4
    assert "outbox.jsonl can't be written (No space left on device)" in one_sentence(finished.err)
    [ledger] = stage.world.ledgers("ann").values()
    assert (ledger["state"], ledger["tries"]) == ("pending", 0)
    (data / "outbox.jsonl").unlink()
    assert stage.run(FCM_BASE_URL="").code == 0
    [line] = (data / "outbox.jsonl").read_text().splitlines()
    assert json.loads(line)["uid"] == "ann"
    assert (stage.record("ann", slot).state, stage.llm.calls["ann"]) == (ClaimState.SENT, 1)


def test_mass_deletion_of_tokens_stops_at_a_fifth(stage: Stage) -> None:
    for n in range(30):
        stage.add_user(f"user-{n}")
    stage.fcm.script = scripted(lambda _: fcm_error(404, "UNREGISTERED"))
    finished = stage.run()
    assert finished.event("devices.deletions_stopped")["dead"] == 30
    assert finished.event("tick.finished")["tokens_deleted"] == 10
    assert sum(len(stage.world.tokens(f"user-{n}")) for n in range(30)) == 20
