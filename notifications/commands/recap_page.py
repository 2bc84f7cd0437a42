"""A stored recap as an app would show it, on a terminal. It may be of another hand: nothing is taken for granted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from notifications.commands.terminal import say, say_wrapped
from notifications.domain.text import clean

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
    """Who made it, and what that took."""
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
