"""What the LLM answered, read: parsed, and each sentence cleaned, bounded and held against its evidence; or refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from notifications.domain.errors import ItemFault, ItemReason
from notifications.domain.model import Cited, Draft, Highlight
from notifications.domain.text import one_emoji
from notifications.recap import bounds
from notifications.recap.evidence import LEAST_WORDS, MALFORMED, Evidence

MAX_ANSWER_CHARS = 100_000  # no recap is as long: what is longer is not read at all
READ_AT_MOST = 20  # sentences of one list
# In an answer that is more than one object: where one may begin, and how much of all of them is read.
BRACES_TRIED, MAX_CHARS_TRIED = 1_000, 20 * MAX_ANSWER_CHARS
THOUGHT = re.compile(r"</think(?:ing)?>|</reasoning>|◁/think▷|<\|channel\|>final<\|message\|>", re.IGNORECASE)
THINKS = re.compile(r"<think(?:ing)?>|<reasoning>|◁think▷", re.IGNORECASE)
FORM_FAULTS = (ValueError, TypeError, KeyError, RecursionError)
LISTS = ("decisions", "open_questions", "worth_knowing")
RECAP_KEYS = ("highlights", *LISTS, "overview", "headline", "push", "day_emoji")


def read_answer(text: str, evidence: Evidence) -> Draft:
    """The draft in an LLM's answer: what has its evidence. Headline and push are empty where they can't stand.

    Raises ItemFault (invalid_answer, truncated); quotes nothing of the answer.
    """
    try:
        answer = read_object(text, RECAP_KEYS)
        highlights = tuple(_highlights(answer["highlights"], evidence))
        decisions, questions, facts = (_sentences(answer[name], evidence, bounds.MAX_LIST) for name in LISTS)
        evidence.forget_what_was_said()
        draft = Draft(
            headline=evidence.fragment(_fragment(answer["headline"]), bounds.MAX_HEADLINE),
            overview=_sentences(answer["overview"], evidence, bounds.MAX_OVERVIEW),
            day_emoji=one_emoji(_fragment(answer["day_emoji"])),
            push=evidence.fragment(_fragment(answer["push"]), bounds.MAX_PUSH, LEAST_WORDS),
            highlights=highlights,
            unresolved_questions=questions,
            decisions_made=decisions,
            knowledge_nuggets=facts,
        )
    except FORM_FAULTS as cause:
        raise _off_the_schema(cause) from None
    return draft


def read_facts(text: str, evidence: Evidence) -> tuple[Cited, ...]:
    """The facts in the answer for a part of a day. Raises ItemFault as `read_answer`, or unfounded."""
    try:
        facts = _sentences(read_object(text, ("facts",))["facts"], evidence, bounds.MAX_FACTS, bounds.MAX_FACTS)
    except FORM_FAULTS as cause:
        raise _off_the_schema(cause) from None
    if evidence.without_evidence > len(facts) or (evidence.dropped and not facts):
        raise unfounded(evidence)
    return facts


def unfounded(evidence: Evidence) -> ItemFault:
    """Of an answer most of whose sentences have no evidence."""
    return ItemFault(ItemReason.UNFOUNDED, f"The LLM says what the notes do not ({evidence.told}).")


def _off_the_schema(cause: Exception) -> ItemFault:
    what = f"no {cause}" if isinstance(cause, KeyError) else type(cause).__name__
    return ItemFault(ItemReason.INVALID_ANSWER, f"The LLM's answer does not follow the recap's schema ({what}).")


def read_object(text: str, keys: Sequence[str]) -> Mapping[str, Any]:
    """The JSON object; without a fence, the talk or the thoughts that stand around it. What is JSON is left as it is.

    Raises one of FORM_FAULTS; ItemFault (truncated) where the thoughts never ended.
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


def _text(value: object) -> str:
    """A text that any store takes: half of a surrogate pair is JSON, and none. Raises TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError("not a string")
    value.encode()
    return value


def _fragment(value: object) -> str:
    """As `_text`; empty for what is none: a headline that can't be read costs no sentence."""
    try:
        return _text(value)
    except (TypeError, ValueError):
        return ""


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _sentences(value: object, evidence: Evidence, most: int, read: int = READ_AT_MOST) -> tuple[Cited, ...]:
    """The first sentences that stand; one that does not makes room for the next."""
    found: list[Cited] = []
    for one in _list(value)[:read]:
        if len(found) < most and (sentence := _sentence(one, evidence)):
            found.append(sentence)
    return tuple(found)


def _sentence(one: Any, evidence: Evidence) -> Cited | None:
    try:
        text, quote, numbers = _text(one["text"]), _text(one["quote"]), _numbers(one["notes"])
    except FORM_FAULTS:
        evidence.drop("", MALFORMED)
        return None
    return evidence.sentence(text, quote, numbers, confided=bool(one.get("confided")))


def _highlights(value: object, evidence: Evidence) -> Iterable[Highlight]:
    for one in _list(value)[: bounds.MAX_HIGHLIGHTS]:
        try:
            topic, emoji, items = _fragment(one["topic"]), _fragment(one["emoji"]), _list(one["items"])
        except FORM_FAULTS:
            evidence.drop("", MALFORMED)
            continue
        if kept := _sentences(items, evidence, bounds.MAX_ITEMS):
            yield Highlight(evidence.fragment(topic, bounds.MAX_TOPIC), one_emoji(emoji), kept)


def _numbers(value: object) -> list[int]:
    return [n for n in _list(value) if isinstance(n, int) and not isinstance(n, bool)]
