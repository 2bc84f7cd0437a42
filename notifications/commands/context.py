"""The context of operations: the commands other than a tick."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from notifications.domain.errors import UsageFault
from notifications.domain.model import Ledger, User
from notifications.domain.schedule import ONE_DAY, Rules, Slot, latest_slot, slot_of_day
from notifications.domain.target import Recipient, without_gone
from notifications.ports import Claims, Sample, Store, UserDocument
from notifications.run.state import Run, Services
from notifications.run.termination import Termination
from notifications.run.tick import ShowProgress
from notifications.settings import Settings

K = TypeVar("K")
T = TypeVar("T")
PAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every operation gets; `open_services` opens the store, the LLM and the push channel."""

    settings: Settings
    claims: Claims
    open_services: Callable[[], AbstractAsyncContextManager[Services]]
    offset: timedelta  # what --now adds to Redis time
    terminated: Termination
    forget_pushes: Callable[[list[str]], Awaitable[None]]  # of these users, in the outbox
    samples: Callable[[datetime], list[Sample]] = lambda now: []
    show_progress: ShowProgress = lambda progress: nullcontext()
    since: datetime | None = None  # when a data folder was first filled: no user was due before

    async def now(self) -> datetime:
        """Redis time, or what `--now` makes of it."""
        return await self.claims.now() + self.offset

    @asynccontextmanager
    async def open_run(self) -> AsyncGenerator[Run]:
        """A run over the opened services, for what a command does as a tick does it."""
        async with self.open_services() as services:
            yield Run(services, self.offset, self.terminated)


async def pages_of(
    read_page: Callable[[K | None, int], Awaitable[list[T]]], key: Callable[[T], K], size: int = PAGE
) -> AsyncGenerator[list[T]]:
    """The pages of a query, none empty. `key`: the row's key, after which the next page begins."""
    after: K | None = None
    while page := await read_page(after, size):
        yield page
        if len(page) < size:
            return
        after = key(page[-1])


async def rows_of(
    read_page: Callable[[K | None, int], Awaitable[list[T]]], key: Callable[[T], K], size: int = PAGE
) -> AsyncGenerator[T]:
    """Every row of a query, read page by page."""
    async with aclosing(pages_of(read_page, key, size)) as pages:
        async for page in pages:
            for row in page:
                yield row


async def usable_user(store: Store, uid: str) -> tuple[UserDocument, User]:
    """A user that the job can serve. Raises UsageFault if there is none, or its document is flawed."""
    listed = await store.user_document(uid)
    if listed is None or listed.user is None:
        raise UsageFault(listed.flaw if listed else f"{store.user_path.format(uid=uid)} does not exist; check the uid.")
    return listed, listed.user


def slot_in_question(rules: Rules, document: UserDocument, user: User, now: datetime, day: date | None) -> Slot:
    """That date's slot. Without a date the latest that the user could have had, else the next one.

    With `--now` before the account was made, all of them were there.
    """
    if day is not None:
        return slot_of_day(user.zone, day, user.hour)
    latest, created = latest_slot(user.zone, user.hour, now), document.created
    if rules.could_have(latest.at, created) or (created is not None and created > now):
        return latest
    return slot_of_day(user.zone, latest.recap_date + ONE_DAY, user.hour)


async def unused_addresses(
    context: Context,
    services: Services,
    uid: str,
    changes: Mapping[str, Any] = {},
    before: Sequence[Ledger] = (),
) -> list[str]:
    """Which addresses in the user's document, once it has these changes, no run with these settings sends to; and why,
    as a clause. `before`: the ledgers of the days before, whose dead addresses are left out.
    """
    clauses = []
    addresses = await services.store.addresses(uid, changes)
    for name in addresses:
        channel = next((one for one in services.channels if one.name == name and one.has_addresses), None)
        if ended_by := addresses[name].get("ended_by"):
            clauses.append(f"{name}: the user has ended it ({ended_by})")
        elif channel is None:
            clauses.append(f"{name}: {context.settings.why_unused(name, pretends_time=bool(context.offset))}")
        else:
            targets, codes = channel.targets(Recipient(uid, addresses=addresses))
            clauses += [f"{name}: {channel.unusable.get(code, code)}" for code in codes]
            if targets and not without_gone(targets, before):
                clauses.append(f"{name}: it was gone on one of the days before")
    return clauses


Operation = Callable[[Context], Awaitable[int]]
# States of a day whose slot is being served. not_reached: the last run stopped before it; unreached: no run came.
OPEN_STATES = ("waiting", "held", "not_reached", "unreached")
RESENDABLE = ("missed", "dead", "unserved", "gave_up", "partial", "unfinished")  # states of a day that `resend` ends
