"""One user, from the claim to delivered: docs/protocol.md, section 5, top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from notifications.domain.claim import ClaimAnswer, Record
from notifications.domain.delivery import Decision, NextStep
from notifications.domain.errors import (
    ClaimsDown,
    ConfigFault,
    ItemFault,
    ItemReason,
    KeyTrouble,
    Malformed,
    OverBudget,
    ProviderFault,
    StoreDown,
)
from notifications.domain.model import DayState, Device, Draft, Ledger, User
from notifications.domain.money import NOTHING, Spent
from notifications.domain.push import message
from notifications.domain.schedule import Slot
from notifications.ports import Reply
from notifications.recap.document import compose
from notifications.recap.extract import extract, is_worth_an_extract
from notifications.recap.material import Material
from notifications.run.day import Day, claim_day
from notifications.run.day_input import DayInput, Gate, Ledgers, read_ledgers
from notifications.run.llm_session import LLMSession, run_in_thread_if_large
from notifications.run.outcome import Outcome, TurnResult
from notifications.run.pusher import Pushed
from notifications.run.state import Run
from notifications.run.writer import RecapWriter

log = structlog.get_logger()

FOR_NARROWER_LANE = TurnResult(Outcome.WAITING, reason="later")  # belongs in a narrower lane of this very run
LLM_SHARE = 0.95  # of what remains of the user's deadline; the rest is for reading the devices
CHECKS_SHARE = 1.03  # of the LLM's share: plans and checks in threads may overrun it by that
BEGIN_GRACE, RECORD_GRACE = 0.4, 0.88  # of the platform's last seconds; pushes end between the two

OpenLedger = Callable[[], Awaitable[Decision]]


@dataclass(frozen=True, slots=True)
class PreparedDelivery:
    """All that is needed up to the fence: the devices, and the transaction that opens the ledger."""

    devices: list[Device]
    open_ledger: OpenLedger


async def claim_and_recap(
    run: Run,
    user: User,
    slot: Slot,
    lane: int,
    *,
    replaces: Ledger | None = None,
    resend: bool = False,
    release_worker: Callable[[], None] | None = None,
) -> TurnResult:
    """Claim the user's day in one lane; won, carry the user to the end of it. Raises nothing of one user's."""
    if run.is_stopping:
        return TurnResult(Outcome.STOPPED)
    try:
        day = await claim_day(
            run,
            uid=user.uid,
            date=slot.recap_date,
            slot=slot.at,
            lane=lane,
            replaces=replaces,
            resend=resend,
            release_worker=release_worker,
        )
        if day.claim_reply.answer is ClaimAnswer.LATER:
            return FOR_NARROWER_LANE
        if day.claim_reply.answer is not ClaimAnswer.WON:
            return await day.run_guarded(day.result_when_not_won())
        run.counts.claimed += 1
        with run.services.telemetry.span("user"):
            return await day.run_guarded(recap_user(day, user, slot))
    except (ClaimsDown, ConfigFault) as trouble:
        run.stop_claiming(trouble)
    except KeyTrouble as trouble:
        run.defects += 1
        log.error("recap.trouble", uid=user.uid, reason=str(trouble))
    return TurnResult(Outcome.FAILED)


async def recap_user(day: Day, user: User, slot: Slot) -> TurnResult:
    """Prepare the recap (steps 1 to 3), then deliver it (4 to 7). Raises ClaimsDown where Redis fails meanwhile."""
    run = day.run
    try:
        async with run.terminated.timeout(run.services.limits.user_deadline_seconds):
            prepared = await _prepare(day, user, slot)
    except ItemFault as fault:
        return await day.fail_item(fault)
    except ProviderFault as fault:
        run.provider_failed(fault)
        return await day.fail(f"provider_{fault.name}", fault.retry_after)
    except OverBudget:
        return await day.fail("budget")
    except StoreDown as failure:
        return await day.fail(f"store_{failure.name}")
    except TimeoutError:  # SIGTERM, or the store: the summarizer keeps its own share of the deadline
        if run.terminated.is_set():
            return await day.release("stopped")
        run.read_breaker.record_failure(
            StoreDown("store", "The store took a user's whole deadline (RECAP_USER_DEADLINE_SECONDS).")
        )
        return await day.fail("user_deadline")
    if isinstance(prepared, Decision):
        return await day.settle_claim(prepared)
    return await deliver(day, prepared.devices, prepared.open_ledger)


async def _prepare(day: Day, user: User, slot: Slot) -> PreparedDelivery | Decision:
    """Steps 1 to 3, and the devices of step 4: all that may be cancelled and done again.

    A Decision where the day has ended without a push.
    """
    run, store = day.run, day.run.services.store
    # 1. What the stored ledgers decide.
    ledgers = await run.read_breaker.watch(read_ledgers(store, user, slot, run.services.limits.look_back))
    match ledgers.gate(day.replaces):
        case Gate.UNREADABLE:
            stored = f"users/{day.uid}/recap_deliveries/{day.date}"
            raise Malformed(f"{stored} is not a ledger that this version knows; see `inspect`.")
        case Gate.ENDED:
            return Decision(NextStep.FINAL, ledgers.today)
        case Gate.OPEN:
            return await _take(day)
        case Gate.LEGACY if ledgers.summary is not None:
            legacy = store.end_as_legacy(day.opening(language=user.language), ledgers.summary)
            return await _or_take(day, await run.write_breaker.watch(legacy))
        case Gate.INVERTED:
            return await _inverted(day, ledgers)
    # 2. What no recap has told yet.
    given = await day.conversations(ledgers)
    size = sum(conversation.size for conversation in given.conversations)
    material = await run_in_thread_if_large(size, given.material, run.services.limits.min_words)
    if material is None:
        return await _close(day, DayState.SKIPPED, "no_content", given)
    # 3. The text: by the LLM, or the extract.
    draft = await (_closing_draft(day, material) if day.closing else _write(day, material))
    if draft is None and day.closing:
        return await _close(day, DayState.MISSED, "closed")
    if draft is None:
        return await _close(day, DayState.SKIPPED, "no_content", given)
    # Ready for the fence.
    recap, opening = compose(material, draft, day.now), day.opening(given, language=material.language)
    devices = await day.devices()
    return PreparedDelivery(
        devices, lambda: store.begin(opening, recap, has_devices=bool(devices), replaces=day.replaces)
    )


async def _inverted(day: Day, ledgers: Ledgers) -> PreparedDelivery | Decision:
    """A ledger around claims what was said until after this slot: a clock that was ahead has made it, or a journey.

    What it told can't be known, so the day is not `no_content`: it waits for a person, and then it is missed.
    """
    if day.closing:
        return await _close(day, DayState.MISSED, "inverted_window")
    raise Malformed(
        f"users/{day.uid}/recap_deliveries/{ledgers.inverted_by} has a window that ends after the slot of {day.date}; "
        "delete it if a clock that was ahead made it."
    )


async def _take(day: Day) -> PreparedDelivery:
    """Take over a ledger that another run, or an earlier try, has opened."""
    store = day.run.services.store
    return PreparedDelivery(await day.devices(), lambda: store.take(day.uid, day.date, day.token))


async def _or_take(day: Day, decision: Decision) -> PreparedDelivery | Decision:
    return await _take(day) if decision.step is NextStep.TAKE else decision


async def _close(day: Day, state: DayState, outcome: str, given: DayInput | None = None) -> PreparedDelivery | Decision:
    """End the day without a recap."""
    if day.resend and day.replaces is not None:
        return Decision(NextStep.FINAL, day.replaces)  # still nothing to say: the ledger stands as it is
    closing = day.run.services.store.end_day(day.opening(given), state, outcome)
    return await _or_take(day, await day.run.write_breaker.watch(closing))


async def _write(day: Day, material: Material) -> Draft | None:
    """Step 3: a draft by the LLM; where it can't do this day, the extract. None where neither has anything to say.

    Raises ItemFault, ProviderFault, or OverBudget.
    """
    run, limits = day.run, day.run.services.limits
    if run.services.summarizer is None:
        return await _extract(day, material)
    seconds = max(0.0, limits.user_deadline_seconds - day.elapsed.total_seconds()) * LLM_SHARE
    writing = RecapWriter(
        run,
        material,
        LLMSession(run, run.services.summarizer, timedelta(seconds=seconds)),
        uid=day.uid,
        day=day.date,
        resumes=_may_have_kept_a_draft(day.claim_reply),
        may_wait=_another_pass_comes(day),
    )
    try:
        async with asyncio.timeout(seconds * CHECKS_SHARE):
            draft = await writing.draft()
    except TimeoutError:
        raise ProviderFault("Asking and checking took a user's whole deadline (RECAP_USER_DEADLINE_SECONDS).") from None
    except OverBudget as reason:
        if not run.services.has_fallback:
            raise
        run.counts.over_budget += 1
        log.warning("llm.over_budget", **day.log_context, reason=str(reason))
        return await _extract(day, material, "budget", writing.spent)
    except ItemFault as fault:
        if fault.reason is ItemReason.NOTHING_SAID:
            run.llm_breaker.record_success()
            if not run.services.has_fallback or not await asyncio.to_thread(
                is_worth_an_extract, material, run.services.split_sentences
            ):
                return None
        elif not run.services.has_fallback:
            raise
        else:
            run.bad_answers.record_bad_answer(fault)
        return await _extract(day, material, fault.reason.value, writing.spent)
    run.llm_breaker.record_success()
    run.bad_answers.record_good_answer()
    return draft


async def _closing_draft(day: Day, material: Material) -> Draft | None:
    """After the catch-up no LLM is asked: a draft that only lacks its second look, else the extract. None: neither."""
    if draft := await unverified_draft(day.run, day.uid, material, day.claim_reply):
        return draft
    return await _extract(day, material, "closing") if day.run.services.has_fallback else None


async def unverified_draft(run: Run, uid: str, material: Material, won: Reply | Record) -> Draft | None:
    """The draft that an earlier run stored for want of a second look; None where there is none."""
    if run.services.summarizer is None or not _may_have_kept_a_draft(won):
        return None
    asking = LLMSession(run, run.services.summarizer, timedelta(0))
    return await RecapWriter(run, material, asking, uid=uid, day=material.date).unverified()


def _may_have_kept_a_draft(won: Reply | Record) -> bool:
    """Whether an earlier run may have stored one: only a user's first try can be sure that none did."""
    return bool(won.reason) or won.crashes > 0


def _another_pass_comes(day: Day) -> bool:
    """Whether this user is served again before the catch-up ends, where this try fails."""
    limits = day.run.services.limits
    longest = 2 * limits.duration("provider_retry") + limits.duration("shard_retry_max")
    return not day.resend and day.now + longest < day.slot + limits.rules.catch_up


async def _extract(day: Day, material: Material, reason: str = "", spent: Spent = NOTHING) -> Draft:
    """The day's own sentences, chosen in a thread. `spent`: on calls that came to nothing."""
    if reason:
        log.warning("recap.extract", **day.log_context, reason=reason)
    return await asyncio.to_thread(extract, material, day.run.services.split_sentences, spent)


async def deliver(day: Day, devices: list[Device], open_ledger: OpenLedger) -> TurnResult:
    """Steps 4 to 7, from the fence on: never cancelled."""
    run = day.run
    opened_at = run.services.clock.seconds()  # before the fence: a process that froze since then pushes nothing
    try:
        # 4. The fence: only one run opens the ledger.
        opened = await run.write_breaker.retry_until_known(open_ledger, BEGIN_GRACE)
        run.counts.extracts += opened.recap is not None and opened.recap.is_extract
        if opened.step is not NextStep.PUSH or opened.ledger is None:
            return await day.settle_claim(opened)
        # 5. Push to every open device.
        push = message(day.uid, opened.ledger, day.now, silent=day.late)
        with run.services.telemetry.span("push"):
            pushed = await run.pusher.push(push, devices, opened.ledger.devices, opened_at)
        # 6. Write down what each device answered.
        wait = pushed.retry_delay(run.services.limits, opened.ledger.tries, closing=day.closing)
        recorded = await run.write_breaker.retry_until_known(
            lambda: _record_pushes(day, opened, pushed, wait), RECORD_GRACE
        )
    except StoreDown as failure:
        return await day.fail(f"store_{failure.name}")
    except ItemFault as fault:
        return await day.fail_item(fault)
    # 7. End the claim, or give it back.
    result = await day.settle_claim(recorded, wait, pushed.reason)
    if pushed.defect is not None:
        raise pushed.defect
    return result


async def _record_pushes(day: Day, opened: Decision, pushed: Pushed, wait: timedelta) -> Decision:
    assert opened.ledger is not None  # noqa: S101 - deliver saw to it
    limits = day.run.services.limits
    last_seen = day.slot + limits.rules.catch_up + limits.rules.grace
    next_pass = day.now + wait + limits.duration("shard_retry_max")
    return await day.run.services.store.record_pushes(
        day.uid,
        day.date,
        by=day.token,
        seq=opened.ledger.seq,
        results=pushed.results,
        sent_nothing=pushed.sent_nothing,
        last_chance=day.closing and next_pass > last_seen,
        reason=pushed.reason,
        opened=opened,
    )
