"""What is known of each language: its English name, its script, and words that the extract looks for."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

TABLE = tomllib.loads((Path(__file__).parent / "languages.toml").read_text(encoding="utf-8"))
LINKS: tuple[str, ...] = tuple(TABLE.pop("links").split())
OTHERS = "en"  # whose words count where a language is not known, or has none of a kind


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
    return tuple((own if own is not None else TABLE[OTHERS][kind]).split())
