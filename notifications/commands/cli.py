"""The command line: what was asked for, checked before anything is opened."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import NoReturn, TypeVar

from notifications.commands.operation import Operation
from notifications.domain.errors import UsageFault
from notifications.domain.text import printable
from notifications.settings import Settings

T = TypeVar("T")

FIRST_YEAR, LAST_YEAR = 1971, 2199  # of any date or time: beyond them zones and clocks end
UID_BYTES = 1_500  # Firestore's limit for a document id
COUNT = re.compile(r"[1-9]\d{0,8}", re.ASCII)
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
RESENDABLE = ("missed", "dead", "unserved", "gave_up", "unfinished")
TAKES_NOW = (None, "audit", "resend", "preview", "show", "why")  # None: a tick


@dataclass(frozen=True, slots=True)
class Command:
    """One invocation. `operation` is set where it is not a tick."""

    now: datetime | None = None
    user: str | None = None
    every_minute: bool = False
    dry_run: bool = False
    operation: Operation | None = None
    sends: bool = True

    def check(self, settings: Settings) -> None:
        """Raises UsageFault for what these settings forbid."""
        if self.now and self.sends and not settings.store_is_local:
            raise UsageFault("--now would push at a pretended time to real people; add --dry-run, or use an emulator.")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageFault(f"{message}; see python job.py --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="job.py", description="One recap per user per day, at their local hour.", allow_abbrev=False)
    parser.add_argument("--dry-run", action="store_true", help="say who is due and why not; costs and writes nothing")
    parser.add_argument("--now", metavar="ISO8601", help="pretend time, with its UTC offset")
    parser.add_argument("--user", metavar="UID", help="this user only; still respects the claim")
    parser.add_argument("--every-minute", action="store_true", help="stay up and tick on the minute")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    looking = commands.add_parser("inspect", help="what Redis says, joined with the ledgers", allow_abbrev=False)
    looking.add_argument("--user", dest="only_user", metavar="UID")
    looking.add_argument("--date", metavar="YYYY-MM-DD")
    looking.add_argument("--keys", action="store_true", help="every key of this job, with its value and TTL")
    looking.add_argument("--json", action="store_true")
    auditing = commands.add_parser("audit", help="one date's accounts: due, sent, skipped …", allow_abbrev=False)
    auditing.add_argument("--date", metavar="YYYY-MM-DD")
    auditing.add_argument("--json", action="store_true")
    resending = commands.add_parser("resend", help="push a recap again, or make a missed one", allow_abbrev=False)
    resending.add_argument("uid", metavar="UID", nargs="?")
    resending.add_argument("only_date", metavar="DATE", nargs="?")
    resending.add_argument("--date", metavar="YYYY-MM-DD", help="of many: everybody whose day stands as --where says")
    resending.add_argument("--where", metavar="KINDS", help=f"any of {','.join(RESENDABLE)}")
    resending.add_argument("--limit", metavar="N", help="that many of them, and no more")
    resending.add_argument("--dry-run", dest="only_told", action="store_true", help="of many: count them, send nothing")
    asking = commands.add_parser("why", help="every gate of one user's day, and what comes next", allow_abbrev=False)
    asking.add_argument("uid", metavar="UID")
    asking.add_argument("date", metavar="DATE", nargs="?", help="unset: the latest slot's")
    showing = commands.add_parser("show", help="a stored recap in full, as an app shows it", allow_abbrev=False)
    showing.add_argument("uid", metavar="UID", nargs="?", help="unset: of the last push in the outbox")
    showing.add_argument("date", metavar="DATE", nargs="?", help="unset: the latest of the last days")
    looking_ahead = commands.add_parser("preview", help="makes a recap, stores and sends nothing", allow_abbrev=False)
    looking_ahead.add_argument("uid", metavar="UID")
    looking_ahead.add_argument("--date", metavar="YYYY-MM-DD", help="unset: the latest slot's")
    checking = commands.add_parser("doctor", help="checks everything, says what to do", allow_abbrev=False)
    checking.add_argument("--fix", action="store_true", help="mend users that the query can't see")
    checking.add_argument("--dry-run", dest="only_told", action="store_true", help="with --fix: say what would change")
    return parser


def parse(arguments: Sequence[str]) -> Command:
    """The command. Raises UsageFault; `--help` prints and exits 0."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageFault(f"the argument {printable(argument, 60)!r} is no UTF-8; write it as UTF-8.") from None
    asked = _parser().parse_args(arguments)
    _refuse_what_means_nothing(asked)
    return Command(
        now=_moment(asked.now),
        user=_uid(asked.user),
        every_minute=asked.every_minute,
        dry_run=asked.dry_run,
        operation=_operation(asked),
        sends=not (asked.dry_run or getattr(asked, "only_told", False)) and asked.command in (None, "resend"),
    )


def _refuse_what_means_nothing(asked: argparse.Namespace) -> None:
    """Each flag belongs to its command: one that would be ignored is a wish that nobody heard."""
    given = {"--dry-run": asked.dry_run, "--user": asked.user is not None, "--every-minute": asked.every_minute}
    given["--now"] = asked.now is not None and asked.command not in TAKES_NOW
    if asked.command and (flags := [flag for flag, there in given.items() if there]):
        raise UsageFault(f"{flags[0]} belongs to a tick; {asked.command} does not take it.")
    if asked.every_minute and (asked.now or asked.user is not None or asked.dry_run):
        raise UsageFault("--every-minute goes alone: it serves everybody, in real time.")


def _operation(asked: argparse.Namespace) -> Operation | None:
    if asked.command == "inspect":
        from notifications.commands.inspect import inspect, inspect_keys

        looking = inspect_keys if asked.keys else inspect
        return looking(_uid(asked.only_user), _date(asked.date), as_json=asked.json)
    if asked.command == "audit":
        from notifications.commands.audit import audit

        return audit(_date(asked.date), as_json=asked.json)
    if asked.command == "resend":
        return _resending(asked)
    if asked.command == "why":
        from notifications.commands.why import why

        return why(_required(_uid(asked.uid)), _date(asked.date))
    if asked.command == "show":
        from notifications.commands.show import show

        return show(_uid(asked.uid), _date(asked.date))
    if asked.command == "preview":
        from notifications.commands.preview import preview

        return preview(_required(_uid(asked.uid)), _date(asked.date))
    if asked.command == "doctor":
        from notifications.commands.doctor import doctor

        if asked.only_told and not asked.fix:
            raise UsageFault("--dry-run belongs to doctor --fix: without it nothing is changed anyway.")
        return doctor(fix=asked.fix, write=not asked.only_told)
    if asked.dry_run:
        from notifications.commands.dry_run import dry_run

        return dry_run(_uid(asked.user))
    return None


def _resending(asked: argparse.Namespace) -> Operation:
    """One user's day, or the days of many."""
    if asked.where is None:
        if asked.uid is None or asked.only_date is None or asked.date or asked.limit or asked.only_told:
            raise UsageFault("resend takes UID and DATE, or --date with --where; see python job.py resend --help.")
        from notifications.commands.resend import resend

        return resend(_required(_uid(asked.uid)), _required(_date(asked.only_date)))
    if asked.uid is not None or asked.date is None:
        raise UsageFault("resend --where takes --date, and no UID: it is about everybody of that date.")
    from notifications.commands.resend_many import Which, resend_many

    kinds = frozenset(asked.where.split(","))
    if unknown := sorted(kinds - frozenset(RESENDABLE)):
        raise UsageFault(f"--where {printable(unknown[0], 60)!r} is none of {', '.join(RESENDABLE)}.")
    which = Which(_required(_date(asked.date)), kinds, _count(asked.limit))
    return resend_many(which, write=not asked.only_told)


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not COUNT.fullmatch(text):
        raise UsageFault(f"--limit {printable(text, 60)!r} is no number of users; write --limit 100.")
    return int(text)


def _uid(text: str | None) -> str | None:
    """A user's document id, by Firestore's own rules: what is none must not become a path."""
    if text is None:
        return None
    reserved = text in (".", "..") or (text.startswith("__") and text.endswith("__"))
    if not text or "/" in text or "\0" in text or reserved or len(text.encode()) > UID_BYTES:
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
        if not FIRST_YEAR < moment.year < LAST_YEAR:
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
        raise UsageFault(f"{shown!r} is no date; write 2026-03-29.") from None
    if not FIRST_YEAR < day.year < LAST_YEAR:
        raise UsageFault(f"{shown!r} is beyond the years {FIRST_YEAR} to {LAST_YEAR}.")
    return day
