"""Reads the LLM's answer: parses it, and cleans and checks each sentence; or refuses it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from notifications.domain.errors import ItemFault, ItemReason
from notifications.domain.model import Cited, Draft, Highlight
from notifications.domain.text import one_emoji
from notifications.recap import bounds
from notifications.recap.evidence import MIN_SENTENCE_WORDS, DropReason, Evidence
from notifications.recap.prompt import SCHEMA

MAX_ANSWER_CHARS = 100_000  # a longer answer is refused unread
MAX_LIST_READ = 20  # sentences of one list
# If an answer has text around its object, its braces are tried from the end:
MAX_BRACES = 1_000  # so many of them,
MAX_CHARS_TRIED = 20 * MAX_ANSWER_CHARS  # until so many characters have been parsed
THOUGHT_ENDS = re.compile(r"</think(?:ing)?>|</reasoning>|◁/think▷|<\|channel\|>final<\|message\|>", re.IGNORECASE)
THOUGHT_BEGINS = re.compile(r"<think(?:ing)?>|<reasoning>|◁think▷", re.IGNORECASE)
SCHEMA_ERRORS = (ValueError, TypeError, KeyError, RecursionError)
LISTS = ("decisions", "open_questions", "worth_knowing")
RECAP_KEYS = tuple(SCHEMA["required"])


def read_answer(text: str, evidence: Evidence) -> Draft:
    """The draft in an LLM's answer, without the sentences that lack evidence. A dropped headline or push is empty.

    Raises ItemFault (invalid_answer, truncated), whose message quotes nothing of the answer.
    """
    try:
        answer = read_object(text, RECAP_KEYS)
        highlights = tuple(_highlights(answer["highlights"], evidence))
        decisions, questions, facts = (_sentences(answer[name], evidence, bounds.MAX_LIST) for name in LISTS)
        evidence.forget_seen()  # the overview may repeat the highlights
        draft = Draft(
            headline=evidence.check_fragment(_fragment(answer["headline"]), bounds.MAX_HEADLINE),
            overview=_sentences(answer["overview"], evidence, bounds.MAX_OVERVIEW),
            day_emoji=one_emoji(_fragment(answer["day_emoji"])),
            push=evidence.check_fragment(_fragment(answer["push"]), bounds.MAX_PUSH, MIN_SENTENCE_WORDS),
            highlights=highlights,
            unresolved_questions=questions,
            decisions_made=decisions,
            knowledge_nuggets=facts,
        )
    except SCHEMA_ERRORS as cause:
        raise _invalid(cause) from None
    return draft


def read_facts(text: str, evidence: Evidence) -> tuple[Cited, ...]:
    """The facts in the answer to a part of a day. Raises ItemFault as `read_answer` does, or unfounded."""
    try:
        facts = _sentences(read_object(text, ("facts",))["facts"], evidence, bounds.MAX_FACTS, bounds.MAX_FACTS)
    except SCHEMA_ERRORS as cause:
        raise _invalid(cause) from None
    if evidence.without_evidence > len(facts) or (evidence.dropped and not facts):
        raise unfounded(evidence)
    return facts


def unfounded(evidence: Evidence) -> ItemFault:
    """The fault of an answer most of whose sentences lack evidence."""
    return ItemFault(ItemReason.UNFOUNDED, f"The LLM says what the notes do not ({evidence.describe_dropped()}).")


def _invalid(cause: Exception) -> ItemFault:
    problem = f"no {cause}" if isinstance(cause, KeyError) else type(cause).__name__
    return ItemFault(ItemReason.INVALID_ANSWER, f"The LLM's answer does not follow the recap's schema ({problem}).")


def read_object(text: str, keys: Sequence[str]) -> Mapping[str, Any]:
    """The JSON object in an answer, without a code fence, other text or a model's thoughts around it.

    Raises one of SCHEMA_ERRORS, or ItemFault (truncated) if the thoughts do not end.
    """
    if len(text) > MAX_ANSWER_CHARS:
        raise ValueError("too long")
    try:
        answer = json.loads(text)
    except ValueError:
        text = _without_thoughts(text)
        answer = _last_object(text, keys)
        if answer is None:
            raise
    if not _has_keys(answer, keys):
        answer = _last_object(text, keys) or answer
    if not isinstance(answer, dict):
        raise TypeError("no object")
    return answer


def _without_thoughts(text: str) -> str:
    """What follows a model's thoughts, since an object within them is not its answer."""
    text = THOUGHT_ENDS.split(text)[-1]
    begin = THOUGHT_BEGINS.search(text)
    if begin is None:
        return text
    if not text[: begin.start()].strip():
        raise ItemFault(ItemReason.TRUNCATED, "The LLM's answer ends before its thoughts do.")
    return text[: begin.start()]


def _has_keys(value: object, keys: Sequence[str]) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)


def _last_object(text: str, keys: Sequence[str]) -> Mapping[str, Any] | None:
    """The last object in the text that has these keys, searched from the end within bounds."""
    decoder = json.JSONDecoder()
    start, chars_left = len(text), MAX_CHARS_TRIED
    for _ in range(MAX_BRACES):
        start = text.rfind("{", 0, start)
        if start < 0 or chars_left <= 0:
            break
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            chars_left -= error.pos - start + 1
            continue
        except (ValueError, RecursionError):
            break
        chars_left -= end - start
        if _has_keys(value, keys):
            return dict(value)
    return None


def _text(value: object) -> str:
    """A text that every store accepts: JSON may have half of a surrogate pair. Raises TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError("not a string")
    value.encode()
    return value


def _fragment(value: object) -> str:
    """As `_text`, but empty instead of an error: an unreadable headline must not cost the sentences."""
    try:
        return _text(value)
    except (TypeError, ValueError):
        return ""


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _sentences(value: object, evidence: Evidence, limit: int, max_read: int = MAX_LIST_READ) -> tuple[Cited, ...]:
    """The first `limit` sentences that are not dropped."""
    kept: list[Cited] = []
    for item in _list(value)[:max_read]:
        if len(kept) < limit and (sentence := _sentence(item, evidence)):
            kept.append(sentence)
    return tuple(kept)


def _sentence(item: Any, evidence: Evidence) -> Cited | None:
    try:
        text, quote, numbers = _text(item["text"]), _text(item["quote"]), _numbers(item["notes"])
    except SCHEMA_ERRORS:
        evidence.record_dropped("", DropReason.MALFORMED)
        return None
    return evidence.check_sentence(text, quote, numbers, private=bool(item.get("confided")))


def _highlights(value: object, evidence: Evidence) -> Iterable[Highlight]:
    for highlight in _list(value)[: bounds.MAX_HIGHLIGHTS]:
        try:
            topic, emoji = _fragment(highlight["topic"]), _fragment(highlight["emoji"])
            items = _list(highlight["items"])
        except SCHEMA_ERRORS:
            evidence.record_dropped("", DropReason.MALFORMED)
            continue
        if sentences := _sentences(items, evidence, bounds.MAX_ITEMS):
            yield Highlight(evidence.check_fragment(topic, bounds.MAX_TOPIC), one_emoji(emoji), sentences)


def _numbers(value: object) -> list[int]:
    return [number for number in _list(value) if isinstance(number, int) and not isinstance(number, bool)]
