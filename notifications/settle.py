"""What a user's outcome means for its claim: completed, given back, or dead (PROTOCOL section 5, step 7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from notifications.domain.claim import Answer, Stored
from notifications.domain.delivery import Kind, Opening, Verdict
from notifications.domain.errors import ItemFault, StoreDown
from notifications.domain.model import Ledger, State, User, Window
from notifications.domain.push import Result
from notifications.domain.schedule import Slot
from notifications.ports import Reply, Terms
from notifications.run import Run
from notifications.waits import jittered

log = structlog.get_logger()

COMPLETES_AS = {
    State.SENT: Stored.SENT,
    State.SKIPPED: Stored.SKIPPED,
    State.MISSED: Stored.MISSED,
    State.DEAD: Stored.DEAD,
    State.GAVE_UP: Stored.DEAD,
}


@dataclass(frozen=True, slots=True)
class Claimed:
    """One user's day under our claim. `replaces` is the ended ledger that an operator's resend read."""

    user: User
    slot: Slot
    terms: Terms
    token: str
    won: Reply
    closing: bool
    now: datetime  # of the schedule, when the claim was won
    since: float  # the same moment on the parts' clock
    replaces: Ledger | None = None
    resend: bool = False

    def opening(self, covered: Window | None = None) -> Opening:
        """What a new ledger of this day starts with."""
        return Opening(
            uid=self.user.uid,
            date=self.slot.recap_date,
            by=self.token,
            slot=self.slot.at,
            window=covered,
            failures=self.won.failures,
            crashes=self.won.crashes,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the user answered to its shard: done, or to be tried again after `wait`."""

    done: bool
    word: str
    wait: timedelta = timedelta(0)


async def conclude(run: Run, claimed: Claimed, verdict: Verdict, wait: timedelta | None = None) -> Outcome:
    """Step 7: what the verdict means for the claim. `wait` is how long open devices are left alone."""
    match verdict.kind:
        case Kind.FINAL if verdict.entry is not None:
            _tell(run, claimed, verdict.entry, ours=verdict.write)
            return await complete(run, claimed, COMPLETES_AS[verdict.entry.state])
        case Kind.NOBODY:
            run.counts.skipped["nobody"] += 1
            log.info("recap.skipped", uid=claimed.user.uid, date=str(claimed.slot.recap_date), reason="nobody")
            return await complete(run, claimed, Stored.SKIPPED)
        case Kind.BUSY:
            return await fail(run, claimed, "busy", verdict.wait)
        case _:
            return await fail(run, claimed, "push", wait)


def _tell(run: Run, claimed: Claimed, entry: Ledger, *, ours: bool) -> None:
    facts = {"uid": claimed.user.uid, "date": str(claimed.slot.recap_date), "reason": entry.outcome}
    if not ours:
        run.counts.done_before += 1
        log.debug("recap.done_before", state=entry.state.value, **facts)
        return
    match entry.state:
        case State.SENT if entry.outcome == "legacy":
            run.counts.skipped["legacy"] += 1
            log.info("recap.skipped", **facts)
        case State.SENT:
            run.counts.sent += 1
            results = list(entry.devices.values())
            log.info(
                "recap.sent",
                **facts,
                tries=entry.tries,
                accepted=results.count(Result.ACCEPTED),
                gone=results.count(Result.GONE),
            )
        case State.SKIPPED:
            run.counts.skipped[entry.outcome] += 1
            log.info("recap.skipped", **facts)
        case State.MISSED:
            run.counts.missed += 1
            log.error("recap.missed", **facts)
        case _:
            run.counts.dead += 1
            log.error(f"recap.{entry.state.value}", **facts, failures=entry.failures, crashes=entry.crashes)


async def complete(run: Run, claimed: Claimed, outcome: Stored) -> Outcome:
    """End the claim. Lost, it is left alone: whoever has it now finds the ledger ended."""
    reply = await run.parts.claims.complete(claimed.terms, claimed.token, outcome)
    if reply.answer is Answer.OK:
        return Outcome(True, outcome.value)
    log.warning("claim.lost", uid=claimed.user.uid, date=str(claimed.slot.recap_date), verb="complete")
    return Outcome(False, "lost")


async def fail(run: Run, claimed: Claimed, reason: str, wait: timedelta | None = None, counts: int = 0) -> Outcome:
    """Give the claim back. Without a `wait` of the provider's own, ours with +100 % jitter."""
    if wait is None:
        wait = jittered(run.parts.numbers.span("provider_retry"), 1, 2)
    reply = await run.parts.claims.fail(claimed.terms, claimed.token, wait, counts)
    facts = {"uid": claimed.user.uid, "date": str(claimed.slot.recap_date), "reason": reason}
    if reply.answer is Answer.DONE:
        return await close_dead(run, claimed, "failures", reply)
    if reply.answer is Answer.LOST:
        log.warning("claim.lost", verb="fail", **facts)
        return Outcome(False, "lost")
    run.counts.waiting += 1
    log.warning("recap.waiting", wait_seconds=round(wait.total_seconds(), 1), failures=reply.failures, **facts)
    return Outcome(False, "waiting", wait)


async def release(run: Run, claimed: Claimed) -> Outcome:
    """SIGTERM came, and nothing was begun that would be lost: the claim is free at once, nothing charged."""
    run.counts.stopped += 1
    await run.parts.claims.fail(claimed.terms, claimed.token, timedelta(0), 0)
    return Outcome(False, "stopped")


async def fail_item(run: Run, claimed: Claimed, fault: ItemFault) -> Outcome:
    """The item's own fault: counted, and each wait three times the last."""
    run.provider_answered("llm")
    run.counts.failed += 1
    wait = jittered(run.parts.numbers.span("item_retry") * 3**claimed.won.failures, 0.5, 1.5)
    return await fail(run, claimed, fault.reason.value, wait, counts=1)


async def close_dead(run: Run, claimed: Claimed, outcome: str, reply: Reply) -> Outcome:
    """Redis says dead: the ledger must say so too, or that it was given up while sending."""
    opening = Opening(
        uid=claimed.user.uid,
        date=claimed.slot.recap_date,
        by=claimed.token,
        slot=claimed.slot.at,
        failures=reply.failures,
        crashes=reply.crashes,
    )
    try:
        verdict = await run.parts.store.close(opening, State.DEAD, outcome)
    except StoreDown as failure:
        run.store_failed(failure)
        return Outcome(False, "error")
    if verdict.kind is Kind.BUSY:
        run.counts.waiting += 1
        return Outcome(False, "waiting", verdict.wait)
    if verdict.entry is not None:
        _tell(run, claimed, verdict.entry, ours=verdict.write)
    return Outcome(True, "dead")
