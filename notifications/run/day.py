"""One user's day under our claim, and the verbs on it: what is read, and what ends the claim."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import structlog

from notifications.domain.backoff import jittered
from notifications.domain.claim import FOREIGN_TYPE, ClaimAnswer, ClaimState, new_token
from notifications.domain.delivery import Decision, NextStep, Opening
from notifications.domain.errors import (
    MAY_BE_THE_PROVIDERS,
    ClaimsDown,
    ConfigFault,
    ItemFault,
    KeyTrouble,
    Malformed,
    StoreDown,
)
from notifications.domain.model import DayState, Device, Ledger
from notifications.domain.push import Wording
from notifications.domain.schedule import Phase
from notifications.ports import ClaimTerms, Reply
from notifications.recap.bounds import MAX_READ
from notifications.run.day_input import DayInput, Ledgers, read_conversations
from notifications.run.outcome import ENDS, Outcome, TurnResult, log_end
from notifications.run.state import Run

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One user's day under our claim.

    `resend`: an operator asked for it. `replaces`: the ended ledger that the resend read. `release_worker` is called
    before a wait that needs no worker; None where no other user waits for one.
    """

    run: Run
    uid: str
    date: date
    slot: datetime
    terms: ClaimTerms
    token: str
    claim_reply: Reply
    phase: Phase  # of its slot, when it was claimed
    since: float  # when the claim was asked for, on the parts' clock
    replaces: Ledger | None = None
    resend: bool = False
    release_worker: Callable[[], None] | None = None

    @property
    def closing(self) -> bool:
        """Whether its catch-up is over: no new LLM call. An operator's resend has no catch-up."""
        return not self.resend and self.phase not in (Phase.EARLY, Phase.DUE)  # early: the clock was set back a little

    @property
    def log_context(self) -> dict[str, str]:
        """Who and when, for each event."""
        return {"uid": self.uid, "date": str(self.date)}

    @property
    def elapsed(self) -> timedelta:
        """How long it has been under our claim."""
        return timedelta(seconds=self.run.services.clock.seconds() - self.since)

    @property
    def now(self) -> datetime:
        """The schedule's time: Redis TIME at the claim, and what has passed since."""
        return self.claim_reply.now + self.run.offset + self.elapsed

    @property
    def late(self) -> bool:
        """Whether a push now comes so long after the slot that it must be silent."""
        return self.now - self.slot > timedelta(minutes=self.run.services.limits.quiet_after_minutes)

    def opening(
        self, given: DayInput | None = None, claim_reply: Reply | None = None, language: str | None = None
    ) -> Opening:
        """What a new ledger of this day starts with. `language`: of what its push says in place of the recap."""
        reply = claim_reply or self.claim_reply
        opening = Opening(
            uid=self.uid,
            date=self.date,
            by=self.token,
            slot=self.slot,
            failures=reply.failures,
            crashes=reply.crashes,
            reason=reply.reason,
            resend=self.resend,
            wording=Wording(self.run.services.push_text, language),
        )
        if given is None:
            return opening
        user, candidates = given.ledgers.user, given.ledgers.candidates
        return replace(
            opening,
            window=None if candidates.window.is_empty else candidates.window,
            read_from=candidates.first_untold,
            told=given.told,
            neighbours=given.neighbours,
            zone=user.zone,
            hour=user.hour,
        )

    async def devices(self) -> list[Device]:
        """The user's devices; those that can't be read are counted. Raises StoreDown."""
        devices, malformed = await self.run.read_breaker.watch(self.run.services.store.devices(self.uid))
        self._count_malformed("devices", malformed)
        return devices

    async def conversations(self, ledgers: Ledgers) -> DayInput:
        """What no recap has told yet; what can't be read, or is encrypted, is counted. Raises StoreDown."""
        given = await self.run.read_breaker.watch(read_conversations(self.run.services.store, ledgers))
        self._count_malformed("conversations", given.malformed)
        if given.encrypted:
            self.run.counts.encrypted += given.encrypted
            log.info("conversations.encrypted", uid=self.uid, count=given.encrypted)
        if len(given.conversations) >= MAX_READ:
            log.warning(
                "conversations.unread", **self.log_context, read=len(given.conversations)
            )  # there may be older ones
        return given

    def _count_malformed(self, what: str, count: int) -> None:
        if count:
            self.run.counts.malformed += count
            log.warning(f"{what}.malformed", uid=self.uid, count=count)

    async def settle_claim(self, decision: Decision, wait: timedelta | None = None, reason: str = "push") -> TurnResult:
        """Step 7: what the decision means for the claim. `wait` and `reason`: of the devices that are open."""
        match decision.step:
            case NextStep.FINAL if decision.ledger is not None:
                entry = decision.ledger
                outcome = log_end(entry, self.log_context, ours=self._is_ours(decision))
                claim_state, _ = ENDS[entry.state]
                frees = entry.state is DayState.SKIPPED
                return await self._end_claim(claim_state, outcome, entry.outcome, frees=frees)
            case NextStep.NO_USER:
                log.info("recap.skipped", **self.log_context, reason="user_gone_or_off")
                return await self._end_claim(ClaimState.SKIPPED, Outcome.SKIPPED, "user_gone_or_off", frees=False)
            case NextStep.BUSY:
                return await self.fail("busy", decision.wait)
            case NextStep.REFUSED:
                return await self.fail("resent", wait)
            case NextStep.CHANGED:
                return await self.fail("neighbour", timedelta(0))
            case _:
                return await self.fail(reason or "push", wait)

    def _is_ours(self, decision: Decision) -> bool:
        """Whether we ended the day: also where our own reply was lost, and we read what we had written."""
        return decision.write or (decision.ledger is not None and decision.ledger.by == self.token)

    async def _end_claim(self, state: ClaimState, outcome: Outcome, reason: str, *, frees: bool) -> TurnResult:
        """End the claim. `frees`: delete its key, which the app may take to make a skipped day on demand.

        Where the claim is lost it is left alone: whoever has it now sees that the ledger has ended.
        """
        claims = self.run.services.claims
        ending = claims.free(self.terms, self.token) if frees else claims.complete(self.terms, self.token, state)
        if (await ending).answer is not ClaimAnswer.OK:
            log.warning("claim.lost", **self.log_context, verb="free" if frees else "complete")
            return TurnResult(Outcome.LOST)
        return TurnResult(outcome, reason=reason, freed=frees and outcome.done)

    async def fail(self, reason: str, wait: timedelta | None = None, counts: int = 0) -> TurnResult:
        """Give the claim back. Without a `wait` of the provider's own, ours with +100 % jitter."""
        if wait is None:
            wait = jittered(self.run.services.limits.duration("provider_retry"), 1, 2)
        reply = await self.run.services.claims.fail(self.terms, self.token, wait, counts, reason)
        facts = {**self.log_context, "reason": reason}
        if reply.answer is ClaimAnswer.DONE:
            return await self._close_dead("failures", reply)
        if reply.answer is ClaimAnswer.LOST:
            log.warning("claim.lost", verb="fail", **facts)
            return TurnResult(Outcome.LOST)
        log.warning("recap.waiting", wait_seconds=round(wait.total_seconds(), 1), failures=reply.failures, **facts)
        return TurnResult(Outcome.WAITING, wait, reason)

    async def release(self, reason: str) -> TurnResult:
        """Free the claim at once, nothing charged: nothing was begun that would be lost."""
        await self.run.services.claims.fail(self.terms, self.token, timedelta(0), 0, reason)
        return TurnResult(Outcome.STOPPED, reason=reason)

    async def fail_item(self, fault: ItemFault) -> TurnResult:
        """The item's own fault: counted, and each wait three times the last. The provider's: no user is charged."""
        if await self._is_the_items(fault):
            wait = jittered(self.run.services.limits.duration("item_retry") * 3**self.claim_reply.failures, 0.5, 1.5)
            return await self.fail(fault.reason.value, wait, counts=1)
        if self.run.terminated.is_set():
            return await self.release(fault.reason.value)
        return await self.fail(f"provider_{fault.reason.value}")

    async def _is_the_items(self, fault: ItemFault) -> bool:
        if fault.reason not in MAY_BE_THE_PROVIDERS or self.release_worker is None:
            return True
        self.release_worker()
        try:
            async with self.run.terminated.timeout(self.run.services.limits.store_timeout_seconds):
                return await self.run.bad_answers.wait_for_verdict(fault.reason)
        except TimeoutError:  # not known yet, and the claim must not lapse: in doubt nothing is charged
            return False

    async def result_when_not_won(self) -> TurnResult:
        """What an answer other than a win asks for."""
        reply = self.claim_reply
        if reply.answer is ClaimAnswer.FOREIGN:
            return await self._held_by_another_maker()
        if reply.answer is not ClaimAnswer.DONE:
            outcome = Outcome.HELD if reply.answer is ClaimAnswer.HELD else Outcome.WAITING
            return TurnResult(outcome, reply.wait, reply.reason)
        if reply.final is not ClaimState.DEAD:
            return TurnResult(Outcome.DONE_BEFORE)
        return await self._close_dead("failures" if reply.failures >= self.terms.max_failures else "crashes", reply)

    async def _close_dead(self, outcome: str, reply: Reply) -> TurnResult:
        """Redis says dead: the ledger must say so too, or that it was given up while sending."""
        closing = self.run.services.store.end_day(self.opening(claim_reply=reply), DayState.DEAD, outcome)
        try:
            decision = await self.run.write_breaker.watch(closing)
        except StoreDown:
            return TurnResult(Outcome.FAILED, reason="store")
        if decision.step is NextStep.BUSY:
            return TurnResult(Outcome.WAITING, decision.wait, "busy")
        if decision.ledger is None:
            return TurnResult(Outcome.SKIPPED, reason="user_gone_or_off")
        ended = log_end(decision.ledger, self.log_context, ours=self._is_ours(decision))
        return TurnResult(ended, reason=decision.ledger.outcome)

    async def _held_by_another_maker(self) -> TurnResult:
        """The app may be making a skipped day on demand: then the shard need not stay open for it."""
        try:
            reading = self.run.services.store.ledgers_between(self.uid, self.date, self.date)
            entry = (await self.run.read_breaker.watch(reading)).get(self.date)
        except StoreDown:
            entry = None
        ended = entry is not None and entry.state.final
        return TurnResult(Outcome.DONE_BEFORE) if ended else TurnResult(Outcome.HELD, self.claim_reply.wait)

    async def run_guarded(self, turn: Awaitable[TurnResult]) -> TurnResult:
        """Run one user's turn; whatever it raises gives the claim back uncharged, with its reason.

        Only a process that died may leave a claim to lapse: that is what a crash is, and four of them end the day.
        Raises ClaimsDown and KeyTrouble alone: then the claim can't be given back.
        """
        try:
            return await turn
        except (ClaimsDown, KeyTrouble):
            raise
        except ConfigFault as fault:
            await self._give_back("configuration")
            self.run.stop_claiming(fault)
            return TurnResult(Outcome.FAILED, reason="configuration")
        except (Malformed, ItemFault) as flaw:  # of an ItemFault: what ends a dead day can't be stored
            wait = await self._give_back("malformed")
            log.error("recap.trouble", **self.log_context, reason=str(flaw))
        except Exception as defect:  # the one place that keeps one user's defect from the others
            wait = await self._give_back(f"defect_{type(defect).__name__}")
            log.exception("recap.defect", **self.log_context)
        self.run.defects += 1
        return TurnResult(Outcome.FAILED, wait)

    async def _give_back(self, reason: str) -> timedelta:
        """Give the claim back uncharged. Asks nothing of the ledger, even of a dead day: that may be what raised."""
        wait = jittered(self.run.services.limits.duration("provider_retry"), 1, 2)
        await self.run.services.claims.fail(self.terms, self.token, wait, 0, reason)
        log.warning("recap.waiting", **self.log_context, wait_seconds=round(wait.total_seconds(), 1), reason=reason)
        return wait


async def claim_day(
    run: Run,
    *,
    uid: str,
    date: date,
    slot: datetime,
    lane: int,
    replaces: Ledger | None = None,
    resend: bool = False,
    release_worker: Callable[[], None] | None = None,
) -> Day:
    """Ask Redis for one user's day; `won` is its answer. Raises ClaimsDown, ConfigFault or KeyTrouble."""
    terms, token, since = run.user_terms(uid, date, slot), new_token(), run.services.clock.seconds()
    reply = await run.services.claims.claim(terms, token, lane)
    await run.check_time_of(reply, terms, token, since)
    if reply.reason == FOREIGN_TYPE:  # no older deployment's lock, which is a text
        raise KeyTrouble(f"{terms.key} holds another type in Redis; look at it by inspect --keys, and delete it.")
    return Day(
        run=run,
        uid=uid,
        date=date,
        slot=slot,
        terms=terms,
        token=token,
        claim_reply=reply,
        phase=run.services.limits.rules.phase(slot, reply.now + run.offset),
        since=since,
        replaces=replaces,
        resend=resend,
        release_worker=release_worker,
    )
