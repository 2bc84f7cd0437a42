"""One user, from the claim to delivered: docs/protocol.md, section 5, top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

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
from notifications.domain.model import DayState, Device, Draft, Ledger, Recap, User
from notifications.domain.money import NOTHING, Spent
from notifications.domain.push import message
from notifications.domain.schedule import Slot
from notifications.ports import Reply
from notifications.recap.document import compose
from notifications.recap.extract import extract, tells_something
from notifications.recap.material import Material
from notifications.run.asking import Asking, run_in_thread_if_large
from notifications.run.day import Day, claim_day
from notifications.run.day_input import DayInput, Gate, Ledgers, read_ledgers
from notifications.run.outcome import Outcome, TurnResult
from notifications.run.pusher import Pushed
from notifications.run.recap import Writing
from notifications.run.state import Run

log = structlog.get_logger()

WITH_CHECKS = 1.03  # of the LLM's share: what is planned and checked in threads may take the rest of it
LATER = TurnResult(Outcome.WAITING, reason="later")  # belongs in a narrower lane of this very run
LLM_SHARE = 0.95  # of what is left of the user's deadline; the rest is for reading the devices
BEGIN_GRACE, RECORD_GRACE = 0.4, 0.88  # of the platform's last seconds; pushes end between the two


@dataclass(frozen=True, slots=True)
class Ready:
    """Up to the fence: the devices, and the recap to begin with; None takes over an open ledger."""

    devices: list[Device]
    recap: Recap | None
    given: DayInput | None = None
    language: str | None = None


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
    """One claim in one lane, and what its answer asks for."""
    if run.stops:
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
        match day.won.answer:
            case ClaimAnswer.WON:
                run.counts.claimed += 1
                with run.parts.telemetry.span("user"):
                    return await day.isolated(recap_user(day, user, slot))
            case ClaimAnswer.LATER:
                return LATER
            case _:
                return await day.isolated(day.not_won())
    except (ClaimsDown, ConfigFault) as trouble:
        run.stop_claiming(trouble)
    except KeyTrouble as trouble:
        run.defects += 1
        log.error("recap.trouble", uid=user.uid, reason=str(trouble))
    return TurnResult(Outcome.FAILED)


async def recap_user(day: Day, user: User, slot: Slot) -> TurnResult:
    """Carry one user to the end of the day. Raises ClaimsDown where Redis fails meanwhile."""
    run = day.run
    try:
        async with run.terminated.timeout(run.parts.limits.user_deadline_seconds):
            ready = await _make_ready(day, user, slot)
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
        run.reads.failed(StoreDown("store", "The store took a user's whole deadline (RECAP_USER_DEADLINE_SECONDS)."))
        return await day.fail("user_deadline")
    if isinstance(ready, Decision):
        return await day.conclude(ready)
    return await deliver(day, ready.devices, lambda: _begin_or_take(day, ready))


async def _make_ready(day: Day, user: User, slot: Slot) -> Ready | Decision:
    """Steps 1 to 3, and the devices of step 4: all that may be cancelled and done again."""
    run, store = day.run, day.run.parts.store
    ledgers = await run.reads.watch(read_ledgers(store, user, slot, run.parts.limits.look_back))
    match ledgers.gate(day.replaces):
        case Gate.UNREADABLE:
            stored = f"users/{day.uid}/recap_deliveries/{day.date}"
            raise Malformed(f"{stored} is not a ledger that this version knows; see `inspect`.")
        case Gate.ENDED:
            return Decision(NextStep.FINAL, ledgers.today)
        case Gate.OPEN:
            return Ready(await day.devices(), None)
        case Gate.LEGACY if ledgers.summary is not None:
            legacy = store.legacy(day.opening(language=user.language), ledgers.summary)
            return await _or_take(day, await run.writes.watch(legacy))
        case Gate.INVERTED:
            return await _inverted(day, ledgers)
    given = await day.conversations(ledgers)
    found = await _material(run, given)
    if found is None:
        return await _close(day, given, DayState.SKIPPED, "no_content")
    draft = await (_closing(day, found) if day.closing else _written(day, found))
    if draft is None and day.closing:
        return await _close(day, None, DayState.MISSED, "closed")
    if draft is None:
        return await _close(day, given, DayState.SKIPPED, "no_content")
    return Ready(await day.devices(), compose(found, draft, day.now), given, found.language)


async def _material(run: Run, given: DayInput) -> Material | None:
    """What a recap is made of; None where the day has nothing to say."""
    size = sum(conversation.size for conversation in given.conversations)
    return await run_in_thread_if_large(size, given.material, run.parts.limits.min_words)


async def _inverted(day: Day, ledgers: Ledgers) -> Ready | Decision:
    """A ledger around claims what was said until after this slot: a clock that was ahead has made it, or a journey.

    What it told can't be known, so the day is not `no_content`: it waits for a person, and then it is missed.
    """
    if day.closing:
        return await _close(day, None, DayState.MISSED, "inverted_window")
    raise Malformed(
        f"users/{day.uid}/recap_deliveries/{ledgers.inverted_by} has a window that ends after the slot of {day.date}; "
        "delete it if a clock that was ahead made it."
    )


async def _written(day: Day, found: Material) -> Draft | None:
    """Step 3: by the LLM; by the day's own sentences where it can't do this day. None where neither has one to tell.

    Raises ItemFault, ProviderFault, or OverBudget.
    """
    run = day.run
    if run.parts.summarizer is None:
        return await _extract(day, found, "")
    left = _left_of_deadline(day)
    asking = Asking(run, run.parts.summarizer, left)
    writing = Writing(
        run,
        day.uid,
        day.date,
        found,
        asking,
        resumes=_may_have_kept_a_draft(day.won),
        may_wait=_another_pass_comes(day),
    )
    try:
        async with asyncio.timeout(left.total_seconds() * WITH_CHECKS):
            draft = await writing.draft()
    except TimeoutError:
        raise ProviderFault("Asking and checking took a user's whole deadline (RECAP_USER_DEADLINE_SECONDS).") from None
    except OverBudget as reason:
        if not run.parts.falls_back:
            raise
        run.counts.over_budget += 1
        log.warning("llm.over_budget", **day.facts, reason=str(reason))
        return await _extract(day, found, "budget", writing.spent)
    except ItemFault as fault:
        if fault.reason is ItemReason.NOTHING_SAID:
            run.llm.answered()
            return await _where_the_llm_found_nothing(day, found, writing.spent)
        if not run.parts.falls_back:
            raise
        run.bad_answers.bad_answer(fault)
        return await _extract(day, found, fault.reason.value, writing.spent)
    run.llm.answered()
    run.bad_answers.good_answer()
    return draft


async def _where_the_llm_found_nothing(day: Day, found: Material, spent: Spent) -> Draft | None:
    """The extract, if a sentence of the day is worth it; None where the day has nothing to tell."""
    if day.run.parts.falls_back and await asyncio.to_thread(tells_something, found, day.run.parts.split_sentences):
        return await _extract(day, found, ItemReason.NOTHING_SAID.value, spent)
    return None


async def _closing(day: Day, found: Material) -> Draft | None:
    """After the catch-up no LLM is asked: a draft that only lacks its second look is sent without, else the extract.

    None where there is neither.
    """
    if draft := await unverified_draft(day.run, day.uid, found, day.won):
        return draft
    return await _extract(day, found, "closing") if day.run.parts.falls_back else None


async def unverified_draft(run: Run, uid: str, found: Material, won: Reply | Record) -> Draft | None:
    """The draft that an earlier run stored for want of a second look; None where there is none."""
    if run.parts.summarizer is None or not _may_have_kept_a_draft(won):
        return None
    asking = Asking(run, run.parts.summarizer, timedelta(0))
    return await Writing(run, uid, found.date, found, asking).unverified()


def _may_have_kept_a_draft(won: Reply | Record) -> bool:
    """Whether an earlier run may have stored one: only a user's first try can be sure that none did."""
    return bool(won.reason) or won.crashes > 0


def _another_pass_comes(day: Day) -> bool:
    """Whether this user is served again before the catch-up ends, where this try fails."""
    limits = day.run.parts.limits
    longest = 2 * limits.span("provider_retry") + limits.span("shard_retry_max")
    return not day.resend and day.now + longest < day.slot + limits.span("catch_up")


async def _extract(day: Day, found: Material, reason: str, spent: Spent = NOTHING) -> Draft:
    """The day's own sentences, chosen in a thread: others go on meanwhile. `spent`: on what came to nothing."""
    if reason:
        log.warning("recap.extract", **day.facts, reason=reason)
    return await asyncio.to_thread(extract, found, day.run.parts.split_sentences, spent)


async def _close(day: Day, given: DayInput | None, state: DayState, outcome: str) -> Ready | Decision:
    if day.resend and day.replaces is not None:
        return Decision(NextStep.FINAL, day.replaces)  # still nothing to say: the ledger stands as it is
    closing = day.run.parts.store.end_day(day.opening(given), state, outcome)
    return await _or_take(day, await day.run.writes.watch(closing))


async def _or_take(day: Day, decision: Decision) -> Ready | Decision:
    return Ready(await day.devices(), None) if decision.step is NextStep.TAKE else decision


async def deliver(day: Day, devices: list[Device], open_ledger: Callable[[], Awaitable[Decision]]) -> TurnResult:
    """Steps 4 to 7, from the fence on: never cancelled. `noted` comes before begin, so that a
    process that froze in between finds its time is up and pushes nothing."""
    noted = day.run.parts.clock.seconds()
    try:
        opened = await day.run.writes.retry_until_known(open_ledger, BEGIN_GRACE)
        day.run.counts.extracts += opened.recap is not None and opened.recap.extracted
        if opened.step is not NextStep.PUSH or opened.entry is None:
            return await day.conclude(opened)
        note = message(day.uid, opened.entry, day.now, silent=day.late)
        with day.run.parts.telemetry.span("push"):
            pushed = await day.run.pusher.push(note, devices, opened.entry.devices, noted)
        wait = pushed.wait(day.run.parts.limits, opened.entry.tries, closing=day.closing)
        recorded = await day.run.writes.retry_until_known(
            partial(_record_pushes, day, opened, pushed, wait), RECORD_GRACE
        )
    except StoreDown as failure:
        return await day.fail(f"store_{failure.name}")
    except ItemFault as fault:
        return await day.fail_item(fault)
    outcome = await day.conclude(recorded, wait, pushed.reason)
    if pushed.defect is not None:
        raise pushed.defect
    return outcome


async def _begin_or_take(day: Day, ready: Ready) -> Decision:
    store = day.run.parts.store
    if ready.recap is None:
        return await store.take(day.uid, day.date, day.token)
    opening = day.opening(ready.given, language=ready.language)
    return await store.begin(opening, ready.recap, has_devices=bool(ready.devices), replaces=day.replaces)


async def _record_pushes(day: Day, opened: Decision, pushed: Pushed, wait: timedelta) -> Decision:
    assert opened.entry is not None  # noqa: S101 - deliver saw to it
    limits = day.run.parts.limits
    last_seen = day.slot + limits.span("catch_up") + limits.span("grace")
    next_pass = day.now + wait + limits.span("shard_retry_max")
    return await day.run.parts.store.record_pushes(
        day.uid,
        day.date,
        day.token,
        opened.entry.seq,
        pushed.results,
        sent_nothing=pushed.sent_nothing,
        last_chance=day.closing and next_pass > last_seen,
        reason=pushed.reason,
        opened=opened,
    )


def _left_of_deadline(day: Day) -> timedelta:
    return max(timedelta(0), day.run.parts.limits.span("user_deadline") - day.used) * LLM_SHARE
