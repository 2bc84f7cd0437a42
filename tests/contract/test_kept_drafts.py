"""One suite over memory, SQLite and the Firestore emulator: a draft that waits for its second look."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.adapters.local.sqlite import SqliteStore
from notifications.adapters.stores import firestore
from notifications.domain.delivery import LedgerRules
from notifications.domain.model import Cited, Draft, Highlight
from notifications.ports import Store
from notifications.testing import MemoryStore, MemoryWorld
from tests.support.worlds import Doc, FirestoreWorld, SqliteWorld, World

DAY = date(2026, 5, 1)
KEY, OTHER = "a" * 32, "b" * 32
ON: Doc = {"time_zone": "Europe/Paris", "daily_summary_enabled": True, "daily_summary_hour_local": 22}
RULES = LedgerRules(timedelta(seconds=120), 3, timedelta(days=30))
PLACE = f"recap_deliveries/{DAY}/recap_parts"
DRAFT = Draft(
    headline="Fence and dentist",
    overview=(Cited("Noah paints the fence.", ("t1", "t2"), "I will paint the fence"),),
    day_emoji="🌤️",
    highlights=(Highlight("The fence", "🎨", (Cited("It costs 40 €.", ("t1",), "costs 40 euros", confided=True),)),),
    unresolved_questions=(Cited("Who buys the paint?", ("t2",), "who buys the paint"),),
    decisions_made=(Cited("It is painted blue.", ("t1",), "we paint it blue"),),
    knowledge_nuggets=(Cited("ペンキは四十ユーロです。", ("t1",), "四十ユーロ"),),
    checks={"kept": 5, "unquoted": 1},
    coverage={"whole": 2, "part": 0, "extract": 0},
    metadata={"model": "m", "tier": "flex", "source": "llm", "calls": 1, "tokens_in": 100, "usd": 0.0002},
    push="Noah paints the fence.",
    dropped=("Noah sells the fence.",),
)


@pytest.fixture(params=["memory", "sqlite", "firestore"])
def world(request: pytest.FixtureRequest) -> World:
    """Each store in turn."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


@pytest.fixture
async def store(world: World) -> AsyncIterator[Store]:
    made: Store
    if isinstance(world, FirestoreWorld):
        made = await firestore.connect(world.project, "(default)", world.host, RULES, timedelta(seconds=60))
    elif isinstance(world, MemoryWorld):
        made = MemoryStore(world.documents, RULES)
    else:
        assert isinstance(world, SqliteWorld)
        made = SqliteStore(world.folder / "recap.sqlite3", RULES)
    for uid in ("ann", "bob"):
        world.put_user(uid, ON, {}, {})
    yield made
    await made.aclose()


def stored(world: World) -> tuple[Doc, datetime]:
    """The document as it lies there, and when it ends."""
    if isinstance(world, FirestoreWorld):
        doc: Any = world.db.document(f"users/ann/{PLACE}/{KEY}").get().to_dict()
        return doc, doc["expire_at"]
    if isinstance(world, MemoryWorld):
        doc = world.documents.collection("ann", PLACE)[KEY].doc
        return doc, doc["expire_at"]
    assert isinstance(world, SqliteWorld)
    [(text, ends)] = world.db.execute("SELECT doc, expire_at FROM parts WHERE uid = 'ann' AND key = ?", (KEY,))
    return json.loads(text), datetime.fromtimestamp(ends / 1_000_000, UTC)


def overwrite(world: World, doc: Doc) -> None:
    """Another version's document in its place."""
    if isinstance(world, FirestoreWorld):
        world.db.document(f"users/ann/{PLACE}/{KEY}").set(doc)
    elif isinstance(world, MemoryWorld):
        world.documents.put(world.documents.collection("ann", PLACE), KEY, doc)
    else:
        assert isinstance(world, SqliteWorld)
        world.db.execute("UPDATE parts SET doc = ? WHERE uid = 'ann' AND key = ?", (json.dumps(doc), KEY))


async def test_a_draft_is_read_as_it_was_kept(store: Store) -> None:
    assert await store.kept_draft("ann", DAY, KEY) is None
    await store.keep_draft("ann", DAY, KEY, DRAFT)
    assert await store.kept_draft("ann", DAY, KEY) == DRAFT


async def test_a_draft_is_of_one_user_one_day_and_one_key(store: Store) -> None:
    await store.keep_draft("ann", DAY, KEY, DRAFT)
    assert await store.kept_draft("bob", DAY, KEY) is None
    assert await store.kept_draft("ann", DAY + timedelta(days=1), KEY) is None
    assert await store.kept_draft("ann", DAY, OTHER) is None


async def test_a_draft_that_is_kept_again_takes_the_place_of_the_first(store: Store) -> None:
    await store.keep_draft("ann", DAY, KEY, DRAFT)
    later = Draft("Another", (Cited("They met.", ("t1",), "we met today"),), "")
    await store.keep_draft("ann", DAY, KEY, later)
    assert await store.kept_draft("ann", DAY, KEY) == later


@pytest.mark.parametrize("gone", ["deleted", "switched off"])
async def test_nothing_is_kept_of_who_is_gone_or_off(store: Store, world: World, gone: str) -> None:
    if gone == "deleted":
        world.delete_user("ann")
    else:
        world.update_user("ann", {"daily_summary_enabled": False})
    await store.keep_draft("ann", DAY, KEY, DRAFT)
    assert await store.kept_draft("ann", DAY, KEY) is None


async def test_what_another_version_kept_is_none_and_the_parts_of_a_day_are_no_draft(store: Store) -> None:
    """Then it is written anew; nobody's day fails of it."""
    facts = (Cited("They met.", ("t1",), "we met today"),)
    await store.put_part("ann", DAY, KEY, facts)
    assert await store.kept_draft("ann", DAY, KEY) is None
    await store.keep_draft("ann", DAY, OTHER, DRAFT)
    assert await store.part("ann", DAY, OTHER) is None
    assert await store.part("ann", DAY, KEY) == facts


ODD: tuple[Any, ...] = (
    {},
    {"paid": None},
    {"paid": {"headline": "Of a version that had no quotes", "overview": "As one text.", "day_emoji": ""}},
    {"paid": {"headline": 7, "overview": [], "day_emoji": ""}},
    {"draft": "elsewhere"},
)


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
async def test_a_document_of_another_form_is_no_draft(store: Store, world: World, odd: Doc) -> None:
    await store.keep_draft("ann", DAY, KEY, DRAFT)
    overwrite(world, odd)
    assert await store.kept_draft("ann", DAY, KEY) is None


async def test_a_draft_expires_three_days_after_it_was_kept(store: Store, world: World) -> None:
    before = datetime.now(UTC)
    await store.keep_draft("ann", DAY, KEY, DRAFT)
    doc, ends = stored(world)
    assert doc["paid"]["headline"] == "Fence and dentist"
    assert timedelta(days=3) - timedelta(minutes=1) < ends - before < timedelta(days=3, minutes=1)
