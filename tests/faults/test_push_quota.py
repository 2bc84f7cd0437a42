"""FCM's 429: one device's quota is that device's alone, the project's paces the run; nobody is lost by either."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimState
from tests.faults.stage import FaultStage, on_sqlite
from tests.support.web import fcm_error, project_quota_error, scripted

EVERYBODY = [f"user-{n:02}" for n in range(60)]


def token_of(uid: str) -> str:
    return f"token-{uid}-0"


@pytest.mark.parametrize("retry_after", [{}, {"Retry-After": "5400"}], ids=["without", "with"])
@on_sqlite
def test_one_device_over_its_quota_all_evening_keeps_nobody_from_theirs(
    staged: FaultStage, retry_after: dict[str, str]
) -> None:
    """60 users, the first of them over quota for the whole evening: 59 have their push in the first run."""
    staged.add_users(*EVERYBODY)
    over = True
    staged.fcm_rule = scripted(
        lambda token: fcm_error(429, "QUOTA_EXCEEDED", **retry_after) if over and token == token_of("user-00") else None
    )
    finished = staged.stage.run()
    others = {token_of(uid): 1 for uid in EVERYBODY[1:]}
    assert (finished.code, staged.pushes()) == (0, others), finished.err
    told = finished.event("tick.finished")
    assert (told["sent"], told["waiting"], told["seconds"] < 30) == (59, 1, True)
    quota = finished.event("push.quota")
    assert (quota["uid"], quota["scope"]) == ("user-00", "device")
    assert quota["wait_seconds"] == (5400 if retry_after else 60)
    staged.age(timedelta(hours=2))
    assert staged.stage.run().code == 0
    assert (staged.stage.fcm.asked[token_of("user-00")], staged.pushes()) == (2, others)  # once in each run
    assert (staged.ledger("user-00")["state"], staged.ledger("user-00")["tries"]) == ("pending", 0)
    record = staged.stage.record("user-00", staged.slots["user-00"])
    assert (record.state, record.failures, record.crashes) == (ClaimState.IDLE, 0, 0)
    over = False
    staged.run_until_settled()
    staged.check_delivered()


@pytest.mark.parametrize("names_it", [True, False], ids=["named", "unnamed"])
@on_sqlite
def test_the_projects_quota_paces_the_run_and_loses_nobody(staged: FaultStage, names_it: bool) -> None:
    """20 pushes a minute for 60 users: a named quota stops the pushing at once, an unnamed one at its third device."""
    staged.add_users(*EVERYBODY)
    left = 20

    async def rule(token: str) -> web.Response | None:
        nonlocal left
        left -= 1
        if left >= 0:
            return None
        return project_quota_error() if names_it else fcm_error(429, "QUOTA_EXCEEDED")

    staged.fcm_rule = rule
    finished = staged.stage.run()
    assert finished.code == 0, finished.err
    asked = staged.stage.fcm.asked
    refused = 1 if names_it else 3
    assert (sum(staged.pushes().values()), sum(asked.values())) == (20, 20 + refused)
    paced = [event for event in finished.named("push.quota") if event["scope"] == "project"]
    assert [event["wait_seconds"] for event in paced] == [60]
    told = finished.event("tick.finished")
    assert (told["sent"], told["waiting"]) == (20, 40)
    states = Counter((staged.ledger(uid)["state"], staged.ledger(uid)["tries"]) for uid in EVERYBODY)
    assert states == {("sent", 1): 20, ("pending", 0): 40}
    left = 10_000
    staged.run_until_settled()
    staged.check_delivered()
