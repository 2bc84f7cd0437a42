"""Where a user's recap is delivered: their devices, and the addresses of their document that are not gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from notifications.domain.model import Ledger, User
from notifications.domain.schedule import ONE_DAY
from notifications.domain.target import Recipient, Target, without_gone
from notifications.run.day_input import GONE_FOR
from notifications.run.state import Run


@dataclass(frozen=True, slots=True)
class To:
    """Whom a recap is for, and where it is delivered."""

    recipient: Recipient
    targets: list[Target]


async def read_targets(
    run: Run, uid: str, user: User | None, before: Sequence[Ledger], language: str | None = None
) -> tuple[To, int]:
    """Where the user's recap is delivered, and how many devices' documents were malformed. Raises StoreDown.

    `before`: the ledgers of the days before, whose dead addresses are left out.
    """
    store = run.services.store
    devices, malformed = await run.read_breaker.watch(store.devices(uid))
    addresses: Mapping[str, Mapping[str, str]] = {}
    if run.pusher.has_addresses:
        addresses = await run.read_breaker.watch(store.addresses(uid))
    zone, spoken = (user.zone, language or user.language) if user is not None else ("", language)
    recipient = Recipient(uid, devices, addresses, zone, spoken)
    return To(recipient, without_gone(run.pusher.targets(recipient), before)), malformed


async def ledgers_before(run: Run, uid: str, day: date) -> list[Ledger]:
    """Read what Ledgers.before has, for who reads no other ledger. Raises StoreDown.

    Empty without addresses, which alone are left out by it: a device that is gone has no document.
    """
    if not run.pusher.has_addresses:
        return []
    reading = run.services.store.ledgers_between(uid, day - GONE_FOR, day - ONE_DAY)
    return list((await run.read_breaker.watch(reading)).values())
