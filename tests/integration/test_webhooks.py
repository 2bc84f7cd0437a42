"""Whole runs with a webhook: the operator's server gets each recap, and users' own only where that is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.jobs import Finished, Stage, on_sqlite
from tests.support.webhooks import OTHER_SECRET, SECRET, Receiver

pytestmark = [on_sqlite]

USERS: dict[str, dict[str, Any]] = {
    "ann": {},
    "bob": {"recap_webhook_url": "https://localhost/of-bob", "recap_webhook_secret": OTHER_SECRET},
    "cid": {"recap_webhook_url": "http://hooks.example/of-cid", "recap_webhook_secret": OTHER_SECRET},
    "dee": {"recap_webhook_url": "https://hooks.example/of-dee"},
}
HIDDEN = ("of-bob", "of-cid", "of-dee", "hooks.example", "/own-path", SECRET, OTHER_SECRET)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.stop()


def tick(stage: Stage, receiver: Receiver, secret: str = SECRET, **env: str) -> Finished:
    for uid, fields in USERS.items():
        stage.add_user(uid, **fields)
    url = f"{receiver.url}/own-path"
    done = stage.run(RECAP_WEBHOOK_URL=url, RECAP_WEBHOOK_SECRET=secret, RECAP_VERIFY="off", **env)
    assert not any(hidden in done.out + done.err for hidden in HIDDEN)
    return done


def test_the_operators_server_gets_each_recap_whole_and_of_a_data_folder_nothing_goes_to_others(
    stage: Stage, receiver: Receiver
) -> None:
    done = tick(stage, receiver)
    finished = done.event("tick.finished")
    assert (done.code, finished["sent"]) == (0, 4)
    assert finished["by_channel"] == {"fcm": {"accepted": 4}, "webhook": {"accepted": 4}}
    assert done.named("target.unusable") == []
    texts = {event["data"]["uid"]: event["data"]["recap"]["headline"] for event in receiver.events.values()}
    stored = {uid: next(iter(stage.world.summaries(uid).values()))["headline"] for uid in USERS}
    assert texts == stored


def test_users_own_servers_count_where_the_channel_is_named_and_what_can_not_be_used_is_told_by_code(
    stage: Stage, receiver: Receiver
) -> None:
    done = tick(stage, receiver, RECAP_CHANNELS="fcm,webhook")
    finished = done.event("tick.finished")
    assert (done.code, finished["sent"]) == (0, 4)
    assert finished["by_channel"] == {"fcm": {"accepted": 4}, "webhook": {"accepted": 4, "refused": 1}}
    told = {event["uid"]: (event["channel"], event["code"]) for event in done.named("target.unusable")}
    assert told == {"cid": ("webhook", "url_refused"), "dee": ("webhook", "no_secret")}


def test_a_wrong_secret_stops_that_channel_alone(stage: Stage, receiver: Receiver) -> None:
    done = tick(stage, receiver, OTHER_SECRET)
    [stopped] = done.named("channel.stopped")
    assert (done.code, stopped["channel"]) == (3, "webhook")
    assert "must check with RECAP_WEBHOOK_SECRET" in stopped["reason"]
    assert done.event("tick.finished")["by_channel"]["fcm"] == {"accepted": 4}
    assert sum(stage.fcm.accepted.values()) == 4
    assert receiver.events == {}
