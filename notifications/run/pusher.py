"""Push to all open devices of one user in parallel, within one deadline (docs/protocol.md, section 5, step 5)."""

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

TRIES = 3  # per device, if the service's answer invites a retry
MAX_USERS_OVER_QUOTA = 3  # in a row, one device each; then a probe tells whether the project's is used up
UNANSWERED_FACTOR = 5  # after each try without an answer the wait grows by this factor: 1, 5, 25 min


@dataclass(slots=True)
class Pushed:
    """What the service answered for each device: UNSENT until the request is written, UNKNOWN until it is answered."""

    results: dict[str, PushResult] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    retry_after: timedelta = timedelta(0)
    over_quota: dict[str, timedelta] = field(default_factory=dict)  # devices over their own quota, and their waits
    sent_nothing: bool = False
    defect: BaseException | None = None  # a bug of ours, raised once the results are stored

    @property
    def reason(self) -> str:
        """The code of an open device; `push` if none is open or none has a code; empty if there were no devices."""
        unclosed = [device for device, result in self.results.items() if not result.is_stored]
        # a refusal comes last: it says least about when to retry
        unclosed.sort(key=lambda device: (self.results[device] is PushResult.REFUSED, device))
        return next((self.codes[device] for device in unclosed if device in self.codes), "push" if self.results else "")

    def retry_delay(self, limits: Limits, tries: int, *, closing: bool) -> timedelta:
        """How long to wait before the open devices are tried again, after that many tries."""
        wait = max(self.retry_after, limits.duration("provider_retry"))
        retryable = {device for device, result in self.results.items() if result.is_retryable}
        if self.over_quota and retryable <= set(self.over_quota):
            wait = max(wait, min(self.over_quota.values()))  # each of them must wait for its own quota
        unclosed = {result for result in self.results.values() if not result.is_stored}
        if PushResult.UNKNOWN in unclosed:
            factor: int = UNANSWERED_FACTOR ** (0 if closing else max(0, tries - 1))
            return max(wait, limits.duration("push_retry") * factor)
        only_refused = unclosed == {PushResult.REFUSED}  # permanent: only a person can change that
        return max(wait, limits.duration("refused_retry")) if only_refused else wait


class Pusher:
    """Pushes for one run. Keeps the run's pause, the dead tokens, and whether the service answers."""

    def __init__(
        self, push: Push, *, clock: Clock, limits: Limits, terminated: Termination, breaker: Breaker, counts: Counts
    ) -> None:
        self.breaker = breaker
        self.refusals: set[str] = set()  # codes of permanent refusals
        self._push = push
        self._clock = clock
        self._limits = limits
        self._terminated = terminated
        self._counts = counts
        self._not_before = 0.0  # end of the pause, in seconds of the clock
        self._dead: list[tuple[str, Device]] = []
        self._over_quota: set[str] = set()  # uids and device ids over quota since the last accepted push
        self._probing: asyncio.Task[PushAnswer] | None = None

    async def push(
        self, message: Message, devices: Sequence[Device], closed: Mapping[str, str], started_at: float
    ) -> Pushed:
        """Push to each device that the ledger has not closed. Never raises: the results must be stored.

        `started_at`: the clock in seconds before the ledger was opened. If more than a push deadline has passed since,
        another run may be sending, and nothing is sent.
        """
        targets = {device.id: device for device in devices if not any(key in closed for key in device.ids)}
        pushed = Pushed(dict.fromkeys(targets, PushResult.UNSENT))
        self._counts.devices += len(targets)
        deadline = self._limits.push_deadline_seconds
        if self._clock.seconds() - started_at > deadline:
            pushed.sent_nothing = True
            return pushed
        until = self._clock.seconds() + deadline
        with suppress(TimeoutError):  # what has no answer yet stays UNKNOWN or UNSENT
            async with self._terminated.timeout(deadline, grace=self._limits.stop_push_seconds):
                pushing = (self._push_one(message, device, pushed, until) for device in targets.values())
                raised = await asyncio.gather(*pushing, return_exceptions=True)
                pushed.defect = next((defect for defect in raised if defect is not None), None)
        unanswered = [device for device in targets if device not in pushed.codes]
        if unanswered and not pushed.retry_after and not self._terminated.is_set():
            pushed.codes |= dict.fromkeys(unanswered, "no_answer")
            self._service_failed(
                f"{self._push.where} did not answer within RECAP_PUSH_DEADLINE_SECONDS; check the network."
            )
        pushed.sent_nothing = bool(targets) and set(pushed.results.values()) == {PushResult.UNSENT}
        return pushed

    def _service_failed(self, sentence: str) -> None:
        self.breaker.record_failure(DependencyDown("push", sentence), counts=False)

    async def _push_one(self, message: Message, device: Device, pushed: Pushed, until: float) -> None:
        for attempt in range(1, TRIES + 1):
            pause = self._not_before - self._clock.seconds()
            if pause > 0 and not await self._sleep_if_it_fits(pause, until):
                pushed.retry_after = max(pushed.retry_after, timedelta(seconds=pause))
                return
            remaining = until - self._clock.seconds()
            if remaining <= 0:  # checked before each push: the process may freeze at any await
                return
            answer = await self._send(message, device, pushed, timedelta(seconds=remaining))
            if answer is None:
                return
            if answer.must_pause and attempt < TRIES:
                continue  # the pause above decides whether it fits
            # 1 s, then 3 s, at the default deadline of 30 s
            backoff = timedelta(seconds=self._limits.push_deadline_seconds / 30 * 3 ** (attempt - 1))
            wait = max(jittered(backoff, 0.5, 1.5), answer.retry_after or timedelta(0)).total_seconds()
            if not answer.retry_now or attempt == TRIES or not await self._sleep_if_it_fits(wait, until):
                return

    async def _sleep_if_it_fits(self, seconds: float, until: float) -> bool:
        """Sleep, unless that would last beyond `until`. Returns whether it did."""
        if self._terminated.is_set() or self._clock.seconds() + seconds >= until:
            return False
        await asyncio.sleep(seconds)
        return True

    async def _send(self, message: Message, device: Device, pushed: Pushed, timeout: timedelta) -> PushAnswer | None:
        """Send one request; None if nothing can be sent to any device. Stores the answer before interpreting it."""

        def mark_sent() -> None:
            pushed.results[device.id] = PushResult.UNKNOWN
            self._counts.pushes += 1

        try:
            answer = await self._push.send(device, message, timeout, mark_sent)
        except DependencyDown as error:
            pushed.codes[device.id] = error.name
            self.breaker.record_failure(error, at_once=True)
            return None
        pushed.results[device.id], pushed.codes[device.id] = answer.result, answer.code
        answer = await self._attribute(message.uid, device, answer)
        pushed.results[device.id] = answer.result
        self._note_retry_after(message, device, answer, pushed)
        self._note_health(message, device, answer)
        return answer

    async def _attribute(self, uid: str, device: Device, answer: PushAnswer) -> PushAnswer:
        """Complete the answer with who is to blame. If it does not say, a probe that reaches no device decides."""
        if not answer.quota:
            if answer.result.is_definite and not answer.config:
                self._over_quota.clear()  # an answer that is not about quota: the project's is not used up
        elif answer.whose is Whose.UNSAID:
            if not self._over_quota & {uid, device.id}:  # count each user and each device once
                self._over_quota |= {uid, device.id}
            if len(self._over_quota) < 2 * MAX_USERS_OVER_QUOTA:
                return answer.for_device_only
        if answer.whose is not Whose.UNSAID or not (answer.quota or answer.config):
            return answer
        probed = await self._probe()
        if probed.result is PushResult.ACCEPTED:
            self._over_quota.clear()
            return answer.for_device_only
        if answer.config and not probed.config and probed.result is not PushResult.REFUSED:
            return replace(answer, config=False)  # the probe got no definite answer
        return replace(answer, whose=Whose.PROJECT, says=probed.says or answer.says)

    async def _probe(self) -> PushAnswer:
        """Send a message that reaches no device; concurrent callers share one answer."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._push.probe())
        return await asyncio.shield(self._probing)

    def _note_retry_after(self, message: Message, device: Device, answer: PushAnswer, pushed: Pushed) -> None:
        if not answer.retry_after:
            return
        if answer.quota and answer.whose is Whose.DEVICE:
            pushed.over_quota[device.id] = answer.retry_after
        else:
            pushed.retry_after = max(pushed.retry_after, answer.retry_after)
        if answer.quota:
            wait, scope = answer.retry_after.total_seconds(), answer.whose.value
            if answer.must_pause:
                self._not_before = max(self._not_before, self._clock.seconds() + wait)
            facts = {"uid": message.uid, "device": device.id, "code": answer.code}
            log.warning("push.quota", wait_seconds=wait, scope=scope, **facts)

    def _note_health(self, message: Message, device: Device, answer: PushAnswer) -> None:
        if answer.result is PushResult.GONE:
            self._dead.append((message.uid, device))
        if answer.result is PushResult.REFUSED:
            self.refusals.add(answer.code)
        if answer.needs_alert:
            self._counts.pushes_refused += 1
            facts = {"uid": message.uid, "device": device.id, "code": answer.code}
            log.error("push.refused", **facts)
        where = self._push.where
        if answer.config:
            says = answer.says or f"refuses our credentials ({answer.code})"
            self.breaker.record_failure(ConfigFault(f"{where} {says}."), at_once=True)
        elif answer.foreign:
            self._service_failed(f"What answers is not {where}: {answer.code}; check the address and its proxies.")
        elif answer.result in (PushResult.UNKNOWN, PushResult.UNSENT):
            self._service_failed(f"{where} does not answer ({answer.code}); check the address and the network.")
        else:
            self.breaker.record_success()

    async def delete_dead_tokens(self, store: Store) -> None:
        """Delete dead tokens, in bounded time; at most ten or a fifth of the devices, whichever is more.

        If more are dead, that is probably an error of ours.
        """
        allowed = deletions_allowed(self._counts.devices)
        if len(self._dead) > allowed:
            log.error("devices.deletions_stopped", dead=len(self._dead), allowed=allowed)
        with suppress(StoreDown, ConfigFault, TimeoutError):
            async with self._terminated.timeout(self._limits.store_timeout_seconds):
                for uid, device in self._dead[:allowed]:
                    self._counts.tokens_deleted += await store.forget_device(uid, device)
