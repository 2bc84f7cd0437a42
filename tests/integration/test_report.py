"""The report page: what it counts, and that nothing of it runs, loads or repeats what users wrote."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

from tests.support.jobs import Stage
from tests.support.worlds import talk

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


def test_a_day_on_which_things_went_wrong_says_what_whom_and_what_to_type(stage: Stage) -> None:
    sent: dict[str, Any] = {
        "state": "sent",
        "source": "llm",
        "tokens": 100,
        "usd": 0.25,
        "title": "SECRET",
        "body": "SECRET",
    }
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
    text = page.text
    assert "3 users are without the recap that was owed (1 missed, 1 dead, 1 unfinished)." in text
    assert f"python job.py resend --date {DAY} --where missed,dead,unfinished --dry-run" in text
    assert "1 user is not seen by the query: python job.py doctor --fix" in text
    assert "2 sent, by the LLM 1 sent, as an extract 1 skipped 0 waiting 3 lost" in text
    assert "up to 1 min 1 up to 5 min 1" in text
    assert "up to 60 min 1" in text
    assert "2 by the LLM, 1 extract; 200 tokens, 0.50 USD" in text
    assert "up to 2 s 1 up to 60 s 1" in text
    assert "2 days needed another try." in text
    assert f"ann missed closed python job.py resend ann {DAY}" in text
    assert f"cut unfinished resend python job.py resend cut {DAY}" in text
    assert f"bob<img src=x> dead failures refusal python job.py why UID {DAY}" in text
    assert "mars invisible" in text


def test_a_good_day_says_so(stage: Stage) -> None:
    put(stage, "ann", state="sent", source="llm", sent_at=AT + timedelta(seconds=30))
    done = stage.run("report", "--date", DAY)
    assert done.code == 0, done.err
    assert (
        "All well: every user who was due has a recap, or was skipped."
        in (stage.folder / f"report-{DAY}.html").read_text()
    )


def test_where_it_can_not_be_written_it_says_so(stage: Stage) -> None:
    refused = stage.run("report", "--date", DAY, "-o", str(stage.folder / "none" / "page.html"))
    assert (refused.code, "can't be written" in refused.err, refused.err.count("\n")) == (2, True, 1)
