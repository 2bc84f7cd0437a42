"""One user of a run: claim, and what the claim's answer asks for; and a run for one user alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import structlog

from notifications.domain.claim import SINGLE_FILE_LANE, Answer, Stored, new_token
from notifications.domain.errors import ClaimsDown, ConfigFault, ItemFault, KeyTrouble, Malformed
from notifications.domain.model import Ledger, User
from notifications.domain.schedule import Phase, Slot, latest_slot
from notifications.ports import Claims
from notifications.run.day import Day
from notifications.run.report import Report, report_of
from notifications.run.state import Ending, Outcome, Parts, Run
from notifications.run.termination import Termination
from notifications.run.user import recap_user

log = structlog.get_logger()

LATER = Outcome(Ending.WAITING, reason="later")  # belongs in a narrower lane of this very run

OpenParts = Callable[[], AbstractAsyncContextManager[Parts]]


async def claim_and_recap(
    run: Run,
    user: User,
    slot: Slot,
    lane: int,
    *,
    replaces: Ledger | None = None,
    resend: bool = False,
    leave_place: Callable[[], None] | None = None,
) -> Outcome:
    """One claim in one lane, and what its answer asks for."""
    if run.stops:
        return Outcome(Ending.STOPPED)
    terms, token, since = run.user_terms(user.uid, slot.recap_date, slot.at), new_token(), run.parts.clock.seconds()
    try:
        reply = await run.parts.claims.claim(terms, token, lane)
        day = Day(
            run=run,
            uid=user.uid,
            date=slot.recap_date,
            slot=slot.at,
            terms=terms,
            token=token,
            won=reply,
            closing=not resend and run.parts.rules.phase(slot.at, reply.now + run.offset) is not Phase.DUE,
            since=since,
            replaces=replaces,
            resend=resend,
            leave_place=leave_place,
        )
        if reply.answer is Answer.LATER:
            return LATER
        if reply.answer is Answer.WON:
            run.counts.claimed += 1
            return await isolated(day, recap_user(day, user, slot))
        return await isolated(day, not_won(day))
    except (ClaimsDown, ConfigFault) as trouble:
        run.stop_claiming(trouble)
    except KeyTrouble as trouble:
        run.defects += 1
        log.error("recap.trouble", uid=user.uid, reason=str(trouble))
    return Outcome(Ending.FAILED)


async def not_won(day: Day) -> Outcome:
    """What an answer other than a win asks for."""
    reply = day.won
    if reply.answer is Answer.DONE:
        if reply.final is not Stored.DEAD:
            return Outcome(Ending.DONE_BEFORE)
        return await day.close_dead("failures" if reply.failures >= day.terms.max_failures else "crashes", reply)
    return Outcome(Ending.HELD if reply.answer is Answer.HELD else Ending.WAITING, reply.wait, reply.reason)


async def isolated(day: Day, turn: Awaitable[Outcome]) -> Outcome:
    """One user's turn. Whatever it raises gives the claim back uncharged, with its reason, before it is told.

    Only a process that died may leave a claim to lapse: that is what a crash is, and four of them end the day.
    Here one user's trouble is kept from the others.
    """
    run = day.run
    try:
        return await turn
    except (ClaimsDown, KeyTrouble):  # the claim itself can't be told anything
        raise
    except ConfigFault as fault:
        await day.give_back("configuration")
        run.stop_claiming(fault)
        return Outcome(Ending.FAILED, reason="configuration")
    except (Malformed, ItemFault) as flaw:  # of an ItemFault: what ends a dead day can't be stored
        wait = await day.give_back("malformed")
        log.error("recap.trouble", **day.facts, reason=str(flaw))
    except Exception as defect:  # the one place that keeps one user's defect from the others
        wait = await day.give_back(f"defect_{type(defect).__name__}")
        log.exception("recap.defect", **day.facts)
    run.defects += 1
    return Outcome(Ending.FAILED, wait)


async def tick_user(
    claims: Claims, open_parts: OpenParts, uid: str, *, terminated: Termination, offset: timedelta = timedelta(0)
) -> Report:
    """This user only, without a shard: their latest slot, if it is still served. Respects the claim.

    Raises ConfigFault where there is no such user, or its document can't be served.
    """
    now = await claims.now() + offset
    async with open_parts() as parts:
        run = Run(parts, offset, terminated)
        listed = await parts.store.user(uid)
        if listed is None or listed.user is None:
            raise ConfigFault(listed.flaw if listed else f"users/{uid} does not exist; check the uid.")
        user = listed.user
        slot = latest_slot(user.zone, user.hour, now)
        if not user.enabled:
            run.counts.due = 1
            run.counts.add(Outcome(Ending.SKIPPED, reason="user_gone_or_off"))
        elif parts.rules.phase(slot.at, now) is Phase.OVER:
            log.info("user.not_due", uid=uid, last_slot=slot.at.isoformat())
        else:
            run.counts.due = 1
            run.counts.add(await claim_and_recap(run, user, slot, SINGLE_FILE_LANE))
            await run.pusher.delete_dead_tokens(parts.store)
        return report_of(run, now)
