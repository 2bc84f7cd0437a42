"""FCM's move from registration tokens to installation ids: one phone, one push, whichever its document holds."""

from __future__ import annotations

import hashlib
from collections import Counter

from aiohttp import web

from tests.support.jobs import Stage
from tests.support.web import fcm_error


def name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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

    async def script(token: str) -> web.Response | None:
        return fcm_error(404, "UNREGISTERED") if "gone" in token else None

    stage.fcm.script = script
    finished = stage.run()
    assert finished.code == 0, finished.err
    assert stage.fcm.accepted == Counter(("f-both", "f-new", "t-back"))
    sent = sorted((sent.get("fid", ""), sent.get("token", "")) for sent in stage.fcm.messages)
    assert sent == [("", "t-back"), ("f-both", ""), ("f-new", "")]
    assert sorted(stage.world.tokens("ann")) == ["back", "both", "new"]
    [ledger] = stage.world.ledgers("ann").values()
    accepted = {name("t-both"), name("f-new"), name("t-back")}
    assert ledger["devices"] == dict.fromkeys(accepted, "accepted") | {name("t-gone"): "gone"}
