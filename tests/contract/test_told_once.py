"""Each conversation that can be read within the look-back is in exactly one recap, whatever happens around it.

Histories of some days: conversations that begin, and can be read later; days that are served, late, thin, missed or
passed over; zones and hours that move; ledgers of the former version; resends beside the next day; the app's own recap
after a day that was skipped. A run reads at one time and writes at another, so others write in between.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notifications.adapters.local.sqlite import SqliteStore
from notifications.adapters.stores.layout import read_layout
from notifications.commands.resend import Refused, refuse_unmakeable
from notifications.domain.claim import ClaimAnswer
from notifications.domain.delivery import Decision, LedgerRules, NextStep
from notifications.domain.model import Cited, DayState, Draft, Recap, User
from notifications.domain.money import NOTHING
from notifications.domain.push import PushText
from notifications.domain.schedule import ONE_DAY, Phase, Rules, Slot, slot_instant, slot_on, zone
from notifications.ports import ClaimTerms, Reply
from notifications.run.day import Day
from notifications.run.day_input import DayInput, read_conversations, read_ledgers
from notifications.testing import MemoryStore, MemoryWorld
from tests.support.worlds import FirestoreWorld, SqliteWorld, World, connect, talk

FIRST, DAYS = date(2026, 3, 26), 7  # a clock goes forward in Berlin on the 29th
LOOK_BACK, AT_MOST, HOUR = timedelta(hours=24), timedelta(hours=72), timedelta(hours=1)
ZONES = ("UTC", "Europe/Berlin", "Pacific/Honolulu", "Pacific/Kiritimati", "America/St_Johns")
SERVED = Rules(timedelta(hours=2), timedelta(minutes=20))
RULES = LedgerRules(timedelta(seconds=120), 3, timedelta(days=30))


@dataclass(frozen=True)
class Served:
    """How one day goes. Minutes: until it is read after its slot, and from then until it is written."""

    how: str  # served, thin, missed, unserved, former: by the former version
    zone: str
    hour: int
    read: int
    write: int
    moves_between: bool  # the next day's zone and hour are set between reading and writing


@dataclass(frozen=True)
class Talk:
    """Hours after the first midnight at which it begins, and hours from then until it can be read."""

    begins: float
    readable_after: float
    live: bool  # it stands there from its start, under way


@dataclass(frozen=True)
class Again:
    """An operator's resend of a day, or the app's own recap: hours after its slot, minutes until it is written."""

    day: int
    after: float
    write: int
    by_the_app: bool


days = st.builds(
    Served,
    st.sampled_from(["served"] * 6 + ["thin", "thin", "missed", "unserved", "former"]),
    st.sampled_from(("UTC",) * 8 + ZONES),
    st.sampled_from((20, 20, 20, 20, 22, 0, 12)),
    st.integers(0, 139),
    st.integers(0, 11),
    st.booleans(),
)
talks = st.builds(
    Talk,
    st.floats(0, 24 * DAYS).map(lambda hours: round(hours, 2)),
    st.sampled_from([0, 0, 0.5, 3, 12, 23, 24, 30, 50]),
    st.booleans(),
)
again = st.builds(
    Again, st.integers(0, DAYS - 1), st.floats(0.1, 60).map(lambda h: round(h, 1)), st.integers(0, 90), st.booleans()
)
histories = st.tuples(
    st.lists(days, min_size=DAYS, max_size=DAYS), st.lists(talks, max_size=12), st.lists(again, max_size=3)
)
START = datetime.combine(FIRST, datetime.min.time(), UTC)


@dataclass
class History:
    """One user's days, carried out in the order of time."""

    world: World
    store: Any
    told: Counter[str] = field(default_factory=Counter)
    covered: list[tuple[datetime, datetime, datetime]] = field(default_factory=list)  # floor, slot, when it was read
    assumed: datetime = START  # a ledger that names none has told all before this
    runs: int = 0
    skipped: dict[date, list[str]] = field(default_factory=dict)
    stored: dict[str, datetime] = field(default_factory=dict)  # what stands in the store, and when it began
    readable: dict[str, datetime] = field(default_factory=dict)
    too_early: list[str] = field(default_factory=list)  # told while it was under way
    by_the_app: dict[str, tuple[datetime, str]] = field(default_factory=dict)  # when it told what, and the zone then
    told_again: list[str] = field(default_factory=list)  # by a recap of ours after that

    async def carry_out(self, plan: list[Served], said: list[Talk], wishes: list[Again]) -> None:
        slots = [slot_on(one.zone, FIRST + n * ONE_DAY, one.hour) for n, one in enumerate(plan)]
        steps: list[tuple[datetime, int, Callable[[], Any]]] = []

        def at(when: datetime, step: Callable[[], Any]) -> None:
            steps.append((when, len(steps), step))

        self._set_user(plan[0])
        for n, one in enumerate(said):
            self._schedule_talk(at, f"c{n}", one)
        for n, (day, following) in enumerate(zip(plan, [*plan[1:], plan[-1]], strict=True)):
            self._schedule_day(at, day, slots[n], following)
        for wish in wishes:
            if wish.day < len(slots):
                self._schedule_again(at, wish, slots[wish.day])
        for _, _, step in sorted(steps, key=lambda one: one[:2]):
            await step()

    def _set_user(self, one: Served) -> None:
        doc = {"time_zone": one.zone, "daily_summary_enabled": True, "daily_summary_hour_local": one.hour}
        self.world.put_user("ann", doc, {}, {})

    def _schedule_talk(self, at: Callable[..., None], key: str, one: Talk) -> None:
        begun = START + timedelta(hours=one.begins)

        async def begins() -> None:
            self.stored[key] = begun
            self.world.put_talk("ann", key, talk("ann", begun, status="in_progress"))

        async def can_be_read() -> None:
            self.stored[key] = begun
            self.world.put_talk("ann", key, talk("ann", begun, status="completed"))

        self.readable[key] = begun + timedelta(hours=one.readable_after)
        if one.live:
            at(begun, begins)
        at(self.readable[key], can_be_read)

    def _schedule_day(self, at: Callable[..., None], one: Served, slot: Slot, following: Served) -> None:
        if one.how == "unserved":
            return
        reads = slot.at + timedelta(minutes=one.read)
        writes = reads + timedelta(minutes=one.write)
        user, kept = User("ann", one.zone, one.hour), list[DayInput]()

        async def read() -> None:
            if one.how == "former":
                await self._former(slot)
            elif one.how == "missed":
                await self.store.end_day(self._day(slot).opening(NOTHING), DayState.MISSED, "closed")
            else:
                kept.extend(await self._read(user, slot, self._day(slot)))

        async def write() -> None:
            if kept:
                await self._write(user, kept[0], self._day(slot), reads, thin=one.how == "thin")

        async def moves() -> None:
            self._set_user(following)

        at(reads, read)
        if one.moves_between:
            at(reads, moves)
        at(writes, write)
        at(writes, moves)

    def _schedule_again(self, at: Callable[..., None], wish: Again, slot: Slot) -> None:
        wished = slot.at + timedelta(hours=wish.after)
        kept: list[tuple[User, DayInput, Day]] = []

        async def reads() -> None:
            if wish.by_the_app:
                await self._by_the_app(slot, wished)
                return
            listed = await self.store.user_document("ann")
            try:
                refuse_unmakeable(listed, await read_ledgers(self.store, listed.user, slot, LOOK_BACK), SERVED)
            except Refused:
                return
            found = (await self.store.ledgers_between("ann", slot.recap_date, slot.recap_date)).get(slot.recap_date)
            if found is not None and found.state not in (DayState.SKIPPED, DayState.MISSED):
                return
            day = replace(self._day(slot), resend=True, replaces=found)
            kept.extend((listed.user, one, day) for one in await self._read(listed.user, slot, day))

        async def write() -> None:
            for user, read, day in kept:
                await self._write(user, read, day, wished, thin=False)

        at(wished, reads)
        at(wished + timedelta(minutes=wish.write), write)

    def _day(self, slot: Slot) -> Day:
        self.runs += 1
        won = Reply(ClaimAnswer.WON, slot.at)
        terms = ClaimTerms("key", 0, 0, 0)
        nothing: Any = SimpleNamespace(services=SimpleNamespace(push_text=PushText.RECAP))
        return Day(
            run=nothing,
            uid="ann",
            date=slot.recap_date,
            slot=slot.at,
            terms=terms,
            token=f"run-{self.runs}",
            claim_reply=won,
            phase=Phase.DUE,
            claim_started_at=0.0,
        )

    async def _read(self, user: User, slot: Slot, day: Day) -> list[DayInput]:
        """Steps 1 and 2 of a user's turn: nothing where the day has ended, or is another writer's."""
        ledgers = await read_ledgers(self.store, user, slot, LOOK_BACK)
        if ledgers.today is not None and day.replaces is None:
            return []
        if ledgers.today is None and (summary := await self.store.summary("ann", slot.recap_date)):
            await self.store.end_as_legacy(day.opening(NOTHING), summary)
            return []
        return [] if ledgers.inverted_by else [await read_conversations(self.store, ledgers)]

    async def _write(self, user: User, given: DayInput, day: Day, read_at: datetime, *, thin: bool) -> None:
        """Steps 2 to 6, made anew where a ledger around has changed."""
        slot = given.ledgers.slot
        telling = [one for one in given.conversations if one.has_content]
        if not telling and day.replaces is not None:
            return
        if thin or not telling:
            decision = await self.store.end_day(day.opening(NOTHING, given), DayState.SKIPPED, "no_content")
        else:
            recap = Recap(f"id-{self.runs}", slot.recap_date, slot.at, Draft("H", (Cited("O"),), ""), 1, 1)
            decision = await self.store.begin(
                day.opening(NOTHING, given), recap, has_targets=False, replaces=day.replaces
            )
        if decision.step is NextStep.CHANGED:
            for anew in await self._read(user, slot, day):
                await self._write(user, anew, day, read_at, thin=thin)
            return
        self._count(decision, given, [one.id for one in telling], read_at)

    def _count(self, decision: Decision, given: DayInput, keys: list[str], read_at: datetime) -> None:
        if not decision.write or decision.ledger is None:
            return
        if decision.ledger.outcome == "legacy":
            self.assumed = max(self.assumed, decision.ledger.window_end or START)
            return
        replaced = given.ledgers.today
        self.told.update(keys)
        if decision.ledger.state is not DayState.SKIPPED:  # the app's day is known in the zone that the user has now
            told = {key: at for key, (at, its_zone) in self.by_the_app.items() if its_zone == given.ledgers.user.zone}
            self.told_again += [key for key in keys if told.get(key, read_at) < read_at]
        fresh = given.ledgers.slot.at - LOOK_BACK
        begun = {one.id: one.created_at for one in given.conversations}
        self.too_early += [key for key in keys if read_at < self.readable[key] and begun[key] >= fresh]
        if replaced is not None and replaced.state is DayState.SKIPPED:  # what it had read is told by its recap alone
            self.told.subtract(key for key in keys if key in self.skipped.get(replaced.date, ()))
        if decision.ledger.state is DayState.SKIPPED:
            self.skipped[decision.ledger.date] = keys
        self.covered.append((floor_of(given), given.ledgers.slot.at, read_at))

    async def _former(self, slot: Slot) -> None:
        """As version 1.0 did: from the latest window's end on, whatever was under way, and no word of which."""
        around = await self.store.ledgers_between("ann", slot.recap_date - 3 * ONE_DAY, slot.recap_date + 2 * ONE_DAY)
        if slot.recap_date in around:
            return
        ends = [one.window_end for one in around.values() if one.window_end]
        start = max([max(ends, default=slot.back(1)), slot.at - AT_MOST])
        if start >= slot.at:
            return
        doc = {
            "state": "sent",
            "seq": 1,
            "date": slot.recap_date.isoformat(),
            "window_start": start,
            "window_end": slot.at,
        }
        self.world.put_ledger("ann", slot.recap_date.isoformat(), doc)
        self.assumed = max(self.assumed, slot.at)
        self.told.update(key for key, begun in self.stored.items() if start <= begun < slot.at)

    async def _by_the_app(self, slot: Slot, now: datetime) -> None:
        """The user asks the app for a day that was skipped: what can be read of before its slot is told there."""
        key = slot.recap_date.isoformat()
        found = (await self.store.ledgers_between("ann", slot.recap_date, slot.recap_date)).get(slot.recap_date)
        if found is None or found.state is not DayState.SKIPPED or self.world.summaries("ann").get(f"app-{key}"):
            return
        naive = now.replace(tzinfo=None).isoformat()  # as the app writes it
        self.world.put_summary("ann", f"app-{key}", {"id": f"app-{key}", "date": key, "created_at": naive})
        self.assumed = max(self.assumed, now)
        midnight, ends = (slot_instant(zone(slot.zone), slot.recap_date + n * ONE_DAY, 0) for n in (0, 1))
        its = [one for one, begun in self.stored.items() if midnight <= begun < min(ends, now)]
        self.by_the_app |= {one: (now, slot.zone) for one in its if self.readable[one] <= now}

    def check(self, said: list[Talk]) -> None:
        """Never twice; and once, where a recap could read it."""
        assert {key: times for key, times in self.told.items() if times > 1} == {}
        assert (self.too_early, self.told_again) == ([], [])
        for n, one in enumerate(said):
            begun = START + timedelta(hours=one.begins)
            readable = begun + timedelta(hours=one.readable_after)
            could = any(
                floor <= begun < slot and (readable <= read or (one.live and begun < slot - LOOK_BACK))
                for floor, slot, read in self.covered
            )
            if could and begun >= self.assumed:
                assert self.told[f"c{n}"] == 1, (n, one)


def floor_of(given: DayInput) -> datetime:
    """How far back this recap has to look, by the rule in words: a look-back before the last recap that ended."""
    slot, around = given.ledgers.slot, given.ledgers.nearby.values()
    ends = [one.window_end for one in around if one.window_end and one.window_end <= slot.at]
    if not ends:
        return slot.back(1)
    starts = [one.window_start for one in around if one.window_start and one.window_end and one.window_end <= slot.at]
    return max(max(ends) - LOOK_BACK, slot.at - AT_MOST, *([min(starts)] if starts else []))


async def carried_out(world: World, store: Any, plan: list[Served], said: list[Talk], wishes: list[Again]) -> None:
    history = History(world, store)
    try:
        await history.carry_out(plan, said, wishes)
    finally:
        await store.aclose()
    history.check(said)


PLAIN = Served("served", "UTC", 20, 1, 1, moves_between=False)
MISSED, THIN = replace(PLAIN, how="missed"), replace(PLAIN, how="thin")
SLOW = replace(PLAIN, write=11)
SPOKEN = Talk(30, 0, live=False)
STUB = Talk(19, 2, live=True)  # under way at the hour
STUCK = Talk(19, 50, live=True)
UPLOAD = Talk(15, 23, live=False)


@example(([PLAIN] * DAYS, [STUB, UPLOAD, STUCK], []))
@example(([PLAIN, MISSED, *[PLAIN] * 5], [SPOKEN], [Again(1, 24, 3, by_the_app=False)]))  # the next day is first
@example(([PLAIN, MISSED, SLOW, *[PLAIN] * 4], [SPOKEN], [Again(1, 23.9, 10, by_the_app=False)]))  # it is last
@example(([PLAIN, MISSED, replace(SLOW, how="thin"), *[PLAIN] * 4], [SPOKEN], [Again(1, 23.9, 10, by_the_app=False)]))
@example(([PLAIN, THIN, MISSED, *[PLAIN] * 4], [Talk(30, 15, live=False)], [Again(1, 3, 0, by_the_app=True)]))
@example(([PLAIN, THIN, *[PLAIN] * 5], [Talk(30, 15, live=False)], [Again(1, 3, 0, by_the_app=True)]))
@example(([PLAIN] * DAYS, [Talk(20.5, 0, live=False)], [Again(0, 1, 0, by_the_app=True)]))
@settings(max_examples=200)
@given(histories)
def test_each_conversation_is_in_exactly_one_recap(history: tuple[list[Served], list[Talk], list[Again]]) -> None:
    world = MemoryWorld()
    asyncio.run(carried_out(world, MemoryStore(world.documents, RULES), *history))


@settings(max_examples=20)
@given(histories)
def test_each_conversation_is_in_exactly_one_recap_on_sqlite(history: tuple[Any, Any, Any]) -> None:
    with TemporaryDirectory() as folder:
        world = SqliteWorld(Path(folder))
        try:
            asyncio.run(
                carried_out(world, SqliteStore(Path(folder) / "recap.sqlite3", RULES, read_layout(None)), *history)
            )
        finally:
            world.close()


def test_each_conversation_is_in_exactly_one_recap_on_firestore(emulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator)

    @settings(max_examples=6)
    @given(histories)
    def holds(history: tuple[Any, Any, Any]) -> None:
        async def run() -> None:
            world = FirestoreWorld(emulator)
            try:
                await carried_out(world, await connect(world, RULES), *history)
            finally:
                world.close()

        asyncio.run(run())

    holds()


def test_what_is_readable_within_the_look_back_is_told_where_no_day_is_missed() -> None:
    """The promise in plain numbers: each hour of a week, each delay up to the look-back."""
    said = [Talk(hour + 0.5, after, live=after > 0) for hour in range(24, 24 * 5) for after in (0, 1, 12, 24)]
    world = MemoryWorld()
    history = History(world, MemoryStore(world.documents, RULES))
    asyncio.run(history.carry_out([PLAIN] * DAYS, said, []))
    assert history.told == {f"c{n}": 1 for n in range(len(said))}
