"""What a person sees of the events on a terminal, and a machine elsewhere."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

TELL = """
import structlog
from notifications import log
log.configure("auto", on_platform=False)
structlog.get_logger().info("tick.finished", sent=2, missed=0, usd=0.0, word="", ok=False, by={}, who="\\x1b[2J")
"""


def _on_a_terminal(**extra: str) -> str:
    """All that one event writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | extra
    subprocess.run([sys.executable, "-c", TELL], stderr=theirs, env=environment, check=True, timeout=60)
    os.close(theirs)
    written = os.read(ours, 10_000).decode()
    os.close(ours)
    return written


@pytest.mark.parametrize(("extra", "colored"), [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_is_told_what_happened_and_not_what_did_not(extra: dict[str, str], colored: bool) -> None:
    written = _on_a_terminal(**extra)
    assert ("\x1b[" in written) is colored
    assert "\x1b[2J" not in written
    names = ("sent", "missed", "usd", "word", "ok", "by", "who")
    assert [name for name in names if name in written.partition("finished")[2]] == ["sent", "ok", "who"]


def test_a_machine_gets_every_figure() -> None:
    told = subprocess.run([sys.executable, "-c", TELL], capture_output=True, check=True, timeout=60)
    event = json.loads(told.stderr)
    assert {name: event[name] for name in ("sent", "missed", "usd", "ok", "by", "severity")} == {
        "sent": 2, "missed": 0, "usd": 0.0, "ok": False, "by": {}, "severity": "INFO",
    }  # fmt: skip


def test_a_file_in_words_has_every_event() -> None:
    """The first few of a kind are for who watches."""
    many = "import structlog\nfrom notifications import log\nlog.configure('console', on_platform=False)\n"
    many += "for number in range(9): structlog.get_logger().error('recap.trouble', uid=f'u{number}')\n"
    many += "log.log_suppressed_counts()"
    told = subprocess.run([sys.executable, "-c", many], capture_output=True, check=True, timeout=60, text=True)
    assert [f"uid=u{number}" in told.stderr for number in range(9)] == [True] * 9
    assert "more of these" not in told.stderr
