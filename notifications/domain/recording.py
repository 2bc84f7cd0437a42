"""What became of a delivery's targets: the ledger's transition after a pass (docs/protocol.md, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from notifications.domain.delivery import (
    NO_USER,
    Decision,
    LedgerRules,
    NextStep,
    end,
    give_up,
    give_up_rest,
)
from notifications.domain.model import PARTIAL, DayState, Ledger, OpenTarget
from notifications.domain.push import PushResult
from notifications.domain.target import GAVE_UP, REFUSED, TargetResult


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReport:
    """What came of one pass, by the token and the `seq` of the ledger that it delivered."""

    by: str
    seq: int
    results: Mapping[str, TargetResult]  # of each open target, by its id
    sent_nothing: bool = False  # nothing was tried, since the sender came too late
    last_chance: bool = False  # the day ends even if some targets are left
    reason: str = ""  # the code of a target that is left


def record_pushes(report: PushReport, rules: LedgerRules, ledger: Ledger | None) -> Decision:
    """Record what came of each open target.

    A sender that records is alive, so its try is given back; a try without an answer is charged to its target.
    """
    if ledger is None:
        return NO_USER
    if ledger.seq != report.seq:
        return Decision(NextStep.REFUSED, ledger)
    if ledger.state.final and ledger.state is not DayState.GAVE_UP:
        return Decision(NextStep.FINAL, ledger)
    is_ours = ledger.by == report.by and ledger.state is DayState.SENDING
    closed = {name: result.result.value for name, result in report.results.items() if result.result.is_stored}
    reached = {name: result for name, result in ledger.devices.items() if result == PushResult.ACCEPTED}
    is_repeat = ledger.by == report.by and not is_ours  # the reply to this very call was lost
    repeats = 0 if is_repeat else sum(closed.get(name) == PushResult.ACCEPTED for name in reached)
    devices = {**ledger.devices, **closed, **reached}  # a target that was reached stays so, whatever became of it
    left: dict[str, OpenTarget] = {}
    for name, result in report.results.items():
        if name in devices:
            continue
        tries = ledger.targets.get(name, OpenTarget()).tries + (result.result is PushResult.UNKNOWN)
        if result.result is PushResult.REFUSED and result.has_reached_peer:
            devices[name] = REFUSED
        elif is_ours and result.result is PushResult.UNKNOWN and tries >= rules.max_pushes:
            devices[name] = GAVE_UP
        else:
            left[name] = OpenTarget(tries, result.due, result.code)
    still_open = {name: kept for name, kept in ledger.targets.items() if name not in devices}
    merged = replace(ledger, devices=devices, targets=still_open, repeats=ledger.repeats + repeats)
    if is_ours:
        unanswered = sum(result.result is PushResult.UNKNOWN for result in report.results.values())
        merged = replace(merged, unanswered=ledger.unanswered + unanswered)
    if not left and not report.sent_nothing:
        return _end_delivery(merged, "pushes")
    if ledger.state is DayState.GAVE_UP:
        late = replace(merged, targets=left)
        is_reached = PushResult.ACCEPTED in devices.values()
        return give_up_rest(late, ledger.outcome) if is_reached else Decision(NextStep.FINAL, merged, write=True)
    if not is_ours:
        return Decision(NextStep.RETRY, merged, write=True)
    merged = replace(merged, tries=merged.tries - 1, reason=report.reason)
    if report.last_chance:
        return give_up_rest(replace(merged, targets=left), "undelivered")
    return Decision(NextStep.RETRY, replace(merged, state=DayState.PENDING, targets=left), write=True)


def _end_delivery(ledger: Ledger, outcome: str) -> Decision:
    """No target is left. `outcome`: of a day that is given up."""
    results = set(ledger.devices.values())
    ended = replace(ledger, targets={})
    if PushResult.ACCEPTED in results:
        is_partial = GAVE_UP in results
        reason = ledger.reason if is_partial else ""
        return end(replace(ended, state=DayState.SENT, outcome=PARTIAL if is_partial else "", reason=reason))
    if GAVE_UP in results:
        return give_up(ended, ledger.outcome if ledger.state is DayState.GAVE_UP else outcome)
    return end(replace(ended, state=DayState.SENT, outcome="no_devices", reason=""))
