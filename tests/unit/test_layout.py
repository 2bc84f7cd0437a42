"""Another app's layout: what a file may say, and how documents are read by it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from notifications.adapters.stores import documents
from notifications.adapters.stores.field_types import types_of
from notifications.adapters.stores.imports import check_user, conversation_to, mend_user, user_to
from notifications.adapters.stores.indexes import as_json
from notifications.adapters.stores.layout import read_layout, value_at, with_value
from notifications.adapters.stores.recipients import devices_from
from notifications.domain.errors import ConfigFault, Malformed
from notifications.domain.model import Device, User
from notifications.ports import Decided
from tests.support.layouts import OTHER
from tests.support.rows import rows

ROOT = Path(__file__).parents[2]
USUAL, THEIRS = read_layout(None), OTHER.layout
AT = datetime(2026, 5, 1, 9, 0, 0, 250_000, tzinfo=UTC)
MS = 1_777_626_000_250
NOTE: dict[str, Any] = {"uid": "ann", "createdAt": MS, "content": {"body": "We met."}, "subject": " A note "}
ANN = {"settings": {"tz": "Europe/Paris", "recap_on": True, "recap_hour": 22}, "locale": "fr"}


def written(folder: Path, text: str) -> Path:
    path = folder / "layout.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("text", "line", "flaw"), rows("layouts", "refused"))
def test_what_can_not_be_is_one_sentence_with_its_line(tmp_path: Path, text: str, line: int, flaw: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        read_layout(written(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'layout.toml'}, line {line}: ")
    assert flaw in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault, match=r"RECAP_LAYOUT names .*none\.toml, which can't be read \(No such file"):
        read_layout(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigFault, match="line 1: it is no UTF-8"):
        read_layout(tmp_path / "bytes.toml")


def test_what_a_file_leaves_out_is_as_usual_and_what_is_printed_is_the_same_file(tmp_path: Path) -> None:
    assert read_layout(written(tmp_path, "")) == USUAL
    one = written(tmp_path, "[users]\ncollection = 'apps/x/profiles'\n")
    assert (read_layout(one).users, read_layout(one).hour) == ("apps/x/profiles", "daily_summary_hour_local")
    for number, layout in enumerate((USUAL, THEIRS)):
        (tmp_path / f"{number}.toml").write_text(layout.as_toml(), encoding="utf-8")
        assert read_layout(tmp_path / f"{number}.toml") == layout


def test_a_path_of_users_and_one_of_conversations_with_an_owner_may_be_deep(tmp_path: Path) -> None:
    text = "[users]\ncollection = 'a/b/c/d/e'\n[conversations]\ncollection = 'a/b/notes'\nowner = 'who.uid'\n"
    assert read_layout(written(tmp_path, text)).conversations == "a/b/notes"


def test_the_version_changes_with_the_columns_alone(tmp_path: Path) -> None:
    assert USUAL.version == 0
    assert 0 < THEIRS.version < 2**31
    assert read_layout(written(tmp_path, "[devices]\ntoken = 'fcm'\n")).version == 0


def test_dotted_names_lead_into_maps() -> None:
    doc = {"a": {"b": {"c": 1}}, "d": 2, "e": ["b"]}
    assert [value_at(doc, name) for name in ("a.b.c", "a.b", "d", "d.x", "e.b", "x.y", "a.c")] == [
        *(1, {"c": 1}, 2, None, None, None, None)
    ]
    assert value_at(None, "a") is None
    assert with_value(doc, "a.b.x", 3) == {"a": {"b": {"c": 1, "x": 3}}, "d": 2, "e": ["b"]}
    assert with_value({"a": 7}, "a.b", 3) == {"a": {"b": 3}}
    assert doc == {"a": {"b": {"c": 1}}, "d": 2, "e": ["b"]}


def test_a_user_is_read_by_the_apps_names_and_a_flaw_names_them() -> None:
    assert documents.user_from(THEIRS, "ann", ANN) == User("ann", "Europe/Paris", 22, True, "fr")
    flaw = documents.user_document_from(THEIRS, "ann", {"settings": {"recap_on": True, "recap_hour": "22"}}).flaw
    assert flaw == "apps/x/profiles/ann: settings.recap_hour is not a whole number from 0 to 23."
    assert documents.active(THEIRS, ANN)
    assert not documents.active(THEIRS, {"daily_summary_enabled": True})


def test_a_user_is_mended_under_the_apps_names() -> None:
    odd = {"settings": {"tz": " Europe/Paris", "recap_hour": "7"}}
    mended = mend_user(THEIRS, odd, Decided(enable=True))
    assert mended.changes == {
        "settings.tz": (" Europe/Paris", "Europe/Paris"),
        "settings.recap_on": (None, True),
        "settings.recap_hour": ("7", 7),
    }


def test_a_conversation_is_read_by_the_apps_names() -> None:
    found = documents.conversation_from(THEIRS, "n", NOTE)
    assert found is not None
    assert (found.created_at, found.title, found.overview) == (AT, "A note", "We met.")
    first = documents.conversation_from(THEIRS, "n", NOTE | {"summary": "Shorter."})
    assert first is not None
    assert first.overview == "Shorter."
    empty = documents.conversation_from(THEIRS, "n", NOTE | {"summary": " ", "content": "no map"})
    assert empty is not None
    assert empty.overview == ""
    for left_out in ({"archived": True}, {"flags": {"private": True}}):
        assert documents.conversation_from(THEIRS, "n", NOTE | left_out) is None
    assert documents.conversation_from(THEIRS, "n", NOTE | {"discarded": True}) is not None


@pytest.mark.parametrize("odd", [None, True, "2026-05-01T09:00:00Z", AT, 1_777_626_000, float("nan"), 1e300, -1e15])
def test_milliseconds_are_numbers_of_a_possible_year(odd: object) -> None:
    with pytest.raises(Malformed, match="createdAt"):
        documents.conversation_from(THEIRS, "n", NOTE | {"createdAt": odd})
    assert documents.created_at(USUAL, {"created_at": MS}) is None


def test_an_instant_and_its_milliseconds_are_the_same() -> None:
    assert documents.stored_instant(THEIRS, AT) == MS
    assert documents.stored_instant(USUAL, AT) is AT
    for micro in (0, 1, 999, 250_001):
        at = AT.replace(microsecond=micro)
        assert documents.created_at(THEIRS, {"createdAt": documents.stored_instant(THEIRS, at)}) == at


def test_a_device_is_read_by_the_apps_name_beside_its_fid() -> None:
    docs = [("a", {"fcm": "t"}, 1), ("b", {"token": "t"}, 2), ("c", {"fid": "f"}, 3)]
    assert devices_from(THEIRS, docs) == ([Device("t", "a", 1), Device("", "c", 3, "f")], 0)


def test_an_import_checks_the_apps_own_documents() -> None:
    _, devices, talks = check_user(THEIRS, "ann", ANN, {"d": {"fcm": "t"}}, {"n": NOTE})
    assert (devices, talks) == ({"d": {"fcm": "t"}}, {"n": NOTE})
    for change, flaw in (
        ({"createdAt": AT.isoformat()}, "notes/n: createdAt is missing, or is no number; write it in milliseconds"),
        ({"uid": "bob"}, "notes/n: uid is not the uid of its user"),
    ):
        with pytest.raises(Malformed, match=flaw):
            check_user(THEIRS, "ann", ANN, {}, {"n": NOTE | change})
    with pytest.raises(Malformed, match="'createdat' is no field that is read; createdAt is"):
        check_user(THEIRS, "ann", ANN, {}, {"n": {"createdat": MS, "uid": "ann"}})
    with pytest.raises(Malformed, match=r"apps/x/profiles/ann: settings\.recap_on is missing"):
        check_user(THEIRS, "ann", user_to(USUAL, "UTC", True, 22, "en"), {}, {})
    with pytest.raises(Malformed, match="devices/d: fcm is missing"):
        check_user(THEIRS, "ann", ANN, {"d": {"token": "t"}}, {})


def test_samples_are_written_as_the_app_would() -> None:
    assert user_to(THEIRS, "Europe/Paris", True, 22, "fr") == ANN
    turns = [("Bo", "We met."), ("", "Yes.")]
    made = conversation_to(THEIRS, "ann", AT - timedelta(hours=1), AT, "A note", turns, category="work")
    assert made == {
        "uid": "ann",
        "createdAt": MS,
        "started_at": AT - timedelta(hours=1),
        "finished_at": AT,
        "subject": "A note",
        "transcript_segments": [
            {"text": "We met.", "is_user": False, "speaker_name": "Bo"},
            {"text": "Yes.", "is_user": True},
        ],
        "archived": False,
        "flags": {"private": False, "removed": False},
        "structured": {"category": "work"},
    }


def test_no_field_that_is_asked_for_lies_within_another() -> None:
    """Firestore refuses a projection of a map and of a field in it."""
    assert "structured.overview" not in USUAL.conversation_fields
    assert {"content.body", "summary", "flags.private", "structured"} < {*THEIRS.conversation_fields}


def test_the_indexes_of_the_usual_layout_are_those_of_deploy() -> None:
    assert (ROOT / "deploy/firestore.indexes.json").read_text(encoding="utf-8") == as_json(USUAL) + "\n"


def test_the_indexes_of_another_layout() -> None:
    found = json.loads(as_json(THEIRS))
    assert [(one["collectionGroup"], [f["fieldPath"] for f in one["fields"]]) for one in found["indexes"]] == [
        ("profiles", ["settings.recap_on", "settings.recap_hour", "settings.tz", "__name__"]),
        ("notes", ["uid", "createdAt", "__name__"]),
    ]
    assert [one["order"] for one in found["indexes"][1]["fields"]] == ["ASCENDING", "DESCENDING", "DESCENDING"]
    named = {f"{one['collectionGroup']}/{one['fieldPath']}" for one in found["fieldOverrides"]}
    assert {"recaps/date", "recap_deliveries/expire_at", "recap_deliveries/told"} < named


def test_types_are_counted_and_no_value_is_kept() -> None:
    talks = [NOTE, NOTE | {"createdAt": AT}, NOTE | {"createdAt": None, "content": {"body": ["secret"]}}, {}]
    examples = [(THEIRS.users, ANN), (THEIRS.users, None), *((THEIRS.conversations, talk) for talk in talks)]
    found = {(one.collection, one.name): one for one in types_of(THEIRS, examples)}
    assert found["apps/x/profiles", "settings.recap_hour"].types == {"number": 1, "missing": 1}
    assert (found["notes", "createdAt"].types, found["notes", "createdAt"].wrong) == (
        {"missing": 2, "ms": 1, "timestamp": 1},
        1,
    )
    assert found["notes", "content.body"].types == {"text": 2, "list": 1, "missing": 1}
    assert "secret" not in repr(found)
    assert found["devices", "fcm"].types == {}
