"""LexRank (Erkan and Radev, 2004): which sentences are most central, in any language."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from notifications.recap.words import WORD, writes_no_spaces

MIN_SIMILARITY = 0.1  # cosine from which two sentences support each other
SAME = 0.57  # cosine from which two sentences say the same
RELEVANCE = 0.5  # weight of a sentence's score in the selection; the rest is its distance to selected sentences
DAMPING = 0.85
ROUNDS = 30

Vector = Mapping[str, float]
Similarity = Callable[[int, int], float]  # two sentences' indexes to a similarity from 0 to 1


def word_counts(text: str) -> Counter[str]:
    """The words of a sentence, case-folded; pairs of letters for a script without spaces."""
    counts: Counter[str] = Counter()
    for word in WORD.findall(text.casefold()):
        if writes_no_spaces(word):
            counts.update(word[start : start + 2] for start in range(max(1, len(word) - 1)))
        else:
            counts[word] += 1
    return counts


def tfidf_vectors(sentences: Sequence[Counter[str]]) -> list[Vector]:
    """Each sentence as a vector of length 1, in which rare words weigh more."""
    document_frequency = Counter(word for sentence in sentences for word in sentence)
    vectors: list[Vector] = []
    for sentence in sentences:
        weights = {
            word: count * math.log(1 + len(sentences) / document_frequency[word]) for word, count in sentence.items()
        }
        length = math.sqrt(math.fsum(weight * weight for weight in weights.values()))
        vectors.append({word: weight / length for word, weight in weights.items()} if length else {})
    return vectors


def cosine(first: Vector, second: Vector) -> float:
    """How similar two sentences are: 0 to 1."""
    if len(second) < len(first):
        first, second = second, first
    return math.fsum(weight * second[word] for word, weight in first.items() if word in second)


def lexrank(vectors: Sequence[Vector]) -> list[float]:
    """The rank of each sentence; they sum to 1. Each round a sentence shares its rank among its neighbours."""
    if not vectors:
        return []
    count = len(vectors)
    neighbours = _neighbours(vectors)
    ranks = [1 / count] * count
    for _ in range(ROUNDS):
        next_ranks = [(1 - DAMPING) / count] * count
        for rank, similarities in zip(ranks, neighbours, strict=True):
            share = DAMPING * rank / math.fsum(similarities.values())
            for neighbour, similarity in similarities.items():
                next_ranks[neighbour] += share * similarity
        ranks = next_ranks
    return ranks


def _neighbours(vectors: Sequence[Vector]) -> list[dict[int, float]]:
    """For each sentence the similarity of the similar ones, and of itself."""
    # Sentences with each word and its weight there: most pairs have no word in common, and are never compared.
    holders: dict[str, list[tuple[int, float]]] = defaultdict(list)
    neighbours: list[dict[int, float]] = [{index: 1.0} for index in range(len(vectors))]
    for index, vector in enumerate(vectors):
        similarities: dict[int, float] = defaultdict(float)
        for word, weight in vector.items():
            for other, other_weight in holders[word]:
                similarities[other] += weight * other_weight
            holders[word].append((index, weight))
        for other, similarity in similarities.items():
            if similarity > MIN_SIMILARITY:
                neighbours[index][other] = neighbours[other][index] = similarity
    return neighbours


def select_diverse(
    indexes: Sequence[int], scores: Sequence[float], similarity: Similarity, limit: int, beside: Iterable[int] = ()
) -> list[int]:
    """Up to `limit` indexes by maximal marginal relevance (Carbonell and Goldstein, 1998), the best first.

    Sentences that say the same as a selected one, or as one of `beside`, are left out.
    """
    selected: list[int] = []
    nearest = {index: max((similarity(index, other) for other in beside), default=0.0) for index in indexes}
    candidates = [index for index in indexes if nearest[index] < SAME]
    best = max((scores[index] for index in indexes), default=0.0) or 1.0

    def relevance(index: int) -> tuple[float, int]:
        return RELEVANCE * scores[index] / best - (1 - RELEVANCE) * nearest[index], -index

    while candidates and len(selected) < limit:
        chosen = max(candidates, key=relevance)
        selected.append(chosen)
        candidates.remove(chosen)
        for index in candidates:
            nearest[index] = max(nearest[index], similarity(chosen, index))
        candidates = [index for index in candidates if nearest[index] < SAME]
    return selected
