"""`job.py --every-minute` at a sped-up clock: each tick is a minute later for the schedule; leases stay in real time.

Arguments: the first minute (ISO 8601), how many ticks, the seconds between them, and a file for each tick's memory.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import job
from notifications.commands.cli import Command
from notifications.run.termination import Termination
from notifications.settings import Settings

START, TICKS, SECONDS = datetime.fromisoformat(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
MEMORY = Path(sys.argv[4])
PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
minutes = itertools.count()
once = job.run_once


def note_memory() -> None:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KB
    with MEMORY.open("a") as file:
        file.write(f"{resident}\n")


async def a_minute_later(command: Command, settings: Settings, terminated: Termination) -> int:
    """The next tick; after the last, what an operator sends."""
    minute = next(minutes)
    try:
        return await once(replace(command, now=START + timedelta(minutes=minute)), settings, terminated)
    finally:
        note_memory()
        if minute == TICKS - 1:
            os.kill(os.getpid(), signal.SIGTERM)


job.MINUTE = SECONDS  # type: ignore[assignment]
job.run_once = a_minute_later
sys.exit(job.main(["--every-minute"]))
