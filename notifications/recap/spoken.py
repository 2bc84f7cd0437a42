"""Speech, as the extract knows it: fillers, spoken days and numbers, and pronouns that a sentence begins with."""

from __future__ import annotations

from functools import cache, partial

import regex

from notifications.recap.languages import LINKS, known, primary, words_of

UNSPACED = frozenset({"ja", "zh", "ko"})  # whose words stand within others
# No language's words: uh, hmm, ähm, euh, э-э.
SOUNDS = r"u+h+m*|um{2,}|h+m+|m{2,}|mhm|erm+|[äö]+h+m*|e+u+h+m*|heu+|e+hm+|э-э+|э{2,}м*|м{2,}|y{2,}|e{3,}"
FIGURES = regex.compile(r"\p{Nd}+(?:[.,:]\p{Nd}+)*")
DOUBLED = regex.compile(r"(?<![\w'’-])([^\W\d][\w'’]*)(?:[,…-]?\s+\1(?![\w'’-]))+", regex.IGNORECASE)


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
    return regex.compile(words if tag in UNSPACED else rf"(?<!\w)(?:{words})(?!\w)", regex.IGNORECASE)


@cache
def _opening(tag: str) -> regex.Pattern[str]:
    pronouns, links = ("|".join(map(regex.escape, words)) for words in (words_of("pronouns", tag), LINKS))
    end = "" if tag in UNSPACED else r"(?!\w)"
    return regex.compile(rf"^[\W_]*(?:(?:{links}),?\s+)?(?:{pronouns}){end}", regex.IGNORECASE)


@cache
def _fillers(tag: str) -> regex.Pattern[str]:
    own = known(tag).get("fillers", "").split()
    if tag in UNSPACED:
        return regex.compile(rf"(?:{'|'.join(own)})[、，,…]*\s*" if own else r"(?!)")
    sounds = "|".join([SOUNDS, *own])
    no_acronym = r"(?-i:(?!\p{Lu}{2}))"  # the ER is a place
    return regex.compile(rf"(?<![\w'’-])(?<!\d ){no_acronym}(?:{sounds})(?![\w'’-])[,…]*\s*", regex.IGNORECASE)
