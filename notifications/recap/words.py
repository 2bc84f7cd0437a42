"""Words, languages and writing systems, as far as a recap needs them: what `regex` and `stopwordsiso` know."""

from __future__ import annotations

import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache, lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import regex
import stopwordsiso

from notifications.domain.text import VARIATION_SELECTORS

TABLE = tomllib.loads((Path(__file__).parent / "languages.toml").read_text(encoding="utf-8"))
LINKS: tuple[str, ...] = tuple(TABLE.pop("links").split())
DEFAULT_LANGUAGE = "en"  # whose words count where a language is not known, or has none of a kind
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
WITHIN_OTHERS = frozenset({"ja", "zh", "ko"})  # whose words stand within others
# No language's words: uh, hmm, ähm, euh, э-э.
SOUNDS = r"u+h+m*|um{2,}|h+m+|m{2,}|mhm|erm+|[äö]+h+m*|e+u+h+m*|heu+|e+hm+|э-э+|э{2,}м*|м{2,}|y{2,}|e{3,}"
FIGURES = regex.compile(r"\p{Nd}+(?:[.,:]\p{Nd}+)*")
DOUBLED = regex.compile(r"(?<![\w'’-])([^\W\d][\w'’]*)(?:[,…-]?\s+\1(?![\w'’-]))+", regex.IGNORECASE)


def primary(language: str | None) -> str:
    """The language of a tag: `pt` of `pt-BR`; empty where there is none."""
    return (language or "").split("-")[0].lower()


def known(language: str | None) -> dict[str, Any]:
    """What is known of a language: `name` and `script` at least; empty where it is not in the table."""
    found: dict[str, Any] = TABLE.get(primary(language), {})
    return found


def english_name(language: str) -> str:
    """What English calls a language, with its tag; the tag alone where it is not known."""
    name = known(language).get("name")
    return f"{name} ({language})" if name else language


@cache
def words_of(kind: str, tag: str) -> tuple[str, ...]:
    """A language's words of a kind, as the table has them."""
    own = known(tag).get(kind)
    return tuple((own if own is not None else TABLE[DEFAULT_LANGUAGE][kind]).split())


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


def count_words(text: str) -> int:
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


def days_in(text: str, language: str | None) -> frozenset[str]:
    """The weekdays, months, and days from today that it names, in small letters."""
    return frozenset(found.casefold() for found in _any_of("days", primary(language)).findall(text))


def numbers_in(text: str, language: str | None) -> frozenset[str]:
    """Its figures, and its numbers in words from eleven on, in small letters."""
    words = _any_of("numbers", primary(language)).findall(text)
    return frozenset(found.casefold() for found in (*FIGURES.findall(text), *words))


def begins_with_a_pronoun(text: str, language: str | None) -> bool:
    """Whether it can't be understood without the sentence before."""
    return _opening(primary(language)).search(text) is not None


def without_fillers(text: str, language: str | None) -> str:
    """The text without fillers, and without a word that is said twice in a row; nothing else is changed."""
    kept = DOUBLED.sub(partial(_once, language), _fillers(primary(language)).sub("", text)).strip(" ,…")
    return " ".join(kept.split())


def _once(language: str | None, found: regex.Match[str]) -> str:
    """A word that was said twice; both, where it is a number (`twenty twenty` may be a year), or the second a name."""
    names = found[1][0].islower() and not found[0].islower()
    return str(found[0] if names or numbers_in(found[1], language) else found[1])


@cache
def _any_of(kind: str, tag: str) -> regex.Pattern[str]:
    words = "|".join(word.replace("*", r"\w*").replace("'", "['’]") for word in words_of(kind, tag))
    return regex.compile(words if tag in WITHIN_OTHERS else rf"(?<!\w)(?:{words})(?!\w)", regex.IGNORECASE)


@cache
def _opening(tag: str) -> regex.Pattern[str]:
    pronouns, links = ("|".join(map(regex.escape, words)) for words in (words_of("pronouns", tag), LINKS))
    end = "" if tag in WITHIN_OTHERS else r"(?!\w)"
    return regex.compile(rf"^[\W_]*(?:(?:{links}),?\s+)?(?:{pronouns}){end}", regex.IGNORECASE)


@cache
def _fillers(tag: str) -> regex.Pattern[str]:
    own = known(tag).get("fillers", "").split()
    if tag in WITHIN_OTHERS:
        return regex.compile(rf"(?:{'|'.join(own)})[、，,…]*\s*" if own else r"(?!)")
    sounds = "|".join([SOUNDS, *own])
    no_acronym = r"(?-i:(?!\p{Lu}{2}))"  # the ER is a place
    return regex.compile(rf"(?<![\w'’-])(?<!\d ){no_acronym}(?:{sounds})(?![\w'’-])[,…]*\s*", regex.IGNORECASE)
