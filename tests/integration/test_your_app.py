"""docs/your-app.md, and what it promises: an app of another shape, from its file to its recap."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from notifications.adapters.stores.layout import read_layout
from tests.support.jobs import Stage, bare, on_firestore, on_sqlite
from tests.support.layouts import DEFAULT, OTHER
from tests.support.worlds import FirestoreWorld, SqliteWorld, talk

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/your-app.md").read_text(encoding="utf-8")
AT, MICROS = datetime(2026, 11, 25, 17, 40, tzinfo=UTC), 1_795_628_400_000_000
of_another_shape = pytest.mark.parametrize("shape", ["other"], indirect=True)


def block(kind: str) -> str:
    [found] = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_pages_layout_is_the_one_that_is_tested(tmp_path: Path) -> None:
    (tmp_path / "layout.toml").write_text(block("toml"), encoding="utf-8")
    assert read_layout(tmp_path / "layout.toml") == OTHER.layout


@of_another_shape
def test_the_pages_line_is_imported_and_has_its_recap(stage: Stage) -> None:
    path = stage.folder / "users.jsonl"
    path.write_text(block("json"), encoding="utf-8")
    for _ in range(2):
        done = stage.run("import", str(path))
        assert (done.code, done.out.splitlines()[0]) == (0, "1 user imported."), done.err
    ticked = stage.run("--now", "2026-11-25T21:10:00Z", "--user", "ann")
    assert ticked.event("tick.finished")["sent"] == 1, ticked.err
    assert stage.fcm.accepted == {"a-token-of-my-own": 1}
    assert [doc["date"] for doc in stage.world.summaries("ann").values()] == ["2026-11-25"]
    usual = stage.run("import", str(path), RECAP_LAYOUT="")
    assert (usual.code, "daily_summary_enabled is missing" in " ".join(usual.out.split())) == (1, True)


@of_another_shape
def test_samples_come_and_go_in_the_apps_shape(stage: Stage) -> None:
    put = stage.run("samples")
    assert put.code == 0, put.err
    checked = stage.run("layout", "--check")
    assert checked.code == 0, checked.out
    assert stage.run().event("tick.finished")["sent"] > 0
    assert stage.run("samples", "--remove").code == 0
    assert stage.world.user("sample-01") is None
    if isinstance(stage.world, FirestoreWorld):
        assert [*stage.world.db.collection("notes").limit(1).stream()] == []


@of_another_shape
def test_the_check_counts_types_shows_no_value_and_fails_where_the_time_is_another(stage: Stage) -> None:
    nobody = stage.run("layout", "--check")
    assert (nobody.code, "apps/x/profiles has no document" in nobody.out) == (1, True)
    for uid in ("ann", "bob"):
        stage.add_user(uid, language="en-very-private")
    good = stage.run("layout", "--check")
    rows = [re.split(r" {2,}", line) for line in good.out.splitlines()]
    assert good.code == 0, good.out
    assert ["apps/x/profiles", "settings.tz", "text 2"] in rows
    assert ["apps/x/profiles", "settings.recap_on", "true or false 2"] in rows
    assert ["devices", "fcm", "text 2"] in rows
    assert ["devices", "fid", "missing 2"] in rows
    assert ["notes", "createdAt", "ms 4"] in rows
    assert "private" not in good.out.replace("flags.private", "")
    file = stage.folder / "wrong.toml"
    text = (ROOT / "tests/support/other_layout.toml").read_text(encoding="utf-8")
    file.write_text(text.replace('"ms"', '"timestamp"'), encoding="utf-8")
    wrong = stage.run("layout", "--check", RECAP_LAYOUT=str(file))
    said = " ".join(wrong.out.split())
    assert (wrong.code, "created_at_is is wrong for 4 documents of 4" in said) == (1, True)
    assert ["notes", "createdAt", "number 4"] in [re.split(r" {2,}", line) for line in wrong.out.splitlines()]


def test_the_layout_is_told_without_any_server_and_the_indexes_alone_on_stdout(tmp_path: Path) -> None:
    told = bare(tmp_path, "layout")
    assert (told.returncode, told.stdout) == (0, (ROOT / "deploy/firestore.indexes.json").read_text())
    theirs = bare(tmp_path, "layout", RECAP_LAYOUT=str(OTHER.file))
    assert [one["collectionGroup"] for one in json.loads(theirs.stdout)["indexes"]] == ["profiles", "notes"]
    (tmp_path / "again.toml").write_text(theirs.stderr)
    assert read_layout(tmp_path / "again.toml") == OTHER.layout
    assert not (tmp_path / ".recap").exists()


@on_sqlite
def test_a_file_that_can_not_be_is_exit_3_with_its_line(stage: Stage) -> None:
    stage.add_user("ann")
    file = stage.folder / "layout.toml"
    file.write_text('[users]\nhour = "a b"\n')
    for arguments in ([], ["layout"], ["doctor"]):
        refused = stage.run(*arguments, RECAP_LAYOUT=str(file))
        assert (refused.code, f"{file}, line 2: hour is no field's name" in refused.err) == (3, True), refused.err


@on_firestore
@of_another_shape
def test_a_collection_of_other_things_is_no_place_for_summaries(stage: Stage) -> None:
    stage.add_user("ann")
    stage.world.put_summary("ann", "score", {"points": 7})
    refused = stage.run()
    assert (refused.code, "'recaps' holds what is no summary" in refused.err) == (3, True)
    assert stage.world.ledgers("ann") == {}


def test_a_data_folder_whose_layout_changes_finds_its_users_and_their_day(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    theirs = SqliteWorld(folder, OTHER)
    theirs.close()
    world = SqliteWorld(folder)  # as if a version without the layout had written what the app has
    doc = OTHER.user({"time_zone": "Europe/Berlin", "daily_summary_enabled": True, "daily_summary_hour_local": 22})
    world.put_user("ann", doc, {}, {"n": OTHER.conversation("ann", talk("ann", AT))})
    assert world.db.execute("SELECT hour, zone, enabled FROM users").fetchall() == [(None, None, 0)]
    assert world.db.execute("SELECT created_at FROM conversations").fetchall() == [(0,)]
    world.close()
    for shape, columns, created in ((OTHER, (22, "Europe/Berlin", 1), MICROS), (DEFAULT, (None, None, 0), 0)):
        opened = SqliteWorld(folder, shape)
        assert opened.db.execute("SELECT hour, zone, enabled FROM users").fetchall() == [columns]
        assert opened.db.execute("SELECT created_at FROM conversations").fetchall() == [(created,)]
        opened.close()


def test_the_pages_script_gives_each_user_what_is_missing(firestore_world: FirestoreWorld) -> None:
    people = firestore_world.db.collection("apps/x/profiles")
    people.document("new").set({"name": "n"})
    people.document("early").set({"settings": {"recap_hour": 7, "tz": "UTC"}})
    people.document("on").set({"settings": {"recap_hour": 7, "recap_on": True}})
    env = os.environ | firestore_world.env()
    for _ in range(2):
        subprocess.run([sys.executable, "-c", block("python")], env=env, check=True, timeout=60)
        assert {one.id: one.to_dict()["settings"] for one in people.stream()} == {
            "new": {"recap_on": False, "recap_hour": 21},
            "early": {"recap_on": False, "recap_hour": 7, "tz": "UTC"},
            "on": {"recap_on": True, "recap_hour": 7},
        }
