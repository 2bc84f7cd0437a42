"""What a person reads, word by word, from both stores: a change to it is seen in the change.

A golden that is deleted is written anew by the next run, which fails so that somebody looks at it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis

from notifications.commands.cli import parse
from notifications.domain.claim import user_key
from notifications.domain.shards import key_of
from notifications.domain.text import width_of
from notifications.domain.told_once import told_hash
from tests.support.jobs import JOB, Stage, on_sqlite
from tests.support.terminal import OnATerminal
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
    "import-dry-run": lambda stage: ("import", jsonl(stage), "--dry-run"),
    "inspect-where": lambda stage: ("--now", NOW, "inspect", "--where", "sent,no_devices,dead,gave_up,waiting"),
    "samples-remove": lambda stage: ("samples", "--remove"),
    "tick": lambda stage: ("--now", NOW),
}
# Of 2,000 users whose LLM answers 429 and one of whose runs was killed.
MANY: dict[str, tuple[str, ...]] = {
    "audit-2000": ("--now", NOW, "audit", "--date", DAY),
    "inspect-2000": ("--now", NOW, "inspect", "--date", DAY),
    "dry-run-2000": ("--now", NOW, "--dry-run"),
    "resend-held-2000": ("--now", NOW, "resend", "held-0000", DAY),
    "user-held-2000": ("--now", NOW, "--user", "held-0000"),
    "inspect-where-2000": ("--now", NOW, "inspect", "--date", DAY, "--where", "waiting,held,no_devices"),
    "why-killed-2000": ("--now", NOW, "why", "held-0000"),
    "why-unreached-2000": ("--now", NOW, "why", "wait-0999"),
    "report-2000": ("--now", NOW, "report", "--date", DAY, "-o", "page.html"),
}
# On a terminal, without colours but for the last.
ON_A_TERMINAL: dict[str, tuple[str, ...]] = {
    "audit-terminal": ("--now", LATER, "audit"),
    "inspect-terminal": ("inspect", "--date", DAY),
    "tick-terminal": ("--now", NOW),
    "tick-terminal-colours": ("--now", NOW),
}
COLOUR = re.compile(r"\\x1b\[\d+m")
CHANGES = (  # what differs from run to run
    (re.compile(r"tzdata [\d.]+, \d+ zones"), "tzdata VERSION, COUNT zones"),
    (re.compile(r"in \d+\.\d s$", re.MULTILINE), "in SECONDS s"),
    (re.compile(r"\d+\.\d s\.$", re.MULTILINE), "SECONDS s."),
    (re.compile(r"[\d,]+ Redis\s+commands"), "COUNT Redis commands"),
    (re.compile(r"^\d\d:\d\d:\d\d ", re.MULTILINE), "HH:MM:SS "),
    (re.compile(r"(lease|ttl|due_in)_seconds -?\d+"), r"\1_seconds COUNT"),
    (re.compile(r"HH:MM:SS \S+ +(tick\.finished|redis\.first_seen)[^\n]*\n( {9}[^\n]*\n)*"), ""),
    (re.compile(r"\d+(?:,\d+)? (documents\s+read)"), r"COUNT \1"),
    (re.compile(r"Redis answers: [\d :-]+ UTC"), "Redis answers: NOW UTC"),
)


def steady(text: str) -> str:
    for pattern, word in CHANGES:
        text = pattern.sub(word, text)
    return text


def difference(name: str, out: str, code: int) -> dict[str, str]:
    """The golden's name and what was printed, if they differ."""
    printed = f"{steady(out)}exit code {code}\n"
    golden = GOLDENS / f"{name}.txt"
    if "json" not in name and "page" not in name:
        wide = [line for line in COLOUR.sub("", printed).splitlines() if width_of(line) > 80]
        one_line = ("UTC, dry run:", "UTC: ", "--now does not move claims")  # where piped
        assert [line for line in wide if not any(words in line for words in one_line) and "resend" not in name] == []
    if not golden.exists():
        golden.write_text(printed)
        return {name: "was not there; it is written: look at it."}
    return {} if printed == golden.read_text() else {name: printed}


def test_what_is_printed_is_the_golden(stage: Stage) -> None:
    evening(stage)
    differs: dict[str, str] = {}
    for name, arguments in CASES.items():
        finished = stage.run(*arguments(stage))
        differs |= difference(name, finished.out, finished.code)
    assert differs == {}


PEOPLE = {"sent": 30, "words": 17, "gone": 3, "held": 50, "wait": 1_900}


def uids(kind: str) -> list[str]:
    return [f"{kind}-{number:04}" for number in range(PEOPLE[kind])]


def outage(stage: Stage) -> None:
    """30 sent, 3 without a device, 17 extracts; 50 held by a run that died, 10 wait after a 429, 1,890 unreached."""
    sent = SENT | {"told": ""}
    extract = sent | {"source": "extract", "extract_reason": "invalid_answer", "tokens": 8_000, "usd": 0.008}
    no_devices = sent | {"outcome": "no_devices", "devices": {"d": "gone"}}
    ledgers = {"sent": sent, "words": extract, "gone": no_devices}
    for kind in PEOPLE:
        for uid in uids(kind):
            stage.world.put_user(uid, USER, {"d": f"token-{uid}"}, {"t": talk(uid, AT - timedelta(hours=2))})
            if kind in ledgers:
                stage.world.put_ledger(uid, DAY, ledgers[kind])


def plain(err: str) -> str:
    """What a person reads on stderr: no log events."""
    return "".join(f"{line}\n" for line in err.splitlines() if not line.startswith("{"))


def claim_all(stage: Stage) -> None:
    """What Redis holds during the outage, in times from now on, which are read as times of the evening."""
    with Redis(port=stage.redis.port) as client:
        real = int(client.time()[0]) * 1000
        waits = f'{{"s":"idle","t":"t","u":{real + 90_000},"f":0,"c":0,"r":"provider_llm_429"}}'
        held = f'{{"s":"claimed","t":"t","u":{real + 570_000}}}'
        for uid in uids("held"):
            client.set(user_key(uid, AT.date()), held, px=3_600_000)
        for uid in uids("wait")[:10]:
            client.set(user_key(uid, AT.date()), waits, px=3_600_000)
        left_open = f'{{"s":"idle","t":"t","u":{real + 60_000},"f":0,"c":1,"r":"open_llm_429"}}'
        client.set(key_of("any", AT, 20, stage.world.environment, 1), left_open, px=3_600_000)


@on_sqlite
def test_what_is_printed_of_2000_users_is_the_golden(stage: Stage) -> None:
    outage(stage)
    differs: dict[str, str] = {}
    for name, arguments in MANY.items():
        claim_all(stage)
        finished = stage.run(*arguments)
        differs |= difference(name, finished.out + plain(finished.err), finished.code)
    keys = stage.run("inspect", "--keys").out.splitlines()  # their order is Redis' own
    assert {"users' days, claimed: 50", "users' days, idle: 10", "users due together, idle: 1"} <= set(keys)
    assert len(keys) < 24
    assert len(stage.run("inspect", "--keys", "--all").out.splitlines()) > 60
    page = (stage.folder / "page.html").read_text()
    text = re.sub(r"<style>.*?</style>|<[^>]+>", "\n", page, flags=re.DOTALL)
    differs |= difference("report-2000-page", re.sub(r"\n+", "\n", text), 0)
    assert differs == {}


@on_sqlite
def test_what_a_terminal_of_80_columns_shows_is_the_golden(stage: Stage) -> None:
    differs: dict[str, str] = {}
    for name, arguments in ON_A_TERMINAL.items():
        if name.startswith("tick"):
            stage.redis.ask("FLUSHALL")
            stage.world.delete_ledger("gus", DAY)
            for key in stage.world.summaries("gus"):
                stage.world.delete_summary("gus", key)
        evening(stage)
        colours = {} if name.endswith("colours") else {"NO_COLOR": "1"}
        env = stage.env(RECAP_LOG_FORMAT="auto", TERM="xterm", COLUMNS="80", LINES="24", **colours)
        with OnATerminal([sys.executable, str(JOB), *arguments], env, stage.folder) as running:
            code = running.end()
        shown = running.raw.replace("\r\n", "\n")
        differs |= difference(name, re.sub("[^\n]*\\r", "", shown).replace("\x1b", "\\x1b"), code)
    assert differs == {}


README = (Path(__file__).parents[2] / "README.md").read_text()
EXIT_CODES = README.partition("\nExit codes: ")[2].partition("\n\n")[0].replace("\n", " ")
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
    codes = re.findall(r"^(?:exit codes: | {12})(\d) \w", told, re.MULTILINE)
    of_readme = re.findall(r"(?:^|; )(\d) ", EXIT_CODES)
    assert of_readme == ["0", "1", "2", "3", "4", "5"]
    assert codes == of_readme[: None if command in ("", "resend") else -1]
    assert [line for line in told.splitlines() if width_of(line) > 80] == []
