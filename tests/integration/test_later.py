"""What is said after the trouble: by the next, idle tick, by `why`, and by `doctor`."""

from __future__ import annotations

import re

import pytest
from redis import Redis

from notifications.domain.schedule import Slot
from tests.integration.test_idle import CountingProxy
from tests.support.jobs import Stage, complete_other_shards, latest_hour, on_sqlite
from tests.support.servers import free_port
from tests.support.web import fcm_error, google_error, scripted


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
