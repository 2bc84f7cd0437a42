"""The evaluation days: one person's day each, invented, with what a good recap must hold and must not."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from notifications.adapters.stores.documents import conversation_from
from notifications.adapters.stores.layout import read_layout
from notifications.domain.model import Conversation, Recap
from notifications.recap.material import Material, material
from notifications.recap.plan import Note, plan

HERE = Path(__file__).parent
PLACES = ("start", "middle", "end")
MIN_WORDS = 30


@dataclass(frozen=True)
class Fact:
    """Something that a good recap holds: of each group one of the alternatives stands in it."""

    place: str
    says: tuple[tuple[str, ...], ...]

    def is_told(self, text: str) -> bool:
        """Whether a text tells it, as `plainly` has texts."""
        return all(any(plainly(one) in text for one in group) for group in self.says)


@dataclass(frozen=True)
class Sentence:
    """A sentence of a fluent answer, true or one of eight kinds of invention, with the quote that it rests on."""

    role: str  # overview, highlight, topic, headline, push, question, decision, fact
    text: str
    notes: tuple[str, ...]
    quote: str
    true: bool
    kind: str
    language: str


@dataclass(frozen=True)
class Day:
    """One invented day."""

    name: str
    language: str
    kind: str
    zone: str
    date: date
    conversations: tuple[Conversation, ...]
    facts: tuple[Fact, ...]
    lies: tuple[str, ...]
    sentences: tuple[Sentence, ...] = ()

    @cached_property
    def material(self) -> Material:
        """What a summarizer gets of it."""
        found = material(self.date, self.conversations, self.language, self.zone, MIN_WORDS)
        assert found is not None, f"{self.name} says nothing"
        return found

    def in_language(self, language: str) -> Material:
        """The same for a user who reads another language."""
        return replace(self.material, language=language)

    @cached_property
    def notes(self) -> tuple[Note, ...]:
        """Its notes, as one prompt holds them."""
        [notes] = plan(self.material, 60_000, 1, lambda c: "").parts
        return notes

    def numbers(self, keys: tuple[str, ...]) -> list[int]:
        """The notes of these conversations."""
        return [n for n, c in enumerate(self.material.conversations, start=1) if c.id in keys]


def load_days(folder: str = "days") -> list[Day]:
    """All days of a folder, by name: `days` are written, `spoken` ones transcripts, `fluent` ones have sentences."""
    return [_day(json.loads(path.read_text(encoding="utf-8"))) for path in sorted((HERE / folder).glob("*.json"))]


def load(name: str) -> list[dict[str, Any]]:
    """One of the lists: innocent sentences that look like attacks, or answers that are garbage."""
    found: list[dict[str, Any]] = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _day(doc: Mapping[str, Any]) -> Day:
    layout = read_layout(None)
    talks = (conversation_from(layout, key, one) for key, one in doc["conversations"].items())
    said = doc.get("sentences", [])
    return Day(
        name=doc["name"],
        language=doc["language"],
        kind=doc["kind"],
        zone=doc["zone"],
        date=date.fromisoformat(doc["date"]),
        conversations=tuple(one for one in talks if one is not None),
        facts=tuple(Fact(one["place"], tuple(map(tuple, one["says"]))) for one in doc["facts"]),
        lies=tuple(doc["lies"]),
        sentences=tuple(
            Sentence(**{"language": doc["language"]} | one | {"notes": tuple(one["notes"])}) for one in said
        ),
    )


def plainly(text: str) -> str:
    """A text as facts are looked for in it."""
    return unicodedata.normalize("NFC", text).casefold()


def text_of(recap: Recap) -> str:
    """All that a person reads of a recap."""
    draft = recap.draft
    lists = (*draft.unresolved_questions, *draft.decisions_made, *draft.knowledge_nuggets)
    told = [draft.headline, draft.text, *(f"{one.topic}. {one.summary}" for one in draft.highlights)]
    tasks = (one.description for one in recap.action_items)
    return plainly("\n".join([*told, *(one.text for one in lists), *tasks]))
