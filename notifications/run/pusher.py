"""All open devices of one user in parallel, inside one push deadline (docs/protocol.md, section 5, step 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog

from notifications.domain.backoff import jittered
from notifications.domain.errors import ConfigFault, DependencyDown, StoreDown
from notifications.domain.model import Device
from notifications.domain.push import Message, PushAnswer, PushResult, Whose, deletions_allowed
from notifications.limits import Limits
from notifications.ports import Clock, Push, Store
from notifications.run.dependencies import Breaker
from notifications.run.outcome import Counts
from notifications.run.termination import Termination

log = structlog.get_logger()

TRIES = 3  # of one device, where the service says that it is worth it
MANY = 3  # devices over quota, of as many users and none accepted between: hardly each for itself
UNANSWERED_TIMES = 5  # each try without an answer waits so many times longer than the last: 1, 5, 25 min


@dataclass(slots=True)
class Pushed:
    """What came of it, device by device. UNSENT until the request is written; then UNKNOWN until it is answered."""

    results: dict[str, PushResult] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    retry_after: timedelta = timedelta(0)
    over_quota: dict[str, timedelta] = field(default_factory=dict)  # devices, each for itself, and their wait
    sent_nothing: bool = False
    defect: BaseException | None = None  # of ours, raised once everything is written down

    @property
    def reason(self) -> str:
        """The code of what keeps a device open; empty where nothing does."""
        open_ones = [
            (result is PushResult.REFUSED, device) for device, result in self.results.items() if not result.closes
        ]
        left = [device for _, device in sorted(open_ones)]  # what is refused for good says least of what comes next
        return next((self.codes[device] for device in left if device in self.codes), "push" if self.results else "")

    @property
    def refused(self) -> bool:
        """Whether all that is open was refused for good: only a person can change that."""
        left = {result for result in self.results.values() if not result.closes}
        return left == {PushResult.REFUSED}

    def wait(self, limits: Limits, tries: int, *, closing: bool) -> timedelta:
        """How long the open devices are left alone after that many tries."""
        asked = max(self.retry_after, limits.span("provider_retry"))
        if self.over_quota and not {one for one, result in self.results.items() if result.open} - set(self.over_quota):
            asked = max(asked, min(self.over_quota.values()))  # nobody else of this user waits for less
        if PushResult.UNKNOWN in self.results.values():
            times: int = UNANSWERED_TIMES ** (0 if closing else max(0, tries - 1))
            return max(asked, limits.span("push_retry") * times)
        return max(asked, limits.span("refused_retry")) if self.refused else asked


class Pusher:
    """What a run knows about pushing: its pause, the tokens that are dead, whether the service answers."""

    def __init__(
        self, push: Push, clock: Clock, limits: Limits, terminated: Termination, breaker: Breaker, counts: Counts
    ) -> None:
        self.breaker = breaker
        self.refusals: set[str] = set()  # the codes of devices that the service refuses for good
        self._push = push
        self._clock = clock
        self._limits = limits
        self._terminated = terminated
        self._counts = counts
        self._not_before = 0.0  # seconds of the clock
        self._dead: list[tuple[str, Device]] = []
        self._over_quota: set[str] = set()  # users, each with a device, since the last that was let through
        self._probing: asyncio.Task[PushAnswer] | None = None

    async def push(self, note: Message, devices: Sequence[Device], closed: Mapping[str, str], noted: float) -> Pushed:
        """Push to each device that the ledger has not closed. Never raises: what came of it must be written down.

        `noted` is the clock before the ledger was opened: where more than a push deadline has
        passed since, another sender may be at work, and nothing is sent.
        """
        targets = {device.id: device for device in devices if not any(one in closed for one in device.ids)}
        pushed = Pushed(dict.fromkeys(targets, PushResult.UNSENT))
        self._counts.devices += len(targets)
        deadline = self._limits.push_deadline_seconds
        if self._clock.seconds() - noted > deadline:
            pushed.sent_nothing = True
            return pushed
        until = self._clock.seconds() + deadline
        with suppress(TimeoutError):  # what has no answer yet stays UNKNOWN or UNSENT
            async with self._terminated.timeout(deadline, grace=self._limits.stop_push_seconds):
                pushing = (self._push_one(note, device, pushed, until) for device in targets.values())
                raised = await asyncio.gather(*pushing, return_exceptions=True)
                pushed.defect = next((one for one in raised if one is not None), None)
        if not self._terminated.is_set():
            self._tell_unanswered(pushed)
        pushed.sent_nothing = bool(targets) and set(pushed.results.values()) == {PushResult.UNSENT}
        return pushed

    def _tell_unanswered(self, pushed: Pushed) -> None:
        silent = [device for device in pushed.results if device not in pushed.codes]
        if silent and not pushed.retry_after:
            pushed.codes |= dict.fromkeys(silent, "no_answer")
            sentence = f"{self._push.where} did not answer within RECAP_PUSH_DEADLINE_SECONDS; check the network."
            self.breaker.failed(DependencyDown("push", sentence), counts=False)

    async def _push_one(self, note: Message, device: Device, pushed: Pushed, until: float) -> None:
        for attempt in range(1, TRIES + 1):
            pause = self._not_before - self._clock.seconds()
            if pause > 0 and not await self._rest(pause, until):
                pushed.retry_after = max(pushed.retry_after, timedelta(seconds=pause))
                return
            left = until - self._clock.seconds()
            if left <= 0:  # asked before every single push: a process may freeze at any await
                return
            answer = await self._send(note, device, pushed, timedelta(seconds=left))
            if answer is None:
                return
            if answer.pauses_pushing and attempt < TRIES:
                continue  # the pause above decides whether it fits
            backoff = jittered(
                timedelta(seconds=self._limits.push_deadline_seconds / 30 * 3 ** (attempt - 1)), 0.5, 1.5
            )
            wait = max(backoff, answer.retry_after or timedelta(0)).total_seconds()
            if not answer.retry_now or attempt == TRIES or not await self._rest(wait, until):
                return

    async def _send(self, note: Message, device: Device, pushed: Pushed, left: timedelta) -> PushAnswer | None:
        """One request; None where nothing can be sent to anybody. The answer is kept before anything is made of it."""

        def leaves() -> None:
            pushed.results[device.id] = PushResult.UNKNOWN
            self._counts.pushes += 1

        try:
            answer = await self._push.send(device, note, left, leaves)
        except DependencyDown as trouble:
            pushed.codes[device.id] = trouble.name
            self.breaker.failed(trouble, at_once=True)
            return None
        pushed.results[device.id] = answer.result
        pushed.codes[device.id] = answer.code
        answer = await self._whose(note.uid, device, answer)
        pushed.results[device.id] = answer.result
        self._heed(note, device, answer, pushed)
        return answer

    async def _whose(self, uid: str, device: Device, answer: PushAnswer) -> PushAnswer:
        """The answer, once it is known whom it is about: where it does not say, a message that reaches nobody tells."""
        if not answer.quota:
            if answer.result.definite and not answer.config:
                self._over_quota.clear()
        elif answer.whose is Whose.UNSAID:
            if not self._over_quota & {uid, device.id}:  # another user, and another device
                self._over_quota |= {uid, device.id}
            if len(self._over_quota) < 2 * MANY:
                return answer.devices_own
        if answer.whose is not Whose.UNSAID or not (answer.quota or answer.config):
            return answer
        probed = await self._probed()
        if probed.result is PushResult.ACCEPTED:
            self._over_quota.clear()
            return answer.devices_own
        if answer.config and not probed.config and probed.result is not PushResult.REFUSED:
            return replace(answer, config=False)  # it can't say now
        return replace(answer, whose=Whose.PROJECT, says=probed.says or answer.says)

    async def _probed(self) -> PushAnswer:
        """What the service says to a message that reaches nobody; those who ask at once share one answer."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._push.probe())
        return await asyncio.shield(self._probing)

    async def _rest(self, seconds: float, until: float) -> bool:
        if self._terminated.is_set() or self._clock.seconds() + seconds >= until:
            return False
        await asyncio.sleep(seconds)
        return True

    def _heed(self, note: Message, device: Device, answer: PushAnswer, pushed: Pushed) -> None:
        facts = {"uid": note.uid, "device": device.id, "code": answer.code}
        if answer.retry_after and answer.quota and answer.whose is Whose.DEVICE:
            pushed.over_quota[device.id] = answer.retry_after
        elif answer.retry_after:
            pushed.retry_after = max(pushed.retry_after, answer.retry_after)
        if answer.quota and answer.retry_after:
            if answer.pauses_pushing:
                self._not_before = max(self._not_before, self._clock.seconds() + answer.retry_after.total_seconds())
            wait = answer.retry_after.total_seconds()
            log.warning("push.quota", wait_seconds=wait, scope=answer.whose.value, **facts)
        if answer.result is PushResult.GONE:
            self._dead.append((note.uid, device))
        if answer.result is PushResult.REFUSED:
            self.refusals.add(answer.code)
        if answer.alerts:
            self._counts.pushes_refused += 1
            log.error("push.refused", **facts)
        if answer.config:
            says = answer.says or f"refuses our credentials ({answer.code})"
            self.breaker.failed(ConfigFault(f"{self._push.where} {says}."), at_once=True)
        elif answer.foreign:
            sentence = f"What answers is not {self._push.where}: {answer.code}; check the address and its proxies."
            self.breaker.failed(DependencyDown("push", sentence), counts=False)
        elif answer.result in (PushResult.UNKNOWN, PushResult.UNSENT):
            sentence = f"{self._push.where} does not answer ({answer.code}); check the address and the network."
            self.breaker.failed(DependencyDown("push", sentence), counts=False)
        else:
            self.breaker.answered()

    async def delete_dead_tokens(self, store: Store) -> None:
        """Delete dead tokens, in bounded time; those of more than a fifth of the devices are an error of ours."""
        allowed = deletions_allowed(self._counts.devices)
        if len(self._dead) > allowed:
            log.error("devices.deletions_stopped", dead=len(self._dead), allowed=allowed)
        with suppress(StoreDown, ConfigFault, TimeoutError):
            async with self._terminated.timeout(self._limits.store_timeout_seconds):
                for uid, device in self._dead[:allowed]:
                    self._counts.tokens_deleted += await store.forget_device(uid, device)
