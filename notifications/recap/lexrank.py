"""LexRank (Erkan and Radev, 2004): which sentences are most central, in any language."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from notifications.recap.words import WORD, writes_no_spaces

LEAST_SIMILARITY = 0.1  # cosine from which two sentences support each other
SAME = 0.57  # cosine from which two sentences say the same
RELEVANCE = 0.5  # the share of a sentence's score in the selection; the rest is its distance to what was selected
DAMPING = 0.85
ROUNDS = 30

Vector = Mapping[str, float]
Similarity = Callable[[int, int], float]  # of the sentences with two indexes: 0 to 1


def word_counts(text: str) -> Counter[str]:
    """The words of a sentence, without case; pairs of letters where its script writes no spaces."""
    counts: Counter[str] = Counter()
    for word in WORD.findall(text.casefold()):
        if writes_no_spaces(word):
            counts.update(word[n : n + 2] for n in range(max(1, len(word) - 1)))
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
        for n, near in enumerate(neighbours):
            share = DAMPING * ranks[n] / math.fsum(near.values())
            for k, similarity in near.items():
                next_ranks[k] += share * similarity
        ranks = next_ranks
    return ranks


def _neighbours(vectors: Sequence[Vector]) -> list[dict[int, float]]:
    """For each sentence the similar ones and itself; by shared words, since most pairs share none."""
    holders: dict[str, list[tuple[int, float]]] = defaultdict(list)
    neighbours: list[dict[int, float]] = [{n: 1.0} for n in range(len(vectors))]
    for n, vector in enumerate(vectors):
        similarities: dict[int, float] = defaultdict(float)
        for word, weight in vector.items():
            for k, its_weight in holders[word]:
                similarities[k] += weight * its_weight
            holders[word].append((n, weight))
        for k, similarity in similarities.items():
            if similarity > LEAST_SIMILARITY:
                neighbours[n][k] = neighbours[k][n] = similarity
    return neighbours


def select_diverse(
    indexes: Sequence[int], scores: Sequence[float], similarity: Similarity, most: int, beside: Iterable[int] = ()
) -> list[int]:
    """Up to `most` indexes by maximal marginal relevance (Carbonell and Goldstein, 1998), the best first.

    None says the same as another, or as one of `beside`, which were selected before.
    """
    selected: list[int] = []
    nearest = {n: max((similarity(n, k) for k in beside), default=0.0) for n in indexes}
    left = [n for n in indexes if nearest[n] < SAME]
    best = max((scores[n] for n in indexes), default=0.0) or 1.0
    while left and len(selected) < most:
        chosen = max(left, key=lambda n: (RELEVANCE * scores[n] / best - (1 - RELEVANCE) * nearest[n], -n))
        selected.append(chosen)
        left.remove(chosen)
        for n in left:
            nearest[n] = max(nearest[n], similarity(chosen, n))
        left = [n for n in left if nearest[n] < SAME]
    return selected
