"""A phone, a webhook and a mailbox: kill, flush and freeze at every message of a run, over both stores.

Each target has the recap once; twice only in the windows of docs/protocol.md, section 7, and then with the same id and
the same text.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.everywhere import UNHURRIED, EverywhereStage, Pass, passes
from tests.faults.stage import PATIENT
from tests.support.jobs import Job

TWO, ONE = ("ann", "bob"), ("ann",)
PHONE_FIRST, MAIL_FIRST = ("fcm", "hook", "mail"), ("mail", "hook", "fcm")
in_each_order = pytest.mark.parametrize("order", [PHONE_FIRST, MAIL_FIRST], ids=["phone first", "mail first"])
Target = tuple[str, str]


def spans(stage: EverywhereStage, uids: tuple[str, ...], order: tuple[str, ...]) -> tuple[list[str], dict[str, Pass]]:
    stage.stage.settings |= UNHURRIED
    stage.turns.order = order
    stage.add_users(*uids)
    trace = stage.count()
    stage.check_everywhere()
    return trace, {uid: passes(trace, uid, order) for uid in uids}


def ended(process: Job, stage: EverywhereStage) -> None:
    process.kill()
    stage.stage.end(process)


def twice_after_a_kill(at: int, found: dict[str, Pass], *, drops: bool) -> set[Target]:
    """What was accepted, and is not yet in the ledger. A server that has a dead client's request may still take it."""
    again: set[Target] = set()
    for uid, one in found.items():
        if one.first <= at < one.reported:
            again |= {(name, uid) for name, accepted in one.accepted.items() if accepted <= at}
            again |= set() if drops else {("fcm", uid), ("hook", uid)}
    return again


def paid_again(at: int, found: dict[str, Pass]) -> dict[str, int]:
    return {uid: 2 for uid, one in found.items() if at in one.llm}


@pytest.mark.timeout(1200)
@in_each_order
@pytest.mark.parametrize("part", range(2))
def test_a_kill_at_any_message_loses_no_target_and_repeats_none(
    everywhere: EverywhereStage,
    order: tuple[str, ...],
    part: int,
    record_property: Callable[[str, object], None],
) -> None:
    """By turns, the requests that a killed run leaves behind are dropped, or taken all the same."""
    trace, found = spans(everywhere, TWO, order)
    everywhere.turns.drops_the_rest = drops = order is PHONE_FIRST
    points = range(len(trace))[part::2]
    for at in points:
        everywhere.anew(*TWO)
        ended(everywhere.strike(at), everywhere)
        everywhere.run_until_settled()
        everywhere.check_everywhere(
            twice=twice_after_a_kill(at, found, drops=drops), llm=paid_again(at, found), point=(at, trace)
        )
    record_property("kills_with_three_channels_survived", len(points))


@pytest.mark.timeout(1200)
@in_each_order
def test_a_flush_and_a_kill_in_either_order_repeat_no_target(
    everywhere: EverywhereStage, order: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    """Redis forgets everything, and the run is killed; in both orders. What was left behind is taken."""
    trace, found = spans(everywhere, ONE, order)
    for at in range(len(trace)):
        for flush_first in (True, False):
            everywhere.anew(*ONE)
            process = everywhere.strike(at, "after", "freeze")
            if not flush_first:
                process.kill()
            with everywhere.redis() as client:
                client.flushall()
            ended(process, everywhere)
            everywhere.director.thawed.set()
            everywhere.complete_other_shards()
            everywhere.run_until_settled()
            everywhere.check_everywhere(
                twice=twice_after_a_kill(at, found, drops=False), llm=paid_again(at, found), point=(at, trace)
            )
    record_property("flushes_with_three_channels_survived", 2 * len(trace))


def twice_after_a_freeze(at: int, when: str, found: Pass) -> tuple[set[Target], set[Target]]:
    """What A and B both sent (R3), and what A may have sent: its last mail command was answered as it went on."""
    if not found.first <= at < (found.reported if when == "after" else found.held):
        return set(), set()
    mailed = found.accepted["mail"]
    both = {("fcm", "ann"), ("hook", "ann")}
    if at > mailed or (at, when) == (mailed, "after"):
        both |= {("mail", "ann")}
    return both, {("mail", "ann")} if (at, when) == (mailed, "before") else set()


@pytest.mark.timeout(1200)
@in_each_order
@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_frozen_anywhere_over_a_flush_repeats_no_target(
    everywhere: EverywhereStage,
    when: str,
    part: int,
    order: tuple[str, ...],
    record_property: Callable[[str, object], None],
) -> None:
    """Run A freezes at each message, Redis is emptied, run B works to the end, A goes on."""
    everywhere.under_test = PATIENT
    trace, found = spans(everywhere, ONE, order)
    points = range(len(trace))[part::2]
    for at in points:
        everywhere.anew(*ONE)
        process = everywhere.strike(at, when, "freeze")  # type: ignore[arg-type]
        with everywhere.redis() as client:
            client.flushall()
        everywhere.complete_other_shards()
        everywhere.wait_for_locks()
        everywhere.settle_in_real_time()
        before = everywhere.ledger("ann"), everywhere.stage.record("ann", everywhere.slots["ann"])
        if process.poll() is None:
            everywhere.thaw(process)
        assert everywhere.stage.record("ann", everywhere.slots["ann"]) == before[1]
        assert everywhere.ledger("ann")["summary_id"] == before[0]["summary_id"]
        twice, unsure = twice_after_a_freeze(at, when, found["ann"])
        paid = at in (found["ann"].llm_frozen if when == "after" else found["ann"].llm_held)
        everywhere.check_everywhere(
            twice=twice, unsure=unsure, llm={"ann": 2} if paid else None, point=(at, when, trace)
        )
    record_property("frozen_runs_with_three_channels_survived", len(points))


@pytest.mark.parametrize(
    ("world", "kind"),
    [
        pytest.param("sqlite", "hook", marks=pytest.mark.short),
        ("sqlite", "mail"),
        ("firestore", "hook"),
        pytest.param("firestore", "mail", marks=pytest.mark.short),
    ],
    indirect=["world"],
)
def test_a_kill_at_a_message_of_each_new_channel(everywhere: EverywhereStage, kind: str) -> None:
    trace, found = spans(everywhere, ONE, PHONE_FIRST)
    at = trace.index(f"{kind} ann")
    everywhere.turns.drops_the_rest = True
    everywhere.anew(*ONE)
    ended(everywhere.strike(at), everywhere)
    everywhere.run_until_settled()
    twice = twice_after_a_kill(at, found, drops=True)
    assert twice == {(channel, "ann") for channel in ("fcm", "hook", "mail") if channel != "mail" or kind == "mail"}
    everywhere.check_everywhere(twice=twice)


def test_the_messages_of_a_run_come_in_the_order_of_the_channels(everywhere: EverywhereStage) -> None:
    """The numbers of a sweep are those of the run that was counted."""
    everywhere.add_users(*TWO)
    for order in (PHONE_FIRST, MAIL_FIRST):
        everywhere.turns.order = order
        everywhere.anew(*TWO)
        trace = everywhere.count()
        sent = [one for one in trace if one.startswith(("fcm", "hook", "smtp", "mail"))]
        mail = ["smtp MAIL", "smtp RCPT", "mail {}"]
        first = {"fcm": ["fcm token-{}-0"], "hook": ["hook {}"], "mail": ["smtp EHLO", *mail]}
        expected = [name.format("ann") for channel in order for name in first[channel]]
        expected += [name.format("bob") for channel in order for name in (first | {"mail": mail})[channel]]
        assert sent == [*expected, "smtp QUIT"]
