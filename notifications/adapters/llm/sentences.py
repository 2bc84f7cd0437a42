"""Sentences for the extract: a library finds them in some 300 languages, without a server."""

from __future__ import annotations

import sentencex

ANY_LANGUAGE = "en"  # its rules are used for languages without their own


def sentences(text: str, language: str | None) -> list[str]:
    """The text cut into sentences by the rules of its language."""
    return [sentence.strip() for sentence in sentencex.segment((language or ANY_LANGUAGE).split("-")[0], text)]
