"""The ledger's transitions, row by row: docs/protocol.md, section 4."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.domain import delivery
from notifications.domain.delivery import Decision, LedgerRules, NextStep, Opening, Snapshot
from notifications.domain.model import Cited, DayState, Draft, Ledger, Recap, Summary, Window
from notifications.domain.push import PushResult

NOW = datetime(2026, 5, 1, 20, 5, tzinfo=UTC)
SLOT = datetime(2026, 5, 1, 20, tzinfo=UTC)
DAY = date(2026, 5, 1)
TERMS = LedgerRules(stale=timedelta(seconds=120), max_pushes=3, retention=timedelta(days=30))
WINDOW = Window(SLOT - timedelta(days=1), SLOT)
ME = Opening("u", DAY, "me", SLOT, WINDOW)
RECAP = Recap("2026-05-01", DAY, NOW, Draft("Head", (Cited("Over"),), "🌤️", push="Push"), 2, 30)
THEIRS = Summary("2026-05-01", NOW, "Their head", "Their text", "🎈")
FRESH, STALE = NOW - timedelta(seconds=119), NOW - timedelta(seconds=120)
ENDED = [state for state in DayState if state.final]


def entry(state: DayState, **changes: Any) -> Ledger:
    base = Ledger(DAY, state, by="other", sending_at=FRESH, tries=1, title="T", body="B", summary_id="2026-05-01")
    return replace(base, **changes)


def close(state: DayState, found: Ledger | None, active: bool = True) -> Decision:
    return delivery.end_day(ME, state, "why", Snapshot(found, NOW, active), TERMS)


def begin(found: Ledger | None = None, **changes: Any) -> Decision:
    given: dict[str, Any] = {"has_devices": True, "replaces": None, "active": True, "summary": None} | changes
    seen = Snapshot(found, NOW, given.pop("active"), given.pop("summary"))
    return delivery.begin(ME, RECAP, seen, TERMS, **given)


def take(found: Ledger | None, by: str = "me") -> Decision:
    return delivery.take(by, Snapshot(found, NOW), TERMS)


def record(found: Ledger | None, results: dict[str, PushResult], **changes: Any) -> Decision:
    given: dict[str, Any] = {"sent_nothing": False, "last_chance": False, "by": "me", "seq": 1} | changes
    return delivery.record_pushes(given.pop("by"), given.pop("seq"), results, ledger=found, **given)


def resend(found: Ledger | None, **changes: Any) -> Decision:
    given: dict[str, Any] = {"active": True, "claim_live": False, "read_time": NOW} | changes
    seen = Snapshot(found, given.pop("read_time"), given.pop("active"))
    return delivery.resend(seen, TERMS, **given)


def written(decision: Decision) -> Ledger:
    assert decision.write
    assert decision.ledger is not None
    return decision.ledger


@pytest.mark.parametrize("state", [DayState.SKIPPED, DayState.MISSED, DayState.DEAD])
def test_close_writes_nothing_about_who_is_gone(state: DayState) -> None:
    assert close(state, None, active=False) == Decision(NextStep.NO_USER)


@pytest.mark.parametrize("found", ENDED)
@pytest.mark.parametrize("asked", [DayState.SKIPPED, DayState.MISSED, DayState.DEAD])
def test_close_leaves_an_ended_day(asked: DayState, found: DayState) -> None:
    assert close(asked, entry(found)) == Decision(NextStep.FINAL, entry(found))


@pytest.mark.parametrize("found", [DayState.PENDING, DayState.SENDING])
@pytest.mark.parametrize("asked", [DayState.SKIPPED, DayState.MISSED])
def test_close_takes_what_another_run_began(asked: DayState, found: DayState) -> None:
    assert close(asked, entry(found)) == Decision(NextStep.TAKE, entry(found))


def test_begin_writes_nothing_about_who_is_gone() -> None:
    assert begin(active=False) == Decision(NextStep.NO_USER)


@pytest.mark.parametrize("state", ENDED)
def test_begin_throws_its_text_away_where_the_day_ended(state: DayState) -> None:
    assert begin(entry(state)) == Decision(NextStep.FINAL, entry(state))


@pytest.mark.parametrize("state", [DayState.SKIPPED, DayState.MISSED, DayState.DEAD])
def test_a_resends_begin_replaces_only_what_it_read(state: DayState) -> None:
    found = entry(state, seq=4)
    made = written(begin(found, replaces=found))
    assert (made.state, made.seq) == (DayState.SENDING, 5)
    assert begin(replace(found, seq=5), replaces=found).step is NextStep.FINAL
    assert begin(entry(DayState.SENT, seq=4), replaces=found).step is NextStep.FINAL


def test_take_of_each_state() -> None:
    for state in ENDED:
        assert take(entry(state)) == Decision(NextStep.FINAL, entry(state))
    assert take(None) == Decision(NextStep.NO_USER)
    mine = entry(DayState.SENDING, by="me", tries=2)
    assert take(mine) == Decision(NextStep.PUSH, mine)  # the reply was lost: no try is taken again
    assert take(entry(DayState.SENDING)) == Decision(NextStep.BUSY, entry(DayState.SENDING), timedelta(seconds=1))
    for found in (entry(DayState.PENDING, tries=2), entry(DayState.SENDING, sending_at=STALE, tries=2)):
        taken = written(take(found))
        assert (taken.state, taken.by, taken.tries) == (DayState.SENDING, "me", 3)
    for found in (entry(DayState.PENDING, tries=3), entry(DayState.SENDING, sending_at=STALE, tries=3)):
        assert written(take(found)).state is DayState.GAVE_UP


MINE = entry(DayState.SENDING, by="me", tries=2)
