"""Markdown that an app keeps: its marks go, its words and lines stay."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.adapters.stores.markdown import without_marks
from tests.support.rows import rows


@pytest.mark.parametrize(("text", "lines"), rows("texts", "markdown"))
def test_marks_go_and_words_and_lines_stay(text: str, lines: str) -> None:
    assert without_marks(text) == lines


@given(st.text(alphabet="ab 1*_`#->|[]()=~.\\\n<br>:", max_size=80))
def test_whatever_stands_there_lines_without_edges_come_of_it(text: str) -> None:
    told = without_marks(text)
    assert set(told) <= set(text) | {":", ";", " ", "\n"}
    assert all(line.strip() == line and line for line in told.split("\n")) or not told


@pytest.mark.parametrize("unit", rows("texts", "endless_marks"))
def test_no_text_holds_a_run_up(unit: str) -> None:
    """Quadratic work on 150,000 characters would take minutes."""
    begun = time.perf_counter()
    without_marks((unit * 150_000)[:149_999] + "x")
    assert time.perf_counter() - begun < 5
