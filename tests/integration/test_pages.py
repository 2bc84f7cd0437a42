"""What is looked at: `show`, `preview` and the report of a day."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from notifications.domain.text import width_of
from notifications.testing.answers import item, recap_answer, verdicts_answer
from tests.support.hostile import hostile
from tests.support.jobs import Stage, bare, on_firestore, on_sqlite
from tests.support.web import ASKED, completion, scripted
from tests.support.worlds import Doc, talk

WIDE = 80


def check_readable(out: str) -> None:
    """No line is wider than a terminal, and none could steer it."""
    for line in out.splitlines():
        assert width_of(line) <= WIDE, line
        assert hostile(line) == [], line


@on_firestore
def test_show_prints_the_whole_recap(stage: Stage) -> None:
    slot = stage.add_user("ann")
    none = stage.run("show", "ann", slot.recap_date.isoformat())
    assert (none.code, none.out) == (1, f"ann has no recap on {slot.recap_date}; python job.py why ann says why.\n")
    nobody = stage.run("show", "nobody")
    assert (nobody.code, nobody.err) == (2, f"{stage.shape.users}/nobody does not exist; check the uid.\n")
    assert stage.run().code == 0
    shown = stage.run("show", "ann")
    assert shown.code == 0
    check_readable(shown.out)
    lines = shown.out.splitlines()
    assert lines[0] == f"{stage.shape.users}/ann, {slot.recap_date}"
    assert "🌤️ A day of ann, first take" in lines
    assert "You talked about ann, first take and more. It went well." in lines
    assert lines[lines.index("💬 Talk") + 1] == "   A good one."
    assert lines[lines.index("Open questions") + 1] == "  - What comes next?"
    assert lines[lines.index("To do") + 1] == "  [ ] Buy seeds"
    assert "Made by fake-model, 2 calls," in shown.out
    assert " ".join(lines[-2:]) == (
        "Of the conversations: 2 whole. 4 sentences kept, dropped: none. A second look checked it."
    )
    assert stage.run("show", "ann", slot.recap_date.isoformat()).out == shown.out


@on_sqlite
def test_another_hands_recap_is_shown_as_far_as_it_goes(stage: Stage) -> None:
    day = stage.add_user("ann").recap_date.isoformat()
    odd: Doc = {
        **{"date": day, "headline": "H\x1b[2J\u202ee", "overview": ["no text"], "metadata": "none", "coverage": [1]},
        **{"stats": {"total_conversations": "many"}, "decisions_made": ["bare"], "checks": {"kept": 1, "odd\x07": 2}},
        "highlights": [{"topic": "T", "summary": "wort " * 60}, "odd", 7],
    }
    stage.world.put_summary("ann", day, odd)
    shown = stage.run("show", "ann", day)
    assert shown.code == 0
    check_readable(shown.out)
    assert "(no overview)" in shown.out
    assert "Made by another writer." in shown.out


@on_sqlite
def test_words_without_spaces_are_broken_anywhere(stage: Stage) -> None:
    slot = stage.add_user("ann", talks={}, language="ja")
    said = talk("ann", slot.at - timedelta(hours=1))
    overview = "公園で友達と夏祭りの計画について長い時間話し合い、" * 6 + "帰りました。"
    said["structured"] |= {"title": "公園", "overview": overview}
    stage.world.put_talk("ann", "t1", said)
    assert stage.run(RECAP_SUMMARIZER="extract").code == 0
    shown = stage.run("show", "ann")
    check_readable(shown.out)
    assert max(width_of(line) for line in shown.out.splitlines()) >= 78


@on_firestore
def test_preview_makes_the_recap_and_stores_and_sends_nothing(stage: Stage) -> None:
    slot = stage.add_user("ann")

    async def invents(who: str) -> Any:
        invented = item("You paid 4,711 euros.", "4,711 euros, he said")
        return completion(json.dumps(recap_answer(who, decisions=[invented])))

    async def refuses(who: str) -> Any:
        refused = verdicts_answer(ASKED.get()["messages"][-1]["content"], lambda role, text: text == "It went well.")
        return completion(json.dumps(refused))

    stage.llm.script, stage.llm.look_script = invents, refuses
    shown = stage.run("preview", "ann", "--date", slot.recap_date.isoformat())
    assert shown.code == 0, shown.err
    check_readable(shown.out)
    assert "  dropped (unquoted): You paid 4,711 euros." in shown.out
    assert "  not supported (sentence): It went well.\n    the second look: not in the notes\n" in shown.out
    assert " ".join(shown.out.split()).count("100 tokens in (0 cached), 20 out (0 hidden), 0.0000 USD.") == 2
    assert [line.split()[0] for line in shown.out.splitlines()[-6::2]] == ["Android", "iOS", "web"]
    assert (stage.world.summaries("ann"), stage.world.ledgers("ann"), dict(stage.fcm.asked)) == ({}, {}, {})
    assert (stage.llm.calls["ann"], stage.llm.looks["ann"]) == (1, 1)


@on_sqlite
def test_preview_of_a_day_that_the_llm_can_not_do_says_why(stage: Stage) -> None:
    stage.add_user("ann")
    stage.llm.script = scripted(lambda _: completion("no recap"))
    shown = stage.run("preview", "ann")
    assert shown.code == 0, shown.err
    assert "The LLM's recap was not used: The LLM's answer does not follow the recap's schema" in " ".join(
        shown.out.split()
    )
    stage.add_user("bob", talks={})
    nothing = stage.run("preview", "bob")
    assert (nothing.code, "nothing to say" in nothing.out) == (1, True)


def test_without_a_uid_the_last_of_the_outbox_is_shown(tmp_path: Path) -> None:
    assert bare(tmp_path, "show").returncode == 2
    assert bare(tmp_path).returncode == 0
    pushed = json.loads((tmp_path / ".recap" / "outbox.jsonl").read_text().splitlines()[-1])
    shown = bare(tmp_path, "show")
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"users/{pushed['uid']}, ")
    assert "Made of the day's own sentences, by no LLM." in shown.stdout


AT = datetime.now(UTC).replace(hour=20, minute=0, second=0, microsecond=0) - timedelta(days=1)
DAY = AT.date().isoformat()
LEDGER = {"date": DAY, "seq": 1, "tries": 1, "devices": {"d": "accepted"}, "outcome": ""}
TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "i", "b", "span", "div", "table", "tr"}


class Page(HTMLParser):
    """The tags, their attributes, and the text outside of the style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self._style = tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def put(stage: Stage, uid: str, zone: str = "UTC", **ledger: Any) -> None:
    doc = {"time_zone": zone, "daily_summary_enabled": True, "daily_summary_hour_local": 20}
    stage.world.put_user(uid, doc, {"d": f"token-{uid}"}, {"t": talk(uid, AT - timedelta(hours=2))})
    if ledger:
        stage.world.put_ledger(uid, DAY, {**LEDGER, **ledger})


@on_firestore
def test_a_day_on_which_things_went_wrong_says_what_whom_and_what_to_type(stage: Stage) -> None:
    sent: Doc = {"state": "sent", "source": "llm", "tokens": 100, "usd": 0.25, "title": "SECRET", "body": "SECRET"}
    put(stage, "on-time", sent_at=AT + timedelta(seconds=30), llm_seconds=1.5, **sent)
    put(stage, "late", sent_at=AT + timedelta(minutes=40), llm_seconds=30.0, **(sent | {"tries": 2}))
    put(stage, "own-words", state="sent", source="extract", sent_at=AT + timedelta(minutes=3))
    put(stage, "silent", state="skipped", outcome="no_content")
    put(stage, "ann", state="missed", outcome="closed", devices={})
    put(stage, "bob<img src=x>", state="dead", outcome="failures", reason="refusal", failures=4)
    put(stage, "cut", state="pending", outcome="resend", devices={})
    stage.world.put_user("mars", {"time_zone": "mars", "daily_summary_enabled": True}, {}, {})
    path = stage.folder / "page.html"
    done = stage.run("report", "--date", DAY, "-o", str(path))
    assert (done.code, done.out.count("7 due")) == (0, 1), done.err
    html = path.read_text()
    page = Page(html)
    assert set(page.tags) <= TAGS | {"th", "td", "code"}
    assert page.attributes <= {"charset", "name", "content", "lang", "class", "style", "title"}
    assert not re.search(r"https?:|url\(|@import|SECRET|talked about the garden|token-ann", html)
    for words in (
        "3 users are without the recap that was owed (1 missed, 1 dead, 1 unfinished).",
        f"python job.py resend --date {DAY} --where missed,dead,unfinished --dry-run",
        "1 user is not seen by the query: python job.py doctor --fix",
        "2 sent, by the LLM 1 sent, as an extract 0 without a target 1 skipped 0 waiting 0 held 0 not reached 3 lost",
        "up to 1 min 1 1 to 5 min 1",
        "30 to 60 min 1",
        "2 by the LLM, 1 extract; 200 tokens, 0.5000 USD",
        "1 to 2 s 1 20 to 60 s 1",
        "2 users: another try was needed, or still is.",
        f"ann missed closed python job.py resend ann {DAY}",
        f"cut unfinished resend python job.py resend cut {DAY}",
        f"bob<img src=x> dead failures refusal python job.py why UID {DAY}",
        "mars invisible",
    ):
        assert words in page.text


@on_sqlite
def test_a_good_day_says_so_and_where_it_can_not_be_written_that(stage: Stage) -> None:
    put(stage, "ann", state="sent", source="llm", sent_at=AT + timedelta(seconds=30))
    done = stage.run("report", "--date", DAY)
    assert done.code == 0, done.err
    page = (stage.folder / f"report-{DAY}.html").read_text()
    assert "All well: every user who was due has a recap, or was skipped." in page
    refused = stage.run("report", "--date", DAY, "-o", str(stage.folder / "none" / "page.html"))
    assert (refused.code, "can't be written" in refused.err, refused.err.count("\n")) == (2, True, 1)
