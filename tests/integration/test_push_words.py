"""What FCM is sent: how loud, and how much of the recap."""

from __future__ import annotations

import json

import pytest

from tests.support.jobs import Stage

on_sqlite = pytest.mark.parametrize("world", ["sqlite"], indirect=True)


@pytest.mark.parametrize(("minutes", "rings"), [("0", False), ("1440", True)])
@on_sqlite
def test_a_push_that_comes_late_makes_no_sound(stage: Stage, minutes: str, rings: bool) -> None:
    stage.add_user("ann")
    finished = stage.run(RECAP_QUIET_AFTER_MINUTES=minutes)
    assert finished.code == 0, finished.err
    [sent] = stage.fcm.messages
    assert sent["apns"]["payload"]["aps"] == ({"sound": "default"} if rings else {"interruption-level": "passive"})
    assert sent["apns"]["headers"]["apns-priority"] == ("10" if rings else "5")
    assert sent["android"]["priority"] == ("HIGH" if rings else "NORMAL")
    assert sent["android"]["notification"].get("notification_priority") == (None if rings else "PRIORITY_LOW")
    assert sent["webpush"]["headers"]["Urgency"] == ("high" if rings else "low")
    assert sent["webpush"]["notification"].get("silent") is (None if rings else True)


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
