"""Words of a text: which carry meaning, and which of them stand in another text in whatever form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from notifications.domain.language.common_words import COMMON, ENDINGS

MARKS = (  # that belong to the letter before them: accents, points, the vowel signs of Indic scripts, joiners
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0903\u093a-\u094f\u0951-\u0957"
    "\u0962\u0963\u0981-\u0983\u09bc-\u09cd\u0a01-\u0a03\u0a3c-\u0a4d\u0a81-\u0a83\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b4d"
    "\u0b82\u0bbe-\u0bcd\u0c00-\u0c03\u0c3e-\u0c4d\u0c81-\u0c83\u0cbc-\u0ccd\u0d00-\u0d03\u0d3b-\u0d4d\u0dca-\u0ddf"
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u200c\u200d"
)
WORD = re.compile(rf"[^\W_](?:[^\W_]|[{MARKS}]|['’\-‑](?=[^\W_]))*")
LEAST_LETTERS, STEM = 3, 4
SMALL_WORDS = 3  # of another language: fewer are chance
CHARACTERS_A_WORD = 2  # in scripts that write no spaces
WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")

LEAST_STEM = 3


def primary(language: str | None) -> str:
    """The language of a tag: `pt` of `pt-BR`; empty where there is none."""
    return (language or "").split("-")[0].lower()


def words(text: str) -> list[str]:
    """The words of a text, without case; an accent written as two characters is one."""
    return WORD.findall(unicodedata.normalize("NFC", text).casefold())


def common(language: str | None) -> frozenset[str]:
    """The words of a language that say nothing by themselves; of an unknown one those of English."""
    return COMMON.get(primary(language) or "en", frozenset())


def is_in_another_language(text: str, language: str | None) -> bool:
    """Whether its small words are those of another language, and none is of its own."""
    own = primary(language)
    if not own:
        return False
    found = words(text)
    if any(word in COMMON.get(own, ()) for word in found):
        return False
    return any(
        sum(word in theirs for word in found) >= SMALL_WORDS for tongue, theirs in COMMON.items() if tongue != own
    )


def content_words(text: str, language: str | None) -> list[str]:
    """The stems of what a sentence is about."""
    empty = common(language)
    return [stem for word in words(text) if word not in empty for stem in stems(word)]


def stems(word: str) -> Iterable[str]:
    """What two forms of a word have in common: its first letters; pairs of letters where no spaces are written."""
    if any(map(writes_no_spaces, word)):
        pairs = (word[n : n + 2] for n in range(len(word) - 1))
        return [pair for pair in pairs if not all("ぁ" <= letter <= "ん" for letter in pair)]
    return [word[:STEM]] if len(word) >= LEAST_LETTERS else []


def without_ending(word: str, language: str) -> str:
    """The word without its case ending; the word itself where the language has none."""
    for ending in ENDINGS.get(language, ()):
        if word.endswith(ending) and len(word) - len(ending) >= LEAST_STEM:
            return word[: -len(ending)]
    return word


def words_in(text: str) -> int:
    """How many words are said; where a script writes no spaces, two characters count as one."""
    unspaced = sum(map(writes_no_spaces, text))
    if not unspaced:
        return len(text.split())
    spaced = "".join(" " if writes_no_spaces(letter) else letter for letter in text)
    return len(spaced.split()) + unspaced // CHARACTERS_A_WORD


def writes_no_spaces(letter: str) -> bool:
    """Whether its script puts no space between words."""
    return letter > "\u0dff" and unicodedata.name(letter, "").startswith(WITHOUT_SPACES)
