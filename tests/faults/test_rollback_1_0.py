"""Back to version 1.0 in the middle of an evening: what it makes of a ledger that is open (CHANGELOG.md, 2.0.0).

Its own code was run over such ledgers on both stores; here its rules stand for it, as tests/data/version_1_0.json
keeps them.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from notifications.domain.model import Device
from tests.faults.everywhere import EverywhereStage
from tests.support.web import fcm_error, scripted
from tests.support.worlds import Doc

READS = json.loads((Path(__file__).parents[1] / "data" / "version_1_0.json").read_text(encoding="utf-8"))["reads"]
KINDS = {"count": int, "text": str, "instant": datetime, "figure": int | float}
PHONE = Device("token-ann-0", "d0", None).id
CASES = {  # what fails today; what version 1.0 still sends; how often each has the recap then
    "mailbox": ([], {"fcm": 1, "hook": 1}),
    "phone": ([PHONE], {"fcm": 1, "hook": 1, "mail": 1}),
    "mailbox and phone": ([PHONE], {"fcm": 1, "hook": 1}),
}
SHORT = ("firestore", "mailbox")


def known_to_version_1_0(ledger: Doc) -> Doc:
    """What it reads of a ledger. Fails where it would find the ledger unreadable."""
    known = {"date": ledger["date"], "state": ledger["state"], "devices": ledger["devices"]}
    assert ledger["state"] in READS["states"]
    assert all(isinstance(text, str) for pair in ledger["devices"].items() for text in pair)
    for kind, names in ((kind, READS[kind]) for kind in KINDS):
        for name in (name for name in names if name in ledger):
            assert isinstance(ledger[name], KINDS[kind]), name
            assert not isinstance(ledger[name], bool), name
            known[name] = ledger[name]
    return known


@pytest.mark.parametrize(
    ("world", "case"),
    [
        pytest.param(world, case, marks=pytest.mark.short if (world, case) == SHORT else ())
        for world in ("sqlite", "firestore")
        for case in CASES
    ],
    indirect=["world"],
)
def test_version_1_0_serves_the_phone_alone_and_ends_the_day(everywhere: EverywhereStage, case: str) -> None:
    left, delivered = CASES[case]
    everywhere.add_users("ann")
    if "mailbox" in case:
        everywhere.relay.answers["RCPT"] = "451 4.7.1 Greylisted, try again later"
    if "phone" in case:
        everywhere.fcm_rule = scripted(lambda _: fcm_error(503, "UNAVAILABLE"))
    assert everywhere.stage.run().code == (4 if "phone" in case else 0)
    ledger = everywhere.ledger("ann")
    known = known_to_version_1_0(ledger)
    assert (ledger["state"], ledger.keys() - known.keys()) == (
        "pending",
        {"read_from", "told", "unanswered", "verified", "recap_hash", "targets"} & ledger.keys(),
    )
    assert {"recap_hash", "targets"} <= ledger.keys() - known.keys()
    assert [PHONE] * (PHONE not in known["devices"]) == left

    everywhere.fcm_rule = None
    everywhere.relay.answers.clear()
    for token in {PHONE: "token-ann-0"}.keys() & set(left):  # its push, by the collapse id that the ledger has
        known["devices"] |= {token: "accepted"}
        everywhere.stage.fcm.accepted["token-ann-0"] += 1
    day = everywhere.slots["ann"].recap_date.isoformat()
    ended = known | {"state": "sent", "tries": 1, "sent_at": ledger["sending_at"]}
    everywhere.stage.world.put_ledger("ann", day, ended)

    # today's version again: the day has ended, also where a mailbox never had it
    with everywhere.redis() as client:
        client.flushall()
    everywhere.complete_other_shards()
    everywhere.run_until_settled()
    assert everywhere.ledger("ann") == ended
    assert everywhere.delivered() == {(channel, "ann"): times for channel, times in delivered.items()}

    # the command that version 2.0 has for it; the text's hash is gone, so title and body are what it delivers
    everywhere.age(timedelta(minutes=12), sent=True)
    resent = everywhere.stage.run("resend", "ann", day)
    assert resent.code == 0, resent.err
    again = {channel: 1 + delivered.get(channel, 0) for channel in ("fcm", "hook", "mail")}
    assert everywhere.delivered() == {(channel, "ann"): times for channel, times in again.items()}
    assert json.loads(everywhere.hook.raw[-1][1])["data"]["recap"] is None
    assert everywhere.stage.llm.calls == {"ann": 1}
