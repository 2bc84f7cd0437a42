"""Bad input and servers that are down: one sentence, the right exit code, nothing lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from notifications.domain.claim import ClaimState
from tests.support.jobs import Stage
from tests.support.web import fcm_error, scripted


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
