"""An operation: a command other than a tick, and what it gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifications.domain.errors import UsageFault
from notifications.domain.model import User
from notifications.ports import Claims, Listed, Sample, Store
from notifications.run.state import Parts
from notifications.run.termination import Termination
from notifications.run.tick import ShowProgress
from notifications.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an operation gets: everything but the heavy parts, which it may open."""

    settings: Settings
    claims: Claims
    open_parts: Callable[[], AbstractAsyncContextManager[Parts]]
    offset: timedelta  # what --now adds to Redis time
    terminated: Termination
    samples: Callable[[datetime], list[Sample]] = lambda now: []
    shown: ShowProgress = lambda progress: nullcontext()
    since: datetime | None = None  # when a data folder was first filled: nobody was due before


async def usable_user(store: Store, uid: str) -> tuple[Listed, User]:
    """One user that the job can serve. Raises UsageFault: there is none, or its document is flawed."""
    listed = await store.user(uid)
    if listed is None or listed.user is None:
        raise UsageFault(listed.flaw if listed else f"users/{uid} does not exist; check the uid.")
    return listed, listed.user


Operation = Callable[[Context], Awaitable[int]]
RESENDABLE = ("missed", "dead", "unserved", "gave_up", "unfinished")  # how a day stands that `resend` ends
