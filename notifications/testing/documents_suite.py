"""The contract of a store, part one: what it reads, and all documents but ledgers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.domain.delivery import LedgerRules
from notifications.domain.errors import Malformed
from notifications.domain.model import (
    ActionItem,
    Cited,
    Draft,
    Highlight,
    Recap,
    Task,
    Turn,
    Window,
)
from notifications.domain.shards import Range
from notifications.domain.told_once import Candidates, told_hash
from notifications.ports import Decided, Mended, Store
from notifications.testing.base import Suite
from notifications.testing.world import Doc, World, talk

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
    (Highlight("T", "e", (Cited("S", ("t1",), "so said", private=True),)),),
    (Cited("Q?", ("t1",), "who asks"),),
    (Cited("D", ("t1", "t2"), "done"),),
    (Cited("K"),),
    {"kept": 5, "verified": True},
    {"whole": 2},
    {"source": "llm", "tokens_in": 100, "tokens_out": 20, "usd": 0.0002},
)
RECAP = Recap("5b7c", DAY, SLOT, DRAFT, 2, 41, (Task("Buy seeds", False, "t1"),))
RULES = LedgerRules(stale=timedelta(seconds=120), max_pushes=3, retention=timedelta(days=30))
KEY, OTHER_KEY = "a" * 32, "b" * 32


class DocumentsSuite(Suite):
    """Users, conversations, devices, and what is kept of a long day."""

    world: World  # the documents, past the store
    flaw_of_a_bad_hour = "users/bad: daily_summary_hour_local is not a whole number from 0 to 23."

    def make(self, rules: LedgerRules = RULES) -> AbstractAsyncContextManager[Store]:
        """A new store over the world's documents."""
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        async with self.make() as store:
            self.world.put_user("ann", ON, {"d0": "token-0"}, {})
            yield store

    async def test_a_store_tells_its_own_time_at_the_cost_of_a_document(self, store: Store) -> None:
        read = store.reads
        told = await store.now()
        assert (abs(told - datetime.now(UTC)) < timedelta(minutes=1), told.tzinfo is not None) == (True, True)
        assert store.reads - read <= 1

    async def test_pages_hold_whom_the_query_sees_by_id(self, store: Any) -> None:
        for n in range(7):
            self.world.put_user(f"user-{n}", ON | {"time_zone": ("Europe/Paris", "Europe/Berlin")[n % 2]}, {}, {})
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
            self.world.put_user(uid, ON | changes, {}, {})
        self.world.put_user("whole-float", ON | {"daily_summary_hour_local": 22.0}, {}, {})
        zones = ["Europe/Berlin", "Europe/Paris"]
        everyone = ["ann", *(f"user-{n}" for n in range(7)), "whole-float"]

        found: list[list[str]] = []
        after = None
        while (page := await store.due_users(zones, 22, Range(), after, 4)) and len(found) < 4:
            found.append([user.uid for user in page])
            after = page[-1].uid
        assert found == [everyone[:4], everyone[4:8], everyone[8:]]
        assert [document.uid for document in await store.due_users(zones, 22, Range("user-2", "user-5"), None, 9)] == [
            "user-2",
            "user-3",
            "user-4",
        ]
        assert [document.uid for document in await store.due_users(zones, 22, Range("u", None), "user-5", 9)] == [
            "user-6",
            "whole-float",
        ]
        for ids, count in ((Range(), 9), (Range("user-2", "user-5"), 3), (Range("u", None), 8)):
            assert await store.count_due(zones, 22, ids) == count
        [first] = await store.due_users(["Europe/Berlin"], 22, Range(), None, 1)
        assert (first.user.zone, first.flaw) == ("Europe/Berlin", "")

    async def test_one_user_is_read_whatever_their_switch_says(self, store: Any) -> None:
        self.world.put_user("off", ON | {"daily_summary_enabled": False, "language": "pt"}, {}, {})
        self.world.put_user("bad", ON | {"daily_summary_hour_local": 24}, {}, {})
        found = (await store.user_document("off")).user
        assert (found.enabled, found.zone, found.hour, found.language) == (False, "Europe/Paris", 22, "pt")
        bad = await store.user_document("bad")
        assert (bad.user, bad.flaw) == (None, self.flaw_of_a_bad_hour)
        assert await store.user_document("nobody") is None

    async def test_conversations_of_a_window(self, store: Store) -> None:
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
            "by-an-app": talk(
                "ann", inside, user_title="Mine", apps_results=[{"app_id": "a", "content": "# Told\n- so"}]
            ),
            "by-an-older-app": talk(
                "ann", inside, structured={}, plugins_results=[{"plugin_id": "a", "content": "So."}]
            ),
            "in-sections": talk("ann", inside, structured={"sections": [{"heading": "H", "body_markdown": "Body."}]}),
            "encrypted": talk("ann", inside, structured={"title": "T"}, transcript_segments="AAECAwQFBgcICQ=="),
            "tasks-and-words": talk(
                "ann",
                inside,
                structured={"action_items": [{"description": "Call"}]},
                transcript_segments=[{"text": "Hello"}],
            ),
        }
        self.world.put_user("ann", ON, {}, talks)
        found, malformed = await store.conversations_in("ann", ALL_DAY)
        told = {"first", "second", "spoken", "titled", "no-times"}
        apps = {"by-an-app", "by-an-older-app", "in-sections", "encrypted", "tasks-and-words"}
        assert {talk.id for talk in found} == told | apps
        assert malformed == 1
        by_id = {talk.id: talk for talk in found}
        assert found[0].id == "first"
        assert (by_id["second"].title, by_id["second"].category, by_id["second"].minutes) == ("A talk", "social", 20)
        assert by_id["second"].action_items == (ActionItem("Buy seeds"),)
        assert by_id["spoken"].turns == (Turn("", "Hello"), Turn("", "there"))
        assert not by_id["titled"].has_content
        assert by_id["no-times"].minutes == 0
        assert (by_id["by-an-app"].title, by_id["by-an-app"].overview) == ("Mine", "Told:\nso")
        assert [by_id[key].overview for key in ("by-an-older-app", "in-sections")] == ["So.", "H:\nBody."]
        assert [talk.id for talk in found if talk.encrypted] == ["encrypted"]
        assert by_id["tasks-and-words"].turns == (Turn("", "Hello"),)

    async def test_what_a_recap_around_has_told_is_not_read_nor_what_is_still_under_way(self, store: Store) -> None:
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
        self.world.put_user("ann", ON, {}, talks)
        day = timedelta(hours=24)
        candidates = Candidates(WINDOW, WINDOW.start - day, SLOT - day, frozenset({told_hash("ann", "told")}))
        found, malformed = await store.conversations_in("ann", candidates)
        assert (sorted(talk.id for talk in found), malformed) == (["done", "late", "never", "stuck"], 0)
        since = replace(candidates, told_before=WINDOW.start)
        assert sorted(talk.id for talk in (await store.conversations_in("ann", since))[0]) == ["done", "never"]

    @pytest.mark.parametrize("key", ["a/b", "..", "__app__"])
    async def test_a_summary_that_calls_itself_what_no_document_can_be_called_is_found_by_its_date(
        self, store: Any, key: str
    ) -> None:
        self.world.put_summary("ann", "app", {"id": key, "date": DAY.isoformat(), "headline": "Theirs"})
        assert (await store.summary("ann", DAY)).id == key
        assert (await store.summary_document("ann", DAY, key))["headline"] == "Theirs"

    async def test_an_apps_own_summary_has_its_time_as_text_without_an_offset(self, store: Any) -> None:
        self.world.put_summary("ann", "theirs", {"date": DAY.isoformat(), "created_at": "2026-05-01T19:04:11.123456"})
        found = await store.summary("ann", DAY)
        assert found.created_at == datetime(2026, 5, 1, 19, 4, 11, 123456, tzinfo=UTC)

    async def test_a_user_of_more_documents_than_one_commit_holds_is_put_whole(self, store: Store) -> None:
        """450 documents are two commits in Firestore; the user's own document comes with the last.

        The same again replaces what it names, and leaves the other fields of the user's document.
        """
        said = {f"c{n}": {"created_at": (SLOT - timedelta(minutes=n + 1)).isoformat()} for n in range(450)}
        for more in ({"name": "x", "a.b`c": 1, "extra": {"a": 1}}, {"name": None, "extra": {"b": 2}}):
            await store.put("big", ON | more, {"d": {"token": "t"}}, said)
        assert self.world.user("big") == ON | {"name": None, "a.b`c": 1, "extra": {"b": 2}}
        found, malformed = await store.conversations_in("big", ALL_DAY)
        assert (len(found), malformed, await store.user_document("big") is not None) == (450, 0, True)
        with pytest.raises(Malformed):
            await store.put("other", ON, {}, said | {"odd": {}})
        assert await store.user_document("other") is None

    async def test_a_document_is_mended_where_that_has_one_right_answer(self, store: Store) -> None:
        odd = {"time_zone": " Europe/Paris", "daily_summary_hour_local": "7", "name": "x"}
        self.world.put_user("odd", odd, {}, {})
        assert await store.mend("nobody") == Mended({})
        changes = {"time_zone": (" Europe/Paris", "Europe/Paris"), "daily_summary_hour_local": ("7", 7)}
        assert await store.mend("odd", write=False) == Mended(changes, ("no switch",))
        assert self.world.user("odd") == odd
        assert await store.mend("odd") == Mended(changes, ("no switch",))
        decided = await store.mend("odd", Decided(zone="UTC", hour=22, enable=True))
        assert decided == Mended({"daily_summary_enabled": (None, True)})
        assert self.world.user("odd") == ON | {"daily_summary_hour_local": 7, "name": "x"}

    async def test_devices_once_each_and_the_legacy_field_only_without_them(self, store: Store) -> None:
        self.world.put_user("two", ON | {"fcm_token": "old"}, {"a": "t1", "b": "t1", "c": "t2", "d": ""}, {})
        self.world.put_user("legacy", ON | {"fcm_token": "old"}, {}, {})
        self.world.put_user("none", ON, {}, {})
        assert sorted(device.token for device in (await store.devices("two"))[0]) == ["t1", "t2"]
        assert [(device.token, device.key) for device in (await store.devices("legacy"))[0]] == [("old", None)]
        assert await store.devices("none") == ([], 0)

    async def test_a_dead_token_goes_only_if_its_document_is_unchanged(self, store: Store) -> None:
        self.world.put_user("two", ON, {"a": "t1", "b": "t2"}, {})
        first, second = sorted((await store.devices("two"))[0], key=lambda device: device.token)
        self.world.put_token("two", "b", "t3")
        assert await store.forget_device("two", first) is True
        assert await store.forget_device("two", second) is False
        assert await store.forget_device("two", first) is False
        assert {key: doc["token"] for key, doc in self.world.tokens("two").items()} == {"b": "t3"}

    async def test_a_device_may_have_a_fid_beside_or_instead_of_a_token(self, store: Store) -> None:
        self.world.put_user("fay", ON | {"fcm_token": "old"}, {}, {})
        self.world.put_device("fay", "a", {"fid": "f1"})
        self.world.put_device("fay", "b", {"fid": "f2", "token": "t2"})
        self.world.put_device("fay", "c", {"token": "t2", "created_at": "2026-05-01"})
        found, malformed = await store.devices("fay")
        assert ([(device.key, device.token, device.fid) for device in found], malformed) == (
            [("a", "", "f1"), ("b", "t2", "f2")],
            0,
        )
        self.world.put_device("fay", "b", {"fid": "f3", "token": "t2"})
        assert [await store.forget_device("fay", device) for device in found] == [True, False]
        assert sorted(self.world.tokens("fay")) == ["b", "c"]

    async def test_a_dead_legacy_token_goes_only_if_it_is_still_there(self, store: Store) -> None:
        self.world.put_user("legacy", ON | {"fcm_token": "old"}, {}, {})
        [device], _ = await store.devices("legacy")
        self.world.update_user("legacy", {"fcm_token": "new"})
        assert await store.forget_device("legacy", device) is False
        [device], _ = await store.devices("legacy")
        assert await store.forget_device("legacy", device) is True
        assert self.world.user("legacy") == ON

    async def test_what_was_made_of_a_part_is_kept_beside_its_ledger(self, store: Store) -> None:
        facts = (Cited("They met.", ("t1", "t2"), "we met", private=True), Cited("祭りに行った。", ("t3",), "祭り"))
        assert await store.part("ann", DAY, "a" * 32) is None
        await store.put_part("ann", DAY, "a" * 32, facts)
        await store.put_part("ann", DAY, "b" * 32, ())
        assert await store.part("ann", DAY, "a" * 32) == facts
        assert await store.part("ann", DAY, "b" * 32) == ()
        assert await store.part("bob", DAY, "a" * 32) is None
        assert await store.part("ann", DAY + timedelta(days=1), "a" * 32) is None

    async def test_a_draft_is_read_as_it_was_kept(self, store: Store) -> None:
        assert await store.kept_draft("ann", DAY, KEY) is None
        await store.keep_draft("ann", DAY, KEY, DRAFT)
        assert await store.kept_draft("ann", DAY, KEY) == DRAFT

    async def test_a_draft_is_of_one_user_one_day_and_one_key(self, store: Store) -> None:
        await store.keep_draft("ann", DAY, KEY, DRAFT)
        assert await store.kept_draft("bob", DAY, KEY) is None
        assert await store.kept_draft("ann", DAY + timedelta(days=1), KEY) is None
        assert await store.kept_draft("ann", DAY, OTHER_KEY) is None

    async def test_a_draft_that_is_kept_again_takes_the_place_of_the_first(self, store: Store) -> None:
        await store.keep_draft("ann", DAY, KEY, DRAFT)
        assert await store.kept_draft("ann", DAY, KEY) == DRAFT
        later = Draft("Another", (Cited("They met.", ("t1",), "we met today"),), "")
        await store.keep_draft("ann", DAY, KEY, later)
        assert await store.kept_draft("ann", DAY, KEY) == later

    @pytest.mark.parametrize("gone", ["deleted", "switched off"])
    async def test_nothing_is_kept_of_who_is_gone_or_off(self, store: Store, gone: str) -> None:
        if gone == "deleted":
            self.world.delete_user("ann")
        else:
            self.world.update_user("ann", {"daily_summary_enabled": False})
        await store.put_part("ann", DAY, OTHER_KEY, ())
        await store.keep_draft("ann", DAY, KEY, DRAFT)
        assert await store.kept_draft("ann", DAY, KEY) is None
        assert await store.part("ann", DAY, OTHER_KEY) is None

    async def test_what_another_version_kept_is_none_and_the_parts_of_a_day_are_no_draft(self, store: Store) -> None:
        """A draft that can't be read is written again; the day does not fail."""
        facts = (Cited("They met.", ("t1",), "we met today"),)
        await store.put_part("ann", DAY, KEY, facts)
        assert await store.kept_draft("ann", DAY, KEY) is None
        await store.keep_draft("ann", DAY, OTHER_KEY, DRAFT)
        assert await store.part("ann", DAY, OTHER_KEY) is None
        assert await store.part("ann", DAY, KEY) == facts
