"""A bulk resend, killed at random and said again: everybody once, and whom a kill caught says so exactly."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tests.faults.stage import FaultStage
from tests.support.servers import wait_for
from tests.support.worlds import talk

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
        assert told == f"{DAY}: {count} sent (dry run: nothing was claimed, sent or written).\n"
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
