"""What is said after the trouble: by the next, idle tick, by `why`, and by `doctor`."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from redis import Redis

from notifications.domain.claim import shard_key, user_key
from notifications.domain.schedule import Slot, tzdata_version
from tests.integration.test_idle import CountingProxy
from tests.support.between import DOWN, Between
from tests.support.jobs import Stage, complete_other_shards, latest_hour, on_firestore, on_sqlite
from tests.support.servers import free_port
from tests.support.web import completion, fcm_error, google_error, scripted
from tests.support.worlds import FirestoreWorld


def due_together(stage: Stage, count: int) -> Slot:
    """Users of one cohort. Every other one counts as served."""
    slots = [stage.add_user(f"user-{n:02}") for n in range(count)]
    with Redis(port=stage.redis.port) as client:
        at, hour = slots[0].at, latest_hour("UTC", stage.now)
        complete_other_shards(client, stage.world.environment, {at}, {hour})
    return slots[0]


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("overloaded", "push UNAVAILABLE, FCM is overloaded or down"),
        ("off", "push SERVICE_DISABLED, the FCM API is off"),
        ("down", "delivery service does not answer"),
    ],
)
@on_sqlite
def test_an_idle_tick_says_what_the_users_wait_for_and_asks_no_more_than_before(
    stage: Stage, trouble: str, why: str
) -> None:
    slot = due_together(stage, 3)
    if trouble == "overloaded":
        stage.fcm.script = scripted(lambda token: fcm_error(503, "UNAVAILABLE") if token else None)
    elif trouble == "off":
        stage.fcm.script = scripted(
            lambda _: google_error(403, "PERMISSION_DENIED", "SERVICE_DISABLED", service="fcm.googleapis.com")
        )
    env = {
        "overloaded": {"RECAP_PUSH_DEADLINE_SECONDS": "1"},
        "down": {"FCM_BASE_URL": f"http://127.0.0.1:{free_port()}"},
    }
    assert stage.run(**env.get(trouble, {})).code == (3 if trouble == "off" else 4)
    proxy = CountingProxy(stage.redis.port)
    idle = stage.run(REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
    proxy.stop()
    assert re.search(
        rf" UTC: waiting: users due at {slot.at:%H:%M} UTC \({re.escape(why)}\); tried again at \d\d:\d\d[.;]", idle.out
    ), idle.out
    if trouble != "off":  # else it sweeps, as the last run could not
        assert (proxy.round_trips, idle.event("tick.finished")["documents_read"]) == (2, 0)


@on_firestore
def test_a_store_that_is_back_is_told_as_past(stage: Stage) -> None:
    slot = due_together(stage, 3)
    assert isinstance(stage.world, FirestoreWorld)
    between = Between(stage.world.host)
    between.rule = lambda method, request: DOWN if b"recap_deliveries" in request else None
    assert stage.run(**between.env()).code == 4
    between.stop()
    waits = stage.run()
    assert f"waiting: users due at {slot.at:%H:%M} UTC (store was down); tried again at" in waits.out
    why = " ".join(stage.run("why", "user-00").out.split())
    assert "the last failure: store was down." in why
    assert (
        "the next run tries again to make the recap. The store was down at the last try. It can be read now;" in why
    ), why
    audit = " ".join(stage.run("audit", "--date", str(slot.recap_date)).out.split())
    assert "(store was down; oldest" in audit, audit
    assert "is down" not in waits.out + why + audit


@pytest.mark.parametrize(
    ("fallback", "in_the_end"),
    [
        ("extract", "Its next try may be sent as an extract, and from {at} on it is;"),
        ("none", "From {at} on the day is missed (RECAP_FALLBACK=none);"),
    ],
)
@on_sqlite
def test_why_foretells_when_an_extract_is_sent_for_an_llm_that_answers_prose(
    stage: Stage, fallback: str, in_the_end: str
) -> None:
    """Nine get it at once; the tenth answer stops the run."""
    slot = due_together(stage, 12)
    stage.llm.script = scripted(lambda _: completion("Your day was fine."))
    finished = stage.run(RECAP_CONCURRENCY="1" if fallback == "extract" else "12", RECAP_FALLBACK=fallback)
    assert finished.code == 4
    waits = [event["uid"] for event in finished.named("recap.waiting")]
    assert finished.event("tick.finished")["sent"] == (9 if fallback == "extract" else 0)
    why = " ".join(stage.run("why", waits[0], RECAP_FALLBACK=fallback).out.split())
    assert "tries again to make the recap (llm answered no JSON). While the cause lasts it fails again. " in why
    closing = rf"{slot.at + timedelta(hours=2):%H:%M} UTC \(in [\dhmin ]+\)"
    assert re.search(re.escape(in_the_end).replace(r"\{at\}", closing), why), why


@on_firestore
def test_doctor_asks_a_store_that_does_not_answer_once(stage: Stage) -> None:
    assert isinstance(stage.world, FirestoreWorld)
    between = Between(stage.world.host)
    between.rule = lambda method, request: DOWN
    finished = stage.run("doctor", **between.env())
    between.stop()
    lines = [line for line in finished.out.splitlines() if not line.startswith("      ")]
    not_asked = [line[6:].partition(": not asked: ") for line in lines if line.startswith("skip")]
    assert {name: why for name, _, why in not_asked} == dict.fromkeys(
        (
            "the store (a read, and a transaction that writes nothing)",
            "users and their index",
            "open deliveries and their index",
            "users that the query can't see",
            "runs",
            "the last day's targets",
        ),
        "the store did not answer",
    ), finished.out
    assert (finished.code, finished.out.count("Firestore")) == (1, 1), finished.out
    assert "look  the clocks of Redis, the store and this machine: " in finished.out
    assert {"ok    push (our access alone: no recap is sent)"} <= set(lines)


@on_sqlite
def test_doctor_says_that_a_run_is_at_work_or_was_killed_just_now(stage: Stage) -> None:
    """A run that was killed looks like one at work for as long as two renewals take."""
    assert stage.run().code == 0
    slot = due_together(stage, 1)
    key = shard_key(slot.at, latest_hour("UTC", stage.now), tzdata_version(), stage.world.environment, 0, 1)
    with Redis(port=stage.redis.port) as client:

        def held_since(seconds: int) -> tuple[int, str]:
            until = int(client.time()[0]) * 1000 + (180 - seconds) * 1000
            client.set(key, f'{{"s":"claimed","t":"t","u":{until}}}', px=3_600_000)
            finished = stage.run("doctor")
            return finished.code, " ".join(finished.out.split())

        code, said = held_since(20)
        assert code == 0, said
        at_work = (
            rf"note a run is at work for users due at {slot.at:%H:%M} UTC: it was heard of 2\d s ago, "
            r"at \d\d:\d\d:\d\d UTC\. If it was killed since, that shows from 60 s on, "
            r"and a run takes over from \d\d:\d\d UTC on\."
        )
        assert re.search(at_work, said), said
        held = f"look a killed run: held: users due at {slot.at:%H:%M} UTC, by a run that may be dead"
        for seconds in (70, 200):
            code, said = held_since(seconds)
            assert (code, "a run is at work" in said, held in said) == (1, False, True), said


@on_sqlite
def test_a_run_that_died_over_a_shard_is_logged_once(stage: Stage) -> None:
    """The shard is served again and again while the dead run's user is held; another death is another event."""
    slot = due_together(stage, 1)
    key = shard_key(slot.at, latest_hour("UTC", stage.now), tzdata_version(), stage.world.environment, 0, 1)
    with Redis(port=stage.redis.port) as client:
        now = int(client.time()[0]) * 1000
        held = f'{{"s":"claimed","t":"dead","u":{now + 600_000}}}'
        client.set(user_key("user-00", slot.recap_date), held, px=3_600_000)
        logged: list[list[int]] = []
        for _ in range(2):
            client.set(key, f'{{"s":"claimed","t":"dead","u":{now - 1},"c":{len(logged) // 2}}}', px=3_600_000)
            for _ in range(2):
                finished = stage.run()
                logged.append([event["crashes"] for event in finished.named("shard.taken_over")])
                assert "1 held (a run that was killed; free at " in finished.out, finished.out
                left = json.loads(client.get(key) or "")
                assert (left["s"], left["r"]) == ("idle", "open")
                client.set(key, json.dumps(left | {"u": now}), px=3_600_000)  # due again
    assert logged == [[1], [], [2], []]
