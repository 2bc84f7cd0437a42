"""Kill, flush and freeze at every message of a run, over both stores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.proxies import COMMIT
from tests.faults.stage import PATIENT, SCALED, FaultStage
from tests.faults.windows import Windows, windows
from tests.support.jobs import Job
from tests.support.servers import bundled, oldest_redis
from tests.support.worlds import FirestoreWorld

SERVERS = {"valkey-9": bundled(), "redis-6.2": oldest_redis()}
HERE = {name: binary for name, binary in SERVERS.items() if binary}
on_each_redis = pytest.mark.parametrize("redis", HERE.values(), ids=HERE.keys(), indirect=True)
SHORT = (("sqlite", "redis-6.2"), ("firestore", "valkey-9"))  # each store and each server once
CELLS = [
    pytest.param(world, binary, id=f"{world}-{name}", marks=pytest.mark.short if (world, name) in SHORT else ())
    for world in ("sqlite", "firestore")
    for name, binary in HERE.items()
]
FIVE = tuple(f"user-{n}" for n in range(5))
TWO = ("ann", "bob")


def spans(faults: FaultStage, uids: tuple[str, ...]) -> tuple[list[str], dict[str, Windows]]:
    faults.add_users(*uids)
    faults.learn_scripts()
    trace = faults.count()
    faults.check_delivered()
    return trace, {uid: windows(trace, uid, f"token-{uid}-0") for uid in uids}


def expectation(at: int, found: dict[str, Windows]) -> tuple[frozenset[str], dict[str, int]]:
    twice = frozenset(f"token-{uid}-0" for uid, one in found.items() if at in one.push)
    return twice, {uid: 2 for uid, one in found.items() if at in one.llm}


def ended(process: Job, faults: FaultStage) -> None:
    process.kill()
    faults.stage.end(process)


def share(points: range, part: int, parts: int) -> range:
    return points[part::parts]


PARTS = 4


@on_each_redis
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_kill_at_any_message_loses_nobody_and_repeats_nothing(
    faults: FaultStage, part: int, record_property: Callable[[str, object], None]
) -> None:
    trace, found = spans(faults, FIVE)
    points = share(range(len(trace)), part, PARTS)
    for at in points:
        faults.anew(*FIVE)
        ended(faults.strike(at), faults)
        faults.run_until_settled()
        twice, llm = expectation(at, found)
        faults.check_delivered(twice=twice, llm=llm, point=(at, trace))
    record_property("kills_survived", len(points))


@on_each_redis
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_flush_and_a_kill_in_either_order_repeat_nothing(
    faults: FaultStage, part: int, record_property: Callable[[str, object], None]
) -> None:
    """Redis forgets everything, and the run is killed; in both orders."""
    trace, found = spans(faults, TWO)
    points = share(range(len(trace)), part, PARTS)
    for at in points:
        for flush_first in (True, False):
            faults.anew(*TWO)
            process = faults.strike(at, "after", "freeze")
            if not flush_first:
                process.kill()
            with faults.redis() as client:
                client.flushall()
            ended(process, faults)
            faults.director.thawed.set()
            faults.complete_other_shards()
            faults.run_until_settled()
            twice, llm = expectation(at, found)
            faults.check_delivered(twice=twice, llm=llm, point=(at, trace))
    record_property("flushes_survived", 2 * len(points))


@on_each_redis
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_frozen_anywhere_over_a_flush_overwrites_nothing(
    faults: FaultStage, when: str, part: int, record_property: Callable[[str, object], None]
) -> None:
    """Run A freezes at each message, Redis is emptied, run B works to the end, A goes on."""
    faults.under_test = PATIENT
    trace, found = spans(faults, TWO)
    points = share(range(len(trace)), part, PARTS)
    for at in points:
        faults.anew(*TWO)
        process = faults.strike(at, when, "freeze")  # type: ignore[arg-type]
        with faults.redis() as client:
            client.flushall()
        faults.complete_other_shards()
        faults.wait_for_locks()
        faults.settle_in_real_time()
        before = {uid: (faults.ledger(uid), faults.stage.record(uid, faults.slots[uid])) for uid in TWO}
        if process.poll() is None:
            faults.thaw(process)
        after = {uid: (faults.ledger(uid), faults.stage.record(uid, faults.slots[uid])) for uid in TWO}
        assert {uid: one[1] for uid, one in after.items()} == {uid: one[1] for uid, one in before.items()}
        check_frozen(faults, at, when, found, trace)
    record_property("frozen_runs_survived", len(points))


def check_frozen(faults: FaultStage, at: int, when: str, found: dict[str, Windows], trace: list[str]) -> None:
    """One push, but where A had already passed its last look at the clock (R3): then two, one visible."""
    for uid, one in found.items():
        token = f"token-{uid}-0"
        phone, ledger = faults.stage.fcm.phones[token], faults.ledger(uid)
        doubtful = at in (one.push if when == "after" else one.push_held)
        assert faults.pushes()[token] == (2 if doubtful else 1), (at, when, trace[at])
        assert ledger["state"] == "sent"
        assert phone.visible == {ledger["collapse_id"]: ledger["body"]}
        assert set(phone.bodies) == {ledger["body"]}
        [summary] = faults.stage.world.summaries(uid).values()
        assert summary["overview"].startswith(ledger["body"])
        paid_again = at in (one.llm_frozen if when == "after" else one.llm_held)
        assert faults.stage.llm.calls[uid] == (2 if paid_again else 1), (at, when, trace[at])


@pytest.mark.parametrize(("world", "redis"), CELLS, indirect=True)
@pytest.mark.parametrize("kind", ["llm", "fcm", "claim", "complete"])
def test_a_kill_at_each_kind_of_message(faults: FaultStage, kind: str) -> None:
    trace, found = spans(faults, TWO)
    asked = trace.index("llm bob")
    at = {
        "llm": asked,
        "fcm": trace.index("fcm token-bob-0"),
        "claim": max(n for n in range(asked) if trace[n] == "redis"),
        "complete": min(n for n in range(trace.index("fcm token-bob-0"), len(trace)) if trace[n] == "redis"),
    }[kind]
    faults.anew(*TWO)
    ended(faults.strike(at), faults)
    faults.run_until_settled()
    twice, llm = expectation(at, found)
    assert (twice, llm) == {
        "llm": (frozenset(), {"bob": 2}),
        "fcm": (frozenset({"token-bob-0"}), {}),
        "claim": (frozenset(), {}),
        "complete": (frozenset(), {}),
    }[kind]
    faults.check_delivered(twice=twice, llm=llm)


@on_each_redis
def test_the_traces_are_what_the_sweeps_take_them_for(faults: FaultStage) -> None:
    """Counts are exact: round trips to Redis and messages to Firestore for each user."""
    trace, _ = spans(faults, TWO)
    assert [one for one in trace if one.startswith(("llm", "fcm"))] == [
        "llm ann",
        "fcm token-ann-0",
        "llm bob",
        "fcm token-bob-0",
    ]
    ann, bob = trace.index("llm ann"), trace.index("llm bob")
    assert trace[ann:bob].count("redis") == 2  # complete ann, claim bob
    if isinstance(faults.stage.world, FirestoreWorld):
        between = trace[ann : trace.index("fcm token-ann-0")]
        # the devices; begin's look-up for a summary, its transaction's begin and reads, and its commit
        assert (between.count("firestore"), between.count(COMMIT)) == (4, 1)
        assert trace[trace.index("fcm token-ann-0") + 1] == COMMIT  # report's short way: no read


@on_each_redis
def test_a_slow_run_sends_the_messages_of_a_quick_one(faults: FaultStage) -> None:
    """The numbers of a sweep are those of the run that was counted: no renewal comes between."""
    trace, _ = spans(faults, TWO)
    faults.anew(*TWO)
    faults.stage.llm.latency = 0.3 * float(SCALED["RECAP_SHARD_RENEW_SECONDS"])  # of four calls
    assert faults.count() == trace
