"""Bad input and servers that are down: one sentence, the right exit code, nothing lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimState
from tests.support.jobs import Stage
from tests.support.servers import free_port
from tests.support.web import completion, fcm_error, llm_error, project_quota_error


@pytest.fixture
def world(sqlite_world: Any) -> Any:
    """Which store it is makes no difference here."""
    return sqlite_world


def one_sentence(text: str) -> str:
    """What a person reads: the one line of stderr that is no log event."""
    [line] = [line for line in text.splitlines() if not line.startswith("{")]
    return line


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


def test_a_refused_key_stops_at_once_charges_nobody_and_heals(stage: Stage) -> None:
    slots = {uid: stage.add_user(uid) for uid in ("ann", "bob", "cat")}

    async def refuse(who: str) -> web.Response:
        return llm_error(401, "invalid_api_key")

    stage.llm.script = refuse
    finished = stage.run(
        RECAP_CONCURRENCY="1", RECAP_PROVIDER_RETRY_SECONDS="0.01", RECAP_SHARD_RETRY_MIN_SECONDS="0.01"
    )
    assert finished.code == 3
    assert "check OPENAI_API_KEY" in one_sentence(finished.err)
    assert "test-key" not in finished.err
    assert stage.llm.calls.total() == 1
    assert {stage.record(uid, slot).failures for uid, slot in slots.items()} == {0}
    stage.llm.script = None
    assert stage.run().code == 0
    assert stage.fcm.accepted == {f"token-{uid}-0": 1 for uid in slots}


@pytest.mark.parametrize("name", ["llm", "fcm"])
def test_an_unreachable_server_is_named_and_the_next_run_recovers(stage: Stage, name: str) -> None:
    slot = stage.add_user("ann")
    nowhere = f"http://127.0.0.1:{free_port()}"
    down = {"OPENAI_BASE_URL": f"{nowhere}/v1"} if name == "llm" else {"FCM_BASE_URL": nowhere}
    fast = {"RECAP_PROVIDER_RETRY_SECONDS": "0.01", "RECAP_SHARD_RETRY_MIN_SECONDS": "0.01"}
    finished = stage.run(**down, **fast)
    assert finished.code == 4
    told = (
        f"The LLM at {nowhere.removeprefix('http://')} refuses the connection" if name == "llm" else "does not answer"
    )
    assert told in one_sentence(finished.err)
    assert (stage.record("ann", slot).state, stage.record("ann", slot).failures) == (ClaimState.IDLE, 0)
    assert stage.run().code == 0
    assert (stage.llm.calls["ann"], stage.fcm.accepted["token-ann-0"]) == (1, 1)


def test_an_answer_off_the_schema_counts_against_the_item_until_it_is_dead(stage: Stage) -> None:
    slot = stage.add_user("ann")
    stage.add_user("bob")

    async def script(who: str) -> web.Response | None:
        return completion("no recap") if who == "ann" else None

    stage.llm.script = script
    fast = {"RECAP_ITEM_RETRY_SECONDS": "0.001", "RECAP_SHARD_RETRY_MIN_SECONDS": "0.001", "RECAP_FALLBACK": "none"}
    told: list[tuple[ClaimState, int]] = []
    for _ in range(3):
        finished = stage.run(**fast)
        assert finished.code == (5 if len(told) == 2 else 0), finished.err  # the third ends ann's day
        told.append((stage.record("ann", slot).state, stage.record("ann", slot).failures))
    assert told == [(ClaimState.IDLE, 1), (ClaimState.IDLE, 2), (ClaimState.DEAD, 3)]
    [ledger] = stage.world.ledgers("ann").values()
    assert (ledger["state"], ledger["outcome"], ledger["failures"]) == ("dead", "failures", 3)
    assert (stage.llm.calls, stage.fcm.accepted) == ({"ann": 6, "bob": 1}, {"token-bob-0": 1})


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


def test_a_quota_answer_of_fcm_slows_the_run_and_loses_nobody(stage: Stage) -> None:
    slots = {uid: stage.add_user(uid) for uid in ("ann", "bob")}
    refused = iter([True])

    async def script(token: str) -> web.Response | None:
        return project_quota_error(**{"Retry-After": "1"}) if next(refused, False) else None

    stage.fcm.script = script
    finished = stage.run(RECAP_CONCURRENCY="1")
    assert finished.code == 0
    assert [(event["scope"], event["wait_seconds"]) for event in finished.named("push.quota")] == [("project", 1.0)]
    assert stage.fcm.accepted == {f"token-{uid}-0": 1 for uid in slots}


def test_mass_deletion_of_tokens_stops_at_a_fifth(stage: Stage) -> None:
    for n in range(30):
        stage.add_user(f"user-{n}")

    async def script(token: str) -> web.Response:
        return fcm_error(404, "UNREGISTERED")

    stage.fcm.script = script
    finished = stage.run()
    assert finished.event("devices.deletions_stopped")["dead"] == 30
    assert finished.event("tick.finished")["tokens_deleted"] == 10
    assert sum(len(stage.world.tokens(f"user-{n}")) for n in range(30)) == 20


@pytest.mark.parametrize(("status", "code"), [(403, "SENDER_ID_MISMATCH"), (400, "INVALID_ARGUMENT")])
def test_a_wrong_project_deletes_no_token_and_shouts(stage: Stage, status: int, code: str) -> None:
    stage.add_user("ann")

    async def script(token: str) -> web.Response:
        return fcm_error(status, code)

    stage.fcm.script = script
    finished = stage.run()
    assert finished.event("push.refused")["code"] == code
    assert set(stage.world.tokens("ann")) == {"d0"}
    [ledger] = stage.world.ledgers("ann").values()
    assert ledger["state"] == "pending"  # a person can mend it while the catch-up lasts
