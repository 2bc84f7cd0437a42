"""What the job itself writes: recaps as the app's own data model has them, and ledgers."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from notifications.adapters.stores.documents import ledger_from, ledger_to, summary_from
from notifications.domain.model import (
    Cited,
    DayState,
    Draft,
    Highlight,
    Ledger,
    OpenTarget,
    Place,
    Recap,
    Stop,
    Summary,
    Task,
)
from notifications.recap.document import recap_to
from tests.support.rows import DATA

DAY = date(2026, 5, 1)
AT = datetime(2026, 5, 1, 20, tzinfo=UTC)
WHOLE = Ledger(
    date=DAY,
    state=DayState.SENDING,
    outcome="resend",
    by="me",
    sending_at=AT,
    seq=2,
    tries=1,
    collapse_id="tag",
    title="T",
    body="B",
    summary_id="2026-05-01",
    created_at=AT - timedelta(minutes=1),
    window_start=AT - timedelta(days=1),
    window_end=AT,
    read_from=AT - timedelta(days=2),
    told="B" * 10,
    devices={"aa": "accepted"},
    targets={"bb": OpenTarget(1, AT + timedelta(minutes=5), "503")},
    recap_hash="h" * 32,
    unanswered=2,
    repeats=1,
    failures=2,
    crashes=3,
    reason="push",
    source="llm",
    verified=True,
    tokens=1_200,
    usd=0.0021,
    llm_seconds=1.5,
    sent_at=AT + timedelta(minutes=1),
    expire_at=AT + timedelta(days=30),
)
STORED = """
    outcome by sending_at seq tries collapse_id title body summary_id created_at window_start window_end read_from told
    devices recap_hash unanswered repeats failures crashes reason source verified tokens usd llm_seconds
    sent_at expire_at
"""
DOC = {"date": "2026-05-01", "state": "sending"} | {name: getattr(WHOLE, name) for name in STORED.split()}
DOC["targets"] = {"bb": {"tries": 1, "due": AT + timedelta(minutes=5), "code": "503"}}


def test_a_recap_is_stored_as_the_app_reads_it() -> None:
    draft = Draft(
        "Head",
        (Cited("Over.", ("t1",), "over it", private=True), Cited("And 2 more.")),
        "🌤️",
        (Highlight("T", "💬", (Cited("S", ("t1",), "so"), Cited("R.", ("t2", "t1"), "are"))),),
        (Cited("Q?", ("t1",), "who asks"),),
        (Cited("D.", ("t2", "t1"), "done"),),
        (Cited("K."),),
        {"kept": 5, "verified": False},
        {"whole": 2, "part": 0, "extract": 0},
        {"model": "m", "source": "llm"},
        push="Not stored here.",
        dropped=("Nor this.",),
    )
    tasks = (Task("Call", False, "t1"), Task("Buy", True, "t2"))
    stops = (Stop(Place(48.2, 16.4, "Ring 1"), "t1", "11:05"),)
    stored = json.loads((DATA / "recap_document.json").read_text(encoding="utf-8"))
    assert recap_to(Recap("2026-05-01", DAY, AT, draft, 2, 41, tasks, stops)) == stored | {"created_at": AT}


def test_another_hands_summary_is_read_and_what_it_lacks_is_empty() -> None:
    doc = {"id": "own", "created_at": AT, "headline": " H\x1b[2J ", "overview": "O", "day_emoji": "🎈"}
    assert summary_from("key", doc) == Summary("own", AT, "H", "O", "🎈")
    assert summary_from("key", doc | {"created_at": AT.replace(tzinfo=None).isoformat()}).created_at == AT
    bare = Summary("key", None, "", "", "")
    assert summary_from("key", {"id": 7, "headline": ["H"], "created_at": "soon"}) == bare
    long = summary_from("key", {"id": "i" * 999, "overview": "o" * 30_000})
    assert (len(long.id), len(long.overview)) == (300, 20_000)


def test_a_ledger_is_written_and_read_whole() -> None:
    assert ledger_to(WHOLE) == DOC
    assert ledger_from(DAY, DOC) == WHOLE
    stored = DOC | {name: value.isoformat() for name, value in DOC.items() if isinstance(value, datetime)}
    assert ledger_from(DAY, stored) == WHOLE


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (None, {}),
        (["bb"], {}),
        ({"bb": "503", "cc": {"tries": 1}}, {"cc": OpenTarget(1)}),
        ({"bb": {"tries": -1}, "cc": {"tries": True}, "dd": {"tries": 10**400}}, {}),
        ({"bb": {"tries": 0, "due": "soon", "code": 503}}, {"bb": OpenTarget()}),
        ({1: {"tries": 0}}, {}),
    ],
)
def test_an_open_target_that_can_not_be_read_is_due_at_once_and_spoils_no_ledger(stored: object, read: object) -> None:
    found = ledger_from(DAY, DOC | {"targets": stored})
    assert (found.state, found.targets) == (DayState.SENDING, read)


def test_what_is_not_set_is_not_stored_and_read_as_its_default() -> None:
    bare = Ledger(DAY, DayState.SKIPPED)
    zeros = {"tries": 0, "unanswered": 0, "repeats": 0, "failures": 0, "crashes": 0, "tokens": 0}
    assert ledger_to(bare) == {"date": "2026-05-01", "state": "skipped", "seq": 1, "devices": {}} | zeros
    assert ledger_from(DAY, {"state": "skipped", "devices": None}) == bare


@pytest.mark.parametrize("state", [state for state in DayState if state not in (DayState.UNREADABLE, DayState.SENDING)])
def test_each_state_is_read(state: DayState) -> None:
    assert ledger_from(DAY, DOC | {"state": state.value}) == replace(WHOLE, state=state)
    assert ledger_from(DAY, {"state": state.value}).state is state


@pytest.mark.parametrize(
    "doc",
    [
        None,
        "text",
        {},
        DOC | {"state": "from-the-future"},
        DOC | {"state": "unreadable"},
        DOC | {"state": ["sent"]},
        DOC | {"sending_at": None},
        DOC | {"sending_at": "soon"},
        DOC | {"devices": ["aa"]},
        DOC | {"devices": {"aa": 1}},
        DOC | {"devices": {1: "accepted"}},
        *(DOC | {"usd": odd} for odd in (10**400, float("inf"), float("nan"), -0.1, 10**13)),
        *(DOC | {name: odd} for name in ("seq", "tries", "failures", "tokens") for odd in (10**400, -1)),
        *(DOC | {name: datetime(9999, 1, 1, tzinfo=UTC)} for name in ("sending_at", "window_end", "created_at")),
        *(DOC | {name: True} for name in ("seq", "tries", "repeats", "failures", "crashes")),
        *(DOC | {name: "1"} for name in ("seq", "tries", "repeats", "failures", "crashes")),
        *(DOC | {name: 7} for name in ("outcome", "by", "collapse_id", "title", "body", "summary_id", "reason")),
    ],
)
def test_a_ledger_that_is_none_of_ours_is_never_guessed_at(doc: object) -> None:
    found = ledger_from(DAY, doc)
    assert replace(found, window_start=None, window_end=None, told=None) == Ledger(DAY, DayState.UNREADABLE)


def test_what_a_ledger_that_is_none_of_ours_covers_and_tells_is_still_read() -> None:
    odd = DOC | {"state": "from-the-future"}
    read = Ledger(DAY, DayState.UNREADABLE, window_start=AT - timedelta(days=1), window_end=AT, told="B" * 10)
    assert ledger_from(DAY, odd) == read
    assert ledger_from(DAY, odd | {"told": 7}) == replace(read, told=None)
    assert ledger_from(DAY, odd | {"window_end": "soon"}) == replace(read, window_end=None)
