"""Google's credentials: a token that ends, a first 401, a server that can't be asked, a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.jobs import Stage
from tests.support.web import FakeFCM, FakeLLM, LoopbackServer, fcm_error
from tests.support.worlds import SqliteWorld


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
