"""What is said after the trouble: by the next, idle tick, by `why`, and by `doctor`."""

from __future__ import annotations

import re

import pytest
from redis import Redis

from notifications.domain.schedule import Slot
from tests.integration.test_idle import CountingProxy
from tests.support.between import DOWN, Between
from tests.support.jobs import Stage, complete_other_shards, latest_hour, on_firestore, on_sqlite
from tests.support.servers import free_port
from tests.support.web import fcm_error, google_error, scripted
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
        ("down", "push service does not answer"),
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
        refusal = google_error(403, "PERMISSION_DENIED", "SERVICE_DISABLED", service="fcm.googleapis.com")
        stage.fcm.script = scripted(lambda _: refusal)
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
    assert "the next run tries again to make the recap. The store was down at the last try. It can be read now;" in why, why
    audit = " ".join(stage.run("audit", "--date", str(slot.recap_date)).out.split())
    assert "(store was down; oldest" in audit, audit
    assert "is down" not in waits.out + why + audit
