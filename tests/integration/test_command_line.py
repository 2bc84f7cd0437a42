"""Bad input, settings that contradict and servers that are not there: one sentence, the right exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis import Redis

from notifications.commands.cli import parse
from notifications.commands.progress import code_of
from notifications.domain.claim import ClaimState
from notifications.domain.errors import RecapError
from notifications.settings import load
from tests.support.jobs import JOB, Stage, bare, one_sentence
from tests.support.sampled import sample_besides
from tests.support.servers import Sentinel, redis_binaries, wait_for
from tests.support.web import LoopbackServer, fcm_error, llm_error, scripted
from tests.support.worlds import SqliteWorld


@pytest.fixture
def world(sqlite_world: Any) -> Any:
    """Which store it is makes no difference here."""
    return sqlite_world


def refused(arguments: tuple[str, ...], env: dict[str, str]) -> tuple[int, str]:
    """The exit code and the sentence, before anything is opened."""
    with pytest.raises(RecapError) as caught:
        parse(arguments).check(load(env))
    assert "\n" not in str(caught.value)
    return code_of(caught.value), str(caught.value)


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
    (("--every-minute", "--user", "u"), "--every-minute goes alone"),
    (("--user", ""), "is no uid"),
    (("--user", "a/b"), "is no uid"),
    (("--user", ".."), "is no uid"),
    (("show", "a/b"), "is no uid"),
    (("resend", "", "2026-05-01"), "is no uid"),
    (("inspect", "--user", ""), "is no uid"),
    (("--now", "yesterday"), "'yesterday' is no time"),
    (("--now", "2026-05-01T20:00:00"), "has no UTC offset"),
    (("--now", "0001-01-01T00:00:00Z"), "beyond the years"),
    (("--now", "9999-12-31T23:59:59Z"), "beyond the years"),
    (("--now", "9999-12-31T23:59:59-12:00"), "beyond the years"),
    (("audit", "--date", "0001-01-01"), "beyond the years"),
    (("inspect", "--date", "9999-12-31"), "beyond the years"),
    (("resend", "ann", "9999-12-31"), "beyond the years"),
    (("audit", "--date", "20260501"), "is no date"),
    (("inspect", "--date", "May"), "'May' is no date"),
    (("show", "ann", "tomorrow"), "'tomorrow' is no date; write it as 2026-03-29, today or yesterday (in UTC)."),
    (("resend", "--date", "2026-05-01", "--where", "dead,waiting"), "the next runs serve who is waiting by themselves"),
    (("resend", "--date", "2026-05-01", "--where", "mars"), "--where 'mars' is none of missed, dead, unserved"),
    (("resend", "ann", "2026-05-01", "--dry-run"), "--dry-run goes with --date and --where, not with UID and DATE"),
    (("resend", "ann", "2026-05-01", "--limit", "2"), "--limit goes with --date and --where, not with UID and DATE"),
    (("resend", "--date", "2026-05-01", "--dry-run"), "resend takes UID and DATE, or --date with --where"),
    (("preview",), "UID"),
    (("--nope",), "--nope"),
    (("--dry",), "--dry"),
    (("--every",), "--every"),
    (("audit", "--js"), "--js"),
    (("--all",), "--all belongs to --dry-run"),
]


@pytest.mark.parametrize(("arguments", "named"), USAGE, ids=[" ".join(one) for one, _ in USAGE])
def test_what_means_nothing_is_refused(arguments: tuple[str, ...], named: str) -> None:
    code, sentence = refused(arguments, {})
    assert (code, named in sentence) == (2, True), sentence


NUMBERS = {
    "RECAP_CATCH_UP_SECONDS": ["1e300", "1_000", "١٢٣"],
    "RECAP_START_GAP_SECONDS": ["1e9"],
    "RECAP_CONCURRENCY": ["+5", " 5 5", "x"],
    "RECAP_SWEEP_SECONDS": ["-1", "nan"],
    "CLOUD_RUN_TASK_INDEX": ["7", "1_0"],
}
REAL = {"GOOGLE_CLOUD_PROJECT": "real-project"}
SETTINGS: list[tuple[dict[str, str], str]] = [
    *[({"CLOUD_RUN_TASK_COUNT": "2", name: value}, name) for name, values in NUMBERS.items() for value in values],
    ({"RECAP_CATCH_UP_SECONDS": "9000", "RECAP_GRACE_SECONDS": "1800"}, "since a slot is seen for three hours"),
    ({"RECAP_CONCURENCY": "5"}, "did you mean RECAP_CONCURRENCY?"),
    ({"OPENAI_API_KEY": "sk-line\nbreak"}, "OPENAI_API_KEY holds a space, a line break"),
    ({"OPENAI_API_KEY": "sk-ключ"}, "OPENAI_API_KEY holds a space, a line break"),
    ({"OPENAI_API_KEY": '"sk-secret"'}, "OPENAI_API_KEY has quotes around its value, which an env file may keep"),
    ({"OPENAI_BASE_URL": "http://user:pw@127.0.0.1:9/v1"}, "OPENAI_BASE_URL holds a user"),
    ({"FCM_BASE_URL": "http://user:pw@127.0.0.1:9"}, "FCM_BASE_URL holds a user"),
    ({"FCM_BASE_URL": "https://fcm.example"}, "FCM_BASE_URL is set without GOOGLE_CLOUD_PROJECT"),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is malformed"),
    ({"FIRESTORE_DATABASE": "recaps"}, "FIRESTORE_DATABASE is set without"),
    (REAL | {"FIRESTORE_DATABASE": "Recaps"}, "FIRESTORE_DATABASE is 'Recaps', which is no database id"),
    (REAL, "REDIS_URL, OPENAI_API_KEY or OPENAI_BASE_URL"),
    (REAL | {"REDIS_URL": "redis://127.0.0.1:1/0"}, "RECAP_SUMMARIZER=extract"),
]


@pytest.mark.parametrize(("env", "named"), SETTINGS)
def test_settings_that_can_not_be_are_refused_at_the_start(env: dict[str, str], named: str) -> None:
    code, sentence = refused((), env)
    assert (code, named in sentence) == (3, True), sentence
    assert [secret for secret in ("sk-line", "sk-ключ", "sk-secret", "pw") if secret in sentence] == []


COMPLETE = REAL | {"REDIS_URL": "redis://127.0.0.1:1", "OPENAI_API_KEY": "k"}


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("--now", "2026-05-01T20:00:00Z"), "--dry-run"),
        (("import", "x.jsonl"), "app writes its own"),
        (("samples",), "app writes its own"),
        (("samples", "--remove"), "app writes its own"),
    ],
)
def test_a_real_project_is_left_to_its_app(command: tuple[str, ...], named: str) -> None:
    code, sentence = refused(command, COMPLETE)
    assert (code, named in sentence) == (2, True), sentence


def test_a_time_ahead_that_is_spent_is_told_and_one_that_is_looked_at_is_not(stage: Stage) -> None:
    slot = stage.add_user("ann")
    tomorrow = ("--now", (slot.at + timedelta(days=1, minutes=5)).isoformat())
    looked = stage.run(*tomorrow, "--dry-run")
    assert (looked.named("clock.ahead"), "1 skipped: no_content so far." in looked.out) == ([], True), looked.out
    assert stage.run(*tomorrow, "preview", "ann").named("clock.ahead") == []
    assert stage.run("--now", (slot.at + timedelta(minutes=1)).isoformat()).named("clock.ahead") == []
    told = stage.run(*tomorrow).event("clock.ahead")
    assert told["hours"] > 20
    assert "leave the day alone" in told["reason"]


def test_whatever_is_refused_is_one_line_and_claims_nothing(stage: Stage) -> None:
    slot = stage.add_user("ann")
    for arguments, env, code, named in (
        (("--nope",), {}, 2, "--nope"),
        ((), {"OPENAI_API_KEY": "sk\nx"}, 3, "OPENAI_API_KEY holds"),
        ((), {"REDIS_URL": "redis://127.0.0.1:1/0"}, 4, "Redis at 127.0.0.1:1 does not answer"),
        (("resend", "nobody", "2026-05-01"), {}, 2, "users/nobody does not exist"),
        (("--dry-run", "--user", "nobody"), {}, 2, "users/nobody does not exist; check the uid."),
        (("--user", "nobody"), {}, 2, "users/nobody does not exist"),
        (("preview", "nobody"), {}, 2, "users/nobody does not exist"),
        (("show", "nobody"), {}, 2, "users/nobody does not exist"),
        (("resend", "ann", slot.recap_date.replace(year=2099).isoformat()), {}, 2, "is not due before"),
    ):
        finished = stage.run(*arguments, **env)
        assert (finished.code, finished.out) == (code, "")
        assert named in one_sentence(finished.err)
    assert (stage.llm.calls, stage.fcm.asked, stage.record("ann", slot).state) == ({}, {}, ClaimState.ABSENT)
    assert stage.run().code == 0


def test_arguments_that_are_no_utf8_are_refused(stage: Stage) -> None:
    command = [sys.executable.encode(), str(JOB).encode(), b"--user", b"\xff\xfe"]
    done = subprocess.run(command, env=stage.env(), cwd=stage.folder, capture_output=True, check=False)
    assert (done.returncode, "is no UTF-8" in one_sentence(done.stderr.decode())) == (2, True)


class SpeaksHttp(LoopbackServer):
    async def answer(self, request: Any) -> Any:
        return web.Response(text="no Redis")


def test_a_redis_that_is_none_is_one_sentence(stage: Stage) -> None:
    web_server = SpeaksHttp()
    for url, code, named in (
        (f"{stage.redis.url[:-1]}99", 3, "has no database with the number in REDIS_URL"),
        (f"redis://127.0.0.1:{web_server.port}/0", 4, "REDIS_URL"),
        (f"rediss://127.0.0.1:{stage.redis.port}/0", 4, "use redis:// for a server without TLS"),
    ):
        finished = stage.run(REDIS_URL=url)
        assert (finished.code, named in one_sentence(finished.err)) == (code, True), finished.err
    web_server.stop()


@pytest.mark.parametrize("binary", redis_binaries(), ids=str)
@pytest.mark.parametrize("database", ["0", "1"])
def test_a_sentinel_is_named(tmp_path: Path, binary: Path, database: str) -> None:
    """It answers on a port of its own, and most commands with an error."""
    sentinel = Sentinel(tmp_path / "sentinel", binary=binary)
    done = bare(tmp_path, REDIS_URL=f"redis://127.0.0.1:{sentinel.port}/{database}")
    sentinel.kill()
    assert (done.returncode, "is a Sentinel" in one_sentence(done.stderr)) == (3, True), done.stderr


def test_what_only_reads_names_a_new_folder_and_makes_none(tmp_path: Path) -> None:
    for command in (("--dry-run",), ("audit",), ("why", "ann"), ("inspect",), ("report",)):
        done = bare(tmp_path, *command)
        assert (done.returncode, list(tmp_path.iterdir())) == (0 if "--dry-run" in command else 2, []), done.stderr
        assert f"Nothing is here yet: {tmp_path / '.recap'} is new" in done.stderr
    assert f"{tmp_path / '.recap'} is new; sample users are put in." in bare(tmp_path).stderr
    assert bare(tmp_path, "samples", "--remove").returncode == 0
    done = bare(tmp_path, "audit", "--date", "yesterday")
    assert (f"{tmp_path / '.recap'} has no users." in done.stderr, "nobody was due" in done.stdout) == (True, True)


def test_a_resend_of_a_day_before_the_account_is_refused_and_credentials_alone_push_to_nobody(tmp_path: Path) -> None:
    """FCM comes only with a project. A resend wrote a skipped ledger for a day in 1990."""
    uid = sample_besides()
    (tmp_path / "key.json").write_text("{}")
    done = bare(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "key.json"))
    assert (done.returncode, (tmp_path / ".recap" / "outbox.jsonl").exists()) == (0, True), done.stderr
    done = bare(tmp_path, "resend", uid, "1990-05-01")
    assert (done.returncode, "has no recap: the account was made at" in done.stderr) == (2, True), done.stderr


def test_a_run_without_an_llm_says_so_aloud(stage: Stage) -> None:
    finished = stage.run(RECAP_SUMMARIZER="extract")
    assert finished.event("summarizer.extract")["severity"] == "WARNING"
    assert stage.llm.calls == {}


def test_inspect_shows_a_key_whose_date_is_none_as_it_is(stage: Stage) -> None:
    keys = (b"ann tomorrow", b" 2026-05-01", b"ann 9999-12-31", b"a/b 2026-05-01", b"\xff 2026-05-01")
    with Redis(port=stage.redis.port) as client:
        for key in keys:
            client.set(b"users:%s:daily_summary_lock:%s" % tuple(key.split(b" ")), "1", px=60_000)
    finished = stage.run("inspect", "--json")
    assert finished.code == 0, finished.err
    rows = [json.loads(line) for line in finished.out.splitlines()]
    assert {(row["uid"], row["date"]) for row in rows if row["claim"] == "foreign"} == {
        tuple(key.decode(errors="backslashreplace").split(" ")) for key in keys
    }


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
    assert (finished.code, "is unfinished; run the same command again" in finished.err) == (1, True), finished.err


def test_a_window_whose_start_is_not_before_its_end_is_never_stored(stage: Stage) -> None:
    slot = stage.add_user("ann")
    later = (slot.recap_date + timedelta(days=1)).isoformat()
    stage.world.put_ledger("ann", later, {"state": "sent", "date": later, "window_end": slot.at})  # a zone a day ahead
    assert stage.run().code == 0
    ledger = stage.world.ledgers("ann")[slot.recap_date.isoformat()]
    assert (ledger["state"], ledger["outcome"], "window_start" in ledger) == ("skipped", "no_content", False)


def test_mass_deletion_of_tokens_stops_at_a_fifth(stage: Stage) -> None:
    for n in range(30):
        stage.add_user(f"user-{n}")
    stage.fcm.script = scripted(lambda _: fcm_error(404, "UNREGISTERED"))
    finished = stage.run()
    assert finished.event("devices.deletions_stopped")["dead"] == 30
    assert "30 of 30 devices were refused as unregistered: is GOOGLE_CLOUD_PROJECT the app's" in finished.out
    assert finished.code == 1
    told = stage.run("doctor", COLUMNS="400")
    assert (told.code, "30 of 30 targets were gone on" in told.out) == (1, True), told.out
    assert finished.event("tick.finished")["tokens_deleted"] == 6
    assert sum(len(stage.world.tokens(f"user-{n}")) for n in range(30)) == 24
