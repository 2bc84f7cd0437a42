"""A recap without an LLM: the day's own sentences, selected and never rewritten.

Sentences are scored by their own words and by LexRank; the best that differ become overview, highlights and push.
Deterministic: the same material always gives the same extract.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

import regex

from notifications.domain.model import WEARER, Cited, Conversation, Draft, Highlight, joined
from notifications.domain.money import NOTHING, Spent
from notifications.domain.phrases import phrases_in
from notifications.domain.plain import plain
from notifications.domain.text import bounded
from notifications.recap import bounds
from notifications.recap.document import MAX_TASKS
from notifications.recap.lexrank import SAME, Vector, cosine, lexrank, select_diverse, tfidf_vectors, word_counts
from notifications.recap.material import Material
from notifications.recap.scoring import Sentence, Split, by_score, candidate_sentences, sentences_of
from notifications.recap.stand_ins import MAX_TASK_COMPARED, MAX_TITLE, TOPIC_SEPARATOR, counts_of, topic_of
from notifications.recap.words import content_stems

MODEL = "extract"
OVERVIEW_SENTENCES = 6
DIGEST_SENTENCES = 2
DIGEST_READ = 4_000  # characters of a conversation that are read for its digest
PUSH_CANDIDATES = 16  # sentences that are tried for the push, the best first
PUSH_STEMS = 4  # content words that a sentence needs for a push
MIN_RECAP_STEMS = 5  # content words that make a sentence without a day, name or number worth a recap
PRIVATE_CATEGORIES = ("health", "finance")  # conversations that a lock screen must not show
CORRECTION_SIMILARITY = 0.35  # cosine from which a later conversation is about the same
CORRECTION_SIMILARITY_BY_NAME = 0.2  # the same, if both sentences have a name in common
SHARED_STEMS = 4  # content words in common with a later sentence of other days or numbers, which may correct this one
BROADCAST_SPEAKERS = 5  # a conversation with so many, and without title, category or task, is a broadcast
BEST_SENTENCES = 3  # a conversation's weight is the sum of its best three sentence scores
# Weights, fitted on evals/days and spoken as those in scoring.py are.
BACKGROUND_FACTOR = 0.15  # the wearer says nothing, and the conversation has no title
SILENT_FACTOR = 0.32  # the wearer says nothing, but the conversation has a title
TASK_BONUS = 0.2  # added to a conversation's factor for each task
FIGURE = regex.compile(r"\p{N}")
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


def extract(material: Material, split: Split, spent: Spent = NOTHING) -> Draft:
    """The recap of this material from its own sentences. `spent`: the cost of LLM calls whose answers were not used."""
    selection = Selection(material, split)
    overview = selection.overview()
    highlights = tuple(selection.highlights(overview))
    sentences = [selection.cited(index) for index in overview]
    cited = [*sentences, *(item for highlight in highlights for item in highlight.items)]
    shown = {conversation_id for sentence in cited for conversation_id in sentence.conversation_ids}
    return Draft(
        headline=selection.headline(),
        overview=(*sentences, *_remainder_sentences(material, shown)),
        day_emoji=_day_emoji(material),
        push=selection.push(),
        highlights=highlights,
        coverage={"whole": 0, "part": 0, "extract": len(material.conversations)},
        metadata={"model": MODEL, "source": "extract", **(spent.as_metadata() if spent.calls else {})},
    )


def is_worth_an_extract(material: Material, split: Split) -> bool:
    """Whether the day has an event, a task, or a sentence with a fact or enough content words."""
    if material.action_items or any(conversation.events for conversation in material.conversations):
        return True
    return any(
        sentence.states_fact or len(content_stems(sentence.text, material.language)) >= MIN_RECAP_STEMS
        for sentence in candidate_sentences(material, split)
    )


def make_digest(conversation: Conversation, split: Split, language: str | None) -> str:
    """A conversation's most central sentences, one or two."""
    sentences = list(sentences_of(0, conversation, language, split, DIGEST_READ))
    scores = _ranked_scores(sentences, tfidf_vectors([word_counts(sentence.text) for sentence in sentences]))
    best = by_score(range(len(sentences)), scores)[:DIGEST_SENTENCES]
    return joined([sentences[index].text for index in sorted(best)])


class Selection:
    """A day's candidate sentences, by index in the day's order, and what is selected of them."""

    def __init__(self, material: Material, split: Split) -> None:
        self.material = material
        self.sentences = candidate_sentences(material, split)
        self._vectors = tfidf_vectors([word_counts(sentence.text) for sentence in self.sentences])
        self._stems = [frozenset(content_stems(sentence.text, material.language)) for sentence in self.sentences]
        ranked_scores = _ranked_scores(self.sentences, self._vectors)
        self._uncorrected = self._without_corrected()
        self._heaviest_conversations = self._by_weight(ranked_scores)
        factors = [_background_factor(material, conversation) for conversation in material.conversations]
        self._scores = [
            score * factors[sentence.conversation_index]
            for sentence, score in zip(self.sentences, ranked_scores, strict=True)
        ]
        self._best = by_score(self._uncorrected, self._scores)

    def overview(self) -> list[int]:
        """The best sentences that differ from each other."""
        return sorted(select_diverse(self._uncorrected, self._scores, self._similarity, OVERVIEW_SENTENCES))

    def highlights(self, overview: Sequence[int]) -> Iterable[Highlight]:
        """The heaviest conversations, each by its best sentences that are not used yet; in the day's order."""
        used = list(overview)
        chosen: dict[int, list[int]] = {}
        for conversation_index in self._heaviest_conversations:
            if len(chosen) == bounds.MAX_HIGHLIGHTS:
                break
            own = [
                index
                for index in self._uncorrected
                if self.sentences[index].conversation_index == conversation_index
                and not self.sentences[index].needs_context
                and index not in used
            ]
            if best := select_diverse(own, self._scores, self._similarity, bounds.MAX_ITEMS, used):
                chosen[conversation_index] = sorted(best)
                used += best
        for conversation_index, best in sorted(chosen.items()):
            conversation = self.material.conversations[conversation_index]
            topic = topic_of(conversation, self.material, _named_speakers(conversation))
            emoji = EMOJI.get(conversation.category, ANY_EMOJI)
            yield Highlight(topic, emoji, tuple(self.cited(index) for index in best))

    def headline(self) -> str:
        """The titles of the heaviest conversations; else the best short sentence; else the counts."""
        conversations = (self.material.conversations[index] for index in self._heaviest_conversations)
        public = (conversation for conversation in conversations if self._may_be_on_a_lock_screen(conversation))
        titles = [title for conversation in public if (title := plain(conversation.title, MAX_TITLE))]
        candidates = [TOPIC_SEPARATOR.join(dict.fromkeys(titles[:2])), *titles[:1]]
        candidates += [self.sentences[index].text for index in self._for_a_lock_screen(self._best)]
        fitting = (text for text in candidates if 0 < len(text) <= bounds.MAX_HEADLINE)
        return next(fitting, counts_of(self.material))

    def push(self) -> str:
        """The best sentences that differ and fit whole; if none states a fact, the counts."""
        chosen: list[int] = []
        for index in self._for_a_lock_screen(self._best[:PUSH_CANDIDATES]):
            text = joined([self.sentences[other].text for other in (*chosen, index)])
            differs = all(self._similarity(index, other) < SAME for other in chosen)
            if differs and _display_width(text) <= bounds.MAX_PUSH:
                chosen.append(index)
        return joined([self.sentences[index].text for index in chosen]) or counts_of(self.material)

    def cited(self, index: int) -> Cited:
        sentence = self.sentences[index]
        conversation_id = self.material.conversations[sentence.conversation_index].id
        return Cited(sentence.text, (conversation_id,), bounded(sentence.text, bounds.MAX_QUOTE))

    def _similarity(self, index: int, other: int) -> float:
        """How similar two sentences are: 1 if one contains the other."""
        first, second = self.sentences[index].text, self.sentences[other].text
        return 1.0 if first in second or second in first else cosine(self._vectors[index], self._vectors[other])

    def _without_corrected(self) -> list[int]:
        """The sentences that no later one replaces."""
        uncorrected: list[int] = []
        for later in range(len(self.sentences)):
            uncorrected = [earlier for earlier in uncorrected if not self._replaces(later, earlier)] + [later]
        return uncorrected

    def _replaces(self, later: int, earlier: int) -> bool:
        """Whether sentence `later` replaces `earlier`.

        In one conversation, if it is a near-duplicate with the same names; in a later conversation, if it is similar
        with other days or numbers.
        """
        new, old = self.sentences[later], self.sentences[earlier]
        similarity = cosine(self._vectors[earlier], self._vectors[later])
        if new.conversation_index == old.conversation_index:
            return similarity >= SAME and new.names == old.names
        same_names = {name.casefold() for name in new.names & old.names} - new.figures
        min_similarity = CORRECTION_SIMILARITY_BY_NAME if same_names else CORRECTION_SIMILARITY
        return similarity >= min_similarity and _figures_differ(new, old)

    def _by_weight(self, scores: Sequence[float]) -> list[int]:
        """Conversations, the heaviest first: by their best sentences and their tasks, not by their minutes."""
        scores_by_conversation: dict[int, list[float]] = defaultdict(list)
        for index in self._uncorrected:
            scores_by_conversation[self.sentences[index].conversation_index].append(scores[index])
        weights: list[float] = []
        for conversation_index, conversation in enumerate(self.material.conversations):
            weight = sum(sorted(scores_by_conversation[conversation_index], reverse=True)[:BEST_SENTENCES])
            tasks = min(BEST_SENTENCES, len(conversation.action_items))
            weights.append(weight * (1 + TASK_BONUS * tasks) * _background_factor(self.material, conversation))
        return by_score(range(len(weights)), weights)

    def _may_be_on_a_lock_screen(self, conversation: Conversation) -> bool:
        """Whether it is neither private nor background audio."""
        return conversation.category not in PRIVATE_CATEGORIES and not _wearer_is_silent(self.material, conversation)

    def _for_a_lock_screen(self, indexes: Sequence[int]) -> Iterable[int]:
        """The sentences that state a fact, stand alone, may not be corrected later, and are not private."""
        for index in indexes:
            sentence = self.sentences[index]
            conversation = self.material.conversations[sentence.conversation_index]
            has_enough_words = len(self._stems[index]) >= PUSH_STEMS or not conversation.lines
            if not (sentence.states_fact and has_enough_words) or sentence.needs_context:
                continue
            if self._may_be_on_a_lock_screen(conversation) and not self._may_be_corrected_later(index):
                yield index

    def _may_be_corrected_later(self, index: int) -> bool:
        """Whether a later conversation has a sentence with common words but other days or numbers."""
        sentence = self.sentences[index]
        return any(
            len(self._stems[index] & stems) >= SHARED_STEMS and _figures_differ(other, sentence)
            for other, stems in zip(self.sentences, self._stems, strict=True)
            if other.conversation_index > sentence.conversation_index
        )


def _figures_differ(later: Sentence, earlier: Sentence) -> bool:
    """Whether both have days or numbers, but not the same; a correction may repeat what it corrects."""
    return bool(later.figures and earlier.figures) and later.figures != earlier.figures


def _ranked_scores(sentences: Sequence[Sentence], vectors: Sequence[Vector]) -> list[float]:
    """Each sentence's own score, raised by how central it is to the others."""
    ranks = lexrank(vectors)
    return [sentence.score * (1 + rank * len(sentences)) for sentence, rank in zip(sentences, ranks, strict=True)]


def _background_factor(material: Material, conversation: Conversation) -> float:
    """A conversation's factor: background audio has no title, and the wearer says nothing in it."""
    if not material.wearer_is_known:
        is_broadcast = len({turn.speaker for turn in conversation.turns}) >= BROADCAST_SPEAKERS and not (
            conversation.title or conversation.action_items or conversation.category in EMOJI
        )
        return BACKGROUND_FACTOR if is_broadcast else 1.0
    if not _wearer_is_silent(material, conversation):
        return 1.0
    return SILENT_FACTOR if conversation.title else BACKGROUND_FACTOR


def _wearer_is_silent(material: Material, conversation: Conversation) -> bool:
    """Whether a known wearer says nothing in a conversation whose turns are known."""
    has_wearer = any(turn.speaker == WEARER for turn in conversation.turns)
    return material.wearer_is_known and bool(conversation.turns) and not has_wearer


def _named_speakers(conversation: Conversation) -> list[str]:
    speakers = dict.fromkeys(turn.speaker for turn in conversation.turns if turn.speaker and turn.speaker != WEARER)
    return [name for name in speakers if not FIGURE.search(name)]


def _display_width(text: str) -> int:
    """How many characters the text has; a wide one counts as two."""
    return len(text) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def _day_emoji(material: Material) -> str:
    """The emoji of the category that most conversations have."""
    categories = Counter(conversation.category for conversation in material.conversations if conversation.category)
    most_common = categories.most_common(1)
    return EMOJI.get(most_common[0][0], ANY_EMOJI) if most_common else ANY_EMOJI


def _remainder_sentences(material: Material, shown: Collection[str]) -> Iterable[Cited]:
    """Sentences that say how many conversations and tasks are not shown, in the user's language."""
    tasks = {plain(item.description, MAX_TASK_COMPARED) for item in material.action_items} - {""}
    hidden = len(material.conversations) - len(shown), max(0, len(tasks) - MAX_TASKS)
    return [Cited(sentence) for sentence in phrases_in(material.language).more(*hidden)]
