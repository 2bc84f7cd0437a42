"""What the LLM says is believed where the notes say it: each sentence is held against the notes that it cites."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice

from notifications.domain.language.scripts import is_written_in, script_of
from notifications.domain.language.words import content_words, is_in_another_language, primary
from notifications.domain.recap.facts import QUOTED, unfounded
from notifications.domain.recap.ground import Ground, letters_of
from notifications.domain.recap.material import Material

KEPT = "kept"
MOST_CITED = 20  # conversations of one sentence: who cites everything cites nothing
MANY = 100  # notes: a headline is then held against those that the answer cites
MOST_REMEMBERED = 50  # of the dropped sentences
UNCITED, STEERED, SCRIPT, LANGUAGE, FOREIGN = "uncited", "instructions", "script", "language", "foreign"
TITLE = "title"  # for which something of the day's own stands; the sentence below it may be right
WORDS_IN_A_ROW = 8  # of the instructions: that many are no chance
SINGLE_QUOTED = re.compile(r"(?<!\w)['‘]([^'‘’]{4,80})['’](?!\w)")  # too often an apostrophe to be held against a note
SPELLED_OUT = re.compile(r"(?:(?<![^\W_])[^\W\d_]\W+){4}")  # l i k e   t h i s
OUR_NAMES = ("day_emoji", "unresolved_questions", "decisions_made", "knowledge_nuggets")  # of the answer's form
WORD = re.compile(r"\w+")


class Checks:
    """The checks of one answer, and what became of its sentences.

    `numbers`: the notes that were sent. `instructions` and `marker`: what no recap repeats.
    """

    def __init__(self, m: Material, numbers: Sequence[int], instructions: str, marker: str) -> None:
        self._m = m
        self._numbers = frozenset(numbers)
        self._cited: set[int] = set()
        self._grounds: dict[tuple[int, ...], Ground] = {}
        self._own_rows = _own_rows(instructions)
        self._marker = marker.casefold()
        self._left_out = frozenset(content_words(m.left_out, m.language))
        double = (next(filter(None, found)) for found in QUOTED.findall(m.left_out))
        self._quotes = [letters_of(one) for one in (*double, *SINGLE_QUOTED.findall(m.left_out))]
        self._script = script_of(m.language, (c.overview or c.transcript for c in m.conversations))
        self._counts: Counter[str] = Counter({KEPT: 0})
        self.dropped_texts: list[tuple[str, str]] = []  # and why: for who looks at one recap, never for a log

    def stands(self, text: str, numbers: Sequence[int]) -> tuple[str, ...]:
        """The conversations that a sentence comes from, where it stands up to them; empty where it is dropped."""
        cited = tuple(islice((n for n in dict.fromkeys(numbers) if n in self._numbers), MOST_CITED))
        verdict = self._verdict(text, cited) if cited else UNCITED
        self._counts[verdict] += 1
        self._cited.update(cited if verdict == KEPT else ())
        if verdict != KEPT and len(self.dropped_texts) < MOST_REMEMBERED:
            self.dropped_texts.append((text, verdict))
        return tuple(self._m.conversations[n - 1].id for n in cited) if verdict == KEPT else ()

    def title_stands(self, text: str, numbers: Sequence[int] | None = None) -> bool:
        """Whether a topic stands up to the notes that it cites; a headline cites everything."""
        everything = self._numbers if len(self._numbers) <= MANY else frozenset(self._cited)
        cited = everything if numbers is None else self._numbers.intersection([*numbers][:MOST_CITED])
        stands = bool(text) and self._verdict(text, tuple(sorted(cited)), is_title=True) == KEPT
        self._counts[TITLE] += not stands
        return stands

    def title_of(self, conversation_id: str) -> str:
        """What a conversation is called."""
        return next((c.title for c in self._m.conversations if c.id == conversation_id), "")

    def _verdict(self, text: str, cited: tuple[int, ...], *, is_title: bool = False) -> str:
        ground = self._ground(cited)
        if self._marker in text.casefold() or _rows(text) & self._own_rows or self._is_steered(text, ground):
            return STEERED
        if self._script and not is_written_in(text, self._script):
            return SCRIPT
        if is_in_another_language(text, self._m.language):
            return LANGUAGE
        if flaw := unfounded(text, ground, self._m.language, cited=len(cited), is_title=is_title):
            return flaw
        return KEPT if self._shares_a_word(text, ground) else FOREIGN

    def _is_steered(self, text: str, ground: Ground) -> bool:
        """Whether it has a word of ours, or one that stands only in what was said to steer a summarizer."""
        if any(name in text and name not in ground.words for name in OUR_NAMES):
            return True
        if not self._left_out:
            return False
        theirs = self._left_out.intersection(content_words(text, self._m.language))
        if theirs - ground.stems:
            return True
        said = letters_of(text)
        return any(quote in said and quote not in ground.quotable for quote in self._quotes if quote)

    def _shares_a_word(self, text: str, ground: Ground) -> bool:
        """What has not one word of its notes is about something else. Only where it is in their language."""
        if self._m.language and primary(self._m.language) not in ground.languages:
            return True
        content = content_words(text, self._m.language)
        if not content:
            return not SPELLED_OUT.search(text)
        return any(word in ground.stems for word in content)

    def _ground(self, cited: tuple[int, ...]) -> Ground:
        if cited not in self._grounds:
            self._grounds[cited] = Ground([self._m.conversations[n - 1] for n in cited], self._m)
        return self._grounds[cited]

    @property
    def counted(self) -> dict[str, int]:
        """How many sentences were kept, and dropped, by reason."""
        return {reason: count for reason, count in self._counts.items() if count or reason == KEPT}

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many, by reason."""
        return {reason: count for reason, count in self._counts.items() if count and reason not in (KEPT, TITLE)}

    @property
    def told(self) -> str:
        """The reasons, for a person or an LLM: `2 number, 1 name`."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))

    @property
    def too_much_dropped(self) -> bool:
        """Whether the answer is worth asking again: more was dropped than kept."""
        return sum(self.dropped.values()) > self._counts[KEPT]


@lru_cache(maxsize=4)  # the instructions are the same for everybody
def _own_rows(instructions: str) -> frozenset[tuple[str, ...]]:
    return _rows(instructions)


def _rows(text: str) -> frozenset[tuple[str, ...]]:
    words = WORD.findall(text.casefold())
    return frozenset(tuple(words[n : n + WORDS_IN_A_ROW]) for n in range(len(words) - WORDS_IN_A_ROW + 1))
