"""All open devices of one user in parallel, inside one push deadline (PROTOCOL section 5, step 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from notifications.domain.errors import DependencyDown, ProviderFault, StoreDown
from notifications.domain.model import Device
from notifications.domain.push import Answer, Message, Result, deletions_allowed
from notifications.run import Run
from notifications.waits import jittered

log = structlog.get_logger()

TRIES = 3  # of one device, where the service says that it is worth it


@dataclass(slots=True)
class Pushed:
    """What came of it, device by device. UNKNOWN until an answer is in: it may have been accepted."""

    results: dict[str, Result] = field(default_factory=dict)
    retry_after: timedelta = timedelta(0)
    sent_nothing: bool = False


async def push_devices(
    run: Run, note: Message, devices: Sequence[Device], closed: Mapping[str, str], noted: float
) -> Pushed:
    """Push to each device that the ledger has not closed. Never raises for an answer.

    `noted` is the clock before the ledger was opened: where more than a push deadline has
    passed since, another sender may be at work, and nothing is sent.
    """
    pushed = Pushed()
    targets = {device.id: device for device in devices if device.id not in closed}
    pushed.results = dict.fromkeys(targets, Result.UNSENT)
    run.counts.devices += len(targets)
    deadline = run.parts.numbers.push_deadline_seconds
    if run.parts.clock.seconds() - noted > deadline:
        pushed.sent_nothing = True
        return pushed
    until = run.parts.clock.seconds() + deadline
    with suppress(TimeoutError):  # what has no answer yet stays UNKNOWN or UNSENT
        async with (
            run.terminated.timeout(deadline, grace=run.parts.numbers.stop_push_seconds),
            asyncio.TaskGroup() as pushing,
        ):
            for device in targets.values():
                pushing.create_task(_push_one(run, note, device, pushed, until))
    pushed.sent_nothing = bool(targets) and set(pushed.results.values()) == {Result.UNSENT}
    return pushed


async def _push_one(run: Run, note: Message, device: Device, pushed: Pushed, until: float) -> None:
    clock = run.parts.clock
    margin = run.parts.numbers.push_deadline_seconds / 6  # a push that left too late would be one without an answer
    for attempt in range(1, TRIES + 1):
        place, in_time = run.pace.push_wait(until - margin - clock.seconds())
        if not in_time or (place > 0 and not await _rest(run, place, until - margin)):
            pushed.retry_after = max(pushed.retry_after, timedelta(seconds=place))
            return
        pause = run.push_not_before - clock.seconds()
        if pause > 0 and not await _rest(run, pause, until):
            pushed.retry_after = max(pushed.retry_after, timedelta(seconds=pause))
            return
        left = until - clock.seconds()
        if left <= 0:  # asked before every single push: a process may freeze at any await
            return
        pushed.results[device.id] = Result.UNKNOWN
        run.counts.pushes += 1
        try:
            answer = await run.parts.push.send(device.token, note, timedelta(seconds=left))
        except DependencyDown as trouble:
            pushed.results[device.id] = Result.UNSENT
            run.stop_claiming(trouble)
            return
        pushed.results[device.id] = answer.result
        _heed(run, note, device, answer, pushed)
        if answer.slow_run and attempt < TRIES:
            continue  # the pause above decides whether it fits
        backoff = jittered(
            timedelta(seconds=run.parts.numbers.push_deadline_seconds / 30 * 3 ** (attempt - 1)), 0.5, 1.5
        )
        wait = max(backoff, answer.retry_after or timedelta(0)).total_seconds()
        if not answer.retry_now or attempt == TRIES or not await _rest(run, wait, until):
            return


async def _rest(run: Run, seconds: float, until: float) -> bool:
    """Sleep, if that leaves time to push before the deadline."""
    if run.terminated.is_set() or run.parts.clock.seconds() + seconds >= until:
        return False
    await asyncio.sleep(seconds)
    return True


def _heed(run: Run, note: Message, device: Device, answer: Answer, pushed: Pushed) -> None:
    """What an answer means beyond its device: for the run, for the token, for on-call."""
    facts = {"uid": note.uid, "device": device.id, "code": answer.code}
    if answer.retry_after:
        pushed.retry_after = max(pushed.retry_after, answer.retry_after)
    if answer.slow_run and answer.retry_after:
        run.push_not_before = max(run.push_not_before, run.parts.clock.seconds() + answer.retry_after.total_seconds())
        log.warning("push.quota", wait_seconds=answer.retry_after.total_seconds(), **facts)
    if answer.result is Result.GONE:
        run.dead_tokens.append((note.uid, device))
    if answer.shout:
        log.error("push.refused", **facts)
    if answer.config:
        run.provider_failed(ProviderFault(f"FCM refuses our credentials ({answer.code}).", name="fcm", config=True))
    elif answer.result in (Result.UNKNOWN, Result.UNSENT):
        run.push_unreachable(answer.code)
    else:
        run.provider_answered("fcm")


async def delete_dead_tokens(run: Run) -> None:
    """Delete the tokens that FCM no longer knows; past a fifth of the run's devices it is our error."""
    allowed = deletions_allowed(run.counts.devices)
    if len(run.dead_tokens) > allowed:
        log.error("devices.deletions_stopped", dead=len(run.dead_tokens), allowed=allowed)
    for uid, device in run.dead_tokens[:allowed]:
        with suppress(StoreDown):  # the next push finds it dead again
            run.counts.tokens_deleted += await run.parts.store.forget_device(uid, device)
