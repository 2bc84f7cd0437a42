"""Resends of one day or of many users, killed and repeated: each push that was wished, once."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tests.faults.proxies import COMMIT
from tests.faults.stage import FaultStage, key_of, killed, make_old
from tests.support.jobs import on_firestore, on_sqlite
from tests.support.servers import wait_for
from tests.support.web import fcm_error, scripted
from tests.support.worlds import talk

# An overlap keeps the protocol's own numbers.
REAL = {
    "RECAP_USER_DEADLINE_SECONDS": "480",
    "RECAP_USER_LEASE_SECONDS": "660",
    "RECAP_PUSH_DEADLINE_SECONDS": "30",
    "RECAP_STORE_TIMEOUT_SECONDS": "60",
    "RECAP_SENDING_STALE_SECONDS": "120",
}


@on_firestore
def test_a_resend_is_refused_while_a_push_is_under_way(staged: FaultStage) -> None:
    """Refused while a push is under way; hours later exactly one new push."""
    staged.stage.settings |= REAL
    staged.add_users("ann")
    day = staged.slots["ann"].recap_date.isoformat()
    process = staged.strike("fcm token-ann-0", "after", "freeze")
    refused = staged.stage.run("resend", "ann", day)
    assert (refused.code, "is held by a run that is sending it" in refused.err) == (2, True)
    with staged.redis() as client:
        client.delete(key_of(staged, "ann"))
    assert staged.stage.run("resend", "ann", day).code == 2  # the ledger alone refuses it too
    staged.thaw(process)
    assert staged.pushes() == {"token-ann-0": 1}
    with staged.redis() as client:
        client.flushall()
    later = (datetime.now(UTC) + timedelta(hours=5)).isoformat()
    done = staged.stage.run("--now", later, "resend", "ann", day)
    assert done.code == 0, done.err
    assert (staged.pushes(), staged.ledger("ann")["seq"]) == ({"token-ann-0": 2}, 2)
    assert len(staged.stage.fcm.phones["token-ann-0"].visible) == 1


def test_a_resend_makes_a_missed_recap(staged: FaultStage) -> None:
    staged.stage.settings["RECAP_FALLBACK"] = "none"
    staged.add_users("ann")
    day = staged.slots["ann"].recap_date.isoformat()
    late = (datetime.now(UTC) - staged.slots["ann"].at).total_seconds()
    staged.stage.run(RECAP_CATCH_UP_SECONDS=str(late - 1), RECAP_GRACE_SECONDS="3600")
    assert staged.ledger("ann")["state"] == "missed"
    done = staged.stage.run("resend", "ann", day)
    assert done.code == 0, done.err
    assert (staged.ledger("ann")["state"], staged.ledger("ann")["seq"], staged.pushes()) == (
        "sent", 2, {"token-ann-0": 1},
    )  # fmt: skip


@pytest.mark.timeout(300)
def test_a_resend_killed_anywhere_and_said_again_pushes_once(staged: FaultStage) -> None:
    """The operator's process is killed at each effect, then the same command again: exactly one new push."""
    staged.add_users("ann")
    staged.run_until_settled()
    day = staged.slots["ann"].recap_date.isoformat()
    staged.director.aim(None, "after", "kill")
    assert staged.stage.end(staged.start("resend", "ann", day)).code == 0
    trace = list(staged.director.trace)
    pushed = trace.index("fcm token-ann-0")
    reported = trace.index(COMMIT, pushed) if COMMIT in trace else pushed + 1
    assert (staged.ledger("ann")["seq"], staged.pushes()) == (2, {"token-ann-0": 2})
    for at in range(len(trace)):
        before, seq = staged.pushes()["token-ann-0"], staged.ledger("ann")["seq"]
        staged.age(sent=True)
        killed(staged, at, "after", "resend", "ann", day)
        if staged.ledger("ann")["state"] != "sent":
            audited = staged.stage.run("audit", "--date", day, "--json").accounts
            assert audited["uids"]["unfinished"] == ["ann"]
        staged.age()
        again = staged.stage.run("resend", "ann", day)
        over = again.code == 2 and "was resent just now" in again.err  # killed after its report
        assert over == (at >= reported), (at, again.err)
        assert over or again.code == 0, again.err
        twice = pushed <= at < reported  # FCM had accepted, and the ledger did not say so yet
        assert staged.pushes()["token-ann-0"] == before + (2 if twice else 1), (at, trace[at])
        assert (staged.ledger("ann")["seq"], staged.ledger("ann")["state"]) == (seq + 1, "sent")
    assert len(set(staged.stage.fcm.phones["token-ann-0"].tags)) == 1
    assert staged.stage.llm.calls["ann"] == 1


@on_sqlite
def test_a_resend_to_a_refused_device_ends_with_what_fcm_said(staged: FaultStage) -> None:
    """It pushed once a second for ever."""
    staged.add_users("ann")
    staged.run_until_settled()
    staged.age(sent=True)
    staged.fcm_rule = scripted(lambda _: fcm_error(400, "INVALID_ARGUMENT"))
    day = staged.slots["ann"].recap_date.isoformat()
    done = staged.stage.run("resend", "ann", day)
    assert (done.code, "INVALID_ARGUMENT" in done.err.splitlines()[-1]) == (1, True), done.err
    assert staged.stage.fcm.asked == {"token-ann-0": 2}
    staged.fcm_rule = None
    assert staged.stage.run("resend", "ann", day).code == 0
    assert staged.pushes() == {"token-ann-0": 2}


@on_sqlite
def test_a_resend_a_day_later_is_worth_its_time_from_now_on(staged: FaultStage) -> None:
    staged.add_users("ann")
    staged.run_until_settled()
    staged.age(sent=True)
    later = datetime.now(UTC) + timedelta(hours=26)
    done = staged.stage.run("--now", later.isoformat(), "resend", "ann", staged.slots["ann"].recap_date.isoformat())
    assert done.code == 0, done.err
    first, second = staged.stage.fcm.messages
    created = datetime.fromisoformat(first["data"]["created_at"]).timestamp()
    assert int(first["apns"]["headers"]["apns-expiration"]) == int(created + 20 * 3600)
    assert abs(int(second["apns"]["headers"]["apns-expiration"]) - (later.timestamp() + 20 * 3600)) < 60


@on_sqlite
def test_a_killed_resend_is_left_to_its_operator(staged: FaultStage) -> None:
    """The sweep must not give up what an operator reopened hours later: the same command finishes it."""
    staged.add_users("ann")
    staged.run_until_settled()
    day, ledger = staged.slots["ann"].recap_date.isoformat(), staged.ledger("ann")
    staged.stage.world.put_ledger(
        "ann", day, ledger | {"state": "pending", "outcome": "resend", "seq": 2, "devices": {}}
    )
    make_old(staged, "ann")
    with staged.redis() as client:
        client.delete(f"users:ann:daily_summary_lock:{day}")
    assert staged.stage.run().code == 0
    assert staged.ledger("ann")["state"] == "pending"
    assert staged.stage.run("resend", "ann", day).code == 0
    assert (staged.ledger("ann")["state"], staged.ledger("ann")["seq"], staged.pushes()) == (
        "sent",
        2,
        {"token-ann-0": 2},
    )


KILLS = 10
AT = datetime.now(UTC).replace(hour=20, minute=0, second=0, microsecond=0) - timedelta(days=1)
DAY = AT.date().isoformat()


def add_missed(staged: FaultStage, count: int) -> list[str]:
    """Users whose day ended without a recap, or that nobody served."""
    uids = [f"user-{n:04}" for n in range(count)]
    for number, uid in enumerate(uids):
        doc = {"time_zone": "UTC", "daily_summary_enabled": True, "daily_summary_hour_local": 20}
        staged.stage.world.put_user(uid, doc, {"d": f"token-{uid}"}, {"t": talk(uid, AT - timedelta(hours=2))})
        if number % 10:
            state = "missed" if number % 2 else "dead"
            missed = {"date": DAY, "state": state, "outcome": "closed", "seq": 1, "devices": {}}
            staged.stage.world.put_ledger(uid, DAY, missed)
    return uids


def states(staged: FaultStage, uids: list[str]) -> dict[str, str]:
    return {uid: staged.stage.world.ledgers(uid).get(DAY, {}).get("state", "") for uid in uids}


def pushed(staged: FaultStage, at: int) -> bool:
    return sum(staged.stage.fcm.accepted.values()) >= at


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("world", "count"), [("sqlite", 2_000), ("firestore", 200)], indirect=["world"])
def test_a_bulk_resend_killed_ten_times_reaches_each_once(staged: FaultStage, count: int) -> None:
    uids = add_missed(staged, count)
    staged.stage.settings |= {"RECAP_CONCURRENCY": "16"}
    command = ("resend", "--date", DAY, "--where", "missed,dead,unserved")
    if count > 200:  # the emulator's documents are younger than their slots: who was not served was not due there
        told = staged.stage.run(*command, "--dry-run").out
        assert told == f"{DAY}: would send {count:,} (dry run: nothing was claimed, sent or written).\n"
        assert staged.stage.fcm.accepted == Counter()
    dice = random.Random(7)  # noqa: S311 - dice
    caught: Counter[str] = Counter()
    for at in sorted(dice.sample(range(1, count - count // 5), KILLS)):
        process = staged.start(*command)
        wait_for(partial(pushed, staged, at), f"{at} pushes", seconds=60)
        process.kill()
        staged.stage.end(process)
        staged.wait_for_locks()  # of the killed ones' transactions: the emulator keeps them for a while
        accepted = dict(staged.stage.fcm.accepted)
        standing = states(staged, [token.removeprefix("token-") for token in accepted])
        lost = {uid for uid, state in standing.items() if state != "sent"}  # accepted, and no ledger says so yet
        caught.update({f"token-{uid}": 1 for uid in lost if accepted[f"token-{uid}"] > caught[f"token-{uid}"]})
    done = staged.stage.run(*command)
    served = uids if count > 200 else [uid for n, uid in enumerate(uids) if n % 10]
    assert done.code == 0, done.err
    assert Counter(states(staged, served).values()) == {"sent": len(served)}
    assert dict(staged.stage.fcm.accepted) == {f"token-{uid}": 1 + caught[f"token-{uid}"] for uid in served}
    assert sum(caught.values()) <= KILLS * 16
    phones = staged.stage.fcm.phones
    assert Counter(len(phones[f"token-{uid}"].visible) for uid in served) == {1: len(served)}
    again = staged.stage.run(*command)
    assert (again.code, again.out) == (0, f"{DAY}: no user; 0 pushes, 0 LLM calls.\n")
    assert staged.stage.run("audit", "--date", DAY, "--json").accounts["counts"]["sent"] == len(served)
