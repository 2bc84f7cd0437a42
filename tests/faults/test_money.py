"""What the LLM costs: a budget that holds over all processes, and half the price where there is time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from redis import Redis

from tests.faults.stage import FaultStage
from tests.support.jobs import Stage, on_sqlite
from tests.support.web import llm_error

PRICES = {"RECAP_PRICE_IN_USD_PER_MTOK": "30", "RECAP_PRICE_OUT_USD_PER_MTOK": "120"}


def sources(stage: Stage, *uids: str) -> list[str]:
    found = (stage.world.summaries(uid).values() for uid in uids)
    return [summary["metadata"]["source"] for [summary] in found]


@pytest.mark.short
@on_sqlite
@pytest.mark.timeout(240)
def test_eight_processes_never_spend_more_than_the_days_budget(stage: Stage) -> None:
    stage.llm.price = (30.0, 120.0)
    users = [f"user-{n:03}" for n in range(240)]
    for uid in users:
        stage.add_user(uid)
    stage.settings |= PRICES | {"RECAP_DAILY_BUDGET_USD": "1", "RECAP_CONCURRENCY": "2", "RECAP_SHARDS": "8"}
    running = [stage.start() for _ in range(8)]
    ended = [stage.end(process, 200) for process in running]
    assert {one.code for one in ended} == {0}, ended[0].err
    by_llm = sources(stage, *users).count("llm")
    assert len(stage.llm.paid) == by_llm
    assert stage.llm.billed <= 1.0
    assert stage.fcm.accepted == {f"token-{uid}-0": 1 for uid in users}
    told = [one.event("tick.finished") for one in ended]
    assert sum(event["over_budget"] for event in told) == len(users) - by_llm > 0
    with Redis(port=stage.redis.port) as client:
        [key] = client.scan_iter("daily_summary:spend:*")
        counted = int(client.hget(key, "total")) / 1_000_000
        assert client.hlen(key) == 1  # nothing is left that was taken and not settled
    assert counted == pytest.approx(stage.llm.billed, abs=1e-6 * by_llm)  # each call rounded up to a millionth
    assert sum(event["usd"] for event in told) == pytest.approx(counted)


@on_sqlite
@pytest.mark.parametrize("kind", ["works", "no capacity", "slow", "unknown"])
def test_flex_serves_everybody_and_costs_half_where_it_works(staged: FaultStage, kind: str) -> None:
    staged.stage.settings |= PRICES | {"OPENAI_SERVICE_TIER": "flex", "RECAP_USER_DEADLINE_SECONDS": "4"}
    staged.stage.llm.price = (30.0, 120.0)
    staged.add_users("ann", "bob")

    async def rule(who: str) -> web.Response | None:
        if staged.stage.llm.bodies[-1].get("service_tier") != "flex":
            return None
        match kind:
            case "no capacity":
                return llm_error(429, "resource_unavailable")
            case "unknown":
                error = {"message": "Unrecognized request argument supplied: service_tier", "code": None}
                return web.json_response({"error": error}, status=400)
            case "slow":
                await asyncio.sleep(30)
        return None

    staged.llm_rule = staged.stage.llm.look_script = rule
    finished = staged.stage.run()
    assert finished.code == 0, finished.err
    made: list[Any] = [
        summary["metadata"] for uid in ("ann", "bob") for summary in staged.stage.world.summaries(uid).values()
    ]
    assert [one["source"] for one in made] == ["llm", "llm"]
    assert {one["tier"] for one in made} == {"flex" if kind == "works" else "default"}
    tiers = ["flex" if "service_tier" in body else "default" for body in staged.stage.llm.bodies]
    expected = {
        "works": ["flex"] * 4,  # the writing and the second look of two
        "no capacity": ["flex", "default"] * 4,
        "slow": ["flex", "default"] * 4,
        "unknown": ["flex", *["default"] * 4],  # remembered for the run
    }
    assert tiers == expected[kind]
    if kind == "slow":  # of the answers that were not waited for nobody knows what they cost
        assert all("usd" not in one for one in made)
    else:
        assert sum(one["usd"] for one in made) == pytest.approx(staged.stage.llm.billed, abs=2e-6)
    if kind == "works":
        whole = sum(one["tokens_in"] * 30 + one["tokens_out"] * 120 for one in made) / 1_000_000
        assert sum(one["usd"] for one in made) == pytest.approx(whole / 2, abs=2e-6)
    if kind == "unknown":
        assert [event["fields"] for event in finished.named("llm.takes_no")] == ["service_tier"]
