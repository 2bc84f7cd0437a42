"""Sentences for the extract: a library finds them in some 300 languages, without a server."""

from __future__ import annotations

import re

import sentencex

ANY_LANGUAGE = "en"  # its rules are used for languages without their own
# Abbreviations before a name or a number that the library takes for the end of a sentence.
ABBREVIATED = re.compile(r"(?<!\S)(?:डॉ|डा|श्री|श्रीमती|सुश्री|प्रो|कु|पं|रु|ডা|ড|د|M|Mme|Dr|Mevr)\.\s*$")
# A day before a German month that a comma follows: "3. März, um acht".
ORDINAL = re.compile(r"(?<!\S)\d{1,2}\.\s*$")
MONTH = re.compile(r"(?:J[aä]n|Feb|März|Apr|Mai|Jun|Jul|Aug|Sept?|Okt|Nov|Dez)\w*\b")


def sentences(text: str, language: str | None) -> list[str]:
    """The text cut into sentences by the rules of its language."""
    pieces, before, code = list[str](), "", (language or ANY_LANGUAGE).split("-")[0]
    for piece in sentencex.segment(code, text):
        if ABBREVIATED.search(before) or (code == "de" and ORDINAL.search(before) and MONTH.match(piece)):
            pieces[-1] += piece
        else:
            pieces.append(piece)
        before = piece
    return [piece.strip() for piece in pieces]
