"""Several runs over one user's targets, whatever happens to them: every rule of the delivery holds at each write.

More of them: `RECAP_TEST_PROFILE=wide python -m pytest tests/run/test_several_runs.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.run import dependencies
from tests.support.several_runs import lived

WIDE = settings.get_current_profile_name() == "wide"


async def at_once(work: Callable[..., Any], *args: Any) -> Any:
    return work(*args)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that failed is tried again at once; no thread ends sooner in one history than in its repetition."""
    monkeypatch.setattr(dependencies, "jittered", lambda *_: timedelta(0))
    monkeypatch.setattr(asyncio, "to_thread", at_once)


@settings(max_examples=5000 if WIDE else 120)
@given(st.randoms(use_true_random=False))
def test_no_rule_is_broken_however_runs_meet(random: Random) -> None:
    asyncio.run(lived(random, 60))
