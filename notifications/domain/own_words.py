"""The few words of ours that a user reads, in the user's language; the rest is the day's own."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OTHERS = "en"


@dataclass(frozen=True, slots=True)
class OwnWords:
    """One language's. Counted words have a form for one and a form for more; `{}` is the number."""

    title: str
    ready: str
    talks: Sequence[str]
    tasks: Sequence[str]
    more_talks: Sequence[str]
    more_tasks: Sequence[str]

    def counts(self, talks: int, tasks: int) -> str:
        """How many conversations, and how many things to do: `3 conversations, 2 things to do`."""
        told = [_counted(self.talks, talks), _counted(self.tasks, tasks)]
        return ", ".join(one for one in told if one) or self.ready

    def more(self, talks: int, tasks: int) -> list[str]:
        """What is not shown: a sentence for each kind that there is."""
        return [one for one in (_counted(self.more_talks, talks), _counted(self.more_tasks, tasks)) if one]


def _counted(forms: Sequence[str], count: int) -> str:
    return forms[count != 1].format(count) if count else ""


def own_words(language: str | None) -> OwnWords:
    """Those of a language tag; English where the language is not known."""
    return OWN_WORDS.get((language or "").partition("-")[0].lower(), OWN_WORDS[OTHERS])


def _read() -> dict[str, OwnWords]:
    table = tomllib.loads((Path(__file__).parent / "own_words.toml").read_text(encoding="utf-8"))
    return {tag: OwnWords(**words) for tag, words in table.items()}


OWN_WORDS = _read()
