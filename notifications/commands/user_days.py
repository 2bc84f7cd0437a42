"""One date's users, ledgers and summaries, joined by uid page by page in constant memory."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Generic

from notifications.commands.context import PAGE, Context, K, T, pages_of
from notifications.commands.reasons import bracketed
from notifications.commands.terminal import several
from notifications.domain.claim import ClaimState, Record, free_at, lease_left, since_key, user_key
from notifications.domain.delivery import RESEND_OUTCOME
from notifications.domain.model import DayState, Ledger
from notifications.domain.money import COST_KEY, NOTHING, Spent
from notifications.domain.push import PushResult
from notifications.domain.schedule import ONE_DAY, Phase, Rules, Slot, slot_of_day
from notifications.domain.shards import key_of
from notifications.ports import UserDocument
from notifications.run.outcome import LEFT_OPEN, what_stopped
from notifications.run.state import Services

UNKNOWN = "unknown"  # the state of a day that may or may not have been due
AT_WORK = frozenset({"", "another_run", "foreign", LEFT_OPEN})  # of a day that waits its turn, or is being served
REACHED_WITHIN = timedelta(minutes=5)  # of its slot a run comes, if the scheduler is there


@dataclass(frozen=True, slots=True)
class DayQuery:
    """A date, as of `now`, which is `offset` ahead of Redis time. `since`: when the data folder was first filled;
    `remembers`: since when Redis knows what was served; None if it does not say.
    """

    day: date
    now: datetime
    rules: Rules
    since: datetime | None = None
    offset: timedelta = timedelta(0)
    has_fallback: bool = True
    remembers: datetime | None = None

    @property
    def so_far(self) -> str:
        """What follows the date while it is not over, in UTC."""
        return " so far" if self.day >= self.now.date() else ""

    def lost_at(self, slot: datetime) -> datetime:
        """When a day that no run serves is lost: with a fallback the closing pass still sends it."""
        return self.rules.service_end(slot) if self.has_fallback else slot + self.rules.catch_up


async def queries(day: date | None, context: Context, services: Services, *, today: bool) -> list[DayQuery]:
    """The date that was asked for, else yesterday in UTC, and today so far if `today`."""
    now = await context.now()
    days = [day] if day else [now.date() - ONE_DAY, now.date()] if today else [now.date() - ONE_DAY]
    [since] = await context.claims.read([since_key(context.claims.environment)])
    remembers = since.until_at + context.offset if since.until else None
    rules, has_fallback = services.limits.rules, services.has_fallback
    return [DayQuery(on, now, rules, context.since, context.offset, has_fallback, remembers) for on in days]


@dataclass(frozen=True, slots=True)
class UserDay:
    """One user's day. `state`: how its ledger ended, or one of OPEN_STATES, unfinished, unserved, unknown; None: it was
    not due. `reason`: why it is open, as a code; `until`: when its claim is free, or due again; `spent`: on tries that
    failed, before there is a ledger.
    """

    listed: UserDocument
    ledger: Ledger | None
    summaries: int
    state: str | None
    reason: str = ""
    until: datetime | None = None
    spent: Spent = NOTHING

    @property
    def uid(self) -> str:
        return self.listed.uid

    @property
    def has_unfinished_resend(self) -> bool:
        """Whether a resend has begun and not finished it; only another resend finishes it."""
        return is_abandoned_resend(self.ledger)

    @property
    def kinds(self) -> list[str]:
        """All that the accounts count this day as."""
        ledger, kinds = self.ledger, ["stored"] if self.summaries else []
        if self.summaries > 1:
            kinds.append("duplicate_summaries")
        if ledger is not None:
            if ledger.is_partial:
                kinds.append("partial")
            if ledger.repeats or ledger.may_repeat:  # one of the windows of docs/guarantees.md
                kinds.append("allowed_repeats")
            if PushResult.GONE in ledger.devices.values():
                kinds.append("device_gone")
        if self.listed.user is None:
            kinds.append("invisible")
        if self.state not in (None, UNKNOWN):
            kinds.append("due")
        if self.state:
            kinds.append(self.state)
        return kinds


@dataclass(slots=True)
class Costs:
    """What the days of some ledgers cost; `lost_…`: of those that got no recap by the LLM."""

    sources: Counter[str] = field(default_factory=Counter)  # recaps by who made them: llm, extract
    tokens: int = 0
    usd: float = 0.0
    lost_tokens: int = 0
    lost_usd: float = 0.0
    extract_reasons: Counter[str] = field(default_factory=Counter)
    unpriced: int = 0  # days whose calls' price is not known
    unverified: int = 0  # recaps by the LLM that no second look checked

    def add(self, row: UserDay) -> None:
        ledger, tokens, usd = row.ledger, row.spent.tokens, row.spent.usd
        if ledger is not None:
            tokens, usd = ledger.tokens, ledger.usd
            if ledger.source:
                self.sources[ledger.source] += 1
                self.unverified += ledger.verified is False
            if ledger.source == "extract":
                self.extract_reasons[ledger.extract_reason] += 1
        self.tokens += tokens
        self.usd += usd or 0.0
        self.unpriced += usd is None and tokens > 0
        if ledger is None or ledger.source != "llm":
            self.lost_tokens += tokens
            self.lost_usd += usd or 0.0

    @property
    def faults(self) -> Counter[str]:
        """The extracts that were made since something failed, by its reason."""
        return Counter({reason: count for reason, count in self.extract_reasons.items() if reason})

    @property
    def in_words(self) -> str:
        """Who made the recaps, and what all calls cost. Empty if there was neither."""
        extract = several(self.sources["extract"], "extract") + bracketed(self.extract_reasons)
        words = {"llm": f"{self.sources['llm']:,} by the LLM", "extract": extract}
        by = ", ".join(word for source, word in words.items() if self.sources[source])
        unverified = f"; {self.unverified:,} without a second look" if self.unverified else ""
        unknown = f" ({self.unpriced:,} without a known price)" if self.unpriced else ""
        lost = (
            f", of which {self.lost_tokens:,} and {self.lost_usd:.4f} USD came to nothing" if self.lost_tokens else ""
        )
        cost = f"{self.tokens:,} tokens, {self.usd:.4f} USD{lost}{unknown}"
        return f"{by or 'no recap'}{unverified}; {cost}" if self.sources or self.tokens else ""


class UserDays:
    """Every user's day of one date, by uid; `documents_read` counts."""

    def __init__(self, services: Services, query: DayQuery) -> None:
        self._services = services
        self._store = services.store
        self._query = query
        self.documents_read = 0

    async def pages(self) -> AsyncGenerator[list[UserDay]]:
        """Page by page, a row for each user document, due or not; of those that are open, what Redis says of them."""
        store, day = self._store, self._query.day
        ledgers = _Reader(partial(self._count, partial(store.ledgers_on, day)), lambda row: row[0], lambda row: row[0])
        summaries = _Reader(partial(self._count, partial(store.summaries_on, day)), "/".join, lambda row: row[0])
        async with aclosing(pages_of(partial(self._count, store.all_users), lambda listed: listed.uid)) as pages:
            async for users in pages:
                last = users[-1].uid
                ledger_of = dict(await ledgers.up_to(last))
                stored = Counter(uid for uid, _ in await summaries.up_to(last))
                yield await self._explained([self._row(user, ledger_of, stored) for user in users])

    def _row(self, listed: UserDocument, ledgers: Mapping[str, Ledger], summaries: Mapping[str, int]) -> UserDay:
        ledger = ledgers.get(listed.uid)
        return UserDay(listed, ledger, summaries.get(listed.uid, 0), day_state(listed, ledger, self._query))

    async def _explained(self, rows: list[UserDay]) -> list[UserDay]:
        claims, shards = self._services.claims, self._services.limits.shards
        keys: dict[str, tuple[str, str]] = {}
        for row in rows:
            slot, user = slot_of(row.listed, self._query.day), row.listed.user
            if row.state == "waiting" and slot is not None and user is not None:
                shard = key_of(row.uid, slot.at, user.hour, claims.environment, shards)
                keys[row.uid] = (user_key(row.uid, self._query.day), shard)
        names = list(dict.fromkeys(key for both in keys.values() for key in both))
        records = dict(zip(names, await claims.read(names) if names else [], strict=True))
        by_uid = {row.uid: row for row in rows}
        opening = (self._opened(by_uid[uid], records[claim], records[shard]) for uid, (claim, shard) in keys.items())
        return list((by_uid | {row.uid: row for row in await asyncio.gather(*opening)}).values())

    async def _opened(self, row: UserDay, claim: Record, shard: Record) -> UserDay:
        """Why it is open, and what its failed tries have cost."""
        row = self._why_open(row, claim, shard)
        if row.ledger is None and claim.reason:
            self.documents_read += 1
            if kept := await self._store.kept_draft(row.uid, self._query.day, COST_KEY):
                return replace(row, spent=Spent.from_metadata(kept.metadata))
        return row

    def _why_open(self, row: UserDay, claim: Record, shard: Record) -> UserDay:
        slot, query, reason = slot_of(row.listed, self._query.day), self._query, claim.reason
        redis_now = query.now - query.offset
        is_open = claim.state in (ClaimState.CLAIMED, ClaimState.IDLE)
        until = free_at(claim, redis_now) + query.offset if is_open else None
        if lease_left(claim, redis_now):
            return replace(row, state="held", reason="killed_run" if shard.crashes else "another_run", until=until)
        if claim.state is ClaimState.FOREIGN:
            return replace(row, state="held", reason="foreign")
        if claim.state is ClaimState.ABSENT and row.ledger is None:
            is_new = query.now - REACHED_WITHIN < (row.listed.created or query.now) < query.now
            is_late = slot is not None and query.now > slot.at + REACHED_WITHIN and not is_new
            if shard.state is ClaimState.ABSENT and is_late:
                forgot = query.remembers is None or slot is None or query.remembers > slot.at
                return replace(row, state="unreached", reason="redis_forgot" if forgot else "unreached")
            if shard.state is ClaimState.IDLE and what_stopped(shard.reason):
                return replace(row, state="not_reached", reason=shard.reason)
            if shard.state is ClaimState.COMPLETE and slot is not None and has_changed_since(slot.at, row.listed):
                return replace(row, state=UNKNOWN)  # after the runs had served their hour
            served_by = "another_run" if lease_left(shard, redis_now) else "killed_run"
            left = {ClaimState.IDLE: shard.reason and LEFT_OPEN, ClaimState.CLAIMED: served_by}
            reason = left.get(shard.state, "")
        if claim.state is ClaimState.CLAIMED:
            reason = "killed_run"  # its lease has lapsed
        return replace(row, reason=reason or (row.ledger.reason if row.ledger else ""), until=until)

    async def _count(self, read: Callable[[K | None, int], Awaitable[list[T]]], after: K | None, size: int) -> list[T]:
        page = await read(after, size)
        self.documents_read += len(page)
        return page


class _Reader(Generic[K, T]):
    """The rows of a query, in the order of their uids, up to one uid at a time."""

    def __init__(
        self, read: Callable[[K | None, int], Awaitable[list[T]]], key: Callable[[T], K], uid: Callable[[T], str]
    ) -> None:
        self._read, self._key, self._uid = read, key, uid
        self._after: K | None = None
        self._rows: list[T] = []  # that were read, and are of later uids
        self._is_over = False

    async def up_to(self, last: str) -> list[T]:
        """The next rows, of uids up to `last`, in constant memory but for those."""
        rows, end = self._rows, _order(last)
        while not self._is_over and (not rows or _order(self._uid(rows[-1])) <= end):
            page = await self._read(self._after, PAGE)
            self._is_over = len(page) < PAGE
            self._after = self._key(page[-1]) if page else None
            rows += page
        count = bisect_right(rows, end, key=lambda row: _order(self._uid(row)))
        self._rows = rows[count:]
        return rows[:count]


def _order(uid: str) -> bytes:
    """Both stores order ids by their UTF-8 bytes."""
    return uid.encode()


def slot_of(listed: UserDocument, day: date) -> Slot | None:
    """When the user's day was due, by the current zone and hour; None for a user that can't be served."""
    user = listed.user
    return slot_of_day(user.zone, day, user.hour) if user is not None else None


def covered_later(slot: Slot, ledgers: Mapping[date, Ledger]) -> str:
    """Why a day can't be made any more: a later day has read its conversations. Empty if it can."""
    for day, ledger in sorted(ledgers.items()):
        begins_before = ledger.window_start is not None and ledger.window_start < slot.at
        has_all = ledger.told is None and ledger.window_end is not None and ledger.window_end > slot.at
        if day > slot.recap_date and (begins_before or has_all):
            if ledger.state is DayState.SKIPPED:
                return f"its conversations were looked at for {day}, which was skipped"
            return f"its conversations are in the recap of {day}"
    return ""


def is_abandoned_resend(ledger: Ledger | None) -> bool:
    """Whether a resend left it open. The sweep leaves it alone; another resend finishes it."""
    return ledger is not None and ledger.state.open and ledger.outcome == RESEND_OUTCOME


def day_state(listed: UserDocument, ledger: Ledger | None, query: DayQuery) -> str | None:
    """The state of the user's day; None if it was not due."""
    if ledger is not None and (ledger.state.final or ledger.state is DayState.UNREADABLE):
        return ledger.ending
    if is_abandoned_resend(ledger):
        return "unfinished"
    slot = slot_of(listed, query.day)
    if slot is None or listed.user is None or (ledger is None and not listed.user.enabled):
        return None
    match query.rules.phase(slot.at, query.now):
        case Phase.EARLY:
            return None if ledger is None else "waiting"
        case Phase.OVER:
            return _state_without_ledger(listed, slot.at, query) if ledger is None else "unfinished"
        case _:
            return "waiting"


def _state_without_ledger(listed: UserDocument, slot: datetime, query: DayQuery) -> str | None:
    """No run served this day. It was due for users who were there before, as their documents are now."""
    ended = query.rules.service_end(slot)
    if query.since is not None and ended <= query.since:
        return None
    if not query.rules.could_have(slot, listed.created):
        return None  # signed up later
    return UNKNOWN if has_changed_since(slot, listed) else "unserved"


def has_changed_since(slot: datetime, listed: UserDocument) -> bool:
    """Whether the document was made or changed since: it may have come too late, had another hour, or been off."""
    return any(at is not None and at > slot for at in (listed.created, listed.updated))
