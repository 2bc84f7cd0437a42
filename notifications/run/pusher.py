"""Deliver to all open targets of one user in parallel, within one deadline (docs/protocol.md, section 5, step 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from notifications.domain.claim import reason_code
from notifications.domain.errors import ConfigFault, RecapError, StoreDown
from notifications.domain.model import Device, Ledger
from notifications.domain.push import Message, PushResult, deletions_allowed
from notifications.domain.target import Recipient, Target, TargetResult, kept, still_open, time_until_due
from notifications.limits import Limits
from notifications.ports import Channel, Store
from notifications.run.sender import Attempt, ChannelSender, Shared

log = structlog.get_logger()


@dataclass(slots=True)
class Pushed:
    """What came of one pass over a user's open targets."""

    attempts: list[Attempt] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)  # channels with a target that has the recap
    sent_nothing: bool = False  # it was too late to send
    defect: BaseException | None = None  # a bug of ours in one target's try, told once the results are stored

    @property
    def reason(self) -> str:
        """The code of an open target; `push` if none is open or none has a code; empty if there were no targets.

        `user_deadline`: the store took so long to open the ledger that it was too late to send.
        """
        if self.sent_nothing and self.attempts:
            return "user_deadline"
        unclosed = [attempt for attempt in self.attempts if not attempt.result.is_stored]
        # a refusal comes last: it says least about when to retry
        unclosed.sort(key=lambda attempt: (attempt.result is PushResult.REFUSED, attempt.target.id))
        codes = (attempt.code or attempt.before.code for attempt in unclosed)
        return next((code for code in codes if code), "push" if self.attempts else "")

    def wait(self, limits: Limits, *, closing: bool) -> timedelta:
        """How long until the first open target is due."""
        open_attempts = [attempt for attempt in self.attempts if not attempt.result.is_stored]
        waits = [attempt.wait(limits, closing=closing) for attempt in open_attempts]
        return min(waits, default=limits.duration("provider_retry"))

    def results(self, limits: Limits, now: datetime, *, closing: bool) -> dict[str, TargetResult]:
        """By the target's id, what the ledger records. `now`: Redis TIME."""
        return {
            attempt.target.id: attempt.outcome(
                now + attempt.wait(limits, closing=closing), has_reached_peer=attempt.target.channel in self.reached
            )
            for attempt in self.attempts
        }


class Pusher:
    """Delivers for one run, by all channels. Keeps the dead tokens."""

    def __init__(
        self, channels: Sequence[Channel], shared: Shared, stop_claiming: Callable[[RecapError], None]
    ) -> None:
        self._shared = shared
        self._stop_claiming = stop_claiming
        self._dead: list[tuple[str, Device]] = []
        self.senders = {channel.name: ChannelSender(channel, shared, self._on_stop) for channel in channels}

    def _on_stop(self, cause: RecapError) -> None:
        """Go on without a channel; claim nothing more if none is left."""
        stopped = {name: sender for name, sender in self.senders.items() if sender.stopped_by is not None}
        if len(stopped) == len(self.senders):
            self._stop_claiming(cause)
            return
        name = next(name for name, sender in stopped.items() if sender.stopped_by is cause)
        log.error("channel.stopped", channel=name, reason=str(cause))

    @property
    def trouble(self) -> RecapError | None:
        """What stopped a channel; else one that never answered."""
        stopped = [sender.stopped_by for sender in self.senders.values()]
        silent = [sender.breaker.silent for sender in self.senders.values()]
        return next((cause for cause in (*stopped, *silent) if cause is not None), None)

    @property
    def can_send(self) -> bool:
        """Whether the last call of a channel was answered, or it was not asked yet."""
        return any(sender.stopped_by is None and sender.breaker.down is None for sender in self.senders.values())

    @property
    def has_addresses(self) -> bool:
        """Whether a channel finds its targets in the user's document."""
        return any(sender.channel.has_addresses for sender in self.senders.values())

    @property
    def refusals(self) -> set[str]:
        """The codes with which a channel refused a target for good."""
        return {code for sender in self.senders.values() for code in sender.refusals}

    def targets(self, recipient: Recipient) -> list[Target]:
        """The user's targets of all channels. An address that can't be used costs itself alone."""
        found: list[Target] = []
        for name, sender in self.senders.items():
            targets, unusable = sender.channel.targets(recipient)
            found += targets
            for code in unusable:
                flaw = sender.channel.unusable.get(code, "an address can't be used; correct it")
                reason = f"In this user's document {flaw}."
                log.warning("target.unusable", uid=recipient.uid, channel=name, code=code, reason=reason)
        return found

    def wait_before_take(self, targets: Sequence[Target], ledger: Ledger, now: datetime) -> timedelta | None:
        """How long an open delivery has to wait before it is worth taking; None if it is worth it now.

        All open targets may be due later, or be of channels that nothing more is sent by in this run.
        """
        owed = still_open(targets, ledger)
        usable = [target for target in owed if self.senders[target.channel].stopped_by is None]
        waits = [time_until_due(target, ledger, now) for target in usable]
        if not owed or (waits and not min(waits)):
            return None
        return min(waits, default=self._shared.limits.duration("provider_retry"))

    async def push(
        self, message: Message, targets: Sequence[Target], ledger: Ledger, started_at: float, now: datetime
    ) -> Pushed:
        """Deliver to each target that is open and due. Never raises: the results must be stored.

        `started_at`: the clock in seconds before the ledger was opened. If more than a push deadline has passed since,
        another run may be sending, and nothing is sent. `now`: Redis TIME.
        """
        owed = still_open(targets, ledger)
        pushed = Pushed([Attempt(target, kept(target, ledger), time_until_due(target, ledger, now)) for target in owed])
        if left_out := ledger.targets.keys() - {name for target in targets for name in target.ids}:
            log.warning("targets.left_out", uid=message.uid, date=str(ledger.date), count=len(left_out))
        due = [attempt for attempt in pushed.attempts if not attempt.not_due_for]
        self._shared.counts.devices += sum(attempt.target.device is not None for attempt in due)
        deadline = self._shared.limits.push_deadline_seconds
        if self._shared.clock.seconds() - started_at > deadline:
            pushed.sent_nothing = True
            return pushed
        until = self._shared.clock.seconds() + deadline
        with suppress(TimeoutError):  # what has no answer yet stays UNKNOWN or UNSENT
            async with self._shared.terminated.timeout(deadline, grace=self._shared.limits.stop_push_seconds):
                pushing = (self._sender(one).try_target(message, one, until) for one in due)
                raised = await asyncio.gather(*pushing, return_exceptions=True)
                for attempt, defect in zip(due, raised, strict=True):
                    if defect is not None:
                        pushed.defect, attempt.code = defect, reason_code(f"defect_{type(defect).__name__}")
        accepted = {name for name, result in ledger.devices.items() if result == PushResult.ACCEPTED}
        pushed.reached = {target.channel for target in targets if accepted.intersection(target.ids)}
        for attempt in due:
            self._note_end(message.uid, attempt, pushed)
        return pushed

    def _sender(self, attempt: Attempt) -> ChannelSender:
        return self.senders[attempt.target.channel]

    def _note_end(self, uid: str, attempt: Attempt, pushed: Pushed) -> None:
        sender, device = self._sender(attempt), attempt.target.device
        if not (attempt.code or attempt.retry_after or self._shared.terminated.is_set()):
            sender.note_no_answer(attempt)
        if attempt.result is PushResult.ACCEPTED:
            pushed.reached.add(attempt.target.channel)
        if device is not None and attempt.result.is_stored:
            self._shared.counts.devices_answered += 1
            if attempt.result is PushResult.GONE:
                self._shared.counts.devices_dead += 1
                self._dead.append((uid, device))
        sender.count(attempt)

    async def delete_dead_tokens(self, store: Store) -> None:
        """Delete dead tokens, in bounded time, and no more than are allowed."""
        allowed = deletions_allowed(self._shared.counts.devices_answered)
        if self._shared.counts.too_many_dead:
            log.error("devices.deletions_stopped", dead=len(self._dead), allowed=allowed)
        with suppress(StoreDown, ConfigFault, TimeoutError):
            async with self._shared.terminated.timeout(self._shared.limits.store_timeout_seconds):
                for uid, device in self._dead[:allowed]:
                    self._shared.counts.tokens_deleted += await store.forget_device(uid, device)
