"""What a tick prints: progress and the first pushes on a terminal, a summary and an exit code at its end."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from notifications.commands.reasons import bracketed
from notifications.commands.terminal import SafeStream, complain, minute, say, say_line, say_wrapped, several
from notifications.domain.errors import ConfigFault, DependencyDown, RecapError, UsageFault
from notifications.domain.money import MICROS
from notifications.domain.push import Message
from notifications.domain.text import COLUMNS
from notifications.run.outcome import LEFT_OPEN, Delivered, OpenHour, Outcome, Progress
from notifications.run.state import RunResult

DRAWN_EVERY_SECONDS, FIRST_DRAWN_SECONDS = 0.25, 1.0
PREVIEWS = 5
HOURS_SHOWN = 3
NAMES_WHY = "python job.py inspect --where waiting,held says why"
FORM = "{elapsed}  {n_fmt} of {total_fmt} done{postfix}, {rate_noinv_fmt}, {remaining} to go"


@asynccontextmanager
async def show_progress(progress: Callable[[], Progress]) -> AsyncIterator[None]:
    """Draw a progress line until the work ends; all other output is printed above it."""
    error, out = sys.stderr, sys.stdout
    if not (isinstance(error, SafeStream) and isinstance(out, SafeStream) and error.isatty()):
        yield
        return
    drawing = asyncio.create_task(_draw(error, out, progress))
    try:
        yield
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)


async def _draw(error: SafeStream, out: SafeStream, progress: Callable[[], Progress]) -> None:
    await asyncio.sleep(FIRST_DRAWN_SECONDS)  # quick work needs no progress line
    from tqdm import tqdm

    @contextmanager
    def above() -> Iterator[None]:
        with tqdm.external_write_mode(file=error.bare):
            yield

    tqdm.monitor_interval = 0  # don't start a monitoring thread
    bar = tqdm(
        total=progress().due,
        initial=progress().done,
        file=error.bare,
        ncols=COLUMNS - 1,
        bar_format=FORM,
        unit="",
        leave=False,
    )
    error.around_write = out.around_write = above
    try:
        while True:
            now = progress()
            bar.total = now.due
            bar.set_postfix_str(f"{now.left} left, {now.waiting} waiting", refresh=False)
            bar.update(now.done - bar.n)
            bar.refresh()
            await asyncio.sleep(DRAWN_EVERY_SECONDS)
    finally:
        error.around_write = out.around_write = nullcontext
        bar.close()


class Previews:
    """Prints the first pushes into the outbox on a terminal, and the number of the others."""

    def __init__(self) -> None:
        self._pushes = 0

    def __call__(self, message: Message, device: str) -> None:
        self._pushes += 1
        if self._pushes <= PREVIEWS and sys.stdout.isatty():
            say_wrapped(f"push to {message.uid} (device {device}): {message.title}", "    ", "  ")
            say_wrapped(message.body, "    ")

    def print_suppressed_count(self) -> None:
        """Print how many more there were."""
        if self._pushes > PREVIEWS and sys.stdout.isatty():
            say(f"  and {self._pushes - PREVIEWS:,} more pushes")
        self._pushes = 0


LATE = timedelta(minutes=15)  # a recap that comes later than that is told to be late
WORDS = {
    Outcome.NO_DEVICES: "stored",
    Outcome.DONE_BEFORE: "already done",
    Outcome.GAVE_UP: "given up",
    Outcome.LOST: "whose claim was gone at the end",
    Outcome.STOPPED: "not begun",
}
MEANINGS = {
    Outcome.NO_DEVICES: "no target takes it",
    Outcome.MISSED: "no recap in time",
    Outcome.DEAD: "failed too often",
    Outcome.GAVE_UP: "stored, not every target took it",
    Outcome.UNREADABLE: "doctor names them",
    Outcome.LOST: "another run has them, or Redis was emptied",
    Outcome.STOPPED: "the run stopped first",
    Outcome.FAILED: "the log says why",
}


class Ended(NamedTuple):
    """How a tick ended: its exit code, and its summary in one line."""

    code: int
    line: str = ""


def code_of(error: RecapError) -> int:
    """The exit code for an error that ended the run."""
    match error:
        case UsageFault():
            return 2
        case ConfigFault():
            return 3
        case DependencyDown():
            return 4
        case _:
            return 1


def exit_code(result: RunResult) -> int:
    """The first that applies of 3, 4, 1, and 5: a user's day ended without a recap."""
    if result.trouble is not None:
        return code_of(result.trouble)
    if result.defects or result.counts.all_dead:
        return 1
    return 5 if result.counts.without_a_recap or result.unserved else 0


def print_summary(result: RunResult, seconds: float, *, in_words: bool) -> Ended:
    """Print the summary if `in_words`; without it stdout and the events share one log."""
    lines = _lines(result, seconds)
    for line in lines if in_words else []:
        say_line(line)
    if result.trouble:
        lines.append(str(result.trouble))
        if in_words:
            complain(str(result.trouble))
    return Ended(exit_code(result), " ".join(lines))


def _lines(result: RunResult, seconds: float) -> list[str]:
    at = f"{result.now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    lines = []
    if result.unserved:
        were = "slots were" if result.unserved > 1 else "slot was"
        lines.append(f"{at}: {result.unserved:,} {were} not served; audit --date lists who was due.")
    if result.idle:
        still = "; ".join(hours_in_words(result.open_hours)) or "nothing to do; no day is open"
        return [*lines, f"{at}: {still}."]
    counts = result.counts
    parts = [
        f"{counts.outcomes[outcome]:,} {_ended(outcome, result)}" for outcome in Outcome if counts.outcomes[outcome]
    ]
    if counts.unreached:
        why = "the run stopped first" if result.stopped_early else "their hour was left to another run, or to the next"
        parts.append(f"{counts.unreached:,} not reached ({why})")
    usd = f", {counts.micro_usd / MICROS:.4f} USD" if counts.micro_usd else ""
    tried = deliveries_and_calls(result.deliveries, result.llm_calls, counts.failed_calls)
    dead = f", {several(counts.tokens_deleted, 'dead device')} deleted" if counts.tokens_deleted else ""
    work = f"{tried}{dead}{usd}, {seconds:.1f} s"
    # where this run served somebody, that another is at work beside it is no news
    told = [hour for hour in result.open_hours if not parts or hour.may_be_dead or hour.renewed_at is None]
    hours = hours_in_words(told)
    served = ", ".join(parts) or ("" if hours or result.hint else "no user was due")
    lines.append(f"{at}: {'; '.join(filter(None, (served, result.hint, *hours, work)))}.")
    if counts.too_many_dead:
        of = f"{counts.devices_dead:,} of {several(counts.devices_answered, 'device')}"
        lines.append(f"{at}: {of} were refused as unregistered: is GOOGLE_CLOUD_PROJECT the app's Firebase project?")
    return lines


def hours_in_words(open_hours: Sequence[OpenHour]) -> list[str]:
    """Due hours that can't be served now: who holds each until when, or why it is tried again when."""
    slots: dict[str, list[datetime]] = {}
    for hour in sorted(open_hours, key=lambda one: (one.slot, one.until)):
        slots.setdefault(_why_open(hour), []).append(hour.slot)
    return [words.format(users=users_due(found)) for words, found in slots.items()]


def users_due(slots: Sequence[datetime]) -> str:
    """The users of these slots. A slot may be there several times, as it has several shards."""
    times = list(dict.fromkeys(f"{slot:%H:%M}" for slot in slots))
    more = len(times) - HOURS_SHOWN
    return f"users due at {', '.join(times[:HOURS_SHOWN])}{f' and {more:,} more times' if more > 0 else ''} UTC"


def _why_open(hour: OpenHour) -> str:
    until = minute(hour.until)
    if hour.renewed_at is not None:
        since = f"{hour.renewed_at:%H:%M}"
        dead, alive = f"that may be dead (not heard of since {since})", f"at work (heard of at {since}); if it dies,"
        return f"held: {{users}}, by a run {f'{dead};' if hour.may_be_dead else alive} free at {until}"
    if hour.reason == "killed_run":
        return f"waiting: {{users}}, over whom a run was killed; served again at {until}"
    why = bracketed(Counter([hour.reason] if hour.reason != LEFT_OPEN else [])) or f" ({NAMES_WHY})"
    return f"waiting: {{users}}{why}; tried again at {until}"


def deliveries_and_calls(deliveries: Sequence[Delivered], calls: int, failed_calls: int) -> str:
    """What left by each channel, in its word, and how many LLM calls; and how many came to nothing, if some did."""
    left = [
        several(one.requests, one.noun, one.plural) + _of_use(one.accepted, one.requests, "accepted")
        for one in deliveries
    ]
    return ", ".join([*left, several(calls, "LLM call") + _of_use(calls - failed_calls, calls, "answered")])


def _of_use(count: int, of: int, word: str) -> str:
    """How many of the tries came to something, in brackets; empty if each did."""
    return f" ({count or 'none'} {word})" if count < of else ""


def _ended(outcome: Outcome, result: RunResult) -> str:
    """The word for an ending, and what it means; of who waits or is held also why and since when, or until when; how
    many extracts.
    """
    counts, word, more = result.counts, WORDS.get(outcome, outcome.value), ""
    if outcome is Outcome.WAITING and outcome in counts.since:
        more = f"oldest {round((result.now - counts.since[outcome]).total_seconds() / 60)} min"
    elif outcome is Outcome.SENT and result.lateness > LATE:
        more = f"up to {round(result.lateness.total_seconds() / 60)} min late"
    elif outcome is Outcome.HELD and counts.free_at is not None:
        more = f"free at {minute(counts.free_at)}"
    extracts = Counter({reason: count for (kind, reason), count in counts.ended_extracts.items() if kind is outcome})
    reasons = Counter({reason: count for (kind, reason), count in counts.unfinished.items() if kind is outcome})
    said = bracketed(reasons, more)[2:-1] if outcome is not Outcome.STOPPED else ""  # its reason is the run's
    if extracts:
        made = "as an extract" if extracts.total() == 1 else "as extracts"
        said = f"{extracts.total():,} {': '.join(filter(None, (made, bracketed(extracts)[2:-1])))}"
    meaning = MEANINGS.get(outcome, "") if outcome is not Outcome.FAILED or not said else ""
    inner = "; ".join(filter(None, (meaning, said)))
    return f"{word} ({inner})" if inner else word
