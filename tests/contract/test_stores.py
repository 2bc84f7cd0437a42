"""The stores that ship, and the one in memory, by the suite of the port; and what is a store's own."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifications.domain.delivery import LedgerRules, NextStep
from notifications.domain.errors import ConfigFault, Malformed
from notifications.domain.model import Turn
from notifications.ports import Decided, Mended, Store
from notifications.testing import MemoryWorld, StoreSuite, talk
from notifications.testing.documents_suite import ALL_DAY, DAY, DRAFT, KEY, ON, RULES, SLOT
from notifications.testing.store_suite import begin
from tests.support.worlds import Doc, FirestoreWorld, SqliteWorld, connect

PLACE = f"recap_deliveries/{DAY}/recap_parts"
ODD_DRAFTS: tuple[Doc, ...] = (
    {},
    {"paid": None},
    {"paid": {"headline": "Of a version that had no quotes", "overview": "As one text.", "day_emoji": ""}},
    {"paid": {"headline": 7, "overview": [], "day_emoji": ""}},
    {"draft": "elsewhere"},
)


class Shipped(StoreSuite):
    """What our stores have in common beyond the port."""

    @asynccontextmanager
    async def make(self, rules: LedgerRules = RULES) -> AsyncIterator[Store]:
        store = await connect(self.world, rules)
        yield store
        await store.aclose()

    def draft(self) -> tuple[Doc, datetime]:
        """The kept draft as it lies there, and when it ends."""
        raise NotImplementedError

    def put_draft(self, doc: Doc) -> None:
        """Another version's document in its place."""
        raise NotImplementedError

    async def test_a_decision_that_fails_leaves_nothing_locked(self, store: Any) -> None:
        """A transaction that nobody ends keeps its locks for a minute, in the way of the app's own writes."""

        def failing(_: object) -> None:
            raise Malformed("A ledger of a later version.")

        with pytest.raises(Malformed):
            await store._transact("ann", DAY, failing, user=True, summary=False)
        self.world.update_user("ann", {"language": "pt"})
        self.world.put_ledger("ann", DAY.isoformat(), {"state": "skipped"})
        assert (await begin(store)).step is NextStep.FINAL

    @pytest.mark.parametrize("odd", ODD_DRAFTS, ids=range(len(ODD_DRAFTS)))
    async def test_a_document_of_another_form_is_no_draft(self, store: Store, odd: Doc) -> None:
        await store.keep_draft("ann", DAY, KEY, DRAFT)
        self.put_draft(odd)
        assert await store.kept_draft("ann", DAY, KEY) is None

    async def test_a_draft_expires_three_days_after_it_was_kept(self, store: Store) -> None:
        before = datetime.now(UTC)
        await store.keep_draft("ann", DAY, KEY, DRAFT)
        doc, ends = self.draft()
        assert doc["paid"]["headline"] == DRAFT.headline
        assert timedelta(days=3) - timedelta(minutes=1) < ends - before < timedelta(days=3, minutes=1)


class Compressing(Shipped):
    """Of a store that has bytes."""

    async def test_a_compressed_transcript(self, store: Store) -> None:
        inside, said = SLOT - timedelta(hours=2), zlib.compress(b'[{"text": "Hello"}, {"text": "there"}]')
        talks = {
            "packed": talk("ann", inside, structured={"title": "T"}, transcript_segments=said),
            "torn": talk("ann", inside, structured={"title": "T"}, transcript_segments=said[:9]),
            "written": talk("ann", inside, transcript_segments=said[:9]),
        }
        self.world.put_user("ann", ON, {}, talks)
        found, malformed = await store.conversations_in("ann", ALL_DAY)
        assert [(c.id, c.turns) for c in found] == [("packed", (Turn("", "Hello"), Turn("", "there"))), ("written", ())]
        assert malformed == 1


class TestMemoryStore(Compressing):
    world: MemoryWorld

    @pytest.fixture(autouse=True)
    def _empty(self) -> None:
        self.world = MemoryWorld()

    def draft(self) -> tuple[Doc, datetime]:
        doc = self.world.documents.collection("ann", PLACE)[KEY].doc
        return doc, doc["expire_at"]

    def put_draft(self, doc: Doc) -> None:
        self.world.documents.put(self.world.documents.collection("ann", PLACE), KEY, doc)


class TestSqliteStore(Shipped):
    world: SqliteWorld
    record_reads = 1

    @pytest.fixture(autouse=True)
    def _empty(self, sqlite_world: SqliteWorld) -> None:
        self.world = sqlite_world

    def draft(self) -> tuple[Doc, datetime]:
        [(text, ends)] = self.world.db.execute("SELECT doc, expire_at FROM parts WHERE uid = 'ann' AND key = ?", (KEY,))
        return json.loads(text), datetime.fromtimestamp(ends / 1_000_000, UTC)

    def put_draft(self, doc: Doc) -> None:
        self.world.db.execute("UPDATE parts SET doc = ? WHERE uid = 'ann' AND key = ?", (json.dumps(doc), KEY))


class TestFirestoreStore(Compressing):
    world: FirestoreWorld
    begin_at_once = 2  # in the emulator each lost commit waits two seconds for a lock: there only two meet

    @pytest.fixture(autouse=True)
    def _empty(self, firestore_world: FirestoreWorld) -> None:
        self.world = firestore_world

    def draft(self) -> tuple[Doc, datetime]:
        doc: Any = self.world.db.document(f"{self.world.shape.users}/ann/{PLACE}/{KEY}").get().to_dict()
        return doc, doc["expire_at"]

    def put_draft(self, doc: Doc) -> None:
        self.world.db.document(f"{self.world.shape.users}/ann/{PLACE}/{KEY}").set(doc)


@pytest.mark.parametrize("shape", ["other"], indirect=True)
class OfAnotherShape(Shipped):
    """The suite over an app with other names, conversations at the top level, and milliseconds."""

    world: Any
    flaw_of_a_bad_hour = "apps/x/profiles/bad: settings.recap_hour is not a whole number from 0 to 23."

    async def test_a_document_is_mended_where_that_has_one_right_answer(self, store: Store) -> None:
        self.world.put_user("odd", {"time_zone": " Europe/Paris", "daily_summary_hour_local": "7", "name": "x"}, {}, {})
        changes = {"settings.tz": (" Europe/Paris", "Europe/Paris"), "settings.recap_hour": ("7", 7)}
        assert await store.mend("odd") == Mended(changes, ("no switch",))
        assert await store.mend("odd", Decided(enable=True)) == Mended({"settings.recap_on": (None, True)})
        assert self.world.user("odd") == ON | {"daily_summary_hour_local": 7, "name": "x"}

    async def test_a_user_of_more_documents_than_one_commit_holds_is_put_whole(self, store: Store) -> None:
        shape = self.world.shape
        said = {f"c{n}": shape.conversation("big", {"created_at": SLOT - timedelta(minutes=n + 1)}) for n in range(450)}
        for _ in range(2):  # the same again replaces
            await store.put("big", shape.user(ON), {"d": {"fcm": "t"}}, said)
        found, malformed = await store.conversations_in("big", ALL_DAY)
        assert (len(found), malformed, await store.user_document("big") is not None) == (450, 0, True)
        assert await store.conversations_in("ann", ALL_DAY) == ([], 0)
        await store.remove("big")
        assert await store.conversations_in("big", ALL_DAY) == ([], 0)

    async def test_a_time_of_another_type_is_never_found_and_the_types_say_so(self, store: Store) -> None:
        self.world.put_user("ann", ON, {}, {"good": talk("ann", SLOT - timedelta(hours=1))})
        self.world.put_talk("ann", "text", {"createdAt": "2026-05-01T19:00:00Z"})
        found, _ = await store.conversations_in("ann", ALL_DAY)
        assert [one.id for one in found] == ["good"]
        [field] = [one for one in await store.field_types(10) if one.name == "createdAt"]
        assert (field.collection, field.types, field.wrong) == ("notes", {"ms": 1, "text": 1}, 1)


class TestSqliteStoreOfAnotherShape(OfAnotherShape, TestSqliteStore):
    """Columns are made of other names."""


class TestFirestoreStoreOfAnotherShape(OfAnotherShape, TestFirestoreStore):
    """Queries ask for other names, below other paths."""

    async def test_another_apps_ledgers_and_summaries_in_the_database_are_not_ours(self, store: Any) -> None:
        day = DAY.isoformat()
        self.world.put_ledger("ann", day, {"date": day, "state": "pending"})
        self.world.put_summary("ann", "s", {"id": "s", "date": day})
        for path in ("apps/x/profiles2/ann", "apps/x/profile/ann", "apps/y/profiles/ann", "users/ann", "apps/x"):
            self.world.db.document(f"{path}/recap_deliveries/{day}").set({"date": day, "state": "pending"})
            self.world.db.document(f"{path}/recaps/s").set({"id": "s", "date": day})
        for _ in range(2):
            assert [uid for uid, _ in await store.ledgers_on(DAY, None, 9)] == ["ann"]
            assert [uid for uid, _ in await store.open_ledgers(None, 9)] == ["ann"]
            assert await store.summaries_on(DAY, None, 9) == [("ann", "s")]
        assert await store.ledgers_on(DAY, "ann", 9) == []

    async def test_a_collection_that_holds_what_is_no_summary_is_refused_at_the_start(self, store: Store) -> None:
        self.world.put_summary("ann", "game", {"score": 7})
        with pytest.raises(ConfigFault, match=r"'recaps' holds what is no summary; set another in \[summaries\]"):
            await connect(self.world, RULES)
