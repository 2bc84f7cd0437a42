"""`show UID [DATE]`: a stored recap as an app shows it. Another writer may have made it, so no field is relied on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from notifications.commands.context import Context
from notifications.commands.terminal import say, say_line, say_wrapped
from notifications.domain.errors import UsageFault
from notifications.domain.schedule import ONE_DAY, latest_slot
from notifications.domain.text import clean
from notifications.ports import Store
from notifications.recap.document import LISTS

DAYS_BACK = 7  # days searched if no date is given
TAIL_BYTES = 65_536  # read from the end of the outbox: more than its last line


async def show(uid: str | None, day: date | None, context: Context) -> int:
    """Print a recap; without a uid, that of the last push in the outbox."""
    owner = uid or _last_pushed(context)
    async with context.open_services() as services:
        listed = await services.store.user_document(owner)
        if listed is None:
            hint = "check the uid" if uid else "it had the last push; name another: python job.py show UID"
            raise UsageFault(f"{services.store.user_path.format(uid=owner)} does not exist; {hint}.")
        if day is not None:
            days = [day]
        elif listed.user is None:
            raise UsageFault(f"{listed.flaw} Give the date, too.")
        else:
            latest = latest_slot(listed.user.zone, listed.user.hour, await context.now()).recap_date
            days = [latest - days_ago * ONE_DAY for days_ago in range(-1, DAYS_BACK)]
        return await _show(services.store, owner, days)


async def _show(store: Store, uid: str, days: list[date]) -> int:
    ledgers = await store.ledgers_between(uid, min(days), max(days))
    for day in days:
        doc = await store.summary_document(uid, day, ledgers[day].summary_id if day in ledgers else "")
        if doc is not None:
            say(f"{store.user_path.format(uid=uid)}, {day}")
            say("")
            say_recap(doc)
            return 0
    when = f"on {days[0]}" if len(days) == 1 else f"from {days[-1]} to {days[0]}"
    say_line(f"{uid} has no recap {when}; python job.py why {uid} says why.")
    return 1


def _last_pushed(context: Context) -> str:
    path = context.settings.data_dir / "outbox.jsonl"
    if context.settings.fcm:
        raise UsageFault("name a user: python job.py show UID.")
    lines = _tail(path)
    for line in reversed(lines):
        try:
            return str(json.loads(line)["uid"])
        except (ValueError, TypeError, KeyError):
            continue
    raise UsageFault(f"nothing was pushed into {path} yet; name a user: python job.py show UID.")


def _tail(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().splitlines()
    except OSError:
        return []


TITLES = {
    "decisions_made": "Decisions",
    "unresolved_questions": "Open questions",
    "knowledge_nuggets": "Worth remembering",
}


def say_recap(doc: Mapping[str, Any]) -> None:
    """Print the headline, figures, text, lists, and how it was made."""
    say_wrapped(f"{_text(doc, 'day_emoji')} {_text(doc, 'headline')}".strip() or "(no headline)")
    stats = _map(doc.get("stats"))
    figures = (
        _text(doc, "date"),
        _counted(stats.get("total_conversations"), "conversation"),
        _counted(stats.get("total_duration_minutes") or None, "minute"),
        _counted(stats.get("action_items_count"), "thing to do", "things to do"),
    )
    say_wrapped(", ".join(filter(None, figures)))
    say("")
    say_wrapped(_text(doc, "overview") or "(no overview)")
    for highlight in _maps(doc.get("highlights")):
        say("")
        say_wrapped(f"{_text(highlight, 'emoji')} {_text(highlight, 'topic')}".strip())
        say_wrapped(_text(highlight, "summary"), "   ")
    for name, title in TITLES.items():
        _listed(title, (("- ", _text(item, LISTS[name])) for item in _maps(doc.get(name))))
    tasks = _maps(doc.get("action_items"))
    _listed(
        "To do", (("[x] " if task.get("completed") is True else "[ ] ", _text(task, "description")) for task in tasks)
    )
    places = (("", f"{_text(place, 'time')} {_text(place, 'address')}") for place in _maps(doc.get("locations")))
    _listed("Places", ((mark, text) for mark, text in places if text.strip()))
    say("")
    for line in (made_by(doc), checked(doc)):
        if line:
            say_wrapped(line)


def _listed(title: str, rows: Iterable[tuple[str, str]]) -> None:
    shown = [(mark, text) for mark, text in rows if text]
    if shown:
        say("")
        say(title)
    for mark, text in shown:
        say_wrapped(text, "  " + " " * len(mark), f"  {mark}")


def made_by(doc: Mapping[str, Any]) -> str:
    """One sentence: who made the recap, and at what cost."""
    meta = _map(doc.get("metadata"))
    if meta.get("source") == "extract":
        maker = "Made of the day's own sentences, by no LLM"
    else:
        maker = f"Made by {_text(meta, 'model') or 'another writer'}"
    tokens = sum(meta[name] for name in ("tokens_in", "tokens_out") if isinstance(meta.get(name), int))
    usd = meta.get("usd")
    cost = (
        _counted(meta.get("calls"), "call"),
        f"{tokens} tokens" if tokens else "",
        f"{usd:.4f} USD" if isinstance(usd, int | float) else "",
    )
    return f"{', '.join([maker, *filter(None, cost)])}."


def checked(doc: Mapping[str, Any]) -> str:
    """Sentences: how the conversations were read, what the checks dropped, and whether a second look was taken."""
    coverage, checks = _map(doc.get("coverage")), _map(doc.get("checks"))
    words = (("whole", "whole"), ("part", "in part"), ("extract", "as their extract"))
    read = ", ".join(f"{coverage[name]} {word}" for name, word in words if coverage.get(name))
    counts = {name: count for name, count in checks.items() if isinstance(count, int) and not isinstance(count, bool)}
    dropped = ", ".join(f"{count} {clean(name)}" for name, count in counts.items() if name != "kept" and count)
    sentences = (
        f"Of the conversations: {read}." if read else "",
        f"{checks['kept']} sentences kept, dropped: {dropped or 'none'}." if "kept" in checks else "",
        {True: "A second look checked it.", False: "No second look checked it."}.get(checks.get("verified"), ""),  # type: ignore[arg-type]
    )
    return " ".join(filter(None, sentences))


def _counted(value: object, noun: str, plural: str = "") -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    return f"{value:g} {noun if value == 1 else plural or noun + 's'}"


def _text(doc: Mapping[str, Any], name: str) -> str:
    value = doc.get(name)
    return clean(value) if isinstance(value, str) else ""


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _maps(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
