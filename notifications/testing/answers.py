"""What an LLM answers: recaps, facts and verdicts that follow their schemas, with quotes from the notes that it got."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from notifications.recap.verify import FALSE_SENTENCES

GARDEN = "talked about the garden"  # in the talk of every test user
MARKED = re.compile(r"^(\w{5}) (?:\[(\d+)[^\]]*\] )?(.*)$", re.MULTILINE)
MARKER = re.compile(r"marker(?: of this day)?: (\w{5})")
SECOND_MARKER = re.compile(r"The second marker: (\w{5})\.")
JUDGED = re.compile(r"^(\w{3}) \[(\w+)\] \(([\d, ]*)\) (.*)$")
QUOTE_LENGTH = 60  # characters
FALSE = frozenset(text for text, _ in FALSE_SENTENCES)

JSON = dict[str, Any]
Refuses = Callable[[str, str], bool]  # a role and a text


def item(text: str, quote: str = GARDEN, notes: list[int] | None = None, *, private: bool = False) -> JSON:
    """One sentence with its evidence."""
    return {"notes": notes or [1], "quote": quote, "text": text, "confided": private}


def recap_answer(who: str, quote: str = GARDEN, **changes: Any) -> JSON:
    """A recap that follows the schema, different for each call of each user."""
    return {
        "highlights": [{"topic": "Talk", "emoji": "💬", "items": [item("A good one.", quote)]}],
        "decisions": [],
        "open_questions": [item("What comes next?", quote)],
        "worth_knowing": [],
        "overview": [item(f"You talked about {who} and more.", quote), item("It went well.", quote)],
        "headline": f"A day of {who}",
        "push": f"You talked about {who} and more.",
        "day_emoji": "🌤️",
    } | changes


def quotes_of(notes: str) -> dict[int, str]:
    """A literal quote of each note that was sent."""
    marker = (MARKER.search(notes) or ["", ""])[1]
    found: dict[int, str] = {}
    number = 0
    for mark, numbered, text in MARKED.findall(notes):
        if mark != marker:
            continue
        if numbered:
            number = int(numbered)
            found.setdefault(number, text.rpartition("Quote: ")[2][:QUOTE_LENGTH])
        elif len(text) >= len(found.get(number, "")) and not text.startswith("- "):
            found[number] = text[:QUOTE_LENGTH]
    return found


def facts_answer(notes: str) -> JSON:
    """An LLM's facts of a part of a day: one for each note, in its own words."""
    quotes = list(quotes_of(notes).items())[:25]
    facts = [item(f"You talked about the garden, {n} times.", quote, [n]) for n, quote in quotes]
    return {"facts": facts}


def verdicts_answer(notes: str, refuses: Refuses = lambda role, text: False) -> JSON:
    """Verdicts that reject the sentences known to be false, and those that `refuses` names."""
    second = (SECOND_MARKER.search(notes) or ["", ""])[1]
    lines = [line.removeprefix(f"{second} ") for line in notes.splitlines() if line.startswith(f"{second} ")]
    verdicts = []
    for found in filter(None, map(JUDGED.match, lines)):
        no = found[4] in FALSE or refuses(found[2], found[4])
        verdicts.append({"id": found[1], "problem": "not in the notes" if no else "", "supported": not no})
    return {"verdicts": verdicts}


def answer_to(name: str, notes: str, take: str) -> JSON:
    """A good answer to a question of that name."""
    if name == "daily_notes":
        return facts_answer(notes)
    if name == "second_look":
        return verdicts_answer(notes)
    quotes = quotes_of(notes)
    first = min(quotes, default=1)
    answer = recap_answer(take, quotes.get(first, GARDEN))
    return with_number(answer, first)


def with_number(answer: JSON, number: int) -> JSON:
    """The answer with every sentence citing that note."""
    for sentence in [*answer["overview"], *answer["open_questions"], *answer["highlights"][0]["items"]]:
        sentence["notes"] = [number]
    return answer
