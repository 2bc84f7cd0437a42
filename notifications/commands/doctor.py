"""`doctor`: checks every dependency and setting, and says what to do; `--fix` mends invisible users."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime

from notifications.commands.operation import Context
from notifications.commands.terminal import say, say_wrapped, several
from notifications.domain.errors import RecapError
from notifications.domain.schedule import tzdata_version, zone_names
from notifications.domain.shards import Range
from notifications.domain.text import printable
from notifications.ports import Decided, Listed, Mended, Store, Summarizer
from notifications.run.clocks import compare_clocks, disagreement, host_clock, host_is_wrong
from notifications.run.state import Parts
from notifications.run.tick import WARNED_DAYS, days_left

PAGE = 1_000
UIDS_SHOWN = 20
SHOWN = 1_000  # characters
MENDED_BY = {  # what is to be decided, and the flag that does
    "no time zone": " (--zone ZONE)",
    "an unknown time zone": " (--zone ZONE)",
    "no hour": " (--hour H)",
    "an invalid hour": " (--hour H)",
    "no switch": " (--enable)",
}


@dataclass(frozen=True, slots=True)
class Fix:
    """The wish to mend users that the query can't see. `write`: not only to say what would change."""

    decided: Decided
    write: bool = True


async def doctor(fix: Fix | None, context: Context) -> int:
    """One line a check; exit 1 where something is to be done."""
    say(f"ok    time zones: tzdata {tzdata_version()}, {len(zone_names())} zones")
    told = [_told("Redis settings", sentence) for sentence in await context.claims.warnings()]
    say(f"ok    Redis answers: {await context.claims.now():%Y-%m-%d %H:%M:%S} UTC")
    async with context.open_parts() as parts:
        store = parts.store
        told.append(await _checked("the clocks of Redis, the store and this machine", _agreeing(parts)))
        told.append(await _checked("users and their index", _answered(store.due_users(["UTC"], 22, Range(), None, 1))))
        told.append(await _checked("open deliveries and their index", _answered(store.open_ledgers(None, 1))))
        told.append(await _checked("users that the query can't see", _seen(store, fix)))
        now = await context.claims.now()
        told.append(await _tried("the LLM", parts.summarizer, now))
        if parts.verifier is not parts.summarizer and parts.verifier is not None:
            told.append(await _tried("the second look's LLM", parts.verifier, now))
        told.append(await _checked(f"push{parts.push.aside}", parts.push.check()))
    return 0 if all(told) else 1


def _told(name: str, sentence: str) -> bool:
    say_wrapped(f"{name}: {sentence}", "      ", "look  ")
    return False


async def _checked(name: str, check: Awaitable[str]) -> bool:
    """The check's own sentence; an empty one is all well."""
    try:
        sentence = await check
    except RecapError as trouble:
        sentence = str(trouble)
    if sentence:
        return _told(name, sentence)
    say(f"ok    {name}")
    return True


async def _tried(name: str, llm: Summarizer | None, now: datetime) -> bool:
    """The LLM: a small recap of its own, and until when its provider offers the model."""
    if llm is None:
        say("ok    the LLM: none: recaps are extracts")
        return True
    found = await llm.check()
    if found.trouble:
        return _told(name, found.trouble)
    day = await llm.last_day()
    if day is None:
        say(f"ok    {name}: {found.found}")
        return True
    left = days_left(day, now)
    until = f"{found.found}; {printable(repr(llm.model), 60)} is shut down on {day}, in {several(left, 'day')}"
    if left <= WARNED_DAYS:
        return _told(name, f"{until}; set {llm.named_by} to another.")
    say_wrapped(f"{name}: {until}", "      ", "ok    ")
    return True


async def _agreeing(parts: Parts) -> str:
    found = await compare_clocks(parts.claims, parts.store, parts.clock)
    host_ahead = host_clock() - found.time.redis + found.ahead
    return disagreement(found.ahead, host_ahead) if found.apart else host_is_wrong(host_ahead)


async def _answered(query: Awaitable[object]) -> str:
    await query
    return ""


async def _seen(store: Store, fix: Fix | None) -> str:
    flawed = changed = seen = 0
    undecided: dict[str, list[str]] = {}
    after: str | None = None
    while page := await store.all_users(after, PAGE):
        for listed in page:
            if listed.user is None:
                flawed += 1
                if fix is None:
                    if flawed <= UIDS_SHOWN:
                        say_wrapped(listed.flaw, "      ")
                    continue
                told = await store.mend(listed.uid, fix.decided, write=fix.write)
                _tell_changes(listed, told, write=fix.write)
                changed += bool(told.changes)
                seen += bool(told.changes) and not told.undecided
                for kind in told.undecided:
                    undecided.setdefault(kind, []).append(listed.uid)
        after = page[-1].uid
    for kind, uids in sorted(undecided.items()):
        shown = ", ".join(uids[:UIDS_SHOWN]) + (", …" if len(uids) > UIDS_SHOWN else "")
        say_wrapped(f"{kind}{MENDED_BY.get(kind, '')}: {len(uids)}: {printable(shown, SHOWN)}", "      ")
    return _sum_of(fix, flawed, changed, seen)


def _sum_of(fix: Fix | None, flawed: int, changed: int, seen: int) -> str:
    if not flawed:
        return ""
    if fix is None:
        return f"{flawed} get no recap; doctor --fix mends what has one right answer, and lists the rest."
    left = flawed - seen
    rest = (
        f"{several(left, 'user')} left: give --zone, --hour or --enable, or write their documents anew." if left else ""
    )
    if not fix.write:
        return f"{changed} of {flawed} would be mended by doctor --fix.{f' {rest}' if rest else ''}"
    say(f"      {changed} mended; they got no recap before, which audit counts as unknown")
    return rest


def _tell_changes(listed: Listed, told: Mended, *, write: bool) -> None:
    if told.changes:
        words = ", ".join(f"{name} {_shown(old)} -> {_shown(new)}" for name, (old, new) in told.changes.items())
        say_wrapped(f"users/{listed.uid}: {'' if write else 'would be mended: '}{words}", "      ")
    elif not told.undecided:
        say_wrapped(f"{listed.flaw} It can't be mended.", "      ")


def _shown(value: object) -> str:
    return printable(json.dumps(value, default=str, ensure_ascii=False), 60)
