"""A short chaos run with a fixed seed and one that is new each time; the long one is `make chaos`."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.faults.chaos import run


@pytest.mark.short
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [7, None])
def test_a_short_chaos(tmp_path: Path, seed: int | None) -> None:
    told = run(12, secrets.randbelow(1_000_000) if seed is None else seed, "sqlite", tmp_path)
    assert "every account proven" in told
