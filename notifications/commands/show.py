"""`show UID [DATE]`: a stored recap as an app shows it. Another hand may have made it: nothing is taken for granted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from notifications.commands.operation import Context
from notifications.commands.terminal import say, say_line, say_wrapped
from notifications.domain.errors import UsageFault
from notifications.domain.schedule import ONE_DAY, latest_slot
from notifications.domain.text import clean
from notifications.ports import Store

DAYS_BACK = 7  # that are looked at where no date is given
TAIL_BYTES = 65_536  # of the outbox: its last line is in them


async def show(uid: str | None, day: date | None, context: Context) -> int:
    """Without a uid: whose push was the last in the data folder's outbox."""
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


LISTS = (
    ("Decisions", "decisions_made", "decision"),
    ("Open questions", "unresolved_questions", "question"),
    ("Worth remembering", "knowledge_nuggets", "insight"),
)


def say_recap(doc: Mapping[str, Any]) -> None:
    """Headline, figures, text, lists, and how it was made."""
    say_wrapped(f"{_text(doc, 'day_emoji')} {_text(doc, 'headline')}".strip() or "(no headline)")
    stats = _map(doc.get("stats"))
    figures = (
        _text(doc, "date"),
        _counted(stats.get("total_conversations"), "conversation"),
        _counted(stats.get("total_duration_minutes"), "minute"),
        _counted(stats.get("action_items_count"), "thing to do", "things to do"),
    )
    say_wrapped(", ".join(filter(None, figures)))
    say("")
    say_wrapped(_text(doc, "overview") or "(no overview)")
    _highlights(_maps(doc.get("highlights")))
    for title, name, key in LISTS:
        _listed(title, (("- ", _text(one, key)) for one in _maps(doc.get(name))))
    tasks = _maps(doc.get("action_items"))
    _listed("To do", (("[x] " if one.get("completed") is True else "[ ] ", _text(one, "description")) for one in tasks))
    places = (("", f"{_text(one, 'time')} {_text(one, 'address')}") for one in _maps(doc.get("locations")))
    _listed("Places", ((mark, text) for mark, text in places if text.strip()))
    say("")
    for line in (_made(_map(doc.get("metadata"))), _covered(_map(doc.get("coverage")), _map(doc.get("checks")))):
        if line:
            say_wrapped(line)


def _highlights(found: Iterable[Mapping[str, Any]]) -> None:
    for one in found:
        say("")
        say_wrapped(f"{_text(one, 'emoji')} {_text(one, 'topic')}".strip())
        say_wrapped(_text(one, "summary"), "   ")


def _listed(title: str, rows: Iterable[tuple[str, str]]) -> None:
    found = [(mark, text) for mark, text in rows if text]
    if found:
        say("")
        say(title)
    for mark, text in found:
        say_wrapped(text, "  " + " " * len(mark), f"  {mark}")


def _made(meta: Mapping[str, Any]) -> str:
    if meta.get("source") == "extract":
        made = "Made of the day's own sentences, by no LLM"
    else:
        made = f"Made by {_text(meta, 'model') or 'another hand'}"
    tokens = sum(meta[name] for name in ("tokens_in", "tokens_out") if isinstance(meta.get(name), int))
    usd = meta.get("usd")
    took = (
        _counted(meta.get("calls"), "call"),
        f"{tokens} tokens" if tokens else "",
        f"{usd:.4f} USD" if isinstance(usd, int | float) else "",
    )
    return f"{', '.join([made, *filter(None, took)])}."


def _covered(coverage: Mapping[str, Any], checks: Mapping[str, Any]) -> str:
    words = (("whole", "whole"), ("part", "in part"), ("extract", "as their extract"))
    told = ", ".join(f"{coverage[name]} {word}" for name, word in words if coverage.get(name))
    dropped = ", ".join(f"{count} {clean(name)}" for name, count in dropped_by_reason(checks).items())
    kept = f" {checks['kept']} sentences kept, dropped: {dropped or 'none'}." if "kept" in checks else ""
    kept += f" {second_look(checks)}" if second_look(checks) else ""
    return f"Of the conversations: {told}.{kept}" if told else kept.strip()


def dropped_by_reason(checks: Mapping[str, Any]) -> dict[str, int]:
    """How many sentences did not stand, by why."""
    counts = {name: count for name, count in checks.items() if isinstance(count, int) and not isinstance(count, bool)}
    return {name: count for name, count in counts.items() if name != "kept" and count}


def second_look(checks: Mapping[str, Any]) -> str:
    """Whether a second look checked it; empty for an extract, or an older version's."""
    said = {True: "A second look checked it.", False: "No second look checked it."}
    return said.get(checks.get("verified"), "")  # type: ignore[arg-type]


def _counted(value: object, one: str, several: str = "") -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    return f"{value:g} {one if value == 1 else several or one + 's'}"


def _text(doc: Mapping[str, Any], name: str) -> str:
    value = doc.get(name)
    return clean(value) if isinstance(value, str) else ""


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _maps(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
