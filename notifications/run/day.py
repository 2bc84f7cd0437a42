"""One user's day under our claim, and the verbs that end the claim: completed, given back, or dead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import structlog

from notifications.domain.claim import Answer, Stored
from notifications.domain.delivery import Kind, Opening, Verdict
from notifications.domain.errors import MAY_BE_THE_PROVIDERS, ItemFault, StoreDown
from notifications.domain.model import Ledger, State, Window
from notifications.domain.push import Result
from notifications.domain.waits import jittered
from notifications.ports import Reply, Terms
from notifications.run.state import Ending, Outcome, Run

log = structlog.get_logger()

COMPLETES_AS = {
    State.SENT: Stored.SENT,
    State.SKIPPED: Stored.SKIPPED,
    State.MISSED: Stored.MISSED,
    State.DEAD: Stored.DEAD,
    State.GAVE_UP: Stored.DEAD,
}


@dataclass(frozen=True, slots=True)
class Day:
    """One user's day under our claim. `replaces` is the ended ledger that an operator's resend read."""

    run: Run
    uid: str
    date: date
    slot: datetime
    terms: Terms
    token: str
    won: Reply
    closing: bool
    since: float  # when the claim was won, on the parts' clock
    replaces: Ledger | None = None
    resend: bool = False
    leave_place: Callable[[], None] | None = None  # called before a wait that needs no worker; None: nobody else waits

    @property
    def facts(self) -> dict[str, str]:
        """Who and when, for each event."""
        return {"uid": self.uid, "date": str(self.date)}

    @property
    def used(self) -> timedelta:
        """How long it has been under our claim."""
        return timedelta(seconds=self.run.parts.clock.seconds() - self.since)

    @property
    def now(self) -> datetime:
        """The schedule's time: Redis TIME at the claim, and what has passed since."""
        return self.won.now + self.run.offset + self.used

    def opening(self, covered: Window | None = None, won: Reply | None = None) -> Opening:
        """What a new ledger of this day starts with. A window whose start is not before its end is never stored."""
        reply = won or self.won
        return Opening(
            uid=self.uid,
            date=self.date,
            by=self.token,
            slot=self.slot,
            window=None if covered is None or covered.empty else covered,
            failures=reply.failures,
            crashes=reply.crashes,
            reason=reply.reason,
        )

    async def conclude(self, verdict: Verdict, wait: timedelta | None = None, reason: str = "push") -> Outcome:
        """Step 7: what the verdict means for the claim. `wait` and `reason`: of the devices that are open."""
        match verdict.kind:
            case Kind.FINAL if verdict.entry is not None:
                ending = self._tell(verdict.entry, ours=verdict.write)
                return await self.complete(COMPLETES_AS[verdict.entry.state], ending, verdict.entry.outcome)
            case Kind.NOBODY:
                log.info("recap.skipped", **self.facts, reason="user_gone_or_off")
                return await self.complete(Stored.SKIPPED, Ending.SKIPPED, "user_gone_or_off")
            case Kind.BUSY:
                return await self.fail("busy", verdict.wait)
            case Kind.REFUSED:
                return await self.fail("resent", wait)
            case _:
                return await self.fail(reason or "push", wait)

    def _tell(self, entry: Ledger, *, ours: bool) -> Ending:
        facts = {**self.facts, "reason": entry.outcome}
        if not ours:
            log.debug("recap.done_before", state=entry.state.value, **facts)
            return Ending.DONE_BEFORE
        match entry.state:
            case State.SENT if entry.outcome == "legacy":
                log.info("recap.skipped", **facts)
                return Ending.SKIPPED
            case State.SENT:
                results = list(entry.devices.values())
                accepted, gone = results.count(Result.ACCEPTED), results.count(Result.GONE)
                log.info("recap.sent", **facts, tries=entry.tries, accepted=accepted, gone=gone)
                return Ending.SENT
            case State.SKIPPED:
                log.info("recap.skipped", **facts)
                return Ending.SKIPPED
            case State.MISSED:
                log.error("recap.missed", **facts)
                return Ending.MISSED
            case _:
                counted = {"failures": entry.failures, "crashes": entry.crashes, "last_failure": entry.reason}
                log.error(f"recap.{entry.state.value}", **facts, **counted)
                return Ending.DEAD if entry.state is State.DEAD else Ending.GAVE_UP

    async def complete(self, stored: Stored, ending: Ending, reason: str = "") -> Outcome:
        """End the claim. Lost, it is left alone: whoever has it now finds the ledger ended."""
        reply = await self.run.parts.claims.complete(self.terms, self.token, stored)
        if reply.answer is Answer.OK:
            return Outcome(ending, reason=reason)
        log.warning("claim.lost", **self.facts, verb="complete")
        return Outcome(Ending.LOST)

    async def fail(self, reason: str, wait: timedelta | None = None, counts: int = 0) -> Outcome:
        """Give the claim back. Without a `wait` of the provider's own, ours with +100 % jitter."""
        if wait is None:
            wait = jittered(self.run.parts.numbers.span("provider_retry"), 1, 2)
        reply = await self.run.parts.claims.fail(self.terms, self.token, wait, counts, reason)
        facts = {**self.facts, "reason": reason}
        if reply.answer is Answer.DONE:
            return await self.close_dead("failures", reply)
        if reply.answer is Answer.LOST:
            log.warning("claim.lost", verb="fail", **facts)
            return Outcome(Ending.LOST)
        log.warning("recap.waiting", wait_seconds=round(wait.total_seconds(), 1), failures=reply.failures, **facts)
        return Outcome(Ending.WAITING, wait, reason)

    async def give_back(self, reason: str) -> timedelta:
        """Uncharged, whatever was raised; nothing more is asked of the ledger. Returns how long it waits."""
        wait = jittered(self.run.parts.numbers.span("provider_retry"), 1, 2)
        await self.run.parts.claims.fail(self.terms, self.token, wait, 0, reason)
        log.warning("recap.waiting", **self.facts, wait_seconds=round(wait.total_seconds(), 1), reason=reason)
        return wait

    async def release(self, reason: str) -> Outcome:
        """Nothing was begun that would be lost: the claim is free at once, nothing charged."""
        await self.run.parts.claims.fail(self.terms, self.token, timedelta(0), 0, reason)
        return Outcome(Ending.STOPPED, reason=reason)

    async def fail_item(self, fault: ItemFault) -> Outcome:
        """The item's own fault: counted, and each wait three times the last. The provider's: nobody is charged."""
        if await self._is_the_items(fault):
            wait = jittered(self.run.parts.numbers.span("item_retry") * 3**self.won.failures, 0.5, 1.5)
            return await self.fail(fault.reason.value, wait, counts=1)
        if self.run.terminated.is_set():
            return await self.release(fault.reason.value)
        return await self.fail(f"provider_{fault.reason.value}")

    async def _is_the_items(self, fault: ItemFault) -> bool:
        if fault.reason not in MAY_BE_THE_PROVIDERS or self.leave_place is None:
            return True
        self.leave_place()
        try:
            async with self.run.terminated.timeout(self.run.parts.numbers.store_timeout_seconds):
                return await self.run.useless_answers.is_the_items(fault.reason)
        except TimeoutError:  # nobody knows yet, the claim must not lapse, and who is in doubt is not charged
            return False

    async def close_dead(self, outcome: str, reply: Reply) -> Outcome:
        """Redis says dead: the ledger must say so too, or that it was given up while sending."""
        opening = self.opening(won=reply)
        try:
            verdict = await self.run.writes.watch(self.run.parts.store.close(opening, State.DEAD, outcome))
        except StoreDown:
            return Outcome(Ending.FAILED, reason="store")
        if verdict.kind is Kind.BUSY:
            return Outcome(Ending.WAITING, verdict.wait, "busy")
        if verdict.entry is None:
            return Outcome(Ending.SKIPPED, reason="user_gone_or_off")
        return Outcome(self._tell(verdict.entry, ours=verdict.write), reason=verdict.entry.outcome)
