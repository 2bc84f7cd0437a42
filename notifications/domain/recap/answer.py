"""What the LLM answered, read: parsed, and each sentence cleaned, bounded and checked; or refused."""

from __future__ import annotations

import json
import re
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
# In an answer that is more than one object: where one may begin, and how much of all of them is read.
BRACES_TRIED, MAX_CHARS_TRIED = 1_000, 20 * MAX_ANSWER_CHARS
THOUGHT = re.compile(r"</think(?:ing)?>|</reasoning>|◁/think▷|<\|channel\|>final<\|message\|>", re.IGNORECASE)
THINKS = re.compile(r"<think(?:ing)?>|<reasoning>|◁think▷", re.IGNORECASE)
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
    """The JSON object; without a fence, the talk or the thoughts that stand around it. What is JSON is left as it is.

    Raises ItemFault (truncated) where the thoughts never ended.
    """
    if len(text) > MAX_ANSWER_CHARS:
        raise ValueError("too long")
    try:
        found = json.loads(text)
    except ValueError:
        text = _said(text)
        found = _last_inside(text, keys)
        if found is None:
            raise
    if not _fits(found, keys):
        found = _last_inside(text, keys) or found
    if not isinstance(found, dict):
        raise TypeError("no object")
    return found


def _said(text: str) -> str:
    """What follows the thoughts of a model that writes them down: a draft in them is no answer."""
    said = THOUGHT.split(text)[-1]
    begun = THINKS.search(said)
    if begun is None:
        return said
    if not said[: begun.start()].strip():
        raise ItemFault(ItemReason.TRUNCATED, "The LLM's answer ends before its thoughts do.")
    return said[: begun.start()]


def _fits(found: object, keys: Sequence[str]) -> bool:
    return isinstance(found, dict) and all(key in found for key in keys)


def _last_inside(text: str, keys: Sequence[str]) -> Mapping[str, Any] | None:
    """The last object in the text that has these keys, looked for from its end; a bounded part of it is read."""
    decoder, at, left = json.JSONDecoder(), len(text), MAX_CHARS_TRIED
    for _ in range(BRACES_TRIED):
        at = text.rfind("{", 0, at)
        if at < 0 or left <= 0:
            break
        try:
            found, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as wrong:
            left -= wrong.pos - at + 1
            continue
        except (ValueError, RecursionError):
            break
        left -= end - at
        if _fits(found, keys):
            return dict(found)
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
