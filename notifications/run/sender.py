"""One channel in one run: its breaker, its pause, whose fault a refusal is, and the tries within a push deadline."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from notifications.domain.backoff import jittered
from notifications.domain.errors import ConfigFault, DependencyDown, RecapError, StoreDown
from notifications.domain.model import OpenTarget
from notifications.domain.push import Message, PushAnswer, PushResult, Whose
from notifications.domain.target import MAX_WAIT, Target, TargetResult
from notifications.limits import Limits
from notifications.ports import Channel, Clock
from notifications.run.dependencies import Breaker
from notifications.run.outcome import Counts
from notifications.run.termination import Termination

log = structlog.get_logger()

TRIES = 3  # per target and pass, if the service's answer invites a retry
MAX_USERS_OVER_QUOTA = 3  # in a row, one device each; then a probe tells whether the project's is used up
UNANSWERED_FACTOR = 5  # after each try without an answer the wait grows by this factor: 1, 5 min


@dataclass(frozen=True, slots=True)
class Shared:
    """What the senders of one run share."""

    clock: Clock
    limits: Limits
    terminated: Termination
    counts: Counts


@dataclass(slots=True)
class Attempt:
    """One target in one pass: UNSENT until the request is written, UNKNOWN until it is answered."""

    target: Target
    before: OpenTarget
    not_due_for: timedelta = timedelta(0)  # left alone in this pass
    result: PushResult = PushResult.UNSENT
    code: str = ""
    retry_after: timedelta = timedelta(0)

    def wait(self, limits: Limits, *, closing: bool) -> timedelta:
        """How long until the target is tried again, unless it has ended."""
        if self.not_due_for:
            return self.not_due_for
        wait = max(min(self.retry_after, MAX_WAIT), limits.duration("provider_retry"))
        if self.result is PushResult.UNKNOWN:
            factor: int = UNANSWERED_FACTOR ** (0 if closing else self.before.tries)
            return max(wait, limits.duration("push_retry") * factor)
        # permanent: only a person can change that
        return max(wait, limits.duration("refused_retry")) if self.result is PushResult.REFUSED else wait

    def outcome(self, due: datetime, *, has_reached_peer: bool) -> TargetResult:
        return TargetResult(self.result, self.code or self.before.code, due, has_reached_peer)


class ChannelSender:
    """Sends by one channel. `stopped_by`: why nothing more is sent by it in this run; None while something is."""

    def __init__(self, channel: Channel, shared: Shared, on_stop: Callable[[RecapError], None]) -> None:
        self.channel = channel
        self.breaker = Breaker(self._stop)
        self.stopped_by: RecapError | None = None
        self.refusals: set[str] = set()  # codes of permanent refusals
        self._shared = shared
        self._on_stop = on_stop
        self._not_before = 0.0  # end of the pause, in seconds of the clock
        self._over_quota: set[str] = set()  # uids and targets over quota since the last accepted push
        self._probing: asyncio.Task[PushAnswer] | None = None

    def _stop(self, cause: RecapError) -> None:
        if self.stopped_by is None:
            self.stopped_by = cause
            self._on_stop(cause)

    async def try_target(self, message: Message, attempt: Attempt, until: float) -> None:
        """Send to one target, again if its answer invites that and it fits before `until`."""
        for number in range(1, TRIES + 1):
            pause = self._not_before - self._shared.clock.seconds()
            if pause > 0 and not await self._sleep_if_it_fits(pause, until):
                attempt.retry_after = max(attempt.retry_after, timedelta(seconds=pause))
                return
            if self.stopped_by is not None:
                attempt.code = attempt.code or getattr(self.stopped_by, "name", "push")  # as the one that stopped it
                return
            remaining = until - self._shared.clock.seconds()
            if remaining <= 0:  # checked before each try: the process may freeze at any await
                return
            answer = await self._send(message, attempt, timedelta(seconds=remaining))
            if answer is None:
                return
            if answer.must_pause and number < TRIES:
                continue  # the pause above decides whether it fits
            # 1 s, then 3 s, at the default deadline of 30 s
            backoff = timedelta(seconds=self._shared.limits.push_deadline_seconds / 30 * 3 ** (number - 1))
            wait = max(jittered(backoff, 0.5, 1.5), answer.retry_after or timedelta(0)).total_seconds()
            if not answer.retry_now or number == TRIES or not await self._sleep_if_it_fits(wait, until):
                return

    def count(self, attempt: Attempt) -> None:
        """Count what came of a target, at the end of its pass."""
        if not attempt.not_due_for:
            self._shared.counts.by_channel.setdefault(self.channel.name, Counter())[attempt.result] += 1

    def note_no_answer(self, attempt: Attempt) -> None:
        """The push deadline passed before an answer came."""
        attempt.code = "no_answer"
        if not attempt.target.is_users_own:
            self._failed(f"{self.channel.where} did not answer within RECAP_PUSH_DEADLINE_SECONDS; check the network.")

    def _failed(self, sentence: str) -> None:
        self.breaker.record_failure(DependencyDown("push", sentence), counts=False)

    async def _sleep_if_it_fits(self, seconds: float, until: float) -> bool:
        """Sleep, unless that would last beyond `until`. Returns whether it did."""
        if self._shared.terminated.is_set() or self._shared.clock.seconds() + seconds >= until:
            return False
        await asyncio.sleep(seconds)
        return True

    async def _send(self, message: Message, attempt: Attempt, timeout: timedelta) -> PushAnswer | None:
        """Send one request; None if nothing can be sent to any target. Stores the answer before interpreting it."""

        def mark_sent() -> None:
            attempt.result = PushResult.UNKNOWN
            self._shared.counts.requests[self.channel.name] += 1

        try:
            answer = await self.channel.send(attempt.target, message, timeout, mark_sent)
        except DependencyDown as error:
            attempt.code = error.name
            self.breaker.record_failure(error, at_once=True)
            return None
        except StoreDown as error:  # the text could not be read; nothing was sent
            attempt.code = f"store_{error.name}"
            return None
        attempt.result, attempt.code = answer.result, answer.code
        answer = await self._attribute(message.uid, attempt.target, answer)
        attempt.result = answer.result
        self._note_retry_after(message, attempt, answer)
        self._note_health(message, attempt.target, answer)
        return answer

    async def _attribute(self, uid: str, target: Target, answer: PushAnswer) -> PushAnswer:
        """Complete the answer with who is to blame. If it does not say, a probe that reaches nobody decides."""
        if not answer.quota:
            if answer.result.is_definite and not answer.config:
                self._over_quota.clear()  # an answer that is not about quota: the project's is not used up
        elif answer.whose is Whose.UNSAID:
            if not self._over_quota & {uid, target.id}:  # count each user and each device once
                self._over_quota |= {uid, target.id}
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
        """Send a message that reaches nobody; concurrent callers share one answer."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self.channel.probe())
        return await asyncio.shield(self._probing)

    def _note_retry_after(self, message: Message, attempt: Attempt, answer: PushAnswer) -> None:
        if not answer.retry_after:
            return
        attempt.retry_after = max(attempt.retry_after, answer.retry_after)
        if answer.quota:
            wait, scope = answer.retry_after.total_seconds(), answer.whose.value
            if answer.must_pause:
                self._not_before = max(self._not_before, self._shared.clock.seconds() + wait)
            facts = self._facts(message, attempt.target, answer)
            log.warning("push.quota", wait_seconds=wait, scope=scope, **facts)

    def _note_health(self, message: Message, target: Target, answer: PushAnswer) -> None:
        if answer.result is PushResult.REFUSED:
            self.refusals.add(answer.code)
        if target.is_users_own:
            return
        if answer.needs_alert and self.channel.alerts:
            self._shared.counts.pushes_refused += 1
            facts = self._facts(message, target, answer)
            log.error("push.refused", **facts)
        trouble = answer.trouble(self.channel.where)
        if answer.config:
            self.breaker.record_failure(ConfigFault(trouble, answer.code), at_once=True)
        elif trouble:  # a channel that never says anything else is down: exit 4
            self._failed(trouble)
        else:
            self.breaker.record_success()

    def _facts(self, message: Message, target: Target, answer: PushAnswer) -> dict[str, str]:
        return {"uid": message.uid, "channel": self.channel.name, "target": target.id, "code": answer.code}
