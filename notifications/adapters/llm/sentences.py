"""Sentences for the extract, which needs no server: a kept library finds them in some 300 languages."""

from __future__ import annotations

import sentencex

ANY_LANGUAGE = "en"  # its rules serve what has none of its own


def sentences(text: str, language: str | None) -> list[str]:
    """The text cut into sentences by the rules of its language."""
    return [sentence.strip() for sentence in sentencex.segment((language or ANY_LANGUAGE).split("-")[0], text)]
