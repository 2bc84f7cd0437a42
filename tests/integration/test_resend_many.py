"""A bulk resend where not everybody can be sent to: they stop nobody, use up no limit, and are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from tests.support.jobs import Stage
from tests.support.servers import wait_for
from tests.support.web import fcm_error, scripted
from tests.support.worlds import Doc, talk

on_sqlite = pytest.mark.parametrize("world", ["sqlite"], indirect=True)
AT = datetime.now(UTC).replace(hour=20, minute=0, second=0, microsecond=0) - timedelta(days=2)
DAY, NEXT = AT.date().isoformat(), (AT + timedelta(days=1)).date().isoformat()
MISSED: Doc = {"date": DAY, "state": "missed", "outcome": "closed", "seq": 1, "devices": {}}
ALL = ("resend", "--date", DAY, "--where", "missed")


def put(stage: Stage, uid: str, *, devices: int = 1, silent: bool = False, **doc: object) -> None:
    whole = {"time_zone": "UTC", "daily_summary_enabled": True, "daily_summary_hour_local": 20, **doc}
    said = {} if silent else {"t": talk(uid, AT - timedelta(hours=2))}
    stage.world.put_user(uid, whole, {f"d{n}": f"token-{uid}-{n}" for n in range(devices)}, said)
    stage.world.put_ledger(uid, DAY, MISSED)


def evening(stage: Stage) -> None:
    """In the order of their uids those come first who can't be sent to."""
    put(stage, "a-later")
    covered = {"window_start": AT - timedelta(hours=30), "window_end": AT + timedelta(days=1)}
    stage.world.put_ledger("a-later", NEXT, {**MISSED, **covered, "date": NEXT, "state": "sent"})
    put(stage, "b-off", daily_summary_enabled=False)
    put(stage, "c-silent", silent=True)
    put(stage, "d-mars", time_zone="mars")
    for uid in ("e", "f", "g"):
        put(stage, uid)


def test_who_can_not_be_sent_to_uses_up_no_limit(stage: Stage) -> None:
    evening(stage)
    refused = "1 in a later recap, 1 nothing to say, 1 switched off, 1 unreadable document"
    would = stage.run(*ALL, "--limit", "2", "--dry-run")
    expected = f"{DAY}: 2 sent, {refused} (dry run: nothing was claimed, sent or written)."
    assert " ".join(would.out.split()) == expected
    first = stage.run(*ALL, "--limit", "2")
    assert f"{DAY}: 2 sent, {refused}; 2 pushes, 4 LLM calls." in " ".join(first.out.split()), first.err
    assert first.code == 5  # somebody's document can't be read
    assert stage.fcm.accepted == {"token-e-0": 1, "token-f-0": 1}
    stage.run(*ALL, "--limit", "2")
    assert stage.fcm.accepted == {"token-e-0": 1, "token-f-0": 1, "token-g-0": 1}
    assert "d-mars" in first.out


@on_sqlite
def test_a_device_that_had_the_recap_is_not_pushed_to_again(stage: Stage) -> None:
    put(stage, "ann", devices=2)
    stage.fcm.script = scripted(lambda token: fcm_error(503, "UNAVAILABLE") if token == "token-ann-1" else None)
    stage.settings |= {"RECAP_PUSH_DEADLINE_SECONDS": "1", "RECAP_PUSH_RETRY_SECONDS": "0.2"}
    process = stage.start(*ALL)
    wait_for(lambda: "accepted" in str(stage.world.ledgers("ann")[DAY]["devices"]), "report")
    process.kill()
    stage.end(process)
    with Redis(port=stage.redis.port) as client:
        client.flushall()
    ledger = stage.world.ledgers("ann")[DAY]
    stage.world.put_ledger("ann", DAY, {**ledger, "state": "gave_up", "outcome": "pushes"})
    stage.fcm.script = None
    assert stage.run("resend", "--date", DAY, "--where", "gave_up").code == 0
    assert stage.fcm.accepted == {"token-ann-0": 1, "token-ann-1": 1}
