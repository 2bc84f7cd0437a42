"""What is delivered, and what an answer of the push service means for a device."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from notifications.domain.model import Ledger

TTL = timedelta(hours=20)  # so that it has expired before the next recap's push


class PushResult(StrEnum):
    """The result of one try to deliver to one target."""

    ACCEPTED = "accepted"
    GONE = "gone"  # the address is dead: never tried again; a device's document is deleted if unchanged
    REFUSED = "refused"  # never accepted as it is: tried again only while no target of its channel was reached
    BUSY = "busy"  # a definite "not now"
    UNKNOWN = "unknown"  # no answer, or an unclear one: it may have been accepted
    UNSENT = "unsent"  # no byte of it was sent

    @property
    def is_stored(self) -> bool:
        """Whether the ledger stores it, so that the target is not tried again."""
        return self in (PushResult.ACCEPTED, PushResult.GONE)

    @property
    def is_definite(self) -> bool:
        """Whether it is certain that nothing, or exactly one push, was accepted."""
        return self is not PushResult.UNKNOWN


class Whose(StrEnum):
    """What a used-up quota or a refusal is about."""

    PROJECT = "project"  # everything that we send
    DEVICE = "device"  # this device alone
    UNSAID = "unsaid"  # the answer does not say


@dataclass(frozen=True, slots=True)
class PushAnswer:
    """One answer of the push service, in the domain's words."""

    result: PushResult
    code: str = ""
    retry_after: timedelta | None = None
    quota: bool = False  # a quota is used up; if it is the project's, every push of this run waits
    config: bool = False  # our credentials or project are refused, which only a person can correct
    whose: Whose = Whose.PROJECT  # whose `quota` or `config` it is
    says: str = ""  # if `config`: what is wrong and how to correct it, as a clause; empty if unknown
    retry_now: bool = False  # worth a few tries within the push deadline
    foreign: bool = False  # not from the service: a proxy, a sign-in page, a wrong address

    @property
    def must_pause(self) -> bool:
        """Whether every push of this run waits."""
        return self.quota and self.whose is Whose.PROJECT

    @property
    def for_device_only(self) -> PushAnswer:
        """The same answer, but about this device alone, since the service accepts our other messages."""
        result = PushResult.REFUSED if self.config else self.result
        return replace(self, result=result, config=False, says="", whose=Whose.DEVICE)

    @property
    def needs_alert(self) -> bool:
        """Whether an operator has to be alerted."""
        return self.result is PushResult.REFUSED or self.config or self.foreign

    def trouble(self, where: str) -> str:
        """A sentence about what is wrong with the channel itself; empty if it is well. `where`: what it is called."""
        if self.config:
            return f"{where} {self.says or f'refuses our credentials ({self.code})'}."
        if self.foreign:
            return f"What answers is not {where}: {self.code}; check the address and its proxies."
        if self.retry_now:
            return f"{where} is overloaded or down ({self.code}); wait, and check its status page if it lasts."
        if self.result in (PushResult.UNKNOWN, PushResult.UNSENT):
            verb = "fails" if self.code.isdigit() else "does not answer"
            return f"{where} {verb} ({self.code}); check the address and the network."
        return ""


ACCEPTED = PushAnswer(PushResult.ACCEPTED, "200")


class PushText(StrEnum):
    """How much of a recap a push shows, on a lock screen too."""

    RECAP = "recap"  # headline and the recap's sentence for a lock screen
    HEADLINE = "headline"
    NONE = "none"  # only that it is ready


async def no_text() -> Mapping[str, Any] | None:
    """The text of a recap that can't be had."""
    return None


@dataclass(frozen=True, slots=True)
class Message:
    """One recap to deliver, before it takes a channel's form.

    `full` gives the stored text, as recap/document.py has it; None if the app has rewritten or deleted it: then the
    title and the body are all that is delivered.
    """

    uid: str
    date: date
    collapse_id: str
    title: str
    body: str
    summary_id: str
    created_at: datetime | None
    expires_at: datetime  # a phone that is off until then never gets it
    silent: bool = False  # shown without a sound, since it is late
    seq: int = 1  # more than 1 if an operator resends it
    age: timedelta = timedelta(0)  # since the recap was made
    source: str = ""  # what wrote it: llm or extract; empty if unknown
    verified: bool | None = None  # by a second look
    zone: str = ""  # the user's; empty if unknown
    language: str | None = None
    full: Callable[[], Awaitable[Mapping[str, Any] | None]] = field(default=no_text, repr=False, compare=False)

    @property
    def data(self) -> dict[str, str]:
        """The data payload: strings only, as push services demand."""
        return {
            "type": "day_summary",
            "notification_type": "daily_summary",
            "navigate_to": f"/daily-summary/{self.summary_id}",
            "id": self.summary_id,
            "created_at": self.created_at.isoformat() if self.created_at else "",
            "text": self.body,
            "sender": "ai",
            "from_integration": "false",
        }


def message(uid: str, ledger: Ledger, now: datetime, **more: Any) -> Message:
    """What is delivered, always from the ledger. It expires TTL after the recap was made; a resend, TTL after now."""
    start = ledger.created_at if ledger.seq == 1 and ledger.created_at else now
    return Message(
        uid=uid,
        date=ledger.date,
        collapse_id=ledger.collapse_id,
        title=ledger.title,
        body=ledger.body,
        summary_id=ledger.summary_id,
        created_at=ledger.created_at,
        expires_at=start + TTL,
        seq=ledger.seq,
        age=max(timedelta(0), now - start),
        source=ledger.source,
        verified=ledger.verified,
        **more,
    )


FEW_DEVICES = 5  # of fewer, a share says nothing


def deletions_allowed(devices: int) -> int:
    """How many dead tokens one run may delete, of the devices that it saw accept or be dead: a fifth, at least one.

    Of fewer than FEW_DEVICES none. More are probably our own error, such as another project's devices.
    """
    return max(1, devices // 5) if devices >= FEW_DEVICES else 0
