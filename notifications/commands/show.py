"""`show UID [DATE]`: a stored recap in full."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

from notifications.commands.operation import Context, Operation
from notifications.commands.recap_page import say_recap
from notifications.commands.terminal import say, say_line
from notifications.domain.errors import UsageFault
from notifications.domain.schedule import ONE_DAY, latest_slot
from notifications.ports import Store

DAYS_BACK = 7  # that are looked at where no date is given
TAIL_BYTES = 65_536  # of the outbox: its last line is in them


def show(uid: str | None, day: date | None) -> Operation:
    """The operation. Without a uid: whose push was the last in the data folder's outbox."""

    async def run(context: Context) -> int:
        whose = uid or _last_pushed(context)
        async with context.open_parts() as parts:
            listed = await parts.store.user(whose)
            if listed is None:
                last = "; it had the last push; say whose recap: python job.py show UID" if uid is None else ""
                raise UsageFault(f"users/{whose} does not exist{last or '; check the uid'}.")
            if day is not None:
                days = [day]
            elif listed.user is None:
                raise UsageFault(f"{listed.flaw} Give the date, too.")
            else:
                now = await context.claims.now() + context.offset
                latest = latest_slot(listed.user.zone, listed.user.hour, now).recap_date
                days = [latest - n * ONE_DAY for n in range(-1, DAYS_BACK)]
            return await _show(parts.store, whose, days)

    return run


async def _show(store: Store, uid: str, days: list[date]) -> int:
    ledgers = await store.ledgers_between(uid, min(days), max(days))
    for one in days:
        doc = await store.summary_document(uid, one, ledgers[one].summary_id if one in ledgers else "")
        if doc is not None:
            say(f"users/{uid}/daily_summaries, {one}")
            say("")
            say_recap(doc)
            return 0
    when = f"on {days[0]}" if len(days) == 1 else f"from {days[-1]} to {days[0]}"
    say_line(f"{uid} has no recap {when}; python job.py why {uid} says why.")
    return 1


def _last_pushed(context: Context) -> str:
    path = context.settings.data_dir / "outbox.jsonl"
    if context.settings.fcm:
        raise UsageFault("say whose recap: python job.py show UID.")
    lines = _tail(path)
    for line in reversed(lines):
        try:
            return str(json.loads(line)["uid"])
        except (ValueError, TypeError, KeyError):
            continue
    raise UsageFault(f"nothing was pushed into {path} yet; say whose recap: python job.py show UID.")


def _tail(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().splitlines()
    except OSError:
        return []
