"""What a person reads, word by word, from both stores: a change to it is seen in the change.

A golden that is deleted is written anew by the next run, which fails so that somebody looks at it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from notifications.commands.cli import parse
from notifications.domain.text import width_of
from notifications.domain.told_once import told_hash
from tests.support.jobs import Stage
from tests.support.worlds import Doc, talk

GOLDENS = Path(__file__).parent / "goldens"
AT = datetime(2026, 5, 1, 20, tzinfo=UTC)
DAY, NOW = "2026-05-01", "2026-05-01T20:30:00+00:00"
LATER = "2026-05-02T01:00:00+00:00"
SENT: Doc = {
    **{"date": DAY, "state": "sent", "seq": 1, "tries": 1, "devices": {"d": "accepted"}},
    **{"source": "llm", "tokens": 1_200, "usd": 0.0021, "sent_at": AT + timedelta(seconds=40)},
    **{"window_start": AT - timedelta(days=1), "window_end": AT, "told": told_hash("ann", "t")},
}
USER = {"time_zone": "UTC", "daily_summary_enabled": True, "daily_summary_hour_local": 20}


def evening(stage: Stage) -> None:
    """One of each kind; nobody's document is younger than their day, by --now or by the store."""
    people = {
        "ann": SENT,
        "bob": {"date": DAY, "state": "skipped", "outcome": "no_content", "seq": 1},
        "cyd": {"date": DAY, "state": "missed", "outcome": "closed", "seq": 1},
        "dan": {"date": DAY, "state": "dead", "outcome": "failures", "reason": "refusal", "failures": 4, "seq": 1},
        "eve": {"date": DAY, "state": "gave_up", "outcome": "pushes", "reason": "503", "tries": 3, "seq": 1},
        "fay": SENT | {"source": "extract", "tokens": 0, "usd": 0.0, "outcome": "no_devices", "devices": {}},
        "gus": None,
    }
    for uid, ledger in people.items():
        stage.world.put_user(uid, USER, {"d": f"token-{uid}"}, {"t": talk(uid, AT - timedelta(hours=2))})
        if ledger is not None:
            stage.world.put_ledger(uid, DAY, ledger)
    stage.world.put_user("hal", {"time_zone": "mars", "daily_summary_enabled": True}, {}, {})


def jsonl(stage: Stage) -> str:
    path = stage.folder / "users.jsonl"
    rows = [{"uid": "ida", "user": USER}, {"uid": "jim", "user": USER | {"time_zone": "mars"}}, {"id": "kim"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


CASES: dict[str, Callable[[Stage], tuple[str, ...]]] = {
    "audit": lambda stage: ("--now", NOW, "audit", "--date", DAY),
    "audit-json": lambda stage: ("--now", NOW, "audit", "--date", DAY, "--json"),
    "dry-run": lambda stage: ("--now", NOW, "--dry-run"),
    "inspect": lambda stage: ("inspect", "--date", DAY),
    "inspect-json": lambda stage: ("inspect", "--date", DAY, "--json"),
    "inspect-keys": lambda stage: ("inspect", "--keys"),
    "why-sent": lambda stage: ("--now", NOW, "why", "ann", DAY),
    "why-missed": lambda stage: ("--now", LATER, "why", "cyd", DAY),
    "why-dead": lambda stage: ("--now", LATER, "why", "dan", DAY),
    "why-due": lambda stage: ("--now", NOW, "why", "gus"),
    "why-unseen": lambda stage: ("--now", NOW, "why", "hal"),
    "why-nobody": lambda stage: ("--now", NOW, "why", "zoe", DAY),
    "resend-dry-run": lambda stage: (
        *("--now", LATER, "resend", "--date", DAY),
        *("--where", "missed,dead,gave_up", "--dry-run"),
    ),
    "doctor": lambda stage: ("doctor", "--fix", "--dry-run"),
    "import": lambda stage: ("import", jsonl(stage)),
    "samples-remove": lambda stage: ("samples", "--remove"),
}
CHANGES = (  # what differs from run to run
    (re.compile(r"tzdata [\d.]+, \d+ zones"), "tzdata VERSION, COUNT zones"),
    (re.compile(r"in \d+\.\d s$", re.MULTILINE), "in SECONDS s"),
    (re.compile(r"Redis answers: [\d :-]+ UTC"), "Redis answers: NOW UTC"),
)


def steady(text: str) -> str:
    for pattern, word in CHANGES:
        text = pattern.sub(word, text)
    return text


def test_what_is_printed_is_the_golden(stage: Stage) -> None:
    evening(stage)
    differs = {}
    for name, arguments in CASES.items():
        finished = stage.run(*arguments(stage))
        printed = f"{steady(finished.out)}exit code {finished.code}\n"
        golden = GOLDENS / f"{name}.txt"
        if not golden.exists():
            golden.write_text(printed)
            differs[name] = "was not there; it is written: look at it."
        elif printed != golden.read_text():
            differs[name] = printed
        if "json" not in name:
            wide = [line for line in printed.splitlines() if width_of(line) > 80]
            assert [line for line in wide if "UTC, dry run:" not in line] == []  # a summary is one line where piped
    assert differs == {}


COMMANDS = (
    "why",
    "show",
    "preview",
    "inspect",
    "audit",
    "report",
    "resend",
    "doctor",
    "import",
    "samples",
    "layout",
    "",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_has_one_example_and_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([*command.split(), "--help"])
    told = capsys.readouterr().out
    assert (ended.value.code, told.count("example: python job.py "), told.count("exit codes: 0")) == (0, 1, 1)
    assert "2 usage, 3 bad configuration, 4 a dependency stopped it" in told
    assert [line for line in told.splitlines() if width_of(line) > 80] == []
