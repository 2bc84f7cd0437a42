"""Users from a file and sample users, through the real command line, into both stores."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from notifications.adapters.local.sqlite import SqliteStore, file
from notifications.adapters.stores.conversation_text import TRANSCRIPT
from notifications.adapters.stores.layout import LEGACY_TOKEN, read_layout
from notifications.domain.delivery import LedgerRules
from notifications.domain.errors import StoreDown
from notifications.domain.text import width_of
from tests.support import app_documents
from tests.support.jobs import JOB, Stage, bare, on_firestore, on_sqlite
from tests.support.sampled import sample_besides
from tests.support.servers import wait_for
from tests.support.worlds import SqliteWorld

PAGE = (Path(__file__).parents[2] / "docs" / "documents.md").read_text()
EXAMPLE: dict[str, Any] = json.loads(PAGE.partition("```json\n")[2].partition("```")[0])


def ann(**changes: Any) -> dict[str, Any]:
    return {**EXAMPLE, **changes}


def write(stage: Stage, *lines: object) -> str:
    path = stage.folder / "users.jsonl"
    path.write_bytes(b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines))
    return str(path)


def test_the_pages_example_is_imported_and_has_its_recap(stage: Stage) -> None:
    path = write(stage, ann())
    done = stage.run("import", path)
    assert (done.code, done.out.splitlines()[0]) == (0, "1 user imported."), done.err
    assert stage.world.user("ann") == EXAMPLE["user"]
    assert {key: doc["token"] for key, doc in stage.world.tokens("ann").items()} == {"phone": "a-token-of-my-own"}
    tick = ("--now", "2026-11-25T21:10:00Z", "--user", "ann")
    assert stage.run(*tick).event("tick.finished")["sent"] == 1
    assert stage.fcm.accepted == {"a-token-of-my-own": 1}
    assert [doc["date"] for doc in stage.world.summaries("ann").values()] == ["2026-11-25"]
    assert stage.run("import", path).code == 0
    assert stage.run(*tick).event("tick.finished")["done_before"] == 1


def told(**fields: object) -> dict[str, Any]:
    """One whose only conversation has these fields."""
    return ann(conversations={"c": {"created_at": "2026-11-25T20:00:00Z"} | fields})


@on_sqlite
def test_what_an_app_keeps_beside_is_no_mistake(stage: Stage) -> None:
    segments = app_documents.segments("Hello.")
    talk = app_documents.conversation("c", datetime(2026, 11, 25, 17, tzinfo=UTC), transcript_segments=segments)
    given = ann(user=app_documents.user(), conversations={"c": talk})
    done = stage.run("import", write(stage, json.dumps(given, default=datetime.isoformat).encode()))
    assert (done.code, "1 user imported" in done.out) == (0, True)


FLAWS: list[tuple[object, str]] = [
    (b"{", "it is no JSON at character 2"),
    (b"[]", "it is no object"),
    (b"[" * 100_000, "it is no JSON"),
    (b"\xff", "it is no UTF-8"),
    (b'{"uid": "\\ud800"}', "half of a surrogate pair"),
    (b'{"uid": NaN}', "it is no JSON"),
    (ann(uid="a/b"), "uid is missing, or is no id"),
    (ann(uid=7), "uid is missing, or is no id"),
    (ann(user=[]), "user is not a map"),
    (ann(user={}), "daily_summary_enabled is missing, or not true or false"),
    (ann(user=EXAMPLE["user"] | {"time_zone": "mars"}), "users/ann: time_zone: 'mars' is no IANA"),
    (ann(user=EXAMPLE["user"] | {"daily_summary_hour_local": 24}), "whole number from 0 to 23"),
    ({**ann(), "conversation": {}}, "'conversation' is no field here; conversations is"),
    ({**ann(), "x": 1}, "uid, user, fcm_tokens, conversations are"),
    (ann(fcm_tokens={"d": {}}), "fcm_tokens/d: token is missing"),
    (ann(fcm_tokens={"d": {"token": "a b"}}), "fcm_tokens/d: token is missing, or is no token"),
    (ann(fcm_tokens={"a/b": {"token": "t"}}), "the key is no id"),
    (ann(conversations={"c": {"structured": {}}}), "conversations/c: created_at is missing"),
    (ann(conversations={"c": {"created_at": "2026-11-25T20:00:00"}}), "conversations/c: created_at is no time"),
    (ann(conversations={"c": {"created_at": 5}}), "created_at is no time; write it with its UTC offset"),
    (told(strctured={}), "structured is"),
    (told(structured={"action_items": ["Do it"]}), "not a list of"),
    (b"\xef\xbb\xbf{}", "it begins with a byte order mark"),
    (b'{"uid": "x", "user": {"a": 1, "a": 2}}', "the name 'a' is twice in one object"),
    (ann(uid="first"), "'first' is on line 1 already"),
    (told(Structured={"title": "t"}, structured={}), "'Structured' is no field that is read; structured is"),
    (told(STRUCTURED={}), "'STRUCTURED' is no field that is read; structured is"),
    (told(text="Hello"), "'text' is no field that is read; structured and transcript_segments are"),
    (told(structured={"summary": "s"}), "structured: 'summary' is no field that is read; overview is"),
    (told(transcript_segments=[{"Text": "Hello"}]), "transcript_segments is not a list of {'text': text}"),
    (ann(conversations={"c": []}), "conversations/c is not a map"),
    (told(structured=5), "structured is not a map"),
    (told(finished_at="x"), "finished_at is no time"),
    (told(app_results=[]), "'app_results' is no field that is read; apps_results is"),
    (told(user_titel="x"), "'user_titel' is no field that is read; user_title is"),
    (told(apps_results=["x"]), "conversations/c: apps_results is not a list of {'content': text}"),
    (told(transcript_segments="AAEC"), "conversations/c: transcript_segments is not a list of {'text': text}"),
    (told(structured={"sections": [{}]}), "structured.sections is not a list of {'body_markdown': text}"),
]


@on_sqlite
def test_each_flaw_is_named_by_its_line_and_the_other_lines_go_in(stage: Stage) -> None:
    """The first twenty; then the rest."""
    for flaws in (FLAWS, [(ann(uid="first"), "'first' is on line 1 already"), *FLAWS[20:]]):
        done = stage.run("import", write(stage, ann(uid="first"), *[one for one, _ in flaws], b"", ann(uid="last")))
        said = " ".join(done.out.split())
        assert done.code == 1
        assert f"2 users imported; {len(flaws)} lines refused, of which nothing was written." in said
        for number, (_, sentence) in enumerate(flaws[:20], 2):
            told = said.partition(f"line {number}: ")[2]
            assert sentence in told.partition(f"line {number + 1}: ")[0], (number, told[:200])
        assert (f"and {len(flaws) - 20} more" in said) is (len(flaws) > 20)
        assert all(width_of(line) <= 80 for line in done.out.splitlines())
    assert [stage.world.user(uid) is None for uid in ("first", "last", "ann", "a")] == [False, False, True, True]


def test_stdin_is_read_for_a_dash_and_a_line_without_an_end_is_told_by_its_number(tmp_path: Path) -> None:
    """What is beyond the bound is not kept: the process has less memory than the line is long."""
    script = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_DATA, (380_000_000, 380_000_000)); "
        "sys.argv = ['job.py', 'import', '-']; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    env = {"PATH": os.environ["PATH"], "RECAP_DATA_DIR": str(tmp_path / "data")}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=JOB.parent, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin
        process.stdin.write(json.dumps(ann(uid="first")).encode() + b"\n")
        for _ in range(400):
            process.stdin.write(b"[" * 1_000_000)
        process.stdin.write(b"\n" + json.dumps(ann(uid="last")).encode())
        out, err = process.communicate(timeout=60)
    said = out.decode()
    assert (process.returncode, err.decode()) == (1, "")
    assert "  line 2: it is longer than 64 MB;" in said
    assert "2 users imported; 1 line refused" in said


@on_sqlite
def test_a_user_of_many_conversations_is_written_in_linear_time_and_lets_a_tick_in(stage: Stage) -> None:
    slot = stage.add_user("ann")
    times = [(slot.at - timedelta(hours=1, seconds=n)).isoformat() for n in range(12_000)]
    many = {f"c{n}": {"created_at": at, "structured": {"overview": "w " * 20}} for n, at in enumerate(times)}
    path = write(
        stage, {"uid": "big", "user": {**EXAMPLE["user"], "daily_summary_enabled": False}, "conversations": many}
    )
    importing = stage.start("import", path)
    assert isinstance(stage.world, SqliteWorld)
    count = partial(stage.world.db.execute, "SELECT count(*) FROM conversations WHERE uid = 'big'")
    wait_for(lambda: count().fetchone()[0] >= 5_000, "first batch")
    assert stage.world.user("big") is None
    ticked = stage.run()
    assert (ticked.code, ticked.event("tick.finished")["sent"]) == (0, 1), ticked.err
    done = stage.end(importing)
    assert done.code == 0, done.err
    assert done.out.splitlines()[:2] == ["  line 1: 12,000 conversations", "1 user imported."]
    assert count().fetchone() == (12_000,)
    plan = stage.world.db.execute("EXPLAIN QUERY PLAN DELETE FROM conversations WHERE uid = 'big' AND id = 'c1'")
    assert "conversations_by_id (uid=? AND id=?)" in plan.fetchone()[3]  # each of its own, not the user's all


@on_sqlite
def test_a_busy_file_says_busy(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "BUSY_TIMEOUT_SECONDS", 0.01)
    world = stage.world
    assert isinstance(world, SqliteWorld)
    path = world.folder / "recap.sqlite3"
    with closing(file.open_file(path, read_layout(None))) as other, file.immediate(other):
        store = SqliteStore(path, LedgerRules(timedelta(120), 3, timedelta(30)), read_layout(None))
        with pytest.raises(StoreDown, match="it is busy: another process has been writing for") as caught:
            asyncio.run(store.remove("ann"))
        assert 'docs/runbook.md, "The SQLite file is locked"' in str(caught.value)


@on_sqlite
async def test_one_wait_in_vain_for_a_writer_is_enough(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """All calls share one thread: else a tick would wait half a minute for each of its users, one after the other."""
    assert isinstance(stage.world, SqliteWorld)
    monkeypatch.setattr(file, "BUSY_TIMEOUT_SECONDS", 0.02)
    rules, waits = LedgerRules(timedelta(120), 3, timedelta(30)), list[str]()
    store = SqliteStore(stage.world.folder / "recap.sqlite3", rules, read_layout(None))

    def watch() -> None:
        store._db.set_trace_callback(lambda said: waits.append(said) if "busy_timeout" in said else None)

    store._thread.submit(watch).result()
    with file.immediate(stage.world.db):
        for _ in range(3):
            with pytest.raises(StoreDown, match="it is busy"):
                await store.remove("ann")
            assert await store.user_document("ann") is None  # who only reads is not kept, and tells nothing
    assert set(waits) == {"PRAGMA busy_timeout = 100"}
    waits.clear()
    stage.add_user("ann")
    await store.remove("ann")
    assert waits == ["PRAGMA busy_timeout = 20"]
    await store.aclose()


@on_sqlite
def test_who_only_reads_waits_for_no_writer(stage: Stage) -> None:
    """Another process may hold the file's write lock for long."""
    stage.add_user("ann")
    assert stage.run().event("tick.finished")["sent"] == 1
    assert isinstance(stage.world, SqliteWorld)
    with file.immediate(stage.world.db):
        audit = stage.run("audit", "--date", stage.now.date().isoformat(), "--json")
        why = stage.run("why", "ann")
    assert (audit.code, why.code) == (0, 0), (audit.err, why.err)


@on_sqlite
def test_a_file_that_is_not_there_or_empty_is_one_sentence(stage: Stage) -> None:
    nothing = stage.run("import", str(stage.folder / "none.jsonl"))
    assert (nothing.code, nothing.err.count("\n"), "can't be read" in nothing.err) == (2, 1, True)
    assert stage.run("import", write(stage, b"")).code == 2


def test_samples_keep_out_of_a_folder_with_an_import_and_come_and_go_by_command(tmp_path: Path) -> None:
    path = tmp_path / "users.jsonl"
    path.write_text(json.dumps(ann(uid="ann")) + "\n" + json.dumps(ann(uid="sample-03")))
    assert bare(tmp_path, "import", str(path)).returncode == 0
    assert "sample-0" not in bare(tmp_path, "audit", "--date", "2026-11-25", "--json").stdout.replace("sample-03", "")
    # a pretended time gives no words to who only has a sample's uid
    now = ("--now", "2026-05-01T20:10:00Z")
    assert bare(tmp_path, *now, "--user", "sample-03").returncode == 0
    assert "0 conversations" in bare(tmp_path, *now, "why", "sample-03").stdout
    assert bare(tmp_path, "samples").stdout.startswith("4")  # 45 to 47, by the hour
    assert re.search(r"\d+ sent", bare(tmp_path).stdout)
    outbox = tmp_path / ".recap" / "outbox.jsonl"
    of_ann, whole = b'{"device": "d", "uid": "ann", "title": "sample-03"}\n', outbox.read_bytes()
    outbox.write_bytes(whole + of_ann + b"half a li")
    assert re.match(r"4\d sample users? removed", bare(tmp_path, "samples", "--remove").stdout)
    left = outbox.read_bytes()
    assert left.endswith(of_ann + b"half a li")
    assert left.replace(b'"uid": "sample-03"', b"").count(b'"uid": "sample-') == 0
    assert [bare(tmp_path, "why", uid).returncode for uid in ("sample-00", "ann")] == [2, 0]
    assert bare(tmp_path, "samples", "--remove").stdout.startswith("0 sample users removed")
    [out] = re.findall(r"^\.venv/bin/python (-c '.*' ann)$", PAGE, re.MULTILINE)
    subprocess.run([sys.executable, *shlex.split(out)], cwd=tmp_path, check=True, timeout=60)
    assert bare(tmp_path, "why", "ann").returncode == 2
    assert bare(tmp_path, "inspect").stdout == "0 days.\n"
    assert bare(tmp_path, "samples").returncode == 0  # put in again, they have their recaps
    assert re.search(r"\d+ sent", bare(tmp_path).stdout)


@on_sqlite
def test_who_is_imported_after_their_hour_was_served_is_found_by_the_next_tick(stage: Stage) -> None:
    slot = stage.add_user("early")
    assert stage.run().event("tick.finished")["sent"] == 1
    hour = stage.world.user("early")["daily_summary_hour_local"]  # type: ignore[index]
    said = {"c": {**EXAMPLE["conversations"]["c1"], "created_at": (slot.at - timedelta(hours=1)).isoformat()}}
    user = {**EXAMPLE["user"], "time_zone": "UTC", "daily_summary_hour_local": hour}
    assert stage.run("import", write(stage, ann(user=user, conversations=said))).code == 0
    ticked = stage.run().event("tick.finished")
    assert (ticked["sent"], ticked["done_before"]) == (1, 1)
    assert stage.fcm.accepted == {"token-early-0": 1, "a-token-of-my-own": 1}


def test_samples_that_are_taken_out_of_a_new_folder_stay_out(tmp_path: Path) -> None:
    assert bare(tmp_path, "samples", "--remove").returncode == 0
    assert " no user was due;" in bare(tmp_path).stdout
    assert bare(tmp_path, "why", "sample-00").returncode == 2
    assert bare(tmp_path, "samples").returncode == 0
    half_a_year_ago = (datetime.now(UTC) - timedelta(days=182)).isoformat()
    ticked = bare(tmp_path, "--now", half_a_year_ago)  # they talk in another season, too
    assert re.search(r"\b\d+ sent", ticked.stdout), ticked.stdout


@on_firestore
def test_who_only_has_a_samples_uid_stays(stage: Stage) -> None:
    other = sample_besides("sample-03")
    stage.run("import", write(stage, ann(uid="sample-03")))
    assert stage.run("samples", "--remove").out.startswith("0 ")
    stage.run("samples")
    assert stage.world.user("sample-03") == EXAMPLE["user"]
    assert stage.world.user(other) is not None
    assert stage.run("samples", "--remove").code == 0
    assert [stage.world.user(uid) is None for uid in ("sample-03", other)] == [False, True]


def test_the_page_lists_each_field_that_is_read() -> None:
    layout = read_layout(None)
    fields = [*layout.conversation_fields, TRANSCRIPT, LEGACY_TOKEN, *layout.user_fields]
    assert [name for name in fields if f"`{name}`" not in PAGE] == []


CHAT = """25/11/2026, 17:40 - Messages are encrypted.
25/11/2026, 17:40 - Ann: Hello
and more
25/11/2026, 17:41 - Bob added you
\u200e[25.11.26, 17:59:12] Bob: We bought the heat pump today
11/25/26, 6:02 PM - Bob: Late
"""
SCRIPT = re.compile(r"```python\n(.*?)```", re.DOTALL)


@on_sqlite
def test_each_export_of_the_documents_page_becomes_a_user_and_a_dry_run_writes_none(stage: Stage) -> None:
    folder, page = stage.folder, Path(__file__).parents[2] / "docs" / "documents.md"
    (folder / "slack" / "general").mkdir(parents=True)
    (folder / "notes").mkdir()
    (folder / "chat.txt").write_text(CHAT)
    (folder / "slack" / "users.json").write_text('[{"id": "U012ABCDE", "name": "ann"}]')
    said = [{"ts": "1795000000.1", "user": "U012ABCDE", "text": "Hello"}, {"ts": "1.1", "subtype": "channel_join"}]
    (folder / "slack" / "general" / "2026-11-25.json").write_text(json.dumps(said))
    (folder / "notes" / "2026-11-25.md").write_text("# Garden\n\nThe hedge is cut.\n")
    (folder / "notes" / "plan.txt").write_text("Not read.")
    exports = {
        "chat.txt": ("chat-2026-11-25-17", "chat", "3 lines not read"),
        "slack": ("general-2026-11-18-12", "#general", "1 messages not read"),
        "notes": ("2026-11-25-md", "2026-11-25", "1 files not read"),
    }
    for script, (name, (key, title, unread)) in zip(SCRIPT.findall(page.read_text()), exports.items(), strict=True):
        command = [sys.executable, "-c", script, str(folder / name)]
        made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert unread in made.stderr
        (folder / "users.jsonl").write_text(made.stdout)
        checked = stage.run("import", "users.jsonl", "--dry-run")
        lines = " ".join(checked.out.split())
        old = "Too old for the next recap: 1 conversation; what no recap has told of that, none will."
        assert (checked.code, lines) == (0, f"1 user would be imported. {old}")
        [(made_as, talk)] = json.loads(made.stdout)["conversations"].items()
        assert (made_as, talk["structured"]["title"]) == (key, title)
    assert stage.world.user("ann") is None
    line = json.loads((folder / "users.jsonl").read_text()) | {"conversations": {}}
    (folder / "none.jsonl").write_text(json.dumps(line))
    checked = stage.run("import", "none.jsonl", "--dry-run")
    assert "None of them has a conversation" in checked.out  # an export of another form, of which nothing was read
    done = stage.run("import", "users.jsonl")
    assert done.code == 0
    assert "Too old for the next recap: 1 conversation;" in done.out
    assert stage.world.user("ann") is not None
    off = {"uid": "ann", "user": line["user"] | {"daily_summary_enabled": False}}
    (folder / "off.jsonl").write_text(json.dumps(off))
    assert stage.run("import", "off.jsonl").out.splitlines()[1].startswith("next: ")
