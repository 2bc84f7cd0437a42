"""What FCM is sent: to which devices, how loud, how much of the recap; and what its refusals mean."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import pytest

from notifications.domain.claim import ClaimState
from tests.support.jobs import Stage, on_firestore, on_sqlite
from tests.support.web import fcm_error, google_error, scripted


@on_sqlite
def test_a_push_shows_no_more_than_recap_push_text_says_and_a_second_one_the_same(stage: Stage) -> None:
    """Nothing of the day is in any field of it; the app that is open finds what its code asks for."""
    slot = stage.add_user("ann", language="de-AT")
    day = slot.recap_date.isoformat()
    assert stage.run(RECAP_PUSH_TEXT="none").code == 0
    [ledger] = stage.world.ledgers("ann").values()
    [summary] = stage.world.summaries("ann").values()
    assert (ledger["title"], ledger["body"]) == ("Dein Tagesrückblick", "Dein Rückblick ist fertig.")
    assert summary["overview"].startswith("You talked about ann")
    done = stage.run("resend", "ann", day, RECAP_PUSH_TEXT="recap")
    assert done.code == 0, done.err
    for sent in stage.fcm.messages:
        said = json.dumps(sent, ensure_ascii=False)
        assert [word in said for word in (summary["headline"], "talked", "who=ann")] == [False] * 3
        shown = {"title": "Dein Tagesrückblick", "body": "Dein Rückblick ist fertig."}
        assert sent["notification"] == shown
        assert sent["webpush"]["notification"] | shown == sent["webpush"]["notification"]
        assert (sent["data"]["text"], sent["data"]["sender"]) == ("Dein Rückblick ist fertig.", "ai")
        assert sent["data"]["from_integration"] == "false"
        assert {type(value) for value in sent["data"].values()} == {str}
    assert len(stage.fcm.messages) == 2


def name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@on_firestore
def test_a_phone_gets_one_push_by_its_fid_or_by_its_token(stage: Stage) -> None:
    """Both in one document; the fid alone; a fid that is gone beside a good token; one that is dead in both."""
    stage.add_user("ann", devices=0)
    phones = {
        "both": {"token": "t-both", "fid": "f-both", "time_zone": "Europe/Berlin"},
        "new": {"fid": "f-new"},
        "back": {"token": "t-back", "fid": "f-gone"},
        "dead": {"token": "t-gone", "fid": "f-gone-too"},
    }
    for key, doc in phones.items():
        stage.world.put_device("ann", key, doc)
    stage.fcm.script = scripted(lambda token: fcm_error(404, "UNREGISTERED") if "gone" in token else None)
    finished = stage.run()
    assert finished.code == 0, finished.err
    assert stage.fcm.accepted == Counter(("f-both", "f-new", "t-back"))
    sent = sorted((sent.get("fid", ""), sent.get("token", "")) for sent in stage.fcm.messages)
    assert sent == [("", "t-back"), ("f-both", ""), ("f-new", "")]
    assert sorted(stage.world.tokens("ann")) == ["back", "both", "dead", "new"]  # of so few none is deleted
    [ledger] = stage.world.ledgers("ann").values()
    accepted = {name("t-both"), name("f-new"), name("t-back")}
    assert ledger["devices"] == dict.fromkeys(accepted, "accepted") | {name("t-gone"): "gone"}


USERS = [f"user-{n}" for n in range(7)]
DISABLED = "(FCM_BASE_URL) says that the API fcm.googleapis.com is disabled; enable it."


@pytest.fixture
def pushing(stage: Stage) -> Stage:
    stage.settings |= {"RECAP_CONCURRENCY": "1"}
    return stage


@on_sqlite
def test_a_refusal_of_all_that_we_send_is_bad_configuration(pushing: Stage) -> None:
    """The run ends at the first with exit 3 and one sentence; `doctor` says the same; mended, all have theirs."""
    slots = {uid: pushing.add_user(uid) for uid in USERS}
    pushing.fcm.script = scripted(
        lambda _: google_error(403, "PERMISSION_DENIED", "SERVICE_DISABLED", service="fcm.googleapis.com")
    )
    finished = pushing.run(RECAP_PROVIDER_RETRY_SECONDS="0.001")
    assert finished.code == 3, finished.err
    assert finished.event("run.stops_claiming")["reason"].endswith(DISABLED)
    assert (finished.event("tick.finished")["pushes"], dict(pushing.fcm.asked)) == (1, {"token-user-0-0": 1})
    assert pushing.record("user-0", slots["user-0"]).state is ClaimState.IDLE
    told = pushing.run("doctor", COLUMNS="400")
    assert (told.code, " ".join(told.out.split()).count(DISABLED)) == (1, 1), told.out
    pushing.fcm.script = None
    pushing.redis.ask("FLUSHALL")  # nobody waits any more
    assert pushing.run().code == 0
    assert pushing.fcm.accepted == {f"token-{uid}-0": 1 for uid in USERS}


@pytest.mark.parametrize(("whose", "status"), [("user-0", 401), ("user-3", 403), ("user-3", 404)])
@on_sqlite
def test_a_refusal_of_one_device_among_good_ones_is_its_own(pushing: Stage, whose: str, status: int) -> None:
    """Wherever it comes in the order: the others have their push in the same run, and its token is kept."""
    code = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}[status]
    for uid in USERS:
        pushing.add_user(uid)
    pushing.fcm.script = scripted(lambda token: google_error(status, code) if token == f"token-{whose}-0" else None)
    finished = pushing.run()
    assert finished.code == 0, finished.err
    assert pushing.fcm.accepted == {f"token-{uid}-0": 1 for uid in USERS if uid != whose}
    assert finished.event("push.refused")["uid"] == whose
    [ledger] = pushing.world.ledgers(whose).values()
    assert (ledger["state"], ledger["tries"], len(pushing.world.tokens(whose))) == ("pending", 0, 1)


@on_sqlite
def test_doctor_asks_fcm_without_pushing_and_says_where_pushes_go_that_reach_no_phone(pushing: Stage) -> None:
    finished = pushing.run("doctor")
    assert (finished.code, "ok    push (our access alone: " in finished.out) == (0, True), finished.out
    assert (pushing.fcm.probes, dict(pushing.fcm.asked), pushing.fcm.messages) == (1, {}, [])
    finished = pushing.run("doctor", FCM_BASE_URL="")
    assert (finished.code, "none  push: outbox.jsonl\n" in finished.out) == (0, True), finished.out
