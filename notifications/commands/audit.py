"""`audit`: one date's accounts. Every due user's day ends in exactly one ledger, or is listed here.

Three ordered readings, users, ledgers and summaries, are joined by uid page by page, so that
memory stays constant whatever the number of users.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Any, TypeVar

from notifications.commands.operation import Context, Operation
from notifications.commands.terminal import say, say_wrapped
from notifications.domain.model import Ledger, State
from notifications.domain.schedule import ONE_DAY, Phase, Rules, nominal_date, slot_on
from notifications.domain.text import printable
from notifications.ports import Listed, Store

T = TypeVar("T")

PAGE = 1_000
UID_SHOWN = 60  # characters
MADE = (("llm", "by the LLM"), ("extract", "extracts"))
UIDS_SHOWN = 100  # of each kind: what a person can act on
WRONG = (
    *("missed", "dead", "gave_up", "unserved", "unfinished", "unreadable", "invisible"),
    *("duplicate_pushes", "duplicate_summaries"),
)
TOLD = (*WRONG, "waiting", "unknown")  # kinds whose uids a person may want
NEXT = {
    **dict.fromkeys(
        ("missed", "dead"), "python job.py why UID {day} says why; python job.py resend UID {day} makes it"
    ),
    "gave_up": "the recap is stored, and was pushed to nobody; python job.py resend UID {day} pushes it",
    "unserved": "no run came in time: look at the scheduler; python job.py resend UID {day} makes it",
    "unfinished": "the next runs end it: pushed once more, or given up; python job.py why UID {day}",
    "unreadable": "written by another version, or by hand: correct or delete users/UID/recap_deliveries/{day}",
    "invisible": "the query can't see them: python job.py doctor --fix, or write their documents anew",
    "duplicate_pushes": "FCM's answer was lost, or a run froze: docs/guarantees.md says which; nothing to do",
    "duplicate_summaries": "another hand wrote a second one; the app decides which it shows",
}


@dataclass(slots=True)
class Account:
    """Counts by kind, the first uids of each, and documents read."""

    counts: Counter[str] = field(default_factory=Counter)
    uids: dict[str, list[str]] = field(default_factory=dict)
    read: int = 0
    sources: Counter[str] = field(default_factory=Counter)  # recaps by who made them: llm, extract
    tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0  # recaps by the LLM whose price is not known

    def spend(self, entry: Ledger) -> None:
        """What one recap cost."""
        if entry.source:
            self.sources[entry.source] += 1
            self.tokens += entry.tokens
            self.usd += entry.usd or 0.0
            self.unpriced += entry.usd is None and entry.tokens > 0

    def add(self, kind: str, uid: str) -> None:
        """One user more of that kind."""
        self.counts[kind] += 1
        shown = self.uids.setdefault(kind, [])
        if len(shown) < UIDS_SHOWN:
            shown.append(uid)

    @property
    def wrong(self) -> bool:
        """Whether a person should look."""
        return any(self.counts[kind] for kind in WRONG)


def audit(day: date | None, *, as_json: bool) -> Operation:
    """The operation. Without a date, yesterday's in UTC; exit 1 where something is wrong."""

    async def run(context: Context) -> int:
        now = await context.claims.now() + context.offset
        which = day or now.date() - ONE_DAY
        async with context.open_parts() as parts:
            account = await accounts(parts.store, which, now, parts.rules, context.since)
        if as_json:
            told: dict[str, Any] = {"date": str(which), "documents_read": account.read}
            told |= {"sources": account.sources, "tokens": account.tokens, "usd": round(account.usd, 6)}
            told |= {"without_a_price": account.unpriced}
            say(json.dumps(told | {"counts": account.counts, "uids": account.uids}))
        else:
            _tell(which, account)
        return 1 if account.wrong else 0

    return run


def _tell(day: date, account: Account) -> None:
    for kind, count in sorted(account.counts.items()):
        uids = [printable(uid, UID_SHOWN) for uid in account.uids.get(kind, [])] if kind in TOLD else []
        more = f" and {count - len(uids)} more" if uids and count > len(uids) else ""
        say(f"{day}  {kind:20} {count:8}  {' '.join(uids)}{more}".rstrip())
    if account.sources:
        by = ", ".join(f"{account.sources[name]} {word}" for name, word in MADE if account.sources[name])
        unknown = f" ({account.unpriced} without a known price)" if account.unpriced else ""
        say(f"{day}: {by}; {account.tokens} tokens, {account.usd:.4f} USD{unknown}.")
    for kind in WRONG:
        if account.counts[kind]:
            say_wrapped(f"next, {kind}: {NEXT[kind].format(day=day)}.", "    ", "")
    decision = "something is wrong" if account.wrong else "all well"
    say(f"{day}: {decision}; {account.read} documents read.")


async def accounts(store: Store, day: date, now: datetime, rules: Rules, since: datetime | None = None) -> Account:
    """Join the three readings. `since`: nobody was due before the data folder was first filled."""
    asked = Asked(day, now, rules, since)
    account = Account()
    async with (
        aclosing(_pages(store.everybody, lambda one: one.uid, account)) as users,
        aclosing(_pages(partial(store.ledgers_on, day), lambda one: one[0], account)) as ledgers,
        aclosing(_pages(partial(store.summaries_on, day), "/".join, account)) as summaries,
    ):
        ledger, summary = await anext(ledgers, None), await anext(summaries, None)
        async for listed in users:
            while ledger is not None and _order(ledger[0]) < _order(listed.uid):
                ledger = await anext(ledgers, None)  # of an account that was erased since
            while summary is not None and _order(summary[0]) < _order(listed.uid):
                summary = await anext(summaries, None)
            mine = ledger[1] if ledger is not None and ledger[0] == listed.uid else None
            stored = 0
            while summary is not None and summary[0] == listed.uid:
                stored += 1
                summary = await anext(summaries, None)
            _judge(account, listed, mine, stored, asked)
    return account


async def _pages(
    page: Callable[[str | None, int], Awaitable[list[T]]], key: Callable[[T], str], account: Account
) -> AsyncGenerator[T]:
    after: str | None = None
    while found := await page(after, PAGE):
        account.read += len(found)
        for one in found:
            yield one
        if len(found) < PAGE:
            return
        after = key(found[-1])


def _order(uid: str) -> bytes:
    """Both stores order ids by their UTF-8 bytes."""
    return uid.encode()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about whom: the date, as it stands now."""

    day: date
    now: datetime
    rules: Rules
    since: datetime | None


def _judge(account: Account, listed: Listed, ledger: Ledger | None, summaries: int, asked: Asked) -> None:
    uid = listed.uid
    if ledger is not None:
        account.spend(ledger)
    if summaries:
        account.add("stored", uid)
    if summaries > 1:
        account.add("duplicate_summaries", uid)
    if ledger is not None and ledger.repeats:
        account.add("duplicate_pushes", uid)
    if ledger is not None and ledger.tries > 1:
        account.add("pushed_again", uid)  # an earlier push may have been accepted: its answer is unknown
    if listed.user is None:
        account.add("invisible", uid)
    standing = _standing(listed, ledger, asked)
    if standing == "unknown":
        account.add("unknown", uid)
    elif standing is not None:
        account.add("due", uid)
        account.add(standing, uid)


def _standing(listed: Listed, ledger: Ledger | None, asked: Asked) -> str | None:
    """How the user's day stands; None where it was not due, "unknown" where nobody can tell any more."""
    user = listed.user
    if ledger is not None and (ledger.state.final or ledger.state is State.UNREADABLE):
        return ledger.state.value
    if ledger is not None and ledger.outcome == "resend":
        return "unfinished"
    if user is None or (ledger is None and not user.enabled):
        return None
    slot = slot_on(user.zone, nominal_date(asked.day, user.hour), user.hour).at
    phase = asked.rules.phase(slot, asked.now)
    if phase is Phase.EARLY:
        return None if ledger is None else "waiting"
    if phase is Phase.OVER:
        return _without_a_ledger(listed, slot, asked) if ledger is None else "unfinished"
    return "waiting"


def _without_a_ledger(listed: Listed, slot: datetime, asked: Asked) -> str | None:
    """Nobody served this day. It was due for who was here before, with the zone, the hour and the switch of today."""
    ended = slot + asked.rules.catch_up + asked.rules.grace
    if asked.since is not None and ended <= asked.since:
        return None
    if listed.created is not None and listed.created > slot:
        return None  # signed up later
    if listed.updated is not None and listed.updated > slot:
        return "unknown"  # the document was changed since: it may have been another hour, or off
    return "unserved"
