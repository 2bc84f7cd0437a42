"""`report [--date D] [-o FILE]`: one date as a page to look at. One file, no script, no network, no user's text."""

from __future__ import annotations

import sys
from contextlib import aclosing
from datetime import date
from pathlib import Path

from notifications.commands.joined import Asked, Joined
from notifications.commands.operation import Context, Operation
from notifications.commands.report.figures import Figures
from notifications.commands.report.page import page
from notifications.commands.terminal import say_wrapped
from notifications.domain.errors import UsageFault
from notifications.domain.schedule import ONE_DAY

STDOUT = "-"


def report(day: date | None, output: Path | None) -> Operation:
    """The operation. Reads only; constant memory: what is kept is counts."""

    async def run(context: Context) -> int:
        now = await context.claims.now() + context.offset
        which = day or now.date() - ONE_DAY
        path = output or Path(f"report-{which}.html")
        figures = Figures(which)
        async with context.open_parts() as parts:
            joined = Joined(parts.store, Asked(which, now, parts.rules, context.since))
            async with aclosing(joined.rows()) as rows:
                async for row in rows:
                    figures.add(row)
        if str(path) == STDOUT:
            sys.stdout.write(page(figures, now).encode("ascii", "xmlcharrefreplace").decode())  # in any locale
            return 0
        try:
            path.write_text(page(figures, now), encoding="utf-8")
        except OSError as cause:
            raise UsageFault(f"{path} can't be written ({cause.strerror}); name another with -o.") from cause
        say_wrapped(f"{which}: {figures.due} due; the page is {path}: open it in a browser.")
        return 0

    return run
