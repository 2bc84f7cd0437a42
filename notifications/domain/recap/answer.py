"""What the LLM answered, read: parsed, and each sentence cleaned, bounded and checked; or refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from notifications.domain.errors import ItemFault, ItemReason
from notifications.domain.model import Cited, Draft, Highlight
from notifications.domain.recap.bounds import (
    MAX_FACTS,
    MAX_HEADLINE,
    MAX_HIGHLIGHTS,
    MAX_LIST,
    MAX_LISTED,
    MAX_OVERVIEW,
    MAX_SENTENCE,
    MAX_SUMMARY,
    MAX_TOPIC,
)
from notifications.domain.recap.checks import Checks
from notifications.domain.text import bounded, one_emoji, plain

MAX_ANSWER_CHARS = 100_000  # no recap is as long: what is longer is not read at all
READ_AT_MOST = 20  # sentences of one list
BRACES_TRIED = 50  # where an object may begin, in an answer that is more than one
FORM_FAULTS = (ValueError, TypeError, KeyError, RecursionError)
RECAP_KEYS = (
    *("headline", "overview", "day_emoji", "highlights"),
    *("unresolved_questions", "decisions_made", "knowledge_nuggets"),
)


def read_answer(text: str, checks: Checks) -> Draft:
    """The draft in an LLM's answer: only what stood the checks, which count what they dropped.

    Raises ItemFault (invalid_answer, unfounded); quotes nothing of the answer.
    """
    try:
        answer = _object(text, RECAP_KEYS)
        overview = _sentences(answer["overview"], checks, MAX_SENTENCE)
        highlights = tuple(_highlights(answer["highlights"], checks))
        draft = Draft(
            headline=_headline(_text(answer["headline"], MAX_HEADLINE), checks, highlights, overview),
            overview=bounded(" ".join(one.text for one in overview), MAX_OVERVIEW),
            day_emoji=one_emoji(_text(answer["day_emoji"], MAX_HEADLINE)),
            highlights=highlights,
            unresolved_questions=_sentences(answer["unresolved_questions"], checks, MAX_LISTED)[:MAX_LIST],
            decisions_made=_sentences(answer["decisions_made"], checks, MAX_LISTED)[:MAX_LIST],
            knowledge_nuggets=_sentences(answer["knowledge_nuggets"], checks, MAX_LISTED)[:MAX_LIST],
            checks=checks.counted,
        )
        if not overview and not checks.dropped:
            raise ValueError("no overview")
    except FORM_FAULTS as cause:
        raise _off_the_schema(cause) from None
    if checks.too_much_dropped or not overview:
        raise ItemFault(ItemReason.UNFOUNDED, f"The LLM says what the notes do not ({checks.told}).")
    return draft


def read_facts(text: str, checks: Checks) -> tuple[Cited, ...]:
    """The facts in the answer for a part of a day. Raises ItemFault as `read_answer`."""
    try:
        facts = _sentences(_object(text, ("facts",))["facts"], checks, MAX_SENTENCE, MAX_FACTS)
    except FORM_FAULTS as cause:
        raise _off_the_schema(cause) from None
    if checks.too_much_dropped:
        raise ItemFault(ItemReason.UNFOUNDED, f"The LLM says what the notes do not ({checks.told}).")
    return facts


def _off_the_schema(cause: Exception) -> ItemFault:
    what = f"no {cause}" if isinstance(cause, KeyError) else type(cause).__name__
    return ItemFault(ItemReason.INVALID_ANSWER, f"The LLM's answer does not follow the recap's schema ({what}).")


def _object(text: str, keys: Sequence[str]) -> Mapping[str, Any]:
    """The JSON object; without a fence, or the talk, that a server puts around it. What is JSON is left as it is."""
    if len(text) > MAX_ANSWER_CHARS:
        raise ValueError("too long")
    try:
        found = json.loads(text)
    except ValueError:
        found = _inside(text, keys)
        if found is None:
            raise
    if not isinstance(found, dict):
        raise TypeError("no object")
    return found


def _inside(text: str, keys: Sequence[str]) -> object:
    decoder, at = json.JSONDecoder(), -1
    for _ in range(BRACES_TRIED):
        at = text.find("{", at + 1)
        if at < 0:
            break
        try:
            found, _end = decoder.raw_decode(text, at)
        except ValueError:
            continue
        if isinstance(found, dict) and all(key in found for key in keys):
            return found
    return None


def _text(value: object, length: int) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    value.encode()  # half of a surrogate pair is JSON, but no text that any store takes: a ValueError
    return bounded(plain(value), length)


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _sentences(value: object, checks: Checks, length: int, most: int = READ_AT_MOST) -> tuple[Cited, ...]:
    read = ((_text(one["text"], length), _numbers(one["notes"])) for one in _list(value)[:most])
    checked = ((text, checks.stands(text, numbers)) for text, numbers in read if text)
    return tuple(Cited(text, cited) for text, cited in checked if cited)


def _highlights(value: object, checks: Checks) -> Iterable[Highlight]:
    for one in _list(value)[:MAX_HIGHLIGHTS]:
        topic, summary = _text(one["topic"], MAX_TOPIC), _text(one["summary"], MAX_SUMMARY)
        emoji = one_emoji(_text(one["emoji"], MAX_HEADLINE))
        numbers = _numbers(one["notes"])
        if (topic or summary) and (cited := checks.stands(summary or topic, numbers)):
            if not checks.title_stands(topic, numbers):
                topic = bounded(plain(checks.title_of(cited[0])) or summary, MAX_TOPIC)
            yield Highlight(topic, emoji, summary, cited)


def _headline(text: str, checks: Checks, highlights: Sequence[Highlight], overview: Sequence[Cited]) -> str:
    """The answer's, where it stands up to the whole day; else the first topic, or sentence, that does."""
    if checks.title_stands(text):
        return text
    kept = [*(one.topic for one in highlights), *(one.text for one in overview)]
    return bounded(kept[0], MAX_HEADLINE) if kept else ""


def _numbers(value: object) -> list[int]:
    return [n for n in _list(value) if isinstance(n, int) and not isinstance(n, bool)]
