"""One user, from a won claim to delivered: PROTOCOL section 5, top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from notifications.domain.delivery import Kind, Verdict
from notifications.domain.delivery_report import message
from notifications.domain.errors import ItemFault, Malformed, ProviderFault, StoreDown
from notifications.domain.model import Device, Ledger, Recap, State, User, Window
from notifications.domain.recap import Material, compose, material
from notifications.domain.schedule import ONE_DAY, Slot, window
from notifications.domain.waits import jittered
from notifications.run.day import Day
from notifications.run.push import Pushed
from notifications.run.state import Outcome

log = structlog.get_logger()

FIRST_PAUSE, LONGEST_PAUSE = 1 / 120, 1 / 7.5  # of the store's time-out, between tries of one transaction
LLM_SHARE = 0.95  # of what is left of the user's deadline; the rest is for reading the devices
BEGIN_GRACE, REPORT_GRACE = 0.4, 0.88  # of the platform's last seconds; pushes end between the two


@dataclass(frozen=True, slots=True)
class Ready:
    """Up to the fence: the devices, and the recap to begin with; None takes over an open ledger."""

    devices: list[Device]
    recap: Recap | None
    covered: Window | None = None


async def recap_user(day: Day, user: User, slot: Slot) -> Outcome:
    """Carry one user to the end of the day. Raises ClaimsDown where Redis fails meanwhile."""
    run = day.run
    try:
        async with run.terminated.timeout(run.parts.numbers.user_deadline_seconds):
            ready = await _make_ready(day, user, slot)
    except ItemFault as fault:
        return await day.fail_item(fault)
    except ProviderFault as fault:
        run.provider_failed(fault)
        return await day.fail(f"provider_{fault.name}", fault.retry_after)
    except StoreDown as failure:
        return await day.fail(f"store_{failure.name}")
    except TimeoutError:  # SIGTERM, or the store: the summarizer keeps its own share of the deadline
        if run.terminated.is_set():
            return await day.release("stopped")
        run.reads.failed(StoreDown("store", "The store took a user's whole deadline (RECAP_USER_DEADLINE_SECONDS)."))
        return await day.fail("user_deadline")
    if isinstance(ready, Verdict):
        return await day.conclude(ready)
    return await deliver(day, ready.devices, lambda: _begin_or_take(day, ready))


async def _make_ready(day: Day, user: User, slot: Slot) -> Ready | Verdict:
    """Steps 1 to 3, and the devices of step 4: all that may be cancelled and done again."""
    run, store = day.run, day.run.parts.store
    ledgers = await run.reads.watch(store.around(day.uid, day.date - 3 * ONE_DAY, day.date + 2 * ONE_DAY))
    today = ledgers.pop(day.date, None)
    if today is not None and today.state is State.UNREADABLE:
        raise Malformed(f"users/{day.uid}/recap_deliveries/{day.date} is none that this version knows; see `inspect`.")
    if today is not None and today.state.final and not _may_replace(day, today):
        return Verdict(Kind.FINAL, today)
    if today is not None and not today.state.final:
        return Ready(await read_devices(day), None)
    if today is None and (summary := await run.reads.watch(store.summary(day.uid, day.date))):
        return await _or_take(day, await run.writes.watch(store.legacy(day.opening(), summary)))
    covered = window(slot, ledgers)
    found = await _read(day, user, covered)
    if found is None:
        return await _close(day, covered, State.SKIPPED, "no_content")
    if day.closing:
        return await _close(day, None, State.MISSED, "closed")
    draft = await run.parts.summarizer.summarize(found, _left_of_deadline(day))
    run.llm.answered()
    run.useless_answers.answered_well()
    await run.pace.heed(run.parts.summarizer)
    return Ready(await read_devices(day), compose(found, draft, day.now), covered)


def _may_replace(day: Day, today: Ledger) -> bool:
    return day.resend and day.replaces is not None and day.replaces.seq == today.seq


async def _read(day: Day, user: User, covered: Window) -> Material | None:
    if covered.empty:
        return None
    conversations, malformed = await day.run.reads.watch(day.run.parts.store.between(day.uid, covered))
    _tell_malformed(day, "conversations", malformed)
    return material(day.date, conversations, user.language)


async def read_devices(day: Day) -> list[Device]:
    """The user's devices; those that can't be read are counted."""
    devices, malformed = await day.run.reads.watch(day.run.parts.store.devices(day.uid))
    _tell_malformed(day, "devices", malformed)
    return devices


def _tell_malformed(day: Day, what: str, count: int) -> None:
    if count:
        day.run.counts.malformed += count
        log.warning(f"{what}.malformed", uid=day.uid, count=count)


async def _close(day: Day, covered: Window | None, state: State, outcome: str) -> Ready | Verdict:
    if day.resend and day.replaces is not None:
        return Verdict(Kind.FINAL, day.replaces)  # still nothing to say: the ledger stands as it is
    closing = day.run.parts.store.close(day.opening(covered), state, outcome)
    return await _or_take(day, await day.run.writes.watch(closing))


async def _or_take(day: Day, verdict: Verdict) -> Ready | Verdict:
    return Ready(await read_devices(day), None) if verdict.kind is Kind.TAKE else verdict


async def deliver(day: Day, devices: list[Device], open_ledger: Callable[[], Awaitable[Verdict]]) -> Outcome:
    """Steps 4 to 7, from the fence on: never cancelled. `noted` comes before begin, so that a
    process that froze in between finds its time is up and pushes nothing."""
    noted = day.run.parts.clock.seconds()
    try:
        opened = await _surely(day, open_ledger, BEGIN_GRACE)
        if opened.kind is not Kind.PUSH or opened.entry is None:
            return await day.conclude(opened)
        note = message(day.uid, opened.entry, day.now)
        pushed = await day.run.pusher.push(note, devices, opened.entry.devices, noted)
        wait = pushed.wait(day.run.parts.numbers, opened.entry.tries, closing=day.closing)
        reported = await _surely(day, lambda: _report(day, opened, pushed, wait), REPORT_GRACE)
    except StoreDown as failure:
        return await day.fail(f"store_{failure.name}")
    except ItemFault as fault:
        return await day.fail_item(fault)
    outcome = await day.conclude(reported, wait, pushed.reason)
    if pushed.defect is not None:
        raise pushed.defect
    return outcome


async def _begin_or_take(day: Day, ready: Ready) -> Verdict:
    store = day.run.parts.store
    if ready.recap is None:
        return await store.take(day.uid, day.date, day.token)
    opening = day.opening(ready.covered)
    return await store.begin(opening, ready.recap, has_devices=bool(ready.devices), replaces=day.replaces)


async def _report(day: Day, opened: Verdict, pushed: Pushed, wait: timedelta) -> Verdict:
    assert opened.entry is not None  # noqa: S101 - deliver saw to it
    numbers = day.run.parts.numbers
    last_seen = day.slot + numbers.span("catch_up") + numbers.span("grace")
    next_pass = day.now + wait + numbers.span("shard_retry_max")
    return await day.run.parts.store.report(
        day.uid,
        day.date,
        day.token,
        opened.entry.seq,
        pushed.results,
        sent_nothing=pushed.sent_nothing,
        last_chance=day.closing and next_pass > last_seen,
        reason=pushed.reason,
    )


async def _surely(day: Day, transaction: Callable[[], Awaitable[Verdict]], grace: float) -> Verdict:
    """The transaction, again until the store's time-out where it may or may not have happened: `by` and `seq` make
    it one. Each failure counts for the run: a store that takes no writes stops the claiming soon."""
    run, numbers = day.run, day.run.parts.numbers
    whole = numbers.store_timeout_seconds
    pause = whole * FIRST_PAUSE
    try:
        async with run.terminated.timeout(whole, grace=numbers.stop_seconds * grace):
            while True:
                try:
                    return await run.writes.watch(transaction())
                except StoreDown:
                    await asyncio.sleep(jittered(timedelta(seconds=pause), 0.5, 1.5).total_seconds())
                    pause = min(2 * pause, whole * LONGEST_PAUSE)
    except TimeoutError:
        pass
    down = run.writes.down
    if down is not None:
        raise StoreDown("writes", str(down))
    failure = StoreDown("writes", f"The store took over {whole:g} s for one user (RECAP_STORE_TIMEOUT_SECONDS).")
    run.writes.failed(failure)
    raise failure


def _left_of_deadline(day: Day) -> timedelta:
    return max(timedelta(0), day.run.parts.numbers.span("user_deadline") - day.used) * LLM_SHARE
