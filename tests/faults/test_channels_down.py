"""A channel that fails all evening: no other waits for it, and the day ends as docs/protocol.md, section 4, says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from notifications.domain.claim import ClaimState
from tests.faults.everywhere import CHANNELS, EverywhereStage
from tests.faults.stage import record
from tests.support.jobs import Finished
from tests.support.servers import ThreadedServer, free_port
from tests.support.web import fcm_error, google_error, scripted
from tests.support.webhooks import OTHER_SECRET, SECRET

KINDS = {"down": 4, "wrong password": 3, "silent": 4, "not yet": 0}  # and how a run ends that meets it
URLS = {"fcm": "FCM_BASE_URL", "hook": "RECAP_WEBHOOK_URL", "mail": "RECAP_SMTP_URL"}
SHORT = (("sqlite", "mail", "wrong password"), ("firestore", "hook", "down"))
CASES = [
    pytest.param(world, broken, kind, marks=pytest.mark.short if (world, broken, kind) in SHORT else ())
    for world in ("sqlite", "firestore")
    for broken in CHANNELS
    for kind in KINDS
]
ALONE_SHORT = ("sqlite", "mail", "not yet")
ALONE = [
    pytest.param(world, broken, kind, marks=pytest.mark.short if (world, broken, kind) == ALONE_SHORT else ())
    for world in ("sqlite", "firestore")
    for broken in ("hook", "mail")
    for kind in KINDS
]


class Silent(ThreadedServer):
    """Accepts connections, and never answers."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass


@pytest.fixture
def silent() -> Iterator[Silent]:
    made = Silent()
    yield made
    made.stop()


def break_it(stage: EverywhereStage, broken: str, kind: str, silent: Silent) -> dict[str, str]:
    """From now on that channel fails so; the settings that name it."""
    scheme = "smtp" if broken == "mail" else "http"
    match kind, broken:
        case "down", _:
            return {URLS[broken]: f"{scheme}://127.0.0.1:{free_port()}"}
        case "silent", _:
            return {URLS[broken]: f"{scheme}://127.0.0.1:{silent.port}"}
        case "wrong password", "mail":
            return {"RECAP_SMTP_URL": stage.relay.url.replace("://", "://ann:wrong@")}
        case "wrong password", "hook":
            return {"RECAP_WEBHOOK_SECRET": OTHER_SECRET}
        case "wrong password", _:
            stage.fcm_rule = scripted(lambda _: google_error(401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED"))
        case _, "mail":
            stage.relay.answers["RCPT"] = "451 4.7.1 Greylisted, try again later"
        case _, "hook":
            stage.hook.status, stage.hook.headers = 503, {"Retry-After": "900"}
        case _:
            stage.fcm_rule = scripted(lambda _: fcm_error(503, "UNAVAILABLE"))
    return {}


def mend(stage: EverywhereStage) -> None:
    stage.fcm_rule = None
    stage.relay.answers.clear()
    stage.hook.status, stage.hook.headers, stage.hook.secret = 200, {}, SECRET


def last_chance(stage: EverywhereStage) -> dict[str, str]:
    """Settings under which no pass comes after this one."""
    late = (datetime.now(UTC) - next(iter(stage.slots.values())).at).total_seconds()
    return {
        "RECAP_CATCH_UP_SECONDS": str(max(1.0, late - 1)),
        "RECAP_GRACE_SECONDS": "60",
        "RECAP_SHARD_RETRY_MAX_SECONDS": "65",
    }


def all_evening(stage: EverywhereStage, settings: dict[str, str]) -> list[Finished]:
    """Three runs of the catch-up and the last one of the grace; less if no day is left open."""
    runs = []
    for n in range(4):
        runs.append(stage.stage.run(**settings, **(last_chance(stage) if n == 3 else {})))
        stage.age(timedelta(minutes=31))  # the longest wait
        if not stage.open_shards():
            break
    return runs


def ended(stage: EverywhereStage, uid: str) -> tuple[str, str, ClaimState]:
    ledger = stage.ledger(uid)
    return ledger["state"], ledger.get("outcome", ""), record(stage, uid).state


def check_exit(run: Finished, code: int) -> None:
    assert run.code == code, (run.out, run.err)
    if code:
        assert "check" in run.out + run.err


@pytest.mark.parametrize(("world", "broken", "kind"), CASES, indirect=["world"])
def test_a_channel_that_fails_all_evening_delays_no_other_and_leaves_the_day_partly_sent(
    everywhere: EverywhereStage, silent: Silent, broken: str, kind: str
) -> None:
    others = [channel for channel in CHANNELS if channel != broken]
    everywhere.add_users("ann", "bob")
    without = {"fcm": {"devices": 0}, "mail": {"recap_email": ""}}.get(broken)
    if without:
        everywhere.add_users("eve", **without)  # type: ignore[arg-type]
    settings = break_it(everywhere, broken, kind, silent)
    first, *later = all_evening(everywhere, settings)

    expected = {(channel, uid): 1 for channel in others for uid in everywhere.slots}
    if broken != "fcm":
        expected |= {("fcm", uid): 1 for uid in everywhere.slots}
    assert everywhere.delivered() == expected
    for uid in ("ann", "bob"):
        assert ended(everywhere, uid) == ("sent", "partial", ClaimState.SENT)
        assert sorted(everywhere.ledger(uid)["devices"].values()) == ["accepted", "accepted", "gave_up"]
    if without:
        assert ended(everywhere, "eve") == ("sent", "", ClaimState.SENT)
    told = first.event("tick.finished")
    assert (told["claimed"], told["waiting"], told["sent"]) == (len(everywhere.slots), 2, len(everywhere.slots) - 2)
    accepted = {name: counts["accepted"] for name, counts in told["by_channel"].items() if "accepted" in counts}
    assert sum(accepted.values()) == sum(expected.values())  # all in the first run
    is_overloaded = (broken, kind) == ("fcm", "not yet")  # FCM says nothing else
    for run in (first, *later):
        assert run.code == (4 if is_overloaded else KINDS[kind]), (run.out, run.err)
    everywhere.check_texts()
    assert everywhere.stage.llm.calls == dict.fromkeys(everywhere.slots, 1)

    mend(everywhere)
    everywhere.age(sent=True)
    day = everywhere.slots["ann"].recap_date.isoformat()
    resent = everywhere.stage.run("resend", "--date", day, "--where", "partial")
    assert resent.code == 0, resent.err
    assert everywhere.delivered() == expected | {(broken, "ann"): 1, (broken, "bob"): 1}
    assert {ended(everywhere, uid) for uid in everywhere.slots} == {("sent", "", ClaimState.SENT)}


@pytest.mark.parametrize(("world", "broken", "kind"), ALONE, indirect=["world"])
def test_a_day_whose_only_channel_fails_all_evening_is_given_up_and_other_users_have_theirs(
    everywhere: EverywhereStage, silent: Silent, broken: str, kind: str
) -> None:
    del everywhere.stage.settings["RECAP_WEBHOOK_URL"], everywhere.stage.settings["RECAP_WEBHOOK_SECRET"]
    if broken == "hook":
        everywhere.stage.settings |= {"RECAP_WEBHOOK_URL": everywhere.hook.url, "RECAP_WEBHOOK_SECRET": SECRET}
    everywhere.add_users("ann", devices=0, **({} if broken == "mail" else {"recap_email": ""}))
    everywhere.add_users("bob")
    settings = break_it(everywhere, broken, kind, silent)
    first, *later = all_evening(everywhere, settings)
    assert everywhere.delivered() == {
        (channel, "bob"): 1 for channel in ("fcm", *(("mail",) if broken == "hook" else ()))
    }
    state, outcome, claimed = ended(everywhere, "ann")
    assert (state, outcome in ("undelivered", "pushes"), claimed) == ("gave_up", True, ClaimState.DEAD)
    assert set(everywhere.ledger("ann")["devices"].values()) == {"gave_up"}
    assert ended(everywhere, "bob") == ("sent", "partial", ClaimState.SENT)
    assert first.code == KINDS[kind], (first.out, first.err)
    assert later[-1].code == (KINDS[kind] or 5), (later[-1].out, later[-1].err)
    assert everywhere.stage.llm.calls == {"ann": 1, "bob": 1}
