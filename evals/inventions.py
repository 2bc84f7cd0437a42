"""Seeded inventions: true sentences of the evaluation days, in which one number, name, date or quote is changed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from evals.days import Day
from evals.words import MONTHS, NAMES, NUMBERS, OTHER_NAMES, QUOTED_WORDS, WEEKDAYS
from notifications.adapters.summarizers.offline import sentences
from notifications.domain.recap.material import Material

SEED = 20_260_501
HOW_MANY = 500
DIGITS = re.compile(r"\d+(?:[.,:]\d+)*")
WORD = re.compile(r"[^\W\d_]+")
QUOTED = re.compile(r"[“„\"«「‹]([^“”„\"«»「」‹›]{8,})[”“\"»」›]")


@dataclass(frozen=True)
class Sentence:
    """A sentence, the note that it cites, and what was changed in it; `true` where nothing was."""

    text: str
    number: int
    material: Material
    changed: str = "true"


def seeded(days: list[Day]) -> tuple[list[Sentence], list[Sentence]]:
    """500 inventions and 500 true sentences, always the same."""
    rng = random.Random(SEED)
    true = [one for day in days for one in _true(day)]
    rng.shuffle(true)
    made = {
        kind: [found for one in true if (found := _changed(one, kind, change, rng))] for kind, change in CHANGES.items()
    }
    invented: list[Sentence] = []
    while len(invented) < HOW_MANY:  # in turn, of each kind while it lasts
        invented += [found.pop() for found in made.values() if found]
    return invented[:HOW_MANY], true[:HOW_MANY]


def _true(day: Day) -> Iterator[Sentence]:
    m = day.material
    for number, c in enumerate(m.conversations, start=1):
        for sentence in sentences(c.overview, c.language or day.language):
            if len(sentence) > 20:
                yield Sentence(sentence, number, m)


def _changed(
    one: Sentence, kind: str, change: Callable[[str, str, random.Random], str | None], rng: random.Random
) -> Sentence | None:
    c = one.material.conversations[one.number - 1]
    language = (c.language or one.material.language or "").split("-")[0]
    text = change(one.text, language, rng)
    return None if text is None or text == one.text else Sentence(text, one.number, one.material, kind)


def _number(text: str, language: str, rng: random.Random) -> str | None:
    """Digits, or a number in words, that become others."""
    found = [*DIGITS.finditer(text)]
    words = [m for m in WORD.finditer(text) if m[0].casefold() in NUMBERS.get(language, ())]
    if not found and not words:
        return None
    spot = rng.choice([*found, *words])
    if spot in words:
        other = rng.choice([one for one in NUMBERS[language] if one != spot[0].casefold()])
        return f"{text[: spot.start()]}{other}{text[spot.end() :]}"
    digits = [n for n in range(spot.start(), spot.end()) if text[n].isdecimal()]
    at = rng.choice(digits)
    zero = ord(text[at]) - int(text[at])
    others = [d for d in range(1, 10) if d != int(text[at])]
    return f"{text[:at]}{chr(zero + rng.choice(others))}{text[at + 1 :]}"


def _name(text: str, language: str, rng: random.Random) -> str | None:
    found = [m for m in WORD.finditer(text) if m[0] in NAMES.get(language, ())]
    if not found:
        return None
    spot = rng.choice(found)
    return f"{text[: spot.start()]}{rng.choice(OTHER_NAMES[language])}{text[spot.end() :]}"


def _date(text: str, language: str, rng: random.Random) -> str | None:
    """A weekday or a month that becomes another."""
    tables = [table[language] for table in (WEEKDAYS, MONTHS) if language in table]
    found = [(m, table) for table in tables for word in table for m in re.finditer(rf"(?<!\w){word}(?!\w)", text)]
    if language in ("ja", "zh"):
        found = [(m, table) for table in tables for word in table for m in re.finditer(re.escape(word), text)]
    if not found:
        return None
    spot, table = rng.choice(found)
    other = rng.choice([one for one in table if one != spot[0]])
    return f"{text[: spot.start()]}{other}{text[spot.end() :]}"


def _quote(text: str, language: str, rng: random.Random) -> str | None:
    found = QUOTED.search(text)
    if not found:
        return None
    inside = found[1]
    other = rng.choice(QUOTED_WORDS[language])
    if language in ("ja", "zh"):
        at = found.start(1) + len(inside) // 2
        return f"{text[:at]}{other}{text[at:]}"
    spots = [m for m in WORD.finditer(inside) if len(m[0]) > 2]
    if not spots:
        return None
    spot = rng.choice(spots)
    start = found.start(1)
    return f"{text[: start + spot.start()]}{other}{text[start + spot.end() :]}"


CHANGES = {"number": _number, "name": _name, "date": _date, "quote": _quote}
