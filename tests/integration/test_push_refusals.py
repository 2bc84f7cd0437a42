"""What FCM refuses to us is bad configuration, what it refuses to one device is that device's; and `doctor` asks it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimState
from tests.support.jobs import Stage
from tests.support.web import fcm_error, google_error

USERS = [f"user-{n}" for n in range(7)]
MAKES = Callable[[], web.Response]
on_sqlite = pytest.mark.parametrize("world", ["sqlite"], indirect=True)
DISABLED = (
    lambda: google_error(403, "PERMISSION_DENIED", "SERVICE_DISABLED", service="fcm.googleapis.com"),
    "FCM (FCM_BASE_URL) says that the API fcm.googleapis.com is disabled; enable it.",
)
NO_PERMISSION = (
    lambda: google_error(
        403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED", permission="cloudmessaging.messages.create"
    ),
    "FCM (FCM_BASE_URL) says that the account lacks cloudmessaging.messages.create; "
    "give it roles/firebasecloudmessaging.admin.",
)
BARE_403 = (
    lambda: google_error(403, "PERMISSION_DENIED"),
    "FCM (FCM_BASE_URL) refuses us (PERMISSION_DENIED); the API fcm.googleapis.com must be enabled, "
    "and the account have cloudmessaging.messages.create.",
)
BARE_401 = (
    lambda: google_error(401, "UNAUTHENTICATED"),
    "FCM (FCM_BASE_URL) refuses our credentials (UNAUTHENTICATED).",
)
NO_PROJECT = (
    lambda: google_error(404, "NOT_FOUND"),
    "FCM (FCM_BASE_URL) knows nothing at this address; check GOOGLE_CLOUD_PROJECT and FCM_BASE_URL.",
)
ALL = {"api": DISABLED, "permission": NO_PERMISSION, "403": BARE_403, "401": BARE_401, "404": NO_PROJECT}


@pytest.fixture
def pushing(stage: Stage) -> Stage:
    stage.settings |= {"RECAP_CONCURRENCY": "1"}
    return stage


@pytest.mark.parametrize(("makes", "sentence"), ALL.values(), ids=ALL)
@on_sqlite
def test_a_refusal_of_all_that_we_send_is_bad_configuration(pushing: Stage, makes: MAKES, sentence: str) -> None:
    """The run ends at the first with exit 3 and one sentence; `doctor` says the same; mended, all have theirs."""
    slots = {uid: pushing.add_user(uid) for uid in USERS}

    async def script(token: str) -> web.Response:
        return makes()

    pushing.fcm.script = script
    finished = pushing.run()
    assert finished.code == 3, finished.err
    assert finished.event("run.stops_claiming")["reason"] == sentence
    assert (finished.event("tick.finished")["pushes"], dict(pushing.fcm.asked)) == (1, {"token-user-0-0": 1})
    assert pushing.record("user-0", slots["user-0"]).state is ClaimState.IDLE
    told = pushing.run("doctor", COLUMNS="400")
    assert (told.code, " ".join(told.out.split()).count(sentence)) == (1, 1), told.out
    pushing.fcm.script = None
    pushing.redis.ask("FLUSHALL")  # nobody waits any more
    assert pushing.run().code == 0
    assert pushing.fcm.accepted == {f"token-{uid}-0": 1 for uid in USERS}


@pytest.mark.parametrize("whose", ["user-0", "user-3"])
@pytest.mark.parametrize(
    "makes",
    [lambda: fcm_error(401, "THIRD_PARTY_AUTH_ERROR"), BARE_401[0], BARE_403[0], NO_PROJECT[0]],
    ids=["apns", "401", "403", "404"],
)
@on_sqlite
def test_a_refusal_of_one_device_among_good_ones_is_its_own(pushing: Stage, makes: MAKES, whose: str) -> None:
    """Wherever it comes in the order: the others have their push in the same run, and its token is kept."""
    for uid in USERS:
        pushing.add_user(uid)

    async def script(token: str) -> web.Response | None:
        return makes() if token == f"token-{whose}-0" else None

    pushing.fcm.script = script
    finished = pushing.run()
    assert finished.code == 0, finished.err
    assert pushing.fcm.accepted == {f"token-{uid}-0": 1 for uid in USERS if uid != whose}
    assert finished.event("push.refused")["uid"] == whose
    [ledger] = pushing.world.ledgers(whose).values()
    assert (ledger["state"], ledger["tries"], len(pushing.world.tokens(whose))) == ("pending", 0, 1)


@on_sqlite
def test_doctor_asks_fcm_without_pushing_and_says_where_pushes_go_that_reach_no_phone(pushing: Stage) -> None:
    finished = pushing.run("doctor")
    assert (finished.code, "ok    push\n" in finished.out) == (0, True), finished.out
    assert (pushing.fcm.probes, dict(pushing.fcm.asked), pushing.fcm.messages) == (1, {}, [])
    finished = pushing.run("doctor", FCM_BASE_URL="")
    assert (finished.code, "ok    push (none: outbox.jsonl)\n" in finished.out) == (0, True), finished.out
