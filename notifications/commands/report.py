"""`report [--date D] [-o FILE]`: one date as a page to look at. One file, no script, no network, no user's text."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from html import escape
from itertools import pairwise
from pathlib import Path

from notifications.commands.audit import PERSON, TOLD, WAITS, Account
from notifications.commands.context import RESENDABLE, Context
from notifications.commands.reasons import in_words
from notifications.commands.terminal import say_wrapped, several
from notifications.commands.user_days import AT_WORK, UNKNOWN, UserDay, UserDays, queries, slot_of
from notifications.domain.errors import UsageFault
from notifications.domain.model import DayState
from notifications.domain.text import printable

LATE_MINUTES = (1, 5, 15, 30, 60, 120)  # minutes after the slot; later pushes share a last column
LLM_SECONDS = (1, 2, 5, 10, 20, 60)
WAITING = ("waiting", "unfinished")
UNREACHED = ("not_reached", "unreached")
LOST = ("missed", "dead", "gave_up", "unserved", "unreadable")
KINDS = (
    "sent",
    "extract",
    "no_devices",
    "skipped",
    "waiting",
    "held",
    "unreached",
    "lost",
)  # the rows of the heat map's legend
MAX_PEOPLE = 200  # users that are listed by uid; the others are only counted


@dataclass(slots=True)
class Figures:
    """Only counts, so that memory is constant for any number of users."""

    account: Account  # what `audit` says of it
    to_do: dict[str, list[str]] = field(default_factory=dict)
    due: int = 0
    invisible: int = 0  # users that the query can't see, whatever the date
    cells: dict[tuple[str, int], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # zone, hour
    kinds: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)  # days by state
    late: Counter[int] = field(default_factory=Counter)  # pushes by index in LATE_MINUTES
    latency: Counter[int] = field(default_factory=Counter)  # recaps by index in LLM_SECONDS
    failed_at: Counter[int] = field(default_factory=Counter)  # days with a failure or a retry, by hour in UTC
    reasons: Counter[str] = field(default_factory=Counter)  # failures by reason
    devices: Counter[str] = field(default_factory=Counter)  # devices by FCM's answer
    retried: int = 0
    people: list[tuple[str, str, str]] = field(default_factory=list)  # uid, state, why
    more_people: int = 0

    @property
    def day(self) -> date:
        return self.account.query.day

    def add(self, row: UserDay) -> None:
        self.account.add(row)
        kind = kind_of(row)
        invisible = row.listed.user is None
        self.invisible += invisible
        if kind is None and not invisible:
            return
        if kind is not None:
            self._count(row, kind)
        if kind == "lost" or invisible:
            self._name(row)

    def _count(self, row: UserDay, kind: str) -> None:
        self.due += 1
        self.kinds[kind] += 1
        self.lost[row.state or ""] += kind == "lost"
        slot = slot_of(row.listed, self.day)
        if slot is not None and row.listed.user is not None:
            self.cells[row.listed.user.zone, row.listed.user.hour][kind] += 1
        entry, is_open = row.ledger, row.state in WAITING and row.reason not in AT_WORK
        if is_open or (entry is not None and (entry.failures or entry.crashes or entry.may_repeat or entry.reason)):
            self._count_failure(row, slot.at if slot else None)
        if entry is None:
            return
        if slot is not None and entry.sent_at is not None and entry.seq == 1 and entry.ending == "sent":
            minutes = (entry.sent_at - slot.at).total_seconds() / 60
            self.late[bisect_left(LATE_MINUTES, minutes)] += 1
        self.devices.update(entry.devices.values())
        if entry.source and entry.llm_seconds is not None:
            self.latency[bisect_left(LLM_SECONDS, entry.llm_seconds)] += 1

    def _count_failure(self, row: UserDay, slot_at: datetime | None) -> None:
        entry, at = row.ledger, slot_at
        self.retried += 1
        if entry is not None:
            at = entry.sent_at or entry.sending_at or at
        of_ledger = ""
        if entry is not None:
            a_run_died = entry.crashes or entry.repeats or entry.may_repeat
            of_ledger = entry.reason or ("crash" if a_run_died else "push")
        self.reasons[in_words(row.reason or of_ledger)] += 1
        if at is not None:
            self.failed_at[at.hour] += 1

    def _name(self, row: UserDay) -> None:
        if len(self.people) >= MAX_PEOPLE:
            self.more_people += 1
            return
        entry = row.ledger
        why = " ".join(filter(None, (entry.outcome, entry.reason))) if entry is not None else ""
        self.people.append((row.uid, row.state or "invisible", why or row.listed.flaw.partition(": ")[2]))


def kind_of(row: UserDay) -> str | None:
    """The day's colour on the heat map; None if it was not due, or may not have been."""
    if row.state in (None, UNKNOWN):
        return None
    if row.has_unfinished_resend or row.state in LOST:
        return "lost"
    if row.state in WAITING:
        return "waiting"
    if row.state in UNREACHED:
        return "unreached"
    if row.state in (DayState.SKIPPED, "no_devices", "held"):
        return row.state
    return "extract" if row.ledger is not None and row.ledger.source == "extract" else "sent"


STDOUT = "-"


async def report(day: date | None, output: Path | None, context: Context) -> int:
    """Print the page of a date, by default yesterday in UTC; on a terminal also today so far. In constant memory."""
    days: list[Figures] = []
    async with context.open_services() as services:
        for query in await queries(day, context, services, today=sys.stdout.isatty()):
            days.insert(0, figures := Figures(Account(query)))
            async with aclosing(UserDays(services, query).pages()) as pages:
                async for page_of_users in pages:
                    for row in page_of_users:
                        figures.add(row)
            figures.to_do = figures.account.to_do(services.store.ledger_path)
    path, html = output or Path(f"report-{days[0].day}.html"), page(days)
    if str(path) == STDOUT:
        sys.stdout.write(html.encode("ascii", "xmlcharrefreplace").decode())  # ASCII, whatever the locale
        return 0
    try:
        path.write_text(html, encoding="utf-8")
    except OSError as cause:
        raise UsageFault(f"{path} can't be written ({cause.strerror}); name another with -o.") from cause
    due = "; ".join(f"{one.day}{one.account.query.so_far}: {one.due:,} due" for one in reversed(days))
    say_wrapped(f"{due}; the page is {path}: open it in a browser.")
    return 0


ZONES = 60  # rows of the heat map: those with most users; the rest is one row
WORST_FIRST = ("lost", "unreached", "held", "waiting", "extract", "no_devices", "skipped", "sent")
NAMED = {
    "sent": "sent, by the LLM",
    "extract": "sent, as an extract",
    "no_devices": "without a target",
    "unreached": "not reached",
}
REST = "all others"
OPEN = ("waiting", "held", "unreached")
NO_PUSH = "no push was accepted"
NO_ANSWER = "no push was accepted, and no device or address is known to be gone"
NO_FAILURE = "none is recorded; what a run met and got over is in its log alone"
UNKNOWN_COST = "no recap is stored yet, nor a cost: what failed calls cost may be in the summary of their run alone"
UID_SHOWN, FIELD_SHOWN = 60, 80  # characters
COMMANDS = {
    "missed": "python job.py resend {uid} {day}",
    "dead": "python job.py why {uid} {day}",
    "gave_up": "python job.py resend {uid} {day}",
    "unserved": "python job.py resend {uid} {day}",
    "unfinished": "python job.py resend {uid} {day}",
    "unreadable": "python job.py why {uid} {day}",
    "invisible": "python job.py doctor --fix",
}
STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def page(days: Sequence[Figures]) -> str:
    """The page as HTML."""
    body = "".join(part for figures in days for part in _parts(figures))
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    title = f"<title>Recaps of {days[0].day}</title><style>{STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}{title}</head><body>{body}</body></html>\n'


def _parts(figures: Figures) -> list[str]:
    query = figures.account.query
    late = _bars(_spans(figures.late, LATE_MINUTES, "min"), "sent", _none(figures, NO_PUSH))
    answered = _bars(sorted(figures.devices.items()), "sent", _none(figures, NO_ANSWER))
    return [
        f"<h1>Recaps of {figures.day}{query.so_far and ', so far'}</h1>",
        f'<p class="dim">as it stood on {query.now.astimezone(UTC):%Y-%m-%d %H:%M} UTC</p>',
        _verdict(figures),
        _share(figures.kinds, figures.due),
        _section("The day by zone and local hour", _heat_map(figures)),
        _section("How late they came, after the hour (first pushes)", late),
        _section("The LLM", _llm(figures)),
        _section("Failures and retries", _failures(figures)),
        _section("Devices and addresses, as they answered", answered),
        _section(PERSON, _people(figures)),
        *(_section(who, _lines(figures, who)) for who in (WAITS, TOLD) if figures.to_do.get(who)),
    ]


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>{body}"


def _verdict(figures: Figures) -> str:
    lost, invisible = figures.kinds["lost"], figures.invisible
    if not figures.account.is_wrong:
        verdict = figures.account.verdict
        if verdict == "all well":
            verdict = "all well: every user who was due has a recap, or was skipped"
        colour = "alarm" if figures.account.has_failures else "well"
        return f'<p class="{colour}">{escape(verdict[0].upper() + verdict[1:])}.</p>'
    kinds = [kind for kind in RESENDABLE if figures.lost[kind]]
    by_kind = f" ({', '.join(f'{figures.lost[kind]:,} {kind}' for kind in kinds)})" if kinds else ""
    command = f"python job.py resend --date {figures.day} --where {','.join(kinds)} --dry-run"
    again = f" <code>{command}</code> counts whom a resend would serve." if kinds else ""
    unseen = (
        f" {_users(invisible)} not seen by the query: <code>python job.py doctor --fix</code>." if invisible else ""
    )
    without = f"{_users(lost)} without the recap that was owed{by_kind}.{again}" if lost else ""
    unreached = figures.account.counts["unreached"]
    why = escape(figures.account.why_open("unreached"))
    reached = f" {_users(unreached)} not reached by any run yet{why}: check the scheduler." if unreached else ""
    rest = "" if without or unseen or reached else "Something is wrong: python job.py audit says what."
    return f'<p class="alarm">{without}{unseen}{reached}{rest}</p>'


def _users(count: int) -> str:
    return f"{count:,} user is" if count == 1 else f"{count:,} users are"


def _share(kinds: Counter[str], due: int) -> str:
    if not due:
        return "<p>No user was due.</p>"
    bar = "".join(f'<i class="{kind}" style="width:{100 * kinds[kind] / due:.2f}%"></i>' for kind in KINDS)
    keys = "".join(f'<span><i class="key {kind}"></i>{kinds[kind]:,} {NAMED.get(kind, kind)}</span>' for kind in KINDS)
    return f'<p>{several(due, "user")} due.</p><div class="bar">{bar}</div><p class="keys">{keys}</p>'


def _heat_map(figures: Figures) -> str:
    if not figures.cells:
        return '<p class="dim">No user was due.</p>'
    sizes: Counter[str] = Counter()
    for (zone, _), counts in figures.cells.items():
        sizes[zone] += counts.total()
    shown = [zone for zone, _ in sizes.most_common(ZONES)]
    merged: dict[tuple[str, int], Counter[str]] = {}
    for (zone, hour), counts in figures.cells.items():
        place = (zone if zone in shown else REST, hour)
        merged[place] = merged.get(place, Counter()) + counts
    rows = sorted(shown) + ([REST] if len(sizes) > ZONES else [])
    hours = sorted({hour for _, hour in figures.cells})  # empty columns would not fit on a phone
    head = "".join(f"<th>{hour}</th>" for hour in hours)
    body = "".join(
        f'<tr><th class="zone">{escape(zone)}</th>{"".join(_cell(merged.get((zone, hour))) for hour in hours)}</tr>'
        for zone in rows
    )
    legend = (
        '<p class="dim">A cell is the number of users, in the colour of the worst that happened to over 1 in 100.</p>'
    )
    return f'{legend}<div class="wide"><table class="map"><tr><th class="zone">zone</th>{head}</tr>{body}</table></div>'


def _cell(counts: Counter[str] | None) -> str:
    if not counts:
        return "<td></td>"
    total = counts.total()
    worst = next(kind for kind in WORST_FIRST if counts[kind] * 100 > total)
    title = ", ".join(f"{counts[kind]} {NAMED.get(kind, kind)}" for kind in KINDS if counts[kind])
    return f'<td class="{worst}" title="{title}">{_short(total)}</td>'


def _short(count: int) -> str:
    return f"{count}" if count < 1_000 else f"{count / 1_000:.0f}k"


def _spans(counts: Counter[int], ends: Sequence[int], unit: str) -> list[tuple[str, int]]:
    names = [f"up to {ends[0]} {unit}", *(f"{start} to {end} {unit}" for start, end in pairwise(ends))]
    names.append(f"over {ends[-1]} {unit}")
    return [(name, counts[place]) for place, name in enumerate(names)]


def _bars(rows: Iterable[tuple[str, int]], kind: str, none: str) -> str:
    """One bar a row; `none`: the sentence where there is nothing to show."""
    shown = [(name, count) for name, count in rows if count]
    if not shown:
        return f'<p class="dim">{none}.</p>'
    highest = max(count for _, count in shown)
    return "".join(
        f'<div class="row"><span>{_safe(name)}</span><i class="{kind}" style="width:{100 * count / highest:.1f}%"></i>'
        f"<b>{count:,}</b></div>"
        for name, count in shown
    )


def _safe(text: str) -> str:
    return escape(printable(text, FIELD_SHOWN))


def _llm(figures: Figures) -> str:
    account = figures.account
    is_open = account.oldest.keys() - {"unreached"}
    money = f"<p>{escape(account.costs.in_words or (UNKNOWN_COST if is_open else 'no call was paid for'))}.</p>"
    return money + (_bars(_spans(figures.latency, LLM_SECONDS, "s"), "extract", "") if figures.latency else "")


def _none(figures: Figures, sentence: str) -> str:
    """The sentence, and who is still open: to them it may yet happen, or does just now."""
    still_open = (f"{figures.kinds[kind]:,} {NAMED.get(kind, kind)}" for kind in OPEN if figures.kinds[kind])
    return "; ".join([sentence if figures.due else "nobody was due", *still_open]).capitalize()


def _failures(figures: Figures) -> str:
    if not figures.retried:
        return f'<p class="dim">{_none(figures, NO_FAILURE)}.</p>'
    by_hour = ((f"{hour:02}:00 UTC", figures.failed_at[hour]) for hour in range(24))
    users = f"<p>{several(figures.retried, 'user')}: another try was needed, or still is.</p>"
    bars = _bars(figures.reasons.most_common(10), "waiting", "")
    return f"{users}{bars}<p>When:</p>{_bars(by_hour, 'waiting', 'Unknown')}"


def _lines(figures: Figures, who: str) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in figures.to_do.get(who, ()))


def _people(figures: Figures) -> str:
    cures = _lines(figures, PERSON)
    if not figures.people:
        looks = " python job.py doctor looks for the cause." if any(figures.kinds[kind] for kind in OPEN) else ""
        return cures or f'<p class="dim">{_none(figures, "nobody")}.{looks}</p>'
    rows = "".join(_person(figures.day, *person) for person in figures.people)
    audit = f"<code>python job.py audit --date {figures.day} --json</code> has all"
    more = f"<p>and {figures.more_people:,} more; {audit}.</p>" if figures.more_people else ""
    head = "<tr><th>user</th><th>state</th><th>why</th><th>type</th></tr>"
    return f'{cures}<div class="wide"><table>{head}{rows}</table></div>{more}'


def _person(day: date, uid: str, state: str, why: str) -> str:
    shown = printable(uid, UID_SHOWN)
    plain = shown == uid and uid.replace("-", "").replace("_", "").isalnum() and uid.isascii()
    command = COMMANDS.get(state, "python job.py why {uid} {day}").format(uid=uid if plain else "UID", day=day)
    cells = f"<td>{escape(shown)}</td><td>{escape(state)}</td><td>{_safe(why)}</td>"
    return f"<tr>{cells}<td><code>{escape(command)}</code></td></tr>"
