"""A push is accepted when FCM says so, unknown once the request was written, and never lost; quotas pace it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimState
from tests.faults.stage import FaultStage
from tests.support.jobs import JOB, on_sqlite
from tests.support.web import Elsewhere, fcm_error, project_quota_error, scripted
from tests.support.worlds import SqliteWorld

HTML = "<html><title>Sign in</title></html>"


@pytest.mark.short
@pytest.mark.parametrize("kind", ["html", "empty json", "302", "307", "no json", "null", "no name", "error"])
@on_sqlite
def test_what_is_not_fcm_accepts_nothing(staged: FaultStage, kind: str) -> None:
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
            "no name": web.json_response({"name": ""}),
            "error": web.json_response({"name": "projects/p/messages/1", "error": {"status": "INTERNAL"}}),
        }[kind]

    staged.fcm_rule = proxy
    finished = staged.stage.run()
    assert finished.code == 4, finished.err
    assert "What answers is not FCM at 127.0.0.1:" in finished.err
    assert (staged.ledger("ann")["state"], elsewhere.got) == ("pending", [])
    assert staged.stage.record("ann", staged.slots["ann"]).state is ClaimState.IDLE
    staged.fcm_rule = None
    staged.run_until_settled()
    staged.check_delivered()
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
    """1 and 5 minutes: an FCM that is slow for a while does not use up three tries in three minutes."""
    staged.stage.settings["RECAP_PUSH_RETRY_SECONDS"] = "60"
    staged.add_users("ann")

    async def cut(token: str) -> web.Response:
        raise ConnectionResetError

    staged.fcm_rule = cut
    waits = []
    for _ in range(3):
        staged.age(timedelta(minutes=12))
        staged.stage.run()
        record = staged.stage.record("ann", staged.slots["ann"])
        waits.append(round((record.until / 1000 - datetime.now(UTC).timestamp()) / 60))
    assert waits[:2] == [1, 5]
    ledger = staged.ledger("ann")
    assert (ledger["state"], ledger["outcome"], ledger["unanswered"]) == ("gave_up", "pushes", 3)


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
    staged.fcm_rule = scripted(
        lambda token: web.Response(status=503, text="[" * 200_000 if "ann" in token else "x" * 3_000_000)
    )
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
        said = [{"text": text, "notes": [1]}]
        return completion(json.dumps(recap_answer(who, headline=text, overview=said, day_emoji=text)))

    staged.llm_rule = long
    assert staged.stage.run().code == 0
    [message] = staged.stage.fcm.messages
    [summary] = staged.stage.world.summaries("ann").values()
    assert len(summary["headline"]) <= 120
    assert len(summary["overview"]) <= 1_500
    assert len(message["notification"]["title"].encode()) <= 300
    assert len(message["notification"]["body"].encode()) <= 450
    assert staged.ledger("ann")["state"] == "sent"


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


EVERYBODY = [f"user-{n:02}" for n in range(60)]


def token_of(uid: str) -> str:
    return f"token-{uid}-0"


@pytest.mark.parametrize("retry_after", [{}, {"Retry-After": "5400"}], ids=["without", "with"])
@on_sqlite
def test_one_device_over_its_quota_all_evening_keeps_nobody_from_theirs(
    staged: FaultStage, retry_after: dict[str, str]
) -> None:
    """60 users, the first of them over quota for the whole evening: 59 have their push in the first run."""
    staged.add_users(*EVERYBODY)
    over = True
    staged.fcm_rule = scripted(
        lambda token: fcm_error(429, "QUOTA_EXCEEDED", **retry_after) if over and token == token_of("user-00") else None
    )
    finished = staged.stage.run()
    others = {token_of(uid): 1 for uid in EVERYBODY[1:]}
    assert (finished.code, staged.pushes()) == (0, others), finished.err
    told = finished.event("tick.finished")
    assert (told["sent"], told["waiting"], told["seconds"] < 30) == (59, 1, True)
    quota = finished.event("push.quota")
    assert (quota["uid"], quota["scope"]) == ("user-00", "device")
    assert quota["wait_seconds"] == (5400 if retry_after else 60)
    staged.age(timedelta(hours=2))
    assert staged.stage.run().code == 0
    assert (staged.stage.fcm.asked[token_of("user-00")], staged.pushes()) == (2, others)  # once in each run
    assert (staged.ledger("user-00")["state"], staged.ledger("user-00")["tries"]) == ("pending", 0)
    record = staged.stage.record("user-00", staged.slots["user-00"])
    assert (record.state, record.failures, record.crashes) == (ClaimState.IDLE, 0, 0)
    over = False
    staged.run_until_settled()
    staged.check_delivered()


@pytest.mark.parametrize("names_it", [True, False], ids=["named", "unnamed"])
@on_sqlite
def test_the_projects_quota_paces_the_run_and_loses_nobody(staged: FaultStage, names_it: bool) -> None:
    """20 pushes a minute for 60 users: a named quota stops the pushing at once, an unnamed one at its third device."""
    staged.add_users(*EVERYBODY)
    left = 20

    async def rule(token: str) -> web.Response | None:
        nonlocal left
        left -= 1
        if left >= 0:
            return None
        return project_quota_error() if names_it else fcm_error(429, "QUOTA_EXCEEDED")

    staged.fcm_rule = rule
    finished = staged.stage.run()
    assert finished.code == 0, finished.err
    asked = staged.stage.fcm.asked
    refused = 1 if names_it else 3
    assert (sum(staged.pushes().values()), sum(asked.values())) == (20, 20 + refused)
    paced = [event for event in finished.named("push.quota") if event["scope"] == "project"]
    assert [event["wait_seconds"] for event in paced] == [60]
    told = finished.event("tick.finished")
    assert (told["sent"], told["waiting"]) == (20, 40)
    states = Counter((staged.ledger(uid)["state"], staged.ledger(uid)["tries"]) for uid in EVERYBODY)
    assert states == {("sent", 1): 20, ("pending", 0): 40}
    left = 10_000
    staged.run_until_settled()
    staged.check_delivered()
