"""One suite over memory, SQLite and the Firestore emulator: the same semantics behind the same ports."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.adapters.local.sqlite import SqliteStore
from notifications.adapters.stores import firestore
from notifications.domain.backoff import jittered
from notifications.domain.delivery import LedgerRules, NextStep, Opening
from notifications.domain.errors import Malformed, StoreDown
from notifications.domain.model import (
    ActionItem,
    Cited,
    Conversation,
    DayState,
    Draft,
    Highlight,
    Recap,
    Task,
    Turn,
    Window,
)
from notifications.domain.push import PushResult
from notifications.domain.shards import Range
from notifications.domain.told import Candidates, Neighbours, Version, told_hash, told_of
from notifications.ports import Decided, Mended, Store
from tests.support.memory import MemoryStore, MemoryWorld
from tests.support.worlds import Doc, FirestoreWorld, SqliteWorld, World, talk

DAY = date(2026, 5, 1)
SLOT = datetime(2026, 5, 1, 20, tzinfo=UTC)
WINDOW = Window(SLOT - timedelta(days=1), SLOT)
ALL_DAY = Candidates(WINDOW, WINDOW.start, WINDOW.start)
ON: Doc = {"time_zone": "Europe/Paris", "daily_summary_enabled": True, "daily_summary_hour_local": 22}
ON_ZONE = "Europe/Paris"
DRAFT = Draft(
    "Head",
    (Cited("Over", ("t1",), "over there"),),
    "🌤️",
    (Highlight("T", "e", (Cited("S", ("t1",), "so said", confided=True),)),),
    (Cited("Q?", ("t1",), "who asks"),),
    (Cited("D", ("t1", "t2"), "done"),),
    (Cited("K"),),
    {"kept": 5, "verified": True},
    {"whole": 2},
    {"source": "llm", "tokens_in": 100, "tokens_out": 20, "usd": 0.0002},
)
RECAP = Recap("5b7c", DAY, SLOT, DRAFT, 2, 41, (Task("Buy seeds", False, "t1"),))


@pytest.fixture(params=["memory", "sqlite", "firestore"])
def world(request: pytest.FixtureRequest) -> World:
    """Each store in turn."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


def opening(by: str, uid: str = "ann") -> Opening:
    return Opening(uid, DAY, by, SLOT, WINDOW)


async def connect(world: World, **rules: Any) -> Store:
    numbers: dict[str, Any] = {"stale": timedelta(seconds=120), "max_pushes": 3, "retention": timedelta(days=30)}
    given = LedgerRules(**(numbers | rules))
    if isinstance(world, FirestoreWorld):
        return await firestore.connect(world.project, "(default)", world.host, given, timedelta(seconds=60))
    if isinstance(world, MemoryWorld):
        return MemoryStore(world.documents, given)
    assert isinstance(world, SqliteWorld)
    return SqliteStore(world.folder / "recap.sqlite3", given)


@pytest.fixture
async def store(world: World) -> AsyncIterator[Store]:
    made = await connect(world)
    world.put_user("ann", ON, {"d0": "token-0"}, {})
    yield made
    await made.aclose()


async def begin(store: Any, by: str = "me", **changes: Any) -> Any:
    given: dict[str, Any] = {"has_devices": True, "replaces": None} | changes
    return await store.begin(opening(by), RECAP, **given)


async def test_a_store_tells_its_own_time_at_the_cost_of_a_document(store: Store) -> None:
    read = store.reads
    told = await store.now()
    assert (abs(told - datetime.now(UTC)) < timedelta(minutes=1), told.tzinfo is not None) == (True, True)
    assert store.reads - read <= 1


async def test_pages_hold_whom_the_query_sees_by_id(world: World, store: Any) -> None:
    for n in range(7):
        world.put_user(f"user-{n}", ON | {"time_zone": ("Europe/Paris", "Europe/Berlin")[n % 2]}, {}, {})
    changed: dict[str, Doc] = {
        "off": {"daily_summary_enabled": False},
        "other-hour": {"daily_summary_hour_local": 21},
        "other-zone": {"time_zone": "Asia/Tokyo"},
        "text-hour": {"daily_summary_hour_local": "22"},
        "true-hour": {"daily_summary_hour_local": True},
        "no-zone": {"time_zone": None},
        "text-switch": {"daily_summary_enabled": "true"},
        "small-zone": {"time_zone": "europe/paris"},
    }
    for uid, changes in changed.items():
        world.put_user(uid, ON | changes, {}, {})
    world.put_user("whole-float", ON | {"daily_summary_hour_local": 22.0}, {}, {})
    zones = ["Europe/Berlin", "Europe/Paris"]
    everyone = ["ann", *(f"user-{n}" for n in range(7)), "whole-float"]

    found, after = [], None
    while page := await store.due_users(zones, 22, Range(), after, 4):
        found.append([user.uid for user in page])
        after = page[-1].uid
    assert found == [everyone[:4], everyone[4:8], everyone[8:]]
    assert [u.uid for u in await store.due_users(zones, 22, Range("user-2", "user-5"), None, 9)] == [
        "user-2",
        "user-3",
        "user-4",
    ]
    assert [u.uid for u in await store.due_users(zones, 22, Range("u", None), "user-5", 9)] == ["user-6", "whole-float"]
    [first] = await store.due_users(["Europe/Berlin"], 22, Range(), None, 1)
    assert (first.user.zone, first.flaw) == ("Europe/Berlin", "")


async def test_one_user_is_read_whatever_their_switch_says(world: World, store: Any) -> None:
    world.put_user("off", ON | {"daily_summary_enabled": False, "language": "pt"}, {}, {})
    world.put_user("bad", ON | {"daily_summary_hour_local": 24}, {}, {})
    found = (await store.user("off")).user
    assert (found.enabled, found.zone, found.hour, found.language) == (False, "Europe/Paris", 22, "pt")
    bad = await store.user("bad")
    assert (bad.user, "daily_summary_hour_local is not a whole number" in bad.flaw) == (None, True)
    assert await store.user("nobody") is None


async def test_conversations_of_a_window(world: World, store: Any) -> None:
    inside = SLOT - timedelta(hours=2)
    talks: dict[str, Doc] = {
        "early": talk("ann", WINDOW.start - timedelta(microseconds=1)),
        "first": talk("ann", WINDOW.start),
        "second": talk("ann", inside),
        "late": talk("ann", WINDOW.end),
        "gone": talk("ann", inside, discarded=True),
        "locked": talk("ann", inside, is_locked=True),
        "spoken": talk(
            "ann", inside, structured={"title": "T"}, transcript_segments=[{"text": "Hello"}, {"text": "there"}]
        ),
        "titled": talk("ann", inside, structured={"title": "T"}),
        "broken": talk("ann", inside, structured=["not a map"]),
        "no-times": talk("ann", inside, started_at=None, finished_at="yesterday"),
        "joined": talk("ann", inside, deleted=True),
        "by-an-app": talk("ann", inside, user_title="Mine", apps_results=[{"app_id": "a", "content": "# Told\n- so"}]),
        "by-an-older-app": talk("ann", inside, structured={}, plugins_results=[{"plugin_id": "a", "content": "So."}]),
        "in-sections": talk("ann", inside, structured={"sections": [{"heading": "H", "body_markdown": "Body."}]}),
        "encrypted": talk("ann", inside, structured={"title": "T"}, transcript_segments="AAECAwQFBgcICQ=="),
        "tasks-and-words": talk(
            "ann",
            inside,
            structured={"action_items": [{"description": "Call"}]},
            transcript_segments=[{"text": "Hello"}],
        ),
    }
    world.put_user("ann", ON, {}, talks)
    found, malformed = await store.conversations_in("ann", ALL_DAY)
    told = {"first", "second", "spoken", "titled", "no-times"}
    apps = {"by-an-app", "by-an-older-app", "in-sections", "encrypted", "tasks-and-words"}
    assert {c.id for c in found} == told | apps
    assert malformed == 1
    by_id = {c.id: c for c in found}
    assert found[0].id == "first"
    assert (by_id["second"].title, by_id["second"].category, by_id["second"].minutes) == ("A talk", "social", 20)
    assert by_id["second"].action_items == (ActionItem("Buy seeds"),)
    assert by_id["spoken"].turns == (Turn("", "Hello"), Turn("", "there"))
    assert not by_id["titled"].tells_something
    assert by_id["no-times"].minutes == 0
    assert (by_id["by-an-app"].title, by_id["by-an-app"].overview) == ("Mine", "Told:\nso")
    assert [by_id[key].overview for key in ("by-an-older-app", "in-sections")] == ["So.", "H:\nBody."]
    assert [c.id for c in found if c.encrypted] == ["encrypted"]
    assert by_id["tasks-and-words"].turns == (Turn("", "Hello"),)


@pytest.mark.parametrize("kind", ["memory", "firestore"])
async def test_a_compressed_transcript_where_a_store_has_bytes(kind: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(f"{kind}_world")
    inside, said = SLOT - timedelta(hours=2), zlib.compress(b'[{"text": "Hello"}, {"text": "there"}]')
    talks = {
        "packed": talk("ann", inside, structured={"title": "T"}, transcript_segments=said),
        "torn": talk("ann", inside, structured={"title": "T"}, transcript_segments=said[:9]),
        "written": talk("ann", inside, transcript_segments=said[:9]),
    }
    world.put_user("ann", ON, {}, talks)
    store = await connect(world)
    found, malformed = await store.conversations_in("ann", ALL_DAY)
    await store.aclose()
    assert [(c.id, c.turns) for c in found] == [("packed", (Turn("", "Hello"), Turn("", "there"))), ("written", ())]
    assert malformed == 1


async def test_what_a_recap_around_has_told_is_not_read_nor_what_is_still_under_way(world: World, store: Any) -> None:
    inside = SLOT - timedelta(hours=2)
    talks: dict[str, Doc] = {
        "told": talk("ann", inside),
        "late": talk("ann", WINDOW.start - timedelta(hours=3)),
        "older": talk("ann", WINDOW.start - timedelta(hours=25)),
        "live": talk("ann", inside, status="in_progress"),
        "soon": talk("ann", inside, status="processing"),
        "never": talk("ann", inside, status="processing", deferred=True),
        "stuck": talk("ann", SLOT - timedelta(hours=24, microseconds=1), status="in_progress"),
        "done": talk("ann", inside, status="completed"),
    }
    world.put_user("ann", ON, {}, talks)
    day = timedelta(hours=24)
    candidates = Candidates(WINDOW, WINDOW.start - day, SLOT - day, frozenset({told_hash("ann", "told")}))
    found, malformed = await store.conversations_in("ann", candidates)
    assert (sorted(c.id for c in found), malformed) == (["done", "late", "never", "stuck"], 0)
    since = replace(candidates, told_before=WINDOW.start)
    assert sorted(c.id for c in (await store.conversations_in("ann", since))[0]) == ["done", "never"]


async def test_a_ledger_around_that_changed_meanwhile_lets_nothing_be_written(world: World, store: Any) -> None:
    before, after = DAY - timedelta(days=1), DAY + timedelta(days=1)
    was: dict[date, Version | None] = {before: None}
    mine = replace(opening("me"), told="", neighbours=Neighbours(was, {after: None}), zone=ON_ZONE, hour=22)
    kept = replace(mine, neighbours=Neighbours({before: (DayState.SKIPPED, 2)}, {after: None}))
    world.put_ledger("ann", after.isoformat(), {"state": "skipped", "seq": 1})
    world.put_ledger("ann", before.isoformat(), {"state": "skipped", "seq": 2})
    verbs: list[Callable[[Opening], Any]] = [
        lambda op: store.begin(op, RECAP, has_devices=True, replaces=None),
        lambda op: store.end_day(op, DayState.SKIPPED, "no_content"),
    ]
    for verb in verbs:
        assert (await verb(mine)).step is NextStep.CHANGED  # there was none before
        seq = replace(mine, neighbours=Neighbours({before: (DayState.SKIPPED, 1)}, {after: None}))
        assert (await verb(seq)).step is NextStep.CHANGED
        assert (await verb(replace(kept, resend=True))).step is NextStep.CHANGED  # a resend looks at later days, too
        assert (await verb(replace(kept, hour=21))).step is NextStep.CHANGED  # so does who moved since the listing
        assert (await verb(replace(kept, zone="UTC"))).step is NextStep.CHANGED
    assert (sorted(world.ledgers("ann")), world.summaries("ann")) == ([before.isoformat(), after.isoformat()], {})
    assert (await store.begin(kept, RECAP, has_devices=True, replaces=None)).step is NextStep.PUSH


async def test_what_a_later_version_wrote_into_a_ledger_stays(world: World, store: Any) -> None:
    closed = await store.end_day(replace(opening("me"), told=""), DayState.SKIPPED, "no_content")
    doc = world.ledgers("ann")[DAY.isoformat()]
    assert (doc["told"], "read_from" in doc) == ("", False)
    world.put_ledger("ann", DAY.isoformat(), doc | {"of_tomorrow": {"a": [1]}})
    told = told_of("ann", [Conversation("t1", SLOT, overview="O"), Conversation("empty", SLOT)])
    opened = replace(opening("op"), told=told, read_from=WINDOW.start)
    await store.begin(opened, RECAP, has_devices=True, replaces=closed.entry)
    await store.record_pushes(
        "ann", DAY, by="op", seq=2, results={"aa": PushResult.ACCEPTED}, sent_nothing=False, last_chance=False
    )
    doc = world.ledgers("ann")[DAY.isoformat()]
    assert (doc["state"], doc["seq"], doc["of_tomorrow"]) == ("sent", 2, {"a": [1]})
    assert (doc["told"], doc["read_from"], "outcome" in doc) == (told_hash("ann", "t1"), WINDOW.start, False)


@pytest.mark.parametrize("ahead", [timedelta(seconds=130), timedelta(days=400)])
async def test_a_sender_that_a_clock_ahead_stamped_is_stale_a_while_from_now(
    world: World, store: Any, ahead: timedelta
) -> None:
    await begin(store)
    doc = world.ledgers("ann")[DAY.isoformat()]
    verbs: list[Callable[[], Any]] = [
        lambda: store.take("ann", DAY, "you"),
        lambda: store.sweep("ann", DAY, "you", over=True),
        lambda: store.resend("ann", DAY, claim_live=False),
        lambda: store.end_day(opening("you"), DayState.DEAD, "crashes"),
    ]
    for verb in verbs:
        world.put_ledger("ann", DAY.isoformat(), doc | {"sending_at": datetime.now(UTC) + ahead})
        decision = await verb()
        assert decision.step in (NextStep.BUSY, NextStep.REFUSED)
        assert decision.wait == timedelta(seconds=120)
        found = world.ledgers("ann")[DAY.isoformat()]
        assert abs(found["sending_at"] - datetime.now(UTC)) < timedelta(seconds=60)
        assert (found["state"], found["by"], found["tries"]) == ("sending", "me", 1)
        again = await verb()
        assert (again.step, again.write) == (decision.step, False)


async def test_an_own_summary_is_found_by_the_id_that_its_ledger_names(world: World, store: Any) -> None:
    await begin(store)
    world.put_summary("ann", "0-theirs", {"date": DAY.isoformat(), "headline": "Theirs"})
    assert (await store.summary_document("ann", DAY, RECAP.id))["headline"] == "Head"
    assert (await store.summary_document("ann", DAY, "erased")) is not None


@pytest.mark.parametrize("key", ["a/b", "..", "__app__"])
async def test_a_summary_that_calls_itself_what_no_document_can_be_called_is_found_by_its_date(
    world: World, store: Any, key: str
) -> None:
    world.put_summary("ann", "app", {"id": key, "date": DAY.isoformat(), "headline": "Theirs"})
    assert (await store.summary("ann", DAY)).id == key
    assert (await store.summary_document("ann", DAY, key))["headline"] == "Theirs"


async def test_an_apps_own_summary_has_its_time_as_text_without_an_offset(world: World, store: Any) -> None:
    world.put_summary("ann", "theirs", {"date": DAY.isoformat(), "created_at": "2026-05-01T19:04:11.123456"})
    found = await store.summary("ann", DAY)
    assert found.created_at == datetime(2026, 5, 1, 19, 4, 11, 123456, tzinfo=UTC)


async def test_a_user_of_more_documents_than_one_commit_holds_is_put_whole(store: Store) -> None:
    """450 are two commits in Firestore; the user's own document comes with the last."""
    said = {f"c{n}": {"created_at": (SLOT - timedelta(minutes=n + 1)).isoformat()} for n in range(450)}
    for _ in range(2):  # the same again replaces
        await store.put("big", ON, {"d": {"token": "t"}}, said)
    found, malformed = await store.conversations_in("big", ALL_DAY)
    assert (len(found), malformed, await store.user("big") is not None) == (450, 0, True)
    with pytest.raises(Malformed):
        await store.put("other", ON, {}, said | {"odd": {}})
    assert await store.user("other") is None


async def test_a_document_is_mended_where_that_has_one_right_answer(world: World, store: Store) -> None:
    odd = {"time_zone": " Europe/Paris", "daily_summary_hour_local": "7", "name": "x"}
    world.put_user("odd", odd, {}, {})
    assert await store.mend("nobody") == Mended({})
    changes = {"time_zone": (" Europe/Paris", "Europe/Paris"), "daily_summary_hour_local": ("7", 7)}
    assert await store.mend("odd", write=False) == Mended(changes, ("no switch",))
    assert world.user("odd") == odd
    assert await store.mend("odd") == Mended(changes, ("no switch",))
    decided = await store.mend("odd", Decided(zone="UTC", hour=22, enable=True))
    assert decided == Mended({"daily_summary_enabled": (None, True)})
    assert world.user("odd") == ON | {"daily_summary_hour_local": 7, "name": "x"}


async def test_devices_once_each_and_the_legacy_field_only_without_them(world: World, store: Any) -> None:
    world.put_user("two", ON | {"fcm_token": "old"}, {"a": "t1", "b": "t1", "c": "t2", "d": ""}, {})
    world.put_user("legacy", ON | {"fcm_token": "old"}, {}, {})
    world.put_user("none", ON, {}, {})
    assert sorted(d.token for d in (await store.devices("two"))[0]) == ["t1", "t2"]
    assert [(d.token, d.key) for d in (await store.devices("legacy"))[0]] == [("old", None)]
    assert await store.devices("none") == ([], 0)


async def test_a_dead_token_goes_only_if_its_document_is_unchanged(world: World, store: Any) -> None:
    world.put_user("two", ON, {"a": "t1", "b": "t2"}, {})
    first, second = sorted((await store.devices("two"))[0], key=lambda d: d.token)
    world.put_token("two", "b", "t3")
    assert await store.forget_device("two", first) is True
    assert await store.forget_device("two", second) is False
    assert await store.forget_device("two", first) is False
    assert {key: doc["token"] for key, doc in world.tokens("two").items()} == {"b": "t3"}


async def test_a_device_may_have_a_fid_beside_or_instead_of_a_token(world: World, store: Any) -> None:
    world.put_user("fay", ON | {"fcm_token": "old"}, {}, {})
    world.put_device("fay", "a", {"fid": "f1"})
    world.put_device("fay", "b", {"fid": "f2", "token": "t2"})
    world.put_device("fay", "c", {"token": "t2", "created_at": "2026-05-01"})
    found, malformed = await store.devices("fay")
    assert ([(d.key, d.token, d.fid) for d in found], malformed) == ([("a", "", "f1"), ("b", "t2", "f2")], 0)
    world.put_device("fay", "b", {"fid": "f3", "token": "t2"})
    assert [await store.forget_device("fay", device) for device in found] == [True, False]
    assert sorted(world.tokens("fay")) == ["b", "c"]


async def test_a_dead_legacy_token_goes_only_if_it_is_still_there(world: World, store: Any) -> None:
    world.put_user("legacy", ON | {"fcm_token": "old"}, {}, {})
    [device], _ = await store.devices("legacy")
    world.update_user("legacy", {"fcm_token": "new"})
    assert await store.forget_device("legacy", device) is False
    [device], _ = await store.devices("legacy")
    assert await store.forget_device("legacy", device) is True
    assert world.user("legacy") == ON


async def test_begin_writes_ledger_and_summary_in_one(world: World, store: Any) -> None:
    decision = await begin(store)
    assert decision.step is NextStep.PUSH
    [(day, ledger)] = world.ledgers("ann").items()
    assert day == "2026-05-01"
    assert (ledger["state"], ledger["by"], ledger["tries"], ledger["seq"]) == ("sending", "me", 1, 1)
    assert ledger["expire_at"] == SLOT + timedelta(days=30)
    assert abs(ledger["sending_at"] - datetime.now(UTC)) < timedelta(minutes=1)
    [(key, doc)] = world.summaries("ann").items()
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


async def test_a_repeated_begin_knows_itself_and_another_is_told_to_wait(world: World, store: Any) -> None:
    first = await begin(store)
    again = await begin(store)
    assert (again.step, again.write) == (NextStep.PUSH, False)
    assert replace(again.entry, sending_at=None) == replace(first.entry, sending_at=None)
    other = await begin(store, by="you")
    assert other.step is NextStep.BUSY
    assert timedelta(seconds=100) < other.wait <= timedelta(seconds=120)


async def test_of_many_that_begin_one_pushes(world: World, store: Any) -> None:
    # In the emulator each lost commit waits two seconds for a lock: there only the two of a flush meet.
    stores = [await connect(world) for _ in range(2 if world.name == "firestore" else 5)]
    try:
        decisions = await asyncio.gather(*(persistently(one, f"run-{n}") for n, one in enumerate(stores)))
    finally:
        for one in stores:
            await one.aclose()
    assert sorted(decision.step for decision in decisions) == [NextStep.BUSY] * (len(stores) - 1) + [NextStep.PUSH]
    assert len(world.summaries("ann")) == 1


async def persistently(store: Any, by: str) -> Any:
    """As a run does: a commit that lost against another's is tried again under the same name, apart from the other."""
    while True:
        try:
            return await begin(store, by=by)
        except StoreDown:
            await asyncio.sleep(jittered(timedelta(seconds=0.3), 0.2, 2).total_seconds())


async def test_a_decision_that_fails_leaves_nothing_locked(world: World, store: Any) -> None:
    """A transaction that nobody ends keeps its locks for a minute, in the way of the app's own writes."""

    def failing(_: object) -> None:
        raise Malformed("A ledger of a later version.")

    with pytest.raises(Malformed):
        await store._transact("ann", DAY, failing, user=True, summary=False)
    world.update_user("ann", {"language": "pt"})
    world.put_ledger("ann", DAY.isoformat(), {"state": "skipped"})
    assert (await begin(store)).step is NextStep.FINAL


async def test_begin_for_who_is_gone_or_switched_off_writes_nothing(world: World, store: Any) -> None:
    world.update_user("ann", {"daily_summary_enabled": False})
    assert (await begin(store)).step is NextStep.NO_USER
    world.delete_user("ann")
    assert (await begin(store)).step is NextStep.NO_USER
    assert (world.ledgers("ann"), world.summaries("ann")) == ({}, {})


AN_HOUR_BEFORE = SLOT - timedelta(hours=1)


@pytest.mark.parametrize("key", ["2026-05-01", "made-on-demand"])
@pytest.mark.parametrize("written", [AN_HOUR_BEFORE, AN_HOUR_BEFORE.replace(tzinfo=None).isoformat()])
async def test_begin_beside_another_hands_summary_is_legacy(
    world: World, store: Any, key: str, written: datetime | str
) -> None:
    """An app keeps the time as text without an offset, and means UTC."""
    theirs = {
        "id": key,
        "date": "2026-05-01",
        "created_at": written,
        "headline": "H",
        "overview": "O",
    }
    world.put_summary("ann", key, theirs)
    assert (await store.summary("ann", DAY)) is not None
    decision = await begin(store)
    assert (decision.step, decision.entry.state, decision.entry.outcome) == (NextStep.FINAL, DayState.SENT, "legacy")
    [ledger] = world.ledgers("ann").values()
    assert ledger["window_end"] == AN_HOUR_BEFORE
    assert [doc["headline"] for doc in world.summaries("ann").values()] == ["H"]


async def test_a_delivery_from_sending_to_sent(world: World, store: Any) -> None:
    opened = await begin(store)
    decision = await store.record_pushes(
        "ann",
        DAY,
        by="me",
        seq=opened.entry.seq,
        results={"aa": PushResult.ACCEPTED, "bb": PushResult.BUSY},
        sent_nothing=False,
        last_chance=False,
    )
    assert decision.step is NextStep.RETRY
    [ledger] = world.ledgers("ann").values()
    assert (ledger["state"], ledger["tries"], ledger["devices"]) == ("pending", 0, {"aa": "accepted"})
    taken = await store.take("ann", DAY, "you")
    assert (taken.step, taken.entry.by, taken.entry.tries) == (NextStep.PUSH, "you", 1)
    decision = await store.record_pushes(
        "ann", DAY, by="you", seq=1, results={"bb": PushResult.ACCEPTED}, sent_nothing=False, last_chance=False
    )
    assert (decision.step, decision.entry.state) == (NextStep.FINAL, DayState.SENT)
    [ledger] = world.ledgers("ann").values()
    assert ledger["devices"] == {"aa": "accepted", "bb": "accepted"}
    assert abs(ledger["sent_at"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert (await store.take("ann", DAY, "third")).step is NextStep.FINAL


async def report(store: Any, opened: Any, by: str = "me", **results: PushResult) -> Any:
    return await store.record_pushes(
        "ann", DAY, by=by, seq=1, results=results, sent_nothing=False, last_chance=False, opened=opened
    )


async def test_a_report_right_after_begin_or_take_reads_nothing(world: World, store: Any) -> None:
    opened = await begin(store)
    read = store.reads
    pending = await report(store, opened, aa=PushResult.ACCEPTED, bb=PushResult.BUSY)
    assert (pending.step, store.reads - read) == (NextStep.RETRY, 0)
    taken = await store.take("ann", DAY, "you")
    read = store.reads
    sent = await report(store, taken, "you", bb=PushResult.ACCEPTED)
    assert (sent.step, sent.entry.state, store.reads - read) == (NextStep.FINAL, DayState.SENT, 0)
    [ledger] = world.ledgers("ann").values()
    assert (ledger["state"], ledger["by"], ledger["devices"]) == ("sent", "you", {"aa": "accepted", "bb": "accepted"})
    assert (ledger["title"], ledger["tries"], "reason" in ledger) == ("🌤️ Head", 1, False)
    assert abs(ledger["sent_at"] - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_report_whose_reply_was_lost_changes_nothing_the_second_time(world: World, store: Any) -> None:
    opened = await begin(store)
    await report(store, opened, aa=PushResult.ACCEPTED)
    [before] = world.ledgers("ann").values()
    again = await report(store, opened, aa=PushResult.ACCEPTED)
    assert (again.step, again.write) == (NextStep.FINAL, False)
    assert list(world.ledgers("ann").values()) == [before]


async def test_a_report_on_a_ledger_that_another_has_taken_is_decided_anew(world: World) -> None:
    store: Any = await connect(world, stale=timedelta(0))
    world.put_user("ann", ON, {}, {})
    try:
        opened = await begin(store)
        await store.take("ann", DAY, "you")
        late = await report(store, opened, aa=PushResult.ACCEPTED, bb=PushResult.BUSY)
        assert (late.step, late.entry.state, late.entry.by) == (NextStep.RETRY, DayState.SENDING, "you")
        [ledger] = world.ledgers("ann").values()
        assert (ledger["state"], ledger["by"], ledger["devices"]) == ("sending", "you", {"aa": "accepted"})
    finally:
        await store.aclose()


async def test_a_report_about_an_erased_account_brings_nothing_back(world: World, store: Any) -> None:
    opened = await begin(store)
    world.delete_ledger("ann", DAY.isoformat())
    assert (await report(store, opened, aa=PushResult.ACCEPTED)).step is NextStep.NO_USER
    assert world.ledgers("ann") == {}


async def test_a_stale_sender_is_taken_over_and_its_own_report_still_counts(world: World) -> None:
    store: Any = await connect(world, stale=timedelta(0))
    world.put_user("ann", ON, {}, {})
    try:
        await begin(store)
        assert (await store.take("ann", DAY, "you")).step is NextStep.PUSH
        decision = await store.record_pushes(
            "ann", DAY, by="me", seq=1, results={"aa": PushResult.ACCEPTED}, sent_nothing=False, last_chance=False
        )
        assert (decision.step, decision.entry.state) == (NextStep.FINAL, DayState.SENT)
    finally:
        await store.aclose()


async def test_an_app_that_rewrites_or_deletes_the_summary_disturbs_nothing(world: World, store: Any) -> None:
    await begin(store)
    world.put_summary("ann", RECAP.id, {"date": "2026-05-01", "headline": "Rewritten"})
    world.delete_summary("ann", RECAP.id)
    decision = await store.record_pushes(
        "ann", DAY, by="me", seq=1, results={"aa": PushResult.ACCEPTED}, sent_nothing=False, last_chance=False
    )
    assert decision.entry.state is DayState.SENT


async def test_close_once_and_for_all(world: World, store: Any) -> None:
    first = await store.end_day(opening("me"), DayState.SKIPPED, "no_content")
    assert (first.step, first.write) == (NextStep.FINAL, True)
    again = await store.end_day(opening("you"), DayState.MISSED, "closed")
    assert (again.step, again.write, again.entry.state) == (NextStep.FINAL, False, DayState.SKIPPED)
    around = await store.ledgers_between("ann", DAY - timedelta(days=3), DAY + timedelta(days=2))
    assert list(around) == [DAY]
    assert around[DAY].window_end == SLOT


async def test_the_range_query_holds_three_days_back_and_two_ahead(world: World, store: Any) -> None:
    for n in range(-4, 4):
        day = DAY + timedelta(days=n)
        await store.end_day(Opening("ann", day, "me", SLOT, WINDOW), DayState.SKIPPED, "no_content")
    found = await store.ledgers_between("ann", DAY - timedelta(days=3), DAY + timedelta(days=2))
    assert sorted(found) == [DAY + timedelta(days=n) for n in range(-3, 3)]


async def test_a_resend_of_an_ended_day(world: World, store: Any) -> None:
    await begin(store)
    assert (await store.resend("ann", DAY, claim_live=False)).step is NextStep.REFUSED
    await store.record_pushes(
        "ann", DAY, by="me", seq=1, results={"aa": PushResult.ACCEPTED}, sent_nothing=False, last_chance=False
    )
    bumped = await store.resend("ann", DAY, claim_live=False)
    assert (bumped.step, bumped.entry.seq, bumped.entry.state) == (NextStep.RETRY, 2, DayState.PENDING)
    late = await store.record_pushes(
        "ann", DAY, by="me", seq=1, results={"aa": PushResult.ACCEPTED}, sent_nothing=False, last_chance=False
    )
    assert late.step is NextStep.REFUSED
    again = await store.take("ann", DAY, "operator")
    assert (again.step, again.entry.title, again.entry.body) == (NextStep.PUSH, "🌤️ Head", "Head")


async def test_a_skipped_day_is_replaced_only_as_it_was_read(world: World, store: Any) -> None:
    closed = await store.end_day(opening("me"), DayState.SKIPPED, "no_content")
    assert (await begin(store, by="op", replaces=replace(closed.entry, seq=9))).step is NextStep.FINAL
    decision = await begin(store, by="op", replaces=closed.entry)
    assert (decision.step, decision.entry.seq) == (NextStep.PUSH, 2)


async def test_what_was_made_of_a_part_is_kept_beside_its_ledger(store: Store) -> None:
    facts = (Cited("They met.", ("t1", "t2"), "we met", confided=True), Cited("祭りに行った。", ("t3",), "祭り"))
    assert await store.part("ann", DAY, "a" * 32) is None
    await store.put_part("ann", DAY, "a" * 32, facts)
    await store.put_part("ann", DAY, "b" * 32, ())
    assert await store.part("ann", DAY, "a" * 32) == facts
    assert await store.part("ann", DAY, "b" * 32) == ()
    assert await store.part("bob", DAY, "a" * 32) is None
    assert await store.part("ann", DAY + timedelta(days=1), "a" * 32) is None


async def test_a_draft_that_waits_for_its_second_look_is_kept_beside_the_parts(store: Store) -> None:
    draft = replace(DRAFT, push="Push", dropped=("What did not stand.",))
    assert await store.kept_draft("ann", DAY, "a" * 32) is None
    await store.keep_draft("ann", DAY, "a" * 32, draft)
    kept = await store.kept_draft("ann", DAY, "a" * 32)
    assert kept == draft
    assert await store.part("ann", DAY, "a" * 32) is None  # one key, and no part under it
    for uid, day, key in (("bob", DAY, "a"), ("ann", DAY + timedelta(days=1), "a"), ("ann", DAY, "b")):
        assert await store.kept_draft(uid, day, key * 32) is None


async def test_a_ledger_says_what_its_recap_cost_and_the_document_is_read_as_it_is(store: Store, world: World) -> None:
    world.put_user("ann", ON, {}, {})
    assert await store.summary_document("ann", DAY) is None
    await store.begin(opening("a"), RECAP, has_devices=False, replaces=None)
    entry = (await store.ledgers_between("ann", DAY, DAY))[DAY]
    assert (entry.source, entry.verified, entry.tokens, entry.usd) == ("llm", True, 120, 0.0002)
    doc = await store.summary_document("ann", DAY)
    assert doc is not None
    assert (doc["headline"], doc["metadata"]["usd"]) == ("Head", 0.0002)


@pytest.mark.parametrize("gone", ["erased", "switched off"])
async def test_neither_part_nor_draft_is_kept_of_who_is_gone(store: Store, world: World, gone: str) -> None:
    world.update_user("ann", {"daily_summary_enabled": False})
    if gone == "erased":
        world.delete_user("ann")
    await store.put_part("ann", DAY, "a" * 32, (Cited("They met.", ("t1",)),))
    await store.keep_draft("ann", DAY, "b" * 32, DRAFT)
    assert await store.part("ann", DAY, "a" * 32) is None
    assert await store.kept_draft("ann", DAY, "b" * 32) is None
