"""One kind of user each, on both stores: the outcome that the design names."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from notifications.domain.schedule import Slot
from tests.support.jobs import Stage, on_firestore
from tests.support.servers import RedisServer
from tests.support.web import FakeFCM, FakeLLM, fcm_error, scripted
from tests.support.worlds import FirestoreWorld, talk


def told(stage: Stage, uid: str, slot: Slot) -> tuple[Any, ...]:
    """Ledger state and outcome, Redis state, LLM calls, summaries."""
    ledger = stage.world.ledgers(uid).get(slot.recap_date.isoformat(), {})
    record = stage.record(uid, slot)
    return (
        ledger.get("state"),
        ledger.get("outcome", ""),
        record.state.value,
        stage.llm.calls[uid],
        len(stage.world.summaries(uid)),
    )


def test_every_kind_of_user_in_one_tick(stage: Stage) -> None:
    at = stage.now - timedelta(hours=4)
    add = stage.add_user
    slots = {
        "plain": add("plain"),
        "off": add("off", daily_summary_enabled=False),
        "silent": add("silent", talks={}),
        "titles": add("titles", talks={"t": talk("titles", at, structured={"title": "Lunch", "overview": ""})}),
        "deviceless": add("deviceless", devices=0),
        "dead-token": add("dead-token", devices=2),
        "legacy-token": add("legacy-token", devices=0, fcm_token="old-phone"),
        "malformed": add(
            "malformed", talks={"bad": talk("malformed", at, structured="no map"), "good": talk("malformed", at)}
        ),
        "only-malformed": add("only-malformed", talks={"bad": talk("only-malformed", at, structured=7)}),
        "on-demand": add("on-demand"),
    }
    day = slots["on-demand"].recap_date.isoformat()
    stage.world.put_summary("on-demand", "abc", {"id": "abc", "date": day, "created_at": at, "headline": "Made before"})
    stage.fcm.script = scripted(lambda token: fcm_error(404, "UNREGISTERED") if token == "token-dead-token-1" else None)
    finished = stage.run()

    assert finished.code == 0, finished.err
    assert {uid: told(stage, uid, slot) for uid, slot in slots.items()} == {
        "plain": ("sent", "", "sent", 1, 1),
        "off": (None, "", "absent", 0, 0),
        "silent": ("skipped", "no_content", "absent", 0, 0),
        "titles": ("skipped", "no_content", "absent", 0, 0),
        "deviceless": ("sent", "no_devices", "sent", 1, 1),
        "dead-token": ("sent", "", "sent", 1, 1),
        "legacy-token": ("sent", "", "sent", 1, 1),
        "malformed": ("sent", "", "sent", 1, 1),
        "only-malformed": ("skipped", "no_content", "absent", 0, 0),
        "on-demand": ("sent", "legacy", "sent", 0, 1),
    }
    tokens = ("token-plain-0", "token-dead-token-0", "old-phone", "token-malformed-0")
    assert stage.fcm.accepted == dict.fromkeys(tokens, 1)
    assert set(stage.world.tokens("dead-token")) == {"d0"}
    event = finished.event("tick.finished")
    counts = {
        "due": 9, "claimed": 9, "sent": 4, "no_devices": 1, "skipped": 4,
        "skipped_by_reason": {"no_content": 3, "legacy": 1},
        "pushes": 5, "tokens_deleted": 1, "malformed": 2, "llm_calls": 10, "tokens_used": stage.llm.tokens,
        "waiting": 0, "held": 0, "lost": 0, "stopped": 0, "failed": 0, "unreadable": 0, "done_before": 0,
        "dead": 0, "gave_up": 0, "missed": 0, "unreached": 0, "defects": 0, "over_budget": 0, "unpriced_calls": 0,
    }  # fmt: skip
    assert {name: event[name] for name in counts} == counts
    assert "token-dead-token-1" not in finished.err + finished.out


@on_firestore
def test_documents_read_and_written_for_each_kind_of_outcome(stage: Stage) -> None:
    """Exact, as Firestore bills them: an empty query is one read. The pages are counted by a run without users.

    All runs at one instant: an hour that opens or ends between them has pages, too.
    """
    stage.add_user("nobody", daily_summary_enabled=False)
    now = ("--now", stage.now.isoformat())
    pages = stage.run(*now).event("tick.finished")["documents_read"]
    kinds: dict[str, dict[str, Any]] = {"sent": {}, "without-devices": {"devices": 0}, "skipped": {"talks": {}}}
    told: dict[str, tuple[int, int]] = {}
    for uid, changes in kinds.items():
        stage.redis.ask("FLUSHALL")
        stage.add_user(uid, **changes)
        event = stage.run(*now).event("tick.finished")
        told[uid] = (event["documents_read"] - pages, event["documents_written"])
        stage.world.update_user(uid, {"daily_summary_enabled": False})
    assert told == {
        # a page holds the user where an empty one counted too; ledgers 1, summary 1, conversations 2, devices 1,
        # begin: summary look-up 1, user 1, ledger 1, those of four days before; report needs no read
        "sent": (12, 3),
        "without-devices": (13, 2),  # the legacy token's field is one read more, and there is no report
        "skipped": (9, 1),  # ledgers, summary, conversations, and close: user, ledger, those of four days before
    }


def test_a_named_database_is_served(
    firestore_world: FirestoreWorld, redis: RedisServer, llm: FakeLLM, fcm: FakeFCM, tmp_path: Path
) -> None:
    named = FirestoreWorld(firestore_world.host, "recaps")
    stage = Stage(named, redis, llm, fcm, tmp_path)
    try:
        stage.add_user("ann")
        finished = stage.run()
        assert (finished.code, finished.event("tick.finished")["sent"]) == (0, 1), finished.err
        assert [ledger["state"] for ledger in named.ledgers("ann").values()] == ["sent"]
    finally:
        named.close()
