"""How a day's draft is got: from the LLM, the store or the extract (docs/protocol.md, section 5, step 3)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import structlog

from notifications.domain.claim import Record
from notifications.domain.errors import ItemFault, ItemReason, OverBudget, ProviderFault
from notifications.domain.model import Draft
from notifications.domain.money import NOTHING, Spent
from notifications.ports import Reply
from notifications.recap.extract import extract, is_worth_an_extract
from notifications.recap.material import Material
from notifications.run.day import Day
from notifications.run.llm_session import LLMSession
from notifications.run.state import Run
from notifications.run.writer import RecapWriter

log = structlog.get_logger()

LLM_SHARE = 0.95  # of what remains of the user's deadline; the rest is for reading the devices
OVERRUN_FACTOR = 1.03  # planning and checks run in threads and may exceed the LLM's time by 3 %


async def write_draft(day: Day, material: Material) -> Draft | None:
    """Step 3: let the LLM write the draft, or fall back to the extract. Returns None if there is nothing to tell.

    Raises ItemFault, ProviderFault or OverBudget.
    """
    run, services = day.run, day.run.services
    if services.summarizer is None:
        return await _extract(day, material)
    seconds = max(0.0, services.limits.user_deadline_seconds - day.elapsed.total_seconds()) * LLM_SHARE
    writer = RecapWriter(
        run,
        material,
        LLMSession(run, services.summarizer, timedelta(seconds=seconds)),
        uid=day.uid,
        draft_may_exist=_draft_may_exist(day.claim_reply),
        can_retry_later=_will_be_retried_in_time(day),
        spent_before=await day.spent(),
    )
    day.costs.append(lambda: writer.spent)
    try:
        async with asyncio.timeout(seconds * OVERRUN_FACTOR):
            draft = await writer.draft()
    except TimeoutError:
        raise ProviderFault("Asking and checking took a user's whole deadline (RECAP_USER_DEADLINE_SECONDS).") from None
    except OverBudget as error:
        if not services.has_fallback:
            raise
        run.counts.over_budget += 1
        log.warning("llm.over_budget", **day.log_context, reason=str(error))
        return await _extract(day, material, "budget", writer.spent)
    except ItemFault as error:
        if error.reason is ItemReason.NOTHING_SAID:  # a well-formed answer: the provider works
            run.llm_breaker.record_success()
            is_worth_it = services.has_fallback and await asyncio.to_thread(
                is_worth_an_extract, material, services.split_sentences
            )
            if not is_worth_it:
                return None
        elif not services.has_fallback:
            raise
        else:
            run.bad_answers.record_bad_answer(error)  # raises ProviderFault on the tenth in a row
        return await _extract(day, material, error.reason.value, writer.spent)
    run.llm_breaker.record_success()
    run.bad_answers.record_good_answer()
    return draft


async def draft_after_catch_up(day: Day, material: Material) -> Draft | None:
    """After the catch-up no LLM is asked.

    Returns the stored, unverified draft if there is one, else the extract, else None (RECAP_FALLBACK=none).
    """
    if draft := await unverified_draft(day.run, day.uid, material, day.claim_reply):
        return draft
    return await _extract(day, material, "closing", await day.spent()) if day.run.services.has_fallback else None


async def unverified_draft(run: Run, uid: str, material: Material, previous: Reply | Record) -> Draft | None:
    """The draft that an earlier run stored because its second look failed; None if there is none.

    `previous`: what Redis says of the user's earlier tries.
    """
    if run.services.summarizer is None or not _draft_may_exist(previous):
        return None
    session = LLMSession(run, run.services.summarizer, timedelta(0))
    return await RecapWriter(run, material, session, uid=uid).unverified()


def _draft_may_exist(previous: Reply | Record) -> bool:
    """False only on a user's first try; after a failure or a crash a draft may be stored."""
    return bool(previous.reason) or previous.crashes > 0


def _will_be_retried_in_time(day: Day) -> bool:
    """Whether this user would be served again before the catch-up ends if this try failed."""
    limits = day.run.services.limits
    # provider_retry is jittered by up to +100 %, and the shard may come back as late as shard_retry_max
    longest_wait = 2 * limits.duration("provider_retry") + limits.duration("shard_retry_max")
    return not day.resend and day.now + longest_wait < day.slot + limits.rules.catch_up


async def _extract(day: Day, material: Material, reason: str = "", spent: Spent = NOTHING) -> Draft:
    """The day's own sentences, chosen in a thread. `spent`: the cost of LLM calls whose answers were not used."""
    if reason:
        log.warning("recap.extract", **day.log_context, reason=reason)
    draft = await asyncio.to_thread(extract, material, day.run.services.split_sentences, spent)
    return replace(draft, metadata={**draft.metadata, "extract_reason": reason}) if reason else draft
