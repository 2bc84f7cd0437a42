"""After a take-over, and after the app rewrote or deleted the recap: which text each channel delivers, by hash."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from notifications.recap.document import text_hash, text_to_deliver
from tests.faults.everywhere import CHANNELS, EverywhereStage
from tests.faults.stage import killed
from tests.support.mail_servers import parsed

THEIRS = "The app's own words."


def delivered_texts(stage: EverywhereStage) -> tuple[list[Any], list[str]]:
    """The recaps of the events, and the text parts of the mails."""
    parts = [parsed(content).get_body(("plain",)) for _, _, content in stage.relay.mails]
    return [json.loads(body)["data"]["recap"] for _, body in stage.hook.raw], [
        part.get_content() for part in parts if part is not None
    ]


@pytest.mark.short
def test_who_takes_over_delivers_the_stored_text_by_each_channel(everywhere: EverywhereStage) -> None:
    """Killed at its first push: another run reads the text from the store, and asks no LLM."""
    everywhere.add_users("ann")
    killed(everywhere, "fcm token-ann-0", "before")
    before = everywhere.delivered()
    [stored] = everywhere.stage.world.summaries("ann").values()
    everywhere.run_until_settled()
    everywhere.check_everywhere(twice=before)
    events, _ = delivered_texts(everywhere)
    assert text_hash(stored) == everywhere.ledger("ann")["recap_hash"]
    assert events == [text_to_deliver(stored)] * len(events)


@pytest.mark.parametrize("at", ["fcm token-ann-0", "mail ann"])
@pytest.mark.parametrize("deed", ["rewritten", "deleted", "read"])
def test_after_the_app_changed_the_recap_no_channel_delivers_another_text(
    everywhere: EverywhereStage, deed: str, at: str
) -> None:
    """Killed before its first answer, or after its last; what comes then is the ledger's title and body alone.

    The app may set fields that are no text, such as a mark that it was read: then the whole text is delivered.
    """
    everywhere.add_users("ann")
    everywhere.turns.drops_the_rest = True
    killed(everywhere, at, "before" if at.startswith("fcm") else "after")
    before = everywhere.delivered()
    [(key, stored)] = everywhere.stage.world.summaries("ann").items()
    events, mails = delivered_texts(everywhere)
    assert (events, len(mails)) == (([], 0) if at.startswith("fcm") else ([text_to_deliver(stored)], 1))
    if deed == "deleted":
        everywhere.stage.world.delete_summary("ann", key)
    else:
        changed = {"overview": THEIRS} if deed == "rewritten" else {"is_read": True}
        everywhere.stage.world.put_summary("ann", key, stored | changed)

    everywhere.age()
    finished = everywhere.stage.run()
    assert finished.code == 0, finished.err
    once = Counter({(channel, "ann"): 1 for channel in CHANNELS})
    assert everywhere.delivered() == before + once
    ledger = everywhere.ledger("ann")
    assert (ledger["state"], sorted(ledger["devices"].values())) == ("sent", ["accepted"] * 3)
    again, mailed = (found[-1] for found in delivered_texts(everywhere))
    event = json.loads(everywhere.hook.raw[-1][1])["data"]
    assert (event["title"], event["body"]) == (ledger["title"], ledger["body"])
    assert (ledger["title"] in mailed or deed == "read", ledger["body"] in mailed or deed == "read") == (True, True)
    assert THEIRS not in json.dumps(again) + mailed
    if deed == "read":
        assert (again, stored["overview"] in mailed, finished.named("recap.text_changed")) == (
            text_to_deliver(stored),
            True,
            [],
        )
    else:
        assert (again, stored["overview"] in mailed) == (None, False)
        told = finished.event("recap.text_changed")  # once, however many channels ask
        assert (told["uid"], told["found"]) == ("ann", deed == "rewritten")
    ids = {headers["webhook-id"] for headers, _ in everywhere.hook.raw}
    names = {parsed(content)["Message-ID"] for _, _, content in everywhere.relay.mails}
    assert (ids, names) == ({f"msg_{ledger['collapse_id']}"}, {f"<{ledger['collapse_id']}.1@example.org>"})
    assert everywhere.stage.llm.calls == {"ann": 1}
