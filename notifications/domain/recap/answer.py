"""What the LLM answered, read: parsed, its citations resolved, cleaned and bounded; or refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from notifications.domain.errors import ItemFault, ItemReason
from notifications.domain.model import Cited, Draft, Highlight
from notifications.domain.recap.bounds import (
    MAX_HEADLINE,
    MAX_HIGHLIGHTS,
    MAX_LIST,
    MAX_LISTED,
    MAX_OVERVIEW,
    MAX_SENTENCE,
    MAX_SUMMARY,
    MAX_TOPIC,
)
from notifications.domain.recap.material import Material
from notifications.domain.text import bounded, one_emoji, plain

MAX_ANSWER_CHARS = 100_000  # no recap is as long: what is longer is not read at all
READ_AT_MOST = 20  # sentences of one list
KEPT, UNCITED = "kept", "uncited"


def read_answer(text: str, m: Material, **spent: Mapping[str, Any]) -> Draft:
    """The draft in an LLM's answer. Raises ItemFault (invalid_answer); quotes nothing of it.

    A sentence without a citation that exists is dropped and counted. `spent`: the draft's `metadata` and `coverage`.
    """
    checks: Counter[str] = Counter({KEPT: 0, UNCITED: 0})
    try:
        if len(text) > MAX_ANSWER_CHARS:
            raise ValueError("too long")
        answer = json.loads(text)
        overview = _sentences(answer["overview"], m, checks, MAX_SENTENCE)
        draft = Draft(
            headline=_text(answer["headline"], MAX_HEADLINE),
            overview=bounded(" ".join(one.text for one in overview), MAX_OVERVIEW),
            day_emoji=one_emoji(_text(answer["day_emoji"], MAX_HEADLINE)),
            highlights=tuple(_highlights(answer["highlights"], m, checks)),
            unresolved_questions=_sentences(answer["unresolved_questions"], m, checks, MAX_LISTED)[:MAX_LIST],
            decisions_made=_sentences(answer["decisions_made"], m, checks, MAX_LISTED)[:MAX_LIST],
            knowledge_nuggets=_sentences(answer["knowledge_nuggets"], m, checks, MAX_LISTED)[:MAX_LIST],
            checks=dict(checks),
            **spent,
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


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _sentences(value: object, m: Material, checks: Counter[str], length: int) -> tuple[Cited, ...]:
    found = (Cited(_text(one["text"], length), _cited(one["notes"], m)) for one in _list(value)[:READ_AT_MOST])
    return tuple(one for one in found if one.text and _counted(one.conversation_ids, checks))


def _highlights(value: object, m: Material, checks: Counter[str]) -> Iterable[Highlight]:
    for one in _list(value)[:MAX_HIGHLIGHTS]:
        cited = _cited(one["notes"], m)
        topic, summary = _text(one["topic"], MAX_TOPIC), _text(one["summary"], MAX_SUMMARY)
        emoji = one_emoji(_text(one["emoji"], MAX_HEADLINE))
        if (topic or summary) and _counted(cited, checks):
            yield Highlight(topic or summary[:MAX_TOPIC], emoji, summary, cited)


def _counted(cited: tuple[str, ...], checks: Counter[str]) -> bool:
    checks[KEPT if cited else UNCITED] += 1
    return bool(cited)


def _cited(value: object, m: Material) -> tuple[str, ...]:
    """The conversations behind the numbers of notes: those that exist, each once."""
    numbers = [n for n in _list(value) if isinstance(n, int) and not isinstance(n, bool)]
    return tuple(m.conversations[n - 1].id for n in dict.fromkeys(numbers) if 1 <= n <= len(m.conversations))
