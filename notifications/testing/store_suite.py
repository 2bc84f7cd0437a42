"""The contract of a store: one suite over all of them, the same semantics behind the same port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.domain.backoff import jittered
from notifications.domain.delivery import NextStep, Opening
from notifications.domain.errors import StoreDown
from notifications.domain.model import (
    Conversation,
    DayState,
    OpenTarget,
)
from notifications.domain.money import Spent
from notifications.domain.push import PushResult
from notifications.domain.recording import PushReport
from notifications.domain.target import TargetResult
from notifications.domain.told_once import LedgerVersion, Neighbours, join_told_hashes, told_hash
from notifications.ports import Store
from notifications.testing.documents_suite import (
    DAY,
    DRAFT,
    ON_ZONE,
    RECAP,
    RULES,
    SLOT,
    WINDOW,
    DocumentsSuite,
)

NEXT = SLOT + timedelta(minutes=9)


def opening(by: str, uid: str = "ann") -> Opening:
    """The opening of a delivery."""
    return Opening(uid, DAY, by, SLOT, WINDOW)


async def begin(store: Any, by: str = "me", **changes: Any) -> Any:
    """Begin the delivery of the recap, with a device unless the changes say otherwise."""
    given: dict[str, Any] = {"has_targets": True, "replaces": None} | changes
    return await store.begin(opening(by), RECAP, **given)


async def report(store: Any, opened: Any, by: str = "me", **answers: PushResult) -> Any:
    """Record what came of each target; `opened` is the decision of begin or take."""
    results = {name: TargetResult(answer, "503", NEXT) for name, answer in answers.items()}
    return await store.record_pushes("ann", DAY, PushReport(by=by, seq=1, results=results), opened)


async def persistently(store: Any, by: str) -> Any:
    """Repeat a commit that lost against another's, as a run does, with a jittered wait."""
    while True:
        try:
            return await begin(store, by=by)
        except StoreDown:
            await asyncio.sleep(jittered(timedelta(seconds=0.3), 0.2, 2).total_seconds())


AT_ONCE_STALE = replace(RULES, stale=timedelta(0))
AN_HOUR_BEFORE = SLOT - timedelta(hours=1)


class StoreSuite(DocumentsSuite):
    """The ledger's verbs, each one transaction (docs/protocol.md, section 4); and the documents."""

    begin_at_once = 5  # concurrent stores; fewer if each lost commit waits for a lock
    record_reads = 0  # documents that record_pushes reads right after begin or take; 1 where a transaction is one call

    async def test_a_ledger_around_that_changed_meanwhile_lets_nothing_be_written(self, store: Store) -> None:
        before, after = DAY - timedelta(days=1), DAY + timedelta(days=1)
        was: dict[date, LedgerVersion | None] = {before: None}
        mine = replace(opening("me"), told="", neighbours=Neighbours(was, {after: None}), zone=ON_ZONE, hour=22)
        kept = replace(mine, neighbours=Neighbours({before: (DayState.SKIPPED, 2)}, {after: None}))
        self.world.put_ledger("ann", after.isoformat(), {"state": "skipped", "seq": 1})
        self.world.put_ledger("ann", before.isoformat(), {"state": "skipped", "seq": 2})
        verbs: list[Callable[[Opening], Any]] = [
            lambda op: store.begin(op, RECAP, has_targets=True, replaces=None),
            lambda op: store.end_day(op, DayState.SKIPPED, "no_content"),
        ]
        for verb in verbs:
            assert (await verb(mine)).step is NextStep.CHANGED  # there was none before
            seq = replace(mine, neighbours=Neighbours({before: (DayState.SKIPPED, 1)}, {after: None}))
            assert (await verb(seq)).step is NextStep.CHANGED
            assert (
                await verb(replace(kept, resend=True))
            ).step is NextStep.CHANGED  # a resend looks at later days, too
            assert (await verb(replace(kept, hour=21))).step is NextStep.CHANGED  # so does who moved since the listing
            assert (await verb(replace(kept, zone="UTC"))).step is NextStep.CHANGED
        assert (sorted(self.world.ledgers("ann")), self.world.summaries("ann")) == (
            [before.isoformat(), after.isoformat()],
            {},
        )
        assert (await store.begin(kept, RECAP, has_targets=True, replaces=None)).step is NextStep.PUSH

    async def test_what_a_later_version_wrote_into_a_ledger_stays(self, store: Store) -> None:
        closed = await store.end_day(replace(opening("me"), told=""), DayState.SKIPPED, "no_content")
        doc = self.world.ledgers("ann")[DAY.isoformat()]
        assert (doc["told"], "read_from" in doc) == ("", False)
        self.world.put_ledger("ann", DAY.isoformat(), doc | {"of_tomorrow": {"a": [1]}})
        told = join_told_hashes("ann", [Conversation("t1", SLOT, overview="O"), Conversation("empty", SLOT)])
        opened = replace(opening("op"), told=told, read_from=WINDOW.start)
        await store.begin(opened, RECAP, has_targets=True, replaces=closed.ledger)
        results = {"aa": TargetResult(PushResult.ACCEPTED)}
        await store.record_pushes("ann", DAY, PushReport(by="op", seq=2, results=results))
        doc = self.world.ledgers("ann")[DAY.isoformat()]
        assert (doc["state"], doc["seq"], doc["of_tomorrow"]) == ("sent", 2, {"a": [1]})
        assert (doc["told"], doc["read_from"], "outcome" in doc) == (told_hash("ann", "t1"), WINDOW.start, False)

    @pytest.mark.parametrize("ahead", [timedelta(seconds=130), timedelta(days=400)])
    async def test_a_sender_that_a_clock_ahead_stamped_is_stale_a_while_from_now(
        self, store: Store, ahead: timedelta
    ) -> None:
        await begin(store)
        doc = self.world.ledgers("ann")[DAY.isoformat()]
        verbs: list[Callable[[], Any]] = [
            lambda: store.take("ann", DAY, "you"),
            lambda: store.sweep("ann", DAY, "you", over=True),
            lambda: store.resend("ann", DAY, claim_live=False),
            lambda: store.end_day(opening("you"), DayState.DEAD, "crashes"),
        ]
        for verb in verbs:
            self.world.put_ledger("ann", DAY.isoformat(), doc | {"sending_at": datetime.now(UTC) + ahead})
            decision = await verb()
            assert decision.step in (NextStep.BUSY, NextStep.REFUSED)
            assert decision.wait == timedelta(seconds=120)
            found = self.world.ledgers("ann")[DAY.isoformat()]
            assert abs(found["sending_at"] - datetime.now(UTC)) < timedelta(seconds=60)
            assert (found["state"], found["by"], found["tries"]) == ("sending", "me", 1)
            again = await verb()
            assert (again.step, again.write) == (decision.step, False)

    async def test_an_own_summary_is_found_by_the_id_that_its_ledger_names(self, store: Any) -> None:
        await begin(store)
        self.world.put_summary("ann", "0-theirs", {"date": DAY.isoformat(), "headline": "Theirs"})
        assert (await store.summary_document("ann", DAY, RECAP.id))["headline"] == "Head"
        assert (await store.summary_document("ann", DAY, "erased")) is not None

    async def test_begin_writes_ledger_and_summary_in_one(self, store: Store) -> None:
        decision = await begin(store)
        assert decision.step is NextStep.PUSH
        [(day, ledger)] = self.world.ledgers("ann").items()
        assert day == "2026-05-01"
        assert (ledger["state"], ledger["by"], ledger["tries"], ledger["seq"]) == ("sending", "me", 1, 1)
        assert ledger["expire_at"] == SLOT + timedelta(days=30)
        assert abs(ledger["sending_at"] - datetime.now(UTC)) < timedelta(minutes=1)
        [(key, doc)] = self.world.summaries("ann").items()
        assert (key, doc["id"], doc["date"], doc["headline"]) == ("5b7c", "5b7c", "2026-05-01", "Head")
        assert ledger["summary_id"] == "5b7c"
        assert doc["stats"] == {"total_conversations": 2, "total_duration_minutes": 41, "action_items_count": 1}
        assert doc["highlights"] == [
            {
                "topic": "T",
                "emoji": "e",
                "summary": "S",
                "conversation_ids": ["t1"],
                "items": [{"text": "S", "conversation_id": "t1", "quote": "so said"}],
            }
        ]
        assert doc["overview_items"] == [{"text": "Over", "conversation_id": "t1", "quote": "over there"}]
        assert doc["metadata"] == DRAFT.metadata

    async def test_a_repeated_begin_knows_itself_and_another_is_told_to_wait(self, store: Store) -> None:
        first = await begin(store)
        again = await begin(store)
        assert (again.step, again.write) == (NextStep.PUSH, False)
        assert replace(again.ledger, sending_at=None) == replace(first.ledger, sending_at=None)
        other = await begin(store, by="you")
        assert other.step is NextStep.BUSY
        assert timedelta(seconds=100) < other.wait <= timedelta(seconds=120)

    async def test_of_many_that_begin_one_pushes(self, store: Store) -> None:
        async with AsyncExitStack() as opened:
            stores = [await opened.enter_async_context(self.make()) for _ in range(self.begin_at_once)]
            decisions = await asyncio.gather(
                *(persistently(begun, f"run-{number}") for number, begun in enumerate(stores))
            )
        assert sorted(decision.step for decision in decisions) == [NextStep.BUSY] * (len(stores) - 1) + [NextStep.PUSH]
        assert len(self.world.summaries("ann")) == 1

    async def test_begin_for_who_is_gone_or_switched_off_writes_nothing(self, store: Store) -> None:
        self.world.update_user("ann", {"daily_summary_enabled": False})
        assert (await begin(store)).step is NextStep.NO_USER
        self.world.delete_user("ann")
        assert (await begin(store)).step is NextStep.NO_USER
        assert (self.world.ledgers("ann"), self.world.summaries("ann")) == ({}, {})

    @pytest.mark.parametrize("key", ["2026-05-01", "made-on-demand"])
    @pytest.mark.parametrize("written", [AN_HOUR_BEFORE, AN_HOUR_BEFORE.replace(tzinfo=None).isoformat()])
    async def test_begin_beside_another_hands_summary_is_legacy(
        self, store: Store, key: str, written: datetime | str
    ) -> None:
        """Apps store the time as text without an offset, in UTC."""
        theirs = {
            "id": key,
            "date": "2026-05-01",
            "created_at": written,
            "headline": "H",
            "overview": "O",
        }
        self.world.put_summary("ann", key, theirs)
        assert (await store.summary("ann", DAY)) is not None
        decision = await begin(store)
        assert (decision.step, decision.ledger.state, decision.ledger.outcome) == (
            NextStep.FINAL,
            DayState.SENT,
            "legacy",
        )
        [ledger] = self.world.ledgers("ann").values()
        assert ledger["window_end"] == AN_HOUR_BEFORE
        assert [doc["headline"] for doc in self.world.summaries("ann").values()] == ["H"]

    async def test_a_delivery_from_sending_to_sent(self, store: Any) -> None:
        opened = await begin(store)
        results = {"aa": TargetResult(PushResult.ACCEPTED), "bb": TargetResult(PushResult.BUSY, "503", NEXT)}
        pushed = PushReport(by="me", seq=opened.ledger.seq, results=results)
        decision = await store.record_pushes("ann", DAY, pushed)
        assert decision.step is NextStep.RETRY
        [ledger] = self.world.ledgers("ann").values()
        assert (ledger["state"], ledger["tries"], ledger["devices"]) == ("pending", 0, {"aa": "accepted"})
        [(_, stored)] = (await store.ledgers_between("ann", DAY, DAY)).items()
        assert stored.targets == {"bb": OpenTarget(0, NEXT, "503")}
        taken = await store.take("ann", DAY, "you")
        assert (taken.step, taken.ledger.by, taken.ledger.tries) == (NextStep.PUSH, "you", 1)
        decision = await report(store, None, "you", bb=PushResult.ACCEPTED)
        assert (decision.step, decision.ledger.state) == (NextStep.FINAL, DayState.SENT)
        [ledger] = self.world.ledgers("ann").values()
        assert (ledger["devices"], "targets" in ledger) == ({"aa": "accepted", "bb": "accepted"}, False)
        assert abs(ledger["sent_at"] - datetime.now(UTC)) < timedelta(minutes=1)
        assert (await store.take("ann", DAY, "third")).step is NextStep.FINAL

    async def test_a_report_right_after_begin_or_take_reads_nothing(self, store: Store) -> None:
        opened = await begin(store)
        read = store.reads
        pending = await report(store, opened, aa=PushResult.ACCEPTED, bb=PushResult.BUSY)
        assert (pending.step, store.reads - read) == (NextStep.RETRY, self.record_reads)
        taken = await store.take("ann", DAY, "you")
        read = store.reads
        sent = await report(store, taken, "you", bb=PushResult.ACCEPTED)
        assert (sent.step, sent.ledger.state) == (NextStep.FINAL, DayState.SENT)
        assert store.reads - read == self.record_reads
        [ledger] = self.world.ledgers("ann").values()
        assert (ledger["state"], ledger["by"], ledger["devices"]) == (
            "sent",
            "you",
            {"aa": "accepted", "bb": "accepted"},
        )
        assert (ledger["title"], ledger["tries"], "reason" in ledger) == ("🌤️ Head", 1, False)
        assert abs(ledger["sent_at"] - datetime.now(UTC)) < timedelta(minutes=1)

    async def test_a_report_whose_reply_was_lost_changes_nothing_the_second_time(self, store: Store) -> None:
        opened = await begin(store)
        await report(store, opened, aa=PushResult.ACCEPTED)
        [before] = self.world.ledgers("ann").values()
        again = await report(store, opened, aa=PushResult.ACCEPTED)
        assert (again.step, again.write) == (NextStep.FINAL, False)
        assert list(self.world.ledgers("ann").values()) == [before]

    async def test_a_report_on_a_ledger_that_another_has_taken_is_decided_anew(self, store: Store) -> None:
        async with self.make(AT_ONCE_STALE) as hasty:
            opened = await begin(hasty)
            await hasty.take("ann", DAY, "you")
            late = await report(hasty, opened, aa=PushResult.ACCEPTED, bb=PushResult.BUSY)
        assert (late.step, late.ledger.state, late.ledger.by) == (NextStep.RETRY, DayState.SENDING, "you")
        [ledger] = self.world.ledgers("ann").values()
        assert (ledger["state"], ledger["by"], ledger["devices"]) == ("sending", "you", {"aa": "accepted"})

    async def test_a_report_about_an_erased_account_brings_nothing_back(self, store: Store) -> None:
        opened = await begin(store)
        self.world.delete_ledger("ann", DAY.isoformat())
        assert (await report(store, opened, aa=PushResult.ACCEPTED)).step is NextStep.NO_USER
        assert self.world.ledgers("ann") == {}

    async def test_a_stale_sender_is_taken_over_and_its_own_report_still_counts(self, store: Store) -> None:
        async with self.make(AT_ONCE_STALE) as hasty:
            await begin(hasty)
            assert (await hasty.take("ann", DAY, "you")).step is NextStep.PUSH
            decision = await report(hasty, None, aa=PushResult.ACCEPTED)
        assert (decision.step, decision.ledger.state) == (NextStep.FINAL, DayState.SENT)

    async def test_an_app_that_rewrites_or_deletes_the_summary_disturbs_nothing(self, store: Store) -> None:
        await begin(store)
        self.world.put_summary("ann", RECAP.id, {"date": "2026-05-01", "headline": "Rewritten"})
        self.world.delete_summary("ann", RECAP.id)
        decision = await report(store, None, aa=PushResult.ACCEPTED)
        assert decision.ledger.state is DayState.SENT

    async def test_close_once_and_for_all(self, store: Any) -> None:
        first = await store.end_day(opening("me"), DayState.SKIPPED, "no_content")
        assert (first.step, first.write) == (NextStep.FINAL, True)
        again = await store.end_day(opening("you"), DayState.MISSED, "closed")
        assert (again.step, again.write, again.ledger.state) == (NextStep.FINAL, False, DayState.SKIPPED)
        around = await store.ledgers_between("ann", DAY - timedelta(days=3), DAY + timedelta(days=2))
        assert list(around) == [DAY]
        assert around[DAY].window_end == SLOT

    async def test_the_range_query_holds_three_days_back_and_two_ahead(self, store: Store) -> None:
        for n in range(-4, 4):
            day = DAY + timedelta(days=n)
            await store.end_day(Opening("ann", day, "me", SLOT, WINDOW), DayState.SKIPPED, "no_content")
        found = await store.ledgers_between("ann", DAY - timedelta(days=3), DAY + timedelta(days=2))
        assert sorted(found) == [DAY + timedelta(days=n) for n in range(-3, 3)]

    async def test_a_resend_of_an_ended_day(self, store: Any) -> None:
        await begin(store)
        assert (await store.resend("ann", DAY, claim_live=False)).step is NextStep.REFUSED
        await report(store, None, aa=PushResult.ACCEPTED)
        bumped = await store.resend("ann", DAY, claim_live=False)
        assert (bumped.step, bumped.ledger.seq, bumped.ledger.state) == (NextStep.RETRY, 2, DayState.PENDING)
        late = await report(store, None, aa=PushResult.ACCEPTED)
        assert late.step is NextStep.REFUSED
        again = await store.take("ann", DAY, "operator")
        assert (again.step, again.ledger.title, again.ledger.body) == (NextStep.PUSH, "🌤️ Head", "Head")

    async def test_a_skipped_day_is_replaced_only_as_it_was_read(self, store: Any) -> None:
        closed = await store.end_day(opening("me"), DayState.SKIPPED, "no_content")
        assert (await begin(store, by="op", replaces=replace(closed.ledger, seq=9))).step is NextStep.FINAL
        decision = await begin(store, by="op", replaces=closed.ledger)
        assert (decision.step, decision.ledger.seq) == (NextStep.PUSH, 2)

    async def test_a_ledger_says_what_its_recap_cost_and_the_document_is_read_as_it_is(self, store: Store) -> None:
        assert await store.summary_document("ann", DAY) is None
        spent = Spent(calls=2, tokens_in=100, tokens_out=20, micro_usd=200, seconds=1.5)
        await store.begin(replace(opening("a"), spent=spent), RECAP, has_targets=False, replaces=None)
        entry = (await store.ledgers_between("ann", DAY, DAY))[DAY]
        assert (entry.source, entry.verified, entry.tokens) == ("llm", True, 120)
        assert (entry.usd, entry.llm_seconds) == (0.0002, 1.5)
        doc = await store.summary_document("ann", DAY)
        assert doc is not None
        assert (doc["headline"], doc["metadata"]["usd"]) == ("Head", 0.0002)
