"""What the LLM answered, read: parsed, cleaned and bounded, or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from notifications.domain.errors import ItemFault, ItemReason
from notifications.domain.model import Draft, Highlight
from notifications.domain.recap.material import (
    MAX_HIGHLIGHTS,
    MAX_LIST,
    MAX_LISTED,
    MAX_OVERVIEW,
    MAX_SUMMARY,
    MAX_TOPIC,
    Material,
)
from notifications.domain.text import bounded, one_emoji, plain

MAX_ANSWER_CHARS = 100_000  # no recap is as long: what is longer is not read at all
MAX_HEADLINE = 120


def read_answer(text: str, m: Material, metadata: Mapping[str, str | int | bool]) -> Draft:
    """The draft in an LLM's answer, cleaned and bounded. Raises ItemFault (invalid_answer); quotes nothing of it."""
    try:
        if len(text) > MAX_ANSWER_CHARS:
            raise ValueError("too long")
        answer = json.loads(text)
        draft = Draft(
            headline=_text(answer["headline"], MAX_HEADLINE),
            overview=_text(answer["overview"], MAX_OVERVIEW),
            day_emoji=_emoji(answer["day_emoji"]),
            highlights=tuple(_highlight(h, m) for h in _list(answer["highlights"])[:MAX_HIGHLIGHTS]),
            unresolved_questions=_texts(answer["unresolved_questions"]),
            decisions_made=_texts(answer["decisions_made"]),
            knowledge_nuggets=_texts(answer["knowledge_nuggets"]),
            metadata=metadata,
        )
        if not draft.headline or not draft.overview:
            raise ValueError("headline or overview is empty")
    except (ValueError, TypeError, KeyError, RecursionError) as cause:
        what = f"no {cause}" if isinstance(cause, KeyError) else type(cause).__name__
        raise ItemFault(
            ItemReason.INVALID_ANSWER, f"The LLM's answer does not follow the recap's schema ({what})."
        ) from None
    return draft


def _text(value: object, length: int) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    value.encode()  # half of a surrogate pair is JSON, but no text that any store takes: a ValueError
    return bounded(plain(value), length)


def _emoji(value: object) -> str:
    return one_emoji(_text(value, MAX_HEADLINE))


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for text in (_text(one, MAX_LISTED) for one in _list(value)[: 4 * MAX_LIST]) if text)[:MAX_LIST]


def _highlight(value: Mapping[str, object], m: Material) -> Highlight:
    numbers = [n for n in _list(value["conversations"]) if isinstance(n, int) and 1 <= n <= len(m.conversations)]
    return Highlight(
        topic=_text(value["topic"], MAX_TOPIC),
        emoji=_emoji(value["emoji"]),
        summary=_text(value["summary"], MAX_SUMMARY),
        conversation_ids=tuple(m.conversations[n - 1].id for n in dict.fromkeys(numbers)),
    )
