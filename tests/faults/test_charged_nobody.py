"""Only a dead process is a crash: whatever else goes wrong in a user's turn frees the claim at once, uncharged."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from notifications.adapters.claims.redis import RedisClaims, connect
from notifications.adapters.local.outbox import Outbox
from notifications.adapters.sentences import sentences
from notifications.domain.claim import SINGLE_FILE_LANE, ClaimState
from notifications.domain.errors import (
    ConfigFault,
    DependencyDown,
    Malformed,
    ProviderFault,
    StoreDown,
)
from notifications.domain.model import User
from notifications.domain.schedule import latest_slot
from notifications.limits import Limits
from notifications.run.state import Run, Services
from notifications.run.user import claim_and_recap
from notifications.testing import MemorySummarizer
from notifications.wiring import BootClock
from tests.faults.stage import FaultStage
from tests.support.jobs import Stage, on_sqlite
from tests.support.servers import RedisServer
from tests.support.web import completion, scripted
from tests.support.worlds import SqliteWorld, World, talk
from tests.support.worlds import connect as connect_store

RAISED: dict[str, Callable[[], Exception]] = {
    "store down": lambda: StoreDown("sqlite", "It is down."),
    "store refuses": lambda: ConfigFault("It refuses."),
    "malformed": lambda: Malformed("Not ours."),
    "provider down": lambda: ProviderFault("It is down."),
    "provider refuses": lambda: ProviderFault("It refuses.", config=True),
    "server down": lambda: DependencyDown("fcm", "It is down."),
    "a defect": lambda: RuntimeError("ours"),
    "too deep": RecursionError,
    "too large": OverflowError,
    "no text": lambda: UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates"),
    "no memory": MemoryError,
}
STEPS = ("ledgers_between", "summary", "conversations_in", "ask", "devices", "begin", "send", "record_pushes")


class Raising:
    """A port that raises at one of its methods; everything else is the real adapter's."""

    def __init__(self, adapter: Any, step: str, raised: Callable[[], Exception]) -> None:
        self._adapter, self._step, self._raised = adapter, step, raised

    def __getattr__(self, name: str) -> Any:
        if name != self._step:
            return getattr(self._adapter, name)

        async def method(*_: object, **__: object) -> None:
            raise self._raised()

        return method


@pytest.fixture
async def claims(redis: RedisServer) -> AsyncIterator[RedisClaims]:
    made = connect(redis.url, connections=4, timeout_seconds=2)
    yield made
    await made.aclose()


@pytest.mark.short
@pytest.mark.parametrize("step", STEPS)
async def test_whatever_is_raised_in_a_turn_charges_nobody(
    world: World, claims: RedisClaims, tmp_path: Any, step: str
) -> None:
    """Each exception at each step: the claim is free at once, f and c are unchanged, and the reason is kept."""
    now = await claims.now()
    numbers = Limits(provider_retry_seconds=0.001, push_retry_seconds=0.001, store_timeout_seconds=0.3)
    for n, (name, raised) in enumerate(RAISED.items()):
        user = User(f"user-{n}", "UTC", (now - timedelta(minutes=1)).hour)
        slot = latest_slot(user.zone, user.hour, now)
        doc = {"time_zone": "UTC", "daily_summary_enabled": True, "daily_summary_hour_local": user.hour}
        world.put_user(user.uid, doc, {"d": f"token-{n}"}, {"t": talk(user.uid, slot.at - timedelta(hours=1))})
        store = Raising(await connect_store(world), step, raised)
        parts = Services(
            claims=claims,
            store=store,
            summarizer=Raising(MemorySummarizer(), step, raised),
            channels=(Raising(Outbox(tmp_path / "outbox.jsonl", lambda message, device: None), step, raised),),
            clock=BootClock(),
            limits=numbers,
            split_sentences=sentences,
        )
        run = Run(parts)
        outcome = await claim_and_recap(run, user, slot, SINGLE_FILE_LANE)
        await store.aclose()
        terms = run.user_terms(user.uid, slot.recap_date, slot.at)
        [record] = await claims.read([terms.key])
        if step == "send" and record.state is ClaimState.SENT:
            pytest.fail(f"{name} at {step}: sent, though nothing was")
        assert (record.state, record.failures, record.crashes) == (ClaimState.IDLE, 0, 0), (name, step, record, outcome)
        assert record.reason, (name, step)
        assert record.until <= int((await claims.now()).timestamp() * 1000) + 30 * 60_000
        told = run.trouble is not None or run.defects or run.stopped_by is not None or outcome.wait > timedelta(0)
        assert told, (name, step)


@pytest.mark.parametrize("finish", ["length", "stop"])
@on_sqlite
def test_when_every_answer_is_useless_the_provider_is_blamed_and_nobody_is_charged(
    staged: FaultStage, finish: str
) -> None:
    """12 users, as often as it takes to end a day: ten in a row stop the asking, exit 4, f stays 0."""
    users = [f"user-{n:02}" for n in range(12)]
    staged.add_users(*users)
    staged.stage.settings |= {"RECAP_CONCURRENCY": "4", "RECAP_FALLBACK": "none"}
    staged.llm_rule = scripted(lambda _: completion('{"headline": "A day', finish=finish))
    for _ in range(4):
        staged.age()
        calls = staged.stage.llm.calls.total()
        finished = staged.stage.run()
        assert finished.code == 4, finished.err
        assert "are all useless" in finished.err
        assert 20 <= staged.stage.llm.calls.total() - calls <= 24  # each is asked for once more
        event = finished.event("tick.finished")
        assert sum(event[name] for name in ("waiting", "stopped")) == event["due"]
    found = [staged.stage.record(uid, staged.slots[uid]) for uid in users]
    assert {(record.failures, record.crashes) for record in found} == {(0, 0)}
    assert [staged.ledger(uid) for uid in users] == [{}] * 12
    staged.llm_rule = None
    calls_before = dict(staged.stage.llm.calls)
    staged.run_until_settled()
    staged.check_delivered(llm={uid: count + 1 for uid, count in calls_before.items()})


@on_sqlite
def test_one_users_useless_answers_are_charged_once_another_was_answered_well(staged: FaultStage) -> None:
    staged.stage.settings["RECAP_FALLBACK"] = "none"
    staged.add_users("ann", "bob", "cat")
    staged.llm_rule = scripted(lambda who: completion("no recap") if who == "ann" else None)
    finished = staged.stage.run()
    found = staged.stage.record("ann", staged.slots["ann"])
    assert (finished.code, found.state, found.failures, found.reason) == (0, ClaimState.IDLE, 1, "invalid_answer")
    event = finished.event("tick.finished")
    assert (event["due"], event["sent"], event["waiting"], event["failed"]) == (3, 2, 1, 0)


def test_a_malformed_document_is_skipped_and_counted(stage: Stage) -> None:
    slot = stage.add_user("ann", devices=1)
    at = slot.at - timedelta(hours=2)
    year_one, year_9999 = "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00"
    stage.world.put_talk("ann", "year-1", talk("ann", at, started_at=year_one))
    stage.world.put_talk("ann", "year-9999", talk("ann", at, finished_at=year_9999))
    malformed = 2
    if isinstance(stage.world, SqliteWorld):  # Firestore holds neither of these
        db = stage.world.db
        micros = int(at.timestamp() * 1_000_000)
        half = json.dumps(talk("ann", at, structured={"title": "Half \ud83d", "overview": "x"}), default=str)
        for key, doc in (("half", half), ("no-json", "{"), ("deep", "[" * 100_000), ("list", "[]")):
            db.execute("INSERT INTO conversations VALUES (?, ?, ?, ?)", ("ann", micros, key, doc))
        for key, doc in (("no-map", "[]"), ("no-json", "{"), ("half", '{"token": "\\ud83d"}')):
            db.execute("INSERT INTO devices VALUES (?, ?, ?)", ("ann", key, doc))
        malformed += 7
    else:
        stage.world.put_token("ann", "number", "x" * 5_000)
        malformed += 1
    finished = stage.run()
    assert finished.code == 0, finished.err
    event = finished.event("tick.finished")
    assert (event["sent"], event["malformed"], event["defects"]) == (1, malformed, 0)
    assert stage.fcm.accepted == {"token-ann-0": 1}


@on_sqlite
def test_a_user_whose_column_and_document_disagree_keeps_nobody_from_theirs(stage: Stage) -> None:
    slots = {uid: stage.add_user(uid) for uid in ("ann", "bad", "cat", "worse")}
    assert isinstance(stage.world, SqliteWorld)
    broken = json.dumps({"time_zone": "mars", "daily_summary_enabled": True, "daily_summary_hour_local": 99})
    stage.world.db.execute("UPDATE users SET doc = ? WHERE uid = 'bad'", (broken,))
    stage.world.db.execute("UPDATE users SET doc = '{' WHERE uid = 'worse'")
    stage.settings["RECAP_PAGE_SIZE"] = "2"
    finished = stage.run()
    assert finished.code == 1, finished.err
    event = finished.event("tick.finished")
    assert (event["due"], event["sent"], event["unreadable"]) == (4, 2, 2)
    assert [one["uid"] for one in finished.named("user.unreadable")] == ["bad", "worse"]
    assert set(stage.fcm.accepted) == {"token-ann-0", "token-cat-0"}
    assert stage.record("bad", slots["bad"]).state is ClaimState.ABSENT
