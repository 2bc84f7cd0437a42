"""The LLM's service as its provider offers it: whether it serves, in which form, until when, and how much."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from redis import Redis

from notifications.domain.claim import pause_key
from notifications.settings import Settings
from tests.support.jobs import Stage, on_sqlite
from tests.support.web import completion, recap_answer, scripted

pytestmark = on_sqlite

MODEL = Settings.openai_model
TODAY = datetime.now(UTC).date()
PROSE = "Here is your recap: it was a good day at the harbour."


def ends_on(days: int) -> dict[str, Any]:
    """A model as GET /v1/models/{id} describes it."""
    ends = (TODAY + timedelta(days=days)).isoformat()
    return {"id": MODEL, "object": "model", "created": 1, "owned_by": "x", "shutdown_date": ends}


def test_a_tick_with_work_tells_once_a_day_that_the_model_ends_soon(stage: Stage) -> None:
    stage.llm.description = ends_on(12)
    stage.add_user("ann")
    first = stage.run()
    told = first.event("llm.shutdown")
    assert (first.code, told["severity"], told["model"], told["days_left"]) == (0, "WARNING", MODEL, 12)
    assert told["shuts_down_on"] == (TODAY + timedelta(days=12)).isoformat()
    stage.add_user("bob", zone="Etc/GMT-1")
    again = stage.run()
    assert (again.code, again.named("llm.shutdown"), stage.llm.described) == (0, [], [MODEL])
    with Redis(port=stage.redis.port) as client:
        [key] = client.keys("daily_summary:shutdown:*")
        assert 86_000_000 < client.pttl(key) <= 86_400_000
        client.delete(key)
    stage.nothing_is_due()
    idle = stage.run()
    assert (idle.event("tick.finished")["idle"], idle.named("llm.shutdown"), stage.llm.described) == (True, [], [MODEL])


def test_a_model_that_is_gone_is_bad_configuration_with_that_reason(stage: Stage) -> None:
    stage.add_user("ann")
    message = f"The model `{MODEL}` does not exist or you do not have access to it."
    error = {"message": message, "code": "model_not_found"}
    stage.llm.script = scripted(lambda _: web.json_response({"error": error}, status=404))
    stage.llm.description = ends_on(-3)
    finished = stage.run()
    reason = finished.event("run.stops_claiming")["reason"]
    assert (finished.code, finished.event("tick.finished")["waiting"]) == (3, 1)
    gone = f"the model '{MODEL}' was shut down on {TODAY - timedelta(days=3)}; set OPENAI_MODEL to one that it has."
    assert reason == f"The LLM at 127.0.0.1:{stage.llm.port}: {gone}"
    doctor = stage.run("doctor")
    assert (doctor.code, gone in " ".join(doctor.out.split())) == (1, True)


def test_doctor_asks_for_a_recap_and_tells_its_form_its_seconds_and_the_models_end(stage: Stage) -> None:
    stage.llm.description = ends_on(200)
    said = " ".join(stage.run("doctor").out.split())
    assert re.search(r"ok the LLM: answers by the schema, in \d+\.\d", said)
    assert f"; {MODEL!r} is shut down on {TODAY + timedelta(days=200)}, in 200 days" in said
    notes = [body["messages"][1]["content"] for body in stage.llm.bodies]
    assert (len(notes), "harbour" in notes[0]) == (1, True)
    assert stage.llm.bodies[0]["response_format"]["type"] == "json_schema"
    stage.llm.description = ends_on(30)
    soon = stage.run("doctor")
    assert (soon.code, "look the LLM: " in " ".join(soon.out.split())) == (1, True)
    assert f"{MODEL!r} is shut down on {TODAY + timedelta(days=30)}, in 30 days" in " ".join(soon.out.split())


def test_doctor_tells_prose_from_a_recap_and_that_without_an_llm_recaps_are_extracts(stage: Stage) -> None:
    told = stage.run("doctor", RECAP_SUMMARIZER="extract")
    assert ("none  the LLM: recaps are extracts\n" in told.out, stage.llm.bodies) == (True, [])
    stage.llm.script = scripted(lambda _: completion(PROSE))
    told = stage.run("doctor")
    said = " ".join(told.out.split())
    assert (told.code, PROSE in said, "look the LLM: " in said, "is no recap" in said) == (1, False, True, True)


ANNOUNCED = {"limit": "100", "remaining": "0", "reset": "1m0s"}


def test_a_budget_that_ends_pauses_every_process_before_a_429(stage: Stage) -> None:
    """Of 100 a minute none is left: what a recap's two calls take is back after 1.2 s; until then none is begun."""
    stage.settings["RECAP_CONCURRENCY"] = "1"
    for n in range(3):
        stage.add_user(f"user-{n}")
    paused: list[int] = []

    with Redis(port=stage.redis.port) as client:

        async def script(who: str) -> web.Response:
            paused.append(client.exists(pause_key(stage.world.environment)))
            answer = completion(json.dumps(recap_answer(who)))
            answer.headers.update({f"x-ratelimit-{name}-requests": value for name, value in ANNOUNCED.items()})
            return answer

        stage.llm.script = script
        client.set(pause_key(stage.world.environment), "1", px=1500)  # as another process would
        finished = stage.run()
    assert finished.event("tick.finished")["sent"] == 3
    assert [event["seconds"] for event in finished.named("llm.pause")] == [1.2, 1.2, 1.2]
    assert paused == [0, 0, 0]
