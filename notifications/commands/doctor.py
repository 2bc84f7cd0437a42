"""`doctor`: checks every dependency and setting, and says what to do; `--fix` mends invisible users."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from notifications.commands.operation import Context, Operation
from notifications.commands.terminal import say, say_wrapped
from notifications.domain.errors import RecapError
from notifications.domain.schedule import tzdata_version, zone_names
from notifications.domain.shards import Range
from notifications.domain.text import printable
from notifications.ports import Listed, Store
from notifications.run.clocks import compared, disagreement, host_clock, host_is_wrong
from notifications.run.state import Parts

PAGE = 1_000
UIDS_SHOWN = 20


def doctor(*, fix: bool, write: bool = True) -> Operation:
    """The operation: one line a check; exit 1 where something is to be done."""

    async def run(context: Context) -> int:
        say(f"ok    time zones: tzdata {tzdata_version()}, {len(zone_names())} zones")
        told = [_told("Redis settings", sentence) for sentence in await context.claims.warnings()]
        say(f"ok    Redis answers: {await context.claims.now():%Y-%m-%d %H:%M:%S} UTC")
        async with context.open_parts() as parts:
            told.append(await _checked("the clocks of Redis, the store and this machine", _agreeing(parts)))
            told.append(await _checked("users and their index", _queried(parts)))
            told.append(await _checked("open deliveries and their index", _open_listed(parts)))
            told.append(await _checked("users that the query can't see", _seen(parts.store, fix=fix, write=write)))
            told.append(await _checked("the LLM", parts.summarizer.check if parts.summarizer else _nobody_asked))
            told.append(await _checked("push", parts.push.check))
        return 0 if all(told) else 1

    return run


def _told(name: str, sentence: str) -> bool:
    say_wrapped(f"{name}: {sentence}", "      ", "look  ")
    return False


async def _checked(name: str, check: Callable[[], Awaitable[str]]) -> bool:
    """The check's own sentence; an empty one is all well."""
    try:
        sentence = await check()
    except RecapError as trouble:
        sentence = str(trouble)
    if sentence:
        return _told(name, sentence)
    say(f"ok    {name}")
    return True


async def _nobody_asked() -> str:
    return ""


def _agreeing(parts: Parts) -> Callable[[], Awaitable[str]]:
    async def check() -> str:
        found = await compared(parts.claims, parts.store, parts.clock)
        host_ahead = host_clock() - found.agreed.redis + found.ahead
        return disagreement(found.ahead, host_ahead) if found.apart else host_is_wrong(host_ahead)

    return check


def _queried(parts: Parts) -> Callable[[], Awaitable[str]]:
    async def check() -> str:
        await parts.store.due_users(["UTC"], 22, Range(), None, 1)
        return ""

    return check


def _open_listed(parts: Parts) -> Callable[[], Awaitable[str]]:
    async def check() -> str:
        await parts.store.open_ledgers(None, 1)
        return ""

    return check


def _seen(store: Store, *, fix: bool, write: bool) -> Callable[[], Awaitable[str]]:
    async def check() -> str:
        flawed = mended = 0
        after: str | None = None
        while page := await store.everybody(after, PAGE):
            for listed in page:
                if listed.user is None:
                    flawed += 1
                    changes = await store.mend(listed.uid, write=write) if fix else {}
                    mended += bool(changes)
                    if fix:
                        _tell_changes(listed, changes, write=write)
                    elif flawed <= UIDS_SHOWN:
                        say_wrapped(listed.flaw, "      ")
            after = page[-1].uid
        if not flawed:
            return ""
        if fix and not write:
            return f"{mended} of {flawed} would be mended; doctor --fix does it."
        if fix:
            left = f"{flawed - mended} can't be mended; write their documents anew." if mended < flawed else ""
            say(f"      {mended} mended; they got no recap before, which audit counts as unknown")
            return left
        return f"{flawed} get no recap; mend their documents, or run doctor --fix (hour 22, enabled, UTC)."

    return check


def _tell_changes(listed: Listed, changes: Mapping[str, tuple[Any, Any]], *, write: bool) -> None:
    """Each changed user, with field, old and new."""
    if not changes:
        say_wrapped(f"{listed.flaw} It can't be mended.", "      ")
        return
    told = ", ".join(f"{name} {_shown(old)} -> {_shown(new)}" for name, (old, new) in changes.items())
    say_wrapped(f"users/{listed.uid}: {'' if write else 'would be mended: '}{told}", "      ")


def _shown(value: object) -> str:
    return printable(json.dumps(value, default=str, ensure_ascii=False), 60)
