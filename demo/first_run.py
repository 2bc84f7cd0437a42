"""`make run`: a tick, then one of its recaps as an app would show it, and what to do next.

A run that pushes nothing says its one line, and nothing is added to it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from demo import counted
from notifications.adapters.local.samples import language_of
from notifications.domain.errors import RecapError
from notifications.settings import Settings, load

JOB = Path(__file__).parents[1] / "job.py"
SAMPLE = re.compile(r"sample-\d\d", re.ASCII)


def main() -> int:
    """Run them. Returns the tick's exit code."""
    try:
        settings = load()
    except RecapError:
        settings = Settings()  # the tick says what is wrong
    outbox = settings.data_dir / "outbox.jsonl"
    before = outbox.stat().st_size if outbox.exists() else 0
    code = subprocess.run([sys.executable, str(JOB)], check=False).returncode
    pushed = _pushed(outbox, before)
    if pushed and not settings.fcm:
        print(flush=True)
        subprocess.run([sys.executable, str(JOB), "show", _in_english(pushed)], check=False)
        recaps, pushes = counted(len(set(pushed)), "recap"), counted(len(pushed), "push", "pushes")
        print(f"\nSent: {recaps} by {pushes}, which are in {outbox} in place of phones.")
        print("Next: make demo, which shows a bad evening; then your own users, as README.md says.")
        print(f"Data: {settings.data_dir}/, which you alone can read; delete it to begin anew.")
    return code


def _in_english(uids: list[str]) -> str:
    """The last of them who is a sample user and speaks English, else the last."""
    numbers = [int(uid.removeprefix("sample-")) for uid in uids if SAMPLE.fullmatch(uid)]
    english = [number for number in numbers if language_of(number) == "en"]
    return f"sample-{english[-1]:02}" if english else uids[-1]


def _pushed(outbox: Path, before: int) -> list[str]:
    """The uids of the pushes since the file had that size."""
    if not outbox.exists():
        return []
    with outbox.open("rb") as file:
        file.seek(before)
        return [json.loads(line)["uid"] for line in file.read().splitlines() if line]


if __name__ == "__main__":
    sys.exit(main())
