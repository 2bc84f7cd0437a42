"""Whole ticks in one process: nothing that they wait for takes its real time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notifications.run import llm_session


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries of one call."""
    monkeypatch.setattr(llm_session, "FIRST_PAUSE", timedelta(milliseconds=1))
