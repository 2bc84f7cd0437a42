"""Writing systems: which one a recap is to be in, and whether a sentence is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

from notifications.domain.language.words import primary

LEAST_SHARE = 0.3  # of a sentence's letters: names and brands of other scripts may stand in it
LOOKED_AT, TEXTS = 300, 50  # characters of one text, and texts
LETTER = re.compile(r"[^\W\d_]")
SCRIPTS: dict[str, re.Pattern[str]] = {
    "Latin": re.compile(r"[A-Za-zÀ-ʯḀ-ỿ]"),
    "Greek": re.compile(r"[Ͱ-Ͽἀ-῿]"),
    "Cyrillic": re.compile(r"[Ѐ-ԯ]"),
    "Armenian": re.compile(r"[԰-֏]"),
    "Hebrew": re.compile(r"[֐-׿]"),
    "Arabic": re.compile(r"[؀-ۿݐ-ݿࢠ-ࣿﭐ-﷿ﹰ-﻿]"),
    "Devanagari": re.compile(r"[ऀ-ॿ]"),
    "Bengali": re.compile(r"[ঀ-৿]"),
    "Gurmukhi": re.compile(r"[਀-੿]"),
    "Gujarati": re.compile(r"[઀-૿]"),
    "Tamil": re.compile(r"[஀-௿]"),
    "Telugu": re.compile(r"[ఀ-౿]"),
    "Kannada": re.compile(r"[ಀ-೿]"),
    "Malayalam": re.compile(r"[ഀ-ൿ]"),
    "Sinhala": re.compile(r"[඀-෿]"),
    "Thai": re.compile(r"[฀-๿]"),
    "Georgian": re.compile(r"[Ⴀ-ჿ]"),
    "Ethiopic": re.compile(r"[ሀ-፿]"),
    "Hangul": re.compile(r"[가-힯ᄀ-ᇿ㄰-㆏]"),
    "Japanese": re.compile(r"[぀-ヿ㐀-鿿々]"),
    "Han": re.compile(r"[㐀-鿿]"),
}
OF_LANGUAGE = {
    **dict.fromkeys(["ru", "uk", "be", "bg", "mk", "kk", "ky", "mn"], "Cyrillic"),
    **dict.fromkeys(["ar", "fa", "ur", "ps", "ckb"], "Arabic"),
    **dict.fromkeys(["hi", "mr", "ne", "sa"], "Devanagari"),
    **dict.fromkeys(("he", "iw", "yi"), "Hebrew"),
    **dict.fromkeys(("zh", "yue"), "Han"),
    **dict.fromkeys(
        [
            "en",
            "de",
            "fr",
            "es",
            "pt",
            "it",
            "nl",
            "pl",
            "cs",
            "sk",
            "sl",
            "hr",
            "hu",
            "ro",
            "sv",
            "da",
            "nb",
            "no",
            "nn",
            "fi",
            "et",
            "lv",
            "lt",
            "tr",
            "id",
            "ms",
            "vi",
            "sw",
            "af",
            "ca",
            "eu",
            "gl",
            "is",
            "ga",
            "cy",
            "sq",
        ],
        "Latin",
    ),
    **{"el": "Greek", "hy": "Armenian", "bn": "Bengali", "pa": "Gurmukhi", "gu": "Gujarati", "ta": "Tamil"},
    **{"te": "Telugu", "kn": "Kannada", "ml": "Malayalam", "si": "Sinhala", "th": "Thai", "ka": "Georgian"},
    **{"am": "Ethiopic", "ko": "Hangul", "ja": "Japanese"},
}


def script_of(language: str | None, texts: Iterable[str]) -> str | None:
    """The script of the language; without one, that of most letters of the texts. None where nobody knows."""
    if language:
        return OF_LANGUAGE.get(primary(language))
    said = " ".join(text[:LOOKED_AT] for text in islice(texts, TEXTS))
    counts = {name: len(pattern.findall(said)) for name, pattern in SCRIPTS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] * 2 > len(LETTER.findall(said)) else None


def is_written_in(text: str, script: str) -> bool:
    """Whether enough of its letters are of that script. A text without letters is in every one."""
    letters = len(LETTER.findall(text))
    return len(SCRIPTS[script].findall(text)) >= letters * LEAST_SHARE
