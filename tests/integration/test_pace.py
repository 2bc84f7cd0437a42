"""A cohort spread over time, the LLM's announced budget, and FCM's ramp, by real runs."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from redis import Redis

from notifications.domain.pace import spread_offset
from notifications.pace import PAUSE_KEY
from tests.support.jobs import Stage
from tests.support.web import completion, recap_answer

on_sqlite = pytest.mark.parametrize("world", ["sqlite"], indirect=True)
SPREAD = timedelta(seconds=3600)


@on_sqlite
def test_users_of_one_hour_have_their_own_places_in_the_spread(stage: Stage) -> None:
    stage.settings |= {"RECAP_SPREAD_SECONDS": "3600", "RECAP_SHARD_RETRY_MIN_SECONDS": "0.01"}
    stage.settings["RECAP_SHARD_RETRY_MAX_SECONDS"] = "0.01"  # Redis time: it does not follow --now
    uids = [f"user-{n}" for n in range(8)]
    at = {stage.add_user(uid).at for uid in uids}
    [slot] = at
    places = sorted(spread_offset(uid, SPREAD) for uid in uids)
    between = places[3] + (places[4] - places[3]) / 2
    first = stage.run("--now", (slot + between).isoformat()).event("tick.finished")
    early = {uid for uid in uids if spread_offset(uid, SPREAD) < between}
    assert (first["sent"], first["waiting"], len(early)) == (4, 4, 4)
    assert dict(stage.llm.calls) == dict.fromkeys(early, 1)
    second = stage.run("--now", (slot + timedelta(hours=1, seconds=1)).isoformat()).event("tick.finished")
    assert (second["sent"], second["done_before"], second["waiting"]) == (4, 4, 0)
    assert dict(stage.llm.calls) == dict.fromkeys(uids, 1)
    assert set(stage.fcm.accepted.values()) == {1}


def announcing(who: str, **headers: str) -> web.Response:
    answer = completion(json.dumps(recap_answer(who)))
    answer.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return answer


@on_sqlite
def test_a_budget_that_ends_pauses_every_process_before_a_429(stage: Stage) -> None:
    """Of 100 a minute none is left: one call's share is back after 0.6 s; until then nobody starts one."""
    stage.settings["RECAP_CONCURRENCY"] = "1"
    for n in range(3):
        stage.add_user(f"user-{n}")
    paused: list[int] = []

    with Redis(port=stage.redis.port) as client:

        async def script(who: str) -> web.Response:
            paused.append(client.exists(PAUSE_KEY))
            return announcing(
                who,
                x_ratelimit_limit_requests="100",
                x_ratelimit_remaining_requests="0",
                x_ratelimit_reset_requests="1m0s",
            )

        stage.llm.script = script
        client.set(PAUSE_KEY, "1", px=1500)  # as another process would
        finished = stage.run()
    assert finished.event("tick.finished")["sent"] == 3
    assert [event["seconds"] for event in finished.named("llm.pause")] == [0.6, 0.6, 0.6]
    assert paused == [0, 0, 0]


@on_sqlite
def test_a_push_whose_place_in_the_ramp_comes_too_late_is_pending(stage: Stage) -> None:
    stage.settings |= {
        "RECAP_PUSH_RATE": "1",
        "RECAP_CONCURRENCY": "1",
        "RECAP_PUSH_DEADLINE_SECONDS": "1",
        "RECAP_SENDING_STALE_SECONDS": "70",
    }
    slots = {uid: stage.add_user(uid) for uid in ("ann", "bob")}
    stage.run()
    states: dict[str, Any] = {
        uid: stage.world.ledgers(uid)[slot.recap_date.isoformat()]["state"] for uid, slot in slots.items()
    }
    assert states == {"ann": "sent", "bob": "pending"}
    assert dict(stage.fcm.accepted) == {"token-ann-0": 1}
