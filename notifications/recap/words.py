"""Words, languages and scripts, with `regex`, `stopwordsiso` and the table in languages.toml."""

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
DEFAULT_LANGUAGE = "en"  # used if a language is unknown, or has no words of a kind
# Zero-width joiners belong to the spelling of Persian, Hindi and others.
WORD = regex.compile(
    r"[\p{L}\p{N}][\p{L}\p{N}\p{M}\u200c\u200d]*(?:['’\-‑][\p{L}\p{N}][\p{L}\p{N}\p{M}\u200c\u200d]*)*"
)
LETTER = regex.compile(r"\p{L}")
UNSPACED = regex.compile(
    r"[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}\p{scx=Tibetan}&&\p{L}]\p{M}*",
    regex.VERSION1,
)
CHARACTERS_A_WORD = 2  # counted as one word in scripts without spaces
STEM_LETTERS = 5
MIN_STEMMED = 3  # letters; a shorter word has no stem
MIN_SCRIPT_SHARE = 0.3  # share of a sentence's letters; the others may be names and brands in other scripts
MAX_SAMPLES, MAX_SAMPLE = 50, 300  # texts, and characters of each, by which a script is recognized
COMPOSED = {"Japanese": ("Han", "Hiragana", "Katakana")}
NAMED_SCRIPT = regex.compile(r"-(?!Han[st])[a-z]{4}(?:-|$)", regex.IGNORECASE)  # hi-Latn is not written in Devanagari
SCRIPTS = {
    script: regex.compile("[" + "".join(rf"\p{{{name}}}" for name in COMPOSED.get(script, (script,))) + "]")
    for script in sorted({entry["script"] for entry in TABLE.values()})
}
UNBOUNDED = frozenset({"ja", "zh", "ko"})  # languages in which no boundary marks a word
# Sounds that are a word in no language: uh, hmm, ähm, øh, euh, э-э.
SOUNDS = r"u+h+m*|um{2,}|h+m+|m{2,}|mhm|erm+|[äöø]+h+m*|e+u+h+m*|heu+|e+hm+|э-э+|э{2,}м*|м{2,}|y{2,}|e{3,}"
FIGURES = regex.compile(r"\p{Nd}+(?:[.,:]\p{Nd}+)*")
DOUBLED = regex.compile(r"(?<![\w'’-])([^\W\d][\w'’]*)(?:[,…-]?\s+\1(?![\w'’-]))+", regex.IGNORECASE)


def primary_language(language: str | None) -> str:
    """The language of a tag: `pt` of `pt-BR`; empty for None."""
    return (language or "").split("-")[0].lower()


def language_entry(language: str | None) -> dict[str, Any]:
    """A language's entry in the table, with at least `name` and `script`; empty if it has none."""
    entry: dict[str, Any] = TABLE.get(primary_language(language), {})
    return entry


def english_name(language: str) -> str:
    """The English name of a language with its tag; the tag alone if the name is unknown."""
    name = language_entry(language).get("name")
    return f"{name} ({language})" if name else language


@cache
def table_words(kind: str, tag: str) -> tuple[str, ...]:
    """The table's words of a kind (days, numbers, pronouns, fillers) in a language, else in English."""
    own = language_entry(tag).get(kind)
    return tuple((own if own is not None else TABLE[DEFAULT_LANGUAGE][kind]).split())


def words(text: str) -> list[str]:
    """The words of a text, case-folded and in composed form."""
    return list(map(str, WORD.findall(unicodedata.normalize("NFC", text).casefold())))


@lru_cache(maxsize=64)
def stop_words(language: str) -> frozenset[str]:
    """The stop words of a language; empty if the language is unknown."""
    return frozenset(map(str.casefold, stopwordsiso.stopwords(language) if stopwordsiso.has_lang(language) else ()))


def content_stems(text: str, language: str | None) -> list[str]:
    """The first letters of a text's content words; pairs of letters for a script without spaces."""
    ignored = stop_words(primary_language(language) or DEFAULT_LANGUAGE)
    return [stem for word in words(text) if word not in ignored for stem in _stems(word)]


def _stems(word: str) -> Iterable[str]:
    if UNSPACED.search(word):
        return [word[start : start + 2] for start in range(len(word) - 1)]
    return [word[:STEM_LETTERS]] if len(word) >= MIN_STEMMED else []


def count_words(text: str) -> int:
    """How many words a text has; two characters of a script without spaces count as one."""
    if text.isascii():
        return len(text.split())
    spaced, unspaced = UNSPACED.subn(" ", text)
    return len(str(spaced).split()) + int(unspaced) // CHARACTERS_A_WORD


def writes_no_spaces(text: str) -> bool:
    """Whether the text has letters of a script without spaces between words."""
    return not text.isascii() and UNSPACED.search(text) is not None


NO_ASCII_MARKS = {code: None for code in range(128) if not chr(code).isalnum()}


def letters_of(text: str) -> str:
    """The letters, marks and digits of a text, in compatibility form and case-folded: for comparing."""
    if text.isascii():
        return text.lower().translate(NO_ASCII_MARKS)
    return "".join(map(folded, unicodedata.normalize("NFC", text)))


@lru_cache(maxsize=20_000)
def folded(character: str) -> str:
    """One character as `letters_of` has it; empty if it is no letter, mark or digit."""
    normal = unicodedata.normalize("NFKC", character).casefold()
    return "".join(
        letter for letter in normal if unicodedata.category(letter)[0] in "LMN" and letter not in VARIATION_SELECTORS
    )


def script_of(language: str | None, texts: Iterable[str]) -> str | None:
    """The script of a language; without a language, that of most letters of the texts. None if it is unknown."""
    if language:
        return None if NAMED_SCRIPT.search(language) else language_entry(language).get("script")
    sample = " ".join(text[:MAX_SAMPLE] for text in islice(texts, MAX_SAMPLES))
    if sample.isascii():
        return "Latin" if LETTER.search(sample) else None
    counts = Counter({name: len(pattern.findall(sample)) for name, pattern in SCRIPTS.items()})
    [(best, count)] = counts.most_common(1)
    return best if count * 2 > len(LETTER.findall(sample)) else None


def is_written_in(text: str, script: str) -> bool:
    """Whether enough of a text's letters are in that script. A text without letters is in every script."""
    if text.isascii() and script == "Latin":
        return True
    return len(SCRIPTS[script].findall(text)) >= len(LETTER.findall(text)) * MIN_SCRIPT_SHARE


def days_in(text: str, language: str | None) -> frozenset[str]:
    """The weekdays, months and relative days in a text, case-folded."""
    return frozenset(map(str.casefold, _any_of("days", primary_language(language)).findall(text)))


def numbers_in(text: str, language: str | None) -> frozenset[str]:
    """The figures in a text, and its numbers in words from eleven on, case-folded."""
    spelled = _any_of("numbers", primary_language(language)).findall(text)
    return frozenset(map(str.casefold, (*FIGURES.findall(text), *spelled)))


def begins_with_a_pronoun(text: str, language: str | None) -> bool:
    """Whether a sentence begins with a pronoun, and so can't be understood without the one before."""
    return _opening(primary_language(language)).search(text) is not None


def without_fillers(text: str, language: str | None) -> str:
    """The text without fillers and doubled words; nothing else is changed."""
    text = _fillers(primary_language(language)).sub("", text)
    return " ".join(DOUBLED.sub(partial(_once, language), text).strip(" ,…").split())


def _once(language: str | None, doubled: regex.Match[str]) -> str:
    """The word once; unchanged if it is a number (`twenty twenty` may be a year), or if the second is a name."""
    is_name = doubled[1][0].islower() and not doubled[0].islower()
    return str(doubled[0] if is_name or numbers_in(doubled[1], language) else doubled[1])


@cache
def _any_of(kind: str, tag: str) -> regex.Pattern[str]:
    words = "|".join(word.replace("*", r"\w*").replace("'", "['’]") for word in table_words(kind, tag))
    return regex.compile(words if tag in UNBOUNDED else rf"(?<!\w)(?:{words})(?!\w)", regex.IGNORECASE)


@cache
def _opening(tag: str) -> regex.Pattern[str]:
    pronouns, links = ("|".join(map(regex.escape, words)) for words in (table_words("pronouns", tag), LINKS))
    end = "" if tag in UNBOUNDED else r"(?!\w)"
    return regex.compile(rf"^[\W_]*(?:(?:{links}),?\s+)?(?:{pronouns}){end}", regex.IGNORECASE)


@cache
def _fillers(tag: str) -> regex.Pattern[str]:
    """Fillers with their punctuation: that of a sentence of fillers alone, or the comma before one at the end."""
    own = language_entry(tag).get("fillers", "").split()
    if tag in UNBOUNDED:
        sounds = "|".join(own) or r"(?!)"
        return regex.compile(rf"[、，](?:{sounds})(?=[。！？])|(?:{sounds})[、，,…]*\s*")
    sounds = "|".join([SOUNDS, *own])
    no_acronym = r"(?-i:(?!\p{Lu}{2}))"  # the ER is a place
    filler = rf"(?<![\w'’-])(?<!\d ){no_acronym}(?:{sounds})(?![\w'’-])"
    sentence = rf"(?<=(?:^|[.!?…])\s*)(?:{filler}[,.!?…]*\s*)+"
    at_the_end = rf",\s+(?:{filler}[,…]*\s*)+(?=[.!?])"
    return regex.compile(rf"{sentence}|{at_the_end}|{filler}[,…]*\s*", regex.IGNORECASE)
