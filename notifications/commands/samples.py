"""`samples [--remove]`: sample users put in, due now, or taken out with all that was made for them."""

from __future__ import annotations

import re

from notifications.commands.import_users import forget_claims, reopen
from notifications.commands.operation import Context
from notifications.commands.terminal import say_wrapped, several
from notifications.ports import Store

PAGE = 1_000
UID, TOKEN = re.compile(r"sample-\d\d", re.ASCII), "sample-token-"


async def samples(context: Context, *, remove: bool) -> int:
    """Whoever has a sample's uid and a device of their own is no sample, and stays as they are."""
    async with context.open_parts() as parts:
        if remove:
            count = await _remove(context, parts.store)
            say_wrapped(f"{several(count, 'sample user')} removed, with all that was made for them.")
            return 0
        now = await context.claims.now() + context.offset
        put: list[str] = []
        for uid, user, devices, conversations in context.samples(now):
            if await parts.store.user(uid) is None or await _is_sample(parts.store, uid):
                await parts.store.put(uid, user, devices, conversations)
                put.append(uid)
        await reopen(context, parts, put)
        say_wrapped(f"{len(put)} sample users are in; some are due now: python job.py.")
        return 0


async def _remove(context: Context, store: Store) -> int:
    count = 0
    after: str | None = None
    while page := await store.everybody(after, PAGE):
        for listed in page:
            if UID.fullmatch(listed.uid) and await _is_sample(store, listed.uid):
                await store.remove(listed.uid)
                await forget_claims(context, listed.uid)
                count += 1
        after = page[-1].uid
    return count


async def _is_sample(store: Store, uid: str) -> bool:
    devices, _ = await store.devices(uid)
    return bool(devices) and all(device.token.startswith(TOKEN) for device in devices)
