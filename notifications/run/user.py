"""Serve one user: from winning the claim to recording the delivery (docs/protocol.md, section 5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from notifications.domain.claim import ClaimAnswer
from notifications.domain.delivery import Decision, NextStep
from notifications.domain.errors import (
    ClaimsDown,
    ConfigFault,
    ItemFault,
    KeyTrouble,
    Malformed,
    OverBudget,
    ProviderFault,
    StoreDown,
)
from notifications.domain.model import DayState, Ledger, User
from notifications.domain.money import Spent
from notifications.domain.push import Message, message
from notifications.domain.recording import PushReport
from notifications.domain.schedule import Slot
from notifications.recap.document import compose
from notifications.run.day import Day, NotYet, claim_day
from notifications.run.day_input import DayInput, Gate, Ledgers, read_ledgers
from notifications.run.drafting import draft_after_catch_up, write_draft
from notifications.run.llm_session import run_in_thread_if_large
from notifications.run.outcome import Outcome, TurnResult
from notifications.run.pusher import Pushed
from notifications.run.state import Run
from notifications.run.stored_text import StoredText
from notifications.run.targets import To

log = structlog.get_logger()

# A sentinel, compared by identity: shard.py serves this user again in a narrower lane of the same run.
FOR_NARROWER_LANE = TurnResult(Outcome.WAITING, reason="later")
BEGIN_STOP_SHARE = 0.4  # fraction of RECAP_STOP_SECONDS by which begin() must be done
RECORD_STOP_SHARE = 0.88  # fraction of RECAP_STOP_SECONDS by which record_pushes() must be done; pushes end in between

OpenLedger = Callable[[], Awaitable[Decision]]


@dataclass(frozen=True, slots=True)
class PreparedDelivery:
    """What deliver() needs: the targets, and the transaction that opens the ledger (the fence)."""

    to: To
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
    """Claim the user's day; if the claim is won, serve the user.

    The turn's errors become its result. What one user's data causes ends that turn alone; ClaimsDown and ConfigFault
    also stop the run's claiming.
    """
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
    except (ClaimsDown, ConfigFault) as error:
        run.stop_claiming(error)
    except KeyTrouble as error:
        run.defects += 1
        log.error("recap.trouble", uid=user.uid, reason=str(error))
    return TurnResult(Outcome.FAILED)


async def recap_user(day: Day, user: User, slot: Slot) -> TurnResult:
    """Prepare the recap (steps 1 to 3), then deliver it (4 to 7).

    Other errors (Malformed, ConfigFault, a defect) are left to Day.run_guarded(), which lets ClaimsDown and KeyTrouble
    through.
    """
    run = day.run
    try:
        async with run.terminated.timeout(run.services.limits.user_deadline_seconds):
            prepared = await _prepare(day, user, slot)
    except ItemFault as error:
        return await day.fail_item(error)
    except ProviderFault as error:
        run.provider_failed(error)
        return await day.fail(error.reason, error.retry_after)
    except OverBudget:
        return await day.fail("budget")
    except (StoreDown, TimeoutError) as error:
        return await day.fail_reading(error)
    match prepared:
        case Decision():
            return await day.settle_claim(prepared)
        case NotYet():
            return await day.fail(prepared.reason, prepared.wait)
    return await deliver(day, prepared.to, prepared.open_ledger)


async def _prepare(day: Day, user: User, slot: Slot) -> PreparedDelivery | NotYet | Decision:
    """Steps 1 to 3, and the targets of step 4. Everything before the fence, so it may be cancelled and repeated.

    Returns a Decision if the day ended here, without a push.
    """
    run, store = day.run, day.run.services.store
    # 1. What the stored ledgers decide.
    ledgers = await run.read_breaker.watch(read_ledgers(store, user, slot, run.services.limits.look_back))
    match ledgers.gate(day.replaces):
        case Gate.UNREADABLE:
            path = store.ledger_path.format(uid=day.uid, day=day.date)
            raise Malformed(f"{path} is not a ledger that this version knows; see `inspect`.")
        case Gate.ENDED:
            return Decision(NextStep.FINAL, ledgers.today)
        case Gate.OPEN:
            return await _prepare_take(day, ledgers)
        case Gate.LEGACY:
            assert ledgers.summary is not None  # noqa: S101 - Gate.LEGACY: there is a summary
            opening = day.opening(await day.spent(), language=user.language)
            transaction = store.end_as_legacy(opening, ledgers.summary)
            return await _take_if_open(day, ledgers, await run.write_breaker.watch(transaction))
        case Gate.INVERTED:
            return await _handle_inverted(day, ledgers)
        case Gate.CONVERSATIONS:
            pass  # go on with step 2
    # 2. The conversations that no recap has used yet.
    day_input = await day.read_conversations(ledgers)
    characters = sum(conversation.size for conversation in day_input.conversations)
    material = await run_in_thread_if_large(characters, day_input.material, run.services.limits.min_words)
    if material is None:
        return await _end_without_recap(day, ledgers, DayState.SKIPPED, "no_content", day_input)
    # 3. The text: by the LLM, or the extract.
    if day.closing:
        draft = await draft_after_catch_up(day, material)
        if draft is None:  # the stored code "closed" means: the catch-up is over and there is no fallback
            # without day_input: a missed day has told nothing, so its conversations are left to the next recap
            return await _end_without_recap(day, ledgers, DayState.MISSED, "closed")
    else:
        draft = await write_draft(day, material)
        if draft is None:
            return await _end_without_recap(day, ledgers, DayState.SKIPPED, "no_content", day_input)
    # Nothing of the recap is stored yet: deliver() stores it as it opens the ledger.
    recap = compose(material, draft, day.now)
    opening = day.opening(Spent.from_metadata(draft.metadata), day_input, language=material.language)
    to = await day.read_targets(user, ledgers.before, material.language)
    return PreparedDelivery(
        to, lambda: store.begin(opening, recap, has_targets=bool(to.targets), replaces=day.replaces)
    )


async def _handle_inverted(day: Day, ledgers: Ledgers) -> PreparedDelivery | NotYet | Decision:
    """Handle Gate.INVERTED: miss the day in the closing pass, else raise Malformed.

    A nearby ledger's window ends after this slot, and it does not list its conversations: a clock ran ahead, or the
    user travelled. We can't know which conversations that ledger used, so the day must not be skipped as no_content: it
    fails until an operator acts, and is missed after the catch-up.
    """
    if day.closing:
        return await _end_without_recap(day, ledgers, DayState.MISSED, "inverted_window")
    path = day.run.services.store.ledger_path.format(uid=day.uid, day=ledgers.inverted_by)
    raise Malformed(
        f"{path} has a window that ends after the slot of {day.date}; delete it if a clock that was ahead made it."
    )


async def _prepare_take(day: Day, ledgers: Ledgers) -> PreparedDelivery | NotYet:
    """What deliver() needs to take over a ledger that another run, or an earlier try, has opened."""
    store = day.run.services.store
    to = await day.read_targets(ledgers.user, ledgers.before)
    not_yet = None if ledgers.today is None else wait_before_take(day, to, ledgers.today)
    return not_yet or PreparedDelivery(to, lambda: store.take(day.uid, day.date, day.token))


def wait_before_take(day: Day, to: To, ledger: Ledger) -> NotYet | None:
    """Why an open delivery is not taken now; None if it is: also on its last chance, which ends it."""
    wait = day.run.pusher.wait_before_take(to.targets, ledger, day.redis_now)
    if wait is None or _is_last_chance(day, wait):
        return None
    return NotYet(wait, ledger.reason or "push")


async def _take_if_open(day: Day, ledgers: Ledgers, decision: Decision) -> PreparedDelivery | NotYet | Decision:
    return await _prepare_take(day, ledgers) if decision.step is NextStep.TAKE else decision


async def _end_without_recap(
    day: Day, ledgers: Ledgers, state: DayState, outcome: str, day_input: DayInput | None = None
) -> PreparedDelivery | NotYet | Decision:
    """End the day in its ledger, unless another run has opened it: then prepare to take it over."""
    if day.resend and day.replaces is not None:
        return Decision(NextStep.FINAL, day.replaces)  # nothing to say: the ended ledger stays
    transaction = day.run.services.store.end_day(day.opening(await day.spent(), day_input), state, outcome)
    return await _take_if_open(day, ledgers, await day.run.write_breaker.watch(transaction))


async def deliver(day: Day, to: To, open_ledger: OpenLedger) -> TurnResult:
    """Steps 4 to 7. Must not be cancelled: the caller keeps it outside every timeout."""
    run = day.run
    # read before opening: Pusher sends nothing if more than a push deadline has passed since
    started_at = run.services.clock.seconds()
    try:
        # 4. The fence: only one run opens the ledger.
        opened = await run.write_breaker.retry_until_known(open_ledger, BEGIN_STOP_SHARE)
        if opened.recap is not None and opened.recap.is_extract:
            run.counts.extract_reasons[str(opened.recap.draft.metadata.get("extract_reason", ""))] += 1
        if opened.step is not NextStep.PUSH or opened.ledger is None:
            return await day.settle_claim(opened)
        day.costs.clear()  # the ledger has them
        # 5. Deliver to every open target.
        with run.services.telemetry.span("push"):
            pushed = await run.pusher.push(
                _message(day, to, opened, opened.ledger), to.targets, opened.ledger, started_at, day.redis_now
            )
        # 6. Write down what came of each target.
        retry_in = pushed.wait(run.services.limits, closing=day.closing)
        recorded = await run.write_breaker.retry_until_known(
            lambda: _record_pushes(day, opened, pushed, retry_in), RECORD_STOP_SHARE
        )
    except StoreDown as error:
        return await day.fail(f"store_{error.name}")
    except ItemFault as error:
        return await day.fail_item(error)
    # 7. End the claim, or give it back.
    result = await day.settle_claim(recorded, retry_in, pushed.reason)
    if pushed.defect is not None:  # the other targets' results are stored
        run.defects += 1
        log.error("recap.defect", exc_info=pushed.defect, **day.log_context)
    return result


def _message(day: Day, to: To, opened: Decision, ledger: Ledger) -> Message:
    return message(
        day.uid,
        ledger,
        day.now,
        silent=day.late,
        zone=to.recipient.zone,
        language=to.recipient.language,
        full=StoredText(day.run.services.store, day.uid, ledger, opened.recap),
    )


def _is_last_chance(day: Day, wait: timedelta) -> bool:
    """Whether no further pass can come after that wait."""
    return day.closing and is_too_late(day.run, day.slot, day.now + wait)


def is_too_late(run: Run, slot: datetime, at: datetime) -> bool:
    """Whether a pass that is due at that time may come only after the slot's service has ended."""
    limits = run.services.limits
    return at + limits.duration("shard_retry_max") > limits.rules.service_end(slot)


async def _record_pushes(day: Day, opened: Decision, pushed: Pushed, retry_in: timedelta) -> Decision:
    assert opened.ledger is not None  # noqa: S101 - deliver() returns early without one
    report = PushReport(
        by=day.token,
        seq=opened.ledger.seq,
        results=pushed.results(day.run.services.limits, day.redis_now, closing=day.closing),
        sent_nothing=pushed.sent_nothing,
        last_chance=_is_last_chance(day, retry_in),
        reason=pushed.reason,
    )
    return await day.run.services.store.record_pushes(day.uid, day.date, report, opened)
