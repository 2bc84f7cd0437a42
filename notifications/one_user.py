"""One user of a run: claim, and what the claim's answer asks for; and a run for one user alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import structlog

from notifications.domain.claim import SINGLE_FILE_LANE, Answer, Stored, new_token
from notifications.domain.errors import ClaimsDown, ConfigFault, StoreDown
from notifications.domain.model import Ledger, User
from notifications.domain.schedule import Phase, Slot, latest_slot
from notifications.ports import Claims
from notifications.push_devices import delete_dead_tokens
from notifications.recap_user import recap_user
from notifications.report import Report, report_of
from notifications.run import Parts, Run
from notifications.settle import Claimed, Outcome, close_dead
from notifications.termination import Termination

log = structlog.get_logger()

LATER = Outcome(False, "later")
STOPPED = Outcome(False, "stopped")
ERROR = Outcome(False, "error")


OpenParts = Callable[[], AbstractAsyncContextManager[Parts]]


async def claim_and_recap(
    run: Run, user: User, slot: Slot, lane: int, *, replaces: Ledger | None = None, resend: bool = False
) -> Outcome:
    """One claim in one lane, and what its answer asks for."""
    if run.stops:
        return STOPPED
    terms, token = run.user_terms(user.uid, slot), new_token()
    reply = await run.parts.claims.claim(terms, token, lane)
    now = reply.now + run.offset
    claimed = Claimed(
        user=user,
        slot=slot,
        terms=terms,
        token=token,
        won=reply,
        closing=not resend and run.parts.rules.phase(slot.at, now) is not Phase.DUE,
        now=now,
        since=run.parts.clock.seconds(),
        replaces=replaces,
        resend=resend,
    )
    match reply.answer:
        case Answer.WON:
            run.counts.claimed += 1
            return await recap_user(run, claimed)
        case Answer.DONE if reply.final is Stored.DEAD:
            outcome = "failures" if reply.failures >= terms.max_failures else "crashes"
            return await close_dead(run, claimed, outcome, reply)
        case Answer.DONE:
            run.counts.done_before += 1
            return Outcome(True, str(reply.final))
        case Answer.LATER:
            return LATER
        case Answer.HELD:
            run.counts.held += 1
            return Outcome(False, "held", reply.wait)
        case _:
            run.counts.waiting += 1
            return Outcome(False, "waiting", reply.wait)


async def tick_user(
    claims: Claims, open_parts: OpenParts, uid: str, *, terminated: Termination, offset: timedelta = timedelta(0)
) -> Report:
    """This user only, without a shard: their latest slot, if it is still served. Respects the claim.

    Raises ConfigFault where there is no such user, or its document can't be served.
    """
    now = await claims.now() + offset
    async with open_parts() as parts:
        run = Run(parts, offset, terminated)
        user = await parts.store.user(uid)
        if user is None:
            raise ConfigFault(f"users/{uid} does not exist, or lacks a zone or an hour; `doctor` says which.")
        slot = latest_slot(user.zone, user.hour, now)
        run.counts.due = 1
        if not user.enabled:
            run.counts.skipped["nobody"] += 1
        elif parts.rules.phase(slot.at, now) is Phase.OVER:
            log.info("user.not_due", uid=uid, last_slot=slot.at.isoformat())
            run.counts.due = 0
        else:
            try:
                await claim_and_recap(run, user, slot, SINGLE_FILE_LANE)
            except (ClaimsDown, StoreDown) as trouble:
                run.stop_claiming(trouble)
            await delete_dead_tokens(run)
        return report_of(run, now)
