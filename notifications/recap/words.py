"""Words, languages and writing systems, as far as a recap needs them: what `regex` and `stopwordsiso` know."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

import regex
import stopwordsiso

from notifications.domain.text import VARIATION_SELECTORS
from notifications.recap.languages import TABLE, known, primary

# Joiners are part of the spelling of Persian, Hindi and others.
WORD = regex.compile(
    r"[\p{L}\p{N}][\p{L}\p{N}\p{M}\u200c\u200d]*(?:['’\-‑][\p{L}\p{N}][\p{L}\p{N}\p{M}\u200c\u200d]*)*"
)
LETTER = regex.compile(r"\p{L}")
UNSPACED = regex.compile(
    r"[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}\p{scx=Tibetan}&&\p{L}]\p{M}*",
    regex.VERSION1,
)
CHARACTERS_A_WORD = 2  # in scripts that write no spaces
STEM, LEAST_STEMMED = 5, 3  # letters: what two forms of a word have in common
LEAST_SHARE = 0.3  # of a sentence's letters: names and brands of other scripts may stand in it
LOOKED_AT, TEXTS = 300, 50  # characters of one text, and texts
COMPOSED = {"Japanese": ("Han", "Hiragana", "Katakana")}
NAMED_SCRIPT = regex.compile(r"-(?!Han[st])[a-z]{4}(?:-|$)", regex.IGNORECASE)  # hi-Latn is written in another
SCRIPTS = {
    script: regex.compile("[" + "".join(rf"\p{{{name}}}" for name in COMPOSED.get(script, (script,))) + "]")
    for script in sorted({one["script"] for one in TABLE.values()})
}


def words(text: str) -> list[str]:
    """The words of a text, without case; an accent written as two characters is one."""
    return list(map(str, WORD.findall(unicodedata.normalize("NFC", text).casefold())))


@lru_cache(maxsize=64)
def stop_words(language: str) -> frozenset[str]:
    """The words of a language that say nothing by themselves; none of an unknown one."""
    return (
        frozenset(map(str.casefold, stopwordsiso.stopwords(language)))
        if stopwordsiso.has_lang(language)
        else frozenset()
    )


def content_stems(text: str, language: str | None) -> list[str]:
    """What a text is about: the first letters of its words; pairs of letters where no spaces are written."""
    empty = stop_words(primary(language) or "en")
    return [stem for word in words(text) if word not in empty for stem in _stems(word)]


def _stems(word: str) -> Iterable[str]:
    if UNSPACED.search(word):
        return [word[n : n + 2] for n in range(len(word) - 1)]
    return [word[:STEM]] if len(word) >= LEAST_STEMMED else []


def words_in(text: str) -> int:
    """How many words are said; where a script writes no spaces, two characters count as one."""
    if text.isascii():
        return len(text.split())
    spaced, unspaced = UNSPACED.subn(" ", text)
    return len(str(spaced).split()) + int(unspaced) // CHARACTERS_A_WORD


def writes_no_spaces(text: str) -> bool:
    """Whether a letter of it belongs to a script that puts no space between words."""
    return not text.isascii() and UNSPACED.search(text) is not None


def letters_of(text: str) -> str:
    """The letters, marks and digits of a text, in their compatibility form and without case."""
    return "".join(map(folded, unicodedata.normalize("NFC", text)))


@lru_cache(maxsize=20_000)
def folded(character: str) -> str:
    """One character as texts are compared by it; empty where it is no letter, mark or digit."""
    found = unicodedata.normalize("NFKC", character).casefold()
    return "".join(one for one in found if unicodedata.category(one)[0] in "LMN" and one not in VARIATION_SELECTORS)


def script_of(language: str | None, texts: Iterable[str]) -> str | None:
    """The script of the language; without one, that of most letters of the texts. None where it is not known."""
    if language:
        return None if NAMED_SCRIPT.search(language) else known(language).get("script")
    said = " ".join(text[:LOOKED_AT] for text in islice(texts, TEXTS))
    counts = Counter({name: len(pattern.findall(said)) for name, pattern in SCRIPTS.items()})
    [(best, count)] = counts.most_common(1)
    return best if count * 2 > len(LETTER.findall(said)) else None


def is_written_in(text: str, script: str) -> bool:
    """Whether enough of its letters are of that script. A text without letters is in every one."""
    return len(SCRIPTS[script].findall(text)) >= len(LETTER.findall(text)) * LEAST_SHARE
