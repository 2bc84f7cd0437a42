"""One user, from a won claim to delivered: PROTOCOL section 5, top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from notifications.domain.delivery import Kind, Verdict
from notifications.domain.delivery_report import message
from notifications.domain.errors import ItemFault, ProviderFault, StoreDown
from notifications.domain.model import Device, Ledger, Recap, State, Window
from notifications.domain.recap import Material, compose, material
from notifications.domain.schedule import ONE_DAY, window
from notifications.push_devices import Pushed, push_devices
from notifications.run import Run
from notifications.settle import Claimed, Outcome, conclude, fail, fail_item, release
from notifications.waits import jittered

log = structlog.get_logger()

STORE_TRIES = 3  # in begin, take and report: again with the same `by` and `seq`
LLM_SHARE = 0.95  # of what is left of the user's deadline; the rest is for reading the devices


@dataclass(frozen=True, slots=True)
class Ready:
    """Up to the fence: the devices, and the recap to begin with; None takes over an open ledger."""

    devices: list[Device]
    recap: Recap | None
    covered: Window | None = None


async def recap_user(run: Run, claimed: Claimed) -> Outcome:
    """Carry one user to the end of the day. Raises ClaimsDown where Redis fails meanwhile."""
    try:
        async with run.terminated.timeout(run.parts.numbers.user_deadline_seconds):
            ready = await _make_ready(run, claimed)
        if isinstance(ready, Verdict):
            return await conclude(run, claimed, ready)
    except ItemFault as fault:
        return await fail_item(run, claimed, fault)
    except ProviderFault as fault:
        run.provider_failed(fault)
        return await fail(run, claimed, f"provider_{fault.name}", fault.retry_after)
    except StoreDown as failure:
        run.store_failed(failure)
        return await fail(run, claimed, failure.name)
    except TimeoutError:  # SIGTERM, or the store: the summarizer keeps its own share of the deadline
        if run.terminated.is_set():
            return await release(run, claimed)
        run.store_failed(StoreDown("store", "The store took a user's whole deadline (RECAP_USER_DEADLINE_SECONDS)."))
        return await fail(run, claimed, "user_deadline")
    try:
        return await _deliver(run, claimed, ready)
    except StoreDown as failure:
        run.store_failed(failure)
        return await fail(run, claimed, failure.name)


async def _make_ready(run: Run, claimed: Claimed) -> Ready | Verdict:
    """Steps 1 to 3, and the devices of step 4: all that may be cancelled and done again."""
    store, uid, day = run.parts.store, claimed.user.uid, claimed.slot.recap_date
    ledgers = await store.around(uid, day - 3 * ONE_DAY, day + 2 * ONE_DAY)
    run.store_answered()
    today = ledgers.pop(day, None)
    if today is not None and today.state.final and not _may_replace(claimed, today):
        return Verdict(Kind.FINAL, today)
    if today is not None and not today.state.final:
        return Ready(await store.devices(uid), None)
    if today is None and (summary := await store.summary(uid, day)):
        return await _or_take(run, claimed, await store.legacy(claimed.opening(), summary))
    covered = window(claimed.slot, (entry.window_end for entry in ledgers.values() if entry.window_end))
    found = await _read(run, claimed, covered)
    if found is None:
        return await _close(run, claimed, covered, State.SKIPPED, "no_content")
    if claimed.closing:
        return await _close(run, claimed, None, State.MISSED, "closed")
    draft = await run.parts.summarizer.summarize(found, _left_of_deadline(run, claimed))
    run.provider_answered("llm")
    await run.pace.heed(run.parts.summarizer)
    return Ready(await store.devices(uid), compose(found, draft, _now(run, claimed)), covered)


def _may_replace(claimed: Claimed, today: Ledger) -> bool:
    return claimed.resend and claimed.replaces is not None and claimed.replaces.seq == today.seq


async def _read(run: Run, claimed: Claimed, covered: Window) -> Material | None:
    if covered.empty:
        return None
    conversations, malformed = await run.parts.store.between(claimed.user.uid, covered)
    if malformed:
        run.counts.malformed += malformed
        log.warning("conversations.malformed", uid=claimed.user.uid, count=malformed)
    return material(claimed.slot.recap_date, conversations, claimed.user.language)


async def _close(run: Run, claimed: Claimed, covered: Window | None, state: State, outcome: str) -> Ready | Verdict:
    if claimed.resend and claimed.replaces is not None:
        return Verdict(Kind.FINAL, claimed.replaces)  # still nothing to say: the ledger stands as it is
    return await _or_take(run, claimed, await run.parts.store.close(claimed.opening(covered), state, outcome))


async def _or_take(run: Run, claimed: Claimed, verdict: Verdict) -> Ready | Verdict:
    if verdict.kind is Kind.TAKE:
        return Ready(await run.parts.store.devices(claimed.user.uid), None)
    return verdict


async def _deliver(run: Run, claimed: Claimed, ready: Ready) -> Outcome:
    """Steps 4 to 7, from the fence on: never cancelled. `noted` comes before begin, so that a
    process that froze in between finds its time is up and pushes nothing."""
    noted = run.parts.clock.seconds()
    opened = await _surely(run, lambda: _begin_or_take(run, claimed, ready))
    if opened.kind is not Kind.PUSH or opened.entry is None:
        return await conclude(run, claimed, opened)
    note = message(claimed.user.uid, opened.entry)
    pushed = await push_devices(run, note, ready.devices, opened.entry.devices, noted)
    reported = await _surely(run, lambda: _report(run, claimed, opened, pushed))
    return await conclude(run, claimed, reported, _push_wait(run, pushed))


async def _begin_or_take(run: Run, claimed: Claimed, ready: Ready) -> Verdict:
    store, uid, day = run.parts.store, claimed.user.uid, claimed.slot.recap_date
    if ready.recap is None:
        return await store.take(uid, day, claimed.token)
    opening = claimed.opening(ready.covered)
    return await store.begin(opening, ready.recap, has_devices=bool(ready.devices), replaces=claimed.replaces)


async def _report(run: Run, claimed: Claimed, opened: Verdict, pushed: Pushed) -> Verdict:
    assert opened.entry is not None  # noqa: S101 - _deliver saw to it
    numbers = run.parts.numbers
    last_seen = claimed.slot.at + numbers.span("catch_up") + numbers.span("grace")
    next_pass = _now(run, claimed) + _push_wait(run, pushed) + numbers.span("shard_retry_max")
    return await run.parts.store.report(
        claimed.user.uid,
        claimed.slot.recap_date,
        claimed.token,
        opened.entry.seq,
        pushed.results,
        sent_nothing=pushed.sent_nothing,
        last_chance=claimed.closing and next_pass > last_seen,
    )


async def _surely(run: Run, transaction: Callable[[], Awaitable[Verdict]]) -> Verdict:
    """The transaction, again where it may or may not have happened: `by` and `seq` make it one."""
    whole = run.parts.numbers.store_timeout_seconds
    try:
        async with asyncio.timeout(whole):
            for tries_left in reversed(range(STORE_TRIES)):
                try:
                    verdict = await transaction()
                except StoreDown:
                    if not tries_left:
                        raise
                    await asyncio.sleep(jittered(timedelta(seconds=whole / 60), 0.5, 1.5).total_seconds())
                else:
                    run.store_answered()
                    return verdict
    except TimeoutError:
        pass
    raise StoreDown("store", f"The store took over {whole:g} s for one user (RECAP_STORE_TIMEOUT_SECONDS).")


def _push_wait(run: Run, pushed: Pushed) -> timedelta:
    return max(pushed.retry_after, run.parts.numbers.span("provider_retry"))


def _left_of_deadline(run: Run, claimed: Claimed) -> timedelta:
    used = timedelta(seconds=run.parts.clock.seconds() - claimed.since)
    return max(timedelta(0), run.parts.numbers.span("user_deadline") - used) * LLM_SHARE


def _now(run: Run, claimed: Claimed) -> datetime:
    return claimed.now + timedelta(seconds=run.parts.clock.seconds() - claimed.since)
