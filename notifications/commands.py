"""The command line: what was asked for, checked before anything is opened."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import date, datetime
from typing import NoReturn

from notifications.config import Settings
from notifications.domain.errors import UsageFault
from notifications.operation import Operation


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


def parse(arguments: list[str]) -> Command:
    """The command. Raises UsageFault; `--help` prints and exits 0."""
    parser = _Parser(prog="job.py", description="One recap per user per day, at their local hour.")
    parser.add_argument("--dry-run", action="store_true", help="say who is due and why not; costs and writes nothing")
    parser.add_argument("--now", metavar="ISO8601", help="pretend time, with its UTC offset")
    parser.add_argument("--user", metavar="UID", help="this user only; still respects the claim")
    parser.add_argument("--every-minute", action="store_true", help="stay up and tick on the minute")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    looking = commands.add_parser("inspect", help="what Redis says, joined with the ledgers")
    looking.add_argument("--user", dest="only_user", metavar="UID")
    looking.add_argument("--date", metavar="YYYY-MM-DD")
    looking.add_argument("--json", action="store_true")
    auditing = commands.add_parser("audit", help="one date's accounts: due, sent, skipped, missed, duplicates …")
    auditing.add_argument("--date", metavar="YYYY-MM-DD")
    auditing.add_argument("--json", action="store_true")
    resending = commands.add_parser("resend", help="push a day's recap again, or make a missed one")
    resending.add_argument("uid", metavar="UID")
    resending.add_argument("date", metavar="DATE")
    checking = commands.add_parser("doctor", help="checks every dependency and setting, says what to do")
    checking.add_argument("--fix", action="store_true", help="mend users that the query can't see")
    asked = parser.parse_args(arguments)
    if asked.every_minute and (asked.now or asked.user or asked.dry_run or asked.command):
        raise UsageFault("--every-minute goes alone: it serves everybody, in real time.")
    return Command(
        now=_moment(asked.now),
        user=asked.user,
        every_minute=asked.every_minute,
        dry_run=asked.dry_run,
        operation=_operation(asked),
        sends=not asked.dry_run and asked.command in (None, "resend"),
    )


def _operation(asked: argparse.Namespace) -> Operation | None:
    if asked.command == "inspect":
        from notifications.ops.inspect import inspect

        return inspect(asked.only_user, _date(asked.date), as_json=asked.json)
    if asked.command == "audit":
        from notifications.ops.audit import audit

        return audit(_date(asked.date), as_json=asked.json)
    if asked.command == "resend":
        from notifications.ops.resend import resend

        return resend(asked.uid, _required_date(asked.date))
    if asked.command == "doctor":
        from notifications.ops.doctor import doctor

        return doctor(fix=asked.fix)
    if asked.dry_run:
        from notifications.ops.dry_run import dry_run

        return dry_run(asked.user)
    return None


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageFault(f"--now {text!r} is no time; write 2026-03-29T01:00:00Z.") from None
    if moment.tzinfo is None:
        raise UsageFault(f"--now {text!r} has no UTC offset; write 2026-03-29T01:00:00Z.")
    return moment


def _required_date(text: str) -> date:
    found = _date(text)
    assert found is not None  # noqa: S101 - only None gives None
    return found


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text is not None else None
    except ValueError:
        raise UsageFault(f"{text!r} is no date; write 2026-03-29.") from None
