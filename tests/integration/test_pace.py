"""The LLM's announced budget, by real runs."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from redis import Redis

from notifications.domain.claim import pause_key
from tests.support.jobs import Stage
from tests.support.web import completion, recap_answer

on_sqlite = pytest.mark.parametrize("world", ["sqlite"], indirect=True)


def announcing(who: str, **headers: str) -> web.Response:
    answer = completion(json.dumps(recap_answer(who)))
    answer.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return answer


@on_sqlite
def test_a_budget_that_ends_pauses_every_process_before_a_429(stage: Stage) -> None:
    """Of 100 a minute none is left: what a recap's two calls take is back after 1.2 s; until then none is begun."""
    stage.settings["RECAP_CONCURRENCY"] = "1"
    for n in range(3):
        stage.add_user(f"user-{n}")
    paused: list[int] = []

    with Redis(port=stage.redis.port) as client:

        async def script(who: str) -> web.Response:
            paused.append(client.exists(pause_key(stage.world.environment)))
            return announcing(
                who,
                x_ratelimit_limit_requests="100",
                x_ratelimit_remaining_requests="0",
                x_ratelimit_reset_requests="1m0s",
            )

        stage.llm.script = script
        client.set(pause_key(stage.world.environment), "1", px=1500)  # as another process would
        finished = stage.run()
    assert finished.event("tick.finished")["sent"] == 3
    assert [event["seconds"] for event in finished.named("llm.pause")] == [1.2, 1.2, 1.2]
    assert paused == [0, 0, 0]
