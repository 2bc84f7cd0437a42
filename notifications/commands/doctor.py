"""`doctor`: checks every dependency and setting, and says what to do; `--fix` corrects users without a recap."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from notifications.commands.context import Context, rows_of
from notifications.commands.progress import hours_in_words, users_due
from notifications.commands.reasons import bracketed
from notifications.commands.terminal import first_of, minute, say, say_wrapped, several
from notifications.commands.user_days import REACHED_WITHIN
from notifications.domain.claim import ABSENT, ClaimState, free_at, since_key, sweep_key, time_left
from notifications.domain.errors import RecapError, StoreDown
from notifications.domain.push import FEW_DEVICES, PushResult
from notifications.domain.schedule import ONE_DAY, cohorts_between, tzdata_version, zone_names
from notifications.domain.shards import Range, shards_of
from notifications.domain.target import Recipient
from notifications.domain.text import printable
from notifications.ports import Decided, Mended, Store, Summarizer, UserDocument
from notifications.run.clocks import compare_clocks, disagreement, host_clock, host_is_wrong
from notifications.run.outcome import OpenHour, what_stopped
from notifications.run.state import Services
from notifications.run.tick import SHARD_HISTORY, SHUTDOWN_WARNING_DAYS, days_left

TESTED = " (our access alone: no recap is sent)"  # by a channel's check
UIDS_SHOWN = 20
PAGE = 300  # ledgers
USERS_LOOKED_AT = 100  # for an address that can't be used: a read for each
LONG_AGO = date(2000, 1, 1)
ONE_SECOND = timedelta(seconds=1)
MAX_SHOWN = 1_000  # characters of a field's value
DECIDED_BY = {  # field that an operator has to decide -> flag
    "no time zone": " (--zone ZONE)",
    "an unknown time zone": " (--zone ZONE)",
    "no hour": " (--hour H)",
    "an invalid hour": " (--hour H)",
    "no switch": " (--enable)",
}

FORGOTTEN = (
    "Redis knows of none, but the store has their ledgers: it was emptied, or replaced. The next run goes on, and "
    'nobody gets a second recap: docs/runbook.md, "Redis was emptied".'
)


@dataclass(frozen=True, slots=True)
class Fix:
    """How to correct users that the query can't see. Without `write`, only say what would change."""

    decided: Decided
    write: bool = True


async def doctor(fix: Fix | None, context: Context) -> int:
    """Print one line per check. Returns 1 if there is something to do."""
    say(f"ok    time zones: tzdata {tzdata_version()}, {len(zone_names())} zones")
    ok = [_bad("Redis settings", sentence) for sentence in await context.claims.warnings()]
    [since] = await context.claims.read([since_key(context.claims.environment)])
    knows = f"; it remembers since {since.until_at:%Y-%m-%d %H:%M}" if since.until else ""
    say(f"ok    Redis answers: {await context.claims.now():%Y-%m-%d %H:%M:%S} UTC{knows}")
    async with context.open_services() as services:
        store, asked = services.store, StoreChecks()
        for name, check in {
            "the clocks of Redis, the store and this machine": lambda: _compare_clocks(services),
            "the store (a read, and a transaction that writes nothing)": lambda: _try_transaction(store),
            "users and their index": lambda: _answers(store.due_users(["UTC"], 22, Range(), None, 1)),
            "open deliveries and their index": lambda: _answers(store.open_ledgers(None, 1)),
            "users that the query can't see": lambda: _check_users(store, fix),
        }.items():
            ok.append(await asked.run(name, check))
        now = await context.claims.now()
        ok.append(await _try_llm("the LLM", services.summarizer, now, services.limits.user_deadline_seconds))
        if services.verifier is not services.summarizer and services.verifier is not None:
            ok.append(
                await _try_llm("the second look's LLM", services.verifier, now, services.limits.user_deadline_seconds)
            )
        ok.append(await _check_runs(services, asked))
        for channel in services.channels:
            stand_in = channel.aside.strip(" ()") if channel.aside.startswith(" (") else ""
            name = channel.noun[0] if stand_in else f"{channel.noun[0]}{channel.aside}"
            ok.append(await _checked(name, channel.check(), stand_in, tested=TESTED))
        for name, reason in context.settings.withheld(pretends_time=bool(context.offset)).items():
            ok.append(_bad(name, f"nothing goes out: {reason}."))
        if any(channel.has_addresses for channel in services.channels):
            ok.append(await asked.run("the addresses of the first users", lambda: _check_addresses(services)))
        ok.append(await asked.run("the last day's targets", lambda: _check_devices(services, now.date())))
        say_wrapped(await _idle_cost(services), "      ", "note  ")
    return 0 if all(ok) else 1


def _bad(name: str, sentence: str) -> bool:
    say_wrapped(f"{name}: {sentence}", "      ", "look  ")
    return False


class StoreChecks:
    """Runs the checks that ask the store. Once it has not answered, it is asked no more: each would wait as long."""

    def __init__(self) -> None:
        self._is_down = False

    async def run(self, name: str, check: Callable[[], Awaitable[str]], aside: str = "") -> bool:
        """As _checked(). Returns False for a check that was left out."""
        if self._is_down:
            say(f"skip  {name}: not asked: the store did not answer")
            return False
        return await _checked(name, self._watch(check()), aside)

    async def _watch(self, check: Awaitable[str]) -> str:
        try:
            return await check
        except StoreDown:
            self._is_down = True
            raise


async def _idle_cost(services: Services) -> str:
    """What an hour of starts each minute costs while nobody is due."""
    limits, now = services.limits, await services.claims.now()
    keys = 2 + sum(
        len(shards_of(cohort, services.claims.environment, limits.shards))
        for cohort in cohorts_between(now - SHARD_HISTORY, now)
    )
    reads = 2 * 3600 / limits.sweep_seconds  # the clock and the open ledgers, at each sweep
    return (
        f"costs, when idle: an hour of 60 starts takes about {60 * (keys + 1):,} Redis commands in 120 round trips, "
        f"{reads:.0f} documents read; no LLM call, no push."
    )


async def _check_runs(services: Services, asked: StoreChecks) -> bool:
    """Print when a run last swept, whether each due hour was reached, and what stopped the runs of open ones."""
    claims, limits, now = services.claims, services.limits, await services.claims.now()
    cohorts = cohorts_between(now - limits.duration("catch_up"), now)
    shards = [shard for cohort in cohorts for shard in shards_of(cohort, claims.environment, limits.shards)]
    names = [since_key(claims.environment), sweep_key(claims.environment), *(shard.key for shard in shards)]
    since, swept, *records = await claims.read(names)
    if not since.until:
        return await asked.run(
            "runs", lambda: _look_for_ledgers(services.store, now.date()), "Redis knows of no run yet"
        )
    first, last = since.until_at, now - REACHED_WITHIN
    slots = [shard.cohort.slot for shard, record in zip(shards, records, strict=True) if record == ABSENT]
    open_hours = [
        OpenHour.of(shard.cohort.slot, record, limits, now, timedelta(0))
        for shard, record in zip(shards, records, strict=True)
        if record.state is ClaimState.CLAIMED or (record.state is ClaimState.IDLE and time_left(record, now))
    ]
    _say_who_is_at_work(
        [hour for hour in open_hours if hour.renewed_at and not hour.may_be_dead],
        now,
        2 * limits.duration("shard_renew"),
    )
    killed = [hour for hour in open_hours if hour.may_be_dead or hour.reason == "killed_run"]
    if killed:
        goes_on = 'the next runs go on by themselves: docs/runbook.md, "A run was killed"'
        _bad("a killed run", f"{'; '.join(hours_in_words(killed))}; {goes_on}.")
    unreached = min((slot for slot in slots if first < slot < last), default=None)
    again = max((free_at(record, now) for record in records if record.until), default=first)
    stops = bracketed(Counter(what_stopped(record.reason) for record in records))
    if stops:
        since_then = "; none has come since: check the scheduler" if again < last else ""
        stopped = f"the last one stopped before it reached all users{stops}"
        return _bad("runs", f"{stopped}; they are due again at {minute(again)} UTC{since_then}.")
    if again < last and unreached is not None:
        return _bad(
            "runs", f"none came to the users due at {unreached:%H:%M} UTC: check the scheduler, and the runs' log."
        )
    if again < last and not swept.until:
        every = f"{limits.sweep_seconds / 60:.0f} min"
        return _bad("runs", f"none ended its sweep in the last {every}: check the scheduler, and the runs' log.")
    begun = f"the last sweep began at {swept.until_at:%H:%M} UTC"
    say(f"ok    runs: {begun if swept.until else f'the last one left users who are due again at {minute(again)} UTC'}")
    return not killed


def _say_who_is_at_work(held: Sequence[OpenHour], now: datetime, killed_after: timedelta) -> None:
    """A run that was killed looks like one at work until it has missed two renewals."""
    heard = max((hour.renewed_at for hour in held if hour.renewed_at), default=None)
    if heard is not None:
        who = f"a run is at work for {users_due([hour.slot for hour in held])}"
        ago = f"it was heard of {max(0, (now - heard) // ONE_SECOND)} s ago, at {heard:%H:%M:%S} UTC"
        free = minute(max(hour.until for hour in held))
        killed = f"If it was killed since, that shows from {killed_after.total_seconds():g} s on"
        say_wrapped(f"{who}: {ago}. {killed}, and a run takes over from {free} UTC on.", "      ", "note  ")


async def _look_for_ledgers(store: Store, today: date) -> str:
    """What to say of a Redis that knows of no run, though there are ledgers."""
    days = (today, today - ONE_DAY)
    return FORGOTTEN if any([await store.ledgers_on(day, None, 1) for day in days]) else ""


async def _try_transaction(store: Store) -> str:
    await store.now()
    await store.take("doctor", LONG_AGO, "doctor")  # there is no such ledger: nothing is written
    return ""


async def _check_devices(services: Services, today: date) -> str:
    """Whether most targets of today's first users, or else of yesterday's, are gone, or were not reached."""
    for day in (today, today - ONE_DAY):
        page = await services.store.ledgers_on(day, None, PAGE)
        results = Counter(result for _, ledger in page for result in ledger.devices.values())
        codes = Counter(kept.code for _, ledger in page for kept in ledger.targets.values() if kept.code)
        if not (count := results.total() + codes.total()):
            continue
        gone, targets = results[PushResult.GONE], several(count, "target")
        if gone >= FEW_DEVICES and 2 * gone > count:
            project = "is GOOGLE_CLOUD_PROJECT the app's Firebase project?"
            return f"{gone} of {targets} were gone on {day}: mailboxes: correct their addresses; devices: {project}"
        if codes.total() >= FEW_DEVICES and 2 * codes.total() > count:
            waiting = f"{codes.total():,} of {targets} of {day} wait for a recap{bracketed(codes)}"
            return f"{waiting}; each run tries them again."
        return ""
    return ""


async def _check_addresses(services: Services) -> str:
    """How many of the first users who are switched on have an address that can't be used; no address is printed."""
    page = await services.store.all_users(None, USERS_LOOKED_AT)
    uids = [listed.uid for listed in page if listed.user is not None and listed.user.enabled]
    addresses = dict(zip(uids, await asyncio.gather(*map(services.store.addresses, uids)), strict=True))
    flaws = []
    for channel in services.channels:
        having = [uid for uid in uids if channel.has_addresses and addresses[uid].get(channel.name)]
        unusable: dict[str, list[str]] = {}
        for uid in having:
            for code in channel.targets(Recipient(uid, addresses=addresses[uid]))[1]:
                unusable.setdefault(code, []).append(uid)
        for code, bad in unusable.items():
            whose = f"{len(bad)} of {several(len(having), 'user')} with one: {first_of(bad[:UIDS_SHOWN], len(bad))}"
            flaws.append(f"{channel.name}: {channel.unusable.get(code, code)}: {printable(whose, MAX_SHOWN)}")
    return "; ".join(flaws) + "." if flaws else ""


async def _checked(name: str, check: Awaitable[str], aside: str = "", tested: str = "") -> bool:
    """Print the check's sentence; an empty one means that all is well.

    `aside`: what stands in for the service. `tested`: what the check is of, where it is less than the name says.
    """
    try:
        sentence = await check
    except RecapError as trouble:
        sentence = str(trouble)
    if sentence:
        return _bad(name, sentence)
    say(f"none  {name}: {aside.removeprefix('none: ')}" if aside else f"ok    {name}{tested}")
    return True


async def _try_llm(name: str, llm: Summarizer | None, now: datetime, max_seconds: float) -> bool:
    """Try the LLM on a small recap, and print until when its provider offers the model."""
    if llm is None:
        say("none  the LLM: recaps are extracts")
        return True
    started_at = time.monotonic()
    tried = await llm.check()
    if tried.trouble:
        return _bad(name, tried.trouble)
    if time.monotonic() - started_at > max_seconds:
        return _bad(name, f"{tried.found}: too slow for RECAP_USER_DEADLINE_SECONDS ({max_seconds:g}).")
    day = await llm.last_day()
    if day is None:
        say(f"ok    {name}: {tried.found}")
        return True
    left = days_left(day, now)
    until = f"{tried.found}; {printable(repr(llm.model), 60)} is shut down on {day}, in {several(left, 'day')}"
    if left <= SHUTDOWN_WARNING_DAYS:
        return _bad(name, f"{until}; set {llm.named_by} to another.")
    say_wrapped(f"{name}: {until}", "      ", "ok    ")
    return True


async def _compare_clocks(services: Services) -> str:
    clocks = await compare_clocks(services.claims, services.store, services.clock)
    host_ahead = host_clock() - clocks.time.redis + clocks.ahead
    return disagreement(clocks.ahead, host_ahead) if clocks.is_one_wrong else host_is_wrong(host_ahead)


async def _answers(query: Awaitable[object]) -> str:
    await query
    return ""


async def _check_users(store: Store, fix: Fix | None) -> str:
    flawed = changed = seen = 0
    undecided: dict[str, list[str]] = {}
    async with aclosing(rows_of(store.all_users, lambda listed: listed.uid)) as users:
        async for listed in users:
            if listed.user is not None:
                continue
            flawed += 1
            if fix is None:
                if flawed <= UIDS_SHOWN:
                    say_wrapped(listed.flaw, "      ")
                continue
            mended = await store.mend(listed.uid, fix.decided, write=fix.write)
            _say_changes(store.user_path, listed, mended, write=fix.write)
            changed += bool(mended.changes)
            seen += bool(mended.changes) and not mended.undecided
            for kind in mended.undecided:
                undecided.setdefault(kind, []).append(listed.uid)
    for kind, uids in sorted(undecided.items()):
        shown = ", ".join(uids[:UIDS_SHOWN]) + (", …" if len(uids) > UIDS_SHOWN else "")
        say_wrapped(f"{kind}{DECIDED_BY.get(kind, '')}: {len(uids)}: {printable(shown, MAX_SHOWN)}", "      ")
    return _summary(fix, flawed, changed, flawed - seen)


def _summary(fix: Fix | None, flawed: int, changed: int, left: int) -> str:
    if not flawed:
        return ""
    if fix is None:
        return f"{flawed} get no recap; doctor --fix corrects what has one right answer, and lists the rest."
    rest = f"{several(left, 'user')} left: give --zone, --hour or --enable, or write their documents again."
    if fix.write:
        say(f"      {changed} corrected; they got no recap before, which audit counts as unknown")
        return rest if left else ""
    return f"{changed} of {flawed} would be corrected by doctor --fix.{f' {rest}' if left else ''}"


def _say_changes(user_path: str, listed: UserDocument, mended: Mended, *, write: bool) -> None:
    if mended.changes:
        words = ", ".join(f"{name} {_shown(old)} -> {_shown(new)}" for name, (old, new) in mended.changes.items())
        path = user_path.format(uid=listed.uid)
        say_wrapped(f"{path}: {'' if write else 'would be corrected: '}{words}", "      ")
    elif not mended.undecided:
        say_wrapped(f"{listed.flaw} It can't be corrected.", "      ")


def _shown(value: object) -> str:
    return printable(json.dumps(value, default=str, ensure_ascii=False), 60)
