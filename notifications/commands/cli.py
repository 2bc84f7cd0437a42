"""The command line, checked before anything is opened."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from notifications.commands.context import OPEN_STATES, RESENDABLE, Operation
from notifications.domain.errors import UsageFault
from notifications.domain.model import FIRST_YEAR, LAST_YEAR, in_range
from notifications.domain.schedule import zone_names
from notifications.domain.text import is_document_id, printable
from notifications.ports import Decided
from notifications.settings import Settings

HOUR = re.compile(r"[01]?\d|2[0-3]", re.ASCII)
COUNT = re.compile(r"[1-9]\d{0,8}", re.ASCII)
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
DAYS_AGO = {"today": 0, "yesterday": 1}
STATES = (*OPEN_STATES, "sent", "no_devices", "skipped", *RESENDABLE, "unreadable")  # of a day
SERVED_BY_RUNS = ("waiting", "not_reached", "unreached")
READS = ("why", "show", "preview", "inspect", "audit", "report")
TAKES_NOW = (None, "inspect", "audit", "resend", "preview", "show", "why", "samples", "report")  # None: a tick


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageFault(f"{message}; see python job.py --help.")


def _help(example: str, **codes: str) -> dict[str, Any]:
    """Arguments of each parser: the end of the help text, and no abbreviated flags. `codes`: exit_0 and so on."""
    common = {
        "exit_1": "a defect",
        "exit_2": "usage",
        "exit_3": "bad configuration",
        "exit_4": "a dependency stopped it",
    }
    lines = [f"{name.removeprefix('exit_')} {what}" for name, what in sorted((common | codes).items())]
    epilog = f"example: python job.py {example}\nexit codes: " + "\n            ".join(lines)
    return {"epilog": epilog, "formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}


def _uid(text: str) -> str:
    """A user's document id: anything else must not become a path."""
    if not is_document_id(text):
        raise UsageFault(f"{printable(text, 60)!r} is no uid; it is the id of a user's document.")
    return text


def _date(text: str) -> date:
    shown = printable(text, 60)
    if text in DAYS_AGO:
        return datetime.now(UTC).date() - timedelta(days=DAYS_AGO[text])
    try:
        if not DAY.fullmatch(text):
            raise ValueError(text)
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageFault(f"{shown!r} is no date; write it as 2026-03-29, today or yesterday (in UTC).") from None
    if not in_range(day):
        raise UsageFault(f"{shown!r} is beyond the years {FIRST_YEAR} to {LAST_YEAR}.")
    return day


def _moment(text: str) -> datetime:
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


def _zone(text: str) -> str:
    if text not in zone_names():
        raise UsageFault(f"--zone {printable(text, 60)!r} is no IANA time zone; names are exact, such as Europe/Paris.")
    return text


def _hour(text: str) -> int:
    if not HOUR.fullmatch(text):
        raise UsageFault(f"--hour {printable(text, 60)!r} is no hour; write a whole number from 0 to 23.")
    return int(text)


def _count(text: str) -> int:
    if not COUNT.fullmatch(text):
        raise UsageFault(f"--limit {printable(text, 60)!r} is no number of users; write --limit 100.")
    return int(text)


def _kinds(text: str, known: Sequence[str] = RESENDABLE) -> frozenset[str]:
    kinds = frozenset(text.split(","))
    if unknown := sorted(kinds - frozenset(known)):
        raise UsageFault(f"--where {printable(unknown[0], 60)!r} is none of {', '.join(known)}.")
    return kinds


def _resendable(text: str) -> frozenset[str]:
    """States of days that a resend ends; and `held`, whose refusal says from the claims when they are free."""
    for kind in text.split(","):
        if kind in SERVED_BY_RUNS:
            what = f"the next runs serve who is {kind} by themselves"
            raise UsageFault(f"--where {kind!r} is none of {', '.join(RESENDABLE)}: {what}.")
    return frozenset({"held"}) if "held" in text.split(",") else _kinds(text)


def _states(text: str) -> frozenset[str]:
    return _kinds(text, STATES)


def _path(text: str) -> Path:
    """A file by that name: its bytes are UTF-8, whatever the locale."""
    return Path(os.fsdecode(text.encode()))


UID: dict[str, Any] = {"metavar": "UID", "type": _uid}
DATE: dict[str, Any] = {"metavar": "YYYY-MM-DD", "type": _date}
SWITCH: dict[str, Any] = {"action": "store_true"}


def parser() -> argparse.ArgumentParser:
    """The parser of the command line. Raises UsageFault for what it does not know."""
    codes = {
        "exit_0": "all handled or safely waiting",
        "exit_1": "a defect, a document that nobody can serve, all devices gone",
        "exit_5": "a day ended without a recap; of several: the first of 3, 4, 1, 5",
    }
    top = _Parser(
        prog="job.py", description="One recap per user per day, at their local hour.", **_help("--dry-run", **codes)
    )
    top.add_argument("--dry-run", **SWITCH, help="say who is due and why not; costs and writes nothing")
    top.add_argument("--all", dest="whole", **SWITCH, help="with --dry-run: each user, not only a screen")
    top.add_argument(
        "--now",
        metavar="ISO8601",
        type=_moment,
        help="pretend time, with its UTC offset; ahead, a day that is served is spent",
    )
    top.add_argument("--user", **UID, help="this user only; still respects the claim")
    top.add_argument("--every-minute", **SWITCH, help="stay up and tick on the minute")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def command(what: str, example: str, done: str, wrong: str = "", **codes: str) -> argparse.ArgumentParser:
        """`done`: exit code 0; `wrong`: 1, beside a defect."""
        codes |= {"exit_0": done} | ({"exit_1": f"{wrong}, or a defect"} if wrong else {})
        name = example.split()[0]
        return commands.add_parser(name, help=what, description=what, **_help(example, **codes))

    why = command("every gate of one user's day, and what comes next", "why ann", "well", "the day goes wrong")
    why.add_argument("uid", **UID)
    why.add_argument("date", nargs="?", help="unset: the last that the user could have had, else the next", **DATE)
    show = command("a stored recap in full, as an app shows it", "show ann 2026-11-25", "shown", "there is none")
    show.add_argument("uid", nargs="?", help="unset: of the last push in the outbox", **UID)
    show.add_argument("date", nargs="?", help="unset: the latest of the last days", **DATE)
    preview = command("makes a recap, stores and sends nothing", "preview ann", "made", "there is nothing to say")
    preview.add_argument("uid", **UID)
    preview.add_argument("--date", help="unset: the day that why is about", **DATE)
    inspect = command("what Redis says, joined with the ledgers", "inspect --user ann", "listed")
    inspect.add_argument("--user", dest="only_user", help="unset: all users' claims, and open ledgers", **UID)
    inspect.add_argument("--date", help="unset: the last days", **DATE)
    inspect.add_argument("--keys", **SWITCH, help="every key of this job, with its value and TTL")
    inspect.add_argument("--where", metavar="KINDS", type=_states, help=f"by reason, any of {','.join(STATES)}")
    inspect.add_argument("--all", **SWITCH, help="not only a screen")
    inspect.add_argument("--json", **SWITCH)
    audit = command(
        "one date's accounts", "audit --date 2026-11-25", "nothing failed", "something is wrong, something fails"
    )
    audit.add_argument("--date", help="unset: yesterday's, in UTC; on a terminal also today so far", **DATE)
    audit.add_argument("--json", **SWITCH, help="one object a line for each user, then the sums")
    report = command("one date as a page to look at", "report --date 2026-11-25 -o report.html", "written")
    report.add_argument("--date", help="unset: yesterday's, in UTC; on a terminal also today so far", **DATE)
    report.add_argument("-o", dest="output", metavar="FILE", type=_path, help="unset: report-DATE.html; - is stdout")
    resend = command(
        "send a recap again, or make a missed one; with --where for many",
        "resend --date 2026-11-25 --where missed,dead --dry-run",
        "all sent",
        "unfinished (run it again)",
        exit_5="a user is still without a recap",
    )
    resend.add_argument("uid", nargs="?", help="one user's day, with DATE", **UID)
    resend.add_argument("only_date", nargs="?", help="which day", **(DATE | {"metavar": "DATE"}))
    resend.add_argument("--date", help="many: all users whose day is in a state of --where", **DATE)
    resend.add_argument("--where", metavar="KINDS", type=_resendable, help=f"any of {','.join(RESENDABLE)}")
    resend.add_argument("--limit", metavar="N", type=_count, help="that many of them, and no more")
    resend.add_argument("--dry-run", dest="no_write", **SWITCH, help="many: count them, send nothing")
    doctor = command("checks everything, says what to do", "doctor --fix --dry-run", "all well", "something to do")
    doctor.add_argument("--fix", **SWITCH, help="correct users that the query can't see")
    doctor.add_argument("--zone", metavar="ZONE", type=_zone, help="with --fix: for users without a valid zone")
    doctor.add_argument("--hour", metavar="H", type=_hour, help="with --fix: for users without a valid hour")
    doctor.add_argument("--enable", **SWITCH, help="with --fix: switch on users who have no switch")
    doctor.add_argument("--dry-run", dest="no_write", **SWITCH, help="with --fix: say what would change")
    importing = command("users into the data folder or an emulator", "import users.jsonl", "in", "a line was refused")
    importing.add_argument(
        "file", metavar="FILE.jsonl", type=_path, help="one user a line, as in docs/documents.md; - is stdin"
    )
    importing.add_argument("--dry-run", dest="no_write", **SWITCH, help="check each line, write nothing")
    samples = command("put sample users in, due now", "samples --remove", "done")
    samples.add_argument("--remove", **SWITCH, help="take them out, with all that was made for them")
    layout = command(
        "the layout of the app's documents, and the indexes for it", "layout --check", "right", "it is wrong"
    )
    layout.add_argument(
        "--check", **SWITCH, help="read ten users, and count the types of each field; no value is shown"
    )
    return top


@dataclass(frozen=True, slots=True)
class Command:
    """One invocation. `operation` is None for a tick."""

    now: datetime | None = None
    user: str | None = None
    every_minute: bool = False
    dry_run: bool = False
    only_reads: bool = False  # of stored users, and makes none
    operation: Operation | None = None
    can_send: bool = True
    can_ask: bool = True  # an LLM; the client's import takes longer than what only reads
    is_local_only: bool = False  # it writes what an app otherwise writes
    can_add_samples: bool = True  # to a new data folder
    prints_layout: bool = False  # it opens nothing

    @property
    def is_scheduled_tick(self) -> bool:
        """Whether it is what a scheduler starts: a tick for all users, now."""
        return self.operation is None and self.user is None and self.now is None

    def check(self, settings: Settings) -> None:
        """Raise UsageFault for what these settings forbid."""
        if self.now and self.can_send and not settings.store_is_local:
            raise UsageFault("--now would send at a pretended time to real people; add --dry-run, or use an emulator.")
        if self.is_local_only and not settings.store_is_local:
            raise UsageFault(
                "this writes users into the data folder or an emulator; a real project's app writes its own."
            )


def parse(arguments: Sequence[str]) -> Command:
    """The command. Raises UsageFault; `--help` prints and exits 0."""
    args = parser().parse_args([_as_utf8(argument) for argument in arguments])
    _reject_incompatible_flags(args)
    no_write = args.dry_run or getattr(args, "no_write", False)
    return Command(
        now=args.now,
        user=args.user,
        every_minute=args.every_minute,
        dry_run=args.dry_run,
        only_reads=args.dry_run or args.command in READS,
        operation=_operation(args),
        can_send=not no_write and args.command in (None, "resend"),
        can_ask=not args.dry_run and args.command in (None, "resend", "preview", "doctor"),
        is_local_only=args.command in ("import", "samples"),
        prints_layout=args.command == "layout" and not args.check,
        can_add_samples=args.remove if args.command == "samples" else args.command is None and not args.dry_run,
    )


def _as_utf8(argument: str) -> str:
    """The argument as it was typed: in the locale C Python reads it as ASCII."""
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        raise UsageFault(f"the argument {printable(argument, 60)!r} is no UTF-8; write it as UTF-8.") from None


def _reject_incompatible_flags(args: argparse.Namespace) -> None:
    """Raise UsageFault for a flag of another command, which would be ignored."""
    given = {"--dry-run": args.dry_run, "--user": args.user is not None, "--every-minute": args.every_minute}
    given["--now"] = args.now is not None and args.command not in TAKES_NOW
    if args.command and (flags := [flag for flag, is_given in given.items() if is_given]):
        raise UsageFault(f"{flags[0]} belongs to a tick; {args.command} does not take it.")
    if args.whole and not args.dry_run:
        raise UsageFault("--all belongs to --dry-run and to inspect: it prints each user, not only a screen.")
    if args.every_minute and (args.now or args.user is not None or args.dry_run):
        raise UsageFault("--every-minute goes alone: it serves all users, in real time.")


def _operation(args: argparse.Namespace) -> Operation | None:
    """The command's own function, which is imported here: a tick loads none of them."""
    match args.command:
        case "why":
            from notifications.commands.why import why

            return partial(why, args.uid, args.date)
        case "show":
            from notifications.commands.show import show

            return partial(show, args.uid, args.date)
        case "preview":
            from notifications.commands.preview import preview

            return partial(preview, args.uid, args.date)
        case "inspect":
            from notifications.commands.inspect import inspect, inspect_keys, inspect_where

            if args.where and (args.keys or args.only_user):
                raise UsageFault("inspect --where is about all users of a date; it takes neither --user nor --keys.")
            if args.where:
                return partial(inspect_where, args.where, args.date, as_json=args.json, whole=args.all)
            if args.keys:
                return partial(inspect_keys, args.only_user, args.date, as_json=args.json, whole=args.all)
            return partial(inspect, args.only_user, args.date, as_json=args.json, whole=args.all)
        case "audit":
            from notifications.commands.audit import audit

            return partial(audit, args.date, as_json=args.json)
        case "report":
            from notifications.commands.report import report

            return partial(report, args.date, args.output)
        case "resend":
            return _resend(args)
        case "doctor":
            return _doctor(args)
        case "import":
            from notifications.commands.import_users import import_users

            return partial(import_users, args.file, write=not args.no_write)
        case "samples":
            from notifications.commands.import_users import samples

            return partial(samples, remove=args.remove)
        case "layout":
            from notifications.commands.check_layout import check_layout

            return check_layout
    if not args.dry_run:
        return None
    from notifications.commands.dry_run import dry_run

    return partial(dry_run, args.user, whole=args.whole)


def _resend(args: argparse.Namespace) -> Operation:
    if args.where is None:
        given = {"--dry-run": args.no_write, "--limit": args.limit}
        if args.uid and args.only_date and (flags := [flag for flag, is_given in given.items() if is_given]):
            raise UsageFault(f"{flags[0]} goes with --date and --where, not with UID and DATE.")
        if args.uid is None or args.only_date is None or args.date or any(given.values()):
            raise UsageFault("resend takes UID and DATE, or --date with --where; see python job.py resend --help.")
        from notifications.commands.resend import resend

        return partial(resend, args.uid, args.only_date)
    if args.uid is not None or args.date is None:
        raise UsageFault("resend --where takes --date, and no UID: it is about all users of that date.")
    from notifications.commands.resend.many import ResendSelection, refuse_held, resend_many

    if "held" in args.where:
        return partial(refuse_held, args.date)
    return partial(resend_many, ResendSelection(args.date, args.where, args.limit), dry_run=args.no_write)


def _doctor(args: argparse.Namespace) -> Operation:
    from notifications.commands.doctor import Fix, doctor

    if args.fix:
        return partial(doctor, Fix(Decided(args.zone, args.hour, args.enable), write=not args.no_write))
    given = {"--dry-run": args.no_write, "--zone": args.zone, "--hour": args.hour is not None, "--enable": args.enable}
    if flags := [flag for flag, is_given in given.items() if is_given]:
        raise UsageFault(f"{flags[0]} belongs to doctor --fix: without it nothing is changed anyway.")
    return partial(doctor, None)
