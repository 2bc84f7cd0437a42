"""Production's own credentials, of a file and of a metadata server, towards FCM and towards Firestore over TLS."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.google import TlsFirestore, TokenServer
from tests.support.jobs import Stage
from tests.support.web import FakeFCM, FakeLLM, fcm_error, scripted
from tests.support.worlds import FirestoreWorld, SqliteWorld

FAST = {
    "RECAP_CONCURRENCY": "1",
    "RECAP_PROVIDER_RETRY_SECONDS": "0.001",
    "RECAP_SHARD_RETRY_MIN_SECONDS": "0.001",
}
EVERYBODY = {f"token-user-{n}-0": 1 for n in range(3)}


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    server = TokenServer()
    yield server
    server.stop()


@pytest.fixture
def pushing(
    sqlite_world: SqliteWorld, redis: Any, llm: FakeLLM, fcm: FakeFCM, tokens: TokenServer, tmp_path: Path
) -> Iterator[Stage]:
    """A stage that pushes with a service account: a file's credentials count on loopback too."""
    stage = Stage(sqlite_world, redis, llm, fcm, tmp_path)
    stage.settings |= FAST | tokens.account_file(tmp_path)
    yield stage
    stage.stop_all()


def test_a_token_that_ends_in_a_minute_is_not_taken_for_one_of_an_hour(pushing: Stage, tokens: TokenServer) -> None:
    tokens.seconds = 60
    for n in range(3):
        pushing.add_user(f"user-{n}")
    finished = pushing.run()
    assert (finished.code, tokens.given) == (0, 3), finished.err
    assert pushing.fcm.bearers == ["Bearer bearer-1", "Bearer bearer-2", "Bearer bearer-3"]


def test_a_token_that_fcm_refuses_is_replaced_once(pushing: Stage, tokens: TokenServer) -> None:
    for n in range(3):
        pushing.add_user(f"user-{n}")
    pushing.fcm.script = scripted(
        lambda _: fcm_error(401, "UNAUTHENTICATED") if pushing.fcm.bearers[-1] == "Bearer bearer-1" else None
    )
    finished = pushing.run()
    assert (finished.code, tokens.given) == (0, 2), finished.err
    assert pushing.fcm.accepted == EVERYBODY


def test_a_google_that_can_not_be_asked_now_is_no_bad_configuration(pushing: Stage, tokens: TokenServer) -> None:
    slot = pushing.add_user("ann")
    tokens.status = 503
    finished = pushing.run()
    assert finished.code == 4, finished.err
    ledger = pushing.world.ledgers("ann")[slot.recap_date.isoformat()]
    assert (ledger["state"], ledger["tries"]) == ("pending", 0)
    tokens.status = 200
    assert pushing.run().code == 0
    assert pushing.fcm.accepted == {"token-ann-0": 1}


def test_credentials_that_google_refuses_are_bad_configuration(pushing: Stage, tokens: TokenServer) -> None:
    pushing.add_user("ann")
    tokens.status = 400
    assert pushing.run().code == 3
    tokens.status = 200
    assert pushing.run().code == 0
    assert pushing.fcm.accepted == {"token-ann-0": 1}


PUSHES = """
import asyncio, json, sys
from datetime import UTC, datetime, timedelta
from notifications.adapters.channels.fcm import connect
from notifications.domain.model import Device
from notifications.domain.push import Message
from notifications.domain.target import device_targets

async def main():
    push = await connect(sys.argv[1], None, 1, authorized=True)
    for line in sys.stdin:
        now = datetime.now(UTC)
        message = Message("ann", now.date(), "tag", "T", "B", "s", None, now)
        [target] = device_targets("fcm", [Device(line.strip(), None)])
        answer = await push.send(target, message, timedelta(seconds=30), lambda: None)
        print(json.dumps([answer.result, answer.code]), flush=True)
    await push.aclose()

asyncio.run(main())
"""


def test_a_machine_at_google_pushes_with_its_own_tokens(fcm: FakeFCM, tokens: TokenServer, tmp_path: Path) -> None:
    """The metadata server: a token that ends, one that FCM refuses, a refusal; and the project is the machine's."""
    env = {"PATH": "/usr/bin:/bin"} | tokens.metadata(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", PUSHES, fcm.url], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as pusher:
        assert pusher.stdin is not None
        assert pusher.stdout is not None

        def pushed(token: str) -> list[str]:
            print(token, file=pusher.stdin, flush=True)
            answer: list[str] = json.loads(pusher.stdout.readline())  # type: ignore[union-attr]
            return answer

        tokens.seconds = 60
        assert [pushed("one"), pushed("two"), tokens.given] == [["accepted", "200"], ["accepted", "200"], 2]
        tokens.seconds = 3_600

        async def third_ended(token: str) -> web.Response | None:
            return fcm_error(401, "UNAUTHENTICATED") if fcm.bearers[-1] == "Bearer bearer-3" else None

        fcm.script = third_ended
        assert [pushed("three"), tokens.given] == [["accepted", "200"], 4]
        fcm.script = None
        tokens.seconds, tokens.status = 60, 404

        async def all_ended(token: str) -> web.Response | None:
            return fcm_error(401, "UNAUTHENTICATED")

        fcm.script = all_ended
        assert pushed("four") == ["unsent", "CREDENTIALS"]


@pytest.fixture(params=["file", "metadata"])
def production(
    request: pytest.FixtureRequest,
    firestore_world: FirestoreWorld,
    redis: Any,
    llm: FakeLLM,
    fcm: FakeFCM,
    tokens: TokenServer,
    tmp_path: Path,
) -> Iterator[tuple[Stage, TlsFirestore]]:
    """Firestore by its own name over TLS, without a word of an emulator."""
    firestore = TlsFirestore(firestore_world.host, tmp_path)
    stage = Stage(firestore_world, redis, llm, fcm, tmp_path)
    given = tokens.account_file(tmp_path) if request.param == "file" else tokens.metadata(tmp_path)
    stage.settings |= FAST | firestore.env() | given | {"FIRESTORE_EMULATOR_HOST": ""}
    yield stage, firestore
    stage.stop_all()
    firestore.stop()


def test_firestore_is_served_by_its_name_with_googles_tokens(
    production: tuple[Stage, TlsFirestore], tokens: TokenServer
) -> None:
    stage, firestore = production
    stage.add_user("ann")
    finished = stage.run()
    assert finished.code == 0, finished.err
    assert set(firestore.bearers) == {"Bearer bearer-1"}
    assert stage.fcm.accepted == {"token-ann-0": 1}


def test_firestore_gets_no_token_that_is_about_to_end(
    production: tuple[Stage, TlsFirestore], tokens: TokenServer
) -> None:
    stage, firestore = production
    tokens.seconds = 60
    stage.add_user("ann")
    finished = stage.run()
    assert finished.code == 0, finished.err
    assert len(set(firestore.bearers)) == len(firestore.bearers)


def test_a_token_that_firestore_refuses_is_replaced_once(
    production: tuple[Stage, TlsFirestore], tokens: TokenServer
) -> None:
    stage, firestore = production
    firestore.refuses = lambda bearer: bearer == "Bearer bearer-1"
    stage.add_user("ann")
    finished = stage.run()
    assert finished.code == 0, finished.err
    assert firestore.bearers.count("Bearer bearer-1") == 1
    assert stage.fcm.accepted == {"token-ann-0": 1}


@pytest.mark.parametrize(("status", "code"), [(503, 4), (404, 3)], ids=["can't be asked now", "refuses"])
def test_without_a_token_firestore_is_down_or_badly_configured(
    production: tuple[Stage, TlsFirestore], tokens: TokenServer, status: int, code: int
) -> None:
    stage, _ = production
    stage.add_user("ann")
    tokens.status = status
    finished = stage.run(RECAP_STORE_TIMEOUT_SECONDS="8", RECAP_SENDING_STALE_SECONDS="40")
    assert finished.code == code, finished.err
    assert dict(stage.llm.calls) == {}
    tokens.status = 200
    assert stage.run().code == 0
    assert stage.fcm.accepted == {"token-ann-0": 1}
