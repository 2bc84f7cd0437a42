"""Adapters that somebody outside wrote pass the suites, and each of a dozen that are a little wrong fails one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimAnswer
from notifications.domain.delivery import Decision, LedgerRules, NextStep
from notifications.domain.model import DayState
from notifications.domain.push import PushAnswer, PushResult
from notifications.ports import Answer, Claims, Push, Store, Summarizer
from notifications.testing import (
    ClaimsSuite,
    LLMTrouble,
    MemoryClaims,
    MemoryPush,
    MemoryStore,
    MemorySummarizer,
    MemoryWorld,
    StoreSuite,
    Suite,
    SummarizerSuite,
)
from notifications.testing.answers import answer_to
from notifications.testing.claims_suite import RedisCommands
from notifications.testing.documents_suite import RULES
from tests.contract.outside.caching_store import CachingStore
from tests.contract.outside.http_summarizer import HttpSummarizer
from tests.support.web import LoopbackServer

OUTSIDE = Path(__file__).parent / "outside"


@pytest.mark.parametrize("name", ["caching_store.py", "http_summarizer.py"])
def test_an_adapter_is_written_in_under_sixty_lines(name: str) -> None:
    assert len((OUTSIDE / name).read_text().splitlines()) < 60


class TheirServer(LoopbackServer):
    """Answers with a recap of the notes, or as it is told to."""

    status, cut, seconds = 200, False, 0.0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(self.seconds)
        name = "daily_notes" if "25 facts" in body["ask"] else "daily_recap"
        text = json.dumps(answer_to(name, body["notes"], "theirs"))
        said = {"text": text[:9] if self.cut else text, "tokens": 20, "cut": self.cut}
        return web.json_response(said, status=self.status)


class TestHttpSummarizer(SummarizerSuite):
    @pytest.fixture(autouse=True)
    def _served(self) -> Iterator[None]:
        self.server = TheirServer()
        yield
        self.server.stop()

    @asynccontextmanager
    async def make(self) -> AsyncIterator[Summarizer]:
        yield HttpSummarizer(self.server.url)

    def cause(self, trouble: LLMTrouble) -> None:
        statuses = {LLMTrouble.DOWN: 503, LLMTrouble.REFUSES_US: 401, LLMTrouble.TOO_LONG: 413}
        self.server.status = statuses.get(trouble, 200)
        self.server.cut = trouble is LLMTrouble.CUT
        self.server.seconds = 30 if trouble is LLMTrouble.SLOW else 0


class Stores(StoreSuite):
    """The suite over what wraps a store in memory."""

    world: MemoryWorld
    wrap: Callable[[Store], Any] = CachingStore

    def setup_method(self) -> None:
        self.world = MemoryWorld()

    @asynccontextmanager
    async def make(self, rules: LedgerRules = RULES) -> AsyncIterator[Store]:
        yield type(self).wrap(MemoryStore(self.world.documents, rules))


class TestCachingStore(Stores):
    pass


async def test_a_cached_draft_is_read_once() -> None:
    from notifications.testing.documents_suite import DAY, DRAFT, KEY, ON

    world = MemoryWorld()
    world.put_user("ann", ON, {}, {})
    inner = CachingStore(MemoryStore(world.documents, RULES))
    outer = CachingStore(inner)
    await outer.keep_draft("ann", DAY, KEY, DRAFT)
    assert [await outer.kept_draft("ann", DAY, KEY) for _ in range(3)] == [DRAFT] * 3
    await outer.devices("ann")
    assert (outer.calls, inner.calls) == ({"devices": 1}, {"devices": 1})


# What follows is wrong by a little each time: a suite that can't fail proves nothing.


def failures(suite: type[Suite]) -> list[str]:
    """The names of the tests that fail, each with all of its parameters."""
    names = (name for name in dir(suite) if name.startswith("test_"))
    return [name for name in names if any(_fails(suite, name, given) for given in _parameters(getattr(suite, name)))]


def _parameters(test: Any) -> Iterator[dict[str, Any]]:
    tables = []
    for mark in getattr(test, "pytestmark", ()):
        names, rows = mark.args
        names = [names] if isinstance(names, str) else names
        tables.append([dict(zip(names, row if len(names) > 1 else [row], strict=True)) for row in rows])
    for rows in product(*tables):
        yield {name: value for row in rows for name, value in row.items()}


def _fails(suite: type[Suite], name: str, given: dict[str, Any]) -> bool:
    made: Any = suite()
    if hasattr(made, "setup_method"):
        made.setup_method()
    try:
        getattr(made, name)(**given)
    except pytest.skip.Exception:
        return False
    except Exception:  # noqa: BLE001  # whatever a test of the suite ends with
        return True
    return False


class Broken:
    """Passes everything on; a subclass does one thing wrong."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class NeverForgetsADraft(CachingStore):
    async def keep_draft(self, uid: str, day: Any, key: str, draft: Any) -> None:
        await self._inner.keep_draft(uid, day, key, draft)


class PagesOverlap(Broken):
    async def due_users(self, zones: Any, hour: int, ids: Any, after: str | None, limit: int) -> Any:
        return await self.inner.due_users(zones, hour, ids, after[:-1] if after else None, limit)


class HasNoFence(Broken):
    async def begin(self, op: Any, recap: Any, **more: Any) -> Decision:
        decision: Decision = await self.inner.begin(op, recap, **more)
        return replace(decision, step=NextStep.PUSH) if decision.step is NextStep.BUSY else decision


class ForgetsWhoAccepted(Broken):
    async def record_pushes(self, uid: str, day: Any, **more: Any) -> Any:
        return await self.inner.record_pushes(uid, day, **{**more, "results": {}})


class EndsADayTwice(Broken):
    async def end_day(self, op: Any, state: DayState, outcome: str) -> Any:
        self.inner._kept.collection(op.uid, "recap_deliveries").clear()
        return await self.inner.end_day(op, state, outcome)


class ForgetsEveryDevice(Broken):
    async def forget_device(self, uid: str, device: Any) -> bool:
        self.inner._kept.collection(uid, "fcm_tokens").pop(device.key, None)
        return True


class ReadsPastTheSlot(Broken):
    async def conversations_in(self, uid: str, candidates: Any) -> Any:
        window = replace(candidates.window, end=candidates.window.end + timedelta(seconds=1))
        return await self.inner.conversations_in(uid, replace(candidates, window=window))


class TakesFromALiveSender(Broken):
    async def take(self, uid: str, day: Any, by: str) -> Any:
        found = self.inner._kept.collection(uid, "recap_deliveries")[day.isoformat()]
        found.doc.pop("sending_at", None)
        found.doc["state"] = "pending"
        return await self.inner.take(uid, day, by)


class ResendsAtTheSameSeq(Broken):
    async def resend(self, uid: str, day: Any, **more: Any) -> Any:
        decision = await self.inner.resend(uid, day, **more)
        found = self.inner._kept.collection(uid, "recap_deliveries")
        if decision.step is NextStep.RETRY:
            found[day.isoformat()].doc["seq"] -= 1
        return decision


class MendsWithoutBeingTold(Broken):
    async def mend(self, uid: str, decided: Any = None, *, write: bool = True) -> Any:
        return await self.inner.mend(uid, decided)


@pytest.mark.parametrize(
    ("wrap", "caught_by"),
    [
        (NeverForgetsADraft, "test_a_draft_that_is_kept_again_takes_the_place_of_the_first"),
        (PagesOverlap, "test_pages_hold_whom_the_query_sees_by_id"),
        (HasNoFence, "test_of_many_that_begin_one_pushes"),
        (ForgetsWhoAccepted, "test_a_delivery_from_sending_to_sent"),
        (EndsADayTwice, "test_close_once_and_for_all"),
        (ForgetsEveryDevice, "test_a_dead_token_goes_only_if_its_document_is_unchanged"),
        (ReadsPastTheSlot, "test_conversations_of_a_window"),
        (TakesFromALiveSender, "test_a_sender_that_a_clock_ahead_stamped_is_stale_a_while_from_now"),
        (ResendsAtTheSameSeq, "test_a_resend_of_an_ended_day"),
        (MendsWithoutBeingTold, "test_a_document_is_mended_where_that_has_one_right_answer"),
    ],
)
def test_a_store_that_is_a_little_wrong_fails(wrap: Callable[[Store], Any], caught_by: str) -> None:
    suite = type("BrokenStores", (Stores,), {"wrap": wrap})
    assert caught_by in failures(suite)


class EverybodyWins(Broken):
    async def claim(self, terms: Any, token: str, lane: int) -> Any:
        reply = await self.inner.claim(terms, token, lane)
        return replace(reply, answer=ClaimAnswer.WON) if reply.answer is ClaimAnswer.HELD else reply


class ForgetsFailures(Broken):
    async def fail(self, terms: Any, token: str, wait: Any, counts: int, reason: str) -> Any:
        return await self.inner.fail(terms, token, wait, 0, reason)


class KeepsItsLeaseForEver(Broken):
    async def claim(self, terms: Any, token: str, lane: int) -> Any:
        return await self.inner.claim(replace(terms, expire_ms=terms.expire_ms + 60_000), token, lane)


class SpendsTwice(Broken):
    async def reserve(self, key: str, token: str, amount: int, most: int) -> Any:
        return await self.inner.reserve(key, f"{token}{self.inner._client.look(key)}", amount, most)


class ForgetsNames(Broken):
    async def add_names(self, key: str, names: Any, expire_ms: int) -> None:
        await self.inner.forget(key)
        await self.inner.add_names(key, names, expire_ms)


class ForgetsAnyRecord(Broken):
    async def forget(self, key: str, only: Any = None) -> bool:
        return bool(await self.inner.forget(key))


@pytest.mark.parametrize(
    ("wrap", "caught_by"),
    [
        (EverybodyWins, "test_one_of_many_wins"),
        (ForgetsFailures, "test_an_item_is_dead_at_its_third_failure"),
        (KeepsItsLeaseForEver, "test_every_write_has_an_expiry_of_three_hours_after_the_slot"),
        (SpendsTwice, "test_a_repeat_neither_takes_nor_settles_twice"),
        (ForgetsNames, "test_names_are_kept_together_until_their_time"),
        (ForgetsAnyRecord, "test_a_record_is_deleted_only_while_it_is_the_one_that_was_read"),
    ],
)
def test_claims_that_are_a_little_wrong_fail(wrap: Callable[[Claims], Any], caught_by: str) -> None:
    class BrokenClaims(ClaimsSuite):
        @asynccontextmanager
        async def make(self) -> AsyncIterator[Claims]:
            yield wrap(MemoryClaims())

        def commands(self, claims: Any) -> RedisCommands:
            commands: RedisCommands = claims.inner._client
            return commands

    assert caught_by in failures(BrokenClaims)


class CitesNothing(Broken):
    async def ask(self, question: Any, timeout: Any, **more: Any) -> Answer:
        answer: Answer = await self.inner.ask(question, timeout, **more)
        return replace(answer, text=answer.text.replace("[1]", "[7]"))


class CountsNothing(Broken):
    calls = 0


class QuotesTheNotes(Broken):
    async def ask(self, question: Any, timeout: Any, **more: Any) -> Answer:
        try:
            answer: Answer = await self.inner.ask(question, timeout, **more)
        except Exception as fault:
            fault.args = (question.notes,)
            raise
        return answer


class SaysThatAllIsWell(Broken):
    async def check(self) -> Any:
        return replace(await self.inner.check(), trouble="", found="answers")


@pytest.mark.parametrize(
    ("wrap", "caught_by"),
    [
        (CitesNothing, "test_a_recap_has_sentences_with_their_evidence"),
        (CountsNothing, "test_what_was_spent_is_counted"),
        (QuotesTheNotes, "test_the_providers_fault_is_not_the_users"),
        (SaysThatAllIsWell, "test_a_check_of_what_does_not_serve_says_so_in_a_sentence"),
    ],
)
def test_a_summarizer_that_is_a_little_wrong_fails(wrap: Callable[[Summarizer], Any], caught_by: str) -> None:
    from tests.contract.test_summarizers import TestMemorySummarizer

    class BrokenSummarizer(TestMemorySummarizer):
        @asynccontextmanager
        async def make(self) -> AsyncIterator[Summarizer]:
            self.made = MemorySummarizer()
            yield wrap(self.made)

    assert caught_by in failures(BrokenSummarizer)


class NeverSaysThatItLeaves(Broken):
    async def send(self, device: Any, message: Any, timeout: Any, leaves: Any) -> PushAnswer:
        answer: PushAnswer = await self.inner.send(device, message, timeout, lambda: None)
        return answer


class PushesWhatItProbes(Broken):
    async def probe(self) -> PushAnswer:
        from notifications.testing.push_suite import MESSAGE, PHONE

        answer: PushAnswer = await self.inner.send(PHONE, MESSAGE, timedelta(1), lambda: None)
        return answer


class GivesEachPushANameOfItsOwn(Broken):
    async def send(self, device: Any, message: Any, *more: Any) -> PushAnswer:
        message = replace(message, collapse_id=str(len(self.inner.asked)))
        answer: PushAnswer = await self.inner.send(device, message, *more)
        return answer


class TakesSilenceForARefusal(Broken):
    async def send(self, device: Any, *more: Any) -> PushAnswer:
        answer: PushAnswer = await self.inner.send(device, *more)
        return replace(answer, result=PushResult.BUSY) if answer.result is PushResult.UNKNOWN else answer


class TellsTheToken(Broken):
    async def send(self, device: Any, *more: Any) -> PushAnswer:
        answer: PushAnswer = await self.inner.send(device, *more)
        return replace(answer, code=device.token)


@pytest.mark.parametrize(
    ("wrap", "caught_by"),
    [
        (NeverSaysThatItLeaves, "test_an_accepted_push_is_shown"),
        (PushesWhatItProbes, "test_a_probe_reaches_nobody"),
        (GivesEachPushANameOfItsOwn, "test_a_second_push_of_a_day_replaces_the_first"),
        (TakesSilenceForARefusal, "test_what_came_of_a_push_and_whether_it_left"),
        (TellsTheToken, "test_what_came_of_a_push_and_whether_it_left"),
    ],
)
def test_a_push_channel_that_is_a_little_wrong_fails(wrap: Callable[[Push], Any], caught_by: str) -> None:
    from tests.contract.test_pushes import TestMemoryPush

    class BrokenPush(TestMemoryPush):
        @asynccontextmanager
        async def make(self) -> AsyncIterator[Push]:
            self.made = MemoryPush()
            yield wrap(self.made)

    assert caught_by in failures(BrokenPush)


def test_what_is_right_fails_nothing() -> None:
    """So that a failure above is the breakage's."""
    from tests.contract.test_pushes import TestMemoryPush
    from tests.contract.test_summarizers import TestMemorySummarizer

    assert [failures(suite) for suite in (Stores, TestMemoryPush, TestMemorySummarizer)] == [[], [], []]
