"""The command line: what was asked for, checked before anything is opened."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from notifications.commands.operation import RESENDABLE, Operation
from notifications.domain.errors import UsageFault
from notifications.domain.model import FIRST_YEAR, LAST_YEAR, in_range
from notifications.domain.schedule import zone_names
from notifications.domain.text import is_document_id, printable
from notifications.ports import Decided
from notifications.settings import Settings

DATE: dict[str, Any] = {"metavar": "YYYY-MM-DD"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageFault(f"{message}; see python job.py --help.")


def _told(example: str, ends: str) -> dict[str, Any]:
    """The end of a help text, and that no flag is guessed from its beginning."""
    codes = f"exit codes: {ends};\n2 usage, 3 bad configuration, 4 a dependency stopped it"
    epilog = f"example: python job.py {example}\n{codes}"
    return {"epilog": epilog, "formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}


def parser() -> argparse.ArgumentParser:
    """Of the whole command line. Raises UsageFault for what it does not know."""
    ends = "0 all handled or safely waiting, 1 a defect,\n5 somebody's day ended without a recap"
    top = _Parser(
        prog="job.py", description="One recap per user per day, at their local hour.", **_told("--dry-run", ends)
    )
    top.add_argument("--dry-run", action="store_true", help="say who is due and why not; costs and writes nothing")
    top.add_argument("--now", metavar="ISO8601", help="pretend time, with its UTC offset")
    top.add_argument("--user", metavar="UID", help="this user only; still respects the claim")
    top.add_argument("--every-minute", action="store_true", help="stay up and tick on the minute")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, what: str, example: str, ends: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=what, description=what, **_told(f"{name} {example}".strip(), ends))

    one = command("why", "every gate of one user's day, and what comes next", "ann", "0 well, 1 the day goes wrong")
    one.add_argument("uid", metavar="UID")
    one.add_argument("date", nargs="?", help="unset: the latest slot's", **DATE)
    one = command("show", "a stored recap in full, as an app shows it", "ann 2026-11-25", "0 shown, 1 there is none")
    one.add_argument("uid", metavar="UID", nargs="?", help="unset: of the last push in the outbox")
    one.add_argument("date", nargs="?", help="unset: the latest of the last days", **DATE)
    one = command("preview", "makes a recap, stores and sends nothing", "ann", "0 made, 1 there is nothing to say")
    one.add_argument("uid", metavar="UID")
    one.add_argument("--date", help="unset: the latest slot's", **DATE)
    one = command("inspect", "what Redis says, joined with the ledgers", "--user ann", "0")
    one.add_argument("--user", dest="only_user", metavar="UID", help="unset: everybody's claims, and open ledgers")
    one.add_argument("--date", help="unset: the last days", **DATE)
    one.add_argument("--keys", action="store_true", help="every key of this job, with its value and TTL")
    one.add_argument("--json", action="store_true")
    one = command("audit", "one date's accounts", "--date 2026-11-25", "0 all well, 1 something is wrong")
    one.add_argument("--date", help="unset: yesterday's, in UTC", **DATE)
    one.add_argument("--json", action="store_true", help="one object a line for each user, then the sums")
    one = command("report", "one date as a page to look at", "--date 2026-11-25 -o report.html", "0")
    one.add_argument("--date", help="unset: yesterday's, in UTC", **DATE)
    one.add_argument("-o", dest="output", metavar="FILE", help="unset: report-DATE.html; - is stdout")
    one = command(
        "resend",
        "push a recap again, or make a missed one; with --where for many",
        "--date 2026-11-25 --where missed,dead --dry-run",
        "0 nobody is owed one, 1 unfinished (say it again),\n5 somebody is left without a recap",
    )
    one.add_argument("uid", metavar="UID", nargs="?", help="of one user's day, with DATE")
    one.add_argument("only_date", metavar="DATE", nargs="?", help="which day")
    one.add_argument("--date", help="of many: everybody whose day stands as --where says", **DATE)
    one.add_argument("--where", metavar="KINDS", help=f"any of {','.join(RESENDABLE)}")
    one.add_argument("--limit", metavar="N", help="that many of them, and no more")
    one.add_argument("--dry-run", dest="only_told", action="store_true", help="of many: count them, send nothing")
    one = command("doctor", "checks everything, says what to do", "--fix --dry-run", "0 all well, 1 something to do")
    one.add_argument("--fix", action="store_true", help="mend users that the query can't see")
    one.add_argument("--zone", metavar="ZONE", help="with --fix: for who has none, or one that is none")
    one.add_argument("--hour", metavar="H", help="with --fix: for who has none, or one that is none")
    one.add_argument("--enable", action="store_true", help="with --fix: switch on who has no switch")
    one.add_argument("--dry-run", dest="only_told", action="store_true", help="with --fix: say what would change")
    one = command("import", "users into the data folder or an emulator", "users.jsonl", "0 in, 1 a line was refused")
    one.add_argument("file", metavar="FILE.jsonl", help="one user a line, as in docs/documents.md; - is stdin")
    one = command("samples", "put sample users in, due now", "--remove", "0")
    one.add_argument("--remove", action="store_true", help="take them out, with all that was made for them")
    return top


T = TypeVar("T")

HOUR = re.compile(r"[01]?\d|2[0-3]", re.ASCII)
COUNT = re.compile(r"[1-9]\d{0,8}", re.ASCII)
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
TAKES_NOW = (None, "audit", "resend", "preview", "show", "why", "samples", "report")  # None: a tick


@dataclass(frozen=True, slots=True)
class Command:
    """One invocation. `operation` is set where it is not a tick."""

    now: datetime | None = None
    user: str | None = None
    every_minute: bool = False
    dry_run: bool = False
    operation: Operation | None = None
    sends: bool = True
    local: bool = False  # it writes what an app otherwise writes
    fills: bool = True  # a new data folder, with sample users

    @property
    def is_the_schedulers(self) -> bool:
        """Whether it is what a scheduler starts: a tick for everybody, now."""
        return self.operation is None and self.user is None and self.now is None

    def check(self, settings: Settings) -> None:
        """Raises UsageFault for what these settings forbid."""
        if self.now and self.sends and not settings.store_is_local:
            raise UsageFault("--now would push at a pretended time to real people; add --dry-run, or use an emulator.")
        if self.local and not settings.store_is_local:
            raise UsageFault(
                "this writes users into the data folder or an emulator; a real project's app writes its own."
            )


def parse(arguments: Sequence[str]) -> Command:
    """The command. Raises UsageFault; `--help` prints and exits 0."""
    asked = parser().parse_args([_as_utf8(one) for one in arguments])
    _reject_incompatible_flags(asked)
    return Command(
        now=_moment(asked.now),
        user=_uid(asked.user),
        every_minute=asked.every_minute,
        dry_run=asked.dry_run,
        operation=_operation(asked),
        sends=not (asked.dry_run or getattr(asked, "only_told", False)) and asked.command in (None, "resend"),
        local=asked.command in ("import", "samples"),
        fills=asked.remove if asked.command == "samples" else asked.command is None and not asked.dry_run,
    )


def _as_utf8(argument: str) -> str:
    """The argument as it was typed: in the locale C Python reads it as ASCII."""
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        raise UsageFault(f"the argument {printable(argument, 60)!r} is no UTF-8; write it as UTF-8.") from None


def _path(text: str) -> Path:
    """A file by that name: its bytes are UTF-8, whatever the locale."""
    return Path(os.fsdecode(text.encode()))


def _reject_incompatible_flags(asked: argparse.Namespace) -> None:
    """Each flag belongs to its command: one that would be ignored is a wish that nobody heard."""
    given = {"--dry-run": asked.dry_run, "--user": asked.user is not None, "--every-minute": asked.every_minute}
    given["--now"] = asked.now is not None and asked.command not in TAKES_NOW
    if asked.command and (flags := [flag for flag, there in given.items() if there]):
        raise UsageFault(f"{flags[0]} belongs to a tick; {asked.command} does not take it.")
    if asked.every_minute and (asked.now or asked.user is not None or asked.dry_run):
        raise UsageFault("--every-minute goes alone: it serves everybody, in real time.")


def _operation(asked: argparse.Namespace) -> Operation | None:
    match asked.command:
        case "inspect":
            from notifications.commands.inspect import inspect, inspect_keys

            looking = inspect_keys if asked.keys else inspect
            return partial(looking, _uid(asked.only_user), _date(asked.date), as_json=asked.json)
        case "audit":
            from notifications.commands.audit import audit

            return partial(audit, _date(asked.date), as_json=asked.json)
        case "report":
            from notifications.commands.report import report

            return partial(report, _date(asked.date), _path(asked.output) if asked.output else None)
        case "resend":
            return _resending(asked)
        case "why":
            from notifications.commands.why import why

            return partial(why, _required(_uid(asked.uid)), _date(asked.date))
        case "show":
            from notifications.commands.show import show

            return partial(show, _uid(asked.uid), _date(asked.date))
        case "preview":
            from notifications.commands.preview import preview

            return partial(preview, _required(_uid(asked.uid)), _date(asked.date))
        case "doctor":
            return _doctoring(asked)
        case "import":
            from notifications.commands.import_users import import_users

            return partial(import_users, _path(asked.file))
        case "samples":
            from notifications.commands.import_users import samples

            return partial(samples, remove=asked.remove)
    if asked.dry_run:
        from notifications.commands.dry_run import dry_run

        return partial(dry_run, _uid(asked.user))
    return None


def _doctoring(asked: argparse.Namespace) -> Operation:
    from notifications.commands.doctor import Fix, doctor

    if asked.fix:
        decided = Decided(_zone(asked.zone), _hour(asked.hour), asked.enable)
        return partial(doctor, Fix(decided, write=not asked.only_told))
    given = {"--dry-run": asked.only_told, "--zone": asked.zone is not None, "--hour": asked.hour is not None}
    if flags := [flag for flag, there in (given | {"--enable": asked.enable}).items() if there]:
        raise UsageFault(f"{flags[0]} belongs to doctor --fix: without it nothing is changed anyway.")
    return partial(doctor, None)


def _resending(asked: argparse.Namespace) -> Operation:
    if asked.where is None:
        if asked.uid is None or asked.only_date is None or asked.date or asked.limit or asked.only_told:
            raise UsageFault("resend takes UID and DATE, or --date with --where; see python job.py resend --help.")
        from notifications.commands.resend import resend

        return partial(resend, _required(_uid(asked.uid)), _required(_date(asked.only_date)))
    if asked.uid is not None or asked.date is None:
        raise UsageFault("resend --where takes --date, and no UID: it is about everybody of that date.")
    from notifications.commands.resend.many import Which, resend_many

    kinds = frozenset(asked.where.split(","))
    if unknown := sorted(kinds - frozenset(RESENDABLE)):
        raise UsageFault(f"--where {printable(unknown[0], 60)!r} is none of {', '.join(RESENDABLE)}.")
    which = Which(_required(_date(asked.date)), kinds, _count(asked.limit))
    return partial(resend_many, which, write=not asked.only_told)


def _zone(text: str | None) -> str | None:
    if text is not None and text not in zone_names():
        raise UsageFault(f"--zone {printable(text, 60)!r} is no IANA time zone; names are exact, such as Europe/Paris.")
    return text


def _hour(text: str | None) -> int | None:
    if text is not None and not HOUR.fullmatch(text):
        raise UsageFault(f"--hour {printable(text, 60)!r} is no hour; write a whole number from 0 to 23.")
    return None if text is None else int(text)


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not COUNT.fullmatch(text):
        raise UsageFault(f"--limit {printable(text, 60)!r} is no number of users; write --limit 100.")
    return int(text)


def _uid(text: str | None) -> str | None:
    """A user's document id; what is none must not become a path."""
    if text is None:
        return None
    if not is_document_id(text):
        raise UsageFault(f"{printable(text, 60)!r} is no uid; it is the id of a document in users/.")
    return text


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    shown = printable(text, 60)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise UsageFault(f"--now {shown!r} has no UTC offset; write 2026-03-29T01:00:00Z.")
        if not in_range(moment):
            raise UsageFault(f"--now {shown!r} is beyond the years {FIRST_YEAR} to {LAST_YEAR}.")
        return moment.astimezone(UTC)
    except ValueError:
        raise UsageFault(f"--now {shown!r} is no time; write 2026-03-29T01:00:00Z.") from None


def _required(found: T | None) -> T:
    assert found is not None  # noqa: S101 - argparse saw to it
    return found


def _date(text: str | None) -> date | None:
    if text is None:
        return None
    shown = printable(text, 60)
    try:
        if not DAY.fullmatch(text):
            raise ValueError(text)
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageFault(f"{shown!r} is no date; write it as 2026-03-29.") from None
    if not in_range(day):
        raise UsageFault(f"{shown!r} is beyond the years {FIRST_YEAR} to {LAST_YEAR}.")
    return day
