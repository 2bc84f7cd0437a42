"""The evaluation days: one person's day each, of our own making, with what a good recap must hold and must not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

from notifications.adapters.stores.documents import conversation_from
from notifications.domain.model import Conversation, Recap
from notifications.recap.material import Material, material

FOLDER = Path(__file__).parent / "days"
PLACES = ("start", "middle", "end")


@dataclass(frozen=True)
class Fact:
    """Something that a good recap holds: of each group one of the alternatives stands in it."""

    place: str
    says: tuple[tuple[str, ...], ...]

    def is_told(self, text: str) -> bool:
        """Whether a recap's text tells it."""
        return all(any(one.casefold() in text for one in group) for group in self.says)


@dataclass(frozen=True)
class Day:
    """One synthetic day."""

    name: str
    language: str
    kind: str
    zone: str
    date: date
    conversations: tuple[Conversation, ...]
    facts: tuple[Fact, ...]
    lies: tuple[str, ...]

    @cached_property
    def material(self) -> Material:
        """What a summarizer gets of it."""
        found = material(self.date, self.conversations, self.language, self.zone, 30)
        assert found is not None, f"{self.name} says nothing"
        return found


def load_days() -> list[Day]:
    """All of them, by name."""
    return [_day(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.json"))]


def _day(doc: dict[str, object]) -> Day:
    talks = (conversation_from(key, one) for key, one in doc["conversations"].items())  # type: ignore[attr-defined]
    facts = (Fact(one["place"], tuple(map(tuple, one["says"]))) for one in doc["facts"])  # type: ignore[attr-defined]
    return Day(
        name=str(doc["name"]),
        language=str(doc["language"]),
        kind=str(doc["kind"]),
        zone=str(doc["zone"]),
        date=date.fromisoformat(str(doc["date"])),
        conversations=tuple(one for one in talks if one is not None),
        facts=tuple(facts),
        lies=tuple(doc["lies"]),  # type: ignore[arg-type]
    )


def text_of(recap: Recap) -> str:
    """All that a person reads of a recap, without case."""
    draft = recap.draft
    lists = (*draft.unresolved_questions, *draft.decisions_made, *draft.knowledge_nuggets)
    told = [draft.headline, draft.overview, *(f"{one.topic}. {one.summary}" for one in draft.highlights)]
    return "\n".join([*told, *(one.text for one in lists), *(one.description for one in recap.action_items)]).casefold()
