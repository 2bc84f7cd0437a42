"""A tick that delivers by mail, to a server on loopback: what arrives, and what its refusals mean for a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.jobs import Stage, on_sqlite
from tests.support.mail_servers import MailServer

ADDRESS = "bob@example.com"
SETTINGS = {
    "RECAP_EMAIL_FROM": "Recap <recap@example.org>",
    "RECAP_UNSUBSCRIBE_URL": "https://app.example.org/unsubscribe",
    "RECAP_UNSUBSCRIBE_SECRET": "hush" * 8,
}


@pytest.fixture
def server(stage: Stage) -> Iterator[MailServer]:
    server = MailServer()
    stage.settings |= SETTINGS | {"RECAP_SMTP_URL": server.url}
    yield server
    server.stop()


def plain_part(server: MailServer) -> str:
    part = server.message().get_body(("plain",))
    assert part is not None
    return str(part.get_content())


@on_sqlite
def test_a_user_with_an_address_gets_the_whole_recap_by_mail_and_the_push_too(stage: Stage, server: MailServer) -> None:
    stage.add_user("ann", recap_email=ADDRESS, language="de")
    stage.add_user("eve")
    finished = stage.run()
    assert finished.code == 0, finished.err
    [summary] = stage.world.summaries("ann").values()
    [ledger] = stage.world.ledgers("ann").values()
    [(sender, recipient, _)] = server.mails
    assert (sender, recipient) == ("recap@example.org", ADDRESS)
    text = plain_part(server)
    assert summary["overview"] in text
    assert summary["action_items"][0]["description"] in text
    assert "Abbestellen: https://app.example.org/unsubscribe?uid=ann&token=" in text
    assert (ledger["state"], sorted(ledger["devices"].values())) == ("sent", ["accepted", "accepted"])
    assert sorted(stage.fcm.accepted) == ["token-ann-0", "token-eve-0"]
    assert ADDRESS not in finished.out + finished.err
    assert "hush" not in finished.out + finished.err


@on_sqlite
def test_a_relay_that_refuses_our_login_stops_mail_alone_and_the_run_says_so(stage: Stage, server: MailServer) -> None:
    stage.add_user("ann", recap_email=ADDRESS)
    server.answers["MAIL"] = "535 5.7.8 no"
    finished = stage.run()
    assert finished.code == 3
    assert "The mail relay (RECAP_SMTP_URL) refuses our login" in finished.err + finished.out
    assert list(stage.fcm.accepted) == ["token-ann-0"]
    assert ADDRESS not in finished.out + finished.err


@on_sqlite
def test_an_address_that_is_none_costs_itself_alone(stage: Stage, server: MailServer) -> None:
    stage.add_user("ann", recap_email="bob@example.com>\r\nRCPT TO:<eve@example.com")
    finished = stage.run()
    assert finished.code == 0, finished.err
    told = finished.event("target.unusable")
    assert (told["uid"], told["code"]) == ("ann", "address_refused")
    assert told["reason"] == "In this user's document recap_email is no mail address; write one address alone."
    assert (server.mails, list(stage.fcm.accepted)) == ([], ["token-ann-0"])


@on_sqlite
def test_the_doctor_asks_the_relay_and_sends_nothing(stage: Stage, server: MailServer) -> None:
    finished = stage.run("doctor")
    assert (finished.code, server.mails) == (0, []), finished.out
    assert "ok    push by mail" in finished.out
    server.stop()
    finished = stage.run("doctor")
    assert finished.code != 0
    assert "The mail relay (RECAP_SMTP_URL) does not let us in" in finished.out + finished.err
