"""The few phrases of a recap that do not come from the day, in the user's language."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT = "en"


@dataclass(frozen=True, slots=True)
class Phrases:
    """One language's phrases. Counted ones have a singular and a plural form; `{}` is the number."""

    title: str
    ready: str
    talks: Sequence[str]
    tasks: Sequence[str]
    more_talks: Sequence[str]
    more_tasks: Sequence[str]
    mail: Mapping[str, str]  # headings of a recap's lists, and the link that ends the mails

    def counts(self, talks: int, tasks: int) -> str:
        """`3 conversations, 2 things to do`."""
        return ", ".join(filter(None, (_counted(self.talks, talks), _counted(self.tasks, tasks)))) or self.ready

    def more(self, talks: int, tasks: int) -> list[str]:
        """Sentences that say how many conversations and tasks are not shown."""
        return list(filter(None, (_counted(self.more_talks, talks), _counted(self.more_tasks, tasks))))


def _counted(forms: Sequence[str], count: int) -> str:
    return forms[count != 1].format(count) if count else ""


def phrases_in(language: str | None) -> Phrases:
    """The phrases of a language tag; English if the language is unknown."""
    return PHRASES.get((language or "").partition("-")[0].lower(), PHRASES[DEFAULT])


def _read() -> dict[str, Phrases]:
    table = tomllib.loads((Path(__file__).parent / "phrases.toml").read_text(encoding="utf-8"))
    return {tag: Phrases(**phrases) for tag, phrases in table.items()}


PHRASES = _read()
