"""The benchmark's short form: counts, and ratios of counts. What depends on the machine is for `make bench`."""

from __future__ import annotations

import pytest

from benchmarks.cases import SHORT, SHORT_ON_EMULATOR


@pytest.mark.parametrize("case", SHORT)
def test_the_costs_are_within_their_bars(case: str) -> None:
    assert [str(row) for row in SHORT[case]() if not row.reached] == []


@pytest.mark.parametrize("case", SHORT_ON_EMULATOR)
def test_the_costs_on_the_emulator_are_within_their_bars(
    case: str, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator)
    assert [str(row) for row in SHORT_ON_EMULATOR[case]() if not row.reached] == []
