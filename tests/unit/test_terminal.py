"""What is printed while a progress line is drawn, and what of a stack trace reaches a terminal."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from notifications.commands.terminal import on_the_real_clock
from tests.support.terminal import OnATerminal

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, structlog
from notifications import log
from notifications.commands import progress
from notifications.commands.terminal import complain, say, use_safe_streams
from notifications.run.outcome import Progress

async def main():
    use_safe_streams()
    log.configure("auto", on_platform=False)
    progress.FIRST_DRAWN_SECONDS = 0
    async with progress.show_progress(lambda: Progress(1, 3, 1)):
        await asyncio.sleep(0.4)
        say("a line on stdout")
        complain("a sentence on stderr")
        try:
            raise ValueError("\\x1b[2J\\x1b]0;x\\x07")
        except ValueError:
            structlog.get_logger().exception("recap.defect")

asyncio.run(main())
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_stand_above_the_progress_line_and_a_trace_steers_nothing(unbuffered: str, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONUNBUFFERED": unbuffered}
    with OnATerminal([sys.executable, "-c", PROGRAM], env, tmp_path) as running:
        assert running.end() == 0
    assert "00:00  1 of 3 done, 1 left, 1 waiting" in running.raw
    for line in ("a line on stdout", "a sentence on stderr"):
        assert f"{line}\r\n" in running.raw  # nothing is drawn between it and its end
    assert "ValueError" in running.raw
    assert "\x1b[2J" not in running.raw
    assert "\x07" not in running.raw


@pytest.mark.parametrize(("seconds", "wait"), [(570, "10 min"), (1, "1 min"), (3_600, "60 min"), (-1, "0 min")])
def test_under_a_pretended_time_it_is_said_that_claims_go_by_the_real_one(seconds: int, wait: str) -> None:
    now, ahead = datetime(2026, 5, 1, 20, 30, tzinfo=UTC), timedelta(hours=15)
    until = now + timedelta(seconds=seconds)
    said = on_the_real_clock(until, now, ahead)
    assert said.startswith("--now does not move claims: they are free by Redis' clock, ")
    assert f" UTC above is {wait} from now, whatever --now says then." in said
    assert said == on_the_real_clock(until, now, -ahead)
    assert on_the_real_clock(until, now, timedelta(0)) == on_the_real_clock(None, now, ahead) == ""
