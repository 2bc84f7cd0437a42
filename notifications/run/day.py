"""One user's day under our claim: reading its documents, and ending or returning the claim."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

import structlog

from notifications.domain.backoff import jittered
from notifications.domain.claim import FOREIGN_TYPE, ClaimAnswer, ClaimState
from notifications.domain.delivery import Decision, NextStep, Opening
from notifications.domain.errors import (
    MAY_BE_THE_PROVIDERS,
    ClaimsDown,
    ConfigFault,
    ItemFault,
    KeyTrouble,
    Malformed,
    RecapError,
    StoreDown,
)
from notifications.domain.model import DayState, Draft, Ledger, User
from notifications.domain.money import COST_KEY, NOTHING, Spent
from notifications.domain.notice import Wording
from notifications.domain.schedule import Phase
from notifications.ports import ClaimTerms, Reply
from notifications.recap.bounds import MAX_READ
from notifications.recap.verify import NAME as SECOND_LOOK
from notifications.run.day_input import DayInput, Ledgers, read_conversations
from notifications.run.outcome import ENDS, Outcome, TurnResult, log_end
from notifications.run.state import Run
from notifications.run.targets import To, read_targets

log = structlog.get_logger()
SECOND_LOOK_FAILED = f"provider_{SECOND_LOOK}"  # the reason of a draft that waits for its second look


@dataclass(frozen=True, slots=True)
class NotYet:
    """An open delivery that is not worth taking yet."""

    wait: timedelta
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One user's day under our claim.

    `resend`: an operator asked for it. `replaces`: the ended ledger that the resend read. `release_worker` is called
    before a wait that needs no worker; None if no other user waits for one. `costs`: of this try's LLM calls, until the
    ledger has them.
    """

    run: Run
    uid: str
    date: date
    slot: datetime
    terms: ClaimTerms
    token: str
    claim_reply: Reply
    phase: Phase  # the slot's phase when the day was claimed
    claim_started_at: float  # seconds of the services' clock, read before the claim was requested
    replaces: Ledger | None = None
    resend: bool = False
    release_worker: Callable[[], None] | None = None
    costs: list[Callable[[], Spent]] = field(default_factory=list)

    @property
    def closing(self) -> bool:
        """Whether the catch-up is over, so that no LLM is asked any more. An operator's resend has no catch-up."""
        return not self.resend and not self.phase.is_due

    @property
    def log_context(self) -> dict[str, str]:
        """The fields that every log event of this day has."""
        return {"uid": self.uid, "date": str(self.date)}

    @property
    def elapsed(self) -> timedelta:
        """How long the day has been under our claim."""
        return timedelta(seconds=self.run.services.clock.seconds() - self.claim_started_at)

    @property
    def now(self) -> datetime:
        """The schedule's time: Redis TIME at the claim plus the time elapsed since."""
        return self.claim_reply.now + self.run.offset + self.elapsed

    @property
    def redis_now(self) -> datetime:
        """Redis TIME, which `--now` does not move."""
        return self.now - self.run.offset

    @property
    def late(self) -> bool:
        """Whether a push sent now comes so long after the slot that it must be silent."""
        return self.now - self.slot > timedelta(minutes=self.run.services.limits.quiet_after_minutes)

    def opening(
        self,
        spent: Spent,
        day_input: DayInput | None = None,
        claim_reply: Reply | None = None,
        language: str | None = None,
    ) -> Opening:
        """The fields of a new ledger of this day. `spent`: on all its LLM calls, those of the draft too.

        `language`: of the push's text if that does not show the recap.
        """
        reply = claim_reply or self.claim_reply
        opening = Opening(
            uid=self.uid,
            date=self.date,
            by=self.token,
            slot=self.slot,
            failures=reply.failures,
            crashes=reply.crashes,
            reason=reply.reason,
            spent=spent,
            resend=self.resend,
            wording=Wording(self.run.services.push_text, language),
        )
        if day_input is None:
            return opening
        user, candidates = day_input.ledgers.user, day_input.ledgers.candidates
        return replace(
            opening,
            window=None if candidates.window.is_empty else candidates.window,
            read_from=candidates.first_untold,
            told=day_input.told,
            neighbours=day_input.neighbours,
            zone=user.zone,
            hour=user.hour,
        )

    async def spent(self) -> Spent:
        """The cost of LLM calls that came to nothing, in this try and in earlier ones (one read).

        Both the ledger that a resend replaces and what is kept beside it sum up the day so far: the later has more. A
        resend has deleted the claim, which said whether an earlier try had failed.
        """
        if self.costs:
            return self.costs[-1]()
        before = self.replaces.spent if self.replaces is not None else NOTHING
        if self.resend or self.claim_reply.reason or self.claim_reply.crashes:
            with suppress(RecapError):
                kept = await self.run.services.store.kept_draft(self.uid, self.date, COST_KEY)
                if kept is not None:
                    before = max(Spent.from_metadata(kept.metadata), before, key=lambda spent: spent.tokens)
        return before

    async def _keep_cost(self) -> None:
        """Keep beside the ledger what a try that failed has cost: the day's ledger will count it."""
        cost = self.costs[-1]() if self.costs else NOTHING
        if cost.tokens:
            with suppress(RecapError):
                kept = Draft("", (), "", metadata=cost.as_metadata())
                await self.run.services.store.keep_draft(self.uid, self.date, COST_KEY, kept)

    async def read_targets(self, user: User | None, before: Sequence[Ledger], language: str | None = None) -> To:
        """Read where the user's recap is delivered; what is malformed is only counted. Raises StoreDown.

        `before`: the ledgers of the days before, whose dead addresses are left out. `language`: the recap's.
        """
        to, malformed = await read_targets(self.run, self.uid, user, before, language)
        self._count_malformed("devices", malformed)
        return to

    async def read_conversations(self, ledgers: Ledgers) -> DayInput:
        """Read the conversations that no recap has used yet; count malformed and encrypted ones. Raises StoreDown."""
        day_input = await self.run.read_breaker.watch(read_conversations(self.run.services.store, ledgers))
        self._count_malformed("conversations", day_input.malformed)
        if day_input.encrypted:
            self.run.counts.encrypted += day_input.encrypted
            log.info("conversations.encrypted", uid=self.uid, count=day_input.encrypted)
        if len(day_input.conversations) >= MAX_READ:  # there may be older ones
            log.warning("conversations.unread", **self.log_context, read=len(day_input.conversations))
        return day_input

    def _count_malformed(self, what: str, count: int) -> None:
        if count:
            self.run.counts.malformed += count
            log.warning(f"{what}.malformed", uid=self.uid, count=count)

    async def settle_claim(self, decision: Decision, wait: timedelta | None = None, reason: str = "push") -> TurnResult:
        """Step 7: end the claim, or give it back, as the ledger's decision requires.

        `wait` and `reason`: when and why the open devices are tried again.
        """
        match decision.step:
            case NextStep.FINAL if decision.ledger is not None:
                entry = decision.ledger
                outcome = log_end(entry, self.log_context, ours=self._is_ours(decision))
                if entry.source == "extract" and outcome is not Outcome.DONE_BEFORE:
                    self.run.counts.ended_extracts[outcome, entry.extract_reason] += 1
                delete_key = entry.state is DayState.SKIPPED
                return await self._end_claim(ENDS[entry.state], outcome, entry.outcome, delete_key=delete_key)
            case NextStep.NO_USER:
                log.info("recap.skipped", **self.log_context, reason="user_gone_or_off")
                return await self._end_claim(ClaimState.SKIPPED, Outcome.SKIPPED, "user_gone_or_off", delete_key=False)
            case NextStep.BUSY:
                return await self.fail("busy", decision.wait)
            case NextStep.REFUSED:
                return await self.fail("resent", wait)
            case NextStep.CHANGED:
                return await self.fail("neighbour", timedelta(0))
            case _:
                return await self.fail(reason or "push", wait)

    def _is_ours(self, decision: Decision) -> bool:
        """Whether we ended the day. Also true if the reply to our write was lost and we then read our own ledger."""
        return decision.write or (decision.ledger is not None and decision.ledger.by == self.token)

    async def _end_claim(self, state: ClaimState, outcome: Outcome, reason: str, *, delete_key: bool) -> TurnResult:
        """End the claim. `delete_key`: delete the key instead, so that the app can make a skipped day on demand.

        A lost claim is not touched: the run that holds it now sees that the ledger has ended.
        """
        claims = self.run.services.claims
        if delete_key:
            reply = await claims.free(self.terms, self.token)
        else:
            reply = await claims.complete(self.terms, self.token, state)
        if reply.answer is not ClaimAnswer.OK:
            log.warning("claim.lost", **self.log_context, verb="free" if delete_key else "complete")
            return TurnResult(Outcome.LOST)
        return TurnResult(outcome, reason=reason, freed=delete_key and outcome.done)

    async def fail(self, reason: str, wait: timedelta | None = None, added_failures: int = 0) -> TurnResult:
        """Give the claim back. Without `wait`, waits provider_retry plus up to 100 % jitter.

        `added_failures`: charged to the user. If that makes the claim dead, the ledger is closed too.
        """
        await self._keep_cost()
        if wait is None:
            wait = jittered(self.run.services.limits.duration("provider_retry"), 1, 2)
        reply = await self.run.services.claims.fail(self.terms, self.token, wait, added_failures, reason)
        facts = {**self.log_context, "reason": reason}
        if reply.answer is ClaimAnswer.DONE:
            return await self._close_dead("failures", reply)
        if reply.answer is ClaimAnswer.LOST:
            log.warning("claim.lost", verb="fail", **facts)
            return TurnResult(Outcome.LOST)
        log.warning("recap.waiting", wait_seconds=round(wait.total_seconds(), 1), failures=reply.failures, **facts)
        return TurnResult(Outcome.WAITING, wait, reason)

    async def release(self, reason: str) -> TurnResult:
        """Give the claim back without a wait, and charge nothing: no work is lost."""
        await self.run.services.claims.fail(self.terms, self.token, timedelta(0), 0, reason)
        return TurnResult(Outcome.STOPPED, reason=reason)

    async def fail_reading(self, error: StoreDown | TimeoutError) -> TurnResult:
        """Give the claim back after the store failed, or the user's deadline passed, before the ledger was opened."""
        if isinstance(error, StoreDown):
            return await self.fail(f"store_{error.name}")
        # SIGTERM or a slow store; a slow LLM can't end here, since its own time-out is shorter
        if self.run.terminated.is_set():
            return await self.release("stopped")
        sentence = (
            "The store took a user's whole deadline (RECAP_USER_DEADLINE_SECONDS): slow, or locked; doctor asks it."
        )
        self.run.read_breaker.record_failure(StoreDown("store", sentence))
        return await self.fail("user_deadline")

    async def fail_item(self, fault: ItemFault) -> TurnResult:
        """Charge the fault to the user (each wait three times the last), or to the provider, if it may be its own."""
        if await self._is_item_fault(fault):
            wait = jittered(self.run.services.limits.duration("item_retry") * 3**self.claim_reply.failures, 0.5, 1.5)
            return await self.fail(fault.reason.value, wait, added_failures=1)
        if self.run.terminated.is_set():
            return await self.release(fault.reason.value)
        return await self.fail(f"provider_{fault.reason.value}")

    async def _is_item_fault(self, fault: ItemFault) -> bool:
        """Whether to charge the fault to the user. May wait, without a worker, for the answers that others get."""
        if fault.reason not in MAY_BE_THE_PROVIDERS or self.release_worker is None:
            return True
        self.release_worker()
        try:
            async with self.run.terminated.timeout(self.run.services.limits.store_timeout_seconds):
                return await self.run.bad_answers.wait_for_verdict(fault.reason)
        except TimeoutError:  # still unknown, and the claim must not lapse: if in doubt, charge nothing
            return False

    async def result_when_not_won(self) -> TurnResult:
        """The turn's result for a claim that was not won."""
        reply = self.claim_reply
        if reply.answer is ClaimAnswer.FOREIGN:
            return await self._result_of_foreign_claim()
        if reply.answer is not ClaimAnswer.DONE:
            if reply.answer is ClaimAnswer.HELD:
                return TurnResult(Outcome.HELD, reply.wait, "another_run", free_at=self.now + reply.wait)
            return TurnResult(Outcome.WAITING, reply.wait, reply.reason)
        if reply.final is not ClaimState.DEAD:
            return TurnResult(Outcome.DONE_BEFORE)
        return await self._close_dead("failures" if reply.failures >= self.terms.max_failures else "crashes", reply)

    async def _close_dead(self, outcome: str, reply: Reply) -> TurnResult:
        """The claim is dead in Redis: write that to the ledger, or that the day was given up while sending."""
        opening = self.opening(await self.spent(), claim_reply=reply)
        transaction = self.run.services.store.end_day(opening, DayState.DEAD, outcome)
        try:
            decision = await self.run.write_breaker.watch(transaction)
        except StoreDown:
            return TurnResult(Outcome.FAILED, reason="store")
        if decision.step is NextStep.BUSY:
            return TurnResult(Outcome.WAITING, decision.wait, "busy")
        if decision.ledger is None:
            return TurnResult(Outcome.SKIPPED, reason="user_gone_or_off")
        ended = log_end(decision.ledger, self.log_context, ours=self._is_ours(decision))
        return TurnResult(ended, reason=decision.ledger.outcome)

    async def _result_of_foreign_claim(self) -> TurnResult:
        """Look whether the day has ended: the app may be making a skipped day on demand, which keeps no shard open."""
        try:
            reading = self.run.services.store.ledgers_between(self.uid, self.date, self.date)
            ledger = (await self.run.read_breaker.watch(reading)).get(self.date)
        except StoreDown:
            ledger = None
        if ledger is not None and ledger.state.final:
            return TurnResult(Outcome.DONE_BEFORE)
        return TurnResult(Outcome.HELD, self.claim_reply.wait, "foreign", free_at=self.now + self.claim_reply.wait)

    async def run_guarded(self, turn: Awaitable[TurnResult]) -> TurnResult:
        """Run one user's turn and turn its errors into a result; they give the claim back uncharged, with a reason.

        A claim that lapses counts as a crash, and too many crashes end the day: only a process that died may cause it.
        Raises only ClaimsDown and KeyTrouble: then the claim can't be given back.
        """
        try:
            return await turn
        except (ClaimsDown, KeyTrouble):
            raise
        except ConfigFault as error:
            await self._give_back("configuration")
            self.run.stop_claiming(error)
            return TurnResult(Outcome.FAILED, reason="configuration")
        except (Malformed, ItemFault) as error:  # ItemFault: the store refuses the ledger of a dead day
            wait = await self._give_back("malformed")
            log.error("recap.trouble", **self.log_context, reason=str(error))
        except Exception as error:  # broad on purpose: a bug that one user's data triggers must not stop the others
            wait = await self._give_back(f"defect_{type(error).__name__}")
            log.exception("recap.defect", **self.log_context)
        self.run.defects += 1
        return TurnResult(Outcome.FAILED, wait)

    async def _give_back(self, reason: str) -> timedelta:
        """Give the claim back uncharged, without using the ledger, even of a dead day: it may be what raised."""
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
    """Claim one user's day; `claim_reply` says whether it was won. Raises ClaimsDown, ConfigFault or KeyTrouble."""
    terms = run.user_terms(uid, date, slot)
    claimed = await run.claim(terms, lane)
    reply = claimed.reply
    if reply.reason == FOREIGN_TYPE:  # not the lock of an older deployment, which is a string
        raise KeyTrouble(f"{terms.key} holds another type in Redis; look at it by inspect --keys, and delete it.")
    return Day(
        run=run,
        uid=uid,
        date=date,
        slot=slot,
        terms=terms,
        token=claimed.token,
        claim_reply=reply,
        phase=run.services.limits.rules.phase(slot, reply.now + run.offset),
        claim_started_at=claimed.started_at,
        replaces=replaces,
        resend=resend,
        release_worker=release_worker,
    )
