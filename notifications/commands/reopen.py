"""Users that came after their shard was served: opened again, so that the next tick finds them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from notifications.commands.inspect import claims_of
from notifications.commands.operation import Context
from notifications.domain.claim import Stored
from notifications.domain.schedule import Phase, latest_slot
from notifications.domain.shards import key_of
from notifications.ports import Store
from notifications.run.state import Parts


async def reopen(context: Context, parts: Parts, uids: Iterable[str]) -> None:
    """Forget that their shards are complete; who has had theirs has it still, by their own claim and ledger."""
    now = await context.claims.now() + context.offset
    keys = {key for uid in uids if (key := await _served(parts.store, parts, uid, now))}
    for key in sorted(keys):
        [record] = await context.claims.read([key])
        if record.state is Stored.COMPLETE:
            await context.claims.forget(key, record)


async def _served(store: Store, parts: Parts, uid: str, now: datetime) -> str | None:
    """The key of the user's shard, where its slot is being served."""
    listed = await store.user(uid)
    if listed is None or listed.user is None:
        return None
    slot = latest_slot(listed.user.zone, listed.user.hour, now)
    over = parts.rules.phase(slot.at, now) is Phase.OVER
    return None if over else key_of(uid, slot.at, listed.user.hour, parts.claims.environment, parts.limits.shards)


async def forget_claims(context: Context, uid: str) -> None:
    """All that Redis remembers of a user who is removed."""
    async for found in context.claims.scan(claims_of(uid, None)):
        await context.claims.forget(found.key)
