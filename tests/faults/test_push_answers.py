"""A push is accepted when FCM says so, unknown once the request was written, and never lost to what comes after."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from notifications.domain.claim import Stored
from tests.faults.harness import FaultStage, on_sqlite
from tests.support.jobs import JOB, Stage
from tests.support.servers import free_port, wait_for
from tests.support.web import FakeFCM, FakeLLM, LoopbackServer, fcm_error
from tests.support.worlds import SqliteWorld, talk

HTML = "<html><title>Sign in</title></html>"


class Elsewhere(LoopbackServer):
    """Another origin: whatever is sent here should not have been."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.got.append(await request.read())
        return web.json_response({"name": "projects/other/messages/1", "choices": []})


@pytest.mark.short
@pytest.mark.parametrize("kind", ["html", "empty json", "302", "307", "no json", "null"])
@on_sqlite
def test_fcm_not_fcm(staged: FaultStage, kind: str) -> None:
    """Nothing is accepted, nothing is posted anywhere else, and it is told; once it is mended, one push."""
    elsewhere = Elsewhere()
    staged.add_users("ann")

    async def proxy(token: str) -> web.Response:
        location = {"Location": f"{elsewhere.url}/v1/projects/local/messages:send"}
        return {
            "html": web.Response(text=HTML, content_type="text/html"),
            "empty json": web.json_response({}),
            "302": web.Response(status=302, headers=location),
            "307": web.Response(status=307, headers=location),
            "no json": web.Response(text='{"name": "projects'),
            "null": web.json_response(None),
        }[kind]

    staged.fcm_rule = proxy
    finished = staged.stage.run()
    assert finished.code == 4, finished.err
    assert "is not FCM (FCM_BASE_URL)" in finished.err
    assert (staged.ledger("ann")["state"], elsewhere.got) == ("pending", [])
    assert staged.stage.record("ann", staged.slots["ann"]).state is Stored.IDLE
    staged.fcm_rule = None
    staged.run_until_settled()
    staged.check_delivered()
    elsewhere.stop()


@on_sqlite
def test_conversations_follow_no_redirect_of_the_llm(staged: FaultStage) -> None:
    elsewhere = Elsewhere()
    staged.add_users("ann")

    async def redirect(who: str) -> web.Response:
        return web.Response(status=307, headers={"Location": f"{elsewhere.url}/v1/chat/completions"})

    staged.llm_rule = redirect
    finished = staged.stage.run()
    assert (finished.code, elsewhere.got) == (4, []), finished.err
    elsewhere.stop()


@on_sqlite
def test_an_fcm_that_can_not_be_reached_uses_up_no_try(staged: FaultStage) -> None:
    """Four runs that never got to write a request: the fifth pushes, for the first time."""
    staged.add_users("ann")
    black_hole = "http://127.0.0.1:{}".format
    for _ in range(4):
        staged.age()
        with Listening() as port:
            finished = staged.stage.run(FCM_BASE_URL=black_hole(port))
        assert finished.code == 4, finished.err
        assert (staged.ledger("ann")["state"], staged.ledger("ann")["tries"]) == ("pending", 0)
        assert finished.event("tick.finished")["pushes"] == 0
    staged.run_until_settled()
    staged.check_delivered()


class Listening:
    """A port whose connections are never taken: its backlog is full, so that a connect hangs."""

    def __enter__(self) -> int:
        import socket

        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self._fillers = []
        port = int(self._listener.getsockname()[1])
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            self._fillers.append(filler)
        return port

    def __exit__(self, *_: object) -> None:
        for one in (*self._fillers, self._listener):
            one.close()


@on_sqlite
def test_tries_without_an_answer_are_spaced_over_the_catch_up(staged: FaultStage) -> None:
    """1, 5 and 25 minutes: an FCM that is slow for a while does not use up three tries in three minutes."""
    staged.stage.settings["RECAP_PUSH_RETRY_SECONDS"] = "60"
    staged.add_users("ann")

    async def cut(token: str) -> web.Response:
        raise ConnectionResetError

    staged.fcm_rule = cut
    waits = []
    for _ in range(3):
        staged.age(timedelta(minutes=40))
        staged.stage.run()
        record = staged.stage.record("ann", staged.slots["ann"])
        waits.append(round((record.until / 1000 - datetime.now(UTC).timestamp()) / 60))
        assert staged.ledger("ann")["state"] == "pending"
    assert waits == [1, 5, 25]
    assert staged.ledger("ann")["tries"] == 3


@on_sqlite
def test_sigterm_waits_for_fcm_as_long_as_the_platform_allows(staged: FaultStage) -> None:
    staged.stage.settings |= {
        "RECAP_STOP_SECONDS": "20",
        "RECAP_PUSH_DEADLINE_SECONDS": "15",
        "RECAP_SENDING_STALE_SECONDS": "25",
        "RECAP_USER_LEASE_SECONDS": "60",
    }
    staged.add_users("ann")
    asked = asyncio.Event()

    async def slow(token: str) -> web.Response | None:
        asked.set()
        await asyncio.sleep(7)  # the fault itself
        return None

    staged.fcm_rule = slow
    process = staged.stage.start()
    wait_for(asked.is_set, "push")
    process.send_signal(signal.SIGTERM)
    finished = staged.stage.end(process)
    assert finished.code == 0, finished.err
    staged.check_delivered()


@pytest.mark.parametrize("retry_after", ["1790000000000", "Fri, 31 Dec 9999 23:59:59 GMT", "9" * 400, "-5", "soon"])
@on_sqlite
def test_no_retry_after_can_lose_an_answer(staged: FaultStage, retry_after: str) -> None:
    """Device 2 is told to come back in fifty thousand years; device 1 was accepted, and stays so."""
    staged.add_users("ann", devices=2)
    closed = True

    async def rule(token: str) -> web.Response | None:
        answer = fcm_error(429, "QUOTA_EXCEEDED", **{"Retry-After": retry_after})
        return answer if closed and token == "token-ann-1" else None

    staged.fcm_rule = rule
    finished = staged.stage.run()
    assert finished.event("tick.finished")["defects"] == 0, finished.err
    assert (staged.ledger("ann")["state"], len(staged.ledger("ann")["devices"])) == ("pending", 1)
    closed = False
    staged.run_until_settled()
    staged.check_delivered()


@on_sqlite
def test_a_deep_or_endless_answer_of_fcm_is_no_defect(staged: FaultStage) -> None:
    staged.add_users("ann", "bob")

    async def odd(token: str) -> web.Response:
        return web.Response(status=503, text="[" * 200_000 if "ann" in token else "x" * 3_000_000)

    staged.fcm_rule = odd
    finished = staged.stage.run()
    assert finished.event("tick.finished")["defects"] == 0, finished.err
    staged.fcm_rule = None
    staged.run_until_settled()
    staged.check_delivered()


WIDE = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"  # one family: 25 bytes


@pytest.mark.parametrize("word", ["x" * 50, "слово", "言葉", WIDE, "x" * 6_300])
@on_sqlite
def test_no_text_makes_a_push_that_fcm_refuses(staged: FaultStage, word: str) -> None:
    """FCM takes 4,096 bytes: title, emoji and body are bounded in characters and in bytes."""
    from tests.support.web import completion, recap_answer

    staged.add_users("ann")

    async def long(who: str) -> web.Response:
        text = " ".join([word] * (300 if len(word) < 100 else 1))
        return completion(json.dumps(recap_answer(who, headline=text, overview=text, day_emoji=text)))

    staged.llm_rule = long
    assert staged.stage.run().code == 0
    [message] = staged.stage.fcm.messages
    [summary] = staged.stage.world.summaries("ann").values()
    assert len(summary["headline"]) <= 120
    assert len(summary["overview"]) <= 1_500
    assert len(message["notification"]["title"].encode()) <= 300
    assert len(message["notification"]["body"].encode()) <= 450
    assert staged.ledger("ann")["state"] == "sent"


@on_sqlite
def test_an_old_ledger_that_holds_too_much_is_pushed_all_the_same(staged: FaultStage) -> None:
    """4,097 bytes and more, stored by an earlier version."""
    staged.add_users("ann")
    staged.run_until_settled()
    day, ledger = staged.slots["ann"].recap_date.isoformat(), staged.ledger("ann")
    staged.stage.world.put_ledger("ann", day, ledger | {"title": "T" * 6_300, "body": "words " * 900})
    staged.age(sent=True)
    done = staged.stage.run("resend", "ann", day)
    assert done.code == 0, done.err
    assert staged.pushes() == {"token-ann-0": 2}


@on_sqlite
def test_a_refused_device_is_left_alone_for_half_an_hour(staged: FaultStage) -> None:
    staged.stage.settings["RECAP_REFUSED_RETRY_SECONDS"] = "1800"
    staged.add_users("ann")

    async def refuse(token: str) -> web.Response:
        return fcm_error(403, "SENDER_ID_MISMATCH")

    staged.fcm_rule = refuse
    staged.stage.run()
    record = staged.stage.record("ann", staged.slots["ann"])
    left = record.until / 1000 - datetime.now(UTC).timestamp()
    assert (record.state, record.reason, 1_750 < left <= 1_800) == (Stored.IDLE, "sender_id_mismatch", True)
    assert staged.ledger("ann")["reason"] == "SENDER_ID_MISMATCH"
    staged.age(timedelta(minutes=6))  # the shard's wait is over, the user's is not
    staged.stage.run()
    assert staged.stage.fcm.asked == {"token-ann-0": 1}


@on_sqlite
def test_a_resend_to_a_refused_device_ends_with_what_fcm_said(staged: FaultStage) -> None:
    """It pushed once a second for ever."""
    staged.add_users("ann")
    staged.run_until_settled()
    staged.age(sent=True)

    async def refuse(token: str) -> web.Response:
        return fcm_error(400, "INVALID_ARGUMENT")

    staged.fcm_rule = refuse
    day = staged.slots["ann"].recap_date.isoformat()
    done = staged.stage.run("resend", "ann", day)
    assert (done.code, "INVALID_ARGUMENT" in done.err.splitlines()[-1]) == (1, True), done.err
    assert staged.stage.fcm.asked == {"token-ann-0": 2}
    staged.fcm_rule = None
    assert staged.stage.run("resend", "ann", day).code == 0
    assert staged.pushes() == {"token-ann-0": 2}


@pytest.mark.parametrize("how", ["pipe", "full", "ascii", "stderr", "no stdout", "no stderr"])
def test_what_is_shown_can_not_touch_what_is_recorded(tmp_path: Path, how: str) -> None:
    """`job.py | head`, a full disk behind stdout, a terminal of ASCII: one push each, and sent."""
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environ |= {"RECAP_START_GAP_SECONDS": "0.001"} | ({"PYTHONIOENCODING": "ascii"} if how == "ascii" else {})
    command = [sys.executable, str(JOB), "--now", "2026-07-04T12:17:00Z"]
    if how.startswith("no "):
        closed = "1>&-" if how == "no stdout" else "2>&-"
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    for _ in range(3):
        read, write = os.pipe()
        os.close(read)
        out: Any = {"pipe": write, "full": os.open("/dev/full", os.O_WRONLY), "ascii": subprocess.PIPE}.get(how, write)
        err: Any = write if how == "stderr" else subprocess.PIPE
        done = subprocess.run(command, cwd=tmp_path, env=environ, stdout=out, stderr=err, check=False, timeout=60)
        os.close(write)
        said = (done.stderr or b"").decode(errors="replace")
        assert (done.returncode, "Traceback" in said, "Exception ignored" in said) == (0, False, False), said
    pushed = [json.loads(line) for line in (tmp_path / ".recap" / "outbox.jsonl").read_text().splitlines()]
    devices = [(one["uid"], one["device"]) for one in pushed]
    assert len(devices) == len(set(devices)) > 1
    world = SqliteWorld(tmp_path / ".recap")
    rows = world.db.execute("SELECT uid, doc FROM ledgers").fetchall()
    world.close()
    states = {uid: json.loads(doc)["state"] for uid, doc in rows}
    assert {states[uid] for uid, _ in devices} == {"sent"}


# --- Google's tokens ---------------------------------------------------------------------


class TokenServer(LoopbackServer):
    """Google's token endpoint: each token has a number; a script may refuse, or say how long it is good."""

    def __init__(self) -> None:
        self.given = 0
        self.status = 200
        self.seconds = 3_600
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.status != 200:
            return web.json_response({"error": "invalid_grant" if self.status == 400 else "busy"}, status=self.status)
        self.given += 1
        return web.json_response(
            {"access_token": f"bearer-{self.given}", "expires_in": self.seconds, "token_type": "Bearer"}
        )


@pytest.fixture
def google(sqlite_world: SqliteWorld, redis: Any, llm: FakeLLM, fcm: FakeFCM, tmp_path: Path) -> Any:
    """A stage that pushes with a service account whose tokens come from a loopback server."""
    tokens = TokenServer()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {
        "type": "service_account",
        "project_id": "project-1",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "job@project-1.iam.example",
        "token_uri": f"{tokens.url}/token",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    stage = Stage(sqlite_world, redis, llm, fcm, tmp_path)
    stage.settings |= {
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "account.json"),
        "RECAP_CONCURRENCY": "1",
        "RECAP_PROVIDER_RETRY_SECONDS": "0.001",
        "RECAP_SHARD_RETRY_MIN_SECONDS": "0.001",
    }
    yield stage, tokens
    stage.stop_all()
    tokens.stop()


def test_a_token_that_ends_in_a_minute_is_not_taken_for_one_of_an_hour(google: Any) -> None:
    stage, tokens = google
    tokens.seconds = 60
    for n in range(3):
        stage.add_user(f"user-{n}")
    finished = stage.run()
    assert (finished.code, tokens.given) == (0, 3), finished.err
    assert stage.fcm.bearers == ["Bearer bearer-1", "Bearer bearer-2", "Bearer bearer-3"]


def test_a_refused_token_is_replaced_once(google: Any) -> None:
    stage, tokens = google
    for n in range(3):
        stage.add_user(f"user-{n}")

    async def first_ended(token: str) -> web.Response | None:
        return fcm_error(401, "UNAUTHENTICATED") if stage.fcm.bearers[-1] == "Bearer bearer-1" else None

    stage.fcm.script = first_ended
    finished = stage.run()
    assert (finished.code, tokens.given) == (0, 2), finished.err
    assert stage.fcm.accepted == {f"token-user-{n}-0": 1 for n in range(3)}


def test_a_google_that_can_not_be_asked_now_is_no_bad_configuration(google: Any) -> None:
    stage, tokens = google
    slot = stage.add_user("ann")
    tokens.status = 503
    finished = stage.run()
    assert finished.code == 4, finished.err
    ledger = stage.world.ledgers("ann")[slot.recap_date.isoformat()]
    assert (ledger["state"], ledger["tries"]) == ("pending", 0)
    tokens.status = 200
    assert stage.run().code == 0
    assert stage.fcm.accepted == {"token-ann-0": 1}


def test_credentials_that_google_refuses_are_bad_configuration(google: Any) -> None:
    stage, tokens = google
    stage.add_user("ann")
    tokens.status = 400
    assert stage.run().code == 3
    tokens.status = 200
    assert stage.run().code == 0
    assert stage.fcm.accepted == {"token-ann-0": 1}


# --- what expires, and what is deleted ------------------------------------------------------


@on_sqlite
def test_a_resend_a_day_later_is_worth_its_time_from_now_on(staged: FaultStage) -> None:
    staged.add_users("ann")
    staged.run_until_settled()
    staged.age(sent=True)
    later = datetime.now(UTC) + timedelta(hours=26)
    done = staged.stage.run("--now", later.isoformat(), "resend", "ann", staged.slots["ann"].recap_date.isoformat())
    assert done.code == 0, done.err
    first, second = staged.stage.fcm.messages
    created = datetime.fromisoformat(first["data"]["created_at"]).timestamp()
    assert int(first["apns"]["headers"]["apns-expiration"]) == int(created + 20 * 3600)
    assert abs(int(second["apns"]["headers"]["apns-expiration"]) - (later.timestamp() + 20 * 3600)) < 60


def test_bearer_tokens_do_not_go_in_clear_to_another_machine(
    sqlite_world: SqliteWorld, redis: Any, llm: FakeLLM, fcm: FakeFCM, tmp_path: Path
) -> None:
    stage = Stage(sqlite_world, redis, llm, fcm, tmp_path)
    stage.world.put_user("ann", {"time_zone": "UTC"}, {}, {"t": talk("ann", stage.now)})
    project = {"GOOGLE_CLOUD_PROJECT": "p", "FCM_BASE_URL": f"http://fcm.example:{free_port()}"}
    finished = stage.run(**project)
    assert (finished.code, "FCM_BASE_URL is http:// to another machine" in finished.err) == (3, True), finished.err
