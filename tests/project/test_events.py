"""docs/events.md has each event that the code logs, with its severity and its keys; and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from notifications.adapters.telemetry import otlp
from notifications.run.outcome import Outcome
from notifications.run.state import RunResult

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs/events.md").read_text()
ROW = re.compile(r"^\| `([a-z_.]+)` \| ([A-Z]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
LEVELS = {"info": "INFO", "warning": "WARNING", "error": "ERROR", "exception": "ERROR"}
SPLICED = {  # what `**…` brings, by its expression
    "self.log_context": {"uid", "date"}, "day.log_context": {"uid", "date"},
    "counted": {"failures", "crashes", "last_failure"},
}  # fmt: skip
FACTS = {  # what `**facts` is, in each module that says it
    "day.py": {"uid", "date", "reason"}, "outcome.py": {"uid", "date", "reason"},
    "sender.py": {"uid", "channel", "target", "code"},
}  # fmt: skip
MADE_NAMES = {
    "f'{what}.malformed'": ("devices.malformed", "conversations.malformed"),
    "f'recap.{entry.state.value}'": ("recap.dead", "recap.gave_up"),
}
OF_ONE_PLACE = {"recap.trouble": {"date"}, "claim.lost": {"reason"}, "recap.waiting": {"failures"}}  # not of each


def each_call() -> Iterator[tuple[str, str, set[str]]]:
    """Each call that logs: the event's name, its severity, its keys."""
    for path in (ROOT / "job.py", *(ROOT / "notifications").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            if ast.unparse(node.func.value) not in ("log", "events") or node.func.attr not in LEVELS:
                continue
            keys: set[str] = set()
            for keyword in node.keywords:
                said = ast.unparse(keyword.value)
                spliced = FACTS[path.name] if said == "facts" else SPLICED.get(said, set())
                keys |= {keyword.arg} - {"exc_info"} if keyword.arg else spliced  # structlog makes `exception` of it
            said = ast.unparse(node.args[0])
            for name in MADE_NAMES.get(said, (said.strip("'"),)):
                yield name, LEVELS[node.func.attr], keys


@cache
def logged() -> list[tuple[str, str, set[str]]]:
    return list(each_call())


def documented() -> dict[str, tuple[str, set[str]]]:
    return {name: (level, set(re.findall(r"`(\w+)`", keys))) for name, level, _, keys, _ in ROW.findall(DOC)}


def test_each_event_has_its_row_and_each_row_its_event() -> None:
    assert {name for name, _, _ in logged()} == set(documented())


def test_severities_and_keys_are_those_of_the_code() -> None:
    rows = documented()
    found: dict[str, set[str]] = {}
    for name, level, keys in logged():
        assert rows[name][0] == level, name
        found[name] = found.get(name, set()) | keys
        if name != "tick.finished":
            missing = rows[name][1] - keys
            assert missing <= OF_ONE_PLACE.get(name, set()), (name, missing)
    for name, keys in found.items():
        if name != "tick.finished":
            assert keys == rows[name][1], name


def test_every_row_says_what_to_do() -> None:
    assert all(what.strip() and do.strip() for _, _, what, _, do in ROW.findall(DOC))


def test_every_count_of_a_run_is_told() -> None:
    told = set(re.findall(r"`(\w+)`", DOC.partition("**`tick.finished`**")[2].partition("##")[0]))
    event = set(RunResult(now=None).as_event()) | {"seconds", "exit_code"}  # type: ignore[arg-type]
    assert event == told
    assert {one.value for one in Outcome} <= told


def test_metrics_count_what_the_run_counts() -> None:
    """A renamed count would be a metric that is always zero."""
    event = set(RunResult(now=None).as_event())  # type: ignore[arg-type]
    assert set(otlp.ENDINGS) == {one.value for one in Outcome}
    assert {*otlp.COUNTED, "documents_read", "documents_written", "usd"} <= event
