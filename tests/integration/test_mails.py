"""A tick that delivers by mail, to a server on loopback: what arrives, and what its refusals mean for a run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

import pytest

from notifications.adapters.stores import recipients
from tests.support.jobs import JOB, Stage, on_sqlite
from tests.support.mail_servers import MailServer
from tests.support.servers import free_port, listens, wait_for

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
    (stage.folder / "users.jsonl").write_text(json.dumps({"uid": "ann", "user": stage.world.user("ann")}))
    sentence = "email: recap_email is no mail address; write one address alone"
    for command, said in ((("import", "users.jsonl"), f"{sentence}: ann."), (("why", "ann"), f"not used: {sentence}.")):
        assert said in " ".join(stage.run(*command).out.split())


@on_sqlite
def test_of_a_mailbox_that_is_gone_it_is_said_what_to_correct(stage: Stage, server: MailServer) -> None:
    slot = stage.add_user("ann", devices=0, recap_email=ADDRESS)
    for uid in ("bob", "cyd", "dan", "eve"):
        stage.add_user(uid, devices=0, recap_email=f"{uid}@example.com")
    server.answers["RCPT"] = "550 5.1.1 no such mailbox"
    day = str(slot.recap_date)
    assert stage.run().code == 0
    said = {name: " ".join(stage.run(*args).out.split()) for name, args in {
        "why": ("why", "ann", day), "audit": ("audit", "--date", day), "doctor": ("doctor",),
    }.items()}  # fmt: skip
    project = "is GOOGLE_CLOUD_PROJECT the app's Firebase project?"
    devices = f"Where python job.py audit --date {day} counts many devices gone, {project}"
    assert f"A mailbox that is gone: correct the user's recap_email. {devices}" in said["why"], said
    assert f"where it is a mailbox, correct recap_email; many devices at once: {project[:-1]}." in said["audit"], said
    assert f"targets were gone on {day}: mailboxes: correct their addresses; devices: {project}" in said["doctor"], said


@on_sqlite
def test_a_dry_run_of_an_import_names_the_users_whose_address_is_not_used(stage: Stage, server: MailServer) -> None:
    on = {"time_zone": "UTC", "daily_summary_enabled": True, "daily_summary_hour_local": 20}
    stage.world.put_user("cyd", on | {"recap_email": ADDRESS, "recap_unsubscribed": ADDRESS}, {}, {})
    given = {"ann": "no address", "bob": ADDRESS, "cyd": ADDRESS, "eve": "eve@example.com, fay@example.com"}
    talks = {"t": {"created_at": "2026-11-25T20:00:00Z"}}
    lines = [
        {"uid": uid, "user": on | {"recap_email": address}, "conversations": talks} for uid, address in given.items()
    ]
    (stage.folder / "users.jsonl").write_text("\n".join(map(json.dumps, lines)))
    told = [" ".join(stage.run("import", "users.jsonl", *more).out.split()) for more in (("--dry-run",), ())]
    bad = "2 users with an address that is not used: email: recap_email is no mail address; write one address alone"
    ended = "1 user with an address that is not used: email: the user has ended it (recap_unsubscribed)"
    for said, how in zip(told, ("would be imported", "imported"), strict=True):
        assert said.startswith(f"4 users {how}. {bad}: ann eve. {ended}: cyd."), said
        assert "example.com" not in said


def asked(url: str, body: bytes | None = None) -> str:
    with urlopen(url, body, timeout=10) as answer:  # noqa: S310 - on loopback
        return str(answer.read().decode())


@contextmanager
def unsubscribe_page(stage: Stage) -> Iterator[str]:
    """docs/unsubscribe.py as it is started beside the job."""
    port, path = free_port(), stage.world.env()["RECAP_DATA_DIR"] + "/recap.sqlite3"
    with subprocess.Popen(
        [sys.executable, JOB.parent / "docs/unsubscribe.py"],
        env=stage.env(PORT=str(port)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as page:  # fmt: skip
        try:
            wait_for(lambda: listens(port), "page")
            yield f"http://127.0.0.1:{port}"
        finally:
            page.terminate()
        said = f"The unsubscribe page is at http://127.0.0.1:{port}/ for the users of {path}.\n"
        assert page.communicate(timeout=10)[0] == said  # no link with its token


@on_sqlite
def test_a_page_whose_port_is_taken_says_so_in_a_sentence(stage: Stage, server: MailServer) -> None:
    stage.add_user("ann")
    for port, sentence in (
        (str(server.port), f"Port {server.port} is in use by another program; set PORT to another."),
        ("http", "PORT is no number of a port; set it to one from 1 to 65535."),
        ("65536", "PORT is no number of a port; set it to one from 1 to 65535."),
    ):
        done = subprocess.run(
            [sys.executable, JOB.parent / "docs/unsubscribe.py"], env=stage.env(PORT=port), capture_output=True,
            text=True, timeout=20, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{sentence}\n")


@on_sqlite
def test_who_ended_their_mails_on_the_page_of_a_data_folder_gets_none_after_the_next_import(
    stage: Stage, server: MailServer
) -> None:
    slot = stage.add_user("ann", recap_email=f" {ADDRESS}")
    stage.run()
    line = {"uid": "ann", "user": stage.world.user("ann")}
    [link] = re.findall(r"https://app.example.org/unsubscribe(\S+)", plain_part(server))
    with unsubscribe_page(stage) as page:
        assert "<button>" in asked(page + link)
        assert "recap_unsubscribed" not in (stage.world.user("ann") or {})
        for _ in range(2):
            done = asked(page + link, b"List-Unsubscribe=One-Click")
            assert "You get no more recaps by mail" in done
    (stage.folder / "users.jsonl").write_text(json.dumps(line))
    assert stage.run("import", "users.jsonl").code == 0
    assert stage.run("resend", "ann", str(slot.recap_date)).code == 0
    assert (len(server.mails), stage.fcm.accepted) == (1, {"token-ann-0": 2})
    user = stage.world.user("ann") or {}
    assert recipients.addresses_from(user) == {"email": {"ended_by": "recap_unsubscribed"}}
    for elsewhere in ({"recap_email": "ann@example.net"}, {"recap_unsubscribed": None}):
        assert "address" in recipients.addresses_from(user | elsewhere)["email"]


@on_sqlite
def test_the_doctor_counts_the_users_whose_address_can_not_be_mailed(stage: Stage, server: MailServer) -> None:
    looked_at = "the addresses of the first users"
    for uid, address in {"ann": "no address", "bob": ADDRESS, "cyd": "a@example.com, b@example.com"}.items():
        stage.add_user(uid, recap_email=address)
    stage.add_user("dan")
    stage.add_user("eve", daily_summary_enabled=False, recap_email="off")
    finished = stage.run("doctor")
    said = " ".join(finished.out.split())
    clause = "email: recap_email is no mail address; write one address alone: 2 of 3 users with one: ann cyd"
    assert (finished.code, f"look {looked_at}: {clause}. " in said) == (1, True), said
    assert "example.com" not in said
    for uid in ("ann", "cyd"):
        stage.world.update_user(uid, {"recap_email": ADDRESS})
    assert f"ok {looked_at} " in " ".join(stage.run("doctor").out.split())


@on_sqlite
def test_the_doctor_asks_the_relay_and_sends_nothing(stage: Stage, server: MailServer) -> None:
    finished = stage.run("doctor")
    assert (finished.code, server.mails) == (0, []), finished.out
    assert "ok    mail (our access alone: " in finished.out
    server.stop()
    finished = stage.run("doctor")
    assert finished.code != 0
    assert "The mail relay (RECAP_SMTP_URL) does not answer" in finished.out + finished.err


@on_sqlite
def test_a_resend_by_which_no_mail_can_go_out_is_refused_and_keeps_what_was_accepted(
    stage: Stage, server: MailServer
) -> None:
    slot = stage.add_user("lea", devices=0, recap_email=ADDRESS)
    stage.run()
    day, before = str(slot.recap_date), stage.world.ledgers("lea")
    without = dict.fromkeys((*SETTINGS, "RECAP_SMTP_URL"), "")
    unset = stage.run("resend", "lea", day, **without)
    stage.world.update_user("lea", {"recap_unsubscribed": ADDRESS})
    ended = stage.run("resend", "lea", day)
    why = {
        "email: it is not set here: set RECAP_SMTP_URL (docs/email.md)": unset,
        "email: the user has ended it (recap_unsubscribed)": ended,
    }
    for clause, refused in why.items():
        said = " ".join(refused.err.split())
        sentence = "is not resent, and its ledger stays as it is: no target takes the recap now: no device"
        assert (refused.code, f"lea {day} {sentence}; {clause}." in said) == (2, True), said
    assert (stage.world.ledgers("lea"), len(server.mails)) == (before, 1)
    assert before[day]["state"] == "sent"
    assert list(before[day]["devices"].values()) == ["accepted"]
