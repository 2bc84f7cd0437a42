"""An operation: a command other than a tick, and what it gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifications.ports import Claims
from notifications.run.state import Parts
from notifications.run.termination import Termination
from notifications.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """What an operation gets: everything but the heavy parts, which it may open."""

    settings: Settings
    claims: Claims
    open_parts: Callable[[], AbstractAsyncContextManager[Parts]]
    offset: timedelta  # what --now adds to Redis time
    terminated: Termination
    since: datetime | None = None  # when a data folder was first filled: nobody was due before


Operation = Callable[[Context], Awaitable[int]]
