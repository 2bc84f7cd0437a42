"""Adapters that somebody outside wrote pass the suites, and each of a dozen that are a little wrong fails one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from notifications.domain.claim import ClaimAnswer
from notifications.domain.delivery import LedgerRules, NextStep
from notifications.domain.push import PushResult
from notifications.domain.target import Recipient
from notifications.ports import Channel, Store, Summarizer
from notifications.testing import (
    ChannelSuite,
    ClaimsSuite,
    LLMTrouble,
    MemoryClaims,
    MemoryPush,
    MemoryStore,
    MemorySummarizer,
    MemoryWorld,
    PushTrouble,
    StoreSuite,
    Suite,
    SummarizerSuite,
)
from notifications.testing.answers import answer_to
from notifications.testing.channel_suite import MESSAGE
from notifications.testing.claims_suite import RedisCommands
from notifications.testing.documents_suite import DAY, DRAFT, KEY, ON, RULES
from tests.contract import test_pushes, test_summarizers
from tests.contract.outside.caching_store import CachingStore
from tests.contract.outside.http_summarizer import HttpSummarizer
from tests.contract.outside.ntfy_channel import NtfyChannel
from tests.support.chat_services import FakeNtfy
from tests.support.web import LoopbackServer

Wrong = Callable[..., Any]  # what is asked, the right verb, and its arguments
OUTSIDE = Path(__file__).parent / "outside"


@pytest.mark.parametrize("name", ["caching_store.py", "http_summarizer.py", "ntfy_channel.py"])
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


class TestNtfyChannel(ChannelSuite):
    @pytest.fixture(autouse=True)
    def _served(self) -> Iterator[None]:
        self.server = FakeNtfy()
        yield
        self.server.stop()

    @asynccontextmanager
    async def make(self) -> AsyncIterator[Channel]:
        self.server.token = "tk_1"
        yield NtfyChannel(self.server.url, "tk_1")

    def recipient(self, number: int = 1) -> Recipient:
        return Recipient("ann", addresses={"ntfy": {"topic": f"topic-{number}"}})

    def shown(self) -> list[str]:
        return [shown.partition("\n")[2] for shown in self.server.topics.get("topic-1", {}).values()]

    def cause(self, trouble: PushTrouble) -> None:
        if trouble is PushTrouble.GONE:
            super().cause(trouble)
        self.server.status = 503 if trouble is PushTrouble.BUSY else 200
        self.server.token = "another" if trouble is PushTrouble.REFUSES_US else "tk_1"
        self.server.seconds = 30 if trouble is PushTrouble.SLOW else 0
        self.server.cuts = trouble is PushTrouble.CUT
        if trouble is PushTrouble.DOWN:
            self.server.stop()


async def test_a_topic_that_is_none_is_no_target() -> None:
    channel = NtfyChannel("http://127.0.0.1:1", "tk_1")
    assert channel.targets(Recipient("ann", addresses={"ntfy": {"topic": "a b"}})) == ([], ["topic_malformed"])


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
    world = MemoryWorld()
    world.put_user("ann", ON, {}, {})
    inner = CachingStore(MemoryStore(world.documents, RULES))
    outer = CachingStore(inner)
    await outer.keep_draft("ann", DAY, KEY, DRAFT)
    assert [await outer.kept_draft("ann", DAY, KEY) for _ in range(3)] == [DRAFT] * 3
    await outer.devices("ann")
    assert (outer.calls, inner.calls) == ({"devices": 1}, {"devices": 1})


# What follows is wrong by a little each time: a suite that can't fail proves nothing.


def failures(suite: type[Suite], *tests: str) -> list[str]:
    """The names of those tests that fail, each with all of its parameters; unset: of all tests."""
    names = tests or [name for name in dir(suite) if name.startswith("test_")]
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
    """Passes everything on, but for one verb: `wrong` has what it would answer in place of it."""

    def __init__(self, inner: Any, verb: str, wrong: Wrong) -> None:
        self.inner, self.verb, self.wrong = inner, verb, wrong

    def __getattr__(self, name: str) -> Any:
        right = getattr(self.inner, name)
        return partial(self.wrong, self.inner, right) if name == self.verb else right


async def no_fence(store: Any, begin: Any, *given: Any, **named: Any) -> Any:
    decision = await begin(*given, **named)
    return replace(decision, step=NextStep.PUSH) if decision.step is NextStep.BUSY else decision


async def pages_overlap(store: Any, due: Any, zones: Any, hour: int, ids: Any, after: str | None, limit: int) -> Any:
    return await due(zones, hour, ids, after[:-1] if after else None, limit)


async def forgets_who_accepted(store: Any, record: Any, uid: str, day: Any, report: Any, *given: Any) -> Any:
    return await record(uid, day, replace(report, results={}), *given)


async def ends_a_day_twice(store: Any, end_day: Any, op: Any, *given: Any) -> Any:
    store._kept.collection(op.uid, "recap_deliveries").clear()
    return await end_day(op, *given)


async def forgets_every_device(store: Any, forget: Any, uid: str, device: Any) -> bool:
    store._kept.collection(uid, "fcm_tokens").pop(device.key, None)
    return True


async def reads_past_the_slot(store: Any, read: Any, uid: str, candidates: Any) -> Any:
    window = replace(candidates.window, end=candidates.window.end + timedelta(seconds=1))
    return await read(uid, replace(candidates, window=window))


async def takes_from_a_live_sender(store: Any, take: Any, uid: str, day: Any, by: str) -> Any:
    store._kept.collection(uid, "recap_deliveries")[day.isoformat()].doc["state"] = "pending"
    return await take(uid, day, by)


async def resends_at_the_same_seq(store: Any, resend: Any, uid: str, day: Any, **named: Any) -> Any:
    decision = await resend(uid, day, **named)
    if decision.step is NextStep.RETRY:
        store._kept.collection(uid, "recap_deliveries")[day.isoformat()].doc["seq"] -= 1
    return decision


async def mends_what_it_should_only_show(store: Any, mend: Any, uid: str, decided: Any = None, **_: Any) -> Any:
    return await mend(uid, decided)


STORES: list[tuple[str, Wrong, str]] = [
    ("due_users", pages_overlap, "test_pages_hold_whom_the_query_sees_by_id"),
    ("begin", no_fence, "test_of_many_that_begin_one_pushes"),
    ("record_pushes", forgets_who_accepted, "test_a_delivery_from_sending_to_sent"),
    ("end_day", ends_a_day_twice, "test_close_once_and_for_all"),
    ("forget_device", forgets_every_device, "test_a_dead_token_goes_only_if_its_document_is_unchanged"),
    ("conversations_in", reads_past_the_slot, "test_conversations_of_a_window"),
    ("take", takes_from_a_live_sender, "test_a_sender_that_a_clock_ahead_stamped_is_stale_a_while_from_now"),
    ("resend", resends_at_the_same_seq, "test_a_resend_of_an_ended_day"),
    ("mend", mends_what_it_should_only_show, "test_a_document_is_mended_where_that_has_one_right_answer"),
]


@pytest.mark.parametrize(("verb", "wrong", "caught_by"), STORES, ids=[row[1].__name__ for row in STORES])
def test_a_store_that_is_a_little_wrong_fails(verb: str, wrong: Wrong, caught_by: str) -> None:
    suite = type("BrokenStores", (Stores,), {"wrap": partial(Broken, verb=verb, wrong=wrong)})
    assert failures(suite, caught_by) == [caught_by]


class NeverForgetsADraft(CachingStore):
    async def keep_draft(self, uid: str, day: Any, key: str, draft: Any) -> None:
        await self._inner.keep_draft(uid, day, key, draft)


def test_a_cache_that_is_never_emptied_fails() -> None:
    suite = type("BrokenCache", (Stores,), {"wrap": NeverForgetsADraft})
    assert failures(suite) == ["test_a_draft_that_is_kept_again_takes_the_place_of_the_first"]


async def everybody_wins(claims: Any, claim: Any, *given: Any) -> Any:
    reply = await claim(*given)
    return replace(reply, answer=ClaimAnswer.WON) if reply.answer is ClaimAnswer.HELD else reply


async def forgets_failures(claims: Any, fail: Any, terms: Any, token: str, wait: Any, counts: int, reason: str) -> Any:
    return await fail(terms, token, wait, 0, reason)


async def keeps_a_minute_longer(claims: Any, claim: Any, terms: Any, *given: Any) -> Any:
    return await claim(replace(terms, expire_ms=terms.expire_ms + 60_000), *given)


async def spends_twice(claims: Any, reserve: Any, key: str, token: str, *given: Any) -> Any:
    return await reserve(key, f"{token}{claims._client.look(key)}", *given)


async def forgets_members(claims: Any, add_members: Any, key: str, *given: Any) -> None:
    await claims.delete(key)
    await add_members(key, *given)


async def deletes_any_record(claims: Any, delete_if_unchanged: Any, key: str, record: Any) -> Any:
    await claims.delete(key)
    return True


CLAIMS: list[tuple[str, Wrong, str]] = [
    ("claim", everybody_wins, "test_one_of_many_wins"),
    ("fail", forgets_failures, "test_an_item_is_dead_at_its_third_failure"),
    ("claim", keeps_a_minute_longer, "test_every_write_has_an_expiry_of_three_hours_after_the_slot"),
    ("reserve", spends_twice, "test_a_repeat_neither_takes_nor_settles_twice"),
    ("add_members", forgets_members, "test_names_are_kept_together_until_their_time"),
    ("delete_if_unchanged", deletes_any_record, "test_a_record_is_deleted_only_while_it_is_the_one_that_was_read"),
]


@pytest.mark.parametrize(("verb", "wrong", "caught_by"), CLAIMS, ids=[row[1].__name__ for row in CLAIMS])
def test_claims_that_are_a_little_wrong_fail(verb: str, wrong: Wrong, caught_by: str) -> None:
    class BrokenClaims(ClaimsSuite):
        @asynccontextmanager
        async def make(self) -> AsyncIterator[Any]:
            yield Broken(MemoryClaims(), verb, wrong)

        def commands(self, claims: Any) -> RedisCommands:
            commands: RedisCommands = claims.inner._client
            return commands

    assert failures(BrokenClaims, caught_by) == [caught_by]


async def cites_nothing(llm: Any, ask: Any, *given: Any, **named: Any) -> Any:
    answer = await ask(*given, **named)
    return replace(answer, text=answer.text.replace("[1]", "[7]"))


async def counts_nothing(llm: Any, ask: Any, *given: Any, **named: Any) -> Any:
    answer = await ask(*given, **named)
    llm.calls = 0
    return answer


async def quotes_the_notes(llm: Any, ask: Any, question: Any, *given: Any, **named: Any) -> Any:
    try:
        return await ask(question, *given, **named)
    except Exception as fault:
        fault.args = (question.notes,)
        raise


async def says_that_all_is_well(llm: Any, check: Any) -> Any:
    return replace(await check(), trouble="", found="answers")


SUMMARIZERS: list[tuple[str, Wrong, str]] = [
    ("ask", cites_nothing, "test_a_recap_has_sentences_with_their_evidence"),
    ("ask", counts_nothing, "test_what_was_spent_is_counted"),
    ("ask", quotes_the_notes, "test_the_providers_fault_is_not_the_users"),
    ("check", says_that_all_is_well, "test_a_check_of_what_does_not_serve_says_so_in_a_sentence"),
]


async def never_says_that_it_leaves(push: Any, send: Any, device: Any, message: Any, timeout: Any, _: Any) -> Any:
    return await send(device, message, timeout, lambda: None)


async def pushes_what_it_probes(push: Any, probe: Any) -> Any:
    return await push.send(test_pushes.PHONE, MESSAGE, timedelta(1), lambda: None)


async def gives_each_push_a_name(push: Any, send: Any, device: Any, message: Any, *given: Any) -> Any:
    return await send(device, replace(message, collapse_id=str(len(push.asked))), *given)


async def takes_silence_for_a_refusal(push: Any, send: Any, *given: Any) -> Any:
    answer = await send(*given)
    return replace(answer, result=PushResult.BUSY) if answer.result is PushResult.UNKNOWN else answer


async def tells_the_token(push: Any, send: Any, device: Any, *given: Any) -> Any:
    return replace(await send(device, *given), code=device.token)


PUSHES: list[tuple[str, Wrong, str]] = [
    ("send", never_says_that_it_leaves, "test_an_accepted_push_is_shown"),
    ("probe", pushes_what_it_probes, "test_a_probe_reaches_nobody"),
    ("send", gives_each_push_a_name, "test_a_second_push_of_a_day_replaces_the_first"),
    ("send", takes_silence_for_a_refusal, "test_what_came_of_a_push_and_whether_it_left"),
    ("send", tells_the_token, "test_what_came_of_a_push_and_whether_it_left"),
]
SERVICES = [
    *((test_summarizers.TestMemorySummarizer, MemorySummarizer, *row) for row in SUMMARIZERS),
    *((test_pushes.TestMemoryPush, MemoryPush, *row) for row in PUSHES),
]


@pytest.mark.parametrize(
    ("suite", "port", "verb", "wrong", "caught_by"), SERVICES, ids=[row[3].__name__ for row in SERVICES]
)
def test_a_service_that_is_a_little_wrong_fails(
    suite: type[Any], port: Callable[[], Any], verb: str, wrong: Wrong, caught_by: str
) -> None:
    @asynccontextmanager
    async def make(self: Any) -> AsyncIterator[Any]:
        self.made = port()
        yield Broken(self.made, verb, wrong)

    assert failures(type("BrokenService", (suite,), {"make": make}), caught_by) == [caught_by]


def test_what_is_right_fails_nothing() -> None:
    """So that a failure above is the breakage's."""
    assert [
        failures(suite) for suite in (Stores, test_pushes.TestMemoryPush, test_summarizers.TestMemorySummarizer)
    ] == [[], [], []]
