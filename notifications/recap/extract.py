"""A recap without an LLM: the day's own sentences, selected and never rewritten. The same day gives the same extract.

Sentences are scored by their own words and by LexRank; the best that differ become overview, highlights and push.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import regex

from notifications.domain.model import WEARER, Cited, Conversation, Draft, Highlight, Turn, joined
from notifications.domain.money import NOTHING, Spent
from notifications.domain.phrases import phrases_in
from notifications.domain.text import bounded, plain
from notifications.recap import bounds
from notifications.recap.document import MAX_TASKS
from notifications.recap.lexrank import SAME, Vector, cosine, lexrank, select_diverse, tfidf_vectors, word_counts
from notifications.recap.material import Material
from notifications.recap.stand_ins import MAX_TASK_COMPARED, MAX_TITLE, TOPIC_SEPARATOR, counts_of, topic_of
from notifications.recap.words import (
    begins_with_a_pronoun,
    content_stems,
    count_words,
    days_in,
    numbers_in,
    without_fillers,
)

Split = Callable[[str, str | None], list[str]]  # a text and its language, to sentences

MODEL = "extract"
MAX_CANDIDATES = 240  # sentences that are compared with each other
MAX_READ = 60_000  # characters of a day, shared evenly: cleaning them must not hold up other users
LEAST_READ = 400  # characters of one conversation
MAX_ITEMS = 10  # events, and things to do, that stand in for sentences
OVERVIEW_SENTENCES = 6
DIGEST_SENTENCES, DIGEST_READ = 2, 4_000  # of one conversation; characters of it
LONG, FAIR, SHORT = 185, 115, 46  # characters of a spoken sentence: too long, about right, too short
LEAST_WORDS, SHORT_WORDS = 3, 6  # fewer: no sentence; a short one, which scores less
PUSH_CANDIDATES = 16  # of the best sentences
PUSH_STEMS = 4  # content words that a sentence needs for a push
WORTH_A_RECAP_STEMS = 5  # content words of a sentence that is worth a recap without a day, a name or a figure
CONFIDED = ("health", "finance")  # categories of conversations that a lock screen must not show
MOVED, MOVED_BY_NAME = 0.35, 0.2  # cosine from which a later conversation is about the same; where a name is too
SHARED_STEMS = 4  # content words shared with a later sentence of other days or numbers, which may correct this one
BROADCAST_SPEAKERS = 5  # in a conversation without title, category or task: a broadcast
BEST_SENTENCES = 3  # of a conversation, whose scores are its weight
# The weights: what a sentence's features add to its score, then factors. They were fitted on evals/days and spoken.
FIGURE_BONUS, DAY_BONUS, NAME_BONUS, STEM_BONUS, MAX_STEMS = 1.33, 0.65, 0.65, 0.15, 15
QUESTION_FACTOR, SHORT_FACTOR, PRONOUN_FACTOR, WEARER_FACTOR = 0.3, 0.71, 0.77, 0.96
BACKGROUND_FACTOR, SILENT_FACTOR = 0.15, 0.32  # where the wearer says nothing: without a title, and with one
TASK_BONUS = 0.2  # of a conversation, for each thing to do
HEADING_ENDS = (":", "：")
QUESTION = re.compile(r"[?？؟⁇‽]\W*$")
ENDED = re.compile(r"[.!?…。！？؟।]\W*$")
MAX_MARKS = 40  # characters at the end of a text that these two patterns search
FIGURE = regex.compile(r"\p{N}")
NAME = regex.compile(r"(?<=[\p{L}\p{N},;] )\p{Lu}[\p{L}\p{M}]+")
CLAUSES = re.compile(r"(?<=[,;:–—、，；])\s*")
EMOJI = {
    "work": "💼",
    "business": "💼",
    "technology": "💻",
    "education": "📚",
    "health": "🏃",
    "family": "🏡",
    "social": "💬",
    "travel": "✈️",
    "finance": "💶",
    "food": "🍲",
}
ANY_EMOJI = "🗓️"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the day. `score`: by its own words; `fact`: it has a day, a name or a figure."""

    text: str
    talk: int  # index of its conversation
    score: float
    fact: bool
    names: frozenset[str] = frozenset()
    figures: frozenset[str] = frozenset()  # its days and numbers
    needs_context: bool = False  # it begins with a pronoun


def extract(m: Material, split: Split, spent: Spent = NOTHING) -> Draft:
    """The recap of this material from its own sentences. `spent`: on an LLM whose answer was of no use."""
    day = Selection(m, split)
    overview = day.overview()
    highlights = tuple(day.highlights(overview))
    sentences = [day.cited(n) for n in overview]
    shown = {item.conversation_ids for item in (*sentences, *(item for h in highlights for item in h.items))}
    [(category, _)] = Counter(c.category for c in m.conversations if c.category).most_common(1) or [("", 0)]
    return Draft(
        headline=day.headline(),
        overview=(*sentences, *_more(m, shown)),
        day_emoji=EMOJI.get(category, ANY_EMOJI),
        push=day.push(),
        highlights=highlights,
        coverage={"whole": 0, "part": 0, "extract": len(m.conversations)},
        metadata={"model": MODEL, "source": "extract", **(spent.as_metadata() if spent.calls else {})},
    )


def tells_something(m: Material, split: Split) -> bool:
    """Whether a day is worth an extract although the LLM found nothing to tell in it."""
    if any(c.action_items or c.events for c in m.conversations):
        return True
    candidates = _candidates(m, split)
    return any(s.fact or len(content_stems(s.text, m.language)) >= WORTH_A_RECAP_STEMS for s in candidates)


def digest(c: Conversation, split: Split, language: str | None) -> str:
    """A conversation's most central sentences, one or two."""
    sentences = list(_sentences(0, c, language, split, DIGEST_READ))
    scores = _scores(sentences, tfidf_vectors([word_counts(s.text) for s in sentences]))
    best = sorted(range(len(sentences)), key=lambda n: (-scores[n], n))[:DIGEST_SENTENCES]
    return joined([sentences[n].text for n in sorted(best)])


class Selection:
    """A day's candidate sentences, by index in the day's order, and what is selected of them."""

    def __init__(self, m: Material, split: Split) -> None:
        self.m = m
        self.sentences = _candidates(m, split)
        self._vectors = tfidf_vectors([word_counts(s.text) for s in self.sentences])
        scores = _scores(self.sentences, self._vectors)
        self._current = self._without_corrected()
        self._talks = self._by_weight(scores)
        self._scores = [score * _talk_factor(m, s.talk) for s, score in zip(self.sentences, scores, strict=True)]
        self._best = sorted(self._current, key=lambda n: (-self._scores[n], n))

    def overview(self) -> list[int]:
        """The best sentences that differ from each other."""
        return sorted(select_diverse(self._current, self._scores, self._similarity, OVERVIEW_SENTENCES))

    def highlights(self, overview: Sequence[int]) -> Iterable[Highlight]:
        """The heaviest conversations, each by its best sentences that are not used yet; in the day's order."""
        used, chosen = [*overview], dict[int, list[int]]()
        for talk in self._talks:
            if len(chosen) == bounds.MAX_HIGHLIGHTS:
                break
            own = [n for n in self._current if self.sentences[n].talk == talk and n not in used]
            own = [n for n in own if not self.sentences[n].needs_context]
            if best := select_diverse(own, self._scores, self._similarity, bounds.MAX_ITEMS, used):
                chosen[talk] = sorted(best)
                used += best
        for talk, best in sorted(chosen.items()):
            c = self.m.conversations[talk]
            emoji = EMOJI.get(c.category, ANY_EMOJI)
            yield Highlight(topic_of(c, self.m, _named_speakers(c)), emoji, tuple(self.cited(n) for n in best))

    def headline(self) -> str:
        """The titles of the heaviest conversations; else the best short sentence; else the counts."""
        shown = (self.m.conversations[talk] for talk in self._talks)
        cleaned = (plain(c.title, MAX_TITLE) for c in shown if self._may_be_on_a_lock_screen(c))
        titles = [title for title in cleaned if title]
        texts = [TOPIC_SEPARATOR.join(dict.fromkeys(titles[:2])), *titles[:1]]
        texts += [self.sentences[n].text for n in self._for_a_lock_screen(self._best)]
        return next((text for text in texts if 0 < len(text) <= bounds.MAX_HEADLINE), counts_of(self.m))

    def push(self) -> str:
        """The best sentences that differ and fit whole; where none states a fact, the counts."""
        chosen: list[int] = []
        for n in self._for_a_lock_screen(self._best[:PUSH_CANDIDATES]):
            fits = _width(joined([self.sentences[k].text for k in (*chosen, n)])) <= bounds.MAX_PUSH
            if fits and all(self._similarity(n, k) < SAME for k in chosen):
                chosen.append(n)
        return joined([self.sentences[n].text for n in chosen]) or counts_of(self.m)

    def cited(self, n: int) -> Cited:
        sentence = self.sentences[n]
        source = self.m.conversations[sentence.talk].id
        return Cited(sentence.text, (source,), bounded(sentence.text, bounds.MAX_QUOTE))

    def _similarity(self, n: int, k: int) -> float:
        """How similar two sentences are: 1 where one contains the other."""
        first, second = self.sentences[n].text, self.sentences[k].text
        return 1.0 if first in second or second in first else cosine(self._vectors[n], self._vectors[k])

    def _without_corrected(self) -> list[int]:
        """Without the sentences that a later one may correct."""
        kept: list[int] = []
        for n in range(len(self.sentences)):
            kept = [k for k in kept if not self._corrects(n, k)] + [n]
        return kept

    def _corrects(self, n: int, earlier: int) -> bool:
        """It says the same of the same names; or, in a later conversation, something similar with other figures."""
        later, before = self.sentences[n], self.sentences[earlier]
        similarity = cosine(self._vectors[earlier], self._vectors[n])
        if later.talk == before.talk:
            return similarity >= SAME and later.names == before.names
        same_names = {name.casefold() for name in later.names & before.names} - later.figures
        return similarity >= (MOVED_BY_NAME if same_names else MOVED) and _have_other_figures(later, before)

    def _by_weight(self, scores: Sequence[float]) -> list[int]:
        """Conversations, the heaviest first: by their best sentences and their things to do, not by their minutes."""
        of_talk: dict[int, list[float]] = defaultdict(list)
        for n in self._current:
            of_talk[self.sentences[n].talk].append(scores[n])
        weights: dict[int, float] = {}
        for talk, c in enumerate(self.m.conversations):
            weight = sum(sorted(of_talk[talk], reverse=True)[:BEST_SENTENCES])
            tasks = min(BEST_SENTENCES, len(c.action_items))
            weights[talk] = weight * (1 + TASK_BONUS * tasks) * _talk_factor(self.m, talk)
        return sorted(weights, key=lambda talk: (-weights[talk], talk))

    def _may_be_on_a_lock_screen(self, c: Conversation) -> bool:
        """Whether it is neither confided nor background audio."""
        return c.category not in CONFIDED and not _is_silent(self.m, c)

    def _for_a_lock_screen(self, best: Sequence[int]) -> Iterable[int]:
        """The sentences that state a fact, stand alone, may not be corrected later, and are not confided."""
        stems = [frozenset(content_stems(s.text, self.m.language)) for s in self.sentences]
        for n in best:
            sentence, c = self.sentences[n], self.m.conversations[self.sentences[n].talk]
            states_a_fact = sentence.fact and (len(stems[n]) >= PUSH_STEMS or not c.lines)
            if not states_a_fact or sentence.needs_context or not self._may_be_on_a_lock_screen(c):
                continue
            later = (k for k, s in enumerate(self.sentences) if s.talk > sentence.talk)
            if not any(
                len(stems[n] & stems[k]) >= SHARED_STEMS and _have_other_figures(self.sentences[k], sentence)
                for k in later
            ):
                yield n


def _have_other_figures(later: Sentence, before: Sentence) -> bool:
    """Whether both have days or numbers, but not the same; a correction may repeat what it corrects."""
    return bool(later.figures and before.figures) and later.figures != before.figures


def _scores(sentences: Sequence[Sentence], vectors: Sequence[Vector]) -> list[float]:
    """Each sentence's own score, raised by how central it is to the others."""
    ranks = lexrank(vectors)
    return [s.score * (1 + rank * len(sentences)) for s, rank in zip(sentences, ranks, strict=True)]


def _candidates(m: Material, split: Split) -> list[Sentence]:
    """The best sentences of each conversation, taken in turns, in the day's order."""
    each = max(LEAST_READ, MAX_READ // max(1, len(m.conversations)))
    by_talk = [list(_sentences(talk, c, m.language, split, each)) for talk, c in enumerate(m.conversations)]
    ranked = [sorted(range(len(own)), key=lambda n: (-own[n].score, n)) for own in by_talk]
    turns = ((depth, talk, n) for talk, ranks in enumerate(ranked) for depth, n in enumerate(ranks))
    chosen = sorted((talk, n) for _, talk, n in sorted(turns)[:MAX_CANDIDATES])
    return [by_talk[talk][n] for talk, n in chosen]


def _sentences(talk: int, c: Conversation, language: str | None, split: Split, length: int) -> Iterable[Sentence]:
    """A conversation's sentences; without any, its things to do and events stand in for one."""
    language = c.language or language
    before, count = ("", -1), 0
    for turn, speaker, piece in _pieces(c, language, split, length):
        text = piece if c.overview else without_fillers(piece, language)
        sentence = _scored(text, speaker, talk, language)
        if sentence is not None and sentence.needs_context:
            can_be_joined = before[1] == turn and not begins_with_a_pronoun(before[0], language)
            both = joined([before[0], text]) if can_be_joined else ""
            sentence = (len(both) <= bounds.MAX_SENTENCE and _scored(both, speaker, talk, language)) or sentence
        before = text, turn
        if sentence is not None and len(sentence.text) <= bounds.MAX_SENTENCE:
            count += 1
            yield replace(sentence, score=sentence.score * (PRONOUN_FACTOR if sentence.needs_context else 1))
    if not count:
        items = (*c.events[:MAX_ITEMS], *(item.description for item in c.action_items[:MAX_ITEMS]))
        texts = (joined([turn.text for turn in c.lines]), *items)
        shortened = (bounded(plain(text, 2 * LEAST_READ), LEAST_READ) for text in texts)
        if text := bounded(joined([short for short in shortened if short]), bounds.MAX_SENTENCE):
            yield Sentence(text, talk, 1.0, fact=True)


def _scored(text: str, speaker: str, talk: int, language: str | None) -> Sentence | None:
    """A sentence with its score; None for a heading, and for what is too short to be one."""
    count = count_words(text)
    if count < LEAST_WORDS or text.endswith(HEADING_ENDS):
        return None
    names = frozenset(NAME.findall(text))
    days, numbers = days_in(text, language), numbers_in(text, language)
    stems = min(MAX_STEMS, len(content_stems(text, language)))
    score = 1 + FIGURE_BONUS * bool(numbers) + DAY_BONUS * bool(days) + NAME_BONUS * bool(names) + STEM_BONUS * stems
    if QUESTION.search(text[-MAX_MARKS:]):
        score *= QUESTION_FACTOR
    if count < SHORT_WORDS:
        score *= SHORT_FACTOR
    if speaker == WEARER:
        score *= WEARER_FACTOR
    fact = bool(days or numbers or names)
    return Sentence(text, talk, score, fact, names, days | numbers, begins_with_a_pronoun(text, language))


def _pieces(c: Conversation, language: str | None, split: Split, length: int) -> Iterable[tuple[int, str, str]]:
    """Turn, speaker and sentence, in order. An overview is one turn; of a transcript each speaker's words are one."""
    left = length
    for number, turn in enumerate(c.lines if c.overview else _merged_turns(c.turns)):
        if left <= 0:
            return
        text = plain(turn.text[:left], left)
        is_cut = len(turn.text) > left
        left -= len(turn.text)
        pieces = [piece.strip() for piece in split(text, language) if piece.strip()]
        if not c.overview:
            pieces = _evened(pieces)
        for piece in pieces[:-1] if is_cut else pieces:
            yield 0 if c.overview else number, turn.speaker, piece


def _merged_turns(turns: Sequence[Turn]) -> Iterable[Turn]:
    """The turns; those without a speaker are joined where a sentence goes on in the next."""
    parts: list[str] = []
    for turn in turns:
        goes_on = parts and not turn.speaker and not ENDED.search(parts[-1][-MAX_MARKS:]) and turn.text[:1].islower()
        if parts and not goes_on:
            yield Turn("", " ".join(parts))
            parts = []
        if turn.speaker:
            yield turn
        else:
            parts.append(turn.text)
    if parts:
        yield Turn("", " ".join(parts))


def _evened(sentences: Iterable[str]) -> list[str]:
    """One speaker's sentences at an even length: short ones are joined, and long ones cut between clauses."""
    pieces: list[str] = []
    for sentence in sentences:
        clauses = CLAUSES.split(sentence) if len(sentence) > LONG else [sentence]
        for n, clause in enumerate(clauses):
            room = FAIR if n else LONG - FAIR
            if pieces and len(pieces[-1]) + len(clause) < room and (n or min(len(pieces[-1]), len(clause)) < SHORT):
                pieces[-1] = f"{pieces[-1]} {clause}"
            else:
                pieces.append(clause)
    return [piece.rstrip(",;:–—、，； ") for piece in pieces]


def _talk_factor(m: Material, talk: int) -> float:
    """A conversation's factor: background audio has no title, and the wearer says nothing in it."""
    c = m.conversations[talk]
    if not m.knows_the_wearer:
        many = len({turn.speaker for turn in c.turns}) >= BROADCAST_SPEAKERS
        return BACKGROUND_FACTOR if many and not (c.title or c.action_items or c.category in EMOJI) else 1.0
    if not _is_silent(m, c):
        return 1.0
    return SILENT_FACTOR if c.title else BACKGROUND_FACTOR


def _is_silent(m: Material, c: Conversation) -> bool:
    """Whether a known wearer says nothing in a conversation whose turns are known."""
    return m.knows_the_wearer and bool(c.turns) and all(turn.speaker != WEARER for turn in c.turns)


def _named_speakers(c: Conversation) -> list[str]:
    speakers = dict.fromkeys(turn.speaker for turn in c.turns if turn.speaker and turn.speaker != WEARER)
    return [name for name in speakers if not FIGURE.search(name)]


def _width(text: str) -> int:
    """Its characters, of which a wide one counts as two."""
    return len(text) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def _more(m: Material, shown: Collection[object]) -> Iterable[Cited]:
    """How many conversations and things to do are not shown, in the user's language."""
    texts = {plain(item.description, MAX_TASK_COMPARED) for c in m.conversations for item in c.action_items} - {""}
    hidden = len(m.conversations) - len(shown), max(0, len(texts) - MAX_TASKS)
    return [Cited(sentence) for sentence in phrases_in(m.language).more(*hidden)]
