"""What a tick says at its end: a line for a person, an exit code for the scheduler."""

from __future__ import annotations

from datetime import UTC
from typing import NamedTuple

from notifications.commands.terminal import complain, say_line
from notifications.domain.errors import ConfigFault, DependencyDown, RecapError, UsageFault
from notifications.run.outcome import Ending
from notifications.run.state import Report

SAID = {Ending.DONE_BEFORE: "had theirs already", Ending.GAVE_UP: "given up", Ending.LOST: "lost to another run"}


class Ended(NamedTuple):
    """How a tick ended: its exit code, and its summary in one line."""

    code: int
    line: str = ""


def code_of(error: RecapError) -> int:
    """The exit code that tells what ended the run."""
    match error:
        case UsageFault():
            return 2
        case ConfigFault():
            return 3
        case DependencyDown():
            return 4
        case _:
            return 1


def exit_code(report: Report) -> int:
    """What on-call hears first: 3, 4, 1, then 5, somebody's day ended without a recap."""
    if report.trouble is not None:
        return code_of(report.trouble)
    if report.defects:
        return 1
    return 5 if report.counts.without_a_recap or report.unserved else 0


def tell(report: Report, seconds: float, *, in_words: bool) -> Ended:
    """A line for a person, but where it would stand in one log with the events."""
    lines = _lines(report, seconds)
    for line in lines if in_words else []:
        say_line(line)
    if report.trouble:
        lines.append(str(report.trouble))
        if in_words:
            complain(str(report.trouble))
    return Ended(exit_code(report), " ".join(lines))


def _lines(report: Report, seconds: float) -> list[str]:
    """What happened, in words: each due user in exactly one of the figures."""
    at = f"{report.now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    lines = []
    if report.unserved:
        lines.append(f"{at}: {report.unserved} slots went by unserved; audit --date says who was due.")
    if report.idle:
        return [*lines, f"{at}: nothing to do; everyone who is due has had their recap, or waits for a retry."]
    counts = report.counts
    figures = ((counts.endings[ending], SAID.get(ending, ending.value)) for ending in Ending)
    told = ", ".join(f"{figure} {word}" for figure, word in figures if figure) or "nobody due"
    return [*lines, f"{at}: {told}; {counts.pushes} pushes, {report.llm_calls} LLM calls, {seconds:.1f} s."]
