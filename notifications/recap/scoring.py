"""The sentences of a day from which an extract is made, each with a score by its own words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import regex

from notifications.domain.model import WEARER, Conversation, Turn, joined
from notifications.domain.plain import plain
from notifications.domain.text import bounded
from notifications.recap.bounds import MAX_SENTENCE
from notifications.recap.material import Material
from notifications.recap.words import (
    begins_with_a_pronoun,
    content_stems,
    count_words,
    days_in,
    numbers_in,
    without_fillers,
)

Split = Callable[[str, str | None], list[str]]  # splits a text in a language into sentences
MAX_CANDIDATES = 240  # sentences that are compared with each other
MAX_READ = 60_000  # characters of a day, shared evenly between its conversations; reading more would delay other users
MIN_READ = 400  # characters of one conversation
MAX_FALLBACK_ITEMS = 10  # tasks, and events, that are used of a conversation without sentences
# Characters of a transcript's sentence, after long ones were cut and short ones joined.
MAX_PIECE = 185  # a longer sentence is cut between clauses
TARGET_PIECE = 115  # clauses of one sentence are joined up to this length
MIN_PIECE = 46  # a shorter sentence may be joined with the one before
MAX_JOINED = MAX_PIECE - TARGET_PIECE  # two sentences are joined up to this length
MIN_SENTENCE_WORDS = 3
SHORT_WORDS = 6  # a sentence of fewer words scores less
# The weights: what a sentence's features add to its score, then factors. They were fitted on evals/days and spoken.
FIGURE_BONUS, DAY_BONUS, NAME_BONUS, STEM_BONUS, MAX_STEMS = 1.33, 0.65, 0.65, 0.15, 15
QUESTION_FACTOR, SHORT_FACTOR, PRONOUN_FACTOR, WEARER_FACTOR = 0.3, 0.71, 0.77, 0.96
HEADING_ENDS = (":", "：")
QUESTION = re.compile(r"[?？؟⁇‽]\W*$")
ENDED = re.compile(r"[.!?…。！？؟।]\W*$")
MAX_MARKS = 40  # characters at the end of a text that these two patterns search
NAME = regex.compile(r"(?<=[\p{L}\p{N},;] )\p{Lu}[\p{L}\p{M}]+")
CLAUSES = re.compile(r"(?<=[,;:–—、，；])\s*")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the day. `score`: by its own words alone."""

    text: str
    conversation_index: int
    score: float
    states_fact: bool  # it has a day, a name or a number
    names: frozenset[str] = frozenset()
    figures: frozenset[str] = frozenset()  # its days and numbers
    needs_context: bool = False  # it begins with a pronoun


def candidate_sentences(material: Material, split: Split) -> list[Sentence]:
    """At most MAX_CANDIDATES sentences: chosen round-robin by score, returned in the day's order."""
    length = max(MIN_READ, MAX_READ // max(1, len(material.conversations)))
    by_conversation = [
        list(sentences_of(conversation_index, conversation, material.language, split, length))
        for conversation_index, conversation in enumerate(material.conversations)
    ]
    ranked = [by_score(range(len(own)), [sentence.score for sentence in own]) for own in by_conversation]
    turns = (
        (rank, conversation_index, index)
        for conversation_index, indexes in enumerate(ranked)
        for rank, index in enumerate(indexes)
    )
    chosen = sorted((conversation_index, index) for _, conversation_index, index in sorted(turns)[:MAX_CANDIDATES])
    return [by_conversation[conversation_index][index] for conversation_index, index in chosen]


def by_score(indexes: Iterable[int], scores: Sequence[float]) -> list[int]:
    """Indexes in descending order of their scores; equal ones in ascending order."""
    return sorted(indexes, key=lambda index: (-scores[index], index))


def sentences_of(
    conversation_index: int, conversation: Conversation, language: str | None, split: Split, length: int
) -> Iterable[Sentence]:
    """A conversation's sentences. If it has none, its tasks and events are used as one sentence."""
    language = conversation.language or language
    previous_text, previous_turn = "", -1
    has_sentences = False
    for turn, speaker, piece in _pieces(conversation, language, split, length):
        text = piece if conversation.overview else without_fillers(piece, language)
        sentence = _score_sentence(text, speaker, conversation_index, language)
        if sentence is not None and sentence.needs_context and previous_turn == turn:
            both = joined([previous_text, text])
            if len(both) <= MAX_SENTENCE and not begins_with_a_pronoun(previous_text, language):
                sentence = _score_sentence(both, speaker, conversation_index, language) or sentence
        previous_text, previous_turn = text, turn
        if sentence is not None and len(sentence.text) <= MAX_SENTENCE:
            has_sentences = True
            yield replace(sentence, score=sentence.score * (PRONOUN_FACTOR if sentence.needs_context else 1))
    if not has_sentences and (text := _items_as_sentence(conversation)):
        yield Sentence(text, conversation_index, 1.0, states_fact=True)


def _items_as_sentence(conversation: Conversation) -> str:
    """What a conversation without sentences has: its few words, its events and its tasks."""
    tasks = [item.description for item in conversation.action_items[:MAX_FALLBACK_ITEMS]]
    texts = [joined([turn.text for turn in conversation.lines]), *conversation.events[:MAX_FALLBACK_ITEMS], *tasks]
    shortened = (bounded(plain(text, 2 * MIN_READ), MIN_READ) for text in texts)
    return bounded(joined([text for text in shortened if text]), MAX_SENTENCE)


def _score_sentence(text: str, speaker: str, conversation_index: int, language: str | None) -> Sentence | None:
    """A sentence with its score; None for a heading, and for a text that is too short for a sentence."""
    word_count = count_words(text)
    if word_count < MIN_SENTENCE_WORDS or text.endswith(HEADING_ENDS):
        return None
    names = frozenset(NAME.findall(text))
    days, numbers = days_in(text, language), numbers_in(text, language)
    stems = min(MAX_STEMS, len(content_stems(text, language)))
    score = 1 + FIGURE_BONUS * bool(numbers) + DAY_BONUS * bool(days) + NAME_BONUS * bool(names) + STEM_BONUS * stems
    if QUESTION.search(text[-MAX_MARKS:]):
        score *= QUESTION_FACTOR
    if word_count < SHORT_WORDS:
        score *= SHORT_FACTOR
    if speaker == WEARER:
        score *= WEARER_FACTOR
    return Sentence(
        text=text,
        conversation_index=conversation_index,
        score=score,
        states_fact=bool(days or numbers or names),
        names=names,
        figures=days | numbers,
        needs_context=begins_with_a_pronoun(text, language),
    )


def _pieces(
    conversation: Conversation, language: str | None, split: Split, length: int
) -> Iterable[tuple[int, str, str]]:
    """Turn number, speaker and sentence, in order. An overview is one turn; so are a speaker's words in a row."""
    left = length
    turns = conversation.lines if conversation.overview else _join_split_turns(conversation.turns)
    for index, turn in enumerate(turns):
        if left <= 0:
            return
        text = plain(turn.text[:left], left)
        is_cut = len(turn.text) > left
        left -= len(turn.text)
        pieces = [piece.strip() for piece in split(text, language) if piece.strip()]
        if not conversation.overview:
            pieces = _even_out_lengths(pieces)
        turn_number = 0 if conversation.overview else index
        for piece in pieces[:-1] if is_cut else pieces:
            yield turn_number, turn.speaker, piece


def _join_split_turns(turns: Sequence[Turn]) -> Iterable[Turn]:
    """The turns; those without a speaker are joined if a sentence goes on in the next."""
    parts: list[str] = []
    for turn in turns:
        continues = parts and not turn.speaker and not ENDED.search(parts[-1][-MAX_MARKS:]) and turn.text[:1].islower()
        if parts and not continues:
            yield Turn("", " ".join(parts))
            parts = []
        if turn.speaker:
            yield turn
        else:
            parts.append(turn.text)
    if parts:
        yield Turn("", " ".join(parts))


def _even_out_lengths(sentences: Iterable[str]) -> list[str]:
    """One speaker's sentences at an even length: short ones are joined, and long ones cut between clauses."""
    pieces: list[str] = []
    for sentence in sentences:
        clauses = CLAUSES.split(sentence) if len(sentence) > MAX_PIECE else [sentence]
        for index, clause in enumerate(clauses):
            is_same_sentence = index > 0
            limit = TARGET_PIECE if is_same_sentence else MAX_JOINED
            fits = bool(pieces) and len(pieces[-1]) + len(clause) < limit
            if fits and (is_same_sentence or min(len(pieces[-1]), len(clause)) < MIN_PIECE):
                pieces[-1] = f"{pieces[-1]} {clause}"
            else:
                pieces.append(clause)
    return [piece.rstrip(",;:–—、，； ") for piece in pieces]
