"""Every command's words: its flags, one example, and what its exit codes mean."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from notifications.domain.errors import UsageFault

RESENDABLE = ("missed", "dead", "unserved", "gave_up", "unfinished")
DAY: dict[str, Any] = {"metavar": "YYYY-MM-DD"}


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
    one.add_argument("date", nargs="?", help="unset: the latest slot's", **DAY)
    one = command("show", "a stored recap in full, as an app shows it", "ann 2026-11-25", "0 shown, 1 there is none")
    one.add_argument("uid", metavar="UID", nargs="?", help="unset: of the last push in the outbox")
    one.add_argument("date", nargs="?", help="unset: the latest of the last days", **DAY)
    one = command("preview", "makes a recap, stores and sends nothing", "ann", "0 made, 1 there is nothing to say")
    one.add_argument("uid", metavar="UID")
    one.add_argument("--date", help="unset: the latest slot's", **DAY)
    one = command("inspect", "what Redis says, joined with the ledgers", "--user ann", "0")
    one.add_argument("--user", dest="only_user", metavar="UID", help="unset: everybody's claims, and open ledgers")
    one.add_argument("--date", help="unset: the last days", **DAY)
    one.add_argument("--keys", action="store_true", help="every key of this job, with its value and TTL")
    one.add_argument("--json", action="store_true")
    one = command("audit", "one date's accounts", "--date 2026-11-25", "0 all well, 1 something is wrong")
    one.add_argument("--date", help="unset: yesterday's, in UTC", **DAY)
    one.add_argument("--json", action="store_true", help="one object a line for each user, then the sums")
    one = command("report", "one date as a page to look at", "--date 2026-11-25 -o report.html", "0")
    one.add_argument("--date", help="unset: yesterday's, in UTC", **DAY)
    one.add_argument("-o", dest="output", metavar="FILE", help="unset: report-DATE.html; - is stdout")
    one = command(
        "resend",
        "push a recap again, or make a missed one; with --where for many",
        "--date 2026-11-25 --where missed,dead --dry-run",
        "0 nobody is owed one, 1 unfinished (say it again),\n5 somebody is left without a recap",
    )
    one.add_argument("uid", metavar="UID", nargs="?", help="of one user's day, with DATE")
    one.add_argument("only_date", metavar="DATE", nargs="?", help="which day")
    one.add_argument("--date", help="of many: everybody whose day stands as --where says", **DAY)
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
